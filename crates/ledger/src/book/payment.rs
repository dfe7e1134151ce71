//! Where a payment is posted: to its order, which it opens if nobody has, or to suspense if it does not fit.

use uuid::Uuid;

use super::facts::Facts;
use super::posting_builder::PostingBuilder;
use super::{Callback, account_of, draft, fee, keep, settle, waited_for};
use crate::outcome::Outcome;
use crate::rows::{Order, Transaction};
use crate::stored_enum::{AnomalyKind, OrderState, Source, TxState};
use base::units::Currency;
use config::model::ledger::Channel;

/// Books a payment that arrived, or one that is known (`known`) and can be booked now.
pub fn arrived(
    callback: &Callback<'_>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
    (amount, currency): (i64, Currency),
    known: Option<usize>,
) -> Outcome {
    let channel = callback.channel;
    // A payment that is accepted later was paid when it came.
    let paid_at = known.map_or(scribe.now(), |at| facts.transaction(at).recorded_at);
    let number = callback.out_trade_no().unwrap_or(&callback.event.key).to_owned();
    let payment = known.map_or(Payment::Arrives(callback), Payment::Known);
    let Some(order) = facts.order_of(&channel.name, &number).map(|order| order.id) else {
        if channel.require_order {
            let draft = draft_payment(callback, facts, scribe, TxState::Parked);
            let of = Some(waits_for_order(&number));
            keep(Transaction { of, ..draft }, facts, scribe);
            return Outcome::Parked;
        }
        let order = Order { paid_at: Some(paid_at), ..opened(callback, scribe, number, (amount, currency)) };
        let id = order.id;
        scribe.row(&order);
        facts.add_order(order);
        return post(channel, payment, facts, scribe, (id, currency));
    };
    fit(channel, payment, facts, scribe, (order, (amount, currency), paid_at))
}

/// Books the payments that were parked until somebody named their order, in the order in which they came.
pub fn named(channel: &Channel, order: Uuid, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let Some(order) = facts.order(order).cloned() else { return };
    let of = waits_for_order(&order.out_trade_no);
    let waits = |parked: &Transaction| {
        parked.state == TxState::Parked && parked.of.as_ref() == Some(&of) && parked.merchant == order.merchant
    };
    let mut places = facts.payments(&channel.name, &order.out_trade_no);
    places.retain(|at| waits(facts.transaction(*at)));
    // What fits comes first: what waited for a payment belongs to that one.
    places.sort_by_key(|at| {
        let parked = facts.transaction(*at);
        (parked.amount_minor, parked.currency) != (Some(order.asked().0), Some(order.asked().1))
    });
    for at in places {
        let parked = facts.transaction(at);
        if let (Some(amount), Some(currency)) = (parked.amount_minor, parked.currency) {
            let paid_at = parked.recorded_at;
            fit(channel, Payment::Known(at), facts, scribe, (order.id, (amount, currency), paid_at));
        }
    }
}

/// The name under which a payment is parked until its order is created.
fn waits_for_order(out_trade_no: &str) -> String {
    format!("order:{out_trade_no}")
}

/// A payment to be booked.
#[derive(Clone, Copy)]
enum Payment<'a> {
    /// Its message has just come.
    Arrives(&'a Callback<'a>),
    /// It was kept without an entry, at this place.
    Known(usize),
}

/// Posts a payment to its order, or to suspense if it does not fit.
fn fit(
    channel: &Channel,
    payment: Payment<'_>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
    (id, (amount, currency), paid_at): (Uuid, (i64, Currency), i64),
) -> Outcome {
    let Some(order) = facts.order(id) else { return Outcome::Parked };
    match unlike(order, amount, currency) {
        None => {
            (order.state, order.paid_minor) = (OrderState::Paid, amount);
            order.paid_at = Some(paid_at);
            scribe.update(order);
            post(channel, payment, facts, scribe, (id, currency))
        }
        Some(why) => {
            if matches!(order.state, OrderState::Pending | OrderState::Closed) {
                order.state = OrderState::Suspense;
                scribe.update(order);
            }
            suspend(channel, payment, facts, scribe, ((id, currency), why))
        }
    }
}

