//! Deletes wraps of keys in an SQLite file, by a connection of its own.
//!
//! Deleted rows are overwritten (`secure_delete`), and the log, which holds the older pages, is emptied. But a page
//! that was split keeps what was moved out of it, where no deletion reaches. So all wraps are deleted, which overwrites
//! every page of the table, and those that stay are written anew. The file must be open nowhere else in this process:
//! closing it would drop SQLite's locks.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::open;
use super::operator;
use crate::store::StoreError;
use crate::store::erase::{Erased, Which};
use base::clock;

/// The length of a try to empty the log, and the time between two; a verification's views are shorter. If all of the
/// log is copied, a view that begins during a try does not use the log.
const TRY: Duration = Duration::from_millis(200);

/// Deletes these wraps.
pub fn erase(path: &Path, which: Which<'_>) -> Result<Erased, StoreError> {
    let connection = operator::connection(path)?;
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

/// Empties the log; false if that fails. It takes short tries, because a wait for readers keeps the writer out
/// meanwhile, and SQLite does not let one wait for another that copies the log, which the ledger's copier may do for
/// long.
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
