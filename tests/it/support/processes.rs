//! Processes that work in a test's folder, whoever started them: an upgrade leaves one that is no child of the test.

use std::fs;
use std::path::Path;

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
