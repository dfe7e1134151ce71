//! Where the books are kept: one interface for a writer over two engines, SQLite and PostgreSQL.
//!
//! A store knows rows and cells; it decides nothing. For each batch the writer calls [`Store::begin`], [`Store::load`],
//! [`Store::write`] for the rows and for the sums over the batch, and [`Store::commit`]. A refused batch is written
//! once more, each callback apart ([`Grouping`]). After any error the writer calls [`Store::rollback`] and reads
//! [`Store::heads`] anew.
//!
//! Only the holder of the lock has a `Store`: [`open`] returns `None` while another process holds it.

pub mod erase;
pub mod operator;
pub mod postgres;
pub mod schema;
mod sql;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::rows::{
    Anomaly, Attempt, BalanceRow, Delivery, Endpoint, Finding, IdempotencyKey, Link, Order, Outgoing, Reconciliation,
    Refund, Row, Transaction, Transfer, Type, Update, Value, Wrap,
};
use config::model::ledger as model;
use providers::event::Kind;

/// Why a call to a store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// This statement failed, and the store is well: a constraint, or a value that it does not take.
    #[error("{0}")]
    Row(String),
    /// The disk is full, or the store is busy for a while: nothing of this batch is kept, but the next one may be.
    #[error("the store takes nothing now: {0}")]
    Full(String),
    /// The store is of an older version, and a reader keeps it from being brought up to date.
    #[error("{0}")]
    Held(String),
    /// The connection or the lock is lost, perhaps during a commit: stand by, and open the store anew.
    #[error("the store is lost: {0}")]
    Lost(String),
    /// A read took longer than [`Reader::limit`] allows, or was cancelled.
    #[error("it was ended: {0}")]
    Slow(String),
    /// A write could not be made durable. This process must not write or acknowledge anything more.
    #[error("the store failed: {0}")]
    Poisoned(String),
}

/// How the callbacks of a refused batch are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// One by one, each within a savepoint.
    Each,
    /// All at once; after a failure, each in a transaction of its own.
    Whole,
}

/// The key of a transaction by its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeaningKey {
    /// The provider, such as `stripe` or `alipay`.
    pub provider: &'static str,
    /// The account at the provider: an app_id, an mchid …
    pub account: String,
    /// The kind of the transaction.
    pub kind: Kind,
    /// A key that is unique within the three others.
    pub key: String,
}

/// The rows that `book` needs before it decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Transactions by meaning.
    pub keys: Vec<MeaningKey>,
    /// Orders, by channel and out_trade_no.
    pub orders: Vec<(String, String)>,
    /// Channel and out_trade_no: all `payment` transactions (in any state) with that number.
    pub trades: Vec<(String, String)>,
    /// Provider, kind and the provider's number: all transactions with it, in any account.
    pub numbers: Vec<(&'static str, Kind, String)>,
    /// Provider, account (or any) and `of`: all parked transactions that wait for it.
    pub waiting: Vec<(&'static str, Option<String>, String)>,
    /// Orders, by id.
    pub order_ids: Vec<Uuid>,
    /// Channel and out_trade_no: all transactions of that order.
    pub of_orders: Vec<(String, String)>,
    /// Requested refunds, by order and out_refund_no.
    pub refunds: Vec<(Uuid, String)>,
    /// Channel and out_trade_no: all requested refunds of that order.
    pub refunds_of: Vec<(String, String)>,
    /// Orders by id: all their transactions.
    pub transactions_of: Vec<Uuid>,
    /// Channel and out_refund_no: all transactions that name it.
    pub named_refunds: Vec<(String, String)>,
    /// Requested refunds, by the provider's number.
    pub refund_txns: Vec<String>,
    /// Idempotency keys, by digest.
    pub idempotency_keys: Vec<String>,
    /// Transfers, by id.
    pub transfers: Vec<Uuid>,
    /// Channel and day: the statement's reconciliation, with all its findings.
    pub reconciliations: Vec<(String, String)>,
    /// Requested refunds, by id.
    pub refund_ids: Vec<Uuid>,
}

/// The rows that were asked for, in no order; a row may occur more than once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// All transactions that were asked for.
    pub transactions: Vec<Transaction>,
    /// The orders that were asked for, and those of the transactions and requested refunds.
    pub orders: Vec<Order>,
    /// The requested refunds that were asked for.
    pub refunds: Vec<Refund>,
    /// The idempotency keys that were asked for.
    pub idempotency_keys: Vec<IdempotencyKey>,
    /// The transfers that were asked for.
    pub transfers: Vec<Transfer>,
    /// The reconciliations that were asked for.
    pub reconciliations: Vec<Reconciliation>,
    /// Their findings.
    pub findings: Vec<Finding>,
}

