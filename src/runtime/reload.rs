//! The one place, and the one thread, that replaces the running configuration.
//!
//! Triggers (a file change, SIGHUP, the API) become commands. A thread of low priority takes them one at a time: load,
//! check, compare with the running one, keep on disk, build, and store one pointer. A failure before the store leaves
//! the running snapshot untouched. A full disk, however, is only logged: it must not prevent the change that an
//! operator needs in an emergency.
//!
//! While an upgrade hands over to another process the thread holds: commands wait until the hand-over was taken back,
//! or are refused once the other process serves.
//!
//! Content that runs already is built again under its number, because the files it names (certificates, tokens) may
//! have changed. After a rollback the content of the files is ignored until it changes or a reload is forced.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Serialize;

use super::history::{self, ActiveRevision, History, Record, Summary};
use super::snapshot::Snapshot;
use crate::releases::Releases;
use crate::telemetry::Registry;
use crate::telemetry::registry::Reload;
use base::clock;
use base::finding::{Finding, Place};
use base::units::Revision;
use config::source::Source;
use config::{Loaded, load_source, restart_required, unwise};

/// Building yields to serving, but must not starve: beside a worker that uses its whole core this leaves it a quarter.
/// At 19 it would be a seventieth, and a push would wait for seconds.
const NICE: i32 = 5;
/// How often unused snapshots are dropped.
const SWEEP: Duration = Duration::from_millis(500);

/// The origin of a change.
#[derive(Clone, Debug)]
pub struct By {
    /// A user, or the address of an API call.
    pub who: String,
    /// Trigger: start, file, sighup or api.
    pub trigger: &'static str,
}

/// The value of `last_error`.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// When it was refused, RFC 3339.
    pub at: String,
    /// Its trigger.
    pub trigger: &'static str,
    /// The reasons.
    pub findings: Vec<Finding>,
}

/// The state that `GET /api/v1/config` shows besides the history.
#[derive(Clone, Debug)]
pub struct Status {
    /// When the served revision was applied, RFC 3339.
    pub loaded_at: String,
    /// Why the last offer was refused; `None` once one is applied.
    pub last_error: Option<LastError>,
}

/// The revision served after a command, or the findings that refused it.
pub type Answer = Result<Revision, Vec<Finding>>;

enum Order {
    Reload { force: bool },
    Rollback { to: Option<Revision> },
    Confirm,
}

enum ReloadCommand {
    Change {
        order: Order,
        by: By,
        reply: tokio::sync::oneshot::Sender<Answer>,
    },
    /// Nothing changes until `until` says that another process has taken over, or is dropped.
    Hold {
        held: Sender<()>,
        until: Receiver<()>,
    },
}

/// While it lives, nothing changes; after a drop everything goes on as before.
#[derive(Debug)]
pub struct Hold(Sender<()>);

impl Hold {
    /// Another process has taken over: this one changes nothing any more.
    pub fn for_ever(self) {
        let _ = self.0.send(());
    }
}

/// Sends commands to the thread, and reads its state.
#[derive(Clone)]
pub struct ReloadControl {
    commands: Sender<ReloadCommand>,
    status: Arc<Mutex<Status>>,
    history: Arc<History>,
}

impl ReloadControl {
    /// Loads the files at the configuration's path. The answer comes when they are served, or refused.
    pub fn reload(&self, by: By, force: bool) -> tokio::sync::oneshot::Receiver<Answer> {
        self.send(Order::Reload { force }, by)
    }

    /// Rolls back to a revision; without one, to the one served before.
    pub fn rollback(&self, by: By, to: Option<Revision>) -> tokio::sync::oneshot::Receiver<Answer> {
        self.send(Order::Rollback { to }, by)
    }

    /// Confirms a staged revision; as long as staging is not built, every revision is confirmed.
    pub fn confirm(&self, by: By) -> tokio::sync::oneshot::Receiver<Answer> {
        self.send(Order::Confirm, by)
    }

    /// The current state.
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// The revisions kept.
    pub fn history(&self) -> Vec<Summary> {
        self.history.list()
    }

    /// Waits until no change is under way, and prevents new ones; `None` if that takes longer than `limit`.
    pub fn hold(&self, limit: Duration) -> Option<Hold> {
        let ((held, is_held), (hold, until)) = (channel(), channel());
        self.commands.send(ReloadCommand::Hold { held, until }).ok()?;
        is_held.recv_timeout(limit).ok()?;
        Some(Hold(hold))
    }

