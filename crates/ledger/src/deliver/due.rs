//! The events that are due, read from the store in SQL that both engines take.
//!
//! | question | finds | costs |
//! |---|---|---|
//! | tail | events written since the last one seen, of all merchants | the new rows, by primary key |
//! | freed | the next event of orders whose event before was just delivered or died | a few rows, by order |
//! | scan | what one merchant has due, from a place on | what it answers, and events that wait for others |
//!
//! An event waits while an earlier one of its order is pending: then it is passed over, and `freed` finds it later.
//! Ties of `next_attempt_at` are broken by `seq`.
//!
//! An event without an attempt since it was last redelivered is due whatever its time says: the clock may have been
//! ahead when it was written. A scan from the beginning finds it, up to the time at which the last event was made.

use uuid::Uuid;

use crate::rows::{Cell, Column, Outgoing, Table, Type, Typed, Value};
use crate::store::{Reader, StoreError};

/// The most new events read at once.
pub const TAIL: usize = 512;

/// The questions of one read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// The time now, in milliseconds since 1970.
    pub now_ms: i64,
    /// The `seq` after which to read new events; `None` asks where they end.
    pub tail: Option<i64>,
    /// Orders whose next event may be sent.
    pub freed: Vec<Uuid>,
    /// One scan for each merchant.
    pub scans: Vec<Scan>,
    /// Whether to name the merchants with pending events.
    pub names: bool,
}

/// The first place: a scan from here also sees what a clock that was ahead has put off.
pub const BEGINNING: (i64, i64) = (i64::MIN, i64::MIN);

/// A question for the due events of one merchant.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// The merchant's name.
    pub merchant: String,
    /// The `next_attempt_at` and `seq` after which to read.
    pub behind: (i64, i64),
    /// The most events to read.
    pub limit: usize,
}

/// The answers to a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DueEvents {
    /// The last `seq` seen; 0 while there is no event.
    pub tail: i64,
    /// New events, each with whether an earlier one of its order is pending.
    pub new: Vec<(Outgoing, bool)>,
    /// Due events of freed orders, none of which waits.
    pub freed: Vec<Outgoing>,
    /// Due events, for each scan, none of which waits.
    pub scans: Vec<Vec<Outgoing>>,
    /// Merchants with pending events.
    pub names: Vec<String>,
}

/// The condition that an earlier event of the same order is pending, asked for each event by its order. `OFFSET 0`
/// keeps PostgreSQL from making a join of it, for which it would read all events. The state is a subquery, since
/// PostgreSQL would otherwise read all pending rows.
const WAITS: &str = "EXISTS (SELECT 1 FROM events AS b WHERE b.order_id = e.order_id AND b.seq < e.seq \
                     AND (SELECT state FROM outbox WHERE outbox.seq = b.seq) = 'pending' LIMIT 1 OFFSET 0)";

/// Reads the answers to a question; blocks.
pub fn ask(reader: &mut dyn Reader, question: &Question) -> Result<DueEvents, StoreError> {
    let mut found = DueEvents::default();
    (found.tail, found.new) = match question.tail {
        Some(after) => tail(reader, after)?,
        None => (end(reader)?, vec![]),
    };
    found.freed = freed(reader, question)?;
    // Never before now, unless the clock was ahead.
    let made = if question.scans.iter().any(|scan| scan.behind == BEGINNING) { last_made(reader)? } else { 0 };
    for scan in &question.scans {
        let until = if scan.behind == BEGINNING { made.max(question.now_ms) } else { question.now_ms };
        found.scans.push(scanned(reader, scan, (question.now_ms, until))?);
    }
    if question.names {
        let sql = "SELECT DISTINCT merchant FROM outbox WHERE state = 'pending'";
        let rows = reader.select(sql, &[], &[Type::Text])?;
        found.names = rows.into_iter().flatten().filter_map(String::take).collect();
    }
    Ok(found)
}

fn end(reader: &mut dyn Reader) -> Result<i64, StoreError> {
    let rows = reader.select("SELECT seq FROM events ORDER BY seq DESC LIMIT 1", &[], &[Type::Int])?;
    Ok(rows.into_iter().flatten().find_map(i64::take).unwrap_or_default())
}

/// When the last event was made, in milliseconds since 1970.
fn last_made(reader: &mut dyn Reader) -> Result<i64, StoreError> {
    let rows = reader.select("SELECT created_at FROM events ORDER BY seq DESC LIMIT 1", &[], &[Type::Int])?;
    Ok(rows.into_iter().flatten().find_map(i64::take).unwrap_or_default())
}