/// What a store is to write, in this order: rows by `seq`, then the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// New rows.
    pub rows: Vec<Row>,
    /// New links of the chain.
    pub links: Vec<Link>,
    /// New state of existing rows; of two updates of one row the later one counts.
    pub updates: Vec<Update>,
    /// New balances of accounts: the sums themselves, not the changes.
    pub balances: Vec<BalanceRow>,
    /// New wraps of keys.
    pub wraps: Vec<Wrap>,
    /// New attempts; one that is there already stays as it is.
    pub attempts: Vec<Attempt>,
}

/// The end of the books.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heads {
    /// The last row's `seq`; 0 in an empty store.
    pub seq: i64,
    /// The last link; empty in an empty store.
    pub link: Vec<u8>,
    /// The largest `recorded_at`, `opened_at` or `created_at`; 0 in an empty store.
    pub recorded_at: i64,
    /// All balances.
    pub balances: Vec<BalanceRow>,
    /// What parked transactions wait for (`of`), each once or more; at most one more than [`Heads::WAITED_MAX`].
    pub waited: Vec<String>,
    /// All endpoints that are not deleted.
    pub endpoints: Vec<Endpoint>,
}

impl Heads {
    /// The most names to wait for that are kept in memory.
    pub const WAITED_MAX: usize = 4_096;
}

/// The writer's side of a store. All calls block.
pub trait Store: Send {
    /// How callbacks of one batch are kept apart.
    fn grouping(&self) -> Grouping;
    /// The end of the books.
    fn heads(&mut self) -> Result<Heads, StoreError>;
    /// All wraps of all keys.
    fn wraps(&mut self) -> Result<Vec<Wrap>, StoreError>;
    /// Begins a transaction. On PostgreSQL it begins with the next call and locks the epoch's row, so that a writer
    /// that was replaced stops there.
    fn begin(&mut self) -> Result<(), StoreError>;
    /// Begins a callback's part of the transaction ([`Grouping::Each`]).
    fn savepoint(&mut self) -> Result<(), StoreError>;
    /// Ends a callback's part, kept or not. After a disk error there may be no transaction left to roll back to; then
    /// the error says so ([`StoreError::Full`] or [`StoreError::Poisoned`]).
    fn release(&mut self, keep: bool) -> Result<(), StoreError>;
    /// Reads what is asked for, as it is within this transaction.
    fn load(&mut self, asked: &Wanted) -> Result<Loaded, StoreError>;
    /// Writes these changes.
    fn write(&mut self, changes: &Changes) -> Result<(), StoreError>;
    /// Makes the whole transaction durable; an error means that it may not be.
    fn commit(&mut self) -> Result<(), StoreError>;
    /// Rolls the transaction back.
    fn rollback(&mut self);
    /// Events of the outbox, by id.
    fn events(&mut self, ids: &[Uuid]) -> Result<Vec<Outgoing>, StoreError>;
    /// Deliveries to endpoints, by id.
    fn deliveries(&mut self, ids: &[Uuid]) -> Result<Vec<Delivery>, StoreError>;
    /// Anomalies, by id.
    fn anomalies(&mut self, ids: &[Uuid]) -> Result<Vec<Anomaly>, StoreError>;
    /// Called about once a second while there is nothing to write: keeps the connection (and the lock) alive, and
    /// checkpoints.
    fn idle(&mut self) -> Result<(), StoreError>;
}

