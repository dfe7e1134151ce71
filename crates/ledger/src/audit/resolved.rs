//! Verifies the state of anomalies: one is resolved if its resolution is in the books, and open if not.
//!
//! All of them are compared each time, as balances are. A resolution's id follows from its anomaly's and not the other
//! way round, so new rows do not tell which of the old anomalies they resolved. There are few compared with
//! transactions.

use std::collections::HashSet;

use uuid::Uuid;

use super::page::Source;
use super::{Collected, DiscrepancyKind};
use crate::query;
use crate::resolve;
use crate::rows::{Cell, Table, Type, Value};
use crate::store::{Reader, StoreError};

/// Anomalies read at once, in one view.
const PAGE: i64 = 500;

/// Verifies the state of all anomalies.
pub fn verify(reader: &mut dyn Reader, found: &mut Collected) -> Result<(), StoreError> {
    let mut after = i64::MIN;
    while let Some(last) = query::snapshot(reader, |reader| page(reader, after, found))? {
        after = last;
        reader.pause();
    }
    Ok(())
}

/// Verifies the next anomalies; returns the last one's place, or `None` at the end.
fn page(reader: &mut dyn Reader, after: i64, found: &mut Collected) -> Result<Option<i64>, StoreError> {
    let page = Source::of(Table::Anomaly, true).page(reader, (after, i64::MAX), PAGE)?;
    let Some((last, _)) = page.last() else { return Ok(None) };
    let last = *last;
    let ids = page.iter().filter_map(|(_, cells)| id(cells.as_deref())).map(resolve::id_of);
    let (tail, values) = query::among("id", ids, PAGE as usize);
    let there = reader.select(&format!("SELECT id FROM evidence{tail}"), &values, &[Type::Text])?;
    let there: HashSet<Uuid> = there.into_iter().flatten().filter_map(Uuid::take).collect();
    for (seq, cells) in page {
        // If the id is unreadable, the check of the chain reports that, too.
        let id = id(cells.as_deref());
        let resolved = id.is_some_and(|id| there.contains(&resolve::id_of(id)));
        let expected = Value::Text(if resolved { "resolved" } else { "open" }.to_owned());
        if cells.and_then(|mut cells| cells.pop()) != Some(expected) {
            found.add(DiscrepancyKind::Balance, "anomalies", id.map(|id| id.to_string()), Some(seq));
        }
    }
    Ok(Some(last))
}

fn id(cells: Option<&[Value]>) -> Option<Uuid> {
    Uuid::take(cells?.first()?.clone())
}
