//! Deletes wraps of keys by a connection of its own.
//!
//! What is deleted is overwritten (`secure_delete`), and the log, which holds the pages as they were, is emptied. But a page
//! that was split keeps what was moved out of it, where no deletion reaches: so all wraps are deleted, which overwrites
//! every page of the table, and those that stay are written anew. This is for a process that has the file open nowhere
//! else: closing it would drop SQLite's locks.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::cells::failure;
use super::open::{self, What};
use crate::store::StoreError;
use crate::store::erase::{Erased, Which};
use base::clock;

/// A try to empty the log, and the time between two: views of a verification are shorter. While it lasts a new view does
/// not look into the log, if all of it is copied.
const TRY: Duration = Duration::from_millis(200);

/// Deletes them.
pub fn erase(path: &Path, which: Which<'_>) -> Result<Erased, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| open::of(path, &e))?;
    if open::what(&connection, path)? != What::Ledger {
        return Err(StoreError::Row(format!("{}: no ledger of this version; start the ledger once", path.display())));
    }
    connection.busy_timeout(open::BUSY).map_err(|e| failure(&e))?;
    let (condition, value) = which.sql();
    let run = || {
        connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA synchronous = FULL; BEGIN IMMEDIATE")?;
        let wraps = connection.execute(&format!("DELETE FROM keys WHERE {condition}"), [value])?;
        connection.execute_batch(
            "CREATE TEMP TABLE rest AS SELECT * FROM main.keys; DELETE FROM main.keys; \
             INSERT INTO main.keys SELECT * FROM rest; COMMIT",
        )?;
        Ok((wraps, emptied(&connection)?))
    };
    let (wraps, emptied) = run().map_err(|e: rusqlite::Error| open::of(path, &e))?;
    let rest = (!emptied).then(|| {
        "the write-ahead log could not be emptied while others read or write, and may hold them; run the command again, or \
         start the ledger again"
            .to_owned()
    });
    Ok(Erased { wraps: wraps as u64, rest })
}

/// Empties the log; false where it cannot be. That is tried again and again: who waits for readers keeps the writer out
/// meanwhile, and SQLite lets nobody wait for another who copies the log, as the ledger's copier may for long.
fn emptied(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(TRY)?;
    let until = clock::now().after(open::BUSY);
    while !open::truncate(connection)? {
        if clock::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(TRY);
    }
    Ok(true)
}
