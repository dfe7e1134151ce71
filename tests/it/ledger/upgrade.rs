//! Upgrades of a gateway with an embedded ledger: the books move, and nothing that was acknowledged is lost or there
//! twice.

use std::fs;
use std::time::Duration;

use ledger::store::schema::VERSION;

use super::invariants::all_is_well;
use super::parties::note;
use super::senders::Senders;
use crate::support::ledger::{Ledger, Process};
use crate::support::{eventually, get};

const PACE: Duration = Duration::from_millis(40);

#[track_caller]
fn upgraded(process: &Process) {
    let output = process.upgrade();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {} {}", String::from_utf8_lossy(&output.stderr), process.messages());
    print!("{said}");
}

#[test]
fn the_books_move_under_callbacks_and_nothing_is_lost() {
    let mut ledger = Ledger::prepare();
    let process = ledger.run_embedded();
    let mut senders = Senders::begin(21, PACE, &[process.port]);
    for _ in 0..3 {
        senders.acknowledge(150);
        upgraded(&process);
    }
    senders.acknowledge(150);
    let acknowledged = senders.finish();
    println!("three upgrades; {}", senders.figures());
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}

#[test]
fn books_that_the_new_process_cannot_open_come_back() {
    let mut ledger = Ledger::prepare();
    let process = ledger.run_embedded();
    let mut senders = Senders::begin(22, PACE, &[process.port]);
    senders.acknowledge(100);
    let key = fs::read_to_string(ledger.path("secrets/ledger.key")).unwrap();
    for _ in 0..2 {
        fs::write(ledger.path("secrets/ledger.key"), format!("{}\n", "7b".repeat(32))).unwrap();
        let output = process.upgrade();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("no upgrade") && said.contains("key"), "{said}");
        fs::write(ledger.path("secrets/ledger.key"), &key).unwrap();
        eventually("it writes again", || (process.ready() == Some(200)).then_some(()));
        senders.acknowledge(100);
    }
    upgraded(&process);
    senders.acknowledge(100);
    let acknowledged = senders.finish();
    assert_eq!(process.ask(&get("/healthz")).unwrap().status, 200);
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}

#[test]
fn books_that_nobody_can_open_any_more_are_answered_503_until_an_upgrade_succeeds() {
    let mut ledger = Ledger::prepare();
    let mut process = ledger.run_embedded();
    let mut senders = Senders::begin(23, PACE, &[process.port]);
    senders.acknowledge(60);
    let acknowledged = senders.finish();
    let version = |version: i64| {
        let store = rusqlite::Connection::open(ledger.path("state/ledger.db")).unwrap();
        store.execute_batch(&format!("PRAGMA user_version = {version}")).unwrap();
    };
    // As a newer build would have left them, which then did not serve.
    version(VERSION + 1);
    for _ in 0..2 {
        let output = process.upgrade();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("made by a newer tollgate"), "{said}");
        process.becomes(503);
        assert_eq!(process.ask(&note(1, 10)).unwrap().status, 503);
    }
    version(VERSION);
    upgraded(&process);
    // The old process ends soon, and another one is ready.
    eventually("it writes again", || (process.ready() == Some(200)).then_some(()));
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}
