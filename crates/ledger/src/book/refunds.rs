//! Refunds that merchants ask for by API. What they ask for is held until the provider's message ends it.

use uuid::Uuid;

use super::facts::{Facts, of};
use super::posting_builder::{PostingBuilder, of_channel};
use super::{Callback, settle};
use crate::command::Refusal;
use crate::query::accounts::of_merchant;
use crate::rows::{BalanceRow, Order, Refund, Transaction};
use crate::stored_enum::{AnomalyKind, RefundState, StoredEnum, TxState};
use base::units::Currency;
use providers::event::{Kind, Of, Requested};

/// A refund to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRefund {
    /// The order.
    pub order: Uuid,
    /// The merchant's number, unique in the order.
    pub out_refund_no: String,
    /// The amount in minor units, above 0.
    pub amount_minor: i64,
    /// The milliseconds after which the provider is asked about it; none if the channel's provider is never called.
    pub query_after: Option<i64>,
}

/// Asks for a refund of an order that this merchant (or the platform) may see; returns its id. `balance` is that of an
/// account now.
pub fn create(
    asked: &NewRefund,
    merchant: Option<&str>,
    facts: &mut Facts,
    balance: impl Fn(&str, Currency) -> BalanceRow,
    scribe: &mut PostingBuilder<'_>,
) -> Result<Uuid, Refusal> {
    let NewRefund { order: id, out_refund_no, amount_minor, query_after } = asked;
    let is_own = |name: &str| merchant.is_none_or(|merchant| merchant == name);
    let order = facts.order(*id).filter(|order| is_own(&order.merchant)).cloned();
    let order = order.ok_or_else(|| Refusal::new(404, "not_found", "There is no such order."))?;
    if facts.refund_where(|refund, of| of.id == *id && refund.out_refund_no == *out_refund_no).is_some() {
        return Err(Refusal::new(409, "refund_exists", format!("The order has a refund {out_refund_no} already.")));
    }
    let before = told_before(&order, out_refund_no, facts);
    if before.is_none() {
        fits(*amount_minor, &order, balance)?;
    }
    let (seq, row) = scribe.name();
    let refund = Refund {
        seq,
        id: row,
        order_id: *id,
        merchant: order.merchant.clone(),
        channel: order.channel.clone(),
        out_refund_no: out_refund_no.clone(),
        amount_minor: *amount_minor,
        currency: order.asked().1,
        created_at: scribe.now(),
        state: if before.is_some() { RefundState::Failed } else { RefundState::Pending },
        transaction_id: None,
        refund_txn_no: None,
        query_at: query_after.filter(|_| before.is_none()).map(|wait| scribe.now().saturating_add(wait)),
    };
    scribe.row(&refund);
    match before {
        None => hold(&refund, facts, scribe),
        Some(_) => facts.add_refund(refund),
    }
    if let Some(Before::Booked(booked)) = before {
        succeeded((&booked, Some(*id)), booked.amount_minor == booked.stated_minor, facts, scribe);
    }
    Ok(row)
}

/// Whether the order and its merchant have so much that can be refunded.
fn fits(amount_minor: i64, order: &Order, balance: impl Fn(&str, Currency) -> BalanceRow) -> Result<(), Refusal> {
    if order.paid_minor == 0 {
        let detail = format!("The order is {}: nothing of it can be refunded.", order.state.word());
        return Err(Refusal::new(422, "not_paid", detail));
    }
    let left = order.paid_minor - order.refunded_minor - order.refund_pending_minor;
    if amount_minor > left {
        let detail = format!("{left} of what was paid are left to be refunded, less what is asked for already.");
        return Err(Refusal::new(422, "over_refund", detail));
    }
    if balance(&of_merchant(&order.merchant), order.asked().1).free_credit() < i128::from(amount_minor) {
        let detail = "The merchant is owed less than that, after its fees, payouts and what is asked for already.";
        return Err(Refusal::new(422, "insufficient_balance", detail));
    }
    Ok(())
}

/// Holds what a refund asks for until it is decided.
fn hold(refund: &Refund, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let amount = (refund.amount_minor, refund.currency);
    scribe.hold(&of_merchant(&refund.merchant), &of_channel(&refund.channel), amount);
    facts.add_refund(refund.clone());
    if let Some(order) = facts.order(refund.order_id) {
        order.refund_pending_minor += refund.amount_minor;
        scribe.update(order);
    }
}

/// What messages told of a refund before it was asked for.
enum Before {
    Booked(Box<Transaction>),
    /// Or it was booked, and taken back.
    Failed,
}

fn told_before(order: &Order, out_refund_no: &str, facts: &Facts) -> Option<Before> {
    let of_order = || facts.of_order(order.id).into_iter().map(|at| facts.transaction(at));
    let is_named =
        |booked: &&Transaction| booked.kind == Kind::Refund && booked.out_refund_no.as_deref() == Some(out_refund_no);
    let Some(booked) = of_order().rfind(is_named) else {
        return has_failed(order, out_refund_no, facts).then_some(Before::Failed);
    };
    let reverses = |later: &Transaction| {
        later.kind == Kind::RefundReversal && later.key == booked.key && later.state != TxState::Noted
    };
    Some(if of_order().any(reverses) { Before::Failed } else { Before::Booked(Box::new(booked.clone())) })
}

