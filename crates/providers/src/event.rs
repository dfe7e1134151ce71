//! The meaning of a verified message, in one form for all providers: the form that `book` understands.

use base::units::Currency;

/// The kinds of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A payer paid.
    Payment,
    /// The payer got money back.
    Refund,
    /// The payer's bank took money back.
    Chargeback,
    /// The payer's bank returned it.
    ChargebackReversal,
    /// A posted refund did not reach the payer.
    RefundReversal,
    /// The merchant's fee (by configuration).
    Fee,
    /// The channel paid the platform.
    Settlement,
    /// The platform paid the merchant.
    Payout,
    /// A transfer by API.
    Transfer,
    /// Any other message of a provider.
    Other,
}

/// A verified message.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderEvent {
    /// The kind of the transaction.
    pub kind: Kind,
    /// What the books make of it.
    pub effect: Effect,
    /// The account at the provider: app_id or mchid as the message says, the configured account or the merchant
    /// (Stripe), or the channel's name.
    pub account: String,
    /// The key for idempotence, unique within (provider, account, kind).
    pub key: String,
    /// The provider's number of the transaction (`channel_txn_no`).
    pub number: Option<String>,
    /// The merchant's number of the order.
    pub out_trade_no: Option<String>,
    /// The payment of a refund, chargeback or reversal; `None` for payments and notes.
    pub of: Option<Of>,
    /// The amount; `None` if the message has none, or none that can be read.
    pub amount: Option<Amount>,
    /// The currency; `None` if the message has none, or none of ISO 4217.
    pub currency: Option<Currency>,
    /// The provider's time, in milliseconds since 1970; `None` means the time of arrival.
    pub occurred_ms: Option<u64>,
    /// The refund that was asked for, of which it tells the end.
    pub request: Option<Requested>,
}

/// How a message names the refund that a merchant asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// By the merchant's number of the refund.
    OutRefundNo(String),
    /// By the provider's number of it.
    Number(String),
}

/// What the books make of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Money moved. Amount (above 0) and currency are known; a refund without a currency is in its payment's.
    Book,
    /// Verified but not needed.
    Note,
    /// The order was closed unpaid.
    Close,
    /// A refund that was asked for did not go through; no money moved.
    Fail,
    /// It belongs to another app_id, seller_id or mchid; the field, for the anomaly (such as `app_id`).
    Foreign(&'static str),
    /// Money moved, but the amount cannot be read; why, without any content of the message.
    Unreadable(&'static str),
}

/// How to find the payment that a later transaction belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// By the provider's number of the payment.
    Number(String),
    /// By the merchant's number of the order, within the channel.
    OutTradeNo(String),
}

/// An amount in minor units; a booked one is from 1 to 2^53 − 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// The amount of this transaction.
    Exact(i64),
    /// The sum of all refunds of the payment, this one included (Alipay's `refund_fee`).
    Cumulative(i64),
}

impl Amount {
    /// The amount that the message states.
    pub fn stated(self) -> i64 {
        match self {
            Amount::Exact(minor) | Amount::Cumulative(minor) => minor,
        }
    }
}

/// The largest amount: 2^53 − 1, which every JSON reader keeps exactly.
pub const AMOUNT_MAX: i64 = (1 << 53) - 1;