    fn send(&self, order: Order, by: By) -> tokio::sync::oneshot::Receiver<Answer> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        // The thread lives as long as the process; without it the receiver reports that.
        let _ = self.commands.send(ReloadCommand::Change { order, by, reply });
        answer
    }
}

/// Called with each snapshot that is served.
pub type Follow = Box<dyn Fn(&Arc<Snapshot>) + Send>;

/// The state of the thread.
pub struct Reloader {
    /// `-c`
    pub path: PathBuf,
    /// Where the snapshot is stored.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Counters.
    pub registry: Arc<Registry>,
    /// The releases, which each new configuration adopts.
    pub releases: Arc<Releases>,
    /// Where revisions are kept.
    pub history: Arc<History>,
    /// The served content.
    pub source: Source,
    /// The active revision on disk.
    pub active: ActiveRevision,
    /// Called with each snapshot before it is stored: resolves names.
    pub before: Box<dyn Fn(&Snapshot) + Send>,
    /// Called after it is stored: updates probes and log.
    pub after: Follow,
    /// Snapshots that requests may still hold.
    pub retired: Vec<Arc<Snapshot>>,
    /// SHA-256 of the files offered last.
    pub offered: Option<String>,
    /// SHA-256 of the files refused last.
    pub refused: Option<String>,
}

impl Reloader {
    /// Starts the thread. `refused` holds the findings despite which the process started.
    pub fn start(self, refused: Option<LastError>) -> std::io::Result<ReloadControl> {
        let (commands, orders) = channel();
        let status = Status { loaded_at: clock::rfc3339(clock::wall_ms()), last_error: refused };
        let control = ReloadControl { commands, status: Arc::new(Mutex::new(status)), history: self.history.clone() };
        let status = control.status.clone();
        std::thread::Builder::new().name("config".into()).spawn(move || self.run(&orders, &status))?;
        Ok(control)
    }

