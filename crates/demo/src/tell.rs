//! The output of the story: plain text in numbered acts, or nothing if JSON is wanted at the end.
//!
//! Colour is for terminals only, and only if `NO_COLOR` is unset or empty.

use std::cell::Cell;
use std::fmt::Display;
use std::io::IsTerminal;

use crate::book::Counts;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// The narrator.
pub struct Tell {
    /// Whether the output is JSON instead.
    pub json: bool,
    colour: bool,
    acts: Cell<u32>,
}

impl Tell {
    /// A narrator for the current stdout.
    pub fn new(json: bool) -> Tell {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Tell { json, colour: std::io::stdout().is_terminal() && !plain, acts: Cell::new(0) }
    }

    /// Begins an act.
    pub fn act(&self, title: &str) {
        self.acts.set(self.acts.get() + 1);
        self.line(format_args!("\n{}", self.paint(BOLD, format_args!("{}. {title}", self.acts.get()))));
    }

    /// Prints a heading without a number.
    pub fn heading(&self, title: &str) {
        self.line(format_args!("\n{}", self.paint(BOLD, title)));
    }

    /// Prints a line as it is.
    pub fn line(&self, text: impl Display) {
        if !self.json {
            print(text);
        }
    }

    /// Prints a line of an act.
    pub fn say(&self, text: impl Display) {
        self.line(format_args!("   {text}"));
    }

    /// Prints another program's output word for word.
    pub fn quote(&self, text: &str) {
        for line in text.lines() {
            self.say(self.paint(DIM, format_args!("| {line}")));
        }
    }

    /// Prints a promise, and whether it was kept.
    pub fn promise(&self, kept: bool, text: &str) {
        let mark = if kept { self.paint(GREEN, "ok    ") } else { self.paint(RED, "BROKEN") };
        self.say(format_args!("{mark} {text}"));
    }

    /// Prints the counts of a phase.
    pub fn counts(&self, counts: &Counts) {
        let failed = self.failed(counts.failed, 0);
        let [sent, answered] = [counts.sent, counts.answered].map(thousands);
        self.say(format_args!(
            "sent {sent}   answered {answered}   failed {failed}   p50 {:.1} ms   p99 {:.1} ms",
            counts.p50_ms, counts.p99_ms
        ));
        counts.examples.iter().for_each(|example| self.quote(example));
    }

    /// Prints all phases, and their sum.
    pub fn table(&self, phases: &[Counts]) {
        let width = phases.iter().map(|phase| phase.phase.chars().count()).max().unwrap_or_default().max(5);
        let row = |name: &str, sent: u64, answered: u64, failed: u64| {
            let [sent, answered] = [sent, answered].map(thousands);
            let failed = self.failed(failed, 9);
            self.say(format_args!("{name:<width$}  {sent:>9}  {answered:>9}  {failed}"));
        };
        self.say(
            self.paint(DIM, format_args!("{:<width$}  {:>9}  {:>9}  {:>9}", "phase", "sent", "answered", "failed")),
        );
        phases.iter().for_each(|phase| row(phase.phase, phase.sent, phase.answered, phase.failed));
        let sum = |count: fn(&Counts) -> u64| phases.iter().map(count).sum();
        row("all", sum(|p| p.sent), sum(|p| p.answered), sum(|p| p.failed));
    }

    fn failed(&self, failed: u64, width: usize) -> String {
        self.paint(if failed == 0 { GREEN } else { RED }, format_args!("{:>width$}", thousands(failed)))
    }

    fn paint(&self, colour: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// Prints to stdout; a closed reader is not an error.
pub fn print(text: impl Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A number such as `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_apart() {
        let numbers = [0, 999, 1_000, 1_234_567].map(super::thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
    }
}
