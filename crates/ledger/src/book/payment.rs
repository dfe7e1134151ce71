//! Where a payment is posted: to its order, which it opens if nobody has, or to suspense if it does not fit.

use uuid::Uuid;

use super::facts::Facts;
use super::posting_builder::PostingBuilder;
use super::{Callback, account_of, draft, fee, keep, settle, waited_for};
use crate::outcome::Outcome;
use crate::rows::{Order, Transaction};
use crate::stored_enum::{AnomalyKind, OrderState, Source, TxState};
use base::units::Currency;

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
    let Some(order) = facts.order_of(&channel.name, &number) else {
        if channel.require_order {
            let transaction = draft_payment(callback, facts, scribe, TxState::Parked);
            keep(transaction, facts, scribe);
            return Outcome::Parked;
        }
        let order = Order { paid_at: Some(paid_at), ..opened(callback, scribe, number, (amount, currency)) };
        let id = order.id;
        scribe.row(&order);
        facts.add_order(order);
        return post_payment(callback, facts, scribe, id, known);
    };
    match unlike(order, amount, currency) {
        None => {
            (order.state, order.paid_minor) = (OrderState::Paid, amount);
            order.paid_at = Some(paid_at);
            scribe.update(order);
            let id = order.id;
            post_payment(callback, facts, scribe, id, known)
        }
        Some((kind, detail)) => {
            if matches!(order.state, OrderState::Pending | OrderState::Closed) {
                order.state = OrderState::Suspense;
                scribe.update(order);
            }
            let id = order.id;
            suspend_payment(callback, facts, scribe, (id, known), (kind, &detail))
        }
    }
}

/// Why a payment does not fit its order, if so.
fn unlike(order: &Order, amount: i64, currency: Currency) -> Option<(AnomalyKind, String)> {
    if order.paid_minor > 0 {
        let detail = format!("a second payment, of {amount} {currency}, of an order that is paid");
        Some((AnomalyKind::DuplicatePayment, detail))
    } else if order.currency != currency {
        let detail = format!("the order is in {}, the payment in {currency}", order.currency);
        Some((AnomalyKind::CurrencyMismatch, detail))
    } else if order.amount_minor != amount {
        let detail = format!("the order says {} {currency}, the payment {amount}", order.amount_minor);
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
    }
}

fn post_payment(
    callback: &Callback<'_>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
    order: Uuid,
    known: Option<usize>,
) -> Outcome {
    let at = place_payment(callback, facts, scribe, (TxState::Posted, order), known);
    scribe.journal(facts.transaction(at), None);
    fee::post(facts.transaction(at), scribe);
    settle::waiting(at, facts, scribe);
    Outcome::Posted
}

fn suspend_payment(
    callback: &Callback<'_>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
    (order, known): (Uuid, Option<usize>),
    (kind, detail): (AnomalyKind, &str),
) -> Outcome {
    let at = place_payment(callback, facts, scribe, (TxState::Suspense, order), known);
    let transaction = facts.transaction(at);
    scribe.journal(transaction, None);
    scribe.anomaly(kind, (&transaction.channel, &transaction.merchant), Some(transaction.id), None, detail);
    settle::waiting(at, facts, scribe);
    Outcome::Suspense
}

/// Writes a payment, or updates a known one that was kept without an entry; returns its place.
fn place_payment(
    callback: &Callback<'_>,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
    (state, order): (TxState, Uuid),
    known: Option<usize>,
) -> usize {
    let fee = |amount: Option<i64>| {
        let posted = amount.filter(|_| state == TxState::Posted);
        posted.and_then(|amount| fee::of(callback.channel, amount))
    };
    let Some(at) = known else {
        let mut transaction = draft_payment(callback, facts, scribe, state);
        (transaction.order_id, transaction.fee_minor) = (Some(order), fee(transaction.amount_minor));
        return keep(transaction, facts, scribe);
    };
    let transaction = facts.transaction_mut(at);
    (transaction.state, transaction.order_id) = (state, Some(order));
    transaction.fee_minor = fee(transaction.amount_minor);
    transaction.currency = transaction.currency.or(callback.event.currency);
    scribe.update(transaction);
    at
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
