//! A connection that changes what lies outside of the chain, beside a writing ledger or without one.

use crate::rows::Value;
use crate::store::{StoreError, postgres, sqlite};
use config::model::ledger as model;

/// A statement with its values; valid in both engines, with `$1`, `$2` … in the order of their first use.
pub type Statement<'a> = (&'a str, &'a [Value]);

/// The operator's side of a store. All calls block.
pub trait Operator {
    /// Runs these statements in one durable transaction; it is short, so that a writer waits for it.
    fn run(&mut self, statements: &[Statement<'_>]) -> Result<(), StoreError>;
}

/// Opens a store of this version.
pub fn open(store: &model::Store) -> Result<Box<dyn Operator>, StoreError> {
    Ok(match store {
        model::Store::Sqlite(path) => Box::new(sqlite::SqliteOperator::open(path)?),
        model::Store::Postgres { url, password } => Box::new(postgres::PostgresOperator::open(url, password.as_ref())?),
    })
}
