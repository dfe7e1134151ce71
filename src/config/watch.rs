//! Sees that configuration files changed, however they changed.
//!
//! Editors write in place, deploy tools rename over, Kubernetes swaps a symbolic link two folders up. So we watch the
//! folder of every file and of every symbolic link on the way to it. Events only wake us: what counts is whether the
//! files differ (path, inode, size, time), so a log file in the same folder reloads nothing. File systems that send no
//! events are seen by a look once a second. The first event opens a window of [`DEBOUNCE`]; later ones do not extend
//! it, so a writer that never stops cannot hold a change back. A file caught half written is refused by the check and
//! looked at again with its next event.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// From the first event to the reload.
pub const DEBOUNCE: Duration = Duration::from_millis(25);
/// Between two looks without an event.
const LOOK: Duration = Duration::from_secs(1);
/// Symbolic links followed on one path, as in Linux.
const LINKS_MAX: usize = 40;

/// A state of the files that a look can tell from another.
type Fingerprint = Vec<Print>;
/// A file's path; device, inode, size and time of change where it exists.
type Print = (PathBuf, Option<(u64, u64, u64, i64, i64)>);

/// How the files were when they were read: what changed since then is a change too.
pub struct Seen(Fingerprint);

impl Seen {
    /// The configuration at `config` as it is; take it before reading.
    pub fn now(config: &Path) -> Seen {
        Seen(fingerprint(&absolute(config), &[]))
    }

    /// And the files that it names.
    pub fn and(mut self, files: &[PathBuf]) -> Seen {
        self.0.extend(files.iter().cloned().map(print));
        self.0.sort();
        self
    }
}

/// Calls `changed` whenever the configuration at `config`, or one of the files that `also` names, is another than it
/// was `seen`. It runs until `changed` returns false.
pub fn follow(config: &Path, seen: Seen, also: impl Fn() -> Vec<PathBuf>, mut changed: impl FnMut() -> bool) {
    let config = &absolute(config);
    let (sender, events) = channel::<notify::Result<Event>>();
    let mut watcher = notify::recommended_watcher(move |event| drop(sender.send(event)))
        .inspect_err(|e| log::warn!("file events are not available ({e}); changes are seen within a second"))
        .ok();
    let mut watched = BTreeSet::new();
    let Seen(mut seen) = seen;
    // A change between the reading and the watching has no event.
    let mut watching = false;
    loop {
        let files = also();
        if let Some(watcher) = &mut watcher {
            watch(watcher, &mut watched, folders(config, &files));
        }
        let touched = std::mem::replace(&mut watching, true) && wait(&events, config, &files);
        let now = fingerprint(config, &also());
        if touched || now != seen {
            seen = now;
            if !changed() {
                return;
            }
        }
    }
}

/// Waits for a window of events, or for the next look; says whether a configuration file itself was written.
fn wait(events: &Receiver<notify::Result<Event>>, config: &Path, files: &[PathBuf]) -> bool {
    let first = match events.recv_timeout(LOOK) {
        Ok(first) => first,
        Err(RecvTimeoutError::Timeout) => return false,
        Err(RecvTimeoutError::Disconnected) => {
            std::thread::sleep(LOOK);
            return false;
        }
    };
    std::thread::sleep(DEBOUNCE);
    let ours =
        |path: &PathBuf| path == config || files.contains(path) || (path.parent() == Some(config) && is_config(path));
    std::iter::once(first)
        .chain(events.try_iter())
        .flatten()
        .filter(|event| match event.kind {
            EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
            _ => true,
        })
        .any(|event| event.paths.iter().any(ours))
}

fn watch(watcher: &mut RecommendedWatcher, watched: &mut BTreeSet<PathBuf>, wanted: BTreeSet<PathBuf>) {
    for gone in watched.difference(&wanted) {
        let _ = watcher.unwatch(gone);
    }
    for new in wanted.difference(watched) {
        if let Err(e) = watcher.watch(new, RecursiveMode::NonRecursive) {
            log::debug!("{}: no events from here ({e})", new.display());
        }
    }
    *watched = wanted;
}

