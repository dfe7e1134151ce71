//! Anomalies that a statement has explained: an earlier run found them, and this one does not; or a payment that another
//! day's statement did not have stands in this one.

use std::collections::HashSet;

use super::{Compared, report};
use crate::query;
use crate::rows::{Anomaly, Cell, Finding, Reconciliation, Value};
use crate::store::{Reader, StoreError};
use crate::stored_enum::{AnomalyKind, AnomalyState};

/// The open anomalies that what was found explains.
pub fn by(reader: &mut dyn Reader, channel: &str, day: &str, compared: &Compared) -> Result<Vec<Anomaly>, StoreError> {
    let mut explained = vec![];
    let place = [channel, day].map(|text| Value::Text(text.to_owned()));
    let known = query::rows::<Reconciliation>(reader, " WHERE channel = $1 AND day = $2", &place)?.pop();
    if let Some(known) = known {
        let now: HashSet<(AnomalyKind, &str)> = compared.found.iter().map(|one| (one.kind, &*one.number)).collect();
        let before = report::found(reader, known.id)?.into_iter();
        // What was booked of its fees stays so.
        let gone = before.filter(|(one, _)| !now.contains(&(one.kind, &*one.number)) && !is_of_fees(one));
        explained.extend(gone.map(|(_, anomaly)| anomaly));
    }
    for found in compared.found.iter().filter(|found| found.kind == AnomalyKind::WrongDay) {
        let Some(id) = found.transaction_id else { continue };
        let tail = " WHERE transaction_id = $1 AND kind = 'missing_in_statement'";
        explained.extend(query::rows::<Anomaly>(reader, tail, &[id.put()])?);
    }
    explained.retain(|anomaly| anomaly.state == AnomalyState::Open);
    explained.sort_by_key(|anomaly| anomaly.seq);
    explained.dedup_by_key(|anomaly| anomaly.id);
    Ok(explained)
}

/// Whether it is about the fees of the whole statement.
fn is_of_fees(finding: &Finding) -> bool {
    finding.kind == AnomalyKind::FeeDiffers && finding.number.starts_with("statement:")
}
