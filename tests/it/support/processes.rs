//! Processes that work in a test's folder, whoever started them: an upgrade leaves one that is no child of the test.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// All of them; not those that have ended and wait to be noticed.
pub fn in_folder(folder: &Path) -> Vec<Pid> {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(number);
    let works_there = |number: &i32| fs::read_link(format!("/proc/{number}/cwd")).is_ok_and(|cwd| cwd == folder);
    numbers.filter(works_there).filter_map(Pid::from_raw).collect()
}

/// Ends all of them.
pub fn kill_in_folder(folder: &Path) {
    for pid in in_folder(folder) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Writes a program that a test starts.
///
/// Another process writes it. A file that this one writes could not be executed while a child that another test forks
/// at that moment still has it open (ETXTBSY).
pub fn write_program(path: &Path, bytes: &[u8]) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(shell.wait().unwrap().success(), "{path:?} cannot be written");
}

/// Copies a program that a test starts, likewise.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success(), "{from:?} cannot be copied to {to:?}");
}
