//! The objects as they are shown: fields and their order are fixed by the interface, nulls are present, times are
//! RFC 3339 in UTC with milliseconds, amounts are whole numbers of minor units.
//!
//! Sums are 128 bits wide and may only be written by a serializer that takes them as they are (`serde_json::to_string`,
//! not `to_value`). Nothing encrypted is shown anywhere.

mod delivery;

use serde::Serialize;
use utoipa::ToSchema;

pub use super::pay::Pay;
use crate::rows;
use crate::stored_enum::{Side, StoredEnum};
use base::clock;

pub use self::delivery::{Attempt, Endpoint, Event};

/// An order of a merchant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Order {
    /// The order's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The merchant's name.
    pub merchant: String,
    /// The channel through which it is paid.
    pub channel: String,
    /// The merchant's order number, unique within the channel.
    pub out_trade_no: String,
    /// The amount, in minor units of the currency.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// What created the order: a callback or an API call.
    #[schema(value_type = String)]
    pub source: &'static str,
    /// The order's state.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Sum of its posted payments, in minor units.
    pub paid_minor: i64,
    /// Sum of its posted refunds less their reversals, in minor units.
    pub refunded_minor: i64,
    /// Sum of requested refunds that are not decided, in minor units.
    pub refund_pending_minor: i64,
    /// Time of creation.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Time of payment.
    #[schema(required = true, format = DateTime)]
    pub paid_at: Option<String>,
    /// What the payer needs, where the provider was called; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pay: Option<Pay>,
}

/// A refund that was asked for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Refund {
    /// The refund's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The order.
    #[schema(format = "uuid")]
    pub order_id: String,
    /// The merchant's number of the refund, unique within the order.
    pub out_refund_no: String,
    /// The amount, in minor units of the currency.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// The refund's state.
    #[schema(value_type = String)]
    pub state: &'static str,
}

/// A transfer between two accounts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Transfer {
    /// The transfer's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The account that is debited.
    pub debit_account: String,
    /// The account that is credited.
    pub credit_account: String,
    /// The amount, in minor units of the currency.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// The transfer's state.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// When it expires unless it is posted or voided.
    #[schema(required = true, format = DateTime)]
    pub expires_at: Option<String>,
}

/// A transaction: a fact that a provider reported, and its state.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Transaction {
    /// The transaction's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Its sequence number in the books.
    pub sequence: i64,
    /// The kind of fact: payment, refund, chargeback or other.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// The transaction's state.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// The merchant's name.
    pub merchant: String,
    /// The channel that received it.
    pub channel: String,
    /// The order that it belongs to.
    #[schema(required = true, format = "uuid")]
    pub order_id: Option<String>,
    /// The merchant's order number.
    #[schema(required = true)]
    pub out_trade_no: Option<String>,
    /// The provider's number of the transaction.
    #[schema(required = true)]
    pub channel_txn_no: Option<String>,
    /// The provider's number of the payment that it refunds or charges back.
    #[schema(required = true)]
    pub payment_txn_no: Option<String>,
    /// The amount in minor units; null if it is not known.
    #[schema(required = true)]
    pub amount_minor: Option<i64>,
    /// ISO 4217 code; null if it is not known.
    #[schema(required = true)]
    pub currency: Option<String>,
    /// The merchant's fee for a payment, in minor units.
    #[schema(required = true)]
    pub fee_minor: Option<i64>,
    /// The provider's timestamp.
    #[schema(format = DateTime)]
    pub occurred_at: String,
    /// Time of recording; it never decreases from one transaction to the next.
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

/// One side of a posting.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Entry {
    /// The entry's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Its sequence number in the books.
    pub sequence: i64,
    /// The transaction that it belongs to.
    #[schema(format = "uuid")]
    pub transaction_id: String,
    /// The account, such as `assets:channel:card`.
    pub account: String,
    /// Debit or credit.
    #[schema(value_type = String)]
    pub side: &'static str,
    /// The amount in minor units, above 0.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Time of recording.
    #[schema(format = DateTime)]
    pub recorded_at: String,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Account {
    /// The account's id, such as `assets:channel:card`.
    pub id: String,
    /// Its balances, one for each currency, by code.
    pub balances: Vec<Balance>,
}

