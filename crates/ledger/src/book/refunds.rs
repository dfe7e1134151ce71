//! Refunds that merchants ask for by API. What they ask for is held until the provider's message ends it.

use uuid::Uuid;

use super::Callback;
use super::facts::Facts;
use super::posting_builder::{PostingBuilder, of_channel};
use crate::command::Refusal;
use crate::query::accounts::of_merchant;
use crate::rows::{BalanceRow, Order, Refund};
use crate::stored_enum::{AnomalyKind, RefundState, StoredEnum};
use base::units::Currency;
use providers::event::Requested;

/// A refund to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRefund {
    /// The order.
    pub order: Uuid,
    /// The merchant's number, unique in the order.
    pub out_refund_no: String,
    /// The amount in minor units, above 0.
    pub amount_minor: i64,
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
    let NewRefund { order: id, out_refund_no, amount_minor } = asked;
    let is_own = |name: &str| merchant.is_none_or(|merchant| merchant == name);
    let order = facts.order(*id).filter(|order| is_own(&order.merchant)).cloned();
    let order = order.ok_or_else(|| Refusal::new(404, "not_found", "There is no such order."))?;
    if facts.refund_where(|refund, of| of.id == *id && refund.out_refund_no == *out_refund_no).is_some() {
        return Err(Refusal::new(409, "refund_exists", format!("The order has a refund {out_refund_no} already.")));
    }
    if order.paid_minor == 0 {
        let detail = format!("The order is {}: nothing of it can be refunded.", order.state.word());
        return Err(Refusal::new(422, "not_paid", detail));
    }
    let left = order.paid_minor - order.refunded_minor - order.refund_pending_minor;
    if *amount_minor > left {
        let detail = format!("{left} of what was paid are left to be refunded, less what is asked for already.");
        return Err(Refusal::new(422, "over_refund", detail));
    }
    let currency = order.asked().1;
    let (owed, held) = (of_merchant(&order.merchant), of_channel(&order.channel));
    if balance(&owed, currency).free_credit() < i128::from(*amount_minor) {
        let detail = "The merchant is owed less than that, after its fees, payouts and what is asked for already.";
        return Err(Refusal::new(422, "insufficient_balance", detail));
    }
    let (seq, row) = scribe.name();
    let refund = Refund {
        seq,
        id: row,
        order_id: *id,
        merchant: order.merchant,
        channel: order.channel,
        out_refund_no: out_refund_no.clone(),
        amount_minor: *amount_minor,
        currency,
        created_at: scribe.now(),
        state: RefundState::Pending,
        transaction_id: None,
        refund_txn_no: None,
    };
    scribe.row(&refund);
    scribe.hold(&owed, &held, (*amount_minor, currency));
    facts.add_refund(refund);
    if let Some(order) = facts.order(*id) {
        order.refund_pending_minor += amount_minor;
        scribe.update(order);
    }
    Ok(row)
}

/// Ends the refund that a booked transaction names.
pub fn succeeded(callback: &Callback<'_>, at: usize, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let transaction = facts.transaction(at).clone();
    let (Some(request), Some(order)) = (&callback.event.request, transaction.order_id) else { return };
    let Some(refund) = facts.refund_where(|refund, of| of.id == order && is_named(refund, request)) else { return };
    let was = std::mem::replace(&mut refund.state, RefundState::Succeeded);
    refund.transaction_id = Some(transaction.id);
    scribe.update(refund);
    let refund = refund.clone();
    if was == RefundState::Pending {
        release(&refund, facts, scribe);
    }
    if transaction.amount_minor != Some(refund.amount_minor) {
        let detail = format!("a refund of {} {} was asked for", refund.amount_minor, refund.currency);
        let place = (&*refund.channel, &*refund.merchant);
        scribe.anomaly(AnomalyKind::AmountMismatch, place, Some(transaction.id), None, &detail);
    }
}

/// Ends the refund that a message says has failed.
pub fn failed(callback: &Callback<'_>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let Some(request) = &callback.event.request else { return };
    let number = callback.event.out_trade_no.as_ref();
    let is_own = |order: &Order| number.is_none_or(|number| order.out_trade_no == *number);
    let Some(refund) = facts.refund_where(|refund, of| is_own(of) && is_named(refund, request)) else { return };
    let was = std::mem::replace(&mut refund.state, RefundState::Failed);
    scribe.update(refund);
    let refund = refund.clone();
    if was == RefundState::Pending {
        release(&refund, facts, scribe);
    }
}

fn is_named(refund: &Refund, request: &Requested) -> bool {
    match request {
        Requested::OutRefundNo(number) => refund.out_refund_no == *number,
        Requested::Number(number) => refund.refund_txn_no.as_ref() == Some(number),
    }
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
