//! What a statement came to, written once: its fees, its findings, and the end of those that are explained.
//!
//! The fees that a provider kept are one journal a currency, filed under the number `statement:DAY` of the channel: a
//! statement that is run again, or corrected, books none anew.

use uuid::Uuid;

use super::facts::Facts;
use super::posting_builder::{PostingBuilder, of_channel};
use crate::reconcile::{Found, Reconciled};
use crate::rows::{Anomaly, Finding, Reconciliation, Transaction};
use crate::store::Wanted;
use crate::stored_enum::{AnomalyKind, AnomalyState, What};
use base::units::Currency;
use providers::event::Kind;

/// Adds what must be known to write it.
pub fn asks(done: &Reconciled, asked: &mut Wanted) {
    asked.reconciliations.push((done.channel.clone(), done.day.clone()));
    asked.numbers.push(("", Kind::Fee, number(done)));
}

/// The number of the statement's fees.
fn number(done: &Reconciled) -> String {
    format!("statement:{}", done.day)
}

/// Writes it; returns the reconciliation's id. `open` are the explained anomalies as they are now.
pub fn write(done: &Reconciled, open: Vec<Anomaly>, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Uuid {
    let known = facts.reconciliation(&done.channel, &done.day).cloned();
    let sums = [done.compared.rows, done.compared.matched].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let id = match known {
        Some(mut known) => {
            if [known.rows, known.matched] != sums {
                [known.rows, known.matched] = sums;
                scribe.update(&known);
            }
            known.id
        }
        None => {
            let (seq, id) = scribe.name();
            let (channel, day, [rows, matched]) = (done.channel.clone(), done.day.clone(), sums);
            let row = Reconciliation { seq, id, channel, day, created_at: scribe.now(), rows, matched };
            scribe.row(&row);
            facts.add_reconciliation(row);
            id
        }
    };
    for found in done.compared.found.iter().chain(&fees(done, facts, scribe)) {
        if !facts.has_finding(id, found.kind, &found.number) {
            find(found, (id, done), facts, scribe);
        }
    }
    for mut anomaly in open.into_iter().filter(|anomaly| anomaly.state == AnomalyState::Open) {
        if let Some((_, proof)) = done.explained.iter().find(|(id, _)| *id == anomaly.id) {
            scribe.evidence(proof);
            anomaly.state = AnomalyState::Resolved;
            scribe.update(&anomaly);
        }
    }
    id
}

fn find(found: &Found, (of, done): (Uuid, &Reconciled), facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let place = (&*done.channel, &*done.merchant);
    let anomaly_id = scribe.anomaly(found.kind, place, found.transaction_id, None, &found.detail);
    let (seq, id) = scribe.name();
    let row = Finding {
        seq,
        id,
        reconciliation_id: of,
        anomaly_id,
        kind: found.kind,
        number: found.number.clone(),
        created_at: scribe.now(),
    };
    scribe.row(&row);
    facts.add_finding(row);
}

/// Books what the provider kept, unless that is done; what differs from what was booked is found.
fn fees(done: &Reconciled, facts: &mut Facts, scribe: &mut PostingBuilder<'_>) -> Vec<Found> {
    let number = number(done);
    let mut found = vec![];
    for (currency, kept) in &done.compared.fees {
        let booked = facts.numbered("", Kind::Fee, &number).into_iter().map(|at| facts.transaction(at));
        let booked = booked.filter(|fee| fee.channel == done.channel && fee.currency == Some(*currency));
        let booked: Vec<&Transaction> = booked.collect();
        let Some(before) = booked.first() else {
            post(done, (*kept, *currency), facts, scribe);
            continue;
        };
        if before.amount_minor != Some(kept.abs()) {
            let was = before.amount_minor.unwrap_or_default();
            let detail = format!("{number}: its fees are {kept} {currency} now; {was} were booked by an earlier run");
            let (kind, transaction_id) = (AnomalyKind::FeeDiffers, Some(before.id));
            found.push(Found { kind, number: format!("{number}:{currency}"), transaction_id, detail });
        }
    }
    found
}

fn post(done: &Reconciled, (kept, currency): (i64, Currency), facts: &mut Facts, scribe: &mut PostingBuilder<'_>) {
    let own = scribe.own(Kind::Fee, (kept.abs(), currency));
    let fee = Transaction { channel: done.channel.clone(), channel_txn_no: Some(number(done)), ..own };
    scribe.row(&fee);
    let (expenses, assets) = (format!("expenses:fee:{}", done.channel), of_channel(&done.channel));
    // More was given back than kept.
    let accounts = if kept < 0 { (assets, expenses) } else { (expenses, assets) };
    scribe.between(What::Post, &fee, accounts);
    facts.add(fee);
}
