//! The rules by which a verified message changes the books: pure functions, without a store.
//!
//! [`asks`] names the rows that a decision needs. [`decide`] writes rows into a [`PostingBuilder`] and keeps the
//! [`Facts`] true for the next message of the same batch. Of two messages that contend, the one earlier in the writer's
//! queue wins.
//!
//! | module | is |
//! |---|---|
//! | [`facts`] | what is known of the books while a batch is decided |
//! | [`posting_builder`] | the rows that a decision makes |
//! | [`orders`], [`refunds`], [`transfers`] | what is asked for by API |
//! | [`called`] | what came of a call to a provider, where no message of the provider tells it |
//! | [`payment`] | where a payment belongs |
//! | [`reconciled`] | what a statement came to |
//! | [`release`] | what is taken out of suspense |
//! | [`settle`] | where a refund, a chargeback or a reversal belongs once its payment is known |
//! | [`endpoints`] | which endpoints get an event |
//! | [`fee`] | the merchant's fee |

pub mod called;
pub mod endpoints;
pub mod facts;
pub mod fee;
pub mod orders;
pub mod payment;
pub mod posting_builder;
pub mod reconciled;
pub mod refunds;
pub mod release;
pub mod settle;
pub mod transfers;

use std::sync::Arc;

pub use self::facts::Facts;
pub use self::posting_builder::{PostingBuilder, Postings, Time};
use super::outcome::Outcome;
use super::rows::{Anomaly, Evidence, Transaction};
use super::store::{MeaningKey, Wanted};
use super::stored_enum::{AnomalyKind, OrderState, TxState};
use base::units::Currency;
use config::model::ledger::Channel;
use providers::event::{Amount, Effect, Kind, Of, ProviderEvent, Requested};
use providers::{Numbers, Provider};

/// The last millisecond of the year 9999, which is the last that RFC 3339 can write.
const LAST_MS: u64 = 253_402_300_799_999;

/// A verified callback, as the books see it.
#[derive(Debug)]
pub struct Callback<'a> {
    /// The provider.
    pub provider: &'static Provider,
    /// The channel that received it.
    pub channel: &'a Arc<Channel>,
    /// The meaning of the message.
    pub event: &'a ProviderEvent,
    /// The message as received.
    pub evidence: &'a Evidence,
}

impl Callback<'_> {
    /// Whether the provider's numbers are unique among all accounts, so that our transactions are found in any of them.
    fn is_global(&self) -> bool {
        matches!(self.provider.numbers, Numbers::OfAllAccounts { .. })
    }

    /// The place of a transaction by meaning: of the message's account, or one of ours filed under another account.
    /// What another merchant filed elsewhere does not count.
    fn find(&self, facts: &Facts, kind: Kind, key: &str) -> Option<usize> {
        let place = |key: String| facts.place(self.provider.name, &self.event.account, kind, &key);
        let own = self.keys(key).find_map(place);
        let elsewhere = if self.is_global() { facts.numbered(self.provider.name, kind, key) } else { vec![] };
        own.into_iter().chain(elsewhere).find(|at| self.is_own(facts, *at)).or(own)
    }

    /// The keys under which it may be filed: its own, and that of a message which came while it was not this channel's.
    fn keys(&self, key: &str) -> impl Iterator<Item = String> {
        let own = (!self.is_to_another()).then(|| key.to_owned());
        let may_be = self.is_to_another() || self.provider.names_owner;
        own.into_iter().chain(may_be.then(|| format!("foreign:{}/{key}", self.channel.name)))
    }

    /// Whether the message says that it belongs to another app or seller. It gets a key of this channel, so that the
    /// rightful owner's message is not taken for a duplicate of it.
    fn is_to_another(&self) -> bool {
        matches!(self.event.effect, Effect::Foreign(_))
    }

    /// The parked transactions that wait for this, in the order in which they came.
    fn parked(&self, facts: &Facts, of: &str) -> Vec<usize> {
        let account = (!self.is_global()).then_some(&*self.event.account);
        facts.parked(self.provider.name, account, of)
    }

    fn is_own(&self, facts: &Facts, at: usize) -> bool {
        !self.is_foreign_to(facts.transaction(at))
    }

    /// Whether this transaction came by another channel, which belongs to another merchant.
    fn is_foreign_to(&self, known: &Transaction) -> bool {
        known.channel != *self.channel.name && known.merchant != *self.channel.merchant
    }

    /// The merchant's number of the order, or the payment's own number without one.
    fn out_trade_no(&self) -> Option<&str> {
        let own = (self.event.kind == Kind::Payment).then_some(&self.event.number).and_then(Option::as_ref);
        self.event.out_trade_no.as_ref().or(own).map(String::as_str)
    }
}

