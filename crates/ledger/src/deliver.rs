//! The **deliver** stage, which sends events to merchants: at least once, and in order within an order.
//!
//! | module | is |
//! |---|---|
//! | [`backoff`] | the state of an event after an attempt (pure) |
//! | [`scheduler`] | the choice of events to send next, and of questions to the store (pure) |
//! | [`due`] | what is due, in SQL |
//! | [`run`] | the loop that joins them |
//!
//! It has a thread and a runtime of its own, so that a slow merchant slows nothing else, and works only while this
//! process writes the books. Attempts that a process could not mark are repeated by the next one: a merchant detects
//! repetitions by `webhook-id`. A merchant that is no longer configured gets nothing, and its events wait.

pub mod backoff;
pub mod due;
pub mod run;
pub mod scheduler;

use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use self::due::{DueEvents, Question};
use self::run::Run;
use super::journal::{CommitError, Journal, OutboxNews, Raised, Standing};
use super::rows::Update;
use super::store::{Readers, StoreError};
use config::model::ledger::Ledger;
use http_client::webhook::Sender;

/// The source of events, to which their results go back.
pub trait Outbox: Send + Sync + 'static {
    /// Whether this process writes the books.
    fn active(&self) -> bool;
    /// Reads what is due; blocks.
    fn ask(&self, question: &Question) -> Result<DueEvents, StoreError>;
    /// Writes new states of events; returns after the commit.
    fn mark(&self, marks: Vec<Update>, raised: Vec<Raised>) -> impl Future<Output = Result<(), CommitError>> + Send;
    /// Returns when there is news.
    fn woken(&self) -> impl Future<Output = ()> + Send;
    /// Takes the news.
    fn news(&self) -> OutboxNews;
}

/// The outbox of the books.
#[derive(Debug)]
pub struct OutboxBooks {
    /// Reads the outbox.
    pub readers: Arc<Readers>,
    /// Writes the marks.
    pub journal: Journal,
}

impl Outbox for OutboxBooks {
    fn active(&self) -> bool {
        self.journal.standing() == Standing::Active
    }

    fn ask(&self, question: &Question) -> Result<DueEvents, StoreError> {
        self.readers.with(|reader| due::ask(reader, question))
    }

    async fn mark(&self, marks: Vec<Update>, raised: Vec<Raised>) -> Result<(), CommitError> {
        self.journal.mark(marks, raised).await
    }

    async fn woken(&self) {
        self.journal.outbox().woken().await;
    }

    fn news(&self) -> OutboxNews {
        self.journal.outbox().take()
    }
}

/// The delivery of events, until it is stopped or dropped.
#[derive(Debug)]
pub struct Delivery {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Delivery {
    /// Starts the thread. A new configuration applies from the next attempt on.
    pub fn start(config: Arc<ArcSwap<Ledger>>, outbox: impl Outbox) -> Result<Delivery, String> {
        let client = Sender::new().map_err(|e| format!("no client for merchants: {e}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("ledger-deliver")
            .build()
            .map_err(|e| format!("no runtime for deliveries: {e}"))?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(Run::new(config, outbox, client).run(stopped));
            // Do not wait for a name that is still being resolved.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("ledger-deliver".into()).spawn(work);
        let thread = thread.map_err(|e| format!("no thread for deliveries: {e}"))?;
        Ok(Delivery { stop: Some(stop), thread: Some(thread) })
    }

    /// Begins no more attempts, gives those under way a second, and marks the results; blocks. The journal must still
    /// write.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!(
                "ledger: the delivery of events panicked; what it did not mark is sent again at the next start"
            );
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
pub(crate) mod tests;
