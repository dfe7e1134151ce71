//! Events with all their addresses, the attempts at them, and what a redelivery by time and filter finds.
//!
//! An event's own row holds its delivery to the configuration's url; `deliveries` those to endpoints. Deliveries to a
//! deleted endpoint do not count.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::list::{self, ListQuery, Pairs, QueryError};
use super::views::{Event, Page};
use super::{first_at, one, page, rows, unreadable};
use crate::endpoints::configured;
use crate::endpoints::filter::ORDER_CREATED;
use crate::journal::Redelivery;
use crate::rows::{Attempt, Cell, Delivery, Outgoing, Table, Type, Value};
use crate::store::{Reader, StoreError};
use crate::stored_enum::EventState;

/// The condition that a delivery counts.
const LIVE: &str = "endpoint_id IN (SELECT id FROM endpoints WHERE deleted_at IS NULL)";
/// The most events of a page that is put back, and the most deliveries: more than one event can have.
const AGAIN: (usize, usize) = (256, 6_000);

/// A list of events.
pub fn events(reader: &mut dyn Reader, asked: ListQuery, scope: Option<&str>) -> Result<Page<Event>, StoreError> {
    let (found, next) = page::<Outgoing>(reader, asked, scope)?;
    Ok(Page { data: whole(reader, found)?, next })
}

/// An event by its id.
pub fn event(reader: &mut dyn Reader, id: Uuid, scope: Option<&str>) -> Result<Option<Event>, StoreError> {
    let found = one::<Outgoing>(reader, id, scope)?;
    Ok(whole(reader, found.into_iter().collect())?.pop())
}

/// All addresses of an event.
pub fn all_of(reader: &mut dyn Reader, id: Uuid, scope: Option<&str>) -> Result<Option<Redelivery>, StoreError> {
    let Some(event) = one::<Outgoing>(reader, id, scope)? else { return Ok(None) };
    let sql = format!(" WHERE event_seq = $1 AND {LIVE}");
    let deliveries: Vec<Delivery> = rows(reader, &sql, &[Value::Int(event.seq)])?;
    let deliveries = deliveries.into_iter().map(|delivery| delivery.id).collect();
    Ok(Some(Redelivery { events: vec![event.id], deliveries }))
}

/// The events, each with its deliveries to endpoints.
fn whole(reader: &mut dyn Reader, events: Vec<Outgoing>) -> Result<Vec<Event>, StoreError> {
    let mut deliveries: HashMap<i64, Vec<Delivery>> = HashMap::new();
    for part in events.chunks(100) {
        let (condition, values) = seqs(part.iter().map(|event| event.seq));
        let found: Vec<Delivery> = rows(reader, &format!(" WHERE {condition} AND {LIVE}"), &values)?;
        found.into_iter().for_each(|delivery| deliveries.entry(delivery.event_seq).or_default().push(delivery));
    }
    let mut last: HashMap<i64, (i64, Option<i64>)> = HashMap::new();
    let sent: Vec<i64> = deliveries.keys().copied().collect();
    for part in sent.chunks(100) {
        let (condition, values) = seqs(part.iter().copied());
        let sql = format!("SELECT event_seq, at, status FROM attempts WHERE {condition}");
        for row in reader.select(&sql, &values, &[Type::Int, Type::Int, Type::Int])? {
            let [seq, at, status] = <[Value; 3]>::try_from(row).map_err(|_| unreadable("attempts"))?;
            let (Value::Int(seq), Value::Int(at)) = (seq, at) else { return Err(unreadable("attempts")) };
            let known = last.entry(seq).or_insert((i64::MIN, None));
            *known = (*known).max((at, i64::take(status)));
        }
    }
    let whole = events.into_iter().map(|event| {
        let (seq, no_deliveries) = (event.seq, vec![]);
        let deliveries = deliveries.get(&seq).unwrap_or(&no_deliveries);
        Event::whole(event, deliveries, last.get(&seq).map(|(_, status)| *status))
    });
    Ok(whole.collect())
}

/// The condition that `event_seq` is one of at most a hundred. Its text is one of a few, so that it is prepared once.
fn seqs(seqs: impl Iterator<Item = i64>) -> (String, Vec<Value>) {
    let mut seqs: Vec<i64> = seqs.collect();
    let last = seqs.last().copied().unwrap_or_default();
    seqs.resize(if seqs.len() <= 1 { 1 } else { 100 }, last);
    let marks: Vec<String> = (1..=seqs.len()).map(|at| format!("${at}")).collect();
    (format!("event_seq IN ({})", marks.join(", ")), seqs.into_iter().map(Value::Int).collect())
}

/// A query of attempts: the most of a page, and the place before it.
#[derive(Clone, Debug)]
pub struct AttemptsQuery {
    limit: i64,
    before: (i64, String),
}