/// Adds to `asked` what must be known to decide this callback.
pub fn asks(callback: &Callback<'_>, asked: &mut Wanted) {
    let (event, provider) = (callback.event, callback.provider.name);
    let trade = |number: &str| (callback.channel.name.to_string(), number.to_owned());
    if matches!(event.kind, Kind::Payment) || event.effect == Effect::Close {
        asked.orders.extend(callback.out_trade_no().map(trade));
    }
    if let Some(Of::OutTradeNo(number)) = &event.of {
        asked.trades.push(trade(number));
    }
    let mut key = |kind, key: &str| {
        let keys = callback.keys(key);
        asked.keys.extend(keys.map(|key| MeaningKey { provider, account: event.account.clone(), kind, key }));
        if callback.is_global() && kind != Kind::Other {
            asked.numbers.push((provider, kind, key.to_owned()));
        }
    };
    key(event.kind, &event.key);
    match event.kind {
        Kind::Refund => key(Kind::RefundReversal, &event.key),
        Kind::RefundReversal => key(Kind::Refund, &event.key),
        _ => {}
    }
    if let Some(Of::Number(number)) = &event.of {
        key(Kind::Payment, number);
    }
    if let Some(Requested::Number(number)) = &event.request {
        asked.refund_txns.push(number.clone());
    }
    let waiting = waited_for(callback).into_iter().chain(event.of.as_ref().map(facts::of));
    let account = (!callback.is_global()).then_some(&event.account);
    asked.waiting.extend(waiting.map(|of| (provider, account.cloned(), of)));
}

/// The names by which parked transactions refer to this payment.
fn waited_for(callback: &Callback<'_>) -> Vec<String> {
    if callback.event.kind != Kind::Payment {
        return vec![];
    }
    let number = callback.event.number.clone().map(Of::Number);
    let trade = callback.out_trade_no().map(|number| Of::OutTradeNo(number.to_owned()));
    [number, trade].into_iter().flatten().map(|of| facts::of(&of)).collect()
}

/// Adds to `asked` what must be known beside the first answers: the refunds that a message may end.
pub fn asks_more(callback: &Callback<'_>, facts: &Facts, asked: &mut Wanted) {
    let order_of = |payment: usize| facts.transaction(payment).order_id;
    if let Some(Requested::OutRefundNo(number)) = &callback.event.request {
        let order = settle::payment_of(callback, facts).and_then(order_of);
        asked.refunds.extend(order.map(|order| (order, number.clone())));
    }
    let trade = callback.out_trade_no().filter(|_| callback.event.kind == Kind::Payment);
    let order = trade.and_then(|number| facts.order_id(&callback.channel.name, number));
    for at in waited_for(callback).iter().flat_map(|of| callback.parked(facts, of)) {
        asked.refunds.extend(order.zip(facts.transaction(at).out_refund_no.clone()));
    }
}

