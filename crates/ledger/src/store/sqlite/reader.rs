//! Readers of the SQLite file, which need no lock and change nothing, whether a ledger runs on it or not.
//!
//! A reader sees what is in the log too, even after a crash. It never checkpoints, nor does it remove the log when it
//! is the last to close. Beside a cleanly closed file it leaves an empty log and its index, as every SQLite reader
//! does. In a folder where it may not write, and without a log, it reads the file as immutable.

use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use super::cells::{BoundValue, cells, failure};
use super::open::{self, What};
use crate::rows::{Type, Value};
use crate::store::{OLDER, Reader, StoreError};
use base::clock;

/// Characters that have another meaning in SQLite's `file:` URIs.
const NOT_IN_URI: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ');

/// Instructions of SQLite's virtual machine between two looks at the clock: well below a millisecond.
const LOOK: i32 = 10_000;

/// Time between two views: the log can be reused only while none is open, and its writer looks more often than this.
const PAUSE: Duration = Duration::from_millis(2);

/// A reader's connection.
pub struct SqliteReader {
    connection: Connection,
}

impl SqliteReader {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Box<dyn Reader>, StoreError> {
        let none =
            || StoreError::Row(format!("there is no ledger at {} yet; `tollgate ledger run` makes it", path.display()));
        if !path.exists() {
            return Err(none());
        }
        let connection = match connect(path, false) {
            Err(e) if is_shut(&e) && !open::beside(path, "-wal").exists() => connect(path, true),
            other => other,
        };
        let connection = connection.map_err(|e| open::of(path, &e))?;
        match open::what(&connection, path)? {
            What::Ledger => Ok(Box::new(SqliteReader { connection })),
            What::Older(_) => Err(StoreError::Row(format!("{}: {OLDER}", path.display()))),
            What::Empty => Err(none()),
        }
    }
}

/// Whether the folder does not let SQLite make the log's index.
fn is_shut(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_extended_error_code().map_or(0, |code| code & 0xff);
    [ffi::SQLITE_CANTOPEN, ffi::SQLITE_READONLY, ffi::SQLITE_PERM].contains(&code)
}

fn connect(path: &Path, immutable: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if immutable {
        let path = path.to_string_lossy();
        let uri = format!("file:{}?immutable=1", utf8_percent_encode(&path, NOT_IN_URI));
        Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?
    } else {
        Connection::open_with_flags(path, flags)?
    };
    connection.set_prepared_statement_cache_capacity(open::STATEMENTS);
    connection.busy_timeout(open::BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    open::named(&connection)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA temp_store = MEMORY;")?;
    // The first read of the file shows whether it can be read at all.
    connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

impl Reader for SqliteReader {
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            // `$1` is a name to SQLite, numbered by its first use.
            for (at, value) in values.iter().enumerate() {
                statement.raw_bind_parameter(at + 1, BoundValue(value))?;
            }
            let mut rows = statement.raw_query();
            let mut found = vec![];
            while let Some(row) = rows.next()? {
                found.push(cells(row, types.len())?);
            }
            Ok(found)
        };
        read().map_err(|e: rusqlite::Error| failure(&e))
    }

    fn limit(&mut self, at_most: Duration) -> Result<(), StoreError> {
        let until = clock::now().after(at_most);
        let handler = Some(move || clock::now() > until);
        self.connection.progress_handler(LOOK, handler).map_err(|e| failure(&e))
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        self.end();
        // A transaction begins with its first read.
        let begin = "BEGIN DEFERRED; SELECT COUNT(*) FROM sqlite_schema;";
        self.connection.execute_batch(begin).map_err(|e| failure(&e))
    }

    fn pause(&mut self) {
        std::thread::sleep(PAUSE);
    }

    fn end(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(e) = self.connection.execute_batch("COMMIT")
        {
            log::debug!("ledger: a reader's view could not be ended: {e}");
        }
    }
}