impl AttemptsQuery {
    /// Reads the parameters.
    pub fn read(pairs: &Pairs) -> Result<AttemptsQuery, QueryError> {
        list::only(pairs, &["limit", "cursor"])?;
        let place = |text: String| {
            let (at, endpoint) = text.split_once(' ')?;
            Some((at.parse().ok()?, endpoint.to_owned()))
        };
        let before = match list::get(pairs, "cursor") {
            Some(cursor) => list::opened(cursor).and_then(place).ok_or_else(list::bad_cursor)?,
            None => (i64::MAX, String::new()),
        };
        Ok(AttemptsQuery { limit: list::limit(pairs)?, before })
    }
}

/// Attempts at an event, newest first, and the cursor of the next page.
pub fn attempts(
    reader: &mut dyn Reader,
    event_seq: i64,
    asked: &AttemptsQuery,
) -> Result<(Vec<Attempt>, Option<String>), StoreError> {
    let sql = "SELECT at, endpoint_id, status, latency_ms, key_id, body FROM attempts WHERE event_seq = $1 \
               AND (at < $2 OR (at = $2 AND endpoint_id < $3)) ORDER BY at DESC, endpoint_id DESC LIMIT $4";
    let values = [event_seq, asked.before.0].map(Value::Int);
    let values = [&values[..], &[Value::Text(asked.before.1.clone()), Value::Int(asked.limit + 1)]].concat();
    let types = [Type::Int, Type::Text, Type::Int, Type::Int, Type::Text, Type::Blob];
    let attempt = |row: Vec<Value>| {
        let [at, endpoint, status, latency, key, body] = <[Value; 6]>::try_from(row).ok()?;
        let body = match (<Option<Uuid> as Cell>::take(key)?, <Option<Vec<u8>> as Cell>::take(body)?) {
            (Some(key), Some(body)) => Some((key, body)),
            _ => None,
        };
        Some(Attempt {
            event_seq,
            at: Cell::take(at)?,
            endpoint_id: Cell::take(endpoint)?,
            status: Cell::take(status)?,
            latency_ms: Cell::take(latency)?,
            body,
        })
    };
    let found = reader.select(sql, &values, &types)?.into_iter();
    let mut found: Vec<Attempt> =
        found.map(|row| attempt(row).ok_or_else(|| unreadable("attempts"))).collect::<Result<_, _>>()?;
    let more = found.len() as i64 > asked.limit;
    found.truncate(usize::try_from(asked.limit).unwrap_or_default());
    let next = found.last().filter(|_| more).map(|last| list::sealed(&format!("{} {}", last.at, last.endpoint_id)));
    Ok((found, next))
}

/// Whether a merchant has this endpoint, the configuration's included.
pub fn is_endpoint(reader: &mut dyn Reader, id: Uuid, merchant: &str) -> Result<bool, StoreError> {
    let sql = "SELECT seq FROM endpoints WHERE id = $1 AND merchant = $2 AND deleted_at IS NULL";
    let found = reader.select(sql, &[id.put(), Value::Text(merchant.to_owned())], &[Type::Int])?;
    Ok(id == configured(merchant) || !found.is_empty())
}

/// What is to be sent again.
#[derive(Clone, Debug)]
pub struct AgainQuery {
    /// The merchant.
    pub merchant: String,
    /// Events made at this time or later, in milliseconds since 1970.
    pub from: i64,
    /// Events made before this time.
    pub to: i64,
    /// Only to this endpoint.
    pub endpoint: Option<Uuid>,
    /// Only what is in this state at an address.
    pub state: Option<EventState>,
    /// Only events of this type, or of types that begin with this word.
    pub kind: Option<String>,
}

/// The pages of a redelivery.
#[derive(Debug)]
pub struct Again {
    asked: AgainQuery,
    /// The last event seen, and the first beyond the time; none before the first page.
    range: Option<(i64, i64)>,
}

/// A page of a redelivery.
#[derive(Debug)]
pub struct Sent {
    /// The number of events.
    pub events: u64,
    /// What is put back of them.
    pub what: Redelivery,
}

impl Again {
    /// A redelivery from its beginning. Events that are made later are not part of it.
    pub fn new(asked: AgainQuery) -> Again {
        Again { asked, range: None }
    }

