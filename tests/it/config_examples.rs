//! Every file of `conf/` is one that an operator can start from.

use std::path::{Path, PathBuf};

use crate::support::World;

/// The files of `conf/`.
pub fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    files
}

#[test]
fn every_example_passes_the_check() {
    let world = World::prepare();
    for file in examples() {
        let output = world.cli(&["check", "-c", file.to_str().unwrap()]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {told}", file.display());
    }
}

#[test]
fn the_quickstart_is_small_and_names_its_command() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/quickstart.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let keys = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert!(keys <= 12 && text.contains("tollgate run -c conf/quickstart.toml"), "{text}");
}
