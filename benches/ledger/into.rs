//! Rows into a store, faster than a ledger may: nothing is synced, and indexes are made at the end.

pub mod postgres;
pub mod sqlite;

use super::fill::{Chunk, End};

/// Takes rows.
pub trait Sink {
    /// Writes some.
    fn put(&mut self, chunk: &Chunk) -> Result<(), String>;
    /// Writes what is derived, and makes the store what a ledger opens.
    fn end(&mut self, end: &End) -> Result<(), String>;
}
