//! **journal**: the one writer. It alone makes a [`Durable`] receipt, and only after the commit.
//!
//! What arrives while a batch is committed is the next batch. When nothing is being verified the writer waits for
//! nobody; while something is, it waits for that, two milliseconds at most: a batch is as large as the senders make it.
//! The queue is bounded; who finds it full is told to come again.

mod batch;
mod chain_tip;
mod outbox;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

pub use self::outbox::{Fresh, OutboxNews, OutboxQueue};
pub use self::writer::{AlarmHook, Settings, Writer};
use super::event::ProviderEvent;
use super::keys::{DataKey, Ring};
use super::outcome::Outcome;
use super::resolve::{Resolution, Resolved};
use super::rows::{Evidence, Outgoing, Update};
use super::stored_enum::AnomalyKind;
use config::model::ledger::Channel;

/// Callbacks that may wait for the writer.
const QUEUE: usize = 4096;
/// Time from a callback's arrival to its commit, after which its sender is told to come again.
const PATIENCE: Duration = Duration::from_secs(4);

/// Something that is on the disk. Nothing but the journal can make one.
#[derive(Debug)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// What it is.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// What became of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// In one word.
    pub outcome: Outcome,
}

/// Why a callback is not kept, as far as anybody knows: the provider is to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The queue is full, or the commit did not come in time.
    Overloaded,
    /// Another process has the books.
    Standby,
    /// The commit failed.
    Failed,
    /// The store refused this one alone.
    Refused,
}

/// A verified callback, its evidence encrypted: ready to be written.
#[derive(Debug)]
pub struct Sealed {
    /// `stripe`, `alipay` …
    pub provider: &'static str,
    /// The channel it came to.
    pub channel: Arc<Channel>,
    /// What it means.
    pub event: ProviderEvent,
    /// What was received; `seq` is 0 until it is written.
    pub evidence: Evidence,
    /// What it is encrypted with.
    pub key: Arc<DataKey>,
    /// Its room among bodies in flight, for as long as it waits to be written, whoever still waits for the answer.
    pub room: Option<OwnedSemaphorePermit>,
}

/// What somebody has to look at, found outside of the books' own decisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    /// What is wrong.
    pub kind: AnomalyKind,
    /// Where; may be empty.
    pub channel: String,
    /// Whose; may be empty.
    pub merchant: String,
    /// Which transaction.
    pub transaction_id: Option<Uuid>,
    /// In words; nothing personal.
    pub detail: String,
}

/// Whether this process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another process has the books, or they cannot be reached.
    Standby,
    /// It writes.
    Active,
    /// The store failed: this process writes nothing more.
    Failed,
}

type Reply<T> = oneshot::Sender<Result<T, CommitError>>;

/// What the writer is told.
enum Task {
    Callback(Box<Sealed>, Reply<Durable<Receipt>>),
    Mark(Vec<Update>, Vec<Raised>, Reply<()>),
    Redeliver(Uuid, Reply<Option<Outgoing>>),
    Resolve(Box<Resolution>, Reply<Resolved>),
    /// Nothing; whoever waits for work looks whether to go on.
    Wake,
}

impl Task {
    fn refuse(self, why: CommitError) {
        // Who asked may be gone; then nobody needs the answer.
        match self {
            Task::Callback(_, reply) => drop(reply.send(Err(why))),
            Task::Mark(_, _, reply) => drop(reply.send(Err(why))),
            Task::Redeliver(_, reply) => drop(reply.send(Err(why))),
            Task::Resolve(_, reply) => drop(reply.send(Err(why))),
            Task::Wake => {}
        }
    }
}

/// What the writer shows.
#[derive(Default)]
struct JournalState {
    standing: AtomicU8,
    /// Whether somebody keeps an older store from being brought up to date.
    held: AtomicBool,
    head: Mutex<Option<(i64, Vec<u8>)>>,
    /// When the last row was recorded; 0 while another writes.
    recorded_at: AtomicI64,
    ring: ArcSwapOption<Ring>,
    /// Whether the writer is to end once its queue is empty.
    stopping: AtomicBool,
    /// Callbacks that are being verified: on their way to the queue.
    coming: AtomicUsize,
    outbox: OutboxQueue,
}

