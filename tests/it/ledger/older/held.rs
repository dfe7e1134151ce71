//! What keeps an older store from being brought up to date: it is told at once, and the store is left as it was.

use std::time::Duration;

use config::model::ledger::Store as Place;
use ledger::rows::Link;
use ledger::store::{self, Changes, StoreError};

use super::moved::{fill, is_refused_as_older, on_both};
use super::to_version_1;
use crate::ledger::invariants::all_is_well;
use crate::ledger::senders::Senders;
use crate::ledger::store::alike::keep;
use crate::support::eventually;
use crate::support::ledger::Ledger;
use crate::support::postgres::Postgres;

/// Why it is not opened, by whichever opener.
fn refused<T>(place: &Place, open: fn(&Place) -> Result<Option<T>, StoreError>) -> StoreError {
    eventually("the lock is free", || match open(place) {
        Ok(None) => None,
        Ok(Some(_)) => panic!("it was opened"),
        Err(e) => Some(e),
    })
}

fn by_hand(place: &Place, sql: &str) {
    match place {
        Place::Sqlite(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
        Place::Postgres { url, .. } => Postgres::client(url).batch_execute(sql).unwrap(),
    }
}

/// A store of version 1 that says it is large.
fn large(place: &Place) {
    fill(place, 1);
    let row = Link { seq: 1_000_000, rows: vec![], link: vec![1] };
    let mut store = eventually("the lock is free", || store::open(place).unwrap());
    keep(&mut *store, &Changes { links: vec![row], ..Changes::default() });
    drop(store);
    to_version_1(place);
}

#[test]
fn whoever_reads_the_events_is_named_and_is_waited_for() {
    let server = Postgres::start();
    let place = Place::Postgres { url: server.url(), password: None };
    large(&place);
    let mut dump = Postgres::client(&server.url());
    dump.batch_execute("BEGIN; LOCK TABLE events IN ACCESS SHARE MODE").unwrap();
    for open in [store::open, store::open_soon] {
        let why = refused(&place, open);
        assert!(matches!(&why, StoreError::Held(why) if why.contains("somebody reads `events`")), "{why:?}");
    }
    is_refused_as_older(&place);
    dump.batch_execute("ROLLBACK").unwrap();
    drop(eventually("it is opened", || store::open(&place).unwrap()));
}

#[test]
fn what_depends_on_the_state_of_events_is_named_before_anything_is_copied() {
    let server = Postgres::start();
    let place = Place::Postgres { url: server.url(), password: None };
    large(&place);
    by_hand(&place, "CREATE VIEW report AS SELECT state, COUNT(*) FROM events GROUP BY state");
    // So soon that the old process of an upgrade can still go on.
    let why = refused(&place, store::open_soon).to_string();
    assert!(why.contains("view report depends on column state of table events"), "{why}");
    assert!(why.contains("`outgoing`"), "{why}");
    is_refused_as_older(&place);
    by_hand(&place, "DROP VIEW report");
    let later = refused(&place, store::open_soon);
    assert!(matches!(&later, StoreError::Full(why) if why.contains("has 1000000 rows")), "{later:?}");
    is_refused_as_older(&place);
    drop(eventually("it is opened", || store::open(&place).unwrap()));
}

/// What is another's is neither written to nor taken away.
fn names_of_others_are_left_alone(place: &Place) {
    large(place);
    for (kind, name, made) in [
        ("table", "outbox", "CREATE TABLE outbox (seq BIGINT PRIMARY KEY, theirs TEXT)"),
        ("view", "outbox", "CREATE VIEW outbox AS SELECT 1 AS theirs"),
        ("view", "outgoing", "CREATE VIEW outgoing AS SELECT 1 AS theirs"),
    ] {
        by_hand(place, made);
        for open in [store::open, store::open_soon] {
            let why = refused(place, open).to_string();
            let whose = format!("has a {kind} {name} that is not the ledger's: rename it");
            assert!(why.contains(&whose), "{why}");
        }
        by_hand(place, &format!("SELECT theirs FROM {name}"));
        is_refused_as_older(place);
        by_hand(place, &format!("DROP {kind} {name}"));
    }
    drop(eventually("it is opened", || store::open(place).unwrap()));
}

#[test]
fn a_table_or_view_of_somebody_else_is_named_and_left_alone() {
    on_both(names_of_others_are_left_alone);
}

#[test]
fn an_upgrade_is_none_while_somebody_reads_the_events_of_an_older_store() {
    let server = Postgres::start();
    let mut ledger = Ledger::on(&server.url());
    let mut process = ledger.run_embedded();
    let mut senders = Senders::begin(43, Duration::from_millis(40), &[process.port]);
    senders.acknowledge(60);
    let acknowledged = senders.finish();
    // The old process writes nothing meanwhile.
    to_version_1(&Place::Postgres { url: server.url(), password: None });
    let mut dump = Postgres::client(&server.url());
    dump.batch_execute("BEGIN; LOCK TABLE events IN ACCESS SHARE MODE").unwrap();
    let output = process.upgrade();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("somebody reads the ledger's store"), "{said}");
    assert!(process.messages().contains("somebody reads `events`"), "{}", process.messages());
    dump.batch_execute("ROLLBACK").unwrap();
    process.becomes(200);
    assert!(process.upgrade().status.success(), "{}", process.messages());
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}
