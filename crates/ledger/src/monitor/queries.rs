//! What waits in the books, read in SQL that both engines take, on its partial indexes.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use crate::rows::{Cell, Type, Value};
use crate::store::{Reader, StoreError};

/// The most transactions found at once.
const MANY: usize = 100;

/// What waits in the books.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waiting {
    /// When the oldest parked transaction was recorded, in milliseconds since 1970.
    pub parked_since: Option<i64>,
    /// Pending events.
    pub pending: i64,
    /// When the oldest of them was made, in milliseconds since 1970.
    pub pending_since: Option<i64>,
    /// Endpoints that take nothing, the longest first; no more than a hundred.
    pub failing: Vec<Failing>,
    /// Open anomalies, by kind: how many, and the place of the last.
    pub anomalies: BTreeMap<String, (i64, i64)>,
}

/// An endpoint that takes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Failing {
    /// The endpoint.
    pub id: Uuid,
    /// Its merchant.
    pub merchant: String,
    /// Since when, in milliseconds since 1970.
    pub since: i64,
}

/// Open anomalies by kind, without `ORDER BY`: the order does not matter.
const ANOMALIES: &str = "SELECT kind, COUNT(*), MAX(seq) FROM anomalies WHERE state = 'open' GROUP BY kind";
const PARKED: &str = "SELECT recorded_at FROM transactions WHERE state = 'parked' ORDER BY recorded_at LIMIT 1";
const PENDING: &str = "SELECT COUNT(*), MIN(seq) FROM outbox WHERE state = 'pending'";
const TO_ENDPOINTS: &str = "SELECT COUNT(*), MIN(event_seq) FROM deliveries WHERE state = 'pending' \
                            AND endpoint_id IN (SELECT id FROM endpoints WHERE deleted_at IS NULL AND paused = 0)";
const FAILING: &str = "SELECT id, merchant, failing_since FROM endpoints WHERE failing_since IS NOT NULL \
                       AND deleted_at IS NULL ORDER BY failing_since LIMIT 100";

/// Reads what waits; blocks.
pub fn look(reader: &mut dyn Reader) -> Result<Waiting, StoreError> {
    let mut look = Waiting {
        parked_since: reader.select(PARKED, &[], &[Type::Int])?.into_iter().flatten().find_map(i64::take),
        ..Waiting::default()
    };
    let mut firsts = vec![];
    for sql in [PENDING, TO_ENDPOINTS] {
        let row = reader.select(sql, &[], &[Type::Int, Type::Int])?.into_iter().next();
        let mut cells = row.unwrap_or_default().into_iter();
        look.pending += cells.next().and_then(i64::take).unwrap_or_default();
        firsts.extend(cells.next().and_then(i64::take));
    }
    if let Some(first) = firsts.into_iter().min() {
        let sql = "SELECT created_at FROM events WHERE seq = $1";
        let rows = reader.select(sql, &[Value::Int(first)], &[Type::Int])?;
        look.pending_since = rows.into_iter().flatten().find_map(i64::take);
    }
    let failing = |row: Vec<Value>| {
        let [id, merchant, since] = <[Value; 3]>::try_from(row).ok()?;
        Some(Failing { id: Uuid::take(id)?, merchant: String::take(merchant)?, since: i64::take(since)? })
    };
    let rows = reader.select(FAILING, &[], &[Type::Text, Type::Text, Type::Int])?;
    look.failing = rows.into_iter().filter_map(failing).collect();
    for row in reader.select(ANOMALIES, &[], &[Type::Text, Type::Int, Type::Int])? {
        let mut cells = row.into_iter();
        let kind = cells.next().and_then(String::take);
        let mut number = || cells.next().and_then(i64::take);
        if let (Some(kind), Some(count), Some(last)) = (kind, number(), number()) {
            look.anomalies.insert(kind, (count, last));
        }
    }
    Ok(look)
}

/// A parked transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Parked {
    /// Its place in the order of `recorded_at` and `seq`.
    pub place: (i64, i64),
    /// The id of the transaction.
    pub id: Uuid,
    /// The channel that received it.
    pub channel: String,
    /// The merchant.
    pub merchant: String,
}

/// Transactions parked before `before`, from `place` on, oldest first; no more than a page of them.
pub fn parked(reader: &mut dyn Reader, before: i64, place: (i64, i64)) -> Result<Vec<Parked>, StoreError> {
    let sql = format!(
        "SELECT recorded_at, seq, id, channel, merchant FROM transactions WHERE state = 'parked' AND recorded_at < $1 \
         AND recorded_at >= $2 AND (recorded_at > $2 OR seq > $3) ORDER BY recorded_at, seq LIMIT {MANY}"
    );
    let values = [Value::Int(before), Value::Int(place.0), Value::Int(place.1)];
    let types = [Type::Int, Type::Int, Type::Text, Type::Text, Type::Text];
    let row = |row: Vec<Value>| {
        let mut cells = row.into_iter();
        Some(Parked {
            place: (i64::take(cells.next()?)?, i64::take(cells.next()?)?),
            id: Uuid::take(cells.next()?)?,
            channel: String::take(cells.next()?)?,
            merchant: String::take(cells.next()?)?,
        })
    };
    Ok(reader.select(&sql, &values, &types)?.into_iter().filter_map(row).collect())
}

/// Transactions that an anomaly reports as stuck, resolved or not.
pub fn stuck(reader: &mut dyn Reader) -> Result<HashSet<Uuid>, StoreError> {
    let sql = "SELECT transaction_id FROM anomalies WHERE kind = 'stuck_pending' AND transaction_id IS NOT NULL";
    Ok(reader.select(sql, &[], &[Type::Text])?.into_iter().flatten().filter_map(Uuid::take).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::tests::outbox::Memory;

    #[test]
    fn the_questions_are_answered_by_partial_indexes() {
        let mut memory = Memory::new();
        for (sql, index) in [
            (PENDING, "outbox_due"),
            (FAILING, "endpoints_failing"),
            (TO_ENDPOINTS, "deliveries_order"),
            (ANOMALIES, "anomalies_open"),
            (PARKED, "transactions_parked"),
        ] {
            let types = [Type::Int, Type::Int, Type::Int, Type::Text];
            let plan = memory.select(&format!("EXPLAIN QUERY PLAN {sql}"), &[], &types).unwrap();
            assert!(format!("{plan:?}").contains(index), "{sql}: {plan:?}");
        }
    }

    #[test]
    fn empty_books_have_nothing_that_waits() {
        assert_eq!(look(&mut Memory::new()).unwrap(), Waiting::default());
    }
}
