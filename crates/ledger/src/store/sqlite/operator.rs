//! An operator's connection to an SQLite file. The file must be open nowhere else in this process: closing it would drop
//! SQLite's locks.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::cells::{BoundValue, failure};
use super::open::{self, What};
use crate::store::StoreError;
use crate::store::operator::{Operator, Statement};

/// An operator's connection.
pub struct SqliteOperator(Connection);

/// Opens a file of this version for changes beside a writer.
pub(super) fn connection(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| open::of(path, &e))?;
    if open::what(&connection, path)? != What::Ledger {
        return Err(StoreError::Row(format!("{}: no ledger of this version; start the ledger once", path.display())));
    }
    connection.busy_timeout(open::BUSY).map_err(|e| failure(&e))?;
    Ok(connection)
}

impl SqliteOperator {
    /// Opens a file of this version.
    pub fn open(path: &Path) -> Result<SqliteOperator, StoreError> {
        let connection = connection(path)?;
        connection.execute_batch("PRAGMA synchronous = FULL").map_err(|e| failure(&e))?;
        Ok(SqliteOperator(connection))
    }
}

impl Operator for SqliteOperator {
    fn run(&mut self, statements: &[Statement<'_>]) -> Result<(), StoreError> {
        let mut run = || {
            let transaction = self.0.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for (sql, values) in statements {
                transaction.prepare_cached(sql)?.execute(params_from_iter(values.iter().map(BoundValue)))?;
            }
            transaction.commit()
        };
        run().map_err(|e: rusqlite::Error| failure(&e))
    }
}
