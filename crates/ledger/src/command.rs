//! What callers of the API ask the writer to do, each once for its idempotency key.
//!
//! A key belongs to its caller. Its first answer is kept with the rows that it tells of, in one commit, and given again
//! to every later call with the same method, path and body, for good. The draft of the field is
//! draft-ietf-httpapi-idempotency-key-header.

use std::sync::Arc;

use ring::digest::{self, SHA256};
use serde::Serialize;
use uuid::Uuid;

use crate::book;
use crate::book::called::{self, Came, Shown, Subject};
use crate::book::facts::Facts;
use crate::book::orders::{self, NewOrder};
use crate::book::posting_builder::PostingBuilder;
use crate::book::refunds::{self, NewRefund};
use crate::book::transfers::{self, NewTransfer};
use crate::keys::DataKey;
use crate::query::views::{self, View};
use crate::rows::{BalanceRow, Evidence, IdempotencyKey, Order, Refund};
use crate::store::Wanted;
use crate::stored_enum::{OrderState, RefundState, Source};
use base::problem::Problem;
use base::units::Currency;
use http::StatusCode;

/// A call that changes the books.
#[derive(Debug)]
pub struct Command {
    /// The caller: a merchant, or the platform.
    pub merchant: Option<Arc<str>>,
    /// The digest of the caller and its key.
    pub key: String,
    /// The digest of method, path and body.
    pub fingerprint: String,
    /// What is asked for.
    pub call: Call,
    /// The key that encrypts the answer.
    pub sealing: Arc<DataKey>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// An order.
    Order(NewOrder),
    /// A refund of an order.
    Refund(NewRefund),
    /// A transfer between accounts.
    Transfer(NewTransfer),
    /// The posting of a transfer that is held.
    Post(Uuid),
    /// Its opposite.
    Void(Uuid),
}

/// Why the books do not do what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The end of the problem's type.
    pub label: &'static str,
    /// What is wrong.
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, label: &'static str, detail: impl Into<String>) -> Refusal {
        Refusal { status, label, detail: detail.into() }
    }

    /// As an answer: the status and a problem document.
    fn answer(self) -> (u16, Vec<u8>) {
        let Refusal { status, label, detail } = self;
        let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Problem::new(code, label, detail).into_json().into_bytes())
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commanded {
    /// It was decided now.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The body: JSON, a problem document from 400 on.
        body: Vec<u8>,
    },
    /// It was decided before.
    Before {
        /// The HTTP status.
        status: u16,
        /// The evidence with the body.
        answer: Uuid,
    },
    /// The key was used for another call.
    Other,
    /// The first call with the key still runs.
    Running,
    /// It is written, and its provider is to be called before it is answered: [`Finish`] ends it.
    Calls(Subject),
}

/// What came of the call that a command was to make, and its answer.
#[derive(Debug)]
pub struct Finish {
    /// What the provider was called about.
    pub subject: Subject,
    /// What came of it.
    pub came: Came,
    /// What the payer needs, encrypted, if it is new; `seq` is 0 until it is written.
    pub evidence: Option<Evidence>,
    /// When to ask again.
    pub query_at: Option<i64>,
    /// The answer to be kept, if the call was a caller's.
    pub answer: Option<FinishedAnswer>,
    /// The key that encrypts.
    pub sealing: Arc<DataKey>,
}

/// The answer to a call that waited for its provider.
#[derive(Debug)]
pub struct FinishedAnswer {
    /// The digest of the caller and its key.
    pub key: String,
    /// What the payer needs.
    pub pay: Option<views::Pay>,
    /// The provider's refusal of an order.
    pub refusal: Option<Refusal>,
}

impl Finish {
    /// Adds what must be known to write it.
    pub fn asks(&self, asked: &mut Wanted) {
        match self.subject {
            Subject::Order(id) => asked.order_ids.push(id),
            Subject::Refund(id) => asked.refund_ids.push(id),
        }
        asked.idempotency_keys.extend(self.answer.as_ref().map(|answer| answer.key.clone()));
    }

