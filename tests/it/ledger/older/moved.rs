//! What an older store answers once it was brought up to date: what it did before.

use config::model::ledger::Store as Place;
use ledger::deliver::due::{self, BEGINNING, DueEvents, Question, Scan};
use ledger::deliver::parcel::To;
use ledger::query::{self, list, views};
use ledger::rows::{Link, Outgoing, Table, Transaction, Type, Typed};
use ledger::store::{self, Changes, StoreError};
use ledger::stored_enum::{EventState, StoredEnum};

use super::{Version, to_version, to_version_1};
use crate::ledger::store::alike::{keep, open, rows};
use crate::ledger::store::rows::{Callback, callback};
use crate::support::eventually;
use crate::support::postgres::Postgres;

/// A time before which nothing is due, and one behind all.
const NOW: i64 = 1_800_000_000_000;

/// Events of each kind: never tried, failed, delivered, given up, in turns; each of an order of its own.
pub fn fill(place: &Place, count: i64) -> Vec<Callback> {
    let mut store = open(place);
    let made = (0..count).map(|at| {
        let mut one = callback(1 + 8 * at, &at.to_string());
        let event = &mut one.event;
        event.body = format!("{{\"type\":\"payment.posted\",\"data\":\"{}\"}}", "x".repeat(400));
        let due = event.next_attempt_at;
        let state = match at % 4 {
            0 => (EventState::Pending, 0, 0, due, None, None),
            1 => (EventState::Pending, 3, 2, Some(NOW + at), Some(500), None),
            2 => (EventState::Delivered, 1, 1, None, Some(204), due),
            _ => (EventState::Dead, 10, 10, None, None, None),
        };
        (event.state, event.attempts, event.round) = (state.0, state.1, state.2);
        (event.next_attempt_at, event.last_status, event.delivered_at) = (state.3, state.4, state.5);
        one
    });
    let made: Vec<Callback> = made.collect();
    for some in made.chunks(100) {
        let mut all = Changes::default();
        for Changes { rows, links, .. } in some.iter().map(Callback::changes) {
            all.rows.extend(rows);
            all.links.extend(links);
        }
        keep(&mut *store, &all);
    }
    made
}

/// What is read of a store: all events, the API's lists of them, and what is due.
#[derive(Debug, PartialEq)]
pub struct Seen {
    events: Vec<Outgoing>,
    transactions: Vec<Transaction>,
    lists: Vec<String>,
    due: DueEvents,
}

pub fn seen(place: &Place) -> Seen {
    let mut reader = store::reader(place).unwrap();
    let reader = &mut *reader;
    let mut lists = vec![];
    for filter in [
        vec![],
        vec![("state", "pending")],
        vec![("state", "delivered")],
        vec![("state", "dead"), ("merchant", "shop")],
        vec![("out_trade_no", "order-5")],
        vec![("kind", "payment"), ("limit", "3"), ("channel", "card")],
    ] {
        let pairs = filter.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let asked = list::EVENTS.asked(&pairs).unwrap();
        let page = query::list::<views::Event>(reader, asked, None).unwrap();
        lists.push(serde_json::to_string(&page).unwrap());
    }
    let scans = vec![Scan { to: To::Merchant("shop".into()), behind: BEGINNING, limit: 1_000 }];
    let question = Question { now_ms: NOW + 5, tail: Some(0), scans, names: true, ..Question::default() };
    let due = due::ask(reader, &question).unwrap();
    Seen { events: rows(reader), transactions: rows(reader), lists, due }
}

pub fn is_refused_as_older(place: &Place) {
    let Err(StoreError::Row(why)) = store::reader(place).map(drop) else { panic!("an older store was read") };
    assert!(why.contains("of an older tollgate") && why.contains("brought it up to date"), "{why}");
}

