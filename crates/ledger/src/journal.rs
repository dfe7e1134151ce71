//! The **journal** stage, the one writer. It alone makes a [`Durable`] receipt, and only after the commit.
//!
//! Callbacks that arrive during a commit form the next batch. The writer waits only while callbacks are being verified,
//! two milliseconds at most, so the senders determine how large a batch is. The queue is bounded; a sender that finds
//! it full is asked to try again.

mod batch;
mod chain_tip;
mod endpoints;
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
use super::command::{Command, Commanded, Finish};
use super::endpoints::change::{Changed, EndpointChange};
use super::keys::{DataKey, Ring};
use super::outcome::Outcome;
use super::reconcile::Reconciled;
use super::resolve::{Resolution, Resolved};
use super::rows::{Attempt, Evidence, Update};
use super::stored_enum::AnomalyKind;
use config::model::ledger::Channel;
use providers::event::ProviderEvent;

/// Callbacks that may wait for the writer.
const QUEUE: usize = 4096;
/// Time from a callback's arrival to its commit, after which its sender is asked to try again.
const PATIENCE: Duration = Duration::from_secs(4);

/// A value that is on the disk. Only the journal can make one.
#[derive(Debug)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// The result of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The result in one word.
    pub outcome: Outcome,
}

/// Why a callback is not kept, as far as is known; the provider is asked to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// The queue is full, or the commit did not come in time.
    Overloaded,
    /// Another process writes the books.
    Standby,
    /// The commit failed.
    Failed,
    /// The store refused this callback alone.
    Refused,
}

/// A verified callback, its evidence encrypted: ready to be written.
#[derive(Debug)]
pub struct Sealed {
    /// The channel that received it.
    pub channel: Arc<Channel>,
    /// The meaning of the message.
    pub event: ProviderEvent,
    /// The message as received; `seq` is 0 until it is written.
    pub evidence: Evidence,
    /// The key that encrypts it.
    pub key: Arc<DataKey>,
    /// Its room among the bodies in flight, held until it is written even if its sender waits no longer.
    pub room: Option<OwnedSemaphorePermit>,
}

/// An anomaly that was found outside of the books' own decisions.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    /// What is wrong.
    pub kind: AnomalyKind,
    /// The channel; may be empty.
    pub channel: String,
    /// The merchant; may be empty.
    pub merchant: String,
    /// The transaction, if any.
    pub transaction_id: Option<Uuid>,
    /// A description without personal data.
    pub detail: String,
}

/// What deliveries have come to.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// New states of events and deliveries.
    pub updates: Vec<Update>,
    /// Anomalies to open.
    pub raised: Vec<Raised>,
    /// The attempts.
    pub attempts: Vec<Attempt>,
    /// The keys that encrypt answers.
    pub keys: Vec<Arc<DataKey>>,
    /// How endpoints fare, in the order of their attempts.
    pub health: Vec<(Uuid, Health)>,
}

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It took an event.
    Works,
    /// It did not, at this time in milliseconds since 1970.
    Fails(i64),
    /// It asked for no more events, at this time.
    Gone(i64),
}

/// What is to be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redelivery {
    /// Events, to the configuration's url.
    pub events: Vec<Uuid>,
    /// Deliveries, each to its endpoint.
    pub deliveries: Vec<Uuid>,
}

/// Whether this process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another process writes the books, or they cannot be reached.
    Standby,
    /// This process writes.
    Active,
    /// The store failed: this process writes nothing more.
    Failed,
}

type Reply<T> = oneshot::Sender<Result<T, CommitError>>;

/// A request to the writer.
enum Task {
    Callback(Box<Sealed>, Reply<Durable<Receipt>>),
    Mark(Box<Marks>, Reply<()>),
    Redeliver(Redelivery, Reply<usize>),
    Endpoint(Box<EndpointChange>, Reply<Changed>),
    Resolve(Box<Resolution>, Reply<Resolved>),
    Command(Box<Command>, Reply<Commanded>),
    /// Transfers of which something is due.
    Due(Vec<Uuid>, Reply<()>),
    Reconcile(Box<Reconciled>, Reply<Uuid>),
    /// What came of a call to a provider.
    Finish(Box<Finish>, Reply<Commanded>),
    /// Nothing; makes a waiting writer check whether to go on.
    Wake,
}

impl Task {
    fn refuse(self, why: CommitError) {
        // If the caller is gone, the answer is not needed.
        match self {
            Task::Callback(_, reply) => drop(reply.send(Err(why))),
            Task::Mark(_, reply) => drop(reply.send(Err(why))),
            Task::Redeliver(_, reply) => drop(reply.send(Err(why))),
            Task::Endpoint(_, reply) => drop(reply.send(Err(why))),
            Task::Resolve(_, reply) => drop(reply.send(Err(why))),
            Task::Command(_, reply) => drop(reply.send(Err(why))),
            Task::Due(_, reply) => drop(reply.send(Err(why))),
            Task::Reconcile(_, reply) => drop(reply.send(Err(why))),
            Task::Finish(_, reply) => drop(reply.send(Err(why))),
            Task::Wake => {}
        }
    }
}

