//! Where a refund, a chargeback or a reversal is posted once its payment is known; until then it is parked.
//!
//! A refund of a payment in suspense is in suspense too: the money that came and went is not the merchant's.
//! Chargebacks and their reversals have no bound, since a bank needs no permission. A refund that failed before it was
//! posted is only noted, and so is the refund's own message if it comes later.

use super::facts::{Facts, of};
use super::posting_builder::PostingBuilder;
use super::{Callback, account_of, conflict, draft, keep, refunds};
use crate::outcome::Outcome;
use crate::rows::{Order, Transaction};
use crate::stored_enum::{AnomalyKind, OrderState, StoredEnum, TxState};
use providers::event::{Amount, Effect, Kind, Of};

/// What becomes of a transaction that belongs to a payment.
enum Place {
    Parked,
    Noted,
    /// Posted; with the payment's place.
    Posted(usize),
    /// In suspense; with the payment's place, and an anomaly if a person must look.
    Suspense(usize, Option<(AnomalyKind, String)>),
}

/// Decides a refund, chargeback or reversal that arrived.
pub fn arrived(callback: &Callback<'_>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Outcome {
    debug_assert_eq!(callback.event.effect, Effect::Book);
    let payment = payment_of(callback, facts);
    if let Some(payment) = payment.map(|at| facts.transaction(at)).filter(|payment| callback.is_foreign_to(payment)) {
        return conflict(callback, payment, "its payment", scribe);
    }
    let taken = |account: &str| facts.place(callback.provider.name, account, callback.event.kind, &callback.event.key);
    if let Some(other) = payment.and_then(|at| taken(&facts.transaction(at).account)) {
        return conflict(callback, facts.transaction(other), "its number", scribe);
    }
    let mut transaction = draft(callback, scribe, TxState::Parked);
    if let Some(payment) = payment.map(|at| facts.transaction(at)) {
        transaction.currency = transaction.currency.or(payment.currency);
        transaction.out_trade_no = transaction.out_trade_no.or_else(|| payment.out_trade_no.clone());
        // It may have come to another endpoint of the provider's account: it is filed with its payment.
        (transaction.channel, transaction.merchant) = (payment.channel.clone(), payment.merchant.clone());
        transaction.account = payment.account.clone();
    } else if let Some(named) = &transaction.of {
        // All transactions that wait for a payment wait in one account, under which the payment is filed.
        transaction.account = account_of(callback, facts, std::slice::from_ref(named));
    }
    transaction.amount_minor = amount(callback, facts, payment);
    if let (true, Some(Amount::Exact(one))) = (callback.provider.cumulative_refunds, callback.event.amount) {
        // The callback about it states all so far.
        transaction.stated_minor = Some(so_far(callback, facts, payment).saturating_add(one));
    }
    let place = match reversed(callback, facts) {
        Some(Reversed::Nothing) => Place::Noted,
        Some(Reversed::Of(refund)) => {
            let refund = facts.transaction(refund);
            transaction.amount_minor = refund.amount_minor;
            transaction.currency = refund.currency;
            transaction.account = refund.account.clone();
            match (refund.state, payment) {
                (TxState::Posted, Some(payment)) => Place::Posted(payment),
                (TxState::Suspense, Some(payment)) => Place::Suspense(payment, None),
                _ => Place::Parked,
            }
        }
        None if transaction.amount_minor.is_none_or(|amount| amount <= 0) => Place::Noted,
        None => place(&transaction, payment, facts),
    };
    let outcome = match &place {
        Place::Parked => Outcome::Parked,
        Place::Noted => Outcome::Noted,
        Place::Posted(_) => Outcome::Posted,
        Place::Suspense(..) => Outcome::Suspense,
    };
    transaction.first_state = match outcome {
        Outcome::Posted => TxState::Posted,
        Outcome::Suspense => TxState::Suspense,
        Outcome::Noted => TxState::Noted,
        _ => TxState::Parked,
    };
    transaction.state = transaction.first_state;
    if let Place::Posted(payment) | Place::Suspense(payment, _) = place {
        name_payment(&mut transaction, facts.transaction(payment));
    }
    let at = keep(transaction, facts, scribe);
    write(at, place, facts, scribe);
    end_request(callback, at, facts, scribe);
    outcome
}

/// Ends the refund that was asked for, if a message tells its end. One that adds nothing to a cumulative amount is
/// among what was posted before.
fn end_request(callback: &Callback<'_>, at: usize, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let (transaction, amount) = (facts.transaction(at).clone(), callback.event.amount);
    match (callback.event.kind, transaction.state) {
        (Kind::Refund, TxState::Noted) if matches!(amount, Some(Amount::Cumulative(1..))) => {
            if let Some(payment) = payment_of(callback, facts) {
                refunds::succeeded((&transaction, facts.transaction(payment).order_id), false, facts, scribe);
            }
        }
        (Kind::Refund, TxState::Posted | TxState::Suspense) => {
            let is_exact = matches!(amount, Some(Amount::Exact(_)));
            refunds::succeeded((&transaction, transaction.order_id), is_exact, facts, scribe);
        }
        (Kind::RefundReversal, _) => refunds::failed(callback, facts, scribe),
        _ => {}
    }
}

