//! Opening the SQLite file: the lock, the kind of the file, its mode, its schema, and a sync of recovered data.
//!
//! A file that is not a ledger is never changed: its kind is read before anything is set.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use super::cells::failure;
use super::{forward, indexes};
use crate::store::StoreError;
use crate::store::schema::{INDEXES, SqlDialect, VERSION};

/// `toll`: marks the file as a ledger.
const APPLICATION: i64 = 0x746f_6c6c;

/// The longest wait of a statement for a lock that another connection holds.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// Bytes of the log's file that are kept for reuse.
const LOG_KEPT: i64 = 64 << 20;

/// Prepared statements that a connection keeps: more than there are.
pub(super) const STATEMENTS: usize = 64;

/// Takes the lock; `None` while another process has it. Dropping the file releases it, as does the kernel.
pub(super) fn lock(path: &Path) -> Result<Option<File>, StoreError> {
    let name = beside(path, ".lock");
    let said = |e: io::Error| StoreError::Row(format!("{}: {e}", name.display()));
    folder(path)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&name).map_err(said)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(said(e)),
    }
}

/// The identities of the database file and its lock file.
pub(super) struct Files([(PathBuf, (u64, u64)); 2]);

impl Files {
    /// The files as they are now.
    pub(super) fn now(path: &Path) -> Result<Files, StoreError> {
        let one = |path: PathBuf| {
            let which = which(&path).map_err(|e| StoreError::Row(format!("{}: {e}", path.display())))?;
            Ok((path, which))
        };
        Ok(Files([one(path.to_owned())?, one(beside(path, ".lock"))?]))
    }

    /// Checks that both are still in their place. A process that replaced one may have taken the lock, too.
    pub(super) fn are_there(&self) -> Result<(), StoreError> {
        for (path, was) in &self.0 {
            if which(path).ok() != Some(*was) {
                let path = path.display();
                return Err(StoreError::Poisoned(format!("{path} was removed or replaced while the ledger ran")));
            }
        }
        Ok(())
    }
}

fn which(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// A file beside the database.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the folder with access for its owner only.
fn folder(path: &Path) -> Result<(), StoreError> {
    let folder = parent(path);
    if folder.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder).and_then(|()| sync(parent(folder)));
    made.map_err(|e| StoreError::Row(format!("{}: {e}", folder.display())))
}

/// Syncs a folder, which makes its names durable.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether this version of SQLite may corrupt a file: fixed in 3.51.3, and 3.52.0 was withdrawn
/// (<https://sqlite.org/wal.html#walresetbug>).
fn resets_badly(version: i32) -> bool {
    version < 3_051_003 || version == 3_052_000
}

/// The writer's connection. Slow work on an older file is done only if there is `time`.
pub(super) fn writer(path: &Path, time: bool) -> Result<Connection, StoreError> {
    if resets_badly(rusqlite::version_number()) {
        let version = rusqlite::version();
        return Err(StoreError::Row(format!(
            "SQLite {version} may corrupt a file (walresetbug); link 3.51.3 or newer, but not 3.52.0"
        )));
    }
    let said = |e: io::Error| StoreError::Row(format!("{}: {e}", path.display()));
    // Only a new file is opened here: closing one that SQLite has open in this process would drop SQLite's locks.
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(file) => drop(file),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(said(e)),
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| of(path, &e))?;
    // Until the file is known to be ours and intact, closing it must not touch it.
    let touch = |no: bool| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, no);
    touch(true).map_err(|e| failure(&e))?;
    stable(&connection)?;
    named(&connection).map_err(|e| failure(&e))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(BUSY).map_err(|e| failure(&e))?;
    let found = what(&connection, path)?;
    settle(&connection)?;
    match found {
        What::Empty => create(&connection).map_err(|e| failure(&e))?,
        What::Older(version) => forward::bring(&connection, version, time)?,
        What::Ledger => {}
    }
    indexes::complete(&connection, time)?;
    durable(&connection, path)?;
    sync(parent(path)).map_err(|e| StoreError::Poisoned(format!("{}: {e}", path.display())))?;
    touch(false).map_err(|e| failure(&e))?;
    Ok(connection)
}

/// A connection that copies the log. It syncs as the writer's does, and leaves the final checkpoint to that one.
pub(super) fn copier(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        let _: i64 = connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |row| row.get(0))?;
        Ok(connection)
    };
    open().map_err(|e| of(path, &e))
}

/// Keeps prepared statements valid: otherwise SQLite compiles one anew for each new value that is compared with a
/// column of a partial index.
pub(super) fn stable(connection: &Connection) -> Result<(), StoreError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop).map_err(|e| failure(&e))
}

/// Restricts double quotes to names: SQLite would take the name of a removed column for a string.
pub(super) fn named(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false).map(drop)
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// An empty file.
    Empty,
    /// A ledger of this older schema.
    Older(i64),
    /// A ledger of this schema.
    Ledger,
}

/// The kind of the file; an error if it is not one of ours.
pub(super) fn what(connection: &Connection, path: &Path) -> Result<What, StoreError> {
    let read = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| of(path, &e));
    let (application, version) = (read("PRAGMA application_id")?, read("PRAGMA user_version")?);
    if application == APPLICATION {
        return match version {
            VERSION => Ok(What::Ledger),
            newer if newer > VERSION => Err(StoreError::Row(format!(
                "{}: made by a newer tollgate (schema {newer}, this one knows {VERSION}); run that one",
                path.display()
            ))),
            older => Ok(What::Older(older)),
        };
    }
    if application == 0 && read("SELECT COUNT(*) FROM sqlite_schema")? == 0 {
        return Ok(What::Empty);
    }
    Err(StoreError::Row(format!("{}: a database, but not a ledger of tollgate; name another file", path.display())))
}

