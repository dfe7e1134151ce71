//! Deletes wraps of keys, whether a ledger writes meanwhile or not, and leaves as little of them as the engine lets.
//!
//! Wraps lie outside of the chain, and a ledger that runs reads them at its start only: so this needs no lock. What
//! neither engine can reach is for the caller to say: backups, archived logs, what a disk keeps of blocks it let go.

use super::{StoreError, postgres, sqlite};
use config::model::ledger as model;

/// Which wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// Those of a day's data keys.
    Day(&'a str),
    /// Those by other encryption keys, of keys that this one wraps.
    NotBy(&'a str),
}

impl Which<'_> {
    /// The condition, on `$1`, and its value.
    pub(super) fn sql(&self) -> (&'static str, &str) {
        match self {
            Which::Day(day) => ("purpose = 'data' AND day = $1", day),
            Which::NotBy(by) => ("wrapped_by <> $1 AND id IN (SELECT id FROM keys WHERE wrapped_by = $1)", by),
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Wraps that were deleted.
    pub wraps: u64,
    /// What the store may still hold of them, and what to do; `None`: nothing that can be reached.
    pub rest: Option<String>,
}

/// Deletes them.
pub fn erase(store: &model::Store, which: Which<'_>) -> Result<Erased, StoreError> {
    match store {
        model::Store::Sqlite(path) => sqlite::erase(path, which),
        model::Store::Postgres { url, password } => postgres::erase(url, password.as_ref(), which),
    }
}
