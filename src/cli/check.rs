//! `tollgate check`: prints every finding of a configuration, without other effects.
//!
//! As text, findings go to stderr like any error; as JSON they are the answer, and an empty list means none. Warnings
//! are printed like findings, but do not make a configuration invalid, except with `--strict`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use base::finding::{Finding, Severity};
use config::{self, model::Config};

/// Checks the configuration of `-c`: 1 with findings, or with warnings if `strict`; otherwise 0.
pub fn check(path: &Path, strict: bool, json: bool) -> ExitCode {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(findings) => {
            report(&findings, json);
            return ExitCode::FAILURE;
        }
    };
    if json || !loaded.warnings.is_empty() {
        report(&loaded.warnings, json);
    }
    if strict && !loaded.warnings.is_empty() {
        return ExitCode::FAILURE;
    }
    if !json {
        let Config { listeners, upstreams, routes, .. } = &loaded.config;
        let (listeners, upstreams) = (plural(listeners.len(), "listener"), plural(upstreams.len(), "upstream"));
        super::print(format!("ok: {listeners}, {upstreams}, {}", plural(routes.len(), "route")));
    }
    ExitCode::SUCCESS
}

/// Prints findings: one after the other and their number, or a JSON list.
pub fn report(findings: &[Finding], json: bool) {
    if json {
        return super::print(serde_json::to_string_pretty(findings).unwrap_or_default());
    }
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{finding}\n"));
    }
    let warnings = findings.first().is_some_and(|finding| finding.severity == Severity::Warning);
    let noun = if warnings { "warning" } else { "finding" };
    let _ = writeln!(std::io::stderr(), "{text}{}", plural(findings.len(), noun));
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