/// An account's balance in one currency.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Balance {
    /// ISO 4217 code.
    pub currency: String,
    /// Sum of debits, in minor units.
    pub debit_minor: i128,
    /// Sum of credits, in minor units.
    pub credit_minor: i128,
    /// Debits less credits, in minor units.
    pub balance_minor: i128,
    /// Debits of refunds and transfers that are not decided, in minor units; 0 for a time in the past.
    pub pending_debit_minor: i128,
    /// Credits of refunds and transfers that are not decided, in minor units; 0 for a time in the past.
    pub pending_credit_minor: i128,
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

/// An anomaly: a fact that needs an operator's decision.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Anomaly {
    /// The anomaly's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The kind of anomaly.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// Whether it is open or resolved.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// The channel; null if it belongs to none.
    #[schema(required = true)]
    pub channel: Option<String>,
    /// The transaction that it concerns.
    #[schema(required = true, format = "uuid")]
    pub transaction_id: Option<String>,
    /// A description.
    pub detail: String,
    /// Time of detection.
    #[schema(format = DateTime)]
    pub opened_at: String,
}

/// The integrity of the books.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Integrity {
    /// Sequence number of the last row.
    pub sequence: i64,
    /// The last link of the hash chain, in hex; empty if the books are empty.
    pub head: String,
    /// The anchor, which is kept outside of the store.
    #[schema(required = true)]
    pub anchored: Option<Anchored>,
    /// The last verification by this process.
    #[schema(required = true)]
    pub verified: Option<Verified>,
    /// Sums of all accounts, by currency.
    pub sums: Vec<Sum>,
}

/// The anchor of the hash chain.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Anchored {
    /// Sequence number that it holds.
    pub sequence: i64,
    /// The link at that number, in hex.
    pub head: String,
    /// Time of writing.
    #[schema(format = DateTime)]
    pub at: String,
}

/// A verification of the books.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Verified {
    /// Sequence number up to which it went.
    pub sequence: i64,
    /// Time of its end.
    #[schema(format = DateTime)]
    pub at: String,
    /// Whether it found no discrepancy.
    pub ok: bool,
}

/// Debits and credits of a currency, which are equal.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Sum {
    /// ISO 4217 code.
    pub currency: String,
    /// Sum of debits, in minor units.
    pub debit_minor: i128,
    /// Sum of credits, in minor units.
    pub credit_minor: i128,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The rows, newest first.
    pub data: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
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
        let (amount_minor, currency) = row.asked();
        Order {
            id: row.id.to_string(),
            merchant: row.merchant,
            channel: row.channel,
            out_trade_no: row.out_trade_no,
            amount_minor,
            currency: currency.to_string(),
            source: row.source.word(),
            state: row.state.word(),
            paid_minor: row.paid_minor,
            refunded_minor: row.refunded_minor,
            refund_pending_minor: row.refund_pending_minor,
            created_at: time(row.created_at),
            paid_at: row.paid_at.map(time),
            pay: None,
        }
    }
}

impl View for Refund {
    type Row = rows::Refund;
    fn of(row: rows::Refund) -> Refund {
        Refund {
            id: row.id.to_string(),
            order_id: row.order_id.to_string(),
            out_refund_no: row.out_refund_no,
            amount_minor: row.amount_minor,
            currency: row.currency.to_string(),
            state: row.state.word(),
        }
    }
}

impl View for Transfer {
    type Row = rows::Transfer;
    fn of(row: rows::Transfer) -> Transfer {
        Transfer {
            id: row.id.to_string(),
            debit_account: row.debit_account,
            credit_account: row.credit_account,
            amount_minor: row.amount_minor,
            currency: row.currency.to_string(),
            state: row.state.word(),
            expires_at: row.expires_at.map(time),
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