/// Books a refund, chargeback or reversal that was kept without an entry; an error says why it cannot be booked.
pub fn accept(
    callback: &Callback<'_>,
    at: usize,
    facts: &mut Facts,
    scribe: &mut PostingBuilder<'_>,
) -> Result<Outcome, String> {
    let known = facts.transaction(at).clone();
    let first = "Its payment is not booked yet: accept that first.";
    let payment = payment_of(callback, facts).ok_or(first)?;
    let of = facts.transaction(payment).clone();
    if (&of.channel, &of.merchant, &of.account) != (&known.channel, &known.merchant, &known.account) {
        return Err("Its payment came by another channel.".to_owned());
    }
    let place = match reversed(callback, facts) {
        Some(Reversed::Nothing) => {
            return Err("What it takes back, or what took it back, makes it needless.".to_owned());
        }
        Some(Reversed::Of(_)) => after_refund(&known, payment, facts),
        None => place(&known, Some(payment), facts),
    };
    if !matches!(place, Place::Posted(_) | Place::Suspense(..)) {
        return Err(first.to_owned());
    }
    if known.kind == Kind::Refund && amount(callback, facts, Some(payment)) != known.amount_minor {
        return Err(
            "Other refunds of its payment came meanwhile: how much it adds is not what was recorded.".to_owned()
        );
    }
    let outcome = follow(at, place, facts, scribe);
    end_request(callback, at, facts, scribe);
    Ok(outcome)
}

/// Books what waited for a payment that is now in the books, in the order in which it came.
pub fn waiting(payment: usize, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let Transaction { provider, account, channel_txn_no, out_trade_no, .. } = facts.transaction(payment).clone();
    let number = channel_txn_no.map(|number| of(&Of::Number(number)));
    let trade = out_trade_no.map(|number| of(&Of::OutTradeNo(number)));
    let mut parked: Vec<usize> =
        [number, trade].into_iter().flatten().flat_map(|of| facts.parked(&provider, Some(&account), &of)).collect();
    parked.sort_by_key(|at| facts.transaction(*at).seq);
    for at in parked {
        let (waiting, of) = (facts.transaction(at).clone(), facts.transaction(payment));
        if waiting.merchant != of.merchant && waiting.channel != of.channel {
            let place = (&*waiting.channel, &*waiting.merchant);
            let detail = "what it waited for came, and is another merchant's: it stays parked";
            scribe.anomaly(AnomalyKind::ContentConflict, place, Some(waiting.id), None, detail);
            continue;
        }
        let place = match waiting.kind {
            Kind::RefundReversal => after_refund(&waiting, payment, facts),
            _ => place(&waiting, Some(payment), facts),
        };
        if matches!(place, Place::Posted(_) | Place::Suspense(..)) {
            follow(at, place, facts, scribe);
            let booked = facts.transaction(at).clone();
            if booked.kind == Kind::Refund {
                refunds::succeeded((&booked, booked.order_id), true, facts, scribe);
            }
        }
    }
}

