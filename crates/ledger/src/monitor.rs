//! The **monitor**, which watches the anchor, the disk, the clock and what waits, while the books are written.
//!
//! | module | is |
//! |---|---|
//! | [`ticker`] | the work of each second |
//! | [`queries`] | what waits, in SQL |
//! | [`alarms`] | when an alarm is sent (pure) |
//!
//! It has a thread of its own, which decides nothing in the books: anomalies go to the journal, alarms to `[notify.*]`.
//! Another thread verifies the books, at start and hourly, at low priority.

pub mod alarms;
pub mod queries;
pub mod ticker;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Runtime;

use self::ticker::{MonitorState, Ticker};
pub use self::ticker::{Parts, Tell, Verification};
use super::anchor::Anchor;
use super::journal::{CommitError, Journal, Marks, Raised, Standing};
use super::store::{Reader, Readers, StoreError};
use base::clock;
use config::model::ledger::{Ledger, Store};

/// Time between two looks.
const TICK: Duration = Duration::from_secs(1);
/// Time for the last anchor, unless the caller gives another.
const LAST: Duration = Duration::from_secs(5);
/// Time that the journal has to raise an anomaly.
const RAISE: Duration = Duration::from_secs(5);

/// The books as the monitor sees them. All calls may block.
pub trait Watched: Send + 'static {
    /// Whether this process writes.
    fn standing(&self) -> Standing;
    /// The chain's end on the disk.
    fn head(&self) -> Option<(i64, Vec<u8>)>;
    /// When the last row was recorded; 0 if unknown.
    fn recorded_at(&self) -> i64;
    /// Opens anomalies, in one commit; false if it is unknown whether they were written: they may be, later. While an
    /// earlier request has no answer, none is sent. So look anew for what to raise.
    fn raise(&self, raised: Vec<Raised>) -> bool;
    /// Runs a read.
    fn read<T>(&self, read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError>) -> Result<T, StoreError>;
}

/// The real books.
#[derive(Debug)]
pub struct MonitoredBooks {
    readers: Arc<Readers>,
    journal: Journal,
    runtime: Runtime,
    pending: Pending,
}

/// A request to the journal that has no answer yet.
#[derive(Default)]
struct Pending(Mutex<Option<Asking>>);

type Asking = Pin<Box<dyn Future<Output = Result<(), CommitError>> + Send>>;

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending({})", self.0.lock().is_some())
    }
}

impl Pending {
    /// Sends a request and waits for a while. If an earlier one has no answer yet, it only checks for that answer.
    fn ask(&self, runtime: &Runtime, ask: impl FnOnce() -> Asking, patience: Duration) -> bool {
        let mut pending = self.0.lock();
        let (mut asked, is_new) = match pending.take() {
            Some(before) => (before, false),
            None => (ask(), true),
        };
        let patience = if is_new { patience } else { Duration::ZERO };
        match runtime.block_on(async { tokio::time::timeout(patience, &mut asked).await }) {
            Ok(answer) => is_new && answer.is_ok(),
            Err(_) => {
                *pending = Some(asked);
                false
            }
        }
    }
}

impl MonitoredBooks {
    /// The books behind these readers and this journal.
    pub fn new(readers: Arc<Readers>, journal: Journal) -> std::io::Result<MonitoredBooks> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(MonitoredBooks { readers, journal, runtime, pending: Pending::default() })
    }
}

impl Watched for MonitoredBooks {
    fn standing(&self) -> Standing {
        self.journal.standing()
    }

    fn head(&self) -> Option<(i64, Vec<u8>)> {
        self.journal.head()
    }

    fn recorded_at(&self) -> i64 {
        self.journal.recorded_at()
    }

    fn raise(&self, raised: Vec<Raised>) -> bool {
        let journal = self.journal.clone();
        let ask = || -> Asking { Box::pin(async move { journal.mark(Marks { raised, ..Marks::default() }).await }) };
        self.pending.ask(&self.runtime, ask, RAISE)
    }

    fn read<T>(&self, read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.readers.with(read)
    }
}

/// The folder whose disk the ledger fills: that of the store's file, or `state_dir` for a database elsewhere.
pub fn folder(ledger: &Ledger) -> PathBuf {
    match &ledger.store {
        Store::Sqlite(path) => path.parent().unwrap_or(&ledger.state_dir).to_owned(),
        Store::Postgres { .. } => ledger.state_dir.clone(),
    }
}

/// The monitor's thread, until it is stopped or dropped.
#[derive(Debug)]
pub struct Monitor {
    shared: Arc<Mutex<MonitorState>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts the thread.
    pub fn start(books: impl Watched, parts: Parts) -> std::io::Result<Monitor> {
        let shared = Arc::new(Mutex::new(MonitorState::default()));
        let mut watch = Ticker::new(books, parts, Arc::clone(&shared));
        let (stop, stopped) = channel();
        let work = move || loop {
            watch.tick(clock::now(), wall_ms());
            if stopped.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                return watch.end(wall_ms());
            }
        };
        let thread = std::thread::Builder::new().name("ledger-monitor".into()).spawn(work)?;
        Ok(Monitor { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The anchor that is on the disk, as far as it is known.
    pub fn anchored(&self) -> Option<Anchor> {
        self.shared.lock().anchored.clone()
    }

    /// The last verification.
    pub fn verified(&self) -> Option<Verification> {
        self.shared.lock().verified.clone()
    }

    /// Writes the anchor once more, and ends; blocks for `at_most`, since a disk may hang. The journal must have ended
    /// its last commit.
    pub fn stop(mut self, at_most: Duration) {
        self.end(at_most);
    }

    /// Ends without waiting, since the thread may hang with the disk. An unwritten anchor is missed only by the next
    /// comparison.
    pub fn leave(mut self) {
        drop(self.stop.take());
        drop(self.thread.take());
    }

    fn end(&mut self, at_most: Duration) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        let until = clock::now().after(at_most);
        while !thread.is_finished() && clock::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !thread.is_finished() {
            log::error!("ledger: the monitor hangs with the disk; the anchor is older than the books");
        } else if thread.join().is_err() {
            log::error!("ledger: the monitor panicked; the anchor is older than the books");
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.end(LAST);
    }
}

fn wall_ms() -> i64 {
    i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
