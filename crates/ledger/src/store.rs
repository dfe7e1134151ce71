//! Where the books are kept: one writer's view of two engines, SQLite and PostgreSQL.
//!
//! A store knows rows and cells; it decides nothing. The writer calls, for each batch: [`Store::begin`],
//! [`Store::load`], [`Store::write`] for its rows and for what is summed over it, and [`Store::commit`]. A batch that was
//! refused is written once more, each callback apart ([`Grouping`]). After any error the writer calls
//! [`Store::rollback`] and reads [`Store::heads`] anew.
//!
//! Only the holder of the lock has a `Store`: [`open`] returns `None` while another process holds it.

pub mod erase;
pub mod postgres;
pub mod schema;
mod sql;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::event::Kind;
use super::rows::{Anomaly, BalanceRow, Link, Order, Outgoing, Row, Transaction, Type, Update, Value, Wrap};
use config::model::ledger as model;

/// Why a store did not do as it was told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// This statement failed, the store is well: a constraint, a value it does not take.
    #[error("{0}")]
    Row(String),
    /// The disk is full, or the store is taken for a while: nothing of this batch is kept, the next one may be.
    #[error("the store takes nothing now: {0}")]
    Full(String),
    /// The store is of an older version, and is read by somebody who keeps it from being brought up to date.
    #[error("{0}")]
    Held(String),
    /// The connection, or the lock, is lost, perhaps within a commit: stand by, and open anew.
    #[error("the store is lost: {0}")]
    Lost(String),
    /// A read took longer than it may ([`Reader::limit`]), or somebody ended it.
    #[error("it was ended: {0}")]
    Slow(String),
    /// It could not be made durable. Nothing may be written or acknowledged any more by this process.
    #[error("the store failed: {0}")]
    Poisoned(String),
}

/// How callbacks of a batch that was refused are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// One by one, each within a savepoint.
    Each,
    /// All at once; after a failure, one transaction for each.
    Whole,
}

/// Names a transaction by what it means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeaningKey {
    /// `stripe`, `alipay` …
    pub provider: &'static str,
    /// app_id, mchid …
    pub account: String,
    /// What happened.
    pub kind: Kind,
    /// Unique within the three others.
    pub key: String,
}

/// What `book` wants to know before it decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Transactions by meaning.
    pub keys: Vec<MeaningKey>,
    /// Channel and out_trade_no: the order.
    pub orders: Vec<(String, String)>,
    /// Channel and out_trade_no: every `payment` transaction (any state) with that number.
    pub trades: Vec<(String, String)>,
    /// Provider, kind and the provider's number: every transaction with it, whatever its account.
    pub numbers: Vec<(&'static str, Kind, String)>,
    /// Provider, account (or any) and `of`: every parked transaction that waits for it.
    pub waiting: Vec<(&'static str, Option<String>, String)>,
}

/// The answer; without order, each row once or more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// All transactions that were asked for.
    pub transactions: Vec<Transaction>,
    /// The orders asked for, and those of the transactions.
    pub orders: Vec<Order>,
}

/// What is to be written, in this order: rows by `seq`, then the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// New rows.
    pub rows: Vec<Row>,
    /// New links of the chain.
    pub links: Vec<Link>,
    /// New state of rows that are there; of two for one row the later one counts.
    pub updates: Vec<Update>,
    /// New balances of accounts, as they are from here on (not by how much they changed).
    pub balances: Vec<BalanceRow>,
    /// New wraps of keys.
    pub wraps: Vec<Wrap>,
}

/// Where the books end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heads {
    /// The last row's `seq`; 0 in an empty store.
    pub seq: i64,
    /// The last link; empty in an empty store.
    pub link: Vec<u8>,
    /// The largest `recorded_at` or `opened_at`; 0 in an empty store.
    pub recorded_at: i64,
    /// Every balance.
    pub balances: Vec<BalanceRow>,
    /// What is waited for: `of` of parked transactions, each once or more; no more than [`Heads::WAITED_MAX`] and one.
    pub waited: Vec<String>,
}

impl Heads {
    /// So many names of what is waited for are known at most.
    pub const WAITED_MAX: usize = 4_096;
}

/// The writer's side. All calls block.
pub trait Store: Send {
    /// How callbacks of one batch are kept apart.
    fn grouping(&self) -> Grouping;
    /// Where the books end.
    fn heads(&mut self) -> Result<Heads, StoreError>;
    /// Every wrap of every key.
    fn wraps(&mut self) -> Result<Vec<Wrap>, StoreError>;
    /// Begins a transaction. PostgreSQL: with the first call after it, and with the epoch's row locked, so that a writer that was
    /// replaced stops there.
    fn begin(&mut self) -> Result<(), StoreError>;
    /// Begins a callback's part of it ([`Grouping::Each`]).
    fn savepoint(&mut self) -> Result<(), StoreError>;
    /// Ends a callback's part, kept or not. After an error of the disk there may be no transaction left to go back
    /// in: then the error says so ([`StoreError::Full`] or [`StoreError::Poisoned`]).
    fn release(&mut self, keep: bool) -> Result<(), StoreError>;
    /// Reads what is asked for, as it is within this transaction.
    fn load(&mut self, asked: &Wanted) -> Result<Loaded, StoreError>;
    /// Writes.
    fn write(&mut self, changes: &Changes) -> Result<(), StoreError>;
    /// Makes all of it durable, or says that it may not be.
    fn commit(&mut self) -> Result<(), StoreError>;
    /// Takes all of it back.
    fn rollback(&mut self);
    /// Events of the outbox, by id.
    fn events(&mut self, ids: &[Uuid]) -> Result<Vec<Outgoing>, StoreError>;
    /// Anomalies, by id.
    fn anomalies(&mut self, ids: &[Uuid]) -> Result<Vec<Anomaly>, StoreError>;
    /// Called about every second while there is nothing to write: keeps the connection (and the lock) alive, and
    /// checkpoints.
    fn idle(&mut self) -> Result<(), StoreError>;
}

