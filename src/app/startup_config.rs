//! The choice of what a start serves: the files, or the last good revision.
//!
//! The files are served unless they have findings, or a rollback replaced exactly their content; otherwise the revision
//! served last goes on. Content that was served last keeps its number, so a restart makes no revision. With bad files
//! and no good revision the start fails with the findings.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartError;
use crate::runtime::history::{self, ActiveRevision, History, Record, Summary};
use crate::runtime::reload::LastError;
use base::clock;
use base::finding::Finding;
use base::units::Revision;
use config::source::Source;
use config::{self, Loaded};

/// What is served first.
pub struct Boot {
    /// The configuration.
    pub loaded: Loaded,
    /// Its number, and the content that a rollback replaced.
    pub active: ActiveRevision,
    /// Where revisions are kept.
    pub history: Arc<History>,
    /// Why the files are not served.
    pub refused: Option<LastError>,
    /// The record to keep once the gateway listens: a revision that never served is not a good one.
    new: Option<Record>,
}

impl Boot {
    /// Keeps the served revision. A full disk is only logged: it must not prevent a gateway from serving.
    pub fn keep(&self) {
        let revision = self.active.revision;
        if let Some(record) = &self.new {
            if let Err(e) = self.history.save(record) {
                log::error!("revision {revision} could not be kept in state_dir: {e}");
            }
            self.history.prune(self.loaded.config.reload.history, revision);
        }
        if self.history.active().as_ref() != Some(&self.active)
            && let Err(e) = self.history.set_active(&self.active)
        {
            log::error!("which revision is served could not be kept in state_dir: {e}");
        }
    }
}

/// Chooses the revision to serve.
pub fn choose(path: &Path) -> Result<Boot, StartError> {
    let source = Source::read(path);
    let state_dir = source.as_ref().map_or_else(|_| state_dir_beside(path), state_dir);
    match source.and_then(|source| Ok((history::hash(&source), config::load_source(source)?))) {
        Ok((hash, loaded)) => {
            let state_dir = &loaded.config.server.state_dir;
            let history = History::open(state_dir).map_err(StartError::io(format!(
                "state_dir {} cannot be used (set server.state_dir to a folder that can be written)",
                state_dir.display()
            )))?;
            let before = history.active();
            if before.as_ref().is_some_and(|active| active.ignored.as_ref() == Some(&hash)) {
                return last_good(history, None);
            }
            Ok(serve_files(path, loaded, &hash, before, history))
        }
        Err(findings) => {
            let Ok(history) = History::open(&state_dir) else { return Err(StartError::Findings(findings)) };
            last_good(history, Some(findings))
        }
    }
}

fn serve_files(path: &Path, loaded: Loaded, hash: &str, before: Option<ActiveRevision>, history: History) -> Boot {
    let last =
        history.revisions().into_iter().chain(before.as_ref().map(|active| active.last)).max().unwrap_or_default();
    let record = before.as_ref().and_then(|active| history.load(active.revision));
    let same = record.as_ref().is_some_and(|record| record.summary.hash == hash);
    let revision =
        if same { before.as_ref().map_or(Revision(1), |active| active.revision) } else { Revision(last.0 + 1) };
    let active = ActiveRevision { revision, last: last.max(revision), ignored: None };
    let new = (!same).then(|| {
        let files = history::parts(&loaded.source);
        let summary = Summary {
            revision,
            at: clock::rfc3339(clock::wall_ms()),
            who: owner(path),
            trigger: "start".into(),
            hash: hash.to_owned(),
            diff: history::diff(&record.map(|record| record.files).unwrap_or_default(), &files),
        };
        Record { summary, root: loaded.source.root.clone(), files }
    });
    Boot { loaded, active, history: Arc::new(history), refused: None, new }
}

/// The revision served last, in place of files with findings or of rolled-back ones.
fn last_good(history: History, findings: Option<Vec<Finding>>) -> Result<Boot, StartError> {
    let served = history.active().and_then(|active| Some((history.load(active.revision)?, active)));
    let Some((record, active)) = served else { return Err(StartError::Findings(findings.unwrap_or_default())) };
    let loaded = match (config::load_source(record.source()), &findings) {
        (Ok(loaded), _) => loaded,
        (Err(_), Some(findings)) => return Err(StartError::Findings(findings.clone())),
        (Err(findings), None) => return Err(StartError::Findings(findings)),
    };
    let refused = findings.map(|findings| {
        log::error!("the files have {} findings; revision {} goes on", findings.len(), active.revision);
        for finding in &findings {
            log::error!("{finding}");
        }
        LastError { at: clock::rfc3339(clock::wall_ms()), trigger: "start", findings }
    });
    Ok(Boot { loaded, active, history: Arc::new(history), refused, new: None })
}

/// The `state_dir` of a configuration that may have findings.
pub fn state_dir_of(path: &Path) -> PathBuf {
    Source::read(path).as_ref().map_or_else(|_| state_dir_beside(path), state_dir)
}

/// `server.state_dir` of files that may have findings elsewhere.
fn state_dir(source: &Source) -> PathBuf {
    let named = source.files.iter().find_map(|file| {
        let table: toml::Table = file.text.parse().ok()?;
        Some(table.get("server")?.get("state_dir")?.as_str()?.to_owned())
    });
    source.root.join(named.as_deref().unwrap_or("state"))
}

fn state_dir_beside(path: &Path) -> PathBuf {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    folder.join("state")
}

/// The owner of the configuration: the name for its owner's number.
pub fn owner(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let Ok(uid) = std::fs::metadata(path).map(|meta| meta.uid()) else { return "unknown".into() };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

/// The user that runs this process.
pub fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| owner(Path::new("/proc/self")))
}
