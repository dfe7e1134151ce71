//! `tollgate diff`: what a change moves.
//!
//! Both configurations are checked first; findings of either are the whole answer then. A difference is no failure.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::check::report;
use config::{self, diff::Diff};

/// Compares two configurations: 0 where both could be read, else 1.
pub fn diff(old: &Path, new: &Path, json: bool) -> ExitCode {
    match (config::load(old), config::load(new)) {
        (Ok(old), Ok(new)) => {
            let diff = Diff::between(&old.config, &new.config);
            let text = if json { serde_json::to_string_pretty(&diff).unwrap_or_default() } else { diff.to_string() };
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        (old, new) => {
            let findings: Vec<_> = [old.err(), new.err()].into_iter().flatten().flatten().collect();
            report(&findings, json);
            ExitCode::FAILURE
        }
    }
}
