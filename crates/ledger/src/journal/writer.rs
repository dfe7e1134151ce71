//! The writer's thread: it takes the lock or stands by, and then takes batches until the store is lost or fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::batch::BatchWriter;
use super::chain_tip::ChainTip;
use super::{CommitError, JournalState, Standing, Task};
use crate::keys::{KeyError, Ring};
use crate::metrics::LedgerSeries;
use crate::store::{self, Changes, StoreError};
use base::clock;
use base::secret::Secret;
use config::model::ledger as model;

/// Time between two tries to take the lock.
const STANDBY: Duration = Duration::from_millis(500);
/// Time without work after which the store is checked.
const IDLE: Duration = Duration::from_secs(1);
/// The longest that a batch waits for callbacks that are being verified.
const GATHER: Duration = Duration::from_millis(2);

/// Called once, when the store has failed for good or could not be opened because of its keys.
pub type AlarmHook = Box<dyn Fn(&str) + Send>;

/// The writer's settings.
pub struct Settings {
    /// Where the books are.
    pub store: model::Store,
    /// Encryption keys: the first encrypts, all decrypt.
    pub encryption_keys: Vec<Secret>,
    /// The most callbacks of a commit, read anew for each.
    pub batch_max: Box<dyn Fn() -> usize + Send>,
    /// The metrics.
    pub series: Arc<LedgerSeries>,
    /// Called on a failure for good.
    pub alarm: AlarmHook,
    /// Whether it starts, and writes nothing, if the store cannot be opened.
    pub stays: bool,
    /// The runtime on which callers wait for answers.
    pub runtime: tokio::runtime::Handle,
}

/// A writer that has not started.
pub struct Writer {
    settings: Settings,
    queue: Receiver<Task>,
    shared: Arc<JournalState>,
}

/// Why the writer no longer writes.
enum Ended {
    Stopped,
    Lost,
    Failed(String),
}

impl Writer {
    pub(super) fn new(settings: Settings, queue: Receiver<Task>, shared: Arc<JournalState>) -> Writer {
        Writer { settings, queue, shared }
    }

    /// Opens the store, or finds that another process has it. An error is one that waiting does not cure: a wrong key,
    /// or a file that is not a ledger. The alarm reports a failed disk; the rest of the process may go on.
    pub fn start(self) -> Result<JoinHandle<()>, String> {
        let (desk, failed) = match self.open(store::open_soon) {
            Ok(None) => {
                log::info!("the ledger stands by: another process has the books");
                (None, None)
            }
            Ok(desk) => (desk, None),
            Err(Opening::Wrong(reason)) if !self.settings.stays => return Err(reason),
            Err(Opening::Wrong(reason) | Opening::Failed(reason)) => (None, Some(reason)),
            Err(Opening::Later(reason)) => {
                log::error!("the ledger stands by: {reason}");
                (None, None)
            }
        };
        self.stand(desk.as_ref());
        let work = move || {
            let mut writer = self;
            let run = std::panic::AssertUnwindSafe(|| match failed {
                Some(reason) => writer.fail(&reason),
                None => writer.run(desk),
            });
            // The state after a panic is unknown: nothing more may be written on top of it.
            if std::panic::catch_unwind(run).is_err() {
                writer.fail("the writer panicked; the log says where");
            }
        };
        let thread = std::thread::Builder::new().name("ledger-writer".into());
        thread.spawn(work).map_err(|e| format!("starting the ledger's writer: {e}"))
    }

