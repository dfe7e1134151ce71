//! The long forms: minutes of `wrk` and `h2load` against a gateway that is pushed to, with figures.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{pushed, saves, with_dying_servers};
use crate::support::nginx::Nginx;
use crate::support::wait::Finally;
use crate::support::*;

/// Seconds of the runs; the issue's minute unless `TOLLGATE_LONG_SECONDS` says otherwise.
fn seconds() -> u64 {
    std::env::var("TOLLGATE_LONG_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// What a tool says; it must end well.
pub fn run(tool: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output();
    let output = output.unwrap_or_else(|_| panic!("{tool} is missing; install it: sudo apt-get install {package}"));
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Pushes ten times a second while `load` runs.
fn under_pushes(world: &World, servers: &[String], load: impl FnOnce() -> String) -> (String, usize) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pusher = scope.spawn(|| {
            let (begun, mut round) = (Instant::now(), 0_u32);
            while !done.load(Ordering::SeqCst) {
                round += 1;
                world.write(&pushed(round as usize, servers));
                thread::sleep((Duration::from_millis(100) * round).saturating_sub(begun.elapsed()));
            }
            round as usize
        });
        let end = Finally(&done);
        let said = load();
        drop(end);
        (said, pusher.join().unwrap())
    })
}

/// Resident memory in KiB.
fn memory(world: &World) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", world.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The number before `unit` at the start of the line that begins with `label`.
pub fn figure(text: &str, label: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.trim_start().starts_with(label))?;
    let word = line.trim_start().trim_start_matches(label).split_whitespace().next()?;
    word.trim_end_matches(|c: char| c.is_alphabetic() || c == ',').parse().ok()
}

fn fleet_of_nginx() -> (Vec<Nginx>, Vec<String>) {
    let servers: Vec<Nginx> = (0..3).map(|n| Nginx::start(&format!("server {n}"))).collect();
    let addresses = servers.iter().map(Nginx::address).collect();
    (servers, addresses)
}

#[test]
#[ignore = "long: scripts/test --long"]
fn wrk_on_64_connections_loses_nothing_while_the_configuration_is_pushed() {
    let (_servers, addresses) = fleet_of_nginx();
    let world = World::start(&format!(
        r#"
    [log]
    access = "off"
    {}"#,
        pushed(0, &addresses)
    ));
    let url = format!("http://127.0.0.1:{}/", world.port);
    let wrk = |seconds: u64| run("wrk", "wrk", &["-t1", "-c64", &format!("-d{seconds}s"), "--latency", &url]);
    under_pushes(&world, &addresses, || wrk(5));
    let before = memory(&world);
    let (said, pushes) = under_pushes(&world, &addresses, || wrk(seconds()));
    let after = memory(&world);
    let applied = world.metric("tollgate_config_reloads_total", &["result=\"applied\""]);
    println!("{said}{pushes} pushes, {applied} served; memory {before} KiB before, {after} KiB after");
    assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    assert_eq!(world.metric("tollgate_requests_total", &["status_class=\"5xx\""]), 0.0);
    assert!(after < before + before / 4 + 16 * 1024, "memory grew from {before} to {after} KiB");
}

#[test]
#[ignore = "long: scripts/test --long"]
fn at_half_of_the_peak_rate_a_push_is_not_felt() {
    let (_servers, addresses) = fleet_of_nginx();
    let world = World::start(&format!(
        r#"
    [log]
    access = "off"
    {}"#,
        pushed(0, &addresses)
    ));
    let url = format!("http://127.0.0.1:{}/", world.port);
    let peak = run("wrk", "wrk", &["-t1", "-c64", "-d10s", &url]);
    let rate = figure(&peak, "Requests/sec:").expect("a rate") / 2.0;
    let log = world.path("h2load.log");
    let time = seconds().min(30);
    let h2load = || {
        let _ = fs::remove_file(&log);
        let per_client = format!("--rps={}", (rate / 64.0).max(1.0));
        let (duration, log) = (format!("-D{time}"), format!("--log-file={}", log.display()));
        run("h2load", "nghttp2-client", &["--h1", "-t1", "-c64", &per_client, &duration, &log, &url])
    };
    let (said, quiet) = (h2load(), p99(&log));
    assert!(said.contains(" 0 failed, 0 errored"), "{said}");
    let ((said, pushes), pushed) = (under_pushes(&world, &addresses, h2load), p99(&log));
    println!("{rate:.0} a second: p99 {quiet:?} quiet, {pushed:?} with {pushes} pushes\n{said}");
    assert!(said.contains(" 0 failed, 0 errored"), "{said}");
    assert!(pushed <= quiet.mul_f64(1.5).max(quiet + Duration::from_millis(2)), "{quiet:?} became {pushed:?}");
}

/// The 99th percentile of a log of h2load: start, status, microseconds a line.
fn p99(log: &std::path::Path) -> Duration {
    let text = fs::read_to_string(log).unwrap();
    let mut times: Vec<u64> = text.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
    times.sort_unstable();
    Duration::from_micros(times[times.len() * 99 / 100])
}

#[test]
#[ignore = "long: scripts/test --long"]
fn every_saved_file_answers_within_300_ms() {
    let times = saves(50);
    assert!(times[times.len() - 1] < Duration::from_millis(300), "{times:?}");
}

#[test]
#[ignore = "long: scripts/test --long"]
fn a_killed_and_a_stopped_server_cost_no_request_for_a_minute() {
    with_dying_servers(seconds());
}