/// Whether a message said, before the refund was asked for, that one of this number has failed.
fn has_failed(order: &Order, out_refund_no: &str, facts: &Facts) -> bool {
    let payments = facts.of_order(order.id).into_iter().map(|at| facts.transaction(at));
    let payments: Vec<&Transaction> = payments.filter(|payment| payment.kind == Kind::Payment).collect();
    let is_of = |noted: &Transaction, payment: &Transaction| {
        let by_number = payment.channel_txn_no.clone().map(Of::Number);
        let by_trade = payment.out_trade_no.clone().map(Of::OutTradeNo);
        let mut names = [by_number, by_trade].into_iter().flatten().map(|name| of(&name));
        (&noted.provider, &noted.account) == (&payment.provider, &payment.account)
            && names.any(|name| noted.of.as_ref() == Some(&name))
    };
    facts.naming_refund(&order.channel, out_refund_no).any(|noted| {
        let says_so = noted.state == TxState::Noted && noted.kind != Kind::Refund && !noted.key.starts_with("foreign:");
        says_so && payments.iter().any(|payment| is_of(noted, payment))
    })
}

/// Ends the refund of an order that a transaction names. `is_exact`: its amount is that of this refund alone.
pub fn succeeded(
    (transaction, order): (&Transaction, Option<Uuid>),
    is_exact: bool,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
) {
    let Some(refund) = facts.refund_where(|refund, of| Some(of.id) == order && is_named(refund, transaction)) else {
        return;
    };
    let was = refund.state;
    let other = refund.transaction_id.filter(|_| was == RefundState::Succeeded);
    if other.is_none() {
        (refund.state, refund.transaction_id) = (RefundState::Succeeded, Some(transaction.id));
        scribe.update(refund);
    }
    let refund = refund.clone();
    if was == RefundState::Pending {
        release(&refund, facts, scribe);
    }
    let place = (&*refund.channel, &*refund.merchant);
    if other.is_some_and(|other| other != transaction.id) {
        let detail = "another refund of this number was booked before";
        scribe.anomaly(AnomalyKind::ContentConflict, place, Some(transaction.id), None, detail);
    } else if is_exact && transaction.amount_minor != Some(refund.amount_minor) {
        let detail = format!("a refund of {} {} was asked for", refund.amount_minor, refund.currency);
        scribe.anomaly(AnomalyKind::AmountMismatch, place, Some(transaction.id), None, &detail);
    }
}

/// Ends the refund that a message says has failed.
pub fn failed(callback: &Callback<'_>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let Some(request) = &callback.event.request else { return };
    let payment = settle::payment_of(callback, facts).filter(|at| callback.is_own(facts, *at));
    let Some(order) = payment.and_then(|at| facts.transaction(at).order_id) else { return };
    let is_named = |refund: &Refund| match request {
        Requested::OutRefundNo(number) => refund.out_refund_no == *number,
        Requested::Number(number) => refund.refund_txn_no.as_ref() == Some(number),
    };
    let Some(refund) = facts.refund_where(|refund, of| of.id == order && is_named(refund)) else { return };
    let was = refund.state;
    let reversed = match callback.event.kind {
        Kind::RefundReversal => callback.find(facts, Kind::Refund, &callback.event.key),
        _ => None,
    };
    let reversed = reversed.map(|at| facts.transaction(at).id);
    let Some(refund) = facts.refund_where(|refund, of| of.id == order && is_named(refund)) else { return };
    if was == RefundState::Succeeded && callback.event.kind == Kind::RefundReversal && reversed != refund.transaction_id
    {
        // Another try of it failed; what was booked stays.
        return;
    }
    // What was booked is taken back by a message of its own, which makes a transaction.
    if was == RefundState::Succeeded && callback.event.kind != Kind::RefundReversal {
        let (place, booked) = ((refund.channel.clone(), refund.merchant.clone()), refund.transaction_id);
        let detail = "the refund was booked, and a message says that it failed";
        scribe.anomaly(AnomalyKind::ContentConflict, (&place.0, &place.1), booked, None, detail);
        return;
    }
    refund.state = RefundState::Failed;
    scribe.update(refund);
    let refund = refund.clone();
    if was == RefundState::Pending {
        release(&refund, facts, scribe);
    }
}

/// Gives up the refunds of an order that are not decided: its money is not the merchant's. One that goes through all the
/// same succeeds with its message.
pub fn give_up(order: Uuid, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    while let Some(refund) = facts.refund_where(|refund, of| of.id == order && refund.state == RefundState::Pending) {
        refund.state = RefundState::Failed;
        scribe.update(refund);
        let refund = refund.clone();
        release(&refund, facts, scribe);
    }
}

fn is_named(refund: &Refund, by: &Transaction) -> bool {
    let has_number = refund.refund_txn_no.is_some() && refund.refund_txn_no == by.channel_txn_no;
    has_number || by.out_refund_no.as_ref() == Some(&refund.out_refund_no)
}

/// Ends a refund that its provider refuses: nothing of it was done.
pub fn refused(id: Uuid, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let is_it = |refund: &Refund, _: &Order| refund.id == id && refund.state == RefundState::Pending;
    let Some(refund) = facts.refund_where(is_it) else { return };
    refund.state = RefundState::Failed;
    scribe.update(refund);
    let refund = refund.clone();
    release(&refund, facts, scribe);
}

/// Gives back what a decided refund held.
fn release(refund: &Refund, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let amount = (-refund.amount_minor, refund.currency);
    scribe.hold(&of_merchant(&refund.merchant), &of_channel(&refund.channel), amount);
    if let Some(order) = facts.order(refund.order_id) {
        order.refund_pending_minor -= refund.amount_minor;
        scribe.update(order);
    }
}
