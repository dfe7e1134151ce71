//! Deletes wraps of keys, and leaves as little of them in the store as the engine allows.
//!
//! It runs beside a writing ledger or without one. Wraps are outside of the chain, and a running ledger reads them at
//! its start only, so this needs no lock. The caller must name what neither engine can reach: backups, archived logs,
//! and what a disk keeps of freed blocks.

use super::{StoreError, postgres, sqlite};
use config::model::ledger as model;

/// The wraps to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// The wraps of a day's data keys.
    Day(&'a str),
    /// The wraps by other encryption keys, of keys that this one wraps.
    NotBy(&'a str),
}

impl Which<'_> {
    /// The SQL condition, on `$1`, and its value.
    pub(super) fn sql(&self) -> (&'static str, &str) {
        match self {
            Which::Day(day) => ("purpose = 'data' AND day = $1", day),
            Which::NotBy(by) => ("wrapped_by <> $1 AND id IN (SELECT id FROM keys WHERE wrapped_by = $1)", by),
        }
    }
}

/// The result of an erasure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// The number of deleted wraps.
    pub wraps: u64,
    /// What the store may still hold of them, and what to do about it; `None` if nothing that can be reached.
    pub rest: Option<String>,
}

/// Deletes these wraps.
pub fn erase(store: &model::Store, which: Which<'_>) -> Result<Erased, StoreError> {
    match store {
        model::Store::Sqlite(path) => sqlite::erase(path, which),
        model::Store::Postgres { url, password } => postgres::erase(url, password.as_ref(), which),
    }
}
