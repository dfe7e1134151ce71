//! Cumulative refunds (Alipay's): each states all refunds of its payment so far, so the last one contains the others.
//!
//! What a refund adds is recorded when it comes, and recorded amounts do not change. So of the refunds that were only
//! noted the one with the largest sum is accepted, and the others are contained in it.

use crate::query;
use crate::rows::{Anomaly, Cell, Transaction, Value};
use crate::store::{Reader, StoreError};
use crate::stored_enum::{AnomalyState, StoredEnum, TxState};
use providers::Provider;
use providers::event::Kind;

/// The most refunds of one payment that are read.
const MOST: usize = 200;

/// Why a refund that was only noted cannot be accepted: another one of its payment contains it.
pub fn contained(reader: &mut dyn Reader, refund: &Transaction) -> Result<Option<String>, StoreError> {
    let is_cumulative = Provider::named(&refund.provider).is_some_and(|provider| provider.cumulative_refunds);
    let (true, Some(stated)) = (is_cumulative && refund.state == TxState::Noted, refund.stated_minor) else {
        return Ok(None);
    };
    let mut others = beside(reader, refund)?;
    others.retain(|other| other.id != refund.id && other.stated_minor.is_some_and(|theirs| theirs >= stated));
    let number = |other: &Transaction| other.channel_txn_no.clone().unwrap_or_default();
    if let Some(other) = others.iter().find(|other| matches!(other.state, TxState::Posted | TxState::Suspense)) {
        let (number, provider) = (number(other), &refund.provider);
        return Ok(Some(format!(
            "It is contained in the refund {number}, which is booked: {provider} states all refunds of a payment together. \
             Dismiss it."
        )));
    }
    // Of two that state the same amount, the first one counts.
    others.retain(|other| {
        other.state == TxState::Noted && (other.stated_minor > refund.stated_minor || other.seq < refund.seq)
    });
    let open = open(reader, &others)?;
    let last = others.iter().filter(|other| open.contains(&Some(other.id))).max_by_key(|other| other.stated_minor);
    Ok(last.map(|other| {
        let (number, provider) = (number(other), &refund.provider);
        format!(
            "It is contained in the refund {number}, since {provider} states all refunds of a payment together: accept \
             that one."
        )
    }))
}

/// Refunds of its payment. Their keys begin with the payment's number; those that were not the channel's, with its
/// name.
fn beside(reader: &mut dyn Reader, refund: &Transaction) -> Result<Vec<Transaction>, StoreError> {
    let Some(payment) = refund.of.as_ref().and_then(|of| of.strip_prefix("n:")) else { return Ok(vec![]) };
    let tail = format!(
        " WHERE provider = $1 AND account = $2 AND kind = $3 AND \"key\" >= $4 AND \"key\" < $5 AND provider <> '' \
         ORDER BY \"key\" DESC LIMIT {MOST}"
    );
    let mut found = vec![];
    for prefix in [String::new(), format!("foreign:{}/", refund.channel)] {
        // `0` follows `/`.
        let (from, to) = (format!("{prefix}{payment}/"), format!("{prefix}{payment}0"));
        let text = |text: &str| Value::Text(text.to_owned());
        let values = [text(&refund.provider), text(&refund.account), Kind::Refund.put(), text(&from), text(&to)];
        found.extend(query::rows::<Transaction>(reader, &tail, &values)?);
    }
    Ok(found)
}

/// Those of these transactions that have an open anomaly.
fn open(reader: &mut dyn Reader, among: &[Transaction]) -> Result<Vec<Option<uuid::Uuid>>, StoreError> {
    if among.is_empty() {
        return Ok(vec![]);
    }
    let (tail, mut values) = query::among("transaction_id", among.iter().map(|one| one.id), 1);
    values.push(Value::Text(AnomalyState::Open.word().to_owned()));
    let open = query::rows::<Anomaly>(reader, &format!("{tail} AND state = ${}", values.len()), &values)?;
    Ok(open.into_iter().map(|anomaly| anomaly.transaction_id).collect())
}
