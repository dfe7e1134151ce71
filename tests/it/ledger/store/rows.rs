//! Rows to write: a callback's, as `book` would make them.

use base::units::Currency;
use ledger::rows::{Anomaly, BalanceRow, Entry, Evidence, Journal, Link, Order, Outgoing, Transaction, Wrap};
use ledger::rows::{Row, Typed};
use ledger::store::Changes;
use ledger::stored_enum::{AnomalyKind, AnomalyState, EventState, OrderState, Side, Source, TxState, What};
use providers::event::Kind;
use uuid::Uuid;

/// One callback's rows, from `seq` on: one of each table, two entries.
pub struct Callback {
    pub evidence: Evidence,
    pub order: Order,
    pub transaction: Transaction,
    pub journal: Journal,
    pub entries: [Entry; 2],
    pub event: Outgoing,
    pub anomaly: Anomaly,
}

pub fn id() -> Uuid {
    Uuid::now_v7()
}

pub fn cny() -> Currency {
    Currency::parse("CNY").unwrap()
}

/// A payment's, whose numbers end with `name`.
pub fn callback(seq: i64, name: &str) -> Callback {
    let at = 1_700_000_000_000 + seq;
    let order = paid(seq + 1, name, at);
    let transaction = payment(seq + 2, order.id, name, at);
    let (transaction_id, order_id) = (transaction.id, Some(order.id));
    let journal = Journal {
        seq: seq + 3,
        id: id(),
        transaction_id,
        what: What::Post,
        order_id,
        payment_txn_no: None,
        recorded_at: at,
    };
    let entry = |more: i64, side, account: &str| Entry {
        seq: seq + more,
        id: id(),
        journal_id: journal.id,
        transaction_id,
        account: account.into(),
        side,
        amount_minor: 1234,
        currency: cny(),
        recorded_at: at,
    };
    let entries = [entry(4, Side::Debit, "assets:channel:card"), entry(5, Side::Credit, "liabilities:merchant:shop")];
    Callback {
        evidence: evidence(seq, at),
        order,
        event: outgoing(seq + 6, &transaction),
        anomaly: anomaly(seq + 7, &transaction),
        transaction,
        journal,
        entries,
    }
}

fn evidence(seq: i64, at: i64) -> Evidence {
    let (headers, body) = (vec![0, 1, 2, 255], vec![9; 700]);
    Evidence { seq, id: id(), channel: "card".into(), key_id: id(), received_at: at, headers, body }
}

fn paid(seq: i64, name: &str, at: i64) -> Order {
    Order {
        seq,
        id: id(),
        merchant: "shop".into(),
        channel: "card".into(),
        out_trade_no: format!("order-{name}"),
        amount_minor: 1234,
        currency: cny(),
        source: Source::Callback,
        created_at: at,
        state: OrderState::Paid,
        paid_minor: 1234,
        refunded_minor: 0,
        refund_pending_minor: 0,
        paid_at: Some(at),
        asked_minor: None,
        asked_currency: None,
        query_at: None,
        provider_no: None,
        pay_id: None,
    }
}

fn payment(seq: i64, order: Uuid, name: &str, at: i64) -> Transaction {
    Transaction {
        seq,
        id: id(),
        evidence_id: None,
        provider: "alipay".into(),
        account: "app".into(),
        kind: Kind::Payment,
        key: format!("txn-{name}"),
        channel: "card".into(),
        merchant: "shop".into(),
        out_trade_no: Some(format!("order-{name}")),
        channel_txn_no: Some(format!("txn-{name}")),
        of: None,
        amount_minor: Some(1234),
        stated_trade_no: Some(format!("order-{name}")),
        stated_minor: Some(1234),
        stated_currency: Some(cny()),
        currency: Some(cny()),
        occurred_at: at - 5,
        recorded_at: at,
        first_state: TxState::Posted,
        state: TxState::Posted,
        order_id: Some(order),
        payment_txn_no: None,
        fee_minor: None,
        refunded_minor: 0,
        held_minor: 0,
        out_refund_no: None,
    }
}

fn outgoing(seq: i64, of: &Transaction) -> Outgoing {
    Outgoing {
        seq,
        id: id(),
        kind: "payment.posted".into(),
        transaction_id: of.id,
        order_id: of.order_id,
        merchant: "shop".into(),
        body: "{\"type\":\"payment.posted\"}".into(),
        created_at: of.recorded_at,
        state: EventState::Pending,
        attempts: 0,
        round: 0,
        next_attempt_at: Some(of.recorded_at),
        last_status: None,
        delivered_at: None,
    }
}

fn anomaly(seq: i64, of: &Transaction) -> Anomaly {
    Anomaly {
        seq,
        id: id(),
        kind: AnomalyKind::AmountMismatch,
        channel: "card".into(),
        merchant: "shop".into(),
        transaction_id: Some(of.id),
        evidence_id: None,
        detail: "1234 CNY instead of 1200 CNY — 你好, {\"a\"}, \\x".into(),
        opened_at: of.recorded_at,
        state: AnomalyState::Open,
    }
}

impl Callback {
    /// Its last row's `seq`.
    pub fn last(&self) -> i64 {
        self.anomaly.seq
    }

    /// As it is written, with a link.
    pub fn changes(&self) -> Changes {
        let mut rows: Vec<Row> = vec![self.evidence.row(), self.order.row(), self.transaction.row()];
        rows.push(self.journal.row());
        rows.extend(self.entries.iter().map(Typed::row));
        rows.extend([self.event.row(), self.anomaly.row()]);
        let link = Link { seq: self.last(), rows: vec![7; 49 * rows.len()], link: vec![self.last() as u8; 32] };
        Changes { rows, links: vec![link], ..Changes::default() }
    }
}

pub fn balance(account: &str, debit: i128) -> BalanceRow {
    BalanceRow { debit, credit: 5, pending_debit: 7, ..BalanceRow::new(account, cny()) }
}

pub fn wrap(by: &str) -> Wrap {
    let (purpose, day) = ("data".into(), "2026-11-21".into());
    Wrap { id: id(), by: by.into(), purpose, day, wrapped: vec![1, 2, 3], created_at: 17 }
}
