//! The objects as they are shown: fields and their order are fixed by the interface, nulls are present, times are
//! RFC 3339 in UTC with milliseconds, amounts are whole numbers of minor units.
//!
//! Sums are 128 bits wide and may only be written by a serializer that takes them as they are (`serde_json::to_string`,
//! not `to_value`). Nothing encrypted is shown anywhere.

use serde::Serialize;
use utoipa::ToSchema;

use crate::rows;
use crate::stored_enum::{Side, StoredEnum};
use base::clock;

/// What a merchant sells for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Order {
    /// Its id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Whose.
    pub merchant: String,
    /// Where it is paid.
    pub channel: String,
    /// The merchant's number; unique in the channel.
    pub out_trade_no: String,
    /// How much.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Who made it.
    #[schema(value_type = String)]
    pub source: &'static str,
    /// What is true of it.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Paid, by posted payments.
    pub paid_minor: i64,
    /// Refunded, by posted refunds less their reversals.
    pub refunded_minor: i64,
    /// Refunds that were asked for and are not decided.
    pub refund_pending_minor: i64,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was paid.
    #[schema(required = true, format = DateTime)]
    pub paid_at: Option<String>,
}

/// A fact, and what became of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Transaction {
    /// Its id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Its place in the books.
    pub sequence: i64,
    /// What happened.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// What became of it.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Whose money.
    pub merchant: String,
    /// Where it came to.
    pub channel: String,
    /// Its order.
    #[schema(required = true, format = "uuid")]
    pub order_id: Option<String>,
    /// The merchant's number of the order.
    #[schema(required = true)]
    pub out_trade_no: Option<String>,
    /// The provider's number of it.
    #[schema(required = true)]
    pub channel_txn_no: Option<String>,
    /// The provider's number of the payment it is of.
    #[schema(required = true)]
    pub payment_txn_no: Option<String>,
    /// How much; null where that is not known.
    #[schema(required = true)]
    pub amount_minor: Option<i64>,
    /// ISO 4217; null where that is not known.
    #[schema(required = true)]
    pub currency: Option<String>,
    /// The merchant's fee of a payment.
    #[schema(required = true)]
    pub fee_minor: Option<i64>,
    /// The provider's time.
    #[schema(format = DateTime)]
    pub occurred_at: String,
    /// When it was written; it never goes back.
    #[schema(format = DateTime)]
    pub recorded_at: String,
}

/// A transaction with its entries.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TransactionDetail {
    /// The transaction.
    #[serde(flatten)]
    pub transaction: Transaction,
    /// Its entries, in the order of the books.
    pub entries: Vec<Entry>,
}

/// Half of a posting.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Its id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Its place in the books.
    pub sequence: i64,
    /// Its transaction.
    #[schema(format = "uuid")]
    pub transaction_id: String,
    /// `assets:channel:card`
    pub account: String,
    /// Debit or credit.
    #[schema(value_type = String)]
    pub side: &'static str,
    /// Above 0.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// When it was written.
    #[schema(format = DateTime)]
    pub recorded_at: String,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Account {
    /// `assets:channel:card`
    pub id: String,
    /// One for each currency, by code.
    pub balances: Vec<Balance>,
}

/// What an account has of a currency.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Balance {
    /// ISO 4217.
    pub currency: String,
    /// Sum of debits.
    pub debit_minor: i128,
    /// Sum of credits.
    pub credit_minor: i128,
    /// Debits less credits.
    pub balance_minor: i128,
    /// Debits of transfers that are not decided.
    pub pending_debit_minor: i64,
    /// Credits of transfers that are not decided.
    pub pending_credit_minor: i64,
}

impl Balance {
    /// Of these sums.
    pub fn new(currency: String, debit: i128, credit: i128) -> Balance {
        Balance {
            currency,
            debit_minor: debit,
            credit_minor: credit,
            balance_minor: debit - credit,
            pending_debit_minor: 0,
            pending_credit_minor: 0,
        }
    }
}

/// What a merchant is told.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// Sent as `webhook-id`.
    #[schema(format = "uuid")]
    pub id: String,
    /// `payment.posted`
    #[serde(rename = "type")]
    pub kind: String,
    /// Events of one order arrive in order.
    #[schema(required = true, format = "uuid")]
    pub order_id: Option<String>,
    /// Who is told.
    pub merchant: String,
    /// Whether it arrived.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Tries so far.
    pub attempts: i64,
    /// When it is tried again; null when delivered or dead.
    #[schema(required = true, format = DateTime)]
    pub next_attempt_at: Option<String>,
    /// HTTP status of the last try; null where no answer came.
    #[schema(required = true)]
    pub last_status: Option<i64>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was taken.
    #[schema(required = true, format = DateTime)]
    pub delivered_at: Option<String>,
}

