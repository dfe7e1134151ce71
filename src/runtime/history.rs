//! Revisions on disk: what was served, since when, who applied it, and what it changed.
//!
//! `state_dir/revisions/N.json` holds a revision with the text of its files. `state_dir/active.json` names the served
//! one, and the content of the files to ignore after a rollback. Files are replaced atomically and synced, so a crash
//! leaves the old one or the new one. A file that cannot be read is skipped and logged; the rest of the history stays
//! usable. Secrets are not kept: configurations name their files, never their contents.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use similar::TextDiff;

use base::files;
use base::hex;
use base::units::Revision;
use config::source::Source;

/// Maximum size of a diff in bytes; a longer one is cut.
const DIFF_MAX: usize = 64 * 1024;
/// Maximum time for a diff before it becomes a coarse one.
const DIFF_TIME: Duration = Duration::from_millis(200);

/// A revision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The part that a list shows.
    #[serde(flatten)]
    pub summary: Summary,
    /// Folder that relative paths start from.
    pub root: PathBuf,
    /// Path and text of each file.
    pub files: Vec<(String, String)>,
}

/// A revision without its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Its number.
    pub revision: Revision,
    /// When it was first served, RFC 3339.
    pub at: String,
    /// Who applied it: a user, or the address of an API call.
    pub who: String,
    /// What triggered it: start, file, sighup or api.
    pub trigger: String,
    /// SHA-256 of its files.
    pub hash: String,
    /// Its changes against the revision served before it, as a unified diff.
    pub diff: String,
}

/// The served revision, kept across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRevision {
    /// The revision that is served.
    pub revision: Revision,
    /// The highest number given so far.
    pub last: Revision,
    /// Content of the files that a rollback replaced: it is not served until it changes.
    pub ignored: Option<String>,
}

/// The history of a `state_dir`.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    active: PathBuf,
}

impl History {
    /// Opens the history, and creates it if absent.
    pub fn open(state_dir: &Path) -> io::Result<History> {
        let folder = state_dir.join("revisions");
        fs::create_dir_all(&folder)?;
        Ok(History { folder, active: state_dir.join("active.json") })
    }

    /// The active revision; `None` in a new `state_dir`.
    pub fn active(&self) -> Option<ActiveRevision> {
        read(&self.active)
    }

    /// Stores the active revision.
    pub fn set_active(&self, active: &ActiveRevision) -> io::Result<()> {
        files::replace(&self.active, active)
    }

    /// A revision with its text.
    pub fn load(&self, revision: Revision) -> Option<Record> {
        read(&self.file(revision))
    }

    /// Stores a revision.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        files::replace(&self.file(record.summary.revision), record)
    }

    /// Numbers of the revisions kept, oldest first.
    pub fn revisions(&self) -> Vec<Revision> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let number =
            |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok().map(Revision);
        let mut revisions: Vec<Revision> = entries.filter_map(number).collect();
        revisions.sort();
        revisions
    }

    /// All revisions kept, newest first, without their text.
    pub fn list(&self) -> Vec<Summary> {
        self.revisions().into_iter().rev().filter_map(|revision| Some(self.load(revision)?.summary)).collect()
    }

    /// Removes the oldest until `keep` are left; never the active one.
    pub fn prune(&self, keep: usize, active: Revision) {
        let revisions = self.revisions();
        let surplus = revisions.len().saturating_sub(keep);
        for revision in revisions.into_iter().filter(|revision| *revision != active).take(surplus) {
            let _ = fs::remove_file(self.file(revision));
        }
    }

    fn file(&self, revision: Revision) -> PathBuf {
        self.folder.join(format!("{revision}.json"))
    }
}

impl Record {
    /// The original files.
    pub fn source(&self) -> Source {
        Source::from_parts(self.root.clone(), self.files.clone())
    }
}

/// Path and text of each file of a source.
pub fn parts(source: &Source) -> Vec<(String, String)> {
    source.files.iter().map(|file| (file.path.to_string(), file.text.to_string())).collect()
}

/// A hash of the content: equal for equal file names and texts.
pub fn hash(source: &Source) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for file in &source.files {
        let name = Path::new(&*file.path).file_name().unwrap_or_default();
        for part in [name.as_encoded_bytes(), file.text.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    hex::encode(context.finish().as_ref())
}

/// The changes from one to the other, as a unified diff.
#[allow(clippy::disallowed_methods)]
pub fn diff(old: &[(String, String)], new: &[(String, String)]) -> String {
    let text = |files: &[(String, String)], path: &str| {
        files.iter().find(|(p, _)| p == path).map(|(_, text)| text.clone()).unwrap_or_default()
    };
    let mut paths: Vec<&String> = old.iter().chain(new).map(|(path, _)| path).collect();
    paths.sort();
    paths.dedup();
    let mut out = String::new();
    for path in paths {
        let (before, after) = (text(old, path), text(new, path));
        if before != after {
            let deadline = Instant::now() + DIFF_TIME;
            let diff = TextDiff::configure().deadline(deadline).diff_lines(&before, &after);
            out.push_str(&diff.unified_diff().context_radius(2).header(path, path).to_string());
        }
    }
    if out.len() > DIFF_MAX {
        let end = (0..=DIFF_MAX).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
        out.truncate(end);
        out.push_str("\n… cut\n");
    }
    out
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(e) => {
            log::error!("{}: unreadable, passed over: {e}", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(revision: u64) -> Record {
        let summary = Summary {
            revision: Revision(revision),
            at: String::new(),
            who: "me".into(),
            trigger: "file".into(),
            hash: String::new(),
            diff: String::new(),
        };
        Record { summary, root: "/".into(), files: vec![("a.toml".into(), "x = 1\n".into())] }
    }

    #[test]
    fn old_revisions_go_but_the_active_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        (1..=12).for_each(|revision| history.save(&record(revision)).unwrap());
        history.prune(3, Revision(2));
        assert_eq!(history.revisions(), [2, 11, 12].map(Revision));
        assert_eq!(history.load(Revision(11)).unwrap().files[0].1, "x = 1\n");
        std::fs::write(folder.path().join("revisions/12.json"), "{ torn").unwrap();
        assert_eq!(history.list().len(), 2, "a torn file is passed over");
    }

    #[test]
    fn a_diff_shows_what_changed() {
        let old = [("a.toml".to_owned(), "x = 1\ny = 2\n".to_owned())];
        let new = [("a.toml".to_owned(), "x = 1\ny = 3\n".to_owned())];
        let diff = diff(&old, &new);
        assert!(diff.contains("-y = 2") && diff.contains("+y = 3"), "{diff}");
        assert_eq!(super::diff(&old, &old), "");
    }
}
