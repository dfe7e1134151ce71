//! Anomalies: one is resolved where its resolution is there, and open where it is not.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Found, Harm};
use crate::ledger::query;
use crate::ledger::resolve;
use crate::ledger::rows::{Cell, Type, Value};
use crate::ledger::store::{Failure, Reader};

/// Anomalies read at once.
const PAGE: i64 = 500;
const ANOMALIES: &str = "SELECT seq, id, state FROM anomalies WHERE seq > $1 ORDER BY seq LIMIT $2";

/// Verifies the state of every anomaly.
pub fn verify(reader: &mut dyn Reader, found: &mut Found) -> Result<(), Failure> {
    let mut after = i64::MIN;
    loop {
        let types = [Type::Int, Type::Text, Type::Text];
        let page = match reader.select(ANOMALIES, &[Value::Int(after), Value::Int(PAGE)], &types) {
            // Cells that are no text: the chain tells of a changed id; a state that is none is none of ours.
            Err(Failure::Row(_)) => return Ok(()),
            page => page?,
        };
        let Some(last) = page.last().and_then(|row| row.first().cloned()).and_then(i64::take) else { return Ok(()) };
        after = last;
        let rows: Vec<(i64, Uuid, String)> = page.into_iter().filter_map(row).collect();
        let ids = rows.iter().map(|(_, id, _)| resolve::id_of(*id));
        let (tail, values) = query::among("id", ids, PAGE as usize);
        let sql = format!("SELECT id FROM evidence{tail}");
        let there = reader.select(&sql, &values, &[Type::Text])?.into_iter().flatten().filter_map(Uuid::take);
        let there: HashSet<Uuid> = there.collect();
        for (seq, id, state) in rows {
            let expected = if there.contains(&resolve::id_of(id)) { "resolved" } else { "open" };
            if state != expected {
                found.add(Harm::Balance, "anomalies", Some(id.to_string()), Some(seq));
            }
        }
    }
}

fn row(cells: Vec<Value>) -> Option<(i64, Uuid, String)> {
    let mut cells = cells.into_iter();
    Some((i64::take(cells.next()?)?, Uuid::take(cells.next()?)?, String::take(cells.next()?)?))
}