/// An error at opening, with the file's name.
pub(super) fn of(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.display();
    match (error.sqlite_extended_error_code().map(|code| code & 0xff), failure(error)) {
        (Some(ffi::SQLITE_NOTADB), _) => StoreError::Row(format!("{path}: not a ledger, nor any database: {error}")),
        (_, StoreError::Poisoned(text)) => StoreError::Poisoned(format!("{path}: {text}")),
        (_, StoreError::Full(text)) => StoreError::Full(format!("{path}: {text}")),
        (_, StoreError::Lost(text) | StoreError::Row(text) | StoreError::Slow(text) | StoreError::Held(text)) => {
            StoreError::Row(format!("{path}: {text}"))
        }
    }
}

/// Sets how the file is written: to a log that is synced at each commit and copied into the file on our request.
fn settle(connection: &Connection) -> Result<(), StoreError> {
    let set = || {
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        connection.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536; \
             PRAGMA foreign_keys = OFF;",
        )?;
        let _: i64 = connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |row| row.get(0))?;
        // What a reader's view has made of the log is released once it is reused.
        let limit = format!("PRAGMA journal_size_limit = {LOG_KEPT}");
        let _: i64 = connection.query_row(&limit, [], |row| row.get(0))?;
        // Deleted wraps of keys leave nothing behind.
        let _: i64 = connection.query_row("PRAGMA secure_delete = ON", [], |row| row.get(0))?;
        let synchronous: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        Ok((mode, synchronous))
    };
    let (mode, synchronous) = set().map_err(|e: rusqlite::Error| failure(&e))?;
    if mode != "wal" || synchronous != 2 {
        return Err(StoreError::Row(format!(
            "SQLite keeps journal_mode {mode} and synchronous {synchronous}: this file system has no shared memory \
             for WAL; put the store on a local disk"
        )));
    }
    Ok(())
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let mut sql = "BEGIN IMMEDIATE;".to_owned();
    for statement in SqlDialect::Sqlite.tables().iter().map(String::as_str).chain(INDEXES.iter().copied()) {
        sql.push_str(statement);
        sql.push(';');
    }
    sql.push_str(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; COMMIT;"));
    connection.execute_batch(&sql)
}

/// Makes recovered data durable. A writer that failed to sync leaves rows in the log which may be in the page cache
/// only: the kernel takes such pages for clean, so syncing the *log* again would prove nothing. A checkpoint reads
/// them, writes them into the *database* and syncs that (`walCheckpoint`: `sqlite3OsSync(pWal->pDbFd)` once
/// `mxSafeFrame` is the last frame), and only then counts them as copied (`nBackfill`).
///
/// TRUNCATE waits for readers; FULL does not need the log to be free of them. Either has synced the database when as
/// many frames are copied as there are. A reader that holds an *older* view prevents copying beyond it. Then the index
/// in shared memory outlived the last writer, and it names only frames that were published after a successful sync of
/// the log (`sqlite3WalFrames` syncs before `walIndexWriteHdr`): they are durable in the log. It is synced once more
/// all the same.
fn durable(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    connection.busy_timeout(Duration::from_secs(3)).map_err(|e| failure(&e))?;
    let mut left = 0;
    for mode in ["TRUNCATE", "FULL"] {
        let (log, copied) = checkpoint(connection, mode).map_err(|e| failure(&e))?;
        if log < 0 {
            return Err(StoreError::Full("another program is checkpointing the ledger's file; end it".into()));
        }
        left = log - copied;
        if left == 0 {
            break;
        }
    }
    if left != 0 {
        log::warn!("ledger: a reader keeps {left} pages of the log from being copied; they stay in the log");
        // SQLite's locks are on other files: this one may be opened and closed beside it.
        let synced = File::open(beside(path, "-wal")).and_then(|log| log.sync_all());
        synced.map_err(|e| StoreError::Poisoned(format!("{}-wal: {e}", path.display())))?;
    }
    connection.busy_timeout(BUSY).map_err(|e| failure(&e))
}

/// Copies the log into the database; returns the pages of the log and those that are copied.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    let mut statement = connection.prepare_cached(match mode {
        "TRUNCATE" => "PRAGMA wal_checkpoint(TRUNCATE)",
        "FULL" => "PRAGMA wal_checkpoint(FULL)",
        "PASSIVE" => "PRAGMA wal_checkpoint(PASSIVE)",
        _ => "PRAGMA wal_checkpoint(NOOP)",
    })?;
    statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}

/// Copies all of the log and waits for readers to leave it; returns whether they did, and the counts of [`checkpoint`].
pub(super) fn restart(connection: &Connection) -> rusqlite::Result<(bool, i64, i64)> {
    left(connection, "PRAGMA wal_checkpoint(RESTART)")
}

/// Like [`restart`], and empties the log's file.
pub(super) fn truncate(connection: &Connection) -> rusqlite::Result<bool> {
    left(connection, "PRAGMA wal_checkpoint(TRUNCATE)").map(|(left, ..)| left)
}

fn left(connection: &Connection, sql: &str) -> rusqlite::Result<(bool, i64, i64)> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([], |row| Ok((row.get::<_, i64>(0)? == 0, row.get(1)?, row.get(2)?)))
}

#[cfg(test)]
mod tests {
    use super::resets_badly;

    #[test]
    fn libraries_with_the_reset_bug_are_known() {
        assert!(resets_badly(3_051_002) && resets_badly(3_052_000) && resets_badly(3_046_000));
        assert!(!resets_badly(3_051_003) && !resets_badly(3_053_000) && !resets_badly(3_054_001));
        assert!(!resets_badly(rusqlite::version_number()));
    }
}
