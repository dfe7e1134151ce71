//! What was asked for by API, in a book.

use super::*;
use crate::rows::{Delivery, Endpoint, Finding, Reconciliation};
use crate::stored_enum::AnomalyKind;

impl Book {
    /// Adds the adoption of an order.
    pub fn adoption(&mut self, order_id: Uuid, amount_minor: i64) {
        let (seq, id) = self.next();
        self.push(&Adoption { seq, id, order_id, amount_minor, currency: Currency::CNY, recorded_at: self.time });
    }

    /// Adds an idempotency key with its answer.
    pub fn key(&mut self, key: &str) {
        let answer_id = Some(self.evidence(""));
        let (seq, id) = self.next();
        let (key, fingerprint) = (key.to_owned(), "call".to_owned());
        self.push(&IdempotencyKey { seq, id, key, fingerprint, created_at: self.time, status: Some(201), answer_id });
    }

    /// Adds a refund that is not decided.
    pub fn refund(&mut self, order_id: Uuid, number: &str, amount_minor: i64) {
        let (seq, id) = self.next();
        self.push(&Refund {
            seq,
            id,
            order_id,
            merchant: "shop".to_owned(),
            channel: "card".to_owned(),
            out_refund_no: number.to_owned(),
            amount_minor,
            currency: Currency::CNY,
            created_at: self.time,
            state: RefundState::Pending,
            transaction_id: None,
            refund_txn_no: None,
            query_at: None,
        });
        self.holds((SHOP, CARD), amount_minor);
    }

    /// Adds an endpoint that takes all events; its settings are none.
    pub fn endpoint(&mut self, merchant: &str) -> Uuid {
        let (seq, id) = self.next();
        self.push(&Endpoint {
            seq,
            id,
            merchant: merchant.to_owned(),
            created_at: self.time,
            events: String::new(),
            paused: 0,
            settings: vec![],
            failing_since: None,
            deleted_at: None,
        });
        id
    }

    /// Adds a delivery that waits, of the first event.
    pub fn delivery(&mut self, endpoint_id: Uuid) {
        let (seq, id) = self.next();
        self.push(&Delivery {
            seq,
            id,
            event_seq: 1,
            endpoint_id,
            order_id: None,
            state: EventState::Pending,
            attempts: 0,
            round: 0,
            next_attempt_at: Some(self.time),
            last_status: None,
            delivered_at: None,
        });
    }

    /// Adds a statement's reconciliation, and what it found.
    pub fn statement(&mut self) {
        let (seq, reconciliation) = self.next();
        let (channel, day, created_at) = ("card".to_owned(), "2026-11-21".to_owned(), self.time);
        self.push(&Reconciliation { seq, id: reconciliation, channel, day, created_at, rows: 2, matched: 1 });
        let (seq, id) = self.next();
        self.push(&Finding {
            seq,
            id,
            reconciliation_id: reconciliation,
            anomaly_id: Uuid::now_v7(),
            kind: AnomalyKind::MissingInLedger,
            number: "pi_lost".to_owned(),
            created_at: self.time,
        });
    }

    /// Adds a transfer that is held.
    pub fn transfer(&mut self, debit: &str, credit: &str, amount_minor: i64) {
        let (seq, id) = self.next();
        self.push(&Transfer {
            seq,
            id,
            merchant: "shop".to_owned(),
            debit_account: debit.to_owned(),
            credit_account: credit.to_owned(),
            amount_minor,
            currency: Currency::CNY,
            created_at: self.time,
            expires_at: None,
            state: TransferState::Pending,
            transaction_id: None,
            check_at: None,
        });
        self.holds((debit, credit), amount_minor);
    }

    fn holds(&mut self, (debit, credit): (&str, &str), amount: i64) {
        self.held.entry((debit.to_owned(), "CNY")).or_default().0 += i128::from(amount);
        self.held.entry((credit.to_owned(), "CNY")).or_default().1 += i128::from(amount);
        self.balances.entry((credit.to_owned(), "CNY")).or_default();
    }
}

/// A book with a row of every table.
pub fn full() -> Book {
    let mut book = sample();
    requested(&mut book);
    book
}

/// An order that was adopted, and a refund of it that is not decided; each call has its idempotency key.
fn requested(book: &mut Book) {
    let paid_at = Some(START);
    let order_id = book.order(|order| {
        (order.state, order.out_trade_no) = (OrderState::Paid, "T-adopted".to_owned());
        (order.amount_minor, order.paid_minor, order.paid_at) = (400, 400, paid_at);
        (order.asked_minor, order.asked_currency, order.refund_pending_minor) = (Some(400), Some(Currency::CNY), 100);
    });
    let payment = book.fact(|t| {
        (t.order_id, t.out_trade_no, t.amount_minor) = (Some(order_id), Some("T-adopted".to_owned()), Some(400));
        t.channel_txn_no = Some("pi_adopted".to_owned());
    });
    book.journal(&payment, What::Post, CARD, SHOP);
    book.event(&payment, EventState::Delivered);
    book.commit();
    book.adoption(order_id, 400);
    book.key("adopted");
    book.commit();
    book.refund(order_id, "R-1", 100);
    book.transfer("liabilities:merchant:shop", "liabilities:merchant:corner", 50);
    book.key("refunded");
    book.commit();
    let endpoint_id = book.endpoint("shop");
    book.delivery(endpoint_id);
    book.commit();
    book.statement();
    book.commit();
}
