//! The events that are due, read from the store in SQL that both engines take.
//!
//! | question | finds | costs |
//! |---|---|---|
//! | tail | events and deliveries written since the last one seen | the new rows, by primary key |
//! | freed | the next event of orders whose event before was just delivered or died | a few rows, by order |
//! | scan | what one address has due, from a place on | what it answers, and events that wait for others |
//!
//! An event waits while an earlier one of its order is pending: then it is passed over, and `freed` finds it later.
//! Ties of `next_attempt_at` are broken by `seq`.
//!
//! An event without an attempt since it was last redelivered is due whatever its time says: the clock may have been
//! ahead when it was written. A scan from the beginning finds it, up to the time at which the last event was made.

use uuid::Uuid;

use super::parcel::{Parcel, To};
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
    /// Orders whose next event may be sent, each with its address.
    pub freed: Vec<(To, Uuid)>,
    /// One scan for each address.
    pub scans: Vec<Scan>,
    /// Whether there are endpoints beside the configuration's.
    pub endpoints: bool,
    /// Whether to name the merchants with pending events.
    pub names: bool,
}

/// The first place: a scan from here also sees what a clock that was ahead has put off.
pub const BEGINNING: (i64, i64) = (i64::MIN, i64::MIN);

/// A question for the due events of one address.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// The address.
    pub to: To,
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
    /// Whether there are more than were read.
    pub cut: bool,
    /// New events, each with whether an earlier one of its order is pending.
    pub new: Vec<(Parcel, bool)>,
    /// Due events of freed orders, none of which waits.
    pub freed: Vec<Parcel>,
    /// Due events, for each scan, none of which waits.
    pub scans: Vec<Vec<Parcel>>,
    /// Merchants with pending events.
    pub names: Vec<String>,
}

/// The condition that an earlier event of the same order is pending, asked for each event by its order. `OFFSET 0`
/// keeps PostgreSQL from making a join of it, for which it would read all events. The state is a subquery, since
/// PostgreSQL would otherwise read all pending rows.
const WAITS: &str = "EXISTS (SELECT 1 FROM events AS b WHERE b.order_id = e.order_id AND b.seq < e.seq \
                     AND (SELECT state FROM outbox WHERE outbox.seq = b.seq) = 'pending' LIMIT 1 OFFSET 0)";

/// The same for a delivery, among those to its endpoint.
const DELIVERY_WAITS: &str = "EXISTS (SELECT 1 FROM deliveries AS b WHERE b.endpoint_id = o.endpoint_id \
                              AND b.order_id = o.order_id AND b.state = 'pending' AND b.seq < o.seq LIMIT 1 OFFSET 0)";

