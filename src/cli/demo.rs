//! `tollgate demo`: turns into `tollgate-demo`, a program of its own, so that nothing of it is in this one.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

const PROGRAM: &str = "tollgate-demo";

/// Runs the demo on this very program; 0 where every promise held.
pub fn run(json: bool) -> ExitCode {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(e) => return super::fail(false, format_args!("demo: the program's own path is not known: {e}")),
    };
    let beside = own.with_file_name(PROGRAM);
    // One that was installed elsewhere is found on the PATH.
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