fn answers_as_before(place: &Place, version: Version) {
    let made = fill(place, 12);
    let before = seen(place);
    assert_eq!(before.events.len(), 12);
    assert_eq!(before.due.scans[0].len(), 3 + 2, "never tried, and failed and due by then");
    to_version(place, version);
    is_refused_as_older(place);
    let mut store = eventually("the lock is free", || store::open(place).unwrap());
    assert_eq!(seen(place), before);
    assert_eq!(store.heads().unwrap().seq, 12 * 8);

    // It is marked, asked for by id and written to as any other.
    let mut event = made[0].event.clone();
    (event.state, event.next_attempt_at, event.delivered_at) = (EventState::Delivered, None, Some(NOW));
    let more = callback(12 * 8 + 1, "more");
    keep(&mut *store, &Changes { updates: vec![event.update()], ..more.changes() });
    assert_eq!(store.events(&[event.id]).unwrap(), [event.clone()]);
    assert_eq!(store.events(&[more.event.id]).unwrap(), std::slice::from_ref(&more.event));
    drop(store);
    let store = eventually("the lock is free", || store::open(place).unwrap());
    let after = seen(place);
    assert_eq!((&after.events[0], after.events.last()), (&event, Some(&more.event)));
    assert_eq!(after.events[1..12], before.events[1..]);
    drop(store);
    if version != Version::One {
        return;
    }
    // Nothing is left of what answered before, as it was asked for.
    let mut reader = store::reader(place).unwrap();
    for column in Table::Outgoing.state() {
        let sql = format!("SELECT \"seq\", \"{}\" FROM events", column.name);
        let old = reader.select(&sql, &[], &[Type::Int, column.ty]);
        assert!(matches!(&old, Err(StoreError::Row(why)) if why.contains(column.name)), "{old:?}");
        // An older build, which had the file open meanwhile, gets the column's name: no state, nor a number.
        if let Place::Sqlite(path) = place {
            let older = rusqlite::Connection::open(path).unwrap();
            let read: (i64, String) = older.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            assert_eq!(read.1, column.name);
            assert!(column.ty == Type::Int || EventState::from_word(&read.1).is_none());
        }
    }
}

fn large_when_there_is_time(place: &Place) {
    let callback = fill(place, 1).remove(0);
    let row = Link { seq: 1_000_000, rows: vec![], link: vec![1] };
    let changes = Changes { links: vec![row], ..Changes::default() };
    keep(&mut *eventually("the lock is free", || store::open(place).unwrap()), &changes);
    to_version_1(place);
    let told = eventually("the lock is free", || match store::open_soon(place) {
        Ok(None) => None,
        opened => Some(opened.map(drop)),
    });
    assert!(matches!(&told, Err(StoreError::Full(why)) if why.contains("has 1000000 rows")), "{told:?}");
    is_refused_as_older(place);
    drop(eventually("the lock is free", || store::open(place).unwrap()));
    assert_eq!(rows::<Outgoing>(&mut *store::reader(place).unwrap()), [callback.event]);
    drop(eventually("it is done", || store::open_soon(place).unwrap()));
}

/// On each engine, on a store that is not there yet.
pub fn on_both(check: fn(&Place)) {
    let folder = tempfile::tempdir().unwrap();
    check(&Place::Sqlite(folder.path().join("books/ledger.db")));
    let server = Postgres::start();
    check(&Place::Postgres { url: server.url(), password: None });
}

#[test]
fn an_older_store_is_brought_up_to_date_and_answers_as_before() {
    on_both(|place| answers_as_before(place, Version::One));
    on_both(|place| answers_as_before(place, Version::Two));
    on_both(|place| answers_as_before(place, Version::Three));
}

#[test]
fn a_large_older_store_is_brought_up_to_date_when_there_is_time() {
    on_both(large_when_there_is_time);
}

#[test]
fn a_mark_writes_no_version_of_an_event() {
    let server = Postgres::start();
    let place = Place::Postgres { url: server.url(), password: None };
    let mut event = fill(&place, 1).remove(0).event;
    let version = || {
        let row = Postgres::client(&server.url()).query_one("SELECT ctid::TEXT, xmin::TEXT FROM events", &[]).unwrap();
        (row.get::<_, String>(0), row.get::<_, String>(1))
    };
    let before = version();
    event.attempts += 1;
    let mut store = eventually("the lock is free", || store::open(&place).unwrap());
    keep(&mut *store, &Changes { updates: vec![event.update()], ..Changes::default() });
    assert_eq!(version(), before);
    assert_eq!(rows::<Outgoing>(&mut *store::reader(&place).unwrap()), [event]);
}
