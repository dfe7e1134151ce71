//! What the build needs of a machine: the Rust that is stated, in its lock files and in its scripts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::processes::write_program;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `rust-version`, as two numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[test]
fn no_dependency_needs_a_newer_rust_than_is_stated() {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", "host-tuple"]);
    let output = command.current_dir(root()).output().expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let stated = version(env!("CARGO_PKG_RUST_VERSION")).expect("rust-version");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100);
    for package in packages {
        let needed = package["rust_version"].as_str().and_then(version);
        assert!(
            needed.is_none_or(|needed| needed <= stated),
            "{} {} needs Rust {}: take an older one, or state more in Cargo.toml",
            package["name"],
            package["version"],
            package["rust_version"]
        );
    }
}

/// Names and versions in a lock file.
fn locked(path: &str) -> BTreeSet<(String, String)> {
    let text = fs::read_to_string(root().join(path)).expect("a lock file");
    let file: toml::Table = text.parse().expect("TOML");
    let packages = file["package"].as_array().expect("packages").iter();
    packages.map(|package| ["name", "version"].map(|key| package[key].as_str().unwrap().to_owned()).into()).collect()
}

#[test]
fn what_is_fuzzed_is_what_is_built() {
    let strange: Vec<_> = locked("fuzz/Cargo.lock").difference(&locked("Cargo.lock")).cloned().collect();
    let own = ["arbitrary", "libfuzzer-sys", "tollgate-fuzz"];
    let strange: Vec<_> = strange.iter().filter(|(name, _)| !own.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}: cp Cargo.lock fuzz/ && cargo check --manifest-path fuzz/Cargo.toml");
    // Else nothing of the one build serves the other.
    let profiles = ["Cargo.toml", "fuzz/Cargo.toml"].map(|path| {
        let file: toml::Table = fs::read_to_string(root().join(path)).unwrap().parse().unwrap();
        file["profile"]["dev"].clone()
    });
    assert_eq!(profiles[0], profiles[1]);
}

/// What `need_rust` says where `rustc --version` says this.
fn need_rust(folder: &Path, says: &str) -> Output {
    for name in ["cargo", "rustc"] {
        let path = folder.join(name);
        write_program(&path, format!("#!/bin/sh\necho \"{says}\"\n").as_bytes());
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", ". scripts/rust.sh; need_rust test"]).current_dir(root()).env("PATH", path);
    command.output().unwrap()
}

#[test]
fn a_script_says_when_rust_is_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let stated = env!("CARGO_PKG_RUST_VERSION");
    for old in ["rustc 1.9.0 (abc 2016-05-01)", "rustc 1.85.1 (abc 2025-03-01)", "rustc 1.91.1"] {
        let output = need_rust(folder.path(), old);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(&format!("Rust {stated} or newer is needed")),
            "{old}: {said}"
        );
    }
    for new in ["rustc 1.92.0 (abc 2025-12-11)", "rustc 1.100.0-nightly (abc 2027-01-01)", "rustc 2.0.0"] {
        let output = need_rust(folder.path(), new);
        assert!(output.status.success(), "{new}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
