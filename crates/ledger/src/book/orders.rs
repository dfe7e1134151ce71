//! Orders that merchants create by API, before or after their payments come.
//!
//! A payment that no order named has opened one; the creation adopts it. If it asks for something else than was paid,
//! all that was posted for the order moves to suspense, by reversals, and refunds that were asked for are given up.

use std::sync::Arc;

use uuid::Uuid;

use super::called;
use super::facts::Facts;
use super::payment;
use super::posting_builder::PostingBuilder;
use super::refunds;
use crate::command::Refusal;
use crate::rows::{Adoption, Order};
use crate::stored_enum::{OrderState, Source, TxState, What};
use base::units::Currency;
use config::model::ledger::Channel;
use providers::event::Kind;

/// An order to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct NewOrder {
    /// The channel by which it is paid.
    pub channel: Arc<Channel>,
    /// The merchant's number, unique in the channel.
    pub out_trade_no: String,
    /// The amount in minor units, above 0.
    pub amount_minor: i64,
    /// The currency of the amount.
    pub currency: Currency,
}

/// Creates an order; returns its id.
pub fn create(asked: &NewOrder, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Result<Uuid, Refusal> {
    let NewOrder { channel, out_trade_no, amount_minor, currency } = asked;
    if let Some(order) = facts.order_of(&channel.name, out_trade_no) {
        let is_foreign = *order.merchant != *channel.merchant;
        if order.source == Source::Api || order.asked_minor.is_some() || is_foreign {
            return Err(Refusal::new(409, "order_exists", format!("The channel has an order {out_trade_no} already.")));
        }
        let id = order.id;
        adopt(id, (*amount_minor, *currency), facts, scribe);
        payment::named(channel, id, facts, scribe);
        return Ok(id);
    }
    let (seq, id) = scribe.name();
    let order = Order {
        seq,
        id,
        merchant: channel.merchant.to_string(),
        channel: channel.name.to_string(),
        out_trade_no: out_trade_no.clone(),
        amount_minor: *amount_minor,
        currency: *currency,
        source: Source::Api,
        created_at: scribe.now(),
        state: OrderState::Pending,
        paid_minor: 0,
        refunded_minor: 0,
        refund_pending_minor: 0,
        paid_at: None,
        asked_minor: None,
        asked_currency: None,
        query_at: channel.is_called().then(|| called::next(scribe.now(), scribe.now(), channel)).flatten(),
        provider_no: None,
        pay_id: None,
    };
    scribe.row(&order);
    facts.add_order(order);
    payment::named(channel, id, facts, scribe);
    Ok(id)
}

/// Adopts an order that its payment opened.
fn adopt(id: Uuid, (amount, currency): (i64, Currency), facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let (seq, row) = scribe.name();
    scribe.row(&Adoption { seq, id: row, order_id: id, amount_minor: amount, currency, recorded_at: scribe.now() });
    let Some(order) = facts.order(id) else { return };
    let is_alike = (order.amount_minor, order.currency) == (amount, currency);
    (order.asked_minor, order.asked_currency) = (Some(amount), Some(currency));
    scribe.update(order);
    if !is_alike {
        suspend(id, facts, scribe);
    }
}

/// Moves all that was posted for an order to suspense.
fn suspend(id: Uuid, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let places = facts.of_order(id);
    let is_posted = |at: &usize| {
        let transaction = facts.transaction(*at);
        transaction.kind == Kind::Payment && transaction.state == TxState::Posted
    };
    let Some(payment) = places.iter().copied().find(is_posted) else { return };
    let of = facts.transaction(payment).clone();
    for at in places {
        let transaction = facts.transaction_mut(at);
        if transaction.state != TxState::Posted {
            continue;
        }
        transaction.state = if transaction.kind == Kind::Fee { TxState::Noted } else { TxState::Suspense };
        if transaction.kind == Kind::Payment {
            transaction.fee_minor = None;
            let refunded = std::mem::take(&mut transaction.refunded_minor);
            transaction.held_minor = transaction.held_minor.saturating_add(refunded);
        }
        scribe.update(transaction);
        let moved = transaction.clone();
        scribe.entries(What::Reverse, &moved, &of);
        if moved.state == TxState::Suspense {
            scribe.entries(What::Suspend, &moved, &of);
        }
    }
    refunds::give_up(id, facts, scribe);
    let Some(order) = facts.order(id) else { return };
    (order.paid_minor, order.refunded_minor, order.paid_at) = (0, 0, None);
    let unlike =
        of.amount_minor.zip(of.currency).and_then(|(amount, currency)| payment::unlike(order, amount, currency));
    order.state = OrderState::Suspense;
    scribe.update(order);
    if let Some((kind, detail)) = unlike {
        scribe.anomaly(kind, (&of.channel, &of.merchant), Some(of.id), None, &detail);
    }
}
