//! Makes indexes that a file of an older ledger lacks.
//!
//! SQLite makes an index in one transaction that excludes other writers: a second or two for each million rows that it
//! covers. So a large file gets its indexes before the ledger opens the books, while senders of callbacks are asked to
//! try again; each index is logged. Sorting uses temporary files where there is room for them (`SQLITE_TMPDIR`,
//! `/var/tmp`), else memory.

use std::time::Duration;

use rusqlite::Connection;

use super::cells::failure;
use super::open;
use crate::store::schema::{FEW, INDEXES, index_name};
use crate::store::{StoreError, sql};
use base::clock;

/// Makes the missing indexes. If that takes long and there is no `time`, it only returns an error.
pub(super) fn complete(connection: &Connection, time: bool) -> Result<(), StoreError> {
    let missing = missing(connection).map_err(|e| failure(&e))?;
    if missing.is_empty() {
        return Ok(());
    }
    let rows = rows(connection)?;
    let count = missing.len();
    if rows > FEW && !time {
        return Err(StoreError::Full(format!(
            "{count} indexes are missing over {rows} rows: they are made now, callbacks are answered 503 until they are \
             there"
        )));
    }
    for (at, sql) in missing.into_iter().enumerate() {
        let (name, began) = (index_name(sql), clock::now());
        log::warn!("ledger: making the index {name} ({} of {count}) over {rows} rows", at + 1);
        make(connection, sql).map_err(|e| failure(&e))?;
        log::warn!("ledger: the index {name} is there after {:.1} s", clock::now().since(began).as_secs_f64());
    }
    Ok(())
}

/// The number of rows of all tables together.
pub(super) fn rows(connection: &Connection) -> Result<i64, StoreError> {
    connection.query_row(sql::ROWS, [], |row| row.get(0)).map_err(|e| failure(&e))
}

fn missing(connection: &Connection) -> rusqlite::Result<Vec<&'static str>> {
    let mut names = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'index'")?;
    let there = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(INDEXES.iter().copied().filter(|sql| !there.iter().any(|name| name == index_name(sql))).collect())
}

fn make(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA temp_store = FILE")?;
    let made = connection.execute_batch(sql);
    connection.execute_batch("PRAGMA temp_store = MEMORY")?;
    if let Err(e) = made {
        log::warn!("ledger: not by temporary files: {e}");
        connection.execute_batch(sql)?;
    }
    // Each index has been in the log as a whole: the next writes begin with an empty one.
    connection.busy_timeout(Duration::ZERO)?;
    open::checkpoint(connection, "TRUNCATE")?;
    connection.busy_timeout(open::BUSY)
}