/// A reader's side of a store. SQL must be valid in both engines, with `$1`, `$2` … in the order of their first use.
/// PostgreSQL takes a parameter that may be null only where a column shows its type (`"of" IS NOT DISTINCT FROM $1`,
/// not `$1 IS NULL`), and its sums of numbers must be cast (`CAST(SUM(…) AS TEXT)`).
pub trait Reader: Send {
    /// The rows of a SELECT, with cells of `types`.
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError>;
    /// From now on only a few rows of large tables are read: the engine must find each by an index, whatever it knows
    /// of the tables' sizes.
    fn points(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    /// From now on a read that takes longer than this ends with [`StoreError::Slow`].
    fn limit(&mut self, _at_most: Duration) -> Result<(), StoreError> {
        Ok(())
    }
    /// Whether the connection is alive: a server may have gone since the last read.
    fn lives(&mut self) -> bool {
        true
    }
    /// From now on every select sees the books as they are now, until [`Reader::end`].
    fn snapshot(&mut self) -> Result<(), StoreError>;
    /// Ends the view of [`Reader::snapshot`].
    fn end(&mut self);
    /// Leaves the store to others for a moment, between two of many views.
    fn pause(&mut self) {}
}

/// The reader's error about a store to which no ledger of this version has written yet.
const OLDER: &str = "of an older tollgate: until a `tollgate ledger run` or `tollgate run` of this one has brought it up to \
    date, the older one reads it";

/// The error for a large store of an older version, which is not brought up to date at once.
fn later(rows: i64) -> StoreError {
    StoreError::Full(format!(
        "the store of an older tollgate has {rows} rows: it is brought up to date now, callbacks are answered 503 until that \
         is done"
    ))
}

/// Opens the store for writing: takes the lock, creates a missing store, brings its schema up to date, and makes
/// recovered data durable. `None` while another process holds the lock. A large store of an older version takes a
/// second or so for each million events. Missing indexes of a large store take minutes: SQLite makes them here,
/// PostgreSQL beside the writer.
pub fn open(store: &model::Store) -> Result<Option<Box<dyn Store>>, StoreError> {
    match store {
        model::Store::Sqlite(path) => sqlite::Sqlite::open(path, true),
        model::Store::Postgres { url, password } => postgres::Postgres::open(url, password.as_ref(), true),
    }
}

/// Like [`open`], but if that would take long it returns [`StoreError::Full`] and does nothing.
pub fn open_soon(store: &model::Store) -> Result<Option<Box<dyn Store>>, StoreError> {
    match store {
        model::Store::Sqlite(path) => sqlite::Sqlite::open(path, false),
        model::Store::Postgres { url, password } => postgres::Postgres::open(url, password.as_ref(), false),
    }
}

/// Opens the store for reading; changes nothing and needs no lock. [`StoreError::Row`] if there is no such store yet.
pub fn reader(store: &model::Store) -> Result<Box<dyn Reader>, StoreError> {
    match store {
        model::Store::Sqlite(path) => sqlite::SqliteReader::open(path),
        model::Store::Postgres { url, password } => postgres::PostgresReader::open(url, password.as_ref()),
    }
}

/// Open readers for the API, as many as there are concurrent reads.
pub struct Readers {
    store: model::Store,
    points: bool,
    limit: Option<Duration>,
    idle: parking_lot::Mutex<Vec<Box<dyn Reader>>>,
}

impl Readers {
    /// Readers of this store.
    pub fn new(store: model::Store) -> Arc<Readers> {
        Arc::new(Readers { store, points: false, limit: None, idle: parking_lot::Mutex::default() })
    }

    /// Readers of this store with a limit of time for each read.
    pub fn limited(store: model::Store, limit: Duration) -> Arc<Readers> {
        Arc::new(Readers { store, points: true, limit: Some(limit), idle: parking_lot::Mutex::default() })
    }

    /// Readers of this store, each read of which needs only a few rows of large tables.
    pub fn of_points(store: model::Store) -> Arc<Readers> {
        Arc::new(Readers { store, points: true, limit: None, idle: parking_lot::Mutex::default() })
    }

    /// These connections only, without a store to open more from.
    #[cfg(test)]
    pub(crate) fn filled(readers: Vec<Box<dyn Reader>>) -> Arc<Readers> {
        let store = model::Store::Sqlite(std::path::PathBuf::new());
        Arc::new(Readers { store, points: false, limit: None, idle: parking_lot::Mutex::new(readers) })
    }

    /// Runs a read; blocks.
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
        // A failed reader may be broken: the next call opens another.
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