    fn run(&mut self, mut desk: Option<BatchWriter>) {
        loop {
            let ended = match desk.take() {
                Some(mut desk) => self.serve(&mut desk),
                None => Ended::Lost,
            };
            match ended {
                // The standing stays as it was: the monitor still anchors the end.
                Ended::Stopped => return self.empty(CommitError::Standby),
                Ended::Failed(reason) => return self.fail(&reason),
                Ended::Lost => {}
            }
            self.shared.standing.store(Standing::Standby as u8, Ordering::Release);
            self.shared.ring.store(None);
            *self.shared.head.lock() = None;
            self.shared.recorded_at.store(0, Ordering::Release);
            self.settings.series.state("standby");
            match self.stand_by() {
                Ok(opened) => desk = opened,
                Err(reason) => return self.fail(&reason),
            }
            if desk.is_none() {
                return self.empty(CommitError::Standby);
            }
            self.stand(desk.as_ref());
        }
    }

    /// Waits for the lock; `None` if the writer is stopped meanwhile.
    fn stand_by(&mut self) -> Result<Option<BatchWriter>, String> {
        let mut said = String::new();
        loop {
            match self.queue.recv_timeout(STANDBY) {
                _ if self.is_stopping() => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Ok(task) => task.refuse(CommitError::Standby),
                Err(RecvTimeoutError::Timeout) => match self.open(store::open) {
                    Ok(Some(desk)) => return Ok(Some(desk)),
                    Ok(None) => {}
                    Err(Opening::Wrong(reason) | Opening::Failed(reason)) => return Err(reason),
                    Err(Opening::Later(reason)) if reason != said => {
                        log::error!("the ledger stands by: {reason}");
                        said = reason;
                    }
                    Err(Opening::Later(_)) => {}
                },
            }
        }
    }

    fn open(&self, opener: Opener) -> Result<Option<BatchWriter>, Opening> {
        let opened = opener(&self.settings.store);
        self.shared.held.store(matches!(opened, Err(StoreError::Held(_))), Ordering::Release);
        let Some(mut store) = opened? else { return Ok(None) };
        let heads = store.heads()?;
        // A process that erases a day waits until all is written, or came first.
        store.begin()?;
        let stored = store.wraps()?;
        if stored.is_empty() && heads.seq > 0 {
            return Err(Opening::Wrong("the store has rows but no keys: restore its table `keys`".into()));
        }
        let (ring, wraps) = Ring::open(&self.settings.encryption_keys, &stored, clock::wall_ms())?;
        if wraps.is_empty() {
            store.rollback();
        } else {
            // The chain's key must be stored before its first link.
            store.write(&Changes { wraps, ..Changes::default() })?;
            store.commit()?;
        }
        let runtime = self.settings.runtime.clone();
        Ok(Some(BatchWriter { store, end: ChainTip::new(heads), ring: Arc::new(ring), runtime }))
    }

    fn stand(&self, desk: Option<&BatchWriter>) {
        let Some(desk) = desk else { return self.settings.series.state("standby") };
        self.shared.ring.store(Some(desk.ring.clone()));
        self.show(desk);
        self.shared.standing.store(Standing::Active as u8, Ordering::Release);
        self.settings.series.state("active");
        self.shared.outbox.look();
        log::info!("the ledger writes: {} rows", desk.end.seq);
    }

    fn show(&self, desk: &BatchWriter) {
        *self.shared.head.lock() = (desk.end.seq > 0).then(|| (desk.end.seq, desk.end.link.clone()));
        self.shared.recorded_at.store(desk.end.recorded_at, Ordering::Release);
    }

