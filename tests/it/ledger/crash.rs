//! Nothing lost, nothing twice: kill -9, power cuts, a full disk, a sync that fails, two ledgers on one store.
//!
//! Short forms, on SQLite; `long` has the long ones and PostgreSQL. When a process dies is counted in callbacks
//! acknowledged, so a slow machine dies as often as a quick one.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::invariants::{all_is_well, nothing_is_lost};
use super::senders::{Senders, order_of};
use crate::support::disk::{Count, STALL_SYNCS, Switch};
use crate::support::eventually;
use crate::support::ledger::{Ledger, Process};
use crate::support::providers::Callback;
use crate::support::wait::within;

mod long;

/// Between two callbacks of a sender, where other tests run beside.
const PACE: Duration = Duration::from_millis(40);

/// So many rounds of load and death; every `queries` rounds, and after every cut of power, the books are held against what
/// was acknowledged so far.
struct Rounds {
    count: usize,
    power: bool,
    look: usize,
    pace: Duration,
}

impl Rounds {
    #[track_caller]
    fn run(&self, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut ledger = if self.power { Ledger::prepare().with_power() } else { Ledger::prepare() };
        let mut process = ledger.run();
        let mut senders = Senders::begin(seed, self.pace, &[process.port]);
        for round in 1..=self.count {
            senders.acknowledge(rng.usize(20..200));
            process.kill9();
            let acknowledged = senders.so_far();
            if self.power {
                ledger.disk.loses_power();
            }
            process.run(&ledger.disk);
            if round % self.look == 0 {
                let look = || nothing_is_lost(&ledger, process.books(&ledger.token), &acknowledged);
                senders.beside_or_at_rest(round / self.look, look);
            }
        }
        let acknowledged = senders.finish();
        all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
        println!("{} rounds, power lost: {}; {}", self.count, self.power, senders.figures());
    }
}

#[test]
fn killed_five_times_it_has_lost_nothing_and_nothing_twice() {
    Rounds { count: 5, power: false, look: 5, pace: PACE }.run(1);
}

#[test]
fn a_cut_of_power_loses_nothing_that_was_acknowledged() {
    Rounds { count: 2, power: true, look: 1, pace: PACE }.run(2);
}

/// Two payments by one seed.
pub fn two_payments(seed: u64) -> [Callback; 2] {
    ["a", "b"].map(|name| {
        let mut rng = fastrand::Rng::with_seed(seed);
        order_of(&mut rng, &format!("{seed}{name}")).into_iter().find(|callback| callback.refund.is_none()).unwrap()
    })
}

#[track_caller]
fn is_acknowledged(process: &Process, callback: &Callback) {
    let answer = process.ask(&callback.request()).unwrap();
    assert!(callback.channel.is_acknowledged(&answer), "{} {}", answer.status, answer.text());
}

fn is_there(process: &Process, ledger: &Ledger, callback: &Callback) -> bool {
    let rows = process.books(&ledger.token).all("/v1/transactions");
    rows.iter().any(|row| row["channel_txn_no"] == callback.number())
}

/// The process dies after it wrote a commit and before the commit was synced; the next one finds it in the page cache.
/// Whether it does depends on what SQLite has to sync first, so it is tried until it was so.
#[test]
fn a_duplicate_of_a_commit_that_was_never_synced_is_acknowledged_only_once_it_is_durable() {
    let mut ledger = Ledger::prepare().with_power();
    let mut process = ledger.run();
    let mut acknowledged = vec![];
    for seed in 0..6 {
        let [first, second] = two_payments(seed);
        is_acknowledged(&process, &first);
        ledger.disk.only("-wal");
        ledger.disk.set(Switch::Stall, STALL_SYNCS);
        let port = process.port;
        let request = second.request();
        let sending = thread::spawn(move || crate::support::Connection::to(port).unwrap().ask(&request));
        ledger.disk.holds_a_call();
        process.kill9();
        assert!(sending.join().unwrap().is_err(), "acknowledged before it was synced");
        ledger.disk.well();
        ledger.disk.forgets_calls();
        process.run(&ledger.disk);
        let was_there = is_there(&process, &ledger, &second);
        is_acknowledged(&process, &second);
        process.kill9();
        ledger.disk.loses_power();
        process.run(&ledger.disk);
        acknowledged.extend([first, second]);
        nothing_is_lost(&ledger, process.books(&ledger.token), &acknowledged);
        if was_there {
            all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
            return;
        }
    }
    panic!("no commit was killed between its write and its sync");
}