    /// Writes it.
    pub fn decide(&self, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Commanded {
        self.evidence.iter().for_each(|evidence| scribe.evidence(evidence));
        let shown = called::record(self.subject, &self.came, self.query_at, facts, scribe);
        let (Some(shown), Some(answer)) = (shown, &self.answer) else { return Commanded::Running };
        let (status, body) = match (&answer.refusal, shown) {
            (Some(refusal), _) => refusal.clone().answer(),
            (None, Shown::Order(order)) => {
                (StatusCode::CREATED.as_u16(), json(views::Order { pay: answer.pay.clone(), ..*order }))
            }
            (None, Shown::Refund(refund)) => (StatusCode::CREATED.as_u16(), json(refund)),
        };
        let Some(known) = facts.key(&answer.key).cloned() else { return Commanded::Running };
        if let (Some(status), Some(answer)) = (known.status, known.answer_id) {
            return Commanded::Before { status: u16::try_from(status).unwrap_or_default(), answer };
        }
        let answer_id = Some(keep_answer(&self.sealing, &body, scribe));
        let key = IdempotencyKey { status: Some(i64::from(status)), answer_id, ..known };
        scribe.update(&key);
        facts.add_key(key);
        Commanded::Answer { status, body }
    }
}

/// The digest of a caller and its key.
pub fn key_digest(merchant: Option<&str>, key: &str) -> String {
    let caller = merchant.map_or_else(|| "platform".to_owned(), |merchant| format!("merchant:{merchant}"));
    hashed(&[caller.as_bytes(), key.as_bytes()])
}

/// The digest of a call.
pub fn fingerprint(method: &str, path: &str, body: &[u8]) -> String {
    hashed(&[method.as_bytes(), path.as_bytes(), body])
}

/// SHA-256 over parts, none of which but the last holds a NUL.
fn hashed(parts: &[&[u8]]) -> String {
    base::hex::encode(digest::digest(&SHA256, &parts.join(&0)).as_ref())
}

impl Command {
    /// Adds what must be known to decide it.
    pub fn asks(&self, asked: &mut Wanted) {
        asked.idempotency_keys.push(self.key.clone());
        match &self.call {
            Call::Order(order) => {
                let trade = (order.channel.name.to_string(), order.out_trade_no.clone());
                asked.orders.push(trade.clone());
                asked.trades.push(trade.clone());
                asked.refunds_of.push(trade.clone());
                asked.of_orders.push(trade);
            }
            Call::Refund(refund) => {
                asked.order_ids.push(refund.order);
                asked.transactions_of.push(refund.order);
                asked.refunds.push((refund.order, refund.out_refund_no.clone()));
            }
            Call::Transfer(_) => {}
            Call::Post(id) | Call::Void(id) => asked.transfers.push(*id),
        }
    }

    /// Adds what must be known beside the first answers.
    pub fn asks_more(&self, facts: &mut Facts, asked: &mut Wanted) {
        match &self.call {
            Call::Order(order) => {
                asked.waiting.extend(book::waiting_for(&order.channel.name, &order.out_trade_no, facts));
            }
            Call::Refund(refund) => {
                let channel = facts.order(refund.order).map(|order| order.channel.clone());
                asked.named_refunds.extend(channel.zip(Some(refund.out_refund_no.clone())));
            }
            Call::Transfer(_) | Call::Post(_) | Call::Void(_) => {}
        }
    }

    /// Decides it, and writes its answer beside its rows. `balance` is that of an account now.
    pub fn decide(
        &self,
        facts: &mut Facts,
        balance: impl Fn(&str, Currency) -> BalanceRow,
        scribe: &mut PostingBuilder<'_>,
    ) -> Commanded {
        if let Some(known) = facts.key(&self.key) {
            return match (known.status, known.answer_id) {
                _ if known.fingerprint != self.fingerprint => Commanded::Other,
                (Some(status), Some(answer)) => {
                    Commanded::Before { status: u16::try_from(status).unwrap_or_default(), answer }
                }
                _ => self.unfinished(facts).map_or(Commanded::Running, Commanded::Calls),
            };
        }
        let done = self.done(facts, balance, scribe);
        if let Some(subject) = done.as_ref().ok().and_then(|_| self.calls(facts)) {
            self.keep(None, facts, scribe);
            return Commanded::Calls(subject);
        }
        let (status, body) = match done {
            Ok(body) => (self.success().as_u16(), body),
            Err(refusal) => refusal.answer(),
        };
        self.keep(Some((status, &body)), facts, scribe);
        Commanded::Answer { status, body }
    }

