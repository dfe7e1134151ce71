//! The rows of the books, as stored.
//!
//! Each table has a `seq`, gapless over all tables together, an `id` (UUIDv7), columns that never change once written
//! (**frozen**: the chain covers them), and columns of **state**, which are derived. One table has its state stored
//! beside it ([`Part`]). A store knows tables and cells only; `book` gives them their meaning.

mod parts;
mod tables;

use uuid::Uuid;

pub use self::parts::Part;
pub use self::tables::{
    Adoption, Anomaly, Delivery, Endpoint, Entry, Evidence, Finding, IdempotencyKey, Journal, Order, Outgoing,
    Reconciliation, Refund, Table, Transaction, Transfer,
};
use base::units::Currency;

/// A cell of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A signed integer of 64 bits.
    Int(i64),
    /// A string.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// INTEGER in SQLite, BIGINT in PostgreSQL.
    Int,
    /// TEXT in both.
    Text,
    /// BLOB in SQLite, BYTEA in PostgreSQL.
    Blob,
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The column's name.
    pub name: &'static str,
    /// The column's type.
    pub ty: Type,
    /// Whether the column may be null.
    pub optional: bool,
}

/// A Rust type that fits into a cell.
pub trait Cell: Sized {
    /// The column type of the cell.
    const TYPE: Type;
    /// Whether the cell may be null.
    const OPTIONAL: bool = false;
    /// Converts into a cell.
    fn put(&self) -> Value;
    /// Converts from a cell; `None` if the cell holds another type or an unknown word.
    fn take(value: Value) -> Option<Self>;
}

impl Cell for i64 {
    const TYPE: Type = Type::Int;
    fn put(&self) -> Value {
        Value::Int(*self)
    }
    fn take(value: Value) -> Option<i64> {
        if let Value::Int(number) = value { Some(number) } else { None }
    }
}

impl Cell for String {
    const TYPE: Type = Type::Text;
    fn put(&self) -> Value {
        Value::Text(self.clone())
    }
    fn take(value: Value) -> Option<String> {
        if let Value::Text(text) = value { Some(text) } else { None }
    }
}

impl Cell for Vec<u8> {
    const TYPE: Type = Type::Blob;
    fn put(&self) -> Value {
        Value::Blob(self.clone())
    }
    fn take(value: Value) -> Option<Vec<u8>> {
        if let Value::Blob(bytes) = value { Some(bytes) } else { None }
    }
}

impl Cell for Uuid {
    const TYPE: Type = Type::Text;
    fn put(&self) -> Value {
        Value::Text(self.hyphenated().to_string())
    }
    fn take(value: Value) -> Option<Uuid> {
        if let Value::Text(text) = value { Uuid::try_parse(&text).ok() } else { None }
    }
}

impl Cell for Currency {
    const TYPE: Type = Type::Text;
    fn put(&self) -> Value {
        Value::Text(self.code().to_owned())
    }
    fn take(value: Value) -> Option<Currency> {
        if let Value::Text(code) = value { Currency::parse(&code) } else { None }
    }
}

impl<T: Cell> Cell for Option<T> {
    const TYPE: Type = T::TYPE;
    const OPTIONAL: bool = true;
    fn put(&self) -> Value {
        self.as_ref().map_or(Value::Null, Cell::put)
    }
    fn take(value: Value) -> Option<Option<T>> {
        if value == Value::Null { Some(None) } else { T::take(value).map(Some) }
    }
}

/// A row of any table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The table.
    pub table: Table,
    /// The row's place among all rows, from 1.
    pub seq: i64,
    /// The row's id.
    pub id: Uuid,
    /// Frozen columns, then state, in the table's order.
    pub values: Vec<Value>,
}

/// New state of an existing row.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The table.
    pub table: Table,
    /// The row's `seq`.
    pub seq: i64,
    /// All state columns, in the table's order.
    pub state: Vec<Value>,
}

/// A row as a Rust type.
pub trait Typed: Sized {
    /// The table of these rows.
    const TABLE: Table;
    /// The row as cells.
    fn row(&self) -> Row;
    /// The row's state as an update.
    fn update(&self) -> Update;
    /// Reads `seq`, `id` and all columns in the table's order; `None` if a cell does not fit.
    fn from_cells(cells: Vec<Value>) -> Option<Self>;
}

/// A data key (or the chain's key), wrapped by an encryption key. It is outside of the chain; erasure deletes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrap {
    /// The id of the key.
    pub id: Uuid,
    /// The fingerprint of the encryption key that wraps it.
    pub by: String,
    /// `chain` or `data`.
    pub purpose: String,
    /// The UTC day of a data key, `2026-11-21`; empty for the chain's.
    pub day: String,
    /// Nonce, ciphertext and tag.
    pub wrapped: Vec<u8>,
    /// Time of creation, in milliseconds since 1970.
    pub created_at: i64,
}

/// An attempt to send an event to an endpoint, and its answer. It is outside of the chain, like all state of deliveries.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The `seq` of the event.
    pub event_seq: i64,
    /// When it ended, in milliseconds since 1970.
    pub at: i64,
    /// The endpoint.
    pub endpoint_id: Uuid,
    /// The HTTP status; none if no answer came.
    pub status: Option<i64>,
    /// How long it took, in milliseconds.
    pub latency_ms: i64,
    /// The data key and what it encrypts: the beginning of the answer's body; none if that is empty.
    pub body: Option<(Uuid, Vec<u8>)>,
}

/// A link of the chain: the rows of one callback, the last of them `seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The `seq` of the last of its rows.
    pub seq: i64,
    /// For each row: table code (1 byte), id (16), SHA-256 of its frozen columns (32).
    pub rows: Vec<u8>,
    /// HMAC-SHA256 over the link before, `seq` and `rows`.
    pub link: Vec<u8>,
}

/// The balance of an account in one currency. It is derived, and outside of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    /// The account, such as `assets:channel:card`.
    pub account: String,
    /// The currency of the sums.
    pub currency: Currency,
    /// Sum of debits in minor units; stored as decimal text, since sums may exceed 64 bits.
    pub debit: i128,
    /// Sum of credits in minor units.
    pub credit: i128,
    /// Debits that are asked for and not decided, in minor units.
    pub pending_debit: i128,
    /// Credits that are asked for and not decided, in minor units.
    pub pending_credit: i128,
}

impl BalanceRow {
    /// A balance of nothing.
    pub fn new(account: &str, currency: Currency) -> BalanceRow {
        BalanceRow { account: account.to_owned(), currency, debit: 0, credit: 0, pending_debit: 0, pending_credit: 0 }
    }

    /// The credits that are left beyond the debits, those that are pending included.
    pub fn free_credit(&self) -> i128 {
        self.credit - self.debit - self.pending_debit
    }
}