#[test]
fn a_full_disk_is_503_to_all_and_it_serves_again_when_there_is_room() {
    let (ledger, process) = Ledger::start();
    let mut senders = Senders::begin(4, PACE, &[process.port]);
    senders.acknowledge(100);
    ledger.disk.set(Switch::Full, 1);
    // Those that were on their way have their answers by then.
    senders.are_refused(2 * super::senders::SENDERS);
    let before = senders.acknowledged();
    senders.are_refused(3 * super::senders::SENDERS);
    assert_eq!(senders.acknowledged(), before, "acknowledged without room");
    assert!(ledger.disk.count(Count::Refused) > 0);
    ledger.disk.well();
    senders.acknowledge(100);
    let acknowledged = senders.finish();
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}

/// Once is enough: a process that tries again would be told that all is well, and the blocks are lost.
#[test]
fn a_sync_that_fails_once_ends_the_process_and_nothing_is_acknowledged_after_it() {
    let mut ledger = Ledger::prepare().with_power();
    let mut process = ledger.run();
    let mut senders = Senders::begin(5, PACE, &[process.port]);
    senders.acknowledge(100);
    ledger.disk.only("-wal");
    ledger.disk.set(Switch::FailSync, 1);
    assert_eq!(process.ended().code(), Some(1), "{}", process.messages());
    assert_eq!(ledger.disk.count(Count::Failed), 1);
    let acknowledged = senders.so_far();
    ledger.disk.loses_power();
    process.run(&ledger.disk);
    nothing_is_lost(&ledger, process.books(&ledger.token), &acknowledged);
    senders.acknowledge(100);
    let acknowledged = senders.finish();
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}

/// The one of two that serves.
#[track_caller]
fn active(processes: [&Process; 2]) -> &Process {
    eventually("a ledger that serves", || processes.into_iter().find(|process| process.ready() == Some(200)))
}

/// One is killed and comes back, then the active one is frozen for a while, then killed.
#[track_caller]
fn two_on_one_store(ledger: &mut Ledger, seed: u64, turns: usize, pace: Duration) {
    let (mut one, mut other) = (ledger.run(), ledger.process());
    other.spawn(&ledger.disk);
    other.becomes(503);
    let [payment, _] = two_payments(seed);
    let answer = other.ask(&payment.request()).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    let mut senders = Senders::begin(seed, pace, &[one.port, other.port]);
    for turn in 0..turns {
        senders.acknowledge(100);
        if turn % 2 == 0 {
            one.kill9();
            other.becomes(200);
            senders.acknowledge(100);
            one.spawn(&ledger.disk);
            one.becomes(503);
            std::mem::swap(&mut one, &mut other);
        } else {
            one.signal(Signal::STOP);
            // Whether the other may take over is the store's; that nothing is there twice is asked in the end.
            within(Duration::from_secs(3), || (other.ready() == Some(200)).then_some(()));
            one.signal(Signal::CONT);
            senders.acknowledge(100);
            if active([&one, &other]).port == other.port {
                std::mem::swap(&mut one, &mut other);
            }
        }
        let acknowledged = senders.so_far();
        let look = || nothing_is_lost(ledger, active([&one, &other]).books(&ledger.token), &acknowledged);
        senders.beside_or_at_rest(turn + 1, look);
    }
    let acknowledged = senders.finish();
    all_is_well(ledger, active([&one, &other]).books(&ledger.token), &acknowledged);
    println!("two ledgers, {turns} turns; {}", senders.figures());
}

#[test]
fn a_second_ledger_stands_by_and_takes_over_and_nothing_is_there_twice() {
    two_on_one_store(&mut Ledger::prepare(), 6, 2, PACE);
}