/// A reader's side: `$1`, `$2` … in the order of their first use, in SQL that both engines take. PostgreSQL takes a
/// parameter that may be null only where a column shows its type (`"of" IS NOT DISTINCT FROM $1`, not `$1 IS NULL`), and
/// its sums of numbers are to be cast (`CAST(SUM(…) AS TEXT)`).
pub trait Reader: Send {
    /// Rows of a SELECT, cells by `types`.
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError>;
    /// From now on it is asked for few rows of large tables only: each is to be found by an index, whatever the engine
    /// knows, or does not know yet, of their sizes.
    fn points(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    /// From now on it may read for so long; then it is ended by [`StoreError::Slow`].
    fn limit(&mut self, _at_most: Duration) -> Result<(), StoreError> {
        Ok(())
    }
    /// Whether it can be asked: a server may have gone since it was.
    fn lives(&mut self) -> bool {
        true
    }
    /// From now on every select sees the books as they are now, until [`Reader::end`].
    fn snapshot(&mut self) -> Result<(), StoreError>;
    /// Ends what [`Reader::snapshot`] began.
    fn end(&mut self);
    /// Between two views of many: leaves the store to others for a moment.
    fn pause(&mut self) {}
}

/// What a reader says of a store that no ledger of this version has written to yet.
const OLDER: &str = "of an older tollgate: until a `tollgate ledger run` or `tollgate run` of this one has brought it up to \
    date, the older one reads it";

/// Why a large store of an older version is not brought up to date at once.
fn later(rows: i64) -> StoreError {
    StoreError::Full(format!(
        "the store of an older tollgate has {rows} rows: it is brought up to date now, callbacks are answered 503 until that \
         is done"
    ))
}

/// Opens the store for writing: takes the lock, makes it if it is not there, brings its schema up to date, and makes what
/// was recovered durable. `None` while another process holds the lock. A large store of an older version takes a
/// second or so for each million events. Indexes that a large store lacks take minutes: SQLite makes them here, PostgreSQL
/// beside the writer.
pub fn open(store: &model::Store) -> Result<Option<Box<dyn Store>>, StoreError> {
    match store {
        model::Store::Sqlite(path) => sqlite::Sqlite::open(path, true),
        model::Store::Postgres { url, password } => postgres::Postgres::open(url, password.as_ref(), true),
    }
}

/// As [`open`]; but where that would take long it says so ([`StoreError::Full`]), and does nothing.
pub fn open_soon(store: &model::Store) -> Result<Option<Box<dyn Store>>, StoreError> {
    match store {
        model::Store::Sqlite(path) => sqlite::Sqlite::open(path, false),
        model::Store::Postgres { url, password } => postgres::Postgres::open(url, password.as_ref(), false),
    }
}

/// Opens the store for reading; changes nothing, needs no lock. [`StoreError::Row`] where there is no such store yet.
pub fn reader(store: &model::Store) -> Result<Box<dyn Reader>, StoreError> {
    match store {
        model::Store::Sqlite(path) => sqlite::SqliteReader::open(path),
        model::Store::Postgres { url, password } => postgres::PostgresReader::open(url, password.as_ref()),
    }
}

/// Readers that are open, for the API: as many as ask at once.
pub struct Readers {
    store: model::Store,
    points: bool,
    limit: Option<Duration>,
    idle: parking_lot::Mutex<Vec<Box<dyn Reader>>>,
}

impl Readers {
    /// Of this store.
    pub fn new(store: model::Store) -> Arc<Readers> {
        Arc::new(Readers { store, points: false, limit: None, idle: parking_lot::Mutex::default() })
    }

    /// Of this store, each read of which may take so long at most.
    pub fn limited(store: model::Store, limit: Duration) -> Arc<Readers> {
        Arc::new(Readers { store, points: true, limit: Some(limit), idle: parking_lot::Mutex::default() })
    }

    /// Of this store, for few rows of large tables only.
    pub fn of_points(store: model::Store) -> Arc<Readers> {
        Arc::new(Readers { store, points: true, limit: None, idle: parking_lot::Mutex::default() })
    }

    /// These connections and no other, in place of a store that is opened.
    #[cfg(test)]
    pub(crate) fn filled(readers: Vec<Box<dyn Reader>>) -> Arc<Readers> {
        let store = model::Store::Sqlite(std::path::PathBuf::new());
        Arc::new(Readers { store, points: false, limit: None, idle: parking_lot::Mutex::new(readers) })
    }

    /// Reads; blocks.
    pub fn with<T>(&self, read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let taken = std::iter::from_fn(|| self.idle.lock().pop()).find_map(|mut idle| idle.lives().then_some(idle));
        let mut reader = match taken {
            Some(reader) => reader,
            None => {
                let mut reader = reader(&self.store)?;
                if self.points {
                    reader.points()?;
                }
                reader
            }
        };
        if let Some(limit) = self.limit {
            reader.limit(limit)?;
        }
        let answer = read(&mut *reader);
        // One that failed may be broken: the next call opens another.
        if answer.is_ok() {
            self.idle.lock().push(reader);
        }
        answer
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Readers")
    }
}