    fn run(mut self, orders: &Receiver<ReloadCommand>, status: &Mutex<Status>) {
        // Linux keeps this value per thread.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut handed_over = false;
        loop {
            self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
            let (order, by, reply) = match orders.recv_timeout(SWEEP) {
                Ok(ReloadCommand::Change { reply, .. }) if handed_over => {
                    let _ = reply.send(Err(self.handed_over()));
                    continue;
                }
                Ok(ReloadCommand::Change { order, by, reply }) => (order, by, reply),
                Ok(ReloadCommand::Hold { held, until }) => {
                    // The caller may have given up waiting: then `until` is dropped, too.
                    let _ = held.send(());
                    handed_over |= until.recv().is_ok();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let answer = self.obey(order, &by);
            if let Err(findings) = &answer {
                self.refused(findings, &by, status);
            }
            if let Ok((_, reload)) = answer {
                self.registry.reloaded(reload);
                let mut status = status.lock();
                status.last_error = None;
                if reload == Reload::Applied {
                    status.loaded_at = clock::rfc3339(clock::wall_ms());
                }
            }
            // The caller may have left.
            let _ = reply.send(answer.map(|(revision, _)| revision));
        }
    }

    fn handed_over(&self) -> Vec<Finding> {
        let place = Place::file(self.path.display().to_string());
        vec![place.finding("another process has taken over, by `tollgate upgrade`", "ask again: it answers there now")]
    }

    /// Logs why an offer was refused: once for each, even if a file's change came as several events.
    fn refused(&mut self, findings: &[Finding], by: &By, status: &Mutex<Status>) {
        let mut status = status.lock();
        let known = status.last_error.as_ref().is_some_and(|last| last.findings == findings);
        let again = self.refused == self.offered;
        self.refused = self.offered.take();
        if known && again && by.trigger == "file" {
            return;
        }
        self.registry.reloaded(Reload::Refused);
        let first = findings.first().map(|f| f.to_string().replace('\n', " ")).unwrap_or_default();
        let (trigger, count, revision) = (by.trigger, findings.len(), self.active.revision);
        log::error!(
            "configuration refused ({trigger}), revision {revision} goes on; findings: {count}, the first: {first}"
        );
        let at = clock::rfc3339(clock::wall_ms());
        status.last_error = Some(LastError { at, trigger, findings: findings.to_vec() });
    }

    fn obey(&mut self, order: Order, by: &By) -> Result<(Revision, Reload), Vec<Finding>> {
        match order {
            Order::Reload { force } => self.reload(by, force),
            Order::Rollback { to } => self.rollback(by, to),
            Order::Confirm => Ok((self.active.revision, Reload::Unchanged)),
        }
    }

    fn reload(&mut self, by: &By, force: bool) -> Result<(Revision, Reload), Vec<Finding>> {
        self.offered = None;
        let source = Source::read(&self.path)?;
        let hash = history::hash(&source);
        self.offered = Some(hash.clone());
        if !force && self.active.ignored.as_ref() == Some(&hash) {
            return Ok((self.active.revision, Reload::Unchanged));
        }
        let same = hash == history::hash(&self.source);
        let loaded = load_source(source)?;
        self.hold_against_running(&loaded, force)?;
        if same {
            self.publish(loaded, self.active.revision);
            self.note(ActiveRevision { ignored: None, ..self.active.clone() });
            return Ok((self.active.revision, Reload::Unchanged));
        }
        let revision = Revision(self.active.last.0 + 1);
        let files = history::parts(&loaded.source);
        let summary = Summary {
            revision,
            at: clock::rfc3339(clock::wall_ms()),
            who: by.who.clone(),
            trigger: by.trigger.to_owned(),
            hash,
            diff: history::diff(&history::parts(&self.source), &files),
        };
        // Kept before it is served, so that the history has every served revision.
        let record = Record { summary, root: loaded.source.root.clone(), files };
        if let Err(e) = self.history.save(&record) {
            log::error!("revision {revision} is served but could not be kept in state_dir: {e}");
        }
        let (keep, warnings) = (loaded.config.reload.history, loaded.warnings.clone());
        self.publish(loaded, revision);
        log::info!("revision {revision} is served ({}, {})", by.trigger, by.who);
        unwise::say(&warnings);
        self.note(ActiveRevision { revision, last: revision, ignored: None });
        self.history.prune(keep, revision);
        Ok((revision, Reload::Applied))
    }

    fn rollback(&mut self, by: &By, to: Option<Revision>) -> Result<(Revision, Reload), Vec<Finding>> {
        let kept = self.history.revisions();
        let before = || kept.iter().rev().find(|revision| **revision < self.active.revision).copied();
        let refuse = |message: String| {
            let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
            vec![
                Place::file(self.path.display().to_string()).finding(message, format!("kept are: {}", kept.join(", "))),
            ]
        };
        let to = to.or_else(before).ok_or_else(|| refuse("there is no revision before this one".to_owned()))?;
        let record = self.history.load(to).ok_or_else(|| refuse(format!("revision {to} is not kept")))?;
        let loaded = load_source(record.source())?;
        self.hold_against_running(&loaded, true)?;
        // The content of the files is being rolled back: it must not be applied again by itself.
        let ignored = Source::read(&self.path).ok().map(|source| history::hash(&source));
        let ignored = ignored.filter(|hash| *hash != record.summary.hash);
        let warnings = loaded.warnings.clone();
        self.publish(loaded, to);
        log::warn!("rolled back to revision {to} ({}, {})", by.trigger, by.who);
        unwise::say(&warnings);
        self.note(ActiveRevision { revision: to, last: self.active.last, ignored });
        Ok((to, Reload::Applied))
    }

    fn hold_against_running(&self, loaded: &Loaded, force: bool) -> Result<(), Vec<Finding>> {
        let findings = restart_required::findings(&self.snapshot.load().config, &loaded.config, force);
        if findings.is_empty() { Ok(()) } else { Err(findings) }
    }

    fn publish(&mut self, loaded: Loaded, revision: Revision) {
        let running = self.snapshot.load_full();
        let config = Arc::new(loaded.config);
        let lives = self.releases.adopt(&config);
        let next = Arc::new(Snapshot::new(config, revision, Some(&running), lives, &self.registry, clock::now()));
        (self.before)(&next);
        self.snapshot.store(next.clone());
        self.source = loaded.source;
        (self.after)(&next);
        // Dropping a large snapshot takes time: this thread does it, not the last request that held it.
        self.retired.push(running);
        self.registry.sweep();
    }

    fn note(&mut self, active: ActiveRevision) {
        if active == self.active {
            return;
        }
        self.active = active;
        if let Err(e) = self.history.set_active(&self.active) {
            log::error!("which revision is served could not be kept in state_dir: {e}");
        }
    }
}
