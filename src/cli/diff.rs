//! `tollgate diff`: shows what a change of configuration moves.
//!
//! Both configurations are checked first; if either has findings, these are the whole answer. A difference is not a
//! failure.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::check::report;
use config::{self, diff::Diff};

/// Compares two configurations: 0 if both are valid, otherwise 1.
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
