//! Builds the rows of a decision in the order of their `seq`: postings (see `docs/ledger.md`) and the merchant's
//! events.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use crate::query::views::{self, View};
use crate::rows::{Anomaly, Entry, Evidence, Journal, Outgoing, Row, Table, Transaction, Typed, Update};
use crate::stored_enum::{AnomalyKind, AnomalyState, EventState, Side, StoredEnum, TxState, What};
use base::units::Currency;
use providers::event::Kind;

/// The rows that one callback (or one task of the writer's own) writes.
#[derive(Debug, Default, PartialEq)]
pub struct Postings {
    /// New rows by `seq`, without gaps.
    pub rows: Vec<Row>,
    /// New state of existing rows.
    pub updates: BTreeMap<(Table, i64), Update>,
    /// What the entries add to balances: account, currency, debit, credit.
    pub moved: Vec<(String, Currency, i64, i64)>,
    /// What the parked transactions of this plan wait for.
    pub waited: Vec<String>,
    /// The number of events that it put into the outbox.
    pub events: usize,
}

/// The time of a write, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// The recorded time, never before an earlier row's.
    pub recorded: i64,
    /// The time of the clock, which may have been set back; an event to be sent at once is due by it.
    pub wall: i64,
}

/// Builds one plan.
pub struct PostingBuilder<'a> {
    plan: Postings,
    seq: i64,
    time: Time,
    ids: &'a mut dyn FnMut() -> Uuid,
}

impl PostingBuilder<'_> {
    /// A builder for the rows after `seq`.
    pub fn new<'a>(seq: i64, time: Time, ids: &'a mut dyn FnMut() -> Uuid) -> PostingBuilder<'a> {
        PostingBuilder { plan: Postings::default(), seq, time, ids }
    }

    /// The recorded time.
    pub fn now(&self) -> i64 {
        self.time.recorded
    }

    /// The next row's `seq` and id. Write that row before you ask for another.
    pub fn name(&mut self) -> (i64, Uuid) {
        self.seq += 1;
        (self.seq, (self.ids)())
    }

    /// Writes a row.
    pub fn row(&mut self, row: &impl Typed) {
        self.plan.rows.push(row.row());
    }

    /// Notes that a parked transaction waits for this.
    pub fn waits(&mut self, of: Option<&str>) {
        self.plan.waited.extend(of.map(str::to_owned));
    }

    /// Writes the evidence, whose id was drawn at receipt.
    pub fn evidence(&mut self, evidence: &Evidence) {
        self.seq += 1;
        self.plan.rows.push(Row { seq: self.seq, ..evidence.row() });
    }

    /// Writes the new state of a row.
    pub fn update<T: Typed>(&mut self, row: &T) {
        self.state(row.update());
    }

    /// Writes the new state of a row, as cells.
    pub fn state(&mut self, update: Update) {
        match self.plan.rows.iter_mut().find(|new| new.table == update.table && new.seq == update.seq) {
            Some(new) => {
                let frozen = new.table.frozen().len();
                new.values.splice(frozen.., update.state);
            }
            None => drop(self.plan.updates.insert((update.table, update.seq), update)),
        }
    }

    /// Posts a transaction to the accounts that its state calls for, and writes its merchant's event. `payment` is the
    /// payment it belongs to, whose accounts move.
    pub fn journal(&mut self, transaction: &Transaction, payment: Option<&Transaction>) {
        let (Some(amount), Some(currency)) = (transaction.amount_minor, transaction.currency) else { return };
        let what = if transaction.state == TxState::Suspense { What::Suspend } else { What::Post };
        let (seq, id) = self.name();
        self.row(&Journal {
            seq,
            id,
            transaction_id: transaction.id,
            what,
            order_id: transaction.order_id,
            payment_txn_no: transaction.payment_txn_no.clone(),
            recorded_at: self.time.recorded,
        });
        let of = payment.unwrap_or(transaction);
        let (debit, credit) = accounts(transaction.kind, what, &of.channel, &of.merchant);
        for (account, side) in [(debit, Side::Debit), (credit, Side::Credit)] {
            self.entry(id, transaction.id, account, side, (amount, currency));
        }
        if transaction.kind != Kind::Fee {
            self.event(transaction, &of.merchant);
        }
    }

    fn entry(&mut self, journal: Uuid, transaction: Uuid, account: String, side: Side, money: (i64, Currency)) {
        let (seq, id) = self.name();
        let (amount_minor, currency) = money;
        let (debit, credit) = if side == Side::Debit { (amount_minor, 0) } else { (0, amount_minor) };
        self.plan.moved.push((account.clone(), currency, debit, credit));
        self.row(&Entry {
            seq,
            id,
            journal_id: journal,
            transaction_id: transaction,
            account,
            side,
            amount_minor,
            currency,
            recorded_at: self.time.recorded,
        });
    }

    fn event(&mut self, transaction: &Transaction, merchant: &str) {
        let kind = format!("{}.{}", transaction.kind.word(), transaction.state.word());
        let (seq, id) = self.name();
        self.row(&Outgoing {
            seq,
            id,
            body: body(&kind, self.time.recorded, transaction),
            kind,
            transaction_id: transaction.id,
            order_id: transaction.order_id,
            merchant: merchant.to_owned(),
            created_at: self.time.recorded,
            state: EventState::Pending,
            attempts: 0,
            round: 0,
            next_attempt_at: Some(self.time.wall),
            last_status: None,
            delivered_at: None,
        });
        self.plan.events += 1;
    }

    /// Opens an anomaly for a channel and merchant.
    pub fn anomaly(
        &mut self,
        kind: AnomalyKind,
        (channel, merchant): (&str, &str),
        transaction_id: Option<Uuid>,
        evidence_id: Option<Uuid>,
        detail: &str,
    ) {
        let (seq, id) = self.name();
        self.row(&Anomaly {
            seq,
            id,
            kind,
            channel: channel.to_owned(),
            merchant: merchant.to_owned(),
            transaction_id,
            evidence_id,
            detail: detail.to_owned(),
            opened_at: self.time.recorded,
            state: AnomalyState::Open,
        });
    }

    /// The finished plan.
    pub fn done(self) -> Postings {
        self.plan
    }
}

/// The body of an event, the same bytes at each attempt.
fn body(kind: &str, at: i64, transaction: &Transaction) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        timestamp: String,
        data: views::Transaction,
    }
    let body = Body { r#type: kind, timestamp: views::time(at), data: View::of(transaction.clone()) };
    // Strings and integers always have a JSON form.
    serde_json::to_string(&body).unwrap_or_default()
}

/// The debited and the credited account.
fn accounts(kind: Kind, what: What, channel: &str, merchant: &str) -> (String, String) {
    let assets = format!("assets:channel:{channel}");
    let owed = match what {
        What::Suspend => format!("liabilities:suspense:{channel}"),
        What::Post | What::Release => format!("liabilities:merchant:{merchant}"),
    };
    match kind {
        Kind::Refund | Kind::Chargeback => (owed, assets),
        Kind::Fee => (owed, format!("income:fee:{channel}")),
        _ => (assets, owed),
    }
}
