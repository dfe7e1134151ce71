//! `tollgate check`: every finding of a configuration, and nothing else happens.
//!
//! As text, findings go to stderr like any error; as JSON they are the answer, and an empty list means none.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::finding::Finding;
use crate::config::{self, model::Config};

/// Checks what `-c` names: 0 where nothing was found, else 1.
pub fn check(path: &Path, json: bool) -> ExitCode {
    match config::load(path) {
        Ok(_) if json => {
            print_json(&[]);
            ExitCode::SUCCESS
        }
        Ok(loaded) => {
            let Config { listeners, upstreams, routes, .. } = &loaded.config;
            let (listeners, upstreams) = (plural(listeners.len(), "listener"), plural(upstreams.len(), "upstream"));
            let _ = writeln!(std::io::stdout(), "ok: {listeners}, {upstreams}, {}", plural(routes.len(), "route"));
            ExitCode::SUCCESS
        }
        Err(findings) => {
            report(&findings, json);
            ExitCode::FAILURE
        }
    }
}

/// Prints findings: one after the other and their number, or a JSON list.
pub fn report(findings: &[Finding], json: bool) {
    if json {
        return print_json(findings);
    }
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{finding}\n"));
    }
    let _ = writeln!(std::io::stderr(), "{text}{}", plural(findings.len(), "finding"));
}

fn print_json(findings: &[Finding]) {
    let text = serde_json::to_string_pretty(findings).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
