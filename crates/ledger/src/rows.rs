//! The rows of the books, as stored. Each table has a `seq`, gapless over all tables together, an `id` (UUIDv7), columns
//! that never change once written (**frozen**: the chain covers them), and columns of **state**, which are re-derived.
//!
//! One table has its state stored beside it ([`Part`]). A store knows tables and cells only; what they mean is `book`'s.

mod parts;

use uuid::Uuid;

pub use self::parts::Part;
use super::event::Kind;
use super::stored_enum::{AnomalyKind, AnomalyState, EventState, OrderState, Side, Source, TxState, What};
use base::units::Currency;

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number.
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// INTEGER, BIGINT
    Int,
    /// TEXT
    Text,
    /// BLOB, BYTEA
    Blob,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// Whether it may be null.
    pub optional: bool,
}

/// What fits into a cell.
pub trait Cell: Sized {
    /// Its type.
    const TYPE: Type;
    /// Whether it may be null.
    const OPTIONAL: bool = false;
    /// Into a cell.
    fn put(&self) -> Value;
    /// Out of a cell; `None` where another thing stands there.
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
    /// Where it stands.
    pub table: Table,
    /// Its place among all rows, from 1.
    pub seq: i64,
    /// Its name.
    pub id: Uuid,
    /// Frozen columns, then state, in the table's order.
    pub values: Vec<Value>,
}

/// New state of a row that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// Where it stands.
    pub table: Table,
    /// Which row.
    pub seq: i64,
    /// Every state column, in the table's order.
    pub state: Vec<Value>,
}

/// A row with types.
pub trait Typed: Sized {
    /// Its table.
    const TABLE: Table;
    /// As a row.
    fn row(&self) -> Row;
    /// Its state.
    fn update(&self) -> Update;
    /// From `seq`, `id` and all columns in the table's order; `None` where a cell does not fit.
    fn from_cells(cells: Vec<Value>) -> Option<Self>;
}

