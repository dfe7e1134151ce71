//! The tables of the books, each with the Rust type of its rows.

use uuid::Uuid;

use super::{Cell, Column, Row, Typed, Update, Value};
use crate::stored_enum::{
    AnomalyKind, AnomalyState, EventState, OrderState, RefundState, Side, Source, TransferState, TxState, What,
};
use base::units::Currency;
use providers::event::Kind;

macro_rules! tables {
    ($(
        $(#[doc = $doc:literal])+
        $id:ident $name:literal $code:literal {
            $($(#[doc = $fdoc:literal])+ $field:ident: $ty:ty,)*
            ; $($(#[doc = $sdoc:literal])+ $sfield:ident: $sty:ty,)*
        }
    )*) => {
        /// The tables of rows. Their codes are part of the chain and never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Table { $($(#[doc = $doc])+ $id = $code,)* }

        impl Table {
            /// All tables.
            pub const ALL: &'static [Table] = &[$(Table::$id,)*];

            /// The table's name in the store.
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
                /// The row's place among all rows, from 1.
                pub seq: i64,
                /// The row's id.
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
    /// A message as received, encrypted.
    Evidence "evidence" 1 {
        /// The channel that received it.
        channel: String,
        /// The data key that encrypts it.
        key_id: Uuid,
        /// Time of arrival, in milliseconds since 1970.
        received_at: i64,
        /// Nonce, ciphertext and tag.
        headers: Vec<u8>,
        /// Nonce, ciphertext and tag.
        body: Vec<u8>,
        ;
    }
    /// An order: what a merchant asks to be paid for.
    Order "orders" 2 {
        /// The merchant.
        merchant: String,
        /// The channel by which it is paid.
        channel: String,
        /// The merchant's number; unique in the channel.
        out_trade_no: String,
        /// The amount in minor units.
        amount_minor: i64,
        /// The currency of the amounts.
        currency: Currency,
        /// Where the order comes from.
        source: Source,
        /// Time of creation, in milliseconds since 1970.
        created_at: i64,
        ;
        /// The state of the order.
        state: OrderState,
        /// The amount paid by posted payments, in minor units.
        paid_minor: i64,
        /// The amount of posted refunds less their reversals, in minor units.
        refunded_minor: i64,
        /// Refunds that were requested and are not decided, in minor units.
        refund_pending_minor: i64,
        /// Time of the payment, in milliseconds since 1970.
        paid_at: Option<i64>,
        /// The amount that an adoption asks for instead of `amount_minor`.
        asked_minor: Option<i64>,
        /// The currency that an adoption asks for.
        asked_currency: Option<Currency>,
        /// When its provider is asked about it while it is pending, in milliseconds since 1970; none if never again.
        query_at: Option<i64>,
        /// The provider's number of what was created for it, if it gave one.
        provider_no: Option<String>,
        /// The evidence that holds what the payer needs, once it is known.
        pay_id: Option<Uuid>,
    }
    /// A transaction of the books, and its state.
    Transaction "transactions" 3 {
        /// The evidence; none for a transaction that the ledger itself made.
        evidence_id: Option<Uuid>,
        /// The provider, such as `stripe` or `alipay`; empty for a transaction that the ledger itself made.
        provider: String,
        /// The account at the provider: an app_id, an mchid …
        account: String,
        /// The kind of the transaction.
        kind: Kind,
        /// The key for idempotence, unique within provider, account and kind.
        key: String,
        /// The channel that received it.
        channel: String,
        /// The merchant whose money it is.
        merchant: String,
        /// The merchant's number of the order, as the message states it.
        stated_trade_no: Option<String>,
        /// The provider's number of the transaction.
        channel_txn_no: Option<String>,
        /// The payment that it belongs to, as the message names it: `n:` and the provider's number, or `o:` and the
        /// order's.
        of: Option<String>,
        /// The amount for the books, in minor units; none if it is unknown.
        amount_minor: Option<i64>,
        /// The amount that the message states: for Alipay's refunds, the sum of all so far.
        stated_minor: Option<i64>,
        /// The currency that the message states.
        stated_currency: Option<Currency>,
        /// The provider's time, in milliseconds since 1970.
        occurred_at: i64,
        /// Time of recording, in milliseconds since 1970; never before an earlier row's.
        recorded_at: i64,
        /// The state right after its callback.
        first_state: TxState,
        ;
        /// The state now.
        state: TxState,
        /// The order; known once it is posted or in suspense.
        order_id: Option<Uuid>,
        /// The provider's number of the payment that it belongs to.
        payment_txn_no: Option<String>,
        /// The merchant's number of the order: the stated one, else its payment's.
        out_trade_no: Option<String>,
        /// The currency: the stated one, else its payment's.
        currency: Option<Currency>,
        /// The merchant's fee of a payment, in minor units.
        fee_minor: Option<i64>,
        /// Refunds of this payment posted, less their reversals.
        refunded_minor: i64,
        /// Refunds of this payment in suspense, less their reversals.
        held_minor: i64,
        /// The merchant's number of a refund, as its message names it.
        out_refund_no: Option<String>,
    }
    /// A set of entries that sums to zero.
    Journal "journals" 4 {
        /// The transaction that it posts.
        transaction_id: Uuid,
        /// Its effect on the transaction.
        what: What,
        /// The transaction's order from here on.
        order_id: Option<Uuid>,
        /// The transaction's payment from here on.
        payment_txn_no: Option<String>,
        /// Time of recording, in milliseconds since 1970.
        recorded_at: i64,
        ;
    }
    /// One debit or credit of a journal.
    Entry "entries" 5 {
        /// The journal.
        journal_id: Uuid,
        /// The transaction.
        transaction_id: Uuid,
        /// The account, such as `assets:channel:card`.
        account: String,
        /// Debit or credit.
        side: Side,
        /// The amount in minor units, above 0.
        amount_minor: i64,
        /// The currency of the amount.
        currency: Currency,
        /// Time of recording, in milliseconds since 1970.
        recorded_at: i64,
        ;
    }
    /// An event for a merchant. Its state is the outbox.
    Outgoing "events" 6 {
        /// The type of the event, such as `payment.posted`.
        kind: String,
        /// The transaction (or the transfer) that it reports.
        transaction_id: Uuid,
        /// The order, within which events are sent in order.
        order_id: Option<Uuid>,
        /// The merchant that receives it.
        merchant: String,
        /// The body, the same bytes at each attempt.
        body: String,
        /// Time of creation, in milliseconds since 1970.
        created_at: i64,
        ;
        /// The state of its delivery.
        state: EventState,
        /// Attempts so far.
        attempts: i64,
        /// Attempts since it was last redelivered: its place in the backoff.
        round: i64,
        /// When the next attempt is due, in milliseconds since 1970; none once delivered or dead.
        next_attempt_at: Option<i64>,
        /// HTTP status of the last attempt; none if no answer came.
        last_status: Option<i64>,
        /// Time of delivery, in milliseconds since 1970.
        delivered_at: Option<i64>,
    }
    /// A finding that a person must look at.
    Anomaly "anomalies" 7 {
        /// The kind of the anomaly.
        kind: AnomalyKind,
        /// The channel; empty if it concerns none.
        channel: String,
        /// The merchant; empty if it concerns none.
        merchant: String,
        /// The transaction, if any.
        transaction_id: Option<Uuid>,
        /// The evidence, if no transaction was made of it.
        evidence_id: Option<Uuid>,
        /// A description of amounts, numbers and states only.
        detail: String,
        /// Time of opening, in milliseconds since 1970.
        opened_at: i64,
        ;
        /// Whether it is resolved.
        state: AnomalyState,
    }
    /// A refund that a merchant asked for by API.
    Refund "refunds" 8 {
        /// The order.
        order_id: Uuid,
        /// The merchant.
        merchant: String,
        /// The channel by which the order was paid.
        channel: String,
        /// The merchant's number of the refund; unique in the order.
        out_refund_no: String,
        /// The amount in minor units.
        amount_minor: i64,
        /// The currency of the amount.
        currency: Currency,
        /// Time of the request, in milliseconds since 1970.
        created_at: i64,
        ;
        /// The state of the refund.
        state: RefundState,
        /// The transaction that the provider's message made of it.
        transaction_id: Option<Uuid>,
        /// The provider's number of the refund, once it is known.
        refund_txn_no: Option<String>,
        /// When its provider is asked about it while it is pending, in milliseconds since 1970; none if never.
        query_at: Option<i64>,
    }
    /// A call that an idempotency key names, and its answer.
    IdempotencyKey "idempotency_keys" 9 {
        /// The digest of the caller and its key.
        key: String,
        /// The digest of method, path and body.
        fingerprint: String,
        /// Time of the call, in milliseconds since 1970.
        created_at: i64,
        ;
        /// The HTTP status of the first answer; none while the call runs.
        status: Option<i64>,
        /// The evidence that holds the body of the first answer.
        answer_id: Option<Uuid>,
    }
    /// A transfer between two accounts that was asked for by API.
    Transfer "transfers" 11 {
        /// The merchant of the debited account, else of the credited one; empty if neither is a merchant's.
        merchant: String,
        /// The account that is debited.
        debit_account: String,
        /// The account that is credited.
        credit_account: String,
        /// The amount in minor units.
        amount_minor: i64,
        /// The currency of the amount.
        currency: Currency,
        /// Time of the request, in milliseconds since 1970.
        created_at: i64,
        /// When it expires unless it is decided, in milliseconds since 1970.
        expires_at: Option<i64>,
        ;
        /// The state of the transfer.
        state: TransferState,
        /// The transaction that posts it.
        transaction_id: Option<Uuid>,
        /// When its merchant is asked about it, in milliseconds since 1970; none once asked or decided.
        check_at: Option<i64>,
    }
    /// A provider's statement of a day, held against the books.
    Reconciliation "reconciliations" 15 {
        /// The channel.
        channel: String,
        /// The day in the provider's time zone, such as `2026-11-21`.
        day: String,
        /// Time of the first run, in milliseconds since 1970.
        created_at: i64,
        ;
        /// Rows of the statement that was run last.
        rows: i64,
        /// Its rows that are in the books as it has them.
        matched: i64,
    }
    /// An anomaly that a statement found.
    Finding "findings" 16 {
        /// The statement.
        reconciliation_id: Uuid,
        /// The anomaly.
        anomaly_id: Uuid,
        /// Its kind.
        kind: AnomalyKind,
        /// The provider's number.
        number: String,
        /// Time of the finding, in milliseconds since 1970.
        created_at: i64,
        ;
    }
    /// An address of a merchant's that events are sent to, beside the configuration's.
    Endpoint "endpoints" 13 {
        /// The merchant.
        merchant: String,
        /// Time of creation, in milliseconds since 1970.
        created_at: i64,
        ;
        /// The event types that it takes, separated by commas; empty for all.
        events: String,
        /// 1 while its events wait, else 0.
        paused: i64,
        /// Its address, secret, headers, template and bounds: nonce, ciphertext and tag.
        settings: Vec<u8>,
        /// Since when every attempt has failed, in milliseconds since 1970.
        failing_since: Option<i64>,
        /// Time of deletion, in milliseconds since 1970.
        deleted_at: Option<i64>,
    }
    /// An event on its way to an endpoint that is not the configuration's.
    Delivery "deliveries" 14 {
        /// The `seq` of the event.
        event_seq: i64,
        /// The endpoint.
        endpoint_id: Uuid,
        /// The event's order, within which events are sent in order.
        order_id: Option<Uuid>,
        ;
        /// The state of the delivery.
        state: EventState,
        /// Attempts so far.
        attempts: i64,
        /// Attempts since it was last redelivered: its place in the backoff.
        round: i64,
        /// When the next attempt is due, in milliseconds since 1970; none once delivered or dead.
        next_attempt_at: Option<i64>,
        /// HTTP status of the last attempt; none if no answer came.
        last_status: Option<i64>,
        /// Time of delivery, in milliseconds since 1970.
        delivered_at: Option<i64>,
    }
    /// The creation of an order by API after its payment had opened it.
    Adoption "adoptions" 10 {
        /// The order.
        order_id: Uuid,
        /// The amount in minor units that it asks for.
        amount_minor: i64,
        /// The currency of the amount.
        currency: Currency,
        /// Time of the request, in milliseconds since 1970.
        recorded_at: i64,
        ;
    }
}

impl Table {
    /// The table with this code in the chain.
    pub fn from_code(code: u8) -> Option<Table> {
        Table::ALL.iter().copied().find(|table| *table as u8 == code)
    }
}

impl Order {
    /// The amount in minor units and the currency that it asks for.
    pub fn asked(&self) -> (i64, Currency) {
        (self.asked_minor.unwrap_or(self.amount_minor), self.asked_currency.unwrap_or(self.currency))
    }
}
