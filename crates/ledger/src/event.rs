//! What a verified message means, in the words of no provider: the one form that `book` understands.

use base::units::Currency;

/// What happened to money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A payer paid.
    Payment,
    /// The payer got money back.
    Refund,
    /// The payer's bank took money back.
    Chargeback,
    /// And gave it again.
    ChargebackReversal,
    /// A refund that was posted did not reach the payer.
    RefundReversal,
    /// The merchant's fee (by configuration).
    Fee,
    /// The channel paid us.
    Settlement,
    /// We paid the merchant.
    Payout,
    /// By API.
    Transfer,
    /// Anything else a provider tells.
    Other,
}

/// A verified message.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderEvent {
    /// What happened.
    pub kind: Kind,
    /// What it is to the books.
    pub effect: Effect,
    /// Whose: app_id, mchid, the channel's name (generic), empty (Stripe). Of the message, not of the configuration.
    pub account: String,
    /// Idempotence: unique within (provider, account, kind).
    pub key: String,
    /// The provider's number of it (`channel_txn_no`).
    pub number: Option<String>,
    /// The merchant's number of the order.
    pub out_trade_no: Option<String>,
    /// The payment that a refund, chargeback or reversal is of; `None` for payments and notes.
    pub of: Option<Of>,
    /// How much; `None` where it says none, or none that can be read.
    pub amount: Option<Amount>,
    /// `None` where it says none, or none that ISO 4217 knows.
    pub currency: Option<Currency>,
    /// The provider's time of it, in milliseconds since 1970; `None`: the time of arrival.
    pub occurred_ms: Option<u64>,
}

/// What a message is to the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Money moved: the amount is there and above 0, and so is the currency, but where a refund is in its payment's.
    Book,
    /// Verified but not needed.
    Note,
    /// The order was closed unpaid.
    Close,
    /// Another's app_id, seller_id or mchid; which field, for the anomaly (`app_id`).
    Foreign(&'static str),
    /// Money moved, but how much cannot be read; why, without any content of the message.
    Unreadable(&'static str),
}

/// How the payment is found that a later fact is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// By the provider's number of the payment.
    Number(String),
    /// By the merchant's number of the order, within the channel.
    OutTradeNo(String),
}

/// How much, in minor units, from 1 to 2^53 − 1 where it is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// This much.
    Exact(i64),
    /// All refunds of the payment together, this one included (Alipay's `refund_fee`).
    Cumulative(i64),
}

impl Amount {
    /// As the message states it.
    pub fn stated(self) -> i64 {
        match self {
            Amount::Exact(minor) | Amount::Cumulative(minor) => minor,
        }
    }
}

/// The largest amount: 2^53 − 1, what every JSON reader keeps exactly.
pub const AMOUNT_MAX: i64 = (1 << 53) - 1;
