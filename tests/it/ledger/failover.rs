//! PostgreSQL fails over: the primary is killed, the standby that confirmed each commit is promoted, and the ledger finds
//! it by itself. What was acknowledged is there, once.

use std::time::Duration;

use super::invariants::all_is_well;
use super::senders::Senders;
use crate::support::ledger::Ledger;
use crate::support::postgres::Postgres;

/// Between two callbacks of a sender, where other tests run beside.
const PACE: Duration = Duration::from_millis(40);

#[test]
fn when_the_standby_takes_over_nothing_that_was_acknowledged_is_lost() {
    let mut primary = Postgres::start();
    let standby = primary.standby();
    let mut ledger = Ledger::on(&primary.url_with(&standby));
    let process = ledger.run();
    let mut senders = Senders::begin(11, PACE, &[process.port]);
    senders.acknowledge(150);
    primary.kill9();
    senders.are_refused(5);
    let before = senders.acknowledged();
    // A standby is read-only: nothing is written to it, nor acknowledged, before somebody decides.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(senders.acknowledged(), before, "acknowledged without a primary");
    standby.promote();
    senders.acknowledge(150);
    let acknowledged = senders.finish();
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}

#[test]
fn a_commit_that_the_standby_has_not_confirmed_is_not_acknowledged() {
    let primary = Postgres::start();
    let mut standby = primary.standby();
    let mut ledger = Ledger::on(&primary.url_with(&standby));
    let process = ledger.run();
    let mut senders = Senders::begin(12, PACE, &[process.port]);
    senders.acknowledge(50);
    standby.stop_fast();
    // What is on its way may have been confirmed.
    senders.are_refused(5);
    let before = senders.acknowledged();
    senders.are_refused(5);
    assert_eq!(senders.acknowledged(), before, "acknowledged without the standby");
    standby.again();
    senders.acknowledge(50);
    let acknowledged = senders.finish();
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}
