//! Pythons of the tests' own: virtual environments under `target`, with what a `requirements.txt` pins.
//!
//! The first use makes one; several test processes wait for each other.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The Python of `target/NAME`, made if it is not there or made of other requirements.
pub fn environment(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("target").join(name);
    let requirements = root.join("tests").join(name).join("requirements.txt");
    let (python, stamp) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let wanted = fs::read_to_string(&requirements).expect("requirements.txt");
    fs::create_dir_all(root.join("target")).unwrap();
    let lock = File::create(root.join("target").join(format!("{name}.lock"))).unwrap();
    lock.lock().expect("one test process makes it");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return python;
    }
    let advice = "install Python's virtual environments: sudo apt-get install python3-venv";
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), advice);
    let advice = "the packages of its requirements.txt are needed: is there a network?";
    run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--no-compile", "--requirement"])
            .arg(&requirements),
        advice,
    );
    fs::write(&stamp, wanted).unwrap();
    python
}

fn run(command: &mut Command, advice: &str) {
    let done = command.stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|error| panic!("{command:?}: {error}; {advice}"));
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{command:?}: {}; {advice}", String::from_utf8_lossy(&said));
}
