//! Builds the rows of a decision in the order of their `seq`: postings (see `docs/ledger.md`) and the merchant's
//! events.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use crate::query::accounts::of_merchant;
use crate::query::views::{self, View};
use crate::rows::{
    Anomaly, Attempt, BalanceRow, Entry, Evidence, Journal, Outgoing, Row, Table, Transaction, Typed, Update,
};
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
    /// What is added to balances.
    pub moved: Vec<Movement>,
    /// What the parked transactions of this plan wait for.
    pub waited: Vec<String>,
    /// The number of events that it put on their way, once for each address.
    pub events: usize,
    /// Attempts to send events.
    pub attempts: Vec<Attempt>,
}

/// A change of an account's balance in one currency, in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Movement {
    /// The account, such as `assets:channel:card`.
    pub account: String,
    /// The currency.
    pub currency: Currency,
    /// What is added to its debits or credits.
    pub side: Side,
    /// The amount; below 0 only for what is pending no more.
    pub amount: i64,
    /// Whether it is asked for and not decided: it has no entry.
    pub pending: bool,
}

impl Movement {
    /// Adds it to the balance of its account and currency.
    pub fn add_to(&self, balance: &mut BalanceRow) {
        *match (self.pending, self.side) {
            (false, Side::Debit) => &mut balance.debit,
            (false, Side::Credit) => &mut balance.credit,
            (true, Side::Debit) => &mut balance.pending_debit,
            (true, Side::Credit) => &mut balance.pending_credit,
        } += i128::from(self.amount);
    }
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

    /// The time of the clock, by which events are due.
    pub fn wall(&self) -> i64 {
        self.time.wall
    }

    /// The rows so far.
    pub fn rows(&self) -> &[Row] {
        &self.plan.rows
    }

    /// Counts what it put on its way to endpoints.
    pub fn sent(&mut self, deliveries: usize) {
        self.plan.events += deliveries;
    }

    /// The next row's `seq` and id. Write that row before you ask for another.
    pub fn name(&mut self) -> (i64, Uuid) {
        self.seq += 1;
        (self.seq, (self.ids)())
    }

    /// A posted transaction that no message made, of no channel and no merchant. It has a name, and is to be written.
    pub fn own(&mut self, kind: Kind, (amount_minor, currency): (i64, Currency)) -> Transaction {
        let (seq, id) = self.name();
        Transaction {
            seq,
            id,
            evidence_id: None,
            provider: String::new(),
            account: String::new(),
            kind,
            key: String::new(),
            channel: String::new(),
            merchant: String::new(),
            stated_trade_no: None,
            channel_txn_no: None,
            of: None,
            amount_minor: Some(amount_minor),
            stated_minor: Some(amount_minor),
            stated_currency: Some(currency),
            occurred_at: self.time.recorded,
            recorded_at: self.time.recorded,
            first_state: TxState::Posted,
            state: TxState::Posted,
            order_id: None,
            payment_txn_no: None,
            out_trade_no: None,
            currency: Some(currency),
            fee_minor: None,
            refunded_minor: 0,
            held_minor: 0,
            out_refund_no: None,
        }
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
        if transaction.amount_minor.is_none() || transaction.currency.is_none() {
            return;
        }
        let what = if transaction.state == TxState::Suspense { What::Suspend } else { What::Post };
        let of = payment.unwrap_or(transaction);
        self.entries(what, transaction, of);
        if transaction.kind != Kind::Fee {
            self.event(transaction, &of.merchant);
        }
    }

    /// Writes a journal without an event. `of` names the accounts.
    pub fn entries(&mut self, what: What, transaction: &Transaction, of: &Transaction) {
        let (debit, credit) = accounts(transaction.kind, what, &of.channel, &of.merchant);
        self.between(what, transaction, (debit, credit));
    }

    /// Writes a journal between the debited and the credited account.
    pub fn between(&mut self, what: What, transaction: &Transaction, (debit, credit): (String, String)) {
        let (Some(amount), Some(currency)) = (transaction.amount_minor, transaction.currency) else { return };
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
        for (account, side) in [(debit, Side::Debit), (credit, Side::Credit)] {
            self.entry(id, transaction.id, account, side, (amount, currency));
        }
    }

