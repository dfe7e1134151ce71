//! Ledgers that are killed while they bring an older store up to date, between callbacks that nobody may lose.

use std::time::Duration;

use config::model::ledger::Store as Place;
use ledger::store::schema::SqlDialect;
use ledger::store::{self, StoreError};
use serde_json::Value;

use super::{moved, to_version_1};
use crate::ledger::invariants::all_is_well;
use crate::ledger::senders::Senders;
use crate::support::disk::STALL_SYNCS;
use crate::support::disk::Switch;
use crate::support::eventually;
use crate::support::ledger::{Books, Ledger, Process};
use crate::support::postgres::Postgres;

const PACE: Duration = Duration::from_millis(40);

fn is_older(place: &Place) -> bool {
    match store::reader(place) {
        Ok(_) => false,
        Err(StoreError::Row(why)) if why.contains("of an older tollgate") => true,
        Err(e) => panic!("{e}"),
    }
}

/// What a store answers that no later callback changes: transactions, and events that merchants have.
fn settled(books: Books) -> Vec<Value> {
    let delivered = books.all("/v1/events").into_iter().filter(|event| event["state"] == "delivered");
    delivered.chain(books.all("/v1/transactions").into_iter().filter(|row| row["state"] == "posted")).collect()
}

/// A ledger under load dies, and so does the first that opens its store as a ledger of version 1 would have left it;
/// `dies` is killed in the midst of that.
#[track_caller]
fn brought_up_to_date(ledger: &mut Ledger, seed: u64, place: &Place, dies: impl FnOnce(&mut Ledger, &mut Process)) {
    let mut process = ledger.run();
    let mut senders = Senders::begin(seed, PACE, &[process.port]);
    senders.acknowledge(80);
    eventually("an event is delivered", || (!settled(process.books(&ledger.token)).is_empty()).then_some(()));
    ledger.merchants.deaf(true);
    senders.acknowledge(60);
    let before = settled(process.books(&ledger.token));
    process.kill9();
    // The server may need a moment to see that.
    drop(eventually("the lock is free", || store::open(place).unwrap()));
    to_version_1(place);
    let output = ledger.cli(&["verify"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("of an older tollgate"), "{said}");

    dies(ledger, &mut process);
    assert!(is_older(place), "the death came too late");
    process.run(&ledger.disk);
    let after = settled(process.books(&ledger.token));
    let gone: Vec<&Value> = before.iter().filter(|row| !after.contains(row)).collect();
    assert!(gone.is_empty(), "{} of {}: {:#?}", gone.len(), before.len(), gone[0]);
    ledger.merchants.deaf(false);
    senders.acknowledge(80);
    let acknowledged = senders.finish();
    all_is_well(ledger, process.books(&ledger.token), &acknowledged);
}

/// Within the commit, at the first sync of the log: that of its header, behind which nothing of the commit stands yet. At
/// the second all of it does, so the death of a process alone would take nothing back.
#[track_caller]
fn dies_at_the_sync(ledger: &mut Ledger, process: &mut Process) {
    ledger.disk.only("-wal");
    ledger.disk.set(Switch::Stall, STALL_SYNCS);
    process.spawn(&ledger.disk);
    ledger.disk.holds_a_call();
    process.kill9();
    ledger.disk.well();
    ledger.disk.forgets_calls();
}

/// A connection in which a part of the work was done, and nothing committed.
enum Broken {
    Sqlite(rusqlite::Connection),
    Postgres(postgres::Client),
}

fn begun(place: &Place, steps: &[String]) -> Broken {
    match place {
        Place::Sqlite(path) => {
            let connection = rusqlite::Connection::open(path).unwrap();
            // So small a cache that pages are in the log before the commit.
            connection.execute_batch("PRAGMA cache_size = 1; PRAGMA wal_autocheckpoint = 0; BEGIN IMMEDIATE").unwrap();
            steps.iter().for_each(|step| connection.execute_batch(step).unwrap());
            Broken::Sqlite(connection)
        }
        Place::Postgres { url, .. } => {
            let mut client = Postgres::client(url);
            client.batch_execute("BEGIN").unwrap();
            steps.iter().for_each(|step| client.batch_execute(step).unwrap());
            Broken::Postgres(client)
        }
    }
}

/// What a death leaves.
fn dead(place: &Place, begun: Broken) -> Place {
    match (begun, place) {
        (Broken::Sqlite(connection), Place::Sqlite(path)) => {
            // Closing would take back what was begun: the files are as they are while it is open.
            let copy = path.with_file_name("left.db");
            for end in ["", "-wal"] {
                let [from, to] = [path, &copy].map(|path| format!("{}{end}", path.display()));
                std::fs::copy(from, to).unwrap();
            }
            drop(connection);
            Place::Sqlite(copy)
        }
        (Broken::Postgres(client), place) => {
            drop(client);
            place.clone()
        }
        _ => unreachable!("of the same engine"),
    }
}

fn what_a_death_left_is_completed(place: &Place) {
    let dialect = if matches!(place, Place::Sqlite(_)) { SqlDialect::Sqlite } else { SqlDialect::Postgres };
    moved::fill(place, 400);
    let before = moved::seen(place);
    let steps = dialect.forward(1);
    assert!(steps.len() > 5, "{steps:?}");
    for done in 0..=steps.len() {
        to_version_1(place);
        let left = dead(place, begun(place, &steps[..done]));
        if let Place::Sqlite(path) = &left {
            let log = std::fs::metadata(path.with_file_name("left.db-wal")).unwrap().len();
            assert!(done < 2 || log > 20_000, "{log} bytes of the log after {done} steps");
        }
        drop(eventually("it is opened", || store::open(&left).unwrap()));
        assert_eq!(moved::seen(&left), before, "after {done} steps");
        // The file itself is in nobody's way any more.
        drop(eventually("it is opened", || store::open(place).unwrap()));
    }
}

#[test]
fn what_a_death_left_of_an_older_store_is_brought_up_to_date_by_the_next_start() {
    moved::on_both(what_a_death_left_is_completed);
}

#[test]
fn killed_while_it_brings_an_older_file_up_to_date_it_has_lost_nothing() {
    let mut ledger = Ledger::prepare();
    let place = Place::Sqlite(ledger.path("state/ledger.db"));
    brought_up_to_date(&mut ledger, 41, &place, dies_at_the_sync);
}

#[test]
fn killed_while_it_brings_an_older_database_up_to_date_it_has_lost_nothing() {
    let server = Postgres::start();
    let mut ledger = Ledger::on(&server.url());
    let place = Place::Postgres { url: server.url(), password: None };
    brought_up_to_date(&mut ledger, 42, &place, |ledger, process| {
        // All is copied; the last step waits for a row that another one has.
        let mut other = Postgres::client(&server.url());
        other.batch_execute("BEGIN; SELECT * FROM tollgate_meta FOR UPDATE").unwrap();
        process.spawn(&ledger.disk);
        let waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tollgate-ledger' \
                     AND wait_event_type = 'Lock' AND query LIKE 'UPDATE tollgate_meta%'";
        let mut watch = Postgres::client(&server.url());
        eventually("it waits", || (!watch.query(waits, &[]).unwrap().is_empty()).then_some(()));
        process.kill9();
        let there = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'tollgate-ledger'";
        // Whatever the row's owner does: its statement ends by the session's own bound.
        eventually("its session ends", || watch.query(there, &[]).unwrap().is_empty().then_some(()));
        other.batch_execute("ROLLBACK").unwrap();
    });
}
