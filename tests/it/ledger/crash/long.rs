//! The long forms: hundreds of deaths under 64 senders, on both stores, with figures.

use std::time::Duration;

use super::{Rounds, nothing_is_lost, two_on_one_store};
use crate::ledger::invariants::all_is_well;
use crate::ledger::senders::Senders;
use crate::support::ledger::Ledger;
use crate::support::postgres::Postgres as Server;

/// Between two callbacks of a sender: the machine is ours.
const PACE: Duration = Duration::from_millis(10);

/// `TOLLGATE_LONG_ROUNDS` where it is set.
fn rounds(count: usize) -> usize {
    std::env::var("TOLLGATE_LONG_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(count)
}

#[test]
#[ignore = "long: scripts/test --long"]
fn killed_200_times_it_has_lost_nothing_and_nothing_twice() {
    Rounds { count: rounds(200), power: false, look: 20, pace: PACE }.run(11);
}

#[test]
#[ignore = "long: scripts/test --long"]
fn thirty_cuts_of_power_lose_nothing_that_was_acknowledged() {
    Rounds { count: rounds(30), power: true, look: 1, pace: PACE }.run(12);
}

#[test]
#[ignore = "long: scripts/test --long"]
fn on_postgresql_200_deaths_of_ledger_and_server_lose_nothing() {
    let mut server = Server::start();
    let mut ledger = Ledger::on(&server.url());
    let mut process = ledger.run();
    let mut rng = fastrand::Rng::with_seed(13);
    let mut senders = Senders::begin(13, PACE, &[process.port]);
    let count = rounds(200);
    for round in 1..=count {
        senders.acknowledge(rng.usize(20..200));
        // Each alone, then both at once.
        if round % 3 != 1 {
            server.kill9();
        }
        if round % 3 != 2 {
            process.kill9();
        }
        let acknowledged = senders.so_far();
        if round % 3 != 1 {
            server.again();
        }
        if round % 3 == 2 {
            process.becomes(200);
        } else {
            process.run(&ledger.disk);
        }
        if round % 20 == 0 {
            let look = || nothing_is_lost(&ledger, process.books(&ledger.token), &acknowledged);
            senders.beside_or_at_rest(round / 20, look);
        }
    }
    let acknowledged = senders.finish();
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
    println!("PostgreSQL: {count} rounds; {}", senders.figures());
}

#[test]
#[ignore = "long: scripts/test --long"]
fn two_ledgers_take_turns_on_sqlite() {
    two_on_one_store(&mut Ledger::prepare(), 14, rounds(20), PACE);
}

#[test]
#[ignore = "long: scripts/test --long"]
fn two_ledgers_take_turns_on_postgresql() {
    let server = Server::start();
    two_on_one_store(&mut Ledger::on(&server.url()), 15, rounds(20), PACE);
}