/// Reads the answers to a question; blocks.
pub fn ask(reader: &mut dyn Reader, question: &Question) -> Result<DueEvents, StoreError> {
    let mut found = DueEvents::default();
    match question.tail {
        Some(after) => tail(reader, after, question.endpoints, &mut found)?,
        None => found.tail = end(reader)?,
    }
    found.freed = freed(reader, question)?;
    found.freed.extend(freed_of_endpoints(reader, question)?);
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

/// Reads new events and deliveries. If one kind is cut, rows of the other kind behind the cut are read again later.
fn tail(reader: &mut dyn Reader, after: i64, endpoints: bool, found: &mut DueEvents) -> Result<(), StoreError> {
    // Without a condition on the state, so that the primary key alone is used to find the rows.
    let sql = format!(
        "SELECT {}, CAST(CASE WHEN {WAITS} THEN 1 ELSE 0 END AS BIGINT) FROM outgoing AS e WHERE e.seq > $1 \
         ORDER BY e.seq LIMIT {TAIL}",
        columns("e")
    );
    let mut new = with_waits(reader, &sql, after, types(), event)?;
    let mut ends = vec![new.last().map_or(after, |(parcel, _)| parcel.seq)];
    let mut cuts: Vec<i64> = ends.iter().copied().filter(|_| new.len() == TAIL).collect();
    if endpoints {
        let sql = format!(
            "SELECT {}, CAST(CASE WHEN {DELIVERY_WAITS} THEN 1 ELSE 0 END AS BIGINT) FROM deliveries AS o \
             CROSS JOIN events AS e WHERE o.seq > $1 AND e.seq = o.event_seq ORDER BY o.seq LIMIT {TAIL}",
            delivery_columns()
        );
        let deliveries = with_waits(reader, &sql, after, delivery_types(), delivery)?;
        let end = deliveries.last().map_or(after, |(parcel, _)| parcel.seq);
        ends.push(end);
        cuts.extend(Some(end).filter(|_| deliveries.len() == TAIL));
        new.extend(deliveries);
    }
    found.cut = !cuts.is_empty();
    found.tail = cuts.into_iter().min().or(ends.into_iter().max()).unwrap_or(after);
    found.new = new;
    Ok(())
}

/// Rows after a place, each with a last column that says whether it waits.
fn with_waits(
    reader: &mut dyn Reader,
    sql: &str,
    after: i64,
    mut types: Vec<Type>,
    read: fn(Vec<Value>) -> Result<Parcel, StoreError>,
) -> Result<Vec<(Parcel, bool)>, StoreError> {
    types.push(Type::Int);
    let rows = reader.select(sql, &[Value::Int(after)], &types)?.into_iter();
    rows.map(|mut row| {
        let waits = row.pop() == Some(Value::Int(1));
        read(row).map(|parcel| (parcel, waits))
    })
    .collect()
}

fn freed(reader: &mut dyn Reader, question: &Question) -> Result<Vec<Parcel>, StoreError> {
    let orders = question.freed.iter().filter(|(to, _)| matches!(to, To::Merchant(_))).map(|(_, order)| order);
    let mut values: Vec<Value> = orders.map(Cell::put).collect();
    if values.is_empty() {
        return Ok(vec![]);
    }
    let places: Vec<String> = (1..=values.len()).map(|number| format!("${number}")).collect();
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
    values.push(Value::Int(question.now_ms));
    let found = reader.select(&sql, &values, &types())?.into_iter().map(event);
    let mut found: Vec<Parcel> = found.collect::<Result<_, _>>()?;
    found.sort_by_key(|parcel| parcel.seq);
    Ok(found)
}

/// The first pending delivery of each freed order at its endpoint, if it is due.
fn freed_of_endpoints(reader: &mut dyn Reader, question: &Question) -> Result<Vec<Parcel>, StoreError> {
    let mut values = vec![];
    for (to, order) in &question.freed {
        if let To::Endpoint(id) = to {
            values.extend([id.put(), order.put()]);
        }
    }
    if values.is_empty() {
        return Ok(vec![]);
    }
    let pairs = (1..=values.len()).step_by(2);
    let pairs: Vec<String> = pairs.map(|at| format!("(CAST(${at} AS TEXT), CAST(${} AS TEXT))", at + 1)).collect();
    let sql = format!(
        "WITH q (a, b) AS (VALUES {}) SELECT {} FROM q CROSS JOIN deliveries AS o CROSS JOIN events AS e \
         WHERE o.seq = (SELECT b.seq FROM deliveries AS b WHERE b.endpoint_id = q.a AND b.order_id = q.b \
         AND b.state = 'pending' ORDER BY b.seq LIMIT 1) \
         AND (o.next_attempt_at <= ${} OR o.round = 0) AND e.seq = o.event_seq",
        pairs.join(", "),
        delivery_columns(),
        values.len() + 1
    );
    values.push(Value::Int(question.now_ms));
    let found = reader.select(&sql, &values, &delivery_types())?.into_iter().map(delivery);
    let mut found: Vec<Parcel> = found.collect::<Result<_, _>>()?;
    found.sort_by_key(|parcel| parcel.seq);
    Ok(found)
}

/// `until` is now, or later for events that were never tried. The narrow rows come first, by the index of what is
/// pending: a cross join keeps SQLite from beginning with all events of a merchant.
fn scanned(reader: &mut dyn Reader, scan: &Scan, (now_ms, until): (i64, i64)) -> Result<Vec<Parcel>, StoreError> {
    let (place, seq) = scan.behind;
    let due = "o.state = 'pending' AND o.next_attempt_at <= $2 AND o.next_attempt_at >= $3 \
               AND (o.next_attempt_at > $3 OR o.seq > $4) AND (o.next_attempt_at <= $5 OR o.round = 0)";
    let limit = format!("ORDER BY o.next_attempt_at, o.seq LIMIT {}", scan.limit);
    let (sql, whose, types, read): (_, _, _, fn(_) -> _) = match &scan.to {
        To::Merchant(name) => (
            format!(
                "SELECT {} FROM outbox AS o CROSS JOIN events AS e WHERE e.seq = o.seq AND o.merchant = $1 AND {due} \
                 AND NOT {WAITS} {limit}",
                columns("o")
            ),
            Value::Text(name.clone()),
            types(),
            event,
        ),
        To::Endpoint(id) => (
            format!(
                "SELECT {} FROM deliveries AS o CROSS JOIN events AS e WHERE e.seq = o.event_seq \
                 AND o.endpoint_id = $1 AND {due} AND NOT {} {limit}",
                delivery_columns(),
                DELIVERY_WAITS
            ),
            id.put(),
            delivery_types(),
            delivery,
        ),
    };
    let values = [whose, Value::Int(until), Value::Int(place), Value::Int(seq), Value::Int(now_ms)];
    reader.select(&sql, &values, &types)?.into_iter().map(read).collect()
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

fn event(row: Vec<Value>) -> Result<Parcel, StoreError> {
    Outgoing::from_cells(row).map(Parcel::from).ok_or_else(|| unreadable("events"))
}

/// An event's columns with the state of a delivery, and the delivery's place and endpoint.
fn delivery_columns() -> String {
    format!("{}, o.seq, o.endpoint_id", columns("o"))
}

fn delivery_types() -> Vec<Type> {
    [types(), vec![Type::Int, Type::Text]].concat()
}

fn delivery(mut row: Vec<Value>) -> Result<Parcel, StoreError> {
    let endpoint = row.pop().and_then(Uuid::take);
    let seq = row.pop().and_then(i64::take);
    let parcel = || Some(Parcel { to: To::Endpoint(endpoint?), seq: seq?, event: Outgoing::from_cells(row)? });
    parcel().ok_or_else(|| unreadable("deliveries"))
}

fn unreadable(table: &str) -> StoreError {
    StoreError::Row(format!("a row of {table} has a cell that does not fit"))
}
