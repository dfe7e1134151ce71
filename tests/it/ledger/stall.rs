//! A disk that hangs: callbacks are told to come again, in time, and the gateway's requests do not feel it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::crash::two_payments;
use super::invariants::all_is_well;
use super::senders::Senders;
use crate::load::long::run;
use crate::support::disk::{Disk, STALL_ALL, Switch};
use crate::support::ledger::Ledger;
use crate::support::nginx::Nginx;
use crate::support::*;

/// The longest that a provider waits for an answer.
const PROVIDERS_PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn callbacks_get_503_within_5_seconds_from_a_stalled_disk_and_are_served_afterwards() {
    let (ledger, process) = Ledger::start();
    let mut senders = Senders::begin(31, Duration::from_millis(40), &[process.port]);
    senders.acknowledge(50);
    ledger.disk.set(Switch::Stall, STALL_ALL);
    ledger.disk.holds_a_call();
    let [payment, _] = two_payments(31);
    let begun = Instant::now();
    let answer = process.ask(&payment.request()).unwrap();
    assert!(begun.elapsed() < PROVIDERS_PATIENCE, "{:?}", begun.elapsed());
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    // Probes and figures do not wait for the disk.
    let begun = Instant::now();
    assert_eq!(process.ask(&get("/healthz")).unwrap().status, 200);
    assert_eq!(process.ask(&get("/metrics")).unwrap().status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    ledger.disk.well();
    senders.acknowledge(100);
    let again = process.ask(&payment.request()).unwrap();
    assert!(payment.channel.is_acknowledged(&again), "{}", again.text());
    let mut acknowledged = senders.finish();
    acknowledged.push(payment);
    all_is_well(&ledger, process.books(&ledger.token), &acknowledged);
}

#[test]
fn it_ends_in_time_though_the_disk_hangs_and_the_queue_is_full() {
    let (ledger, mut process) = Ledger::start();
    let [payment, _] = two_payments(33);
    ledger.disk.set(Switch::Stall, STALL_ALL);
    // Who leaves has been queued all the same.
    let (port, bytes) = (process.port, payment.request().bytes());
    let full = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                while !full.load(std::sync::atomic::Ordering::SeqCst) {
                    let mut connection = Connection::to(port).unwrap();
                    let _ = connection.send(&bytes);
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
        let end = wait::Finally(&full);
        eventually("the queue is full", || {
            let begun = Instant::now();
            let answer = process.ask(&payment.request()).unwrap();
            (answer.status == 503 && begun.elapsed() < Duration::from_secs(2)).then_some(())
        });
        drop(end);
    });
    process.signal(rustix::process::Signal::TERM);
    process.ended();
    ledger.disk.well();
}

#[test]
fn bodies_that_wait_for_a_stalled_disk_keep_their_room_when_their_senders_were_told_to_come_again() {
    let (ledger, process) = Ledger::start();
    ledger.disk.set(Switch::Stall, STALL_ALL);
    let large = |n: usize| crate::ledger::parties::note(n, 1_040_000);
    let port = process.port;
    let senders: Vec<_> = (0..131)
        .map(|n| {
            let request = large(n);
            thread::spawn(move || Connection::to(port).unwrap().ask(&request).unwrap().status)
        })
        .collect();
    senders.into_iter().for_each(|sender| assert_eq!(sender.join().unwrap(), 503));
    // They were answered after four seconds, and are still in the writer's queue.
    let begun = Instant::now();
    assert_eq!(process.ask(&large(200)).unwrap().status, 503);
    assert!(begun.elapsed() < Duration::from_secs(2), "it found room: {:?}", begun.elapsed());
    ledger.disk.well();
    eventually("there is room again", || (process.ask(&large(200)).unwrap().status == 200).then_some(()));
}

/// Microseconds of the 99th percentile of `h2load` at half of what the route bears.
fn p99(world: &World, rate: f64, time: u64) -> u64 {
    let log = world.path("h2load.log");
    let _ = fs::remove_file(&log);
    let url = format!("http://127.0.0.1:{}/", world.port);
    let rps = format!("--rps={}", (rate / 32.0).max(1.0));
    let (duration, file) = (format!("-D{time}"), format!("--log-file={}", log.display()));
    let said = run("h2load", "nghttp2-client", &["--h1", "-t1", "-c32", &rps, &duration, &file, &url]);
    assert!(said.contains(" 0 failed, 0 errored"), "{said}");
    let text = fs::read_to_string(&log).unwrap();
    let mut times: Vec<u64> = text.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// The gateway with the ledger inside; `state/` is on the disk that stalls.
fn embedded(ledger: &Ledger, origin: &Nginx) -> World {
    let mut world = World::prepare();
    let secrets = ledger.path("secrets").display().to_string();
    let tables = ledger.tables(world::free_port()).replace("secrets/", &format!("{secrets}/"));
    world.layered(&ledger.disk);
    world.boot(&format!(
        r#"
        [server]
        threads = 2
        state_dir = {:?}
        [log]
        access = "off"
        [upstream.app]
        servers = [{:?}]
        [route.all]
        upstream = "app"
        [route.pay]
        paths = ["/pay/*"]
        strip_prefix = "/pay"
        ledger = true
        {tables}"#,
        ledger.path("state").display().to_string(),
        origin.address(),
    ));
    world
}

/// Sends callbacks through the gateway's own port until told to stop, whatever comes back.
fn calls_back(world: &World, done: &std::sync::atomic::AtomicBool) -> (usize, usize) {
    let (mut taken, mut refused) = (0, 0);
    let mut rng = fastrand::Rng::with_seed(41);
    for n in 0.. {
        let order = super::senders::order_of(&mut rng, &format!("w{n}"));
        for callback in order {
            if done.load(std::sync::atomic::Ordering::SeqCst) {
                return (taken, refused);
            }
            match world.try_ask(&callback.request().under("/pay")) {
                Ok(answer) if answer.status == 200 => taken += 1,
                _ => refused += 1,
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    (taken, refused)
}

#[test]
#[ignore = "long: scripts/test --long"]
fn a_disk_stalled_for_30_seconds_does_not_slow_the_proxy() {
    let (ledger, origin) = (Ledger::prepare(), Nginx::start("fine"));
    let world = embedded(&ledger, &origin);
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let caller = scope.spawn(|| calls_back(&world, &done));
        let end = wait::Finally(&done);
        let url = format!("http://127.0.0.1:{}/", world.port);
        let peak = run("wrk", "wrk", &["-t1", "-c32", "-d5s", &url]);
        let rate = crate::load::long::figure(&peak, "Requests/sec:").expect("a rate") / 2.0;
        p99(&world, rate, 5);
        let mut shares = vec![];
        for round in 1..=5 {
            let quiet = p99(&world, rate, 30);
            let stalled = with_stall(&ledger.disk, || p99(&world, rate, 30));
            let share = stalled as f64 / quiet as f64;
            println!("round {round}: p99 {quiet} µs, {stalled} µs with the ledger's disk stalled: {share:.2}");
            shares.push(share);
        }
        drop(end);
        let (taken, refused) = caller.join().unwrap();
        println!("{rate:.0} requests a second; {taken} callbacks taken, {refused} refused");
        assert!(taken > 0 && refused > 0, "the stall was not met");
        shares.sort_by(f64::total_cmp);
        assert!(shares[2] <= 1.2, "{shares:?}");
    });
}

fn with_stall<T>(disk: &Disk, act: impl FnOnce() -> T) -> T {
    disk.set(Switch::Stall, STALL_ALL);
    let result = act();
    disk.well();
    result
}