/// The writer's state, as other threads see it.
#[derive(Default)]
struct JournalState {
    standing: AtomicU8,
    /// Whether a reader keeps an older store from being brought up to date.
    held: AtomicBool,
    head: Mutex<Option<(i64, Vec<u8>)>>,
    /// When the last row was recorded; 0 while another process writes.
    recorded_at: AtomicI64,
    ring: ArcSwapOption<Ring>,
    /// Whether the writer must end once its queue is empty.
    stopping: AtomicBool,
    /// Callbacks that are being verified: on their way to the queue.
    coming: AtomicUsize,
    outbox: OutboxQueue,
}

/// The handle of the writer.
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

/// Announces, while it lives, that a callback is on its way to the queue.
pub struct Coming(Arc<JournalState>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Journal {
    /// A journal, and its writer, which is yet to be started.
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

    /// Writes a callback; the answer comes after the commit, or as an error after 4 s.
    pub async fn keep(&self, sealed: Sealed, coming: Coming) -> Result<Durable<Receipt>, CommitError> {
        let (reply, answer) = oneshot::channel();
        let queued = self.queue(Task::Callback(Box::new(sealed), reply));
        drop(coming);
        queued?;
        wait(answer).await
    }

    /// Writes new states of events and opens anomalies; returns after the commit.
    pub async fn mark(&self, marks: Marks) -> Result<(), CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Mark(Box::new(marks), reply))?;
        answer.await.unwrap_or(Err(CommitError::Failed))
    }

    /// Puts events back to be sent at once; returns for how many addresses.
    pub async fn redeliver(&self, what: Redelivery) -> Result<usize, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Redeliver(what, reply))?;
        wait(answer).await
    }

    /// Changes a merchant's endpoints.
    pub async fn endpoint(&self, change: EndpointChange) -> Result<Changed, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Endpoint(Box::new(change), reply))?;
        wait(answer).await
    }

    /// Resolves an anomaly, and books what the resolution accepts.
    pub async fn resolve(&self, resolution: Resolution) -> Result<Resolved, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Resolve(Box::new(resolution), reply))?;
        wait(answer).await
    }

    /// Does what a caller of the API asks for, once.
    pub async fn command(&self, command: Command) -> Result<Commanded, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Command(Box::new(command), reply))?;
        wait(answer).await
    }

    /// Does what is due of these transfers.
    pub async fn due(&self, transfers: Vec<Uuid>) -> Result<(), CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Due(transfers, reply))?;
        wait(answer).await
    }

    /// Writes what a statement came to; the reconciliation's id.
    pub async fn reconcile(&self, done: Reconciled) -> Result<Uuid, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Reconcile(Box::new(done), reply))?;
        // There may be thousands of rows in it.
        answer.await.unwrap_or(Err(CommitError::Failed))
    }

    /// Writes what came of a call to a provider, and the answer to the caller who waits for it.
    pub async fn finish(&self, finish: Finish) -> Result<Commanded, CommitError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Task::Finish(Box::new(finish), reply))?;
        wait(answer).await
    }

    /// Opens an anomaly from a thread without a runtime; false if it could not be written.
    pub fn raise_blocking(&self, raised: Raised) -> bool {
        let (reply, answer) = oneshot::channel();
        let marks = Marks { raised: vec![raised], ..Marks::default() };
        let queued = self.queue(Task::Mark(Box::new(marks), reply));
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

    /// Whether this process stands by because a reader keeps an older store from being brought up to date.
    pub fn is_held(&self) -> bool {
        self.shared.held.load(Ordering::Acquire)
    }

    /// The `seq` and link of the last row on the disk; `None` before the first row, and while another process writes.
    pub fn head(&self) -> Option<(i64, Vec<u8>)> {
        self.shared.head.lock().clone()
    }

    /// When the last row was recorded, in milliseconds since 1970: later rows are never recorded before it. 0 while
    /// another process writes.
    pub fn recorded_at(&self) -> i64 {
        self.shared.recorded_at.load(Ordering::Acquire)
    }

    /// The keys, while this process writes.
    pub fn ring(&self) -> Option<Arc<Ring>> {
        self.shared.ring.load_full()
    }

    /// The events that wait for delivery.
    pub fn outbox(&self) -> &OutboxQueue {
        &self.shared.outbox
    }

    /// Ends the writer once its queue is written; never blocks.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // It only wakes a waiting writer; with a full queue the writer is not waiting.
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