/// Adds to `asked` what messages of one batch must know of each other: the refund that one ends, where its payment
/// comes in the same batch and joins an order that is there.
pub fn asks_together(batch: &[Callback<'_>], facts: &Facts, asked: &mut Wanted) {
    for callback in batch {
        let (Some(Requested::OutRefundNo(number)), Some(of)) = (&callback.event.request, &callback.event.of) else {
            continue;
        };
        if settle::payment_of(callback, facts).is_some() {
            continue;
        }
        let pays = |other: &&Callback<'_>| waited_for(other).contains(&facts::of(of));
        let order = |payment: &Callback<'_>| facts.order_id(&payment.channel.name, payment.out_trade_no()?);
        let orders = batch.iter().filter(pays).filter_map(order);
        asked.refunds.extend(orders.map(|order| (order, number.clone())));
    }
}

/// What parked transactions may wait for of the payments that a new order books.
pub fn waiting_for(channel: &str, out_trade_no: &str, facts: &Facts) -> Vec<(&'static str, Option<String>, String)> {
    let payments = facts.payments(channel, out_trade_no).into_iter().map(|at| facts.transaction(at));
    let parked = payments.filter(|payment| payment.state == TxState::Parked);
    let names = |payment: &Transaction| {
        let provider = Provider::named(&payment.provider)?.name;
        let number = payment.channel_txn_no.clone().map(Of::Number);
        let trade = payment.out_trade_no.clone().map(Of::OutTradeNo);
        let account = payment.account.clone();
        Some([number, trade].into_iter().flatten().map(move |of| (provider, Some(account.clone()), facts::of(&of))))
    };
    parked.filter_map(names).flatten().collect()
}

/// Adds to `asked` what must be known to take the payment of an accepted message out of suspense.
pub fn asks_to_accept(callback: &Callback<'_>, facts: &Facts, asked: &mut Wanted) {
    let known = callback.find(facts, callback.event.kind, &callback.event.key).map(|at| facts.transaction(at));
    let suspended = known.filter(|known| known.state == TxState::Suspense);
    asked.transactions_of.extend(suspended.and_then(|known| known.order_id));
}

/// Decides a callback.
pub fn decide(callback: &Callback<'_>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Outcome {
    let event = callback.event;
    if let Some(known) = callback.find(facts, event.kind, &event.key).map(|at| facts.transaction(at).clone()) {
        return again(callback, &known, scribe);
    }
    scribe.evidence(callback.evidence);
    match &event.effect {
        Effect::Note => note(callback, facts, scribe),
        Effect::Close => close(callback, facts, scribe),
        Effect::Fail => {
            refunds::failed(callback, facts, scribe);
            note(callback, facts, scribe)
        }
        Effect::Foreign(field) => foreign(callback, facts, scribe, field),
        Effect::Unreadable(reason) => unreadable(callback, facts, scribe, reason),
        Effect::Book => match (event.kind, event.amount.map(Amount::stated), event.currency) {
            (Kind::Payment, Some(amount), Some(currency)) if amount > 0 => {
                payment::arrived(callback, facts, scribe, (amount, currency), None)
            }
            (Kind::Payment, ..) => unreadable(callback, facts, scribe, "it has no amount or no currency"),
            _ => settle::arrived(callback, facts, scribe),
        },
    }
}

/// Handles a known key: a duplicate, or other content under the same key.
fn again(callback: &Callback<'_>, known: &Transaction, scribe: &mut PostingBuilder<'_>) -> Outcome {
    if callback.is_foreign_to(known) {
        scribe.evidence(callback.evidence);
        return conflict(callback, known, "its number", scribe);
    }
    let event = callback.event;
    let stated = event.amount.map(Amount::stated);
    // A query tells of one refund where callbacks tell of all so far.
    let is_one_of_all = callback.provider.cumulative_refunds && matches!(event.amount, Some(Amount::Exact(_)));
    if is_one_of_all && event.kind == Kind::Refund && (stated == known.amount_minor || known.amount_minor == Some(0)) {
        return Outcome::Duplicate;
    }
    let differs = |what: &str, ours: String, theirs: String| {
        Some(format!("another {what}: the books have {ours}, this message says {theirs}"))
    };
    let minor = |amount: Option<i64>| amount.map_or("none".to_owned(), |minor| minor.to_string());
    let code = |currency: Option<Currency>| currency.map_or("none".to_owned(), |currency| currency.to_string());
    let said = match (event.currency, callback.out_trade_no(), &known.out_trade_no) {
        _ if stated != known.stated_minor => differs("amount_minor", minor(known.stated_minor), minor(stated)),
        (Some(now), ..) if Some(now) != known.currency => differs("currency", code(known.currency), now.to_string()),
        (_, Some(now), Some(then)) if now != then => differs("out_trade_no", then.clone(), now.to_owned()),
        _ => return Outcome::Duplicate,
    };
    scribe.evidence(callback.evidence);
    scribe.anomaly(
        AnomalyKind::ContentConflict,
        (&known.channel, &known.merchant),
        Some(known.id),
        Some(callback.evidence.id),
        &said.unwrap_or_default(),
    );
    Outcome::Conflict
}

/// The message names a payment or number of another merchant: nothing is booked, whichever of them is right.
fn conflict(callback: &Callback<'_>, known: &Transaction, names: &str, scribe: &mut PostingBuilder<'_>) -> Outcome {
    let detail = format!(
        "the books have {names} for another merchant, by the channel {}: channels of one provider's account must be of one \
         merchant, or somebody signs what is not his",
        known.channel
    );
    let place = (&*callback.channel.name, &*callback.channel.merchant);
    scribe.anomaly(AnomalyKind::ContentConflict, place, Some(known.id), Some(callback.evidence.id), &detail);
    Outcome::Conflict
}

fn note(callback: &Callback<'_>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Outcome {
    let transaction = draft(callback, scribe, TxState::Noted);
    keep(transaction, facts, scribe);
    Outcome::Noted
}

fn close(callback: &Callback<'_>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Outcome {
    let order = callback.out_trade_no().and_then(|number| facts.order_of(&callback.channel.name, number));
    if let Some(order) = order.filter(|order| order.state == OrderState::Pending) {
        order.state = OrderState::Closed;
        scribe.update(order);
    }
    note(callback, facts, scribe)
}

fn foreign(callback: &Callback<'_>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>, field: &str) -> Outcome {
    let transaction = draft(callback, scribe, TxState::Noted);
    let detail = format!("the message's {field} is not the channel's: not our money");
    let place = (&*callback.channel.name, &*callback.channel.merchant);
    let id = transaction.id;
    keep(transaction, facts, scribe);
    scribe.anomaly(AnomalyKind::ForeignRecipient, place, Some(id), None, &detail);
    Outcome::Noted
}

fn unreadable(callback: &Callback<'_>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>, reason: &str) -> Outcome {
    // It waits for nothing: no payment can make it readable.
    let transaction = Transaction { of: None, payment_txn_no: None, ..draft(callback, scribe, TxState::Parked) };
    let place = (&*callback.channel.name, &*callback.channel.merchant);
    let id = transaction.id;
    keep(transaction, facts, scribe);
    scribe.anomaly(AnomalyKind::Unreadable, place, Some(id), None, reason);
    Outcome::Parked
}

/// Books a transaction that was kept without an entry, now that its message can be booked. An error says why not, and
/// then nothing is written.
pub fn accept(
    callback: &Callback<'_>,
    anomaly: &Anomaly,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
) -> Result<Outcome, String> {
    let event = callback.event;
    let at = callback.find(facts, event.kind, &event.key);
    let at = at.filter(|at| Some(facts.transaction(*at).id) == anomaly.transaction_id);
    let at = at.ok_or("By the configuration of now its message is of another transaction.")?;
    let known = facts.transaction(at);
    if known.merchant != anomaly.merchant {
        return Err("Its transaction is another merchant's.".to_owned());
    }
    if (&*known.channel, &*known.merchant) != (&*callback.channel.name, &*callback.channel.merchant) {
        return Err(format!(
            "It was recorded for the merchant {} by the channel {}, and what was recorded does not change: what comes by \
             the channel is another merchant's now.",
            known.merchant, known.channel
        ));
    }
    match &event.effect {
        Effect::Book => {}
        Effect::Foreign(field) => return Err(format!("The message's {field} is still not the channel's.")),
        Effect::Unreadable(reason) => return Err(format!("It is still unreadable: {reason}.")),
        Effect::Note | Effect::Close | Effect::Fail => return Err("Its message books nothing.".to_owned()),
    }
    match (known.state, event.kind) {
        (TxState::Posted, _) => return Err("It is in the books already.".to_owned()),
        (TxState::Suspense, Kind::Payment) => return release::payment(callback.channel, at, facts, scribe),
        (TxState::Suspense, _) => {
            return Err("It stays in suspense: what its payment leaves of it follows when that is accepted.".to_owned());
        }
        (TxState::Parked | TxState::Noted, _) => {}
    }
    if event.amount.map(Amount::stated) != known.stated_minor || known.stated_minor.is_none() {
        return Err("Its amount could not be read when it came, and what was recorded then does not change.".to_owned());
    }
    if event.kind != Kind::Payment {
        return settle::accept(callback, at, facts, scribe);
    }
    let (Some(amount), Some(currency)) = (known.amount_minor, event.currency) else {
        return Err("It has no amount or no currency.".to_owned());
    };
    if known.stated_trade_no.as_deref() != callback.out_trade_no() {
        return Err("Its order's number was read otherwise when it came, and what was recorded does not change.".into());
    }
    let number = callback.out_trade_no().unwrap_or(&event.key);
    if callback.channel.require_order && facts.order_of(&callback.channel.name, number).is_none() {
        return Err(format!("The channel requires an order: create {number} first."));
    }
    Ok(payment::arrived(callback, facts, scribe, (amount, currency), Some(at)))
}

/// The account of our transactions that wait for one of these names, else the message's own. If that account already
/// has the message's key, it is the message's own, too.
fn account_of(callback: &Callback<'_>, facts: &Facts, names: &[String]) -> String {
    let event = callback.event;
    let waits = names.iter().flat_map(|of| callback.parked(facts, of)).find(|at| callback.is_own(facts, *at));
    let account = waits.map(|at| &facts.transaction(at).account);
    let free = account.filter(|account| facts.place(callback.provider.name, account, event.kind, &event.key).is_none());
    free.unwrap_or(&event.account).clone()
}

/// A transaction of this callback, with the amount that the message states.
fn draft(callback: &Callback<'_>, scribe: &mut PostingBuilder<'_>, state: TxState) -> Transaction {
    let event = callback.event;
    let (seq, id) = scribe.name();
    let stated = event.amount.map(Amount::stated);
    let occurred = event.occurred_ms.filter(|ms| *ms <= LAST_MS);
    Transaction {
        seq,
        id,
        evidence_id: Some(callback.evidence.id),
        provider: callback.provider.name.to_owned(),
        account: event.account.clone(),
        kind: event.kind,
        key: callback.keys(&event.key).next().unwrap_or_default(),
        channel: callback.channel.name.to_string(),
        merchant: callback.channel.merchant.to_string(),
        stated_trade_no: callback.out_trade_no().map(str::to_owned),
        out_trade_no: callback.out_trade_no().map(str::to_owned),
        channel_txn_no: event.number.clone(),
        of: event.of.as_ref().map(facts::of),
        amount_minor: stated,
        stated_minor: stated,
        stated_currency: event.currency,
        currency: event.currency,
        occurred_at: occurred.map_or(callback.evidence.received_at, |ms| ms as i64),
        recorded_at: scribe.now(),
        first_state: state,
        state,
        order_id: None,
        payment_txn_no: match &event.of {
            Some(Of::Number(number)) => Some(number.clone()),
            _ => None,
        },
        fee_minor: None,
        refunded_minor: 0,
        held_minor: 0,
        out_refund_no: match &event.request {
            Some(Requested::OutRefundNo(number)) => Some(number.clone()),
            _ => None,
        },
    }
}

/// Writes a transaction; returns its place in the facts.
fn keep(transaction: Transaction, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> usize {
    scribe.row(&transaction);
    if transaction.state == TxState::Parked {
        scribe.waits(transaction.of.as_deref());
    }
    facts.add(transaction)
}

#[cfg(test)]
mod tests;