/// Whether the event's time allows it to go out at `now_ms`.
pub fn is_due(event: &Outgoing, now_ms: i64) -> bool {
    event.next_attempt_at.is_some_and(|at| at <= now_ms || event.round == 0)
}

fn tail(reader: &mut dyn Reader, after: i64) -> Result<(i64, Vec<(Outgoing, bool)>), StoreError> {
    // Without a condition on the state, so that the primary key alone is used to find the rows.
    let sql = format!(
        "SELECT {}, CAST(CASE WHEN {WAITS} THEN 1 ELSE 0 END AS BIGINT) FROM outgoing AS e WHERE e.seq > $1 \
         ORDER BY e.seq LIMIT {TAIL}",
        columns("e")
    );
    let mut types = types();
    types.push(Type::Int);
    let mut new = vec![];
    for mut row in reader.select(&sql, &[Value::Int(after)], &types)? {
        let waits = row.pop() == Some(Value::Int(1));
        new.push((event(row)?, waits));
    }
    Ok((new.last().map_or(after, |(event, _)| event.seq), new))
}

fn freed(reader: &mut dyn Reader, question: &Question) -> Result<Vec<Outgoing>, StoreError> {
    if question.freed.is_empty() {
        return Ok(vec![]);
    }
    let places: Vec<String> = (1..=question.freed.len()).map(|number| format!("${number}")).collect();
    // The orders' events are found first, by the index of orders and unsorted. Otherwise PostgreSQL would join before
    // it looks for them, or sort, and would read all events.
    let sql = format!(
        "SELECT {} FROM (SELECT * FROM events AS e WHERE e.order_id IN ({}) \
         AND (SELECT state FROM outbox WHERE outbox.seq = e.seq) = 'pending' AND NOT {WAITS} LIMIT {} OFFSET 0) AS e \
         CROSS JOIN outbox AS o WHERE o.seq = e.seq AND (o.next_attempt_at <= ${} OR o.round = 0)",
        columns("o"),
        places.join(", "),
        i64::MAX,
        places.len() + 1
    );
    let mut values: Vec<Value> = question.freed.iter().map(Cell::put).collect();
    values.push(Value::Int(question.now_ms));
    let found = reader.select(&sql, &values, &types())?.into_iter().map(event);
    let mut found: Vec<Outgoing> = found.collect::<Result<_, _>>()?;
    found.sort_by_key(|event| event.seq);
    Ok(found)
}

/// `until` is now, or later for events that were never tried. The narrow rows come first, by the index of pending
/// events: a cross join keeps SQLite from beginning with all events of a merchant.
fn scanned(reader: &mut dyn Reader, scan: &Scan, (now_ms, until): (i64, i64)) -> Result<Vec<Outgoing>, StoreError> {
    let sql = format!(
        "SELECT {} FROM outbox AS o CROSS JOIN events AS e WHERE e.seq = o.seq AND o.merchant = $1 \
         AND o.state = 'pending' AND o.next_attempt_at <= $2 \
         AND o.next_attempt_at >= $3 AND (o.next_attempt_at > $3 OR o.seq > $4) \
         AND (o.next_attempt_at <= $5 OR o.round = 0) AND NOT {WAITS} \
         ORDER BY o.next_attempt_at, o.seq LIMIT {}",
        columns("o"),
        scan.limit
    );
    let (at, seq) = scan.behind;
    let values =
        [Value::Text(scan.merchant.clone()), Value::Int(until), Value::Int(at), Value::Int(seq), Value::Int(now_ms)];
    reader.select(&sql, &values, &types())?.into_iter().map(event).collect()
}

/// An event's columns: the frozen ones of `e`, and those of its state from `state`.
fn columns(state: &str) -> String {
    let frozen = 2 + Table::Outgoing.frozen().len();
    let named =
        |(at, column): (usize, Column)| format!("{}.\"{}\"", if at < frozen { "e" } else { state }, column.name);
    Table::Outgoing.columns().enumerate().map(named).collect::<Vec<_>>().join(", ")
}

fn types() -> Vec<Type> {
    Table::Outgoing.columns().map(|column| column.ty).collect()
}

fn event(row: Vec<Value>) -> Result<Outgoing, StoreError> {
    Outgoing::from_cells(row).ok_or_else(|| StoreError::Row("a row of events has a cell that does not fit".to_owned()))
}