/// Why a payment does not fit its order, if so.
pub fn unlike(order: &Order, amount: i64, currency: Currency) -> Option<(AnomalyKind, String)> {
    let (asked_minor, asked_currency) = order.asked();
    if order.paid_minor > 0 {
        let detail = format!("a second payment, of {amount} {currency}, of an order that is paid");
        Some((AnomalyKind::DuplicatePayment, detail))
    } else if asked_currency != currency {
        let detail = format!("the order is in {asked_currency}, the payment in {currency}");
        Some((AnomalyKind::CurrencyMismatch, detail))
    } else if asked_minor != amount {
        let detail = format!("the order says {asked_minor} {currency}, the payment {amount}");
        Some((AnomalyKind::AmountMismatch, detail))
    } else {
        None
    }
}

fn opened(
    callback: &Callback<'_>,
    scribe: &mut PostingBuilder<'_>,
    number: String,
    (amount, currency): (i64, Currency),
) -> Order {
    let (seq, id) = scribe.name();
    Order {
        seq,
        id,
        merchant: callback.channel.merchant.to_string(),
        channel: callback.channel.name.to_string(),
        out_trade_no: number,
        amount_minor: amount,
        currency,
        source: Source::Callback,
        created_at: scribe.now(),
        state: OrderState::Paid,
        paid_minor: amount,
        refunded_minor: 0,
        refund_pending_minor: 0,
        paid_at: Some(scribe.now()),
        asked_minor: None,
        asked_currency: None,
        query_at: None,
        provider_no: None,
        pay_id: None,
    }
}

fn post(
    channel: &Channel,
    payment: Payment<'_>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
    order: (Uuid, Currency),
) -> Outcome {
    let at = place(channel, payment, facts, scribe, (TxState::Posted, order));
    scribe.journal(facts.transaction(at), None);
    fee::post(at, facts, scribe);
    settle::waiting(at, facts, scribe);
    Outcome::Posted
}

fn suspend(
    channel: &Channel,
    payment: Payment<'_>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
    (order, (kind, detail)): ((Uuid, Currency), (AnomalyKind, String)),
) -> Outcome {
    let at = place(channel, payment, facts, scribe, (TxState::Suspense, order));
    let transaction = facts.transaction(at);
    scribe.journal(transaction, None);
    scribe.anomaly(kind, (&transaction.channel, &transaction.merchant), Some(transaction.id), None, &detail);
    settle::waiting(at, facts, scribe);
    Outcome::Suspense
}

/// Writes a payment, or updates a known one that was kept without an entry; returns its place.
fn place(
    channel: &Channel,
    payment: Payment<'_>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
    (state, (order, currency)): (TxState, (Uuid, Currency)),
) -> usize {
    let fee = |amount: Option<i64>| {
        let posted = amount.filter(|_| state == TxState::Posted);
        posted.and_then(|amount| fee::of(channel, amount))
    };
    match payment {
        Payment::Arrives(callback) => {
            let mut transaction = draft_payment(callback, facts, scribe, state);
            (transaction.order_id, transaction.fee_minor) = (Some(order), fee(transaction.amount_minor));
            keep(transaction, facts, scribe)
        }
        Payment::Known(at) => {
            let transaction = facts.transaction_mut(at);
            (transaction.state, transaction.order_id) = (state, Some(order));
            transaction.fee_minor = fee(transaction.amount_minor);
            transaction.currency = transaction.currency.or(Some(currency));
            scribe.update(transaction);
            at
        }
    }
}

/// A payment, filed under the account of the transactions that wait for it.
fn draft_payment(
    callback: &Callback<'_>,
    facts: &Facts,
    scribe: &mut PostingBuilder<'_>,
    state: TxState,
) -> Transaction {
    let account = account_of(callback, facts, &waited_for(callback));
    Transaction { account, ..draft(callback, scribe, state) }
}