    /// What it made, for which the provider is to be called.
    fn calls(&self, facts: &mut Facts) -> Option<Subject> {
        let is_called = match &self.call {
            Call::Order(order) => order.channel.is_called(),
            Call::Refund(refund) => refund.query_after.is_some(),
            _ => false,
        };
        let subject = self.unfinished(facts).filter(|_| is_called)?;
        let is_pending = match subject {
            Subject::Order(id) => facts.order(id).is_some_and(|order| order.state == OrderState::Pending),
            Subject::Refund(id) => {
                facts.refund_where(|refund, _| refund.id == id && refund.state == RefundState::Pending).is_some()
            }
        };
        is_pending.then_some(subject)
    }

    /// What it made, whose provider was to be called: perhaps a process ended before it was answered.
    fn unfinished(&self, facts: &mut Facts) -> Option<Subject> {
        match &self.call {
            Call::Order(order) => {
                let order = facts.order_of(&order.channel.name, &order.out_trade_no)?;
                (order.source == Source::Api).then_some(Subject::Order(order.id))
            }
            Call::Refund(asked) => {
                let is_it = |refund: &Refund, order: &Order| {
                    order.id == asked.order && refund.out_refund_no == asked.out_refund_no
                };
                facts.refund_where(is_it).map(|refund| Subject::Refund(refund.id))
            }
            _ => None,
        }
    }

    fn success(&self) -> StatusCode {
        match self.call {
            Call::Order(_) | Call::Refund(_) | Call::Transfer(_) => StatusCode::CREATED,
            Call::Post(_) | Call::Void(_) => StatusCode::OK,
        }
    }

    /// Does it; the object that the answer shows, in JSON.
    fn done(
        &self,
        facts: &mut Facts,
        balance: impl Fn(&str, Currency) -> BalanceRow,
        scribe: &mut PostingBuilder<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        let lost = || Refusal::new(500, "internal", "What was made is not there.");
        match &self.call {
            Call::Order(order) => {
                let id = orders::create(order, facts, scribe)?;
                facts.order(id).cloned().map(views::Order::of).map(json).ok_or_else(lost)
            }
            Call::Refund(refund) => {
                let id = refunds::create(refund, self.merchant.as_deref(), facts, balance, scribe)?;
                let made = facts.refund_where(|refund, _| refund.id == id).cloned();
                made.map(views::Refund::of).map(json).ok_or_else(lost)
            }
            Call::Transfer(transfer) => {
                let id = transfers::create(transfer, facts, balance, scribe)?;
                facts.transfer(id).cloned().map(views::Transfer::of).map(json).ok_or_else(lost)
            }
            Call::Post(id) | Call::Void(id) => {
                let posts = matches!(self.call, Call::Post(_));
                transfers::decide(*id, self.merchant.as_deref(), posts, facts, balance, scribe)?;
                facts.transfer(*id).cloned().map(views::Transfer::of).map(json).ok_or_else(lost)
            }
        }
    }

    /// Writes the key and the answer, if it is known.
    fn keep(&self, answer: Option<(u16, &[u8])>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
        let answer_id = answer.map(|(_, body)| keep_answer(&self.sealing, body, scribe));
        let (seq, row) = scribe.name();
        let key = IdempotencyKey {
            seq,
            id: row,
            key: self.key.clone(),
            fingerprint: self.fingerprint.clone(),
            created_at: scribe.now(),
            status: answer.map(|(status, _)| i64::from(status)),
            answer_id,
        };
        scribe.row(&key);
        facts.add_key(key);
    }
}

/// Writes the body of an answer, encrypted; returns the id of its row.
fn keep_answer(sealing: &DataKey, body: &[u8], scribe: &mut PostingBuilder<'_>) -> Uuid {
    let (seq, id) = scribe.name();
    let seal = |column: &str, content: &[u8]| sealing.seal("evidence", column, id, content);
    scribe.row(&Evidence {
        seq,
        id,
        channel: String::new(),
        key_id: sealing.id(),
        received_at: scribe.now(),
        headers: seal("headers", b""),
        body: seal("body", body),
    });
    id
}

fn json(shown: impl Serialize) -> Vec<u8> {
    // Strings and integers always have a JSON form.
    serde_json::to_vec(&shown).unwrap_or_default()
}
