//! The running gateway under what is thrown at it: broken configurations here, raw requests in [`raw`].
//!
//! Each push of a broken configuration loads or gets findings, and none is felt. What the reader says of a mutated file
//! is tested beside the reader; here the whole process must go on. A failing run is repeated by its seed.

mod raw;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::config_examples::examples;
use crate::support::wait::Finally;
use crate::support::*;

/// xorshift64*: a seed gives the same run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides.max(1)
    }
}

const VALUES: &[&str] = &[
    "true",
    "-1",
    "99999999999999999999",
    "nan",
    "\"\"",
    "\"-5s\"",
    "[]",
    "[[]]",
    "{}",
    "\"~(\"",
    "\"\\u0000\"",
    "'''\n'''",
];

/// A configuration with something wrong in it, or nothing.
fn mutated(text: &str, dice: &mut Dice) -> Vec<u8> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return vec![];
    }
    let (at, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
    let key = lines[at].split(" =").next().unwrap_or_default().to_owned();
    match dice.roll(11) {
        0 => lines[at] = lines[at].replacen(|c: char| c.is_alphabetic(), "q", 1),
        1 | 2 => lines[at] = format!("{key} = {}", VALUES[dice.roll(VALUES.len())]),
        3 => lines[at] = format!("{key} ={}", lines[other].split_once('=').map_or("", |(_, value)| value)),
        4 => lines.swap(at, other),
        5 => drop(lines.remove(at)),
        6 => lines.insert(at, lines[other].clone()),
        7 => lines.truncate(at),
        8 => {
            let mut bytes = lines.join("\n").into_bytes();
            let cut = dice.roll(bytes.len());
            bytes.truncate(cut);
            return bytes;
        }
        9 => return (0..dice.roll(5000)).map(|_| dice.roll(256) as u8).collect(),
        _ => {}
    }
    lines.join("\n").into_bytes()
}

/// Pushes this many mutations while a client asks without a pause.
fn survives(rounds: usize, seed: u64) {
    let origin = Origin::start("a");
    origin.forget();
    let kept = format!(
        r#"
        [reload]
        watch = false
        {}[route.kept]
        hosts = ["kept.example"]
        upstream = "kept"
        "#,
        fleet("kept", &[&origin])
    );
    let mut world = World::start(&kept);
    let base = world.complete(&kept);
    // Routes of examples come in as they are; what is chosen at start must stay.
    let tables =
        |text: String| text.find("\n[upstream").or_else(|| text.find("\n[route")).map(|at| text[at..].to_owned());
    let texts: Vec<String> =
        examples().iter().filter_map(|path| tables(std::fs::read_to_string(path).unwrap())).collect();
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut applied, mut refused, mut dice) = (0, 0, Dice(seed));
    thread::scope(|scope| {
        let _end = Finally(&done);
        let client = scope.spawn(|| {
            let mut connection = world.connect();
            while !done.load(Ordering::Relaxed) {
                let answer = connection.ask(&get("/kept/always").host("kept.example"));
                let answer = answer.unwrap_or_else(|e| panic!("seed {seed}: a request failed: {e}"));
                // A mutation that loads may send it anywhere; only the gateway's own failure is none of its doing.
                assert_ne!(answer.status, 500, "seed {seed}");
                if answer.header("connection") == Some("close") {
                    connection = world.connect();
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 0..rounds {
            let text = format!("{base}{}", texts[dice.roll(texts.len())]);
            let mut bytes = mutated(&text, &mut dice);
            if dice.roll(2) == 0 {
                bytes = mutated(&String::from_utf8_lossy(&bytes).into_owned().replace('\0', "\n#"), &mut dice);
            }
            world.write_as("tollgate.toml", &bytes);
            let answer = world.admin(post("/api/v1/config/reload", ""));
            match answer.status {
                200 => applied += 1,
                422 => {
                    refused += 1;
                    judge(&answer.json(), seed, round);
                }
                other => panic!("seed {seed}, round {round}: {other} {}", answer.text()),
            }
            assert!(!client.is_finished(), "seed {seed}, round {round}: the client gave up");
        }
    });
    println!(
        "{rounds} pushes: {applied} applied, {refused} refused, {} requests answered meanwhile",
        answered.load(Ordering::Relaxed)
    );
    assert!(applied > 0 && refused > rounds / 4, "the mutations test nothing");
    nothing_much(&world);
    world.write_as("tollgate.toml", base.as_bytes());
    assert_eq!(world.admin(post("/api/v1/config/reload?force=true", "")).status, 200);
    assert_eq!(world.ask(get("/").host("kept.example")).server(), "a");
    assert!(world.is_alive());
}

#[track_caller]
fn judge(answer: &Value, seed: u64, round: usize) {
    let findings = answer["findings"].as_array().unwrap();
    assert!(!findings.is_empty(), "seed {seed}, round {round}: refused and not told why");
    for finding in findings {
        let told = |key: &str| finding[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(told("file") && told("message") && told("hint"), "seed {seed}, round {round}: {finding}");
    }
}

/// 10 MiB of nothing, a folder where a file was, and no file at all.
fn nothing_much(world: &World) {
    for nothing in [b"\n".repeat(10 << 20), b"\0".repeat(1 << 20), vec![], b"[".repeat(1 << 20)] {
        world.write_as("tollgate.toml", &nothing);
        let answer = world.admin(post("/api/v1/config/reload", ""));
        assert_eq!(answer.status, 422);
        judge(&answer.json(), 0, 0);
    }
    std::fs::remove_file(world.config_path()).unwrap();
    assert_eq!(world.admin(post("/api/v1/config/reload", "")).status, 422);
}

#[test]
fn sixty_mutated_pushes_are_not_felt() {
    survives(60, 0x7011_6A7E);
}

#[test]
#[ignore = "long: scripts/test --long"]
fn a_thousand_mutated_pushes_are_not_felt() {
    survives(1000, 0x5EED);
}
