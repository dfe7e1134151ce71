//! Whatever a file holds, it loads or is told why not: no panic, and every finding has its place.

use std::time::{Duration, Instant};

use super::*;

/// A random number generator of a line, so that a failing seed fails again: xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides.max(1)
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.roll(from.len())]
    }
}

const VALUES: [&str; 22] = [
    "true",
    "-1",
    "0",
    "99999999999999999999",
    "1e400",
    "nan",
    "\"\"",
    "\"x\"",
    "\"-5s\"",
    "\"1GiB\"",
    "[]",
    "[[]]",
    "{}",
    "[1, \"a\", {}]",
    "{ a = { b = [1] } }",
    "1979-05-27",
    "'''\n'''",
    "\"\\u0000\"",
    "\"ü\"",
    "\"~(\"",
    "\"*\"",
    "\"/\\u0007*\"",
];

fn mutated(text: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = dice.roll(lines.len());
    let other = dice.roll(lines.len());
    let key_end = lines[at].find(" =");
    match dice.roll(9) {
        // A key renamed by a letter.
        0 => {
            let letter = dice.roll(lines[at].chars().count());
            lines[at] = lines[at].chars().enumerate().map(|(n, c)| if n == letter { 'q' } else { c }).collect();
        }
        // A value of another type, or out of range.
        1 | 2 => {
            if let Some(end) = key_end {
                lines[at] = format!("{} = {}", &lines[at][..end], dice.pick(&VALUES));
            }
        }
        // Values swapped.
        3 => {
            if let (Some(end), Some(value)) =
                (key_end, lines[other].find("= ").map(|from| lines[other][from..].to_owned()))
            {
                lines[at] = format!("{} {value}", &lines[at][..end]);
            }
        }
        4 => lines.swap(at, other),
        5 => lines[at] = String::new(),
        6 => lines.insert(at, lines[other].clone()),
        // Cut short.
        7 => {
            let text = lines.join("\n");
            let end = text.floor_char_boundary(dice.roll(text.len()));
            return text[..end].to_owned();
        }
        // Junk put in.
        _ => {
            let junk: String =
                (0..dice.roll(40)).map(|_| char::from_u32(dice.roll(0x250) as u32).unwrap_or('?')).collect();
            lines.insert(at, junk);
        }
    }
    lines.join("\n")
}

/// Loads it, and checks what is said of it.
fn judge(text: &str) -> bool {
    let Err(findings) = load_texts(&[text]) else {
        return true;
    };
    assert!(!findings.is_empty());
    let lines: Vec<&str> = text.split('\n').collect();
    for finding in &findings {
        let said = !finding.message.is_empty() && !finding.hint.is_empty() && finding.file == "a.toml";
        assert!(said, "{finding:?}\n{text}");
        if finding.line > 0 {
            let line = lines.get(finding.line - 1).unwrap_or_else(|| panic!("{finding:?} is below the end"));
            let inside = (1..=line.chars().count() + 1).contains(&finding.column);
            assert!(inside, "{finding:?} is beside {line:?}");
        }
    }
    false
}

#[test]
fn a_thousand_mutated_files_load_or_get_findings() {
    let texts: Vec<String> =
        conf_files().iter().map(|path| std::fs::read_to_string(path).expect("it can be read")).collect();
    let (mut dice, mut loaded) = (Dice(0x70_11_6A_7E), 0);
    for round in 0..1000 {
        let reference = round % 2 == 0;
        let pick = dice.roll(texts.len());
        let mut text = if reference {
            texts.iter().max_by_key(|it| it.len()).expect("files").clone()
        } else {
            texts[pick].clone()
        };
        for _ in 0..=dice.roll(4) {
            text = mutated(&text, &mut dice);
            if text.is_empty() {
                break;
            }
        }
        loaded += usize::from(judge(&text));
    }
    // Neither may be rare, or the mutations test nothing.
    assert!((50..950).contains(&loaded), "{loaded} of 1,000 loaded");
}

#[test]
fn ten_megabytes_of_nothing_are_refused_quickly() {
    let started = Instant::now();
    assert!(!judge(&"\n".repeat(10 << 20)));
    assert!(!judge(&"\r\n".repeat(1 << 20)));
    assert!(!judge(&"\0".repeat(1 << 20)));
    assert!(!judge(&"#".repeat(10 << 20)));
    assert!(!judge(&"[".repeat(1 << 20)));
    let elapsed = started.elapsed();
    println!("nothing: {elapsed:?}");
    assert!(elapsed < Duration::from_secs(20), "{elapsed:?}");
}

#[test]
fn depth_is_bounded() {
    let dotted = vec!["a"; 79].join(".");
    let nested = format!("{}1{}", format!("{{ {dotted} = ").repeat(70), " }".repeat(70));
    assert!(!judge(&format!("[route.{dotted}]\nx = {nested}\n")));
    assert!(!judge(&format!("{} = 1", vec!["a"; 200_000].join("."))));
    assert!(!judge(&format!("x = {}", "[".repeat(200_000))));
}
