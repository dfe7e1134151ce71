//! `tollgate run`: serves a configuration.

use std::path::Path;
use std::process::ExitCode;

use super::check::report;
use crate::app::{self, StartError};

/// Serves the configuration of `-c` until a signal ends it.
pub fn run(path: &Path, json: bool) -> ExitCode {
    crate::telemetry::init_messages();
    ended(app::run(path), json)
}

/// Prints why a serving process could not start, or ended.
pub(super) fn ended(end: Result<(), StartError>, json: bool) -> ExitCode {
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Findings(findings)) => {
            report(&findings, json);
            ExitCode::FAILURE
        }
        Err(StartError::Io(message)) => super::fail(false, message),
    }
}
