//! `tollgate demo`: executes `tollgate-demo`, a separate program, so that this one contains no part of it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

const PROGRAM: &str = "tollgate-demo";

/// Runs the demo with this very program; 0 if every promise held.
pub fn run(json: bool) -> ExitCode {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(e) => return super::fail(false, format_args!("demo: the program's own path is not known: {e}")),
    };
    let beside = own.with_file_name(PROGRAM);
    // If it is installed elsewhere, the PATH leads to it.
    let program = if beside.is_file() { &beside } else { Path::new(PROGRAM) };
    let replaced = Command::new(program).arg("--tollgate").arg(&own).args(json.then_some("--json")).exec();
    super::fail(
        false,
        format_args!(
            "demo: `{PROGRAM}` cannot be started, neither as {} nor from the PATH: {replaced}; build it: cargo build \
             --release --package {PROGRAM}",
            beside.display()
        ),
    )
}
