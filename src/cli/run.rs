//! `tollgate run`: serves.

use std::path::Path;
use std::process::ExitCode;

use super::check::report;
use crate::app::{self, StartError};

/// Serves what `-c` names until a signal ends it.
pub fn run(path: &Path, json: bool) -> ExitCode {
    crate::telemetry::init_messages();
    ended(app::run(path), json)
}

/// Says why a process that serves could not start, or ended.
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
