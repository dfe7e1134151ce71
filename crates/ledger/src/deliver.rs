//! **deliver**: merchants are told what happened, until they have it. At least once, and in order within an order.
//!
//! | module | is |
//! |---|---|
//! | [`schedule`] | what becomes of an event after a try (pure) |
//! | [`scheduler`] | which events are sent next, and what is asked of the store (pure) |
//! | [`due`] | what is due, in SQL |
//! | [`run`] | the loop that joins them |
//!
//! It has a thread and a runtime of its own, so that a slow merchant slows nothing else, and works only while this
//! process writes the books. What a process did not come to mark is sent again by the next one: a merchant tells
//! repetitions by `webhook-id`. A merchant that is not configured any more gets nothing, and its events wait.

pub mod due;
pub mod run;
pub mod schedule;
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

/// Where events come from and go back to.
pub trait Outbox: Send + Sync + 'static {
    /// Whether this process writes the books.
    fn active(&self) -> bool;
    /// What is due; blocks.
    fn ask(&self, question: &Question) -> Result<DueEvents, StoreError>;
    /// Writes new states of events; returns after the commit.
    fn mark(&self, marks: Vec<Update>, raised: Vec<Raised>) -> impl Future<Output = Result<(), CommitError>> + Send;
    /// Returns when there is news.
    fn woken(&self) -> impl Future<Output = ()> + Send;
    /// What is new.
    fn news(&self) -> OutboxNews;
}

/// The outbox of the books.
#[derive(Debug)]
pub struct OutboxBooks {
    /// Reads.
    pub readers: Arc<Readers>,
    /// Writes.
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

/// Delivers, until it is stopped or dropped.
#[derive(Debug)]
pub struct Delivery {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Delivery {
    /// Starts its thread. A new configuration counts from the next try on.
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
            // A name that is still being resolved is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("ledger-deliver".into()).spawn(work);
        let thread = thread.map_err(|e| format!("no thread for deliveries: {e}"))?;
        Ok(Delivery { stop: Some(stop), thread: Some(thread) })
    }

    /// Begins no more tries, lets those under way end for a second, and marks what is known; blocks. The journal must
    /// still write.
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
