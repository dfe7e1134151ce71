//! The words in which state is stored and shown.

use super::event::Kind;
use super::rows::{Cell, Type, Value};

/// Something that is stored and shown as one word.
pub trait StoredEnum: Copy + Sized + 'static {
    /// Every one, with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// Its word.
    fn word(self) -> &'static str;

    /// By its word.
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
    /// Who made an order.
    Source {
        /// A merchant.
        Api = "api",
        /// Its payment.
        Callback = "callback",
    }
    /// An order's state.
    OrderState {
        /// Nobody paid yet.
        Pending = "pending",
        /// Paid.
        Paid = "paid",
        /// A part went back.
        PartiallyRefunded = "partially_refunded",
        /// All went back.
        Refunded = "refunded",
        /// Nobody will pay.
        Closed = "closed",
        /// Its payment is in suspense.
        Suspense = "suspense",
    }
    /// A transaction's state.
    TxState {
        /// In the books.
        Posted = "posted",
        /// Waits for what it is of.
        Parked = "parked",
        /// In the books, on the suspense account.
        Suspense = "suspense",
        /// Kept, without an entry.
        Noted = "noted",
    }
    /// What a journal did to its transaction.
    What {
        /// It became posted.
        Post = "post",
        /// It became suspense.
        Suspend = "suspend",
        /// Out of suspense: the reversal, before the ordinary one.
        Release = "release",
    }
    /// A side of the books.
    Side {
        /// Left.
        Debit = "debit",
        /// Right.
        Credit = "credit",
    }
    /// Whether an event arrived.
    EventState {
        /// Not yet.
        Pending = "pending",
        /// Yes.
        Delivered = "delivered",
        /// It never will by itself.
        Dead = "dead",
    }
    /// What is wrong.
    AnomalyKind {
        /// Unlike the order's amount.
        AmountMismatch = "amount_mismatch",
        /// Unlike the order's currency.
        CurrencyMismatch = "currency_mismatch",
        /// A second payment of a paid order.
        DuplicatePayment = "duplicate_payment",
        /// A refund above what is left.
        OverRefund = "over_refund",
        /// Another's money.
        ForeignRecipient = "foreign_recipient",
        /// The same key with other content.
        ContentConflict = "content_conflict",
        /// Verified, but not to be read.
        Unreadable = "unreadable",
        /// In the statement only.
        MissingInLedger = "missing_in_ledger",
        /// In the ledger only.
        MissingInStatement = "missing_in_statement",
        /// Unlike the statement's amount.
        AmountDiffers = "amount_differs",
        /// Unlike the statement's fee.
        FeeDiffers = "fee_differs",
        /// Unlike the statement's state.
        StatusDiffers = "status_differs",
        /// Twice in the statement.
        DuplicateNumber = "duplicate_number",
        /// On another day than in the statement.
        WrongDay = "wrong_day",
        /// Its payment never came.
        RefundWithoutPayment = "refund_without_payment",
        /// Somebody changed the store.
        Tampered = "tampered",
        /// Parked for long.
        StuckPending = "stuck_pending",
        /// A merchant never heard of it.
        Undelivered = "undelivered",
    }
    /// Whether somebody has looked.
    AnomalyState {
        /// Not yet.
        Open = "open",
        /// Yes.
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
