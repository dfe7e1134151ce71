//! A wall clock that is wrong on demand: `libfaketime`, preloaded. Monotonic time goes on as it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clock of processes that run under it.
#[derive(Clone)]
pub struct Clock {
    file: PathBuf,
}

fn library() -> PathBuf {
    let places = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let inner = |place: &PathBuf| fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    let places = places.iter().flat_map(inner).chain(places.iter().cloned());
    // The one that is safe for threads.
    let names = places.flat_map(|place| [place.join("faketime/libfaketimeMT.so.1"), place.join("libfaketimeMT.so.1")]);
    let found = names.into_iter().find(|path| path.exists());
    found.expect("libfaketime is missing; install it: sudo apt-get install faketime (or run scripts/test as root)")
}

impl Clock {
    /// Right, with its file in this folder.
    pub fn within(folder: &Path) -> Clock {
        let clock = Clock { file: folder.join("clock") };
        clock.ahead(0);
        clock
    }

    /// From now on it is ahead by so many seconds, in every process under it.
    pub fn ahead(&self, seconds: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}s\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// A command under it, over what is preloaded already.
    pub fn over<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let loaded = command.get_envs().find(|(name, _)| *name == "LD_PRELOAD").and_then(|(_, value)| value);
        let mut loaded = loaded.map(|value| value.to_owned()).unwrap_or_default();
        if !loaded.is_empty() {
            loaded.push(":");
        }
        loaded.push(library());
        command
            .env("LD_PRELOAD", loaded)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }
}
