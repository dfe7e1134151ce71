//! Deletes wraps of keys by a connection of its own.
//!
//! What is deleted is overwritten (`secure_delete`), and the log, which holds the pages as they were, is emptied. This is
//! for a process that has the file open nowhere else: closing it would drop SQLite's locks.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::cells::failure;
use super::open::{self, What};
use crate::ledger::store::Failure;
use crate::ledger::store::erase::{Erased, Which};

/// Deletes them.
pub fn erase(path: &Path, which: Which<'_>) -> Result<Erased, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| open::of(path, &e))?;
    if open::what(&connection, path)? != What::Ledger {
        return Err(Failure::Row(format!("{}: no ledger of this version; start the ledger once", path.display())));
    }
    connection.busy_timeout(open::BUSY).map_err(|e| failure(&e))?;
    let (condition, value) = which.sql();
    let run = || {
        connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL; BEGIN IMMEDIATE")?;
        let wraps = connection.execute(&format!("DELETE FROM keys WHERE {condition}"), [value])?;
        connection.execute_batch("COMMIT")?;
        Ok((wraps, open::checkpoint(&connection, "TRUNCATE")?))
    };
    let (wraps, (log, _)) = run().map_err(|e: rusqlite::Error| open::of(path, &e))?;
    let rest = (log != 0).then(|| {
        "the write-ahead log could not be emptied while others read or write, and may hold them; run the command again, or \
         start the ledger again"
            .to_owned()
    });
    Ok(Erased { wraps: wraps as u64, rest })
}
