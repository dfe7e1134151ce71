//! Notices changes of configuration files, however they are made.
//!
//! Editors write in place, deploy tools rename over, Kubernetes swaps a symbolic link two folders up. So the folder of
//! every file and of every symbolic link on the way to it is watched. Events only wake the watcher: what counts is
//! whether the files differ (path, inode, size, time), so a log file in the same folder causes no reload. On file
//! systems that send no events, a look once a second finds changes. The first event opens a window of [`DEBOUNCE`];
//! later ones do not extend it, so a writer that never stops cannot delay a change. A file read half-written fails the
//! check and is looked at again with its next event.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Time from the first event to the reload.
pub const DEBOUNCE: Duration = Duration::from_millis(25);
/// Interval of looks without an event.
const LOOK: Duration = Duration::from_secs(1);
/// Maximum number of symbolic links on one path, as in Linux.
const LINKS_MAX: usize = 40;

/// A state of the files, in which looks differ.
type Fingerprint = Vec<Print>;
/// A file's path; device, inode, size and time of change if it exists.
type Print = (PathBuf, Option<(u64, u64, u64, i64, i64)>);

/// The state of the files when they were read: later changes count as changes too.
pub struct Seen(Fingerprint);

impl Seen {
    /// The present state of the configuration at `config`; take it before reading.
    pub fn now(config: &Path) -> Seen {
        Seen(fingerprint(&absolute(config), &[]))
    }

    /// Adds the files that it names.
    pub fn and(mut self, files: &[PathBuf]) -> Seen {
        self.0.extend(files.iter().cloned().map(print));
        self.0.sort();
        self
    }
}

/// Calls `changed` whenever the configuration at `config`, or one of the files that `also` names, differs from its
/// state in `seen`. It runs until `changed` returns false.
pub fn follow(config: &Path, seen: Seen, also: impl Fn() -> Vec<PathBuf>, mut changed: impl FnMut() -> bool) {
    let config = &absolute(config);
    let mut events = Events::open()
        .inspect_err(|e| log::warn!("file events are not available ({e}); changes are seen within a second"))
        .ok();
    let Seen(mut seen) = seen;
    // A change between the reading and the watching sends no event.
    let mut watching = false;
    loop {
        let files = also();
        if let Some(events) = &mut events {
            events.watch(folders(config, &files));
        }
        let ours = |path: &Path| {
            path == config || files.iter().any(|f| f == path) || (path.parent() == Some(config) && is_config(path))
        };
        let touched = std::mem::replace(&mut watching, true)
            && match &mut events {
                Some(events) => events.wait(ours),
                None => {
                    std::thread::sleep(LOOK);
                    false
                }
            };
        let now = fingerprint(config, &also());
        if touched || now != seen {
            seen = now;
            if !changed() {
                return;
            }
        }
    }
}

/// The kernel's events in folders.
struct Events {
    inotify: OwnedFd,
    folders: BTreeMap<PathBuf, i32>,
}

impl Events {
    /// A file that is being written sends nothing until it is closed, and one that is only read sends nothing at all: a
    /// log in the same folder must not wake the watcher with its every write.
    const WANTED: WatchFlags = WatchFlags::CLOSE_WRITE
        .union(WatchFlags::CREATE)
        .union(WatchFlags::DELETE)
        .union(WatchFlags::MOVED_FROM)
        .union(WatchFlags::MOVED_TO)
        .union(WatchFlags::ONLYDIR);

    fn open() -> rustix::io::Result<Events> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Events { inotify, folders: BTreeMap::new() })
    }

    fn watch(&mut self, wanted: BTreeSet<PathBuf>) {
        let gone = self.folders.extract_if(.., |folder, _| !wanted.contains(folder)).collect::<Vec<_>>();
        for (_, watch) in gone {
            if !self.folders.values().any(|other| *other == watch) {
                // A deleted folder took its watch along.
                let _ = inotify::remove_watch(&self.inotify, watch);
            }
        }
        for folder in wanted {
            if self.folders.contains_key(&folder) {
                continue;
            }
            match inotify::add_watch(&self.inotify, &folder, Self::WANTED) {
                Ok(watch) => drop(self.folders.insert(folder, watch)),
                Err(e) => log::debug!("{}: no events from here ({e})", folder.display()),
            }
        }
    }

    /// Waits for a window of events, or for the next look; says whether one of `ours` was written or replaced.
    fn wait(&mut self, ours: impl Fn(&Path) -> bool) -> bool {
        let look = Timespec { tv_sec: LOOK.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&look));
        if ready.is_ok_and(|ready| ready > 0) {
            std::thread::sleep(DEBOUNCE);
        }
        let mut touched = false;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    self.folders.retain(|_, watch| *watch != event.wd());
                }
                Ok(event) => {
                    let Some(name) = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())) else { continue };
                    let mut folders = self.folders.iter().filter(|(_, watch)| **watch == event.wd());
                    touched |= folders.any(|(folder, _)| ours(&folder.join(name)));
                }
                Err(Errno::INTR) => {}
                Err(_) => return touched,
            }
        }
    }
}

/// Folders whose events may mean a change: of each file, and of each link on the way to it.
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
    use std::sync::mpsc::channel;

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