    /// The next page; `None` at the end.
    pub fn next(&mut self, reader: &mut dyn Reader) -> Result<Option<Sent>, StoreError> {
        let AgainQuery { merchant, from, to, .. } = &self.asked;
        let (after, end) = match self.range {
            Some(range) => range,
            None => {
                let time = |reader: &mut dyn Reader, at| first_at(reader, Table::Outgoing, "created_at", at);
                (time(reader, *from)? - 1, time(reader, *to)?)
            }
        };
        let sql = format!(
            "SELECT e.seq, e.id, e.kind, o.state FROM events AS e CROSS JOIN outbox AS o WHERE e.merchant = $1 \
             AND e.seq > $2 AND e.seq < $3 AND o.seq = e.seq ORDER BY e.seq LIMIT {}",
            AGAIN.0
        );
        let values = [Value::Text(merchant.clone()), Value::Int(after), Value::Int(end)];
        let types = [Type::Int, Type::Text, Type::Text, Type::Text];
        let found = reader.select(&sql, &values, &types)?.into_iter().map(Candidate::read);
        let found: Vec<Candidate> = found.collect::<Result<_, _>>()?;
        let (Some(first), Some(last)) = (found.first(), found.last()) else { return Ok(None) };
        let (deliveries, last) = self.deliveries(reader, first.seq, last.seq)?;
        self.range = Some((last, end));
        let chosen: Vec<&Candidate> = found.iter().filter(|event| event.seq <= last && self.is_asked(event)).collect();
        Ok(Some(self.sent(&chosen, deliveries)))
    }

    fn is_asked(&self, event: &Candidate) -> bool {
        let is_kind = |kind: &String| event.kind == *kind || event.kind.strip_prefix(&format!("{kind}.")).is_some();
        self.asked.kind.as_ref().is_none_or(is_kind)
    }

    fn is_in_state(&self, state: EventState) -> bool {
        self.asked.state.is_none_or(|asked| asked == state)
    }

    /// The deliveries of these events, and the last event all of whose deliveries are among them.
    fn deliveries(&self, reader: &mut dyn Reader, first: i64, last: i64) -> Result<(Vec<OnItsWay>, i64), StoreError> {
        let AgainQuery { merchant, endpoint, .. } = &self.asked;
        if endpoint.is_some_and(|id| id == configured(merchant)) {
            return Ok((vec![], last));
        }
        let sql = format!(
            "SELECT event_seq, id, state, endpoint_id FROM deliveries WHERE event_seq >= $1 AND event_seq <= $2 \
             AND endpoint_id IN (SELECT id FROM endpoints WHERE merchant = $3 AND deleted_at IS NULL) \
             ORDER BY event_seq, seq LIMIT {}",
            AGAIN.1
        );
        let values = [Value::Int(first), Value::Int(last), Value::Text(merchant.clone())];
        let types = [Type::Int, Type::Text, Type::Text, Type::Text];
        let mut found = vec![];
        for row in reader.select(&sql, &values, &types)? {
            let [seq, id, state, to] = <[Value; 4]>::try_from(row).map_err(|_| unreadable("deliveries"))?;
            let read = || Some((i64::take(seq)?, Uuid::take(id)?, EventState::take(state)?, Uuid::take(to)?));
            found.push(read().ok_or_else(|| unreadable("deliveries"))?);
        }
        let last = match found.last() {
            Some((cut, ..)) if found.len() == AGAIN.1 => cut - 1,
            _ => last,
        };
        let is_asked = |to: &Uuid| endpoint.is_none_or(|endpoint| endpoint == *to);
        let found = found.into_iter().filter(|(seq, _, _, to)| *seq <= last && is_asked(to));
        Ok((found.map(|(seq, id, state, _)| (seq, id, state)).collect(), last))
    }

    fn sent(&self, chosen: &[&Candidate], deliveries: Vec<OnItsWay>) -> Sent {
        let to_configured = self.asked.endpoint.is_none_or(|id| id == configured(&self.asked.merchant));
        let own =
            chosen.iter().filter(|event| to_configured && event.kind != ORDER_CREATED && self.is_in_state(event.state));
        let own: Vec<&&Candidate> = own.collect();
        let mut events: HashSet<i64> = own.iter().map(|event| event.seq).collect();
        let known: HashSet<i64> = chosen.iter().map(|event| event.seq).collect();
        let deliveries =
            deliveries.into_iter().filter(|(seq, _, state)| known.contains(seq) && self.is_in_state(*state));
        let what = Redelivery {
            events: own.iter().map(|event| event.id).collect(),
            deliveries: deliveries
                .map(|(seq, id, _)| {
                    events.insert(seq);
                    id
                })
                .collect(),
        };
        Sent { events: events.len() as u64, what }
    }
}

/// A delivery: its event, its id and its state.
type OnItsWay = (i64, Uuid, EventState);

/// An event that may be sent again.
#[derive(Debug)]
struct Candidate {
    seq: i64,
    id: Uuid,
    kind: String,
    state: EventState,
}

impl Candidate {
    fn read(row: Vec<Value>) -> Result<Candidate, StoreError> {
        let [seq, id, kind, state] = <[Value; 4]>::try_from(row).map_err(|_| unreadable("events"))?;
        let read = || {
            Some(Candidate {
                seq: Cell::take(seq)?,
                id: Cell::take(id)?,
                kind: Cell::take(kind)?,
                state: Cell::take(state)?,
            })
        };
        read().ok_or_else(|| unreadable("events"))
    }
}
