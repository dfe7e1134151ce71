//! A disk that fails on demand: the preloaded layer `tests/layer/disk.c`, its switches, and the loss of power.
//!
//! The layer sees what goes through libc. It is compiled once, into `target/`; whoever is quicker counts. Its switches
//! are a mapped file, so they count at once in every process under it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::wait::eventually;

/// A switch, by its place in the layer's `struct control`.
#[derive(Clone, Copy)]
pub enum Switch {
    /// Milliseconds that each sync takes more.
    Slow = 0,
    /// See [`Stall`].
    Stall = 4,
    /// See [`FailSync`].
    FailSync = 8,
    /// 1: no room for any write.
    Full = 12,
}

const SHADOW: u64 = 16;
const ONLY: u64 = 64;
const SIZE: usize = 128;

/// A counter of the layer.
#[derive(Clone, Copy)]
pub enum Count {
    /// Syncs that ended well.
    Syncs = 20,
    /// Calls that wait in a stall.
    Blocked = 24,
    /// Syncs that failed.
    Failed = 28,
    /// Writes for which there was no room.
    Refused = 32,
}

/// What a stall holds.
pub const STALL_SYNCS: u32 = 1;
/// Everything.
pub const STALL_ALL: u32 = 3;
/// Every sync fails from now on.
pub const FAIL_ALL: u32 = 2;

/// A folder on such a disk.
pub struct Disk {
    folder: PathBuf,
    base: TempDir,
    control: File,
}

/// The compiled layer.
fn library() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = root.join("tests/layer/disk.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join("disk.so");
        let age = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        if age(&path).is_none() || age(&path) < age(&source) {
            let new = folder.join(format!("disk.{}.so", std::process::id()));
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&new).arg(&source).arg("-ldl");
            let output = cc.output().expect("cc is missing; install it: sudo apt-get install gcc");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            fs::rename(new, &path).unwrap();
        }
        path
    })
}

impl Disk {
    /// Under this folder, which must be there: what it holds is durable.
    pub fn under(folder: &Path) -> Disk {
        let base = tempfile::Builder::new().prefix("tollgate-it-disk-").tempdir_in(folder.parent().unwrap()).unwrap();
        fs::write(base.path().join("control"), [0; SIZE]).unwrap();
        let control = File::options().read(true).write(true).open(base.path().join("control")).unwrap();
        let disk = Disk { folder: folder.canonicalize().unwrap(), base, control };
        disk.settle();
        disk
    }

    /// Keeps what is durable apart: each sync copies its file. Before the first process starts.
    pub fn with_power(self) -> Disk {
        self.put(SHADOW, 1);
        self
    }

    /// A command under the layer.
    pub fn over<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("LD_PRELOAD", library())
            .env("TOLLGATE_DISK_FOLDER", &self.folder)
            .env("TOLLGATE_DISK_BASE", self.base.path())
    }

    fn put(&self, at: u64, value: u32) {
        self.control.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }

    /// Sets a switch.
    pub fn set(&self, switch: Switch, value: u32) {
        self.put(switch as u64, value);
    }

    /// Stalls and failures meet only files whose name ends so from now on; empty: all.
    pub fn only(&self, end: &str) {
        let mut name = [0; SIZE - ONLY as usize];
        name[..end.len()].copy_from_slice(end.as_bytes());
        self.control.write_all_at(&name, ONLY).unwrap();
    }

    /// A counter.
    pub fn count(&self, counter: Count) -> u32 {
        let mut bytes = [0; 4];
        self.control.read_exact_at(&mut bytes, counter as u64).unwrap();
        u32::from_ne_bytes(bytes)
    }

    /// Waits until a call is held by the stall.
    #[track_caller]
    pub fn holds_a_call(&self) {
        eventually("a call that the stall holds", || (self.count(Count::Blocked) > 0).then_some(()));
    }

    /// Forgets the calls that waited in processes that were killed.
    pub fn forgets_calls(&self) {
        self.put(Count::Blocked as u64, 0);
    }

    /// No faults.
    pub fn well(&self) {
        for switch in [Switch::Slow, Switch::Stall, Switch::FailSync, Switch::Full] {
            self.set(switch, 0);
        }
        self.only("");
    }

    /// After the death of every process under the layer: what was never synced is gone.
    pub fn loses_power(&self) {
        self.well();
        self.forgets_calls();
        let live = self.base.path().join("live");
        empty(&self.folder);
        copy(&live, &self.folder);
        self.settle();
    }

    /// What the folder holds is durable.
    fn settle(&self) {
        let (live, store) = (self.base.path().join("live"), self.base.path().join("store"));
        for folder in [&live, &store] {
            let _ = fs::remove_dir_all(folder);
            fs::create_dir(folder).unwrap();
        }
        copy(&self.folder, &live);
        self.link(&self.folder, &live, &store);
    }

    /// The store knows every file by its inode.
    fn link(&self, from: &Path, live: &Path, store: &Path) {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let data = entry.metadata().unwrap();
            let shadow = live.join(entry.file_name());
            if data.is_dir() {
                self.link(&entry.path(), &shadow, store);
            } else if shadow.exists() {
                fs::hard_link(shadow, store.join(data.ino().to_string())).unwrap();
            }
        }
    }
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
}

/// SQLite's `-shm` does not outlive a machine.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, new) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            fs::create_dir(&new).unwrap();
            copy(&path, &new);
        } else if !path.to_string_lossy().ends_with("-shm") {
            fs::copy(path, new).unwrap();
        }
    }
}