/// Folders whose events tell of a change: of each file, and of each link on the way to it.
fn folders(config: &Path, files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in std::iter::once(config).chain(files.iter().map(PathBuf::as_path)) {
        let path = absolute(path);
        let mut links = LINKS_MAX;
        follow_links(&path, &mut folders, &mut links);
    }
    if config.is_dir() {
        folders.insert(config.to_owned());
        let entries = fs::read_dir(config).into_iter().flatten().flatten().map(|entry| entry.path());
        for file in entries.filter(|path| is_config(path) && path.is_symlink()) {
            let mut links = LINKS_MAX;
            follow_links(&file, &mut folders, &mut links);
        }
    }
    folders
}

fn follow_links(path: &Path, folders: &mut BTreeSet<PathBuf>, links: &mut usize) {
    let mut walked = PathBuf::new();
    let mut rest = path.components();
    while let Some(component) = rest.next() {
        let parent = walked.clone();
        walked.push(component);
        let Ok(target) = fs::read_link(&walked) else { continue };
        folders.insert(parent.clone());
        if *links > 0 {
            *links -= 1;
            follow_links(&parent.join(target).join(rest.as_path()), folders, links);
        }
        return;
    }
    folders.extend(walked.parent().map(Path::to_owned));
}

fn is_config(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "toml")
}

fn fingerprint(config: &Path, files: &[PathBuf]) -> Fingerprint {
    let in_folder = fs::read_dir(config).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| is_config(p));
    let own = if config.is_dir() { in_folder.collect() } else { vec![config.to_owned()] };
    let mut prints: Fingerprint = own.into_iter().chain(files.iter().cloned()).map(print).collect();
    prints.sort();
    prints
}

fn print(path: PathBuf) -> Print {
    let meta = fs::metadata(&path).ok();
    let print = meta.map(|m| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
    (path, print)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Runs `act` while `config` is followed, and waits for one change.
    fn sees(config: &Path, act: impl FnOnce()) {
        let (sender, changes) = channel();
        let path = config.to_owned();
        let seen = Seen::now(&path);
        std::thread::spawn(move || follow(&path, seen, Vec::new, || sender.send(()).is_ok()));
        std::thread::sleep(Duration::from_millis(150));
        assert!(changes.try_recv().is_err(), "nothing changed yet");
        act();
        changes.recv_timeout(Duration::from_secs(3)).expect("the change is seen");
    }

    #[test]
    fn writes_renames_and_swapped_links_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plain.toml"), "a").unwrap();
        sees(&at("plain.toml"), || fs::write(at("plain.toml"), "b").unwrap());
        sees(&at("plain.toml"), || {
            fs::write(at("new"), "c").unwrap();
            fs::rename(at("new"), at("plain.toml")).unwrap();
        });

        for (n, text) in [("1", "one"), ("2", "two")] {
            fs::create_dir(at(n)).unwrap();
            fs::write(at(n).join("t.toml"), text).unwrap();
        }
        symlink("1", at("..data")).unwrap();
        symlink("..data/t.toml", at("t.toml")).unwrap();
        let swap = |to: &str| {
            symlink(to, at("..tmp")).unwrap();
            fs::rename(at("..tmp"), at("..data")).unwrap();
        };
        sees(&at("t.toml"), || swap("2"));
        sees(folder.path(), || swap("1"));
    }

    #[test]
    fn a_change_before_the_watch_began_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        fs::write(&path, "a").unwrap();
        let seen = Seen::now(&path);
        fs::write(&path, "bb").unwrap();
        let mut changes = 0;
        follow(&path, seen, Vec::new, || {
            changes += 1;
            false
        });
        assert_eq!(changes, 1);
    }

    #[test]
    fn other_files_of_the_folder_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("t.toml"), "a").unwrap();
        let (sender, changes) = channel();
        let path = folder.path().join("t.toml");
        let seen = Seen::now(&path);
        std::thread::spawn(move || follow(&path, seen, Vec::new, || sender.send(()).is_ok()));
        std::thread::sleep(Duration::from_millis(100));
        fs::write(folder.path().join("access.log"), "line").unwrap();
        assert!(changes.recv_timeout(Duration::from_millis(300)).is_err());
    }
}