/// What somebody has to look at.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Anomaly {
    /// Its id.
    #[schema(format = "uuid")]
    pub id: String,
    /// What is wrong.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// Whether somebody has looked.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Where; null where it is of no channel.
    #[schema(required = true)]
    pub channel: Option<String>,
    /// Which transaction.
    #[schema(required = true, format = "uuid")]
    pub transaction_id: Option<String>,
    /// In words.
    pub detail: String,
    /// When it was found.
    #[schema(format = DateTime)]
    pub opened_at: String,
}

/// How far the books can be trusted.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Integrity {
    /// The last row's place.
    pub sequence: i64,
    /// The last link of the chain, in hex; empty in empty books.
    pub head: String,
    /// The anchor outside of the store.
    #[schema(required = true)]
    pub anchored: Option<Anchored>,
    /// The last verification of this process.
    #[schema(required = true)]
    pub verified: Option<Verified>,
    /// All accounts together, by currency.
    pub sums: Vec<Sum>,
}

/// Where the anchor is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Anchored {
    /// The place it holds.
    pub sequence: i64,
    /// The link there, in hex.
    pub head: String,
    /// When it was written.
    #[schema(format = DateTime)]
    pub at: String,
}

/// A verification.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Verified {
    /// How far it went.
    pub sequence: i64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Whether nothing was found.
    pub ok: bool,
}

/// Debits and credits of a currency; they are equal.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Sum {
    /// ISO 4217.
    pub currency: String,
    /// Sum of debits.
    pub debit_minor: i128,
    /// Sum of credits.
    pub credit_minor: i128,
}

/// A part of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// Newest first.
    pub data: Vec<T>,
    /// The `cursor` of what follows; null at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// RFC 3339 of stored milliseconds.
pub fn time(ms: i64) -> String {
    clock::rfc3339(ms.max(0).unsigned_abs())
}

/// Shown out of a stored row.
pub trait View: Serialize {
    /// The row.
    type Row: rows::Typed;
    /// As shown.
    fn of(row: Self::Row) -> Self;
}

impl View for Order {
    type Row = rows::Order;
    fn of(row: rows::Order) -> Order {
        Order {
            id: row.id.to_string(),
            merchant: row.merchant,
            channel: row.channel,
            out_trade_no: row.out_trade_no,
            amount_minor: row.amount_minor,
            currency: row.currency.to_string(),
            source: row.source.word(),
            state: row.state.word(),
            paid_minor: row.paid_minor,
            refunded_minor: row.refunded_minor,
            refund_pending_minor: row.refund_pending_minor,
            created_at: time(row.created_at),
            paid_at: row.paid_at.map(time),
        }
    }
}

impl View for Transaction {
    type Row = rows::Transaction;
    fn of(row: rows::Transaction) -> Transaction {
        Transaction {
            id: row.id.to_string(),
            sequence: row.seq,
            kind: row.kind.word(),
            state: row.state.word(),
            merchant: row.merchant,
            channel: row.channel,
            order_id: row.order_id.map(|id| id.to_string()),
            out_trade_no: row.out_trade_no,
            channel_txn_no: row.channel_txn_no,
            payment_txn_no: row.payment_txn_no,
            amount_minor: row.amount_minor,
            currency: row.currency.map(|currency| currency.to_string()),
            fee_minor: row.fee_minor,
            occurred_at: time(row.occurred_at),
            recorded_at: time(row.recorded_at),
        }
    }
}

impl View for Entry {
    type Row = rows::Entry;
    fn of(row: rows::Entry) -> Entry {
        Entry {
            id: row.id.to_string(),
            sequence: row.seq,
            transaction_id: row.transaction_id.to_string(),
            account: row.account,
            side: Side::word(row.side),
            amount_minor: row.amount_minor,
            currency: row.currency.to_string(),
            recorded_at: time(row.recorded_at),
        }
    }
}

impl View for Event {
    type Row = rows::Outgoing;
    fn of(row: rows::Outgoing) -> Event {
        Event {
            id: row.id.to_string(),
            kind: row.kind,
            order_id: row.order_id.map(|id| id.to_string()),
            merchant: row.merchant,
            state: row.state.word(),
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at.map(time),
            last_status: row.last_status,
            created_at: time(row.created_at),
            delivered_at: row.delivered_at.map(time),
        }
    }
}

impl View for Anomaly {
    type Row = rows::Anomaly;
    fn of(row: rows::Anomaly) -> Anomaly {
        Anomaly {
            id: row.id.to_string(),
            kind: row.kind.word(),
            state: row.state.word(),
            channel: Some(row.channel).filter(|channel| !channel.is_empty()),
            transaction_id: row.transaction_id.map(|id| id.to_string()),
            detail: row.detail,
            opened_at: time(row.opened_at),
        }
    }
}
