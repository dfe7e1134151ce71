//! The **deliver** stage, which sends events to merchants: at least once, and in order within an order.
//!
//! | module | is |
//! |---|---|
//! | [`address`] | where events go, of the configuration and of the books |
//! | [`backoff`] | the state of an event after an attempt (pure) |
//! | [`scheduler`] | the choice of events to send next, and of questions to the store (pure) |
//! | [`due`] | what is due, in SQL |
//! | [`parcel`], [`pace`] | an event on its way to one address, and the rate of an address (pure) |
//! | `results` | the ends of attempts, on their way to the marks |
//! | [`run`] | the loop that joins them |
//!
//! It has a thread and a runtime of its own, so that a slow merchant slows nothing else, and works only while this
//! process writes the books. Attempts that a process could not mark are repeated by the next one: a merchant detects
//! repetitions by `webhook-id`. A merchant that is no longer configured gets nothing, and its events wait.

pub mod address;
pub mod backoff;
pub mod due;
pub mod pace;
pub mod parcel;
mod results;
pub mod run;
pub mod scheduler;

use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use self::due::{DueEvents, Question};
use self::run::Run;
use super::endpoints::settings::Settings;
use super::journal::{CommitError, Journal, Marks, OutboxNews, Standing};
use super::keys::DataKey;
use super::query;
use super::rows::Endpoint;
use super::store::{Readers, StoreError};
use base::clock;
use config::model::ledger::Ledger;
use http_client::webhook::Sender;

/// The source of events, to which their results go back.
pub trait Outbox: Send + Sync + 'static {
    /// Whether this process writes the books.
    fn active(&self) -> bool;
    /// Reads what is due; blocks.
    fn ask(&self, question: &Question) -> Result<DueEvents, StoreError>;
    /// Reads the endpoints that are not deleted; blocks.
    fn endpoints(&self) -> Result<Vec<(Endpoint, Settings)>, StoreError>;
    /// The key that encrypts answers now; `None` while another process writes the books.
    fn sealing(&self) -> Option<Arc<DataKey>>;
    /// Writes new states of events; returns after the commit.
    fn mark(&self, marks: Marks) -> impl Future<Output = Result<(), CommitError>> + Send;
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

    fn endpoints(&self) -> Result<Vec<(Endpoint, Settings)>, StoreError> {
        // Without the books there is nothing to send.
        let Some(ring) = self.journal.ring() else { return Ok(vec![]) };
        let rows: Vec<Endpoint> =
            self.readers.with(|reader| query::rows(reader, " WHERE deleted_at IS NULL ORDER BY seq", &[]))?;
        let opened = rows.into_iter().filter_map(|row| {
            let settings = ring.unseal_settings(row.id, &row.settings).and_then(|bytes| Settings::from_bytes(&bytes));
            if settings.is_none() {
                log::error!("ledger: endpoint {} cannot be read; its events wait", row.id);
            }
            settings.map(|settings| (row, settings))
        });
        Ok(opened.collect())
    }

    fn sealing(&self) -> Option<Arc<DataKey>> {
        self.journal.ring()?.today(clock::wall_ms()).ok()
    }

    async fn mark(&self, marks: Marks) -> Result<(), CommitError> {
        self.journal.mark(marks).await
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
