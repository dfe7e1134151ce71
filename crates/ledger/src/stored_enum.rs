//! The words in which kinds and states are stored and shown.

use super::rows::{Cell, Type, Value};
use providers::event::Kind;

/// A type that is stored and shown as one word.
pub trait StoredEnum: Copy + Sized + 'static {
    /// All values, each with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The value's word.
    fn word(self) -> &'static str;

    /// The value of a word.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }
}

macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $vdoc:literal])+ $variant:ident = $word:literal,)+ })*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $vdoc])+ $variant,)+ }
        words!(@impl $name { $($variant = $word,)+ });
    )*};
    (@impl $name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl StoredEnum for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $name::$variant),)+];
            fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }
        impl Cell for $name {
            const TYPE: Type = Type::Text;
            fn put(&self) -> Value {
                Value::Text(self.word().to_owned())
            }
            fn take(value: Value) -> Option<Self> {
                if let Value::Text(word) = value { Self::from_word(&word) } else { None }
            }
        }
    };
}

words! {
    /// Where an order comes from.
    Source {
        /// A merchant made it by API.
        Api = "api",
        /// Its payment made it.
        Callback = "callback",
    }
    /// An order's state.
    OrderState {
        /// Not paid yet.
        Pending = "pending",
        /// Paid.
        Paid = "paid",
        /// Refunded in part.
        PartiallyRefunded = "partially_refunded",
        /// Refunded in full.
        Refunded = "refunded",
        /// Closed without a payment.
        Closed = "closed",
        /// Its payment is in suspense.
        Suspense = "suspense",
    }
    /// The state of a refund that was asked for by API.
    RefundState {
        /// The provider has not decided it.
        Pending = "pending",
        /// The money went back.
        Succeeded = "succeeded",
        /// It did not.
        Failed = "failed",
    }
    /// The state of a transfer.
    TransferState {
        /// Held, and not decided.
        Pending = "pending",
        /// In the books.
        Posted = "posted",
        /// Given back by a decision.
        Voided = "voided",
        /// Given back because its time was over.
        Expired = "expired",
    }
    /// A transaction's state.
    TxState {
        /// In the books.
        Posted = "posted",
        /// Waits for its payment or order.
        Parked = "parked",
        /// In the books, on the suspense account.
        Suspense = "suspense",
        /// Kept without an entry.
        Noted = "noted",
    }
    /// The effect of a journal on its transaction.
    What {
        /// Posts it.
        Post = "post",
        /// Posts it to suspense.
        Suspend = "suspend",
        /// Takes it out of suspense: the reversing journal before the ordinary one.
        Release = "release",
        /// Takes a posted one back: the reversing journal, before one to suspense or for good.
        Reverse = "reverse",
    }
    /// A side of the books.
    Side {
        /// The left side.
        Debit = "debit",
        /// The right side.
        Credit = "credit",
    }
    /// The state of an event's delivery.
    EventState {
        /// Waits for delivery.
        Pending = "pending",
        /// A merchant accepted it.
        Delivered = "delivered",
        /// Not sent any more until it is redelivered.
        Dead = "dead",
    }
    /// The kind of an anomaly.
    AnomalyKind {
        /// The amount differs from the order's.
        AmountMismatch = "amount_mismatch",
        /// The currency differs from the order's.
        CurrencyMismatch = "currency_mismatch",
        /// A second payment of a paid order.
        DuplicatePayment = "duplicate_payment",
        /// A refund above what is left of the payment.
        OverRefund = "over_refund",
        /// Money of another recipient.
        ForeignRecipient = "foreign_recipient",
        /// The same key with other content.
        ContentConflict = "content_conflict",
        /// Verified, but the amount or a number cannot be read.
        Unreadable = "unreadable",
        /// Only in the provider's statement.
        MissingInLedger = "missing_in_ledger",
        /// Only in the ledger.
        MissingInStatement = "missing_in_statement",
        /// The amount differs from the statement's.
        AmountDiffers = "amount_differs",
        /// The fee differs from the statement's.
        FeeDiffers = "fee_differs",
        /// The state differs from the statement's.
        StatusDiffers = "status_differs",
        /// Twice in the statement.
        DuplicateNumber = "duplicate_number",
        /// On another day than in the statement.
        WrongDay = "wrong_day",
        /// Its payment never came.
        RefundWithoutPayment = "refund_without_payment",
        /// The store was changed by hand.
        Tampered = "tampered",
        /// Parked for more than an hour.
        StuckPending = "stuck_pending",
        /// An event died before its merchant accepted it.
        Undelivered = "undelivered",
    }
    /// Whether an anomaly is resolved.
    AnomalyState {
        /// Not resolved yet.
        Open = "open",
        /// Resolved by a decision.
        Resolved = "resolved",
    }
}

words!(@impl Kind {
    Payment = "payment",
    Refund = "refund",
    Chargeback = "chargeback",
    ChargebackReversal = "chargeback_reversal",
    RefundReversal = "refund_reversal",
    Fee = "fee",
    Settlement = "settlement",
    Payout = "payout",
    Transfer = "transfer",
    Other = "other",
});
