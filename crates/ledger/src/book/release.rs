//! Money that is taken out of suspense: a person has accepted a payment that did not fit its order.
//!
//! Each transaction gets the reversal of its journal, then the ordinary one. Refunds and chargebacks of the payment
//! follow it, as far as they do not take more than was paid.

use super::facts::Facts;
use super::posting_builder::PostingBuilder;
use super::{fee, settle};
use crate::outcome::Outcome;
use crate::rows::Transaction;
use crate::stored_enum::{TxState, What};
use config::model::ledger::Channel;
use providers::event::Kind;

/// Posts a payment in suspense and what belongs to it; an error says why that cannot be, and then nothing is written.
pub fn payment(
    channel: &Channel,
    at: usize,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
) -> Result<Outcome, String> {
    let known = facts.transaction(at).clone();
    let order = known.order_id.and_then(|id| facts.order(id)).cloned().ok_or("It has no order.")?;
    let (Some(amount), Some(currency)) = (known.amount_minor, known.currency) else {
        return Err("It has no amount or no currency.".to_owned());
    };
    if currency != order.asked().1 {
        return Err(format!(
            "It is in {currency}, and its order in {}: give it back, and dismiss it.",
            order.asked().1
        ));
    }
    let transaction = facts.transaction_mut(at);
    transaction.fee_minor = fee::of(channel, amount);
    let paid = post(at, &known, facts, scribe);
    fee::post(at, facts, scribe);
    if let Some(order) = facts.order(order.id) {
        order.paid_minor += amount;
        order.paid_at = Some(order.paid_at.map_or(paid.recorded_at, |before| before.min(paid.recorded_at)));
        order.state = settle::state_of(order);
        scribe.update(order);
    }
    let number = paid.channel_txn_no.clone();
    for later in facts.of_order(order.id) {
        let held = facts.transaction(later).clone();
        if held.state != TxState::Suspense || held.kind == Kind::Payment || held.payment_txn_no != number {
            continue;
        }
        let change = settle::refunded_by(&held);
        let payment = facts.transaction(at).clone();
        if payment.refunded_minor + change <= amount {
            post(later, &payment, facts, scribe);
            let payment = facts.transaction_mut(at);
            payment.held_minor -= change;
            settle::refunded(at, change, facts, scribe);
        }
    }
    Ok(Outcome::Posted)
}

/// Reverses the suspense of a transaction, and posts it to the accounts of `of`.
fn post(at: usize, of: &Transaction, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Transaction {
    scribe.entries(What::Release, facts.transaction(at), of);
    let transaction = facts.transaction_mut(at);
    transaction.state = TxState::Posted;
    scribe.update(transaction);
    scribe.journal(transaction, Some(of));
    transaction.clone()
}