    fn serve(&mut self, desk: &mut BatchWriter) -> Ended {
        loop {
            let wait = if self.is_stopping() { Duration::ZERO } else { IDLE };
            let first = match self.queue.recv_timeout(wait) {
                Ok(task) => task,
                Err(RecvTimeoutError::Disconnected) => return Ended::Stopped,
                Err(RecvTimeoutError::Timeout) if self.is_stopping() => return Ended::Stopped,
                Err(RecvTimeoutError::Timeout) => match desk.store.idle() {
                    Ok(()) => continue,
                    Err(failure) => match self.after(desk, failure) {
                        Some(end) => return end,
                        None => continue,
                    },
                },
            };
            let tasks = self.gather(first);
            let (began, size) = (clock::now(), tasks.len());
            match desk.write(tasks, clock::wall_ms()) {
                Ok(done) => {
                    self.show(desk);
                    if done.committed {
                        self.settings.series.commit.observe(clock::now().since(began).as_secs_f64());
                    }
                    if done.callbacks > 0 {
                        self.settings.series.batch.observe(done.callbacks as f64);
                    }
                    if !done.again.is_empty() {
                        self.shared.outbox.again(done.again);
                    }
                    if done.endpoints {
                        self.shared.outbox.endpoints();
                    }
                    let told = done.fresh.as_ref().map_or(0, |fresh| fresh.events.len());
                    done.fresh.into_iter().for_each(|fresh| self.shared.outbox.put(fresh));
                    if told < done.events {
                        self.shared.outbox.look();
                    }
                }
                Err(failure) => {
                    log::error!("a batch of {size} was not kept: {failure}");
                    if let Some(end) = self.after(desk, failure) {
                        return end;
                    }
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// The tasks that arrived, and those about to.
    fn gather(&self, first: Task) -> Vec<Task> {
        let max = (self.settings.batch_max)().max(1);
        let mut tasks = vec![];
        let mut next = Some(first);
        let until = clock::now().after(GATHER);
        loop {
            match next.take() {
                Some(Task::Wake) | None => {}
                Some(task) => tasks.push(task),
            }
            if tasks.len() >= max {
                return tasks;
            }
            next = match self.queue.try_recv() {
                Ok(task) => Some(task),
                Err(_) if self.shared.coming.load(Ordering::Acquire) == 0 => return tasks,
                Err(_) => match self.queue.recv_timeout(until.since(clock::now())) {
                    Ok(task) => Some(task),
                    Err(_) => return tasks,
                },
            };
        }
    }

    /// How the writer goes on after a failure; `None` if the books' end can be read anew.
    fn after(&self, desk: &mut BatchWriter, failure: StoreError) -> Option<Ended> {
        match failure {
            StoreError::Poisoned(reason) => Some(Ended::Failed(reason)),
            StoreError::Lost(_) => Some(Ended::Lost),
            StoreError::Row(_) | StoreError::Full(_) | StoreError::Held(_) | StoreError::Slow(_) => {
                match desk.store.heads() {
                    Ok(heads) => {
                        desk.end = ChainTip::new(heads);
                        None
                    }
                    Err(StoreError::Poisoned(reason)) => Some(Ended::Failed(reason)),
                    Err(_) => Some(Ended::Lost),
                }
            }
        }
    }

    fn fail(&self, reason: &str) {
        self.shared.standing.store(Standing::Failed as u8, Ordering::Release);
        self.settings.series.state("failed");
        log::error!("the ledger writes nothing more: {reason}");
        (self.settings.alarm)(reason);
        self.empty(CommitError::Failed);
    }

    fn empty(&self, why: CommitError) {
        self.queue.try_iter().for_each(|task| task.refuse(why));
    }
}

/// Opens a store that no other process writes to.
type Opener = fn(&model::Store) -> Result<Option<Box<dyn store::Store>>, StoreError>;

/// Why the store cannot be opened.
enum Opening {
    /// Waiting does not help.
    Wrong(String),
    /// The disk does not keep what is written.
    Failed(String),
    /// The store may be reachable later.
    Later(String),
}

impl From<StoreError> for Opening {
    fn from(failure: StoreError) -> Opening {
        match failure {
            StoreError::Row(reason) => Opening::Wrong(reason),
            StoreError::Poisoned(reason) => Opening::Failed(reason),
            StoreError::Full(_) | StoreError::Held(_) | StoreError::Lost(_) | StoreError::Slow(_) => {
                Opening::Later(failure.to_string())
            }
        }
    }
}

impl From<KeyError> for Opening {
    fn from(error: KeyError) -> Opening {
        Opening::Wrong(error.to_string())
    }
}
