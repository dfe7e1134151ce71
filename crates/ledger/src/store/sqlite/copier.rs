//! Copies the write-ahead log into the database beside the writer, on a connection and a thread of its own.
//!
//! The log is reused only if all of it is copied at the moment a batch begins, which only the writer can arrange. So
//! the copier takes what there is, however much a reader's view has kept back, and the writer takes the little that
//! came meanwhile. A disk error here is as serious as one of a commit: the writer asks for it before each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::cells::failure;
use super::open;
use crate::store::StoreError;

/// A thread that copies the log.
pub(super) struct Copier {
    ask: Option<Sender<()>>,
    shared: Arc<CopierState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct CopierState {
    busy: AtomicBool,
    failed: Mutex<Option<StoreError>>,
}

impl Copier {
    /// Starts a copier for a file that is open here and whose lock is ours.
    pub(super) fn start(path: &Path) -> Result<Copier, StoreError> {
        let connection = open::copier(path)?;
        let shared = Arc::new(CopierState::default());
        let (ask, asked) = channel();
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("ledger-copier".into());
        let thread = thread.spawn(move || work(&connection, &asked, &of_thread));
        let thread = thread.map_err(|e| StoreError::Full(format!("a thread that copies the log: {e}")))?;
        Ok(Copier { ask: Some(ask), shared, thread: Some(thread) })
    }

    /// Asks for a copy of what there is, as far as readers let it.
    pub(super) fn copy(&self) {
        self.shared.busy.store(true, Ordering::Release);
        // A thread that has ended is no longer needed.
        if self.ask.as_ref().is_none_or(|ask| ask.send(()).is_err()) {
            self.shared.busy.store(false, Ordering::Release);
        }
    }

    /// Whether a copy is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.shared.busy.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(super) fn fail(&self, why: &str) {
        *self.shared.failed.lock() = Some(StoreError::Poisoned(why.into()));
    }

    /// The error by which a copy failed.
    pub(super) fn failed(&self) -> Option<StoreError> {
        self.shared.failed.lock().clone()
    }
}

fn work(connection: &Connection, asked: &Receiver<()>, shared: &CopierState) {
    while asked.recv().is_ok() {
        match open::checkpoint(connection, "PASSIVE").map_err(|e| failure(&e)) {
            Ok(_) => {}
            // Commits are durable in the log: a full disk only keeps them from being copied.
            Err(StoreError::Full(why)) => log::warn!("ledger: the log cannot be copied into the database: {why}"),
            Err(other) => *shared.failed.lock() = Some(other),
        }
        shared.busy.store(false, Ordering::Release);
    }
}

impl Drop for Copier {
    /// Ends the thread first, so that the writer's connection is the last to close.
    fn drop(&mut self) {
        drop(self.ask.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("ledger: who copies the log panicked");
        }
    }
}