macro_rules! tables {
    ($(
        $(#[doc = $doc:literal])+
        $id:ident $name:literal $code:literal {
            $($(#[doc = $fdoc:literal])+ $field:ident: $ty:ty,)*
            ; $($(#[doc = $sdoc:literal])+ $sfield:ident: $sty:ty,)*
        }
    )*) => {
        /// The tables of rows. Their codes stand in the chain: they never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Table { $($(#[doc = $doc])+ $id = $code,)* }

        impl Table {
            /// Every table.
            pub const ALL: &'static [Table] = &[$(Table::$id,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Table::$id => $name,)* }
            }

            /// Columns that never change, after `seq` and `id`.
            pub fn frozen(self) -> &'static [Column] {
                match self { $(Table::$id => &[$(
                    Column { name: stringify!($field), ty: <$ty as Cell>::TYPE, optional: <$ty as Cell>::OPTIONAL },
                )*],)* }
            }

            /// Columns of state, after the frozen ones.
            pub fn state(self) -> &'static [Column] {
                match self { $(Table::$id => &[$(
                    Column { name: stringify!($sfield), ty: <$sty as Cell>::TYPE, optional: <$sty as Cell>::OPTIONAL },
                )*],)* }
            }
        }

        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $id {
                /// Its place among all rows, from 1.
                pub seq: i64,
                /// Its name.
                pub id: Uuid,
                $($(#[doc = $fdoc])+ pub $field: $ty,)*
                $($(#[doc = $sdoc])+ pub $sfield: $sty,)*
            }

            impl Typed for $id {
                const TABLE: Table = Table::$id;

                fn row(&self) -> Row {
                    let values = vec![$(self.$field.put(),)* $(self.$sfield.put(),)*];
                    Row { table: Table::$id, seq: self.seq, id: self.id, values }
                }

                fn update(&self) -> Update {
                    Update { table: Table::$id, seq: self.seq, state: vec![$(self.$sfield.put(),)*] }
                }

                fn from_cells(cells: Vec<Value>) -> Option<Self> {
                    let mut cells = cells.into_iter();
                    let row = $id {
                        seq: Cell::take(cells.next()?)?,
                        id: Cell::take(cells.next()?)?,
                        $($field: Cell::take(cells.next()?)?,)*
                        $($sfield: Cell::take(cells.next()?)?,)*
                    };
                    cells.next().is_none().then_some(row)
                }
            }
        )*
    };
}

tables! {
    /// What was received, encrypted.
    Evidence "evidence" 1 {
        /// The channel it came to.
        channel: String,
        /// The data key it is encrypted with.
        key_id: Uuid,
        /// Milliseconds since 1970.
        received_at: i64,
        /// Nonce, ciphertext and tag.
        headers: Vec<u8>,
        /// Nonce, ciphertext and tag.
        body: Vec<u8>,
        ;
    }
    /// What a merchant sells for.
    Order "orders" 2 {
        /// Whose.
        merchant: String,
        /// Where it is paid.
        channel: String,
        /// The merchant's number; unique in the channel.
        out_trade_no: String,
        /// How much.
        amount_minor: i64,
        /// Of what.
        currency: Currency,
        /// Who made it.
        source: Source,
        /// Milliseconds since 1970.
        created_at: i64,
        ;
        /// What is true of it.
        state: OrderState,
        /// Paid, by posted payments.
        paid_minor: i64,
        /// Refunded, by posted refunds less their reversals.
        refunded_minor: i64,
        /// Refunds that were asked for and are not decided.
        refund_pending_minor: i64,
        /// Milliseconds since 1970.
        paid_at: Option<i64>,
    }
    /// A fact, and what became of it.
    Transaction "transactions" 3 {
        /// What was received; none for what the ledger itself made.
        evidence_id: Option<Uuid>,
        /// `stripe`, `alipay` …; empty for what the ledger itself made.
        provider: String,
        /// Whose: app_id, mchid …
        account: String,
        /// What happened.
        kind: Kind,
        /// Idempotence: unique within provider, account and kind.
        key: String,
        /// Where it came to.
        channel: String,
        /// Whose money.
        merchant: String,
        /// The merchant's number of the order, as the message states it.
        stated_trade_no: Option<String>,
        /// The provider's number of it.
        channel_txn_no: Option<String>,
        /// The payment it is of, as the message names it: `n:` and the provider's number, or `o:` and the order's.
        of: Option<String>,
        /// How much it is to the books; none where that is not known.
        amount_minor: Option<i64>,
        /// How much the message states: for Alipay's refunds, all of them together.
        stated_minor: Option<i64>,
        /// Of what, as the message states it.
        stated_currency: Option<Currency>,
        /// The provider's time, in milliseconds since 1970.
        occurred_at: i64,
        /// Milliseconds since 1970; never before an earlier row's.
        recorded_at: i64,
        /// What became of it at once.
        first_state: TxState,
        ;
        /// What is true of it now.
        state: TxState,
        /// Its order; known once it is posted or in suspense.
        order_id: Option<Uuid>,
        /// The provider's number of the payment it is of.
        payment_txn_no: Option<String>,
        /// The merchant's number of the order: the stated one, else its payment's.
        out_trade_no: Option<String>,
        /// Of what: the stated one, else its payment's.
        currency: Option<Currency>,
        /// The merchant's fee of a payment.
        fee_minor: Option<i64>,
        /// Of a payment: refunds posted, less their reversals.
        refunded_minor: i64,
        /// Of a payment: refunds in suspense, less their reversals.
        held_minor: i64,
    }
    /// A set of entries that sums to zero.
    Journal "journals" 4 {
        /// The transaction it is of.
        transaction_id: Uuid,
        /// What it did to the transaction.
        what: What,
        /// The transaction's order from here on.
        order_id: Option<Uuid>,
        /// The transaction's payment from here on.
        payment_txn_no: Option<String>,
        /// Milliseconds since 1970.
        recorded_at: i64,
        ;
    }
    /// Half of a posting.
    Entry "entries" 5 {
        /// Its journal.
        journal_id: Uuid,
        /// Its transaction.
        transaction_id: Uuid,
        /// `assets:channel:card`
        account: String,
        /// Debit or credit.
        side: Side,
        /// Above 0.
        amount_minor: i64,
        /// Of what.
        currency: Currency,
        /// Milliseconds since 1970.
        recorded_at: i64,
        ;
    }
    /// What a merchant is told. Its state is the outbox.
    Outgoing "events" 6 {
        /// `payment.posted`
        kind: String,
        /// What it tells of.
        transaction_id: Uuid,
        /// In order within it.
        order_id: Option<Uuid>,
        /// Who is told.
        merchant: String,
        /// What is sent, byte for byte, each time.
        body: String,
        /// Milliseconds since 1970.
        created_at: i64,
        ;
        /// Whether it arrived.
        state: EventState,
        /// Tries so far.
        attempts: i64,
        /// Tries since it was last asked for by hand: its place in the backoff.
        round: i64,
        /// Milliseconds since 1970; none when delivered or dead.
        next_attempt_at: Option<i64>,
        /// HTTP status of the last try; none where no answer came.
        last_status: Option<i64>,
        /// Milliseconds since 1970.
        delivered_at: Option<i64>,
    }
    /// What somebody has to look at.
    Anomaly "anomalies" 7 {
        /// What is wrong.
        kind: AnomalyKind,
        /// Where; empty where it is of no channel.
        channel: String,
        /// Whose; empty where it is of no merchant.
        merchant: String,
        /// Which transaction.
        transaction_id: Option<Uuid>,
        /// What was received, where no transaction was made of it.
        evidence_id: Option<Uuid>,
        /// In words: amounts, numbers and states only.
        detail: String,
        /// Milliseconds since 1970.
        opened_at: i64,
        ;
        /// Whether somebody has looked.
        state: AnomalyState,
    }
}

impl Table {
    /// By its code in the chain.
    pub fn from_code(code: u8) -> Option<Table> {
        Table::ALL.iter().copied().find(|table| *table as u8 == code)
    }
}

/// A data key (or the chain's key), wrapped by an encryption key. Outside of the chain; erasure deletes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrap {
    /// The key.
    pub id: Uuid,
    /// The encryption key that wraps it, by its fingerprint.
    pub by: String,
    /// `chain` or `data`.
    pub purpose: String,
    /// The UTC day of a data key, `2026-11-21`; empty for the chain's.
    pub day: String,
    /// Nonce, ciphertext and tag.
    pub wrapped: Vec<u8>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// A link of the chain: the rows of one callback, the last of them `seq`.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The last of its rows.
    pub seq: i64,
    /// For each row: table code (1 byte), id (16), SHA-256 of its frozen columns (32).
    pub rows: Vec<u8>,
    /// HMAC-SHA256 over the link before, `seq` and `rows`.
    pub link: Vec<u8>,
}

/// What an account has of a currency. Derived: outside of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    /// `assets:channel:card`
    pub account: String,
    /// Of what.
    pub currency: Currency,
    /// Sum of debits; stored as decimal text, since sums may exceed 64 bits.
    pub debit: i128,
    /// Sum of credits.
    pub credit: i128,
}