    /// Adds to what is pending between two accounts, or takes it away (below 0).
    pub fn hold(&mut self, debit: &str, credit: &str, (amount, currency): (i64, Currency)) {
        for (account, side) in [(debit, Side::Debit), (credit, Side::Credit)] {
            self.plan.moved.push(Movement { account: account.to_owned(), currency, side, amount, pending: true });
        }
    }

    fn entry(&mut self, journal: Uuid, transaction: Uuid, account: String, side: Side, money: (i64, Currency)) {
        let (seq, id) = self.name();
        let (amount_minor, currency) = money;
        let movement = Movement { account: account.clone(), currency, side, amount: amount_minor, pending: false };
        self.plan.moved.push(movement);
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
        let shown: views::Transaction = View::of(transaction.clone());
        self.tell(kind, (transaction.id, transaction.order_id), merchant, shown);
    }

    /// Writes an event about an object and its order, if it has one.
    pub fn tell(
        &mut self,
        kind: String,
        (about, order_id): (Uuid, Option<Uuid>),
        merchant: &str,
        shown: impl Serialize,
    ) {
        let event = self.outgoing(kind, (about, order_id), merchant, shown);
        self.row(&event);
        self.sent(1);
    }

    /// Writes an event that the configuration's url does not get: there it has nothing to wait for.
    pub fn tell_endpoints(
        &mut self,
        kind: &str,
        (about, order_id): (Uuid, Option<Uuid>),
        merchant: &str,
        shown: impl Serialize,
    ) -> Outgoing {
        let event = self.outgoing(kind.to_owned(), (about, order_id), merchant, shown);
        let event = Outgoing { state: EventState::Delivered, next_attempt_at: None, ..event };
        self.row(&event);
        event
    }

    fn outgoing(
        &mut self,
        kind: String,
        (about, order_id): (Uuid, Option<Uuid>),
        merchant: &str,
        shown: impl Serialize,
    ) -> Outgoing {
        let (seq, id) = self.name();
        Outgoing {
            seq,
            id,
            body: body(&kind, self.time.recorded, shown),
            kind,
            transaction_id: about,
            order_id,
            merchant: merchant.to_owned(),
            created_at: self.time.recorded,
            state: EventState::Pending,
            attempts: 0,
            round: 0,
            next_attempt_at: Some(self.time.wall),
            last_status: None,
            delivered_at: None,
        }
    }

    /// Opens an anomaly for a channel and merchant; returns its id.
    pub fn anomaly(
        &mut self,
        kind: AnomalyKind,
        (channel, merchant): (&str, &str),
        transaction_id: Option<Uuid>,
        evidence_id: Option<Uuid>,
        detail: &str,
    ) -> Uuid {
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
        id
    }

    /// Notes an attempt to send an event.
    pub fn attempt(&mut self, attempt: Attempt) {
        self.plan.attempts.push(attempt);
    }

    /// The finished plan.
    pub fn done(self) -> Postings {
        self.plan
    }
}

/// The body of an event, the same bytes at each attempt.
fn body(kind: &str, at: i64, data: impl Serialize) -> String {
    #[derive(Serialize)]
    struct Body<'a, T> {
        r#type: &'a str,
        timestamp: String,
        data: T,
    }
    let body = Body { r#type: kind, timestamp: views::time(at), data };
    // Strings and integers always have a JSON form.
    serde_json::to_string(&body).unwrap_or_default()
}

/// The debited and the credited account.
fn accounts(kind: Kind, what: What, channel: &str, merchant: &str) -> (String, String) {
    let assets = of_channel(channel);
    let owed = match what {
        What::Suspend | What::Release => format!("liabilities:suspense:{channel}"),
        What::Post | What::Reverse => of_merchant(merchant),
    };
    let (debit, credit) = match kind {
        Kind::Refund | Kind::Chargeback => (owed, assets),
        Kind::Fee => (owed, format!("income:fee:{channel}")),
        _ => (assets, owed),
    };
    match what {
        What::Post | What::Suspend => (debit, credit),
        What::Reverse | What::Release => (credit, debit),
    }
}

/// The account of the money that a channel holds for the platform.
pub fn of_channel(name: &str) -> String {
    format!("assets:channel:{name}")
}