/// The way to the writer.
#[derive(Clone)]
pub struct Journal {
    tasks: SyncSender<Task>,
    shared: Arc<JournalState>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

/// Says that a callback is on its way to the queue, as long as it lives.
pub struct Coming(Arc<JournalState>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Journal {
    /// A journal and the writer that serves it once it is started.
    pub fn new(settings: Settings) -> (Journal, Writer) {
        let (tasks, queue) = sync_channel(QUEUE);
        let shared = Arc::new(JournalState::default());
        (Journal { tasks, shared: shared.clone() }, Writer::new(settings, queue, shared))
    }

    /// Announces a callback: the writer's batch waits for it.
    pub fn coming(&self) -> Coming {
        self.shared.coming.fetch_add(1, Ordering::AcqRel);
        Coming(self.shared.clone())
    }

    /// Writes a callback; the answer comes after the commit, or after 4 s.
    pub async fn keep(&self, sealed: Sealed, coming: Coming) -> Result<Durable<Receipt>, CommitError> {
        let (reply, answer) = oneshot::channel();
        let queued = self.queue(Task::Callback(Box::new(sealed), reply));
        drop(coming);
        queued?;
        wait(answer).await
    }

    /// Writes new states of events, and what is raised; returns after the commit.
    pub async fn mark(&self, marks: Vec<Update>, raised: Vec<Raised>) -> Result<(), CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Mark(marks, raised, reply))?;
        answer.await.unwrap_or(Err(CommitError::Failed))
    }

    /// Puts an event back into the outbox, to be sent at once; `None` if there is no such event.
    pub async fn redeliver(&self, id: Uuid) -> Result<Option<Outgoing>, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Redeliver(id, reply))?;
        wait(answer).await
    }

    /// Resolves an anomaly, and books what is accepted.
    pub async fn resolve(&self, resolution: Resolution) -> Result<Resolved, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Resolve(Box::new(resolution), reply))?;
        wait(answer).await
    }

    /// Opens an anomaly, from a thread without a runtime; false if it could not be written.
    pub fn raise_blocking(&self, raised: Raised) -> bool {
        let (reply, answer) = oneshot::channel();
        let queued = self.queue(Task::Mark(vec![], vec![raised], reply));
        queued.is_ok() && matches!(answer.blocking_recv(), Ok(Ok(())))
    }

    /// Whether this process writes.
    pub fn standing(&self) -> Standing {
        match self.shared.standing.load(Ordering::Acquire) {
            1 => Standing::Active,
            2 => Standing::Failed,
            _ => Standing::Standby,
        }
    }

    /// Whether it stands by because somebody reads a store of an older version, which is to be brought up to date.
    pub fn is_held(&self) -> bool {
        self.shared.held.load(Ordering::Acquire)
    }

    /// The last row's `seq` and link that are on the disk; `None` before the first, and while another writes.
    pub fn head(&self) -> Option<(i64, Vec<u8>)> {
        self.shared.head.lock().clone()
    }

    /// When the last row was recorded, in milliseconds since 1970: no later one is recorded before. 0 while another writes.
    pub fn recorded_at(&self) -> i64 {
        self.shared.recorded_at.load(Ordering::Acquire)
    }

    /// The keys, while this process writes.
    pub fn ring(&self) -> Option<Arc<Ring>> {
        self.shared.ring.load_full()
    }

    /// Where events wait for delivery.
    pub fn outbox(&self) -> &OutboxQueue {
        &self.shared.outbox
    }

    /// Ends the writer once what is queued is written; never waits.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // It only wakes a writer that waits: where the queue is full, none does.
        let _ = self.tasks.try_send(Task::Wake);
    }

    fn queue(&self, task: Task) -> Result<(), CommitError> {
        match self.standing() {
            Standing::Active => {}
            Standing::Standby => return Err(CommitError::Standby),
            Standing::Failed => return Err(CommitError::Failed),
        }
        self.tasks.try_send(task).map_err(|error| match error {
            TrySendError::Full(_) => CommitError::Overloaded,
            TrySendError::Disconnected(_) => CommitError::Failed,
        })
    }
}

async fn wait<T>(answer: oneshot::Receiver<Result<T, CommitError>>) -> Result<T, CommitError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(CommitError::Failed),
        Err(_) => Err(CommitError::Overloaded),
    }
}