/// Books a transaction that was kept without an entry, after its payment.
fn follow(at: usize, place: Place, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Outcome {
    let (state, outcome, payment) = match &place {
        Place::Posted(payment) => (TxState::Posted, Outcome::Posted, *payment),
        Place::Suspense(payment, _) => (TxState::Suspense, Outcome::Suspense, *payment),
        Place::Parked | Place::Noted => return Outcome::Parked,
    };
    let of = facts.transaction(payment).clone();
    let transaction = facts.transaction_mut(at);
    transaction.state = state;
    name_payment(transaction, &of);
    scribe.update(transaction);
    write(at, place, facts, scribe);
    outcome
}

/// Where a parked reversal belongs, by its refund.
fn after_refund(reversal: &Transaction, payment: usize, facts: &Facts) -> Place {
    let refund = facts.place(&reversal.provider, &reversal.account, Kind::Refund, &reversal.key);
    match refund.map(|at| facts.transaction(at).state) {
        Some(TxState::Posted) => Place::Posted(payment),
        Some(TxState::Suspense) => Place::Suspense(payment, None),
        _ => Place::Parked,
    }
}

fn name_payment(transaction: &mut Transaction, payment: &Transaction) {
    transaction.order_id = payment.order_id;
    transaction.payment_txn_no = payment.channel_txn_no.clone();
    transaction.currency = transaction.currency.or(payment.currency);
    transaction.out_trade_no = transaction.out_trade_no.take().or_else(|| payment.out_trade_no.clone());
}

/// The payment that a message belongs to.
pub fn payment_of(callback: &Callback<'_>, facts: &Facts) -> Option<usize> {
    match callback.event.of.as_ref()? {
        Of::Number(number) => callback.find(facts, Kind::Payment, number),
        Of::OutTradeNo(number) => facts.payment_of(&callback.channel.name, number),
    }
}

/// The amount that this message adds: a cumulative amount less what is known already.
fn amount(callback: &Callback<'_>, facts: &Facts, payment: Option<usize>) -> Option<i64> {
    match callback.event.amount? {
        Amount::Exact(amount) => Some(amount),
        Amount::Cumulative(all) => Some((all - so_far(callback, facts, payment)).max(0)),
    }
}

/// What is known to be refunded of the payment.
fn so_far(callback: &Callback<'_>, facts: &Facts, payment: Option<usize>) -> i64 {
    let booked = payment.map_or(0, |at| {
        let payment = facts.transaction(at);
        payment.refunded_minor + payment.held_minor
    });
    let parked = callback.event.of.as_ref().map(|named| callback.parked(facts, &of(named)));
    let refunds = parked.iter().flatten().map(|at| facts.transaction(*at)).filter(|t| t.kind == Kind::Refund);
    let waiting: i64 = refunds.filter_map(|refund| refund.amount_minor).sum();
    booked + waiting
}

/// For a refund's failure and for the refund itself: the effect of the other message.
enum Reversed {
    /// One of them makes the other unnecessary.
    Nothing,
    /// The refund that failed.
    Of(usize),
}

fn reversed(callback: &Callback<'_>, facts: &Facts) -> Option<Reversed> {
    let key = &callback.event.key;
    // Messages of another merchant's channel do not count.
    let own = |kind| callback.find(facts, kind, key).filter(|at| callback.is_own(facts, *at));
    match callback.event.kind {
        Kind::Refund => own(Kind::RefundReversal).map(|_| Reversed::Nothing),
        Kind::RefundReversal => {
            let refund = own(Kind::Refund);
            let counts = refund.filter(|at| facts.transaction(*at).state != TxState::Noted);
            Some(counts.map_or(Reversed::Nothing, Reversed::Of))
        }
        _ => None,
    }
}

fn place(transaction: &Transaction, payment: Option<usize>, facts: &Facts) -> Place {
    let Some(at) = payment else { return Place::Parked };
    let payment = facts.transaction(at);
    let amount = transaction.amount_minor.unwrap_or_default();
    match payment.state {
        // A payment that was only noted may be accepted later; its refunds wait until then.
        TxState::Parked | TxState::Noted => Place::Parked,
        TxState::Suspense => Place::Suspense(at, None),
        TxState::Posted if transaction.currency.is_some() && transaction.currency != payment.currency => {
            let code = |money: &Transaction| money.currency.map(|currency| currency.to_string()).unwrap_or_default();
            let detail = format!(
                "the payment is in {}, the {} in {}",
                code(payment),
                transaction.kind.word(),
                code(transaction)
            );
            Place::Suspense(at, Some((AnomalyKind::CurrencyMismatch, detail)))
        }
        TxState::Posted => {
            let left = payment.amount_minor.unwrap_or_default() - payment.refunded_minor;
            if transaction.kind == Kind::Refund && amount > left {
                let detail = format!("a refund of {amount}, where {left} of the payment are left");
                Place::Suspense(at, Some((AnomalyKind::OverRefund, detail)))
            } else {
                Place::Posted(at)
            }
        }
    }
}

/// Writes the entries and the event, and updates the payment and its order.
fn write(at: usize, place: Place, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let (payment_at, anomaly) = match place {
        Place::Parked | Place::Noted => return,
        Place::Posted(payment) => (payment, None),
        Place::Suspense(payment, anomaly) => (payment, anomaly),
    };
    let (transaction, payment) = (facts.transaction(at).clone(), facts.transaction(payment_at).clone());
    scribe.journal(&transaction, Some(&payment));
    if let Some((kind, detail)) = anomaly {
        let place = (&*transaction.channel, &*transaction.merchant);
        scribe.anomaly(kind, place, Some(transaction.id), None, &detail);
    }
    let change = refunded_by(&transaction);
    if change == 0 {
        return;
    }
    if transaction.state == TxState::Suspense {
        let payment = facts.transaction_mut(payment_at);
        payment.held_minor = payment.held_minor.saturating_add(change);
        scribe.update(payment);
        return;
    }
    refunded(payment_at, change, facts, scribe);
}

/// What a transaction adds to what is refunded of its payment.
pub fn refunded_by(transaction: &Transaction) -> i64 {
    let amount = transaction.amount_minor.unwrap_or_default();
    match transaction.kind {
        Kind::Refund => amount,
        Kind::RefundReversal => -amount,
        _ => 0,
    }
}

/// Adds to what is refunded of a payment and of its order.
pub fn refunded(payment: usize, change: i64, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let payment = facts.transaction_mut(payment);
    payment.refunded_minor += change;
    scribe.update(payment);
    if let Some(order) = payment.order_id.and_then(|id| facts.order(id)) {
        order.refunded_minor += change;
        order.state = state_of(order);
        scribe.update(order);
    }
}

/// The state of an order that is paid.
pub fn state_of(order: &Order) -> OrderState {
    match order.refunded_minor {
        0 => OrderState::Paid,
        all if all >= order.paid_minor => OrderState::Refunded,
        _ => OrderState::PartiallyRefunded,
    }
}
