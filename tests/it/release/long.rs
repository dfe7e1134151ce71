//! The long forms: real servers, `wrk` beside the users, a hundred thousand of them, and figures.

use std::fs;
use std::thread;

use rustix::process::Signal;

use super::*;
use crate::load::long::{figure, run};
use crate::support::nginx::Nginx;

/// What was promised of one that worked before: taken back so soon after the first failure, or before so many users met
/// one.
const SOON: Duration = Duration::from_millis(3500);
const HARMED: u64 = 20;
const FIRST_BYTE: Duration = Duration::from_millis(200);

/// Requests of ten thousand users, by chance.
const WRK: &str = r#"
request = function()
  return wrk.format("GET", "/", { ["x-user-id"] = "w" .. math.random(10000) })
end
init = function(args)
  math.randomseed(os.time())
end
"#;

/// Where `fault` exists, nginx answers 500, and where `half` does, to every other request.
fn breakable(name: &str) -> Nginx {
    let location = format!(
        "root .; set $bad \"\"; if (-f $document_root/half) {{ set $bad \"half$coin\"; }} \
         if (-f $document_root/fault) {{ return 500; }} if (-f $document_root/cut) {{ return 444; }} \
         if ($bad = half1) {{ return 500; }} add_header x-server {name}; return 200 {name};"
    );
    Nginx::with_http("split_clients $request_id $coin { 50% 1; * 0; }", &location)
}

/// A row of the table: what users and `wrk` met while the canary failed so.
fn row(fault: &str, late: Duration, break_it: impl FnOnce(&Nginx)) {
    let (stable, canary) = (Nginx::start("stable"), breakable("canary"));
    let world = gray(&[stable.address()], &[canary.address()])
        .table(
            r#"
        [log]
        access = "off"
        [upstream.canary.timeout]
        first_byte = "200ms""#,
        )
        .start();
    world.write_as("users.lua", WRK.as_bytes());
    let (script, url) = (world.path("users.lua"), format!("http://127.0.0.1:{}/", world.port));
    let crowd = Users::new(2000, 1000);
    let (took, said) = crowd.while_(&world, || {
        thread::scope(|scope| {
            let wrk = scope.spawn(|| run("wrk", "wrk", &["-t1", "-c16", "-d8s", "-s", script.to_str().unwrap(), &url]));
            (0..2).for_each(|_| crowd.goes_round());
            assert_eq!(stands(&world), ("running".into(), 1, 10.0));
            let broken = Instant::now() + late;
            break_it(&canary);
            let took = taken_back(&world, &crowd, || Some(broken));
            (took, wrk.join().unwrap())
        })
    });
    let (view, report) = (view(&world), world.admin(get("/api/v1/reports")).json());
    let harmed = report[0]["users_harmed"].as_u64().unwrap_or(u64::MAX);
    let requests = figure(&said, "Requests/sec:").unwrap_or_default();
    println!(
        "{fault:<22} {:>8} answered, {:>3} failed, wrk {requests:>8.0}/s, {:>6} rescued, taken back after {took:?}, {harmed} users met it",
        crowd.answered(),
        crowd.failures(),
        view["rescued"],
    );
    crowd.noticed_nothing();
    assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    assert!(view["rescued"].as_u64() > Some(0) && view["not_rescued"] == 0, "{view:#}");
    assert!(took <= SOON || harmed <= HARMED, "taken back only {took:?} after the fault began, {harmed} users met it");
}

fn touch(nginx: &Nginx, name: &str) {
    fs::write(nginx.path(name), "").unwrap();
}

#[test]
#[ignore = "long: scripts/test --long"]
fn no_user_and_no_wrk_notices_a_bad_canary() {
    row("always 500", Duration::ZERO, |canary| touch(canary, "fault"));
    row("every other one 500", Duration::ZERO, |canary| touch(canary, "half"));
    row("closes without a word", Duration::ZERO, |canary| touch(canary, "cut"));
    row("hangs (SIGSTOP)", FIRST_BYTE, |canary| canary.signal(Signal::STOP));
    row("dies (kill -9)", Duration::ZERO, |canary| canary.signal(Signal::KILL));
}

#[test]
#[ignore = "long: scripts/test --long"]
fn identical_servers_are_told_apart_by_nobody() {
    let mut back = 0;
    for (percent, connections) in [(1.0, 1), (1.0, 16), (10.0, 1), (10.0, 16), (10.0, 64), (50.0, 16)] {
        let (stable, canary) = (breakable("stable"), breakable("canary"));
        // Warm from the start, else nobody's answers would be timed within the eight seconds.
        let quiet = r#"
        [release.v2.judge]
        settle = "0s"
        [log]
        access = "off""#;
        let world = gray(&[stable.address()], &[canary.address()]).steps(&[(percent, "1h")]).table(quiet).start();
        world.write_as("users.lua", WRK.as_bytes());
        let (script, url) = (world.path("users.lua"), format!("http://127.0.0.1:{}/", world.port));
        let many = format!("-c{connections}");
        let said = run("wrk", "wrk", &["-t1", &many, "-d8s", "-s", script.to_str().unwrap(), &url]);
        let (view, rate) = (view(&world), figure(&said, "Requests/sec:").unwrap_or_default());
        let p99 = |arm: &str| view["arms"][arm]["p99_ms"].as_f64().unwrap_or_default();
        println!(
            "{percent:>3} %, {connections:>2} connections, {rate:>6.0}/s: p99 {:.1} and {:.1} ms, evidence of latency {:.1e}: {}",
            p99("stable"),
            p99("canary"),
            view["evidence"]["latency"].as_f64().unwrap_or_default(),
            view["state"]
        );
        back += usize::from(view["state"] != "running");
    }
    assert_eq!(back, 0, "a canary that is the same as stable was taken back");
}

const USERS: usize = 100_000;
const STEPS: [(f64, &str); 4] = [(1.0, "1h"), (5.0, "1h"), (25.0, "1h"), (100.0, "1h")];

/// Which users are on the canary, as the answers say; asked over eight connections.
fn arms(world: &World) -> Vec<bool> {
    let part = USERS / 8;
    thread::scope(|scope| {
        let ask = |first: usize| {
            let mut connection = world.connect();
            let mut arms = Vec::with_capacity(part);
            for user in first..first + part {
                let answer = connection.ask(&by(&format!("user-{user}"), "/")).expect("an answer");
                assert_eq!(answer.status, 200);
                arms.push(answer.body == b"canary");
                if answer.header("connection") == Some("close") {
                    connection = world.connect();
                }
            }
            arms
        };
        let parts: Vec<_> = (0..8).map(|n| scope.spawn(move || ask(n * part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// Users who joined and who left.
fn moved(before: &[bool], after: &[bool]) -> (usize, usize) {
    let count = |joins: bool| before.iter().zip(after).filter(|(b, a)| b != a && **a == joins).count();
    (count(true), count(false))
}

/// A line of the table; the share within three standard deviations.
#[track_caller]
fn told(what: &str, percent: f64, before: &[bool], on: &[bool]) {
    let (joined, left) = moved(before, on);
    let (count, p, all) = (on.iter().filter(|on| **on).count() as f64, percent / 100.0, USERS as f64);
    let sigma = (all * p * (1.0 - p)).sqrt();
    println!("{what:<24} {percent:>5} %: {count:>6} users, {joined:>6} joined, {left:>6} left");
    assert!((count - p * all).abs() <= 3.0 * sigma, "{count} of {all} are not {percent} %");
}

#[test]
#[ignore = "long: scripts/test --long"]
fn a_hundred_thousand_users_stay_on_their_version() {
    let (stable, canary) = (Nginx::start("stable"), Nginx::start("canary"));
    // Who moves is not the judge's business here.
    let quiet = r#"
    [log]
    access = "off"
    [release.v2.judge]
    on_fail = "report""#;
    let release = gray(&[stable.address()], &[canary.address()]).table(quiet);
    let (mut world, other) = (release.clone().steps(&STEPS).start(), release.clone().steps(&STEPS).start());
    let mut shares = vec![vec![false; USERS]];
    for (step, (percent, _)) in STEPS.into_iter().enumerate() {
        if step > 0 {
            assert_eq!(order(&world, "promote").2, percent);
        }
        let on = arms(&world);
        told("grows", percent, &shares[step], &on);
        assert_eq!(moved(&shares[step], &on).1, 0, "somebody left while the share grew");
        shares.push(on);
    }
    for (percent, older) in [(60.0, 3), (26.0, 3)] {
        world.push(&release.clone().steps(&[STEPS[0], STEPS[1], STEPS[2], (percent, "1h")]).text());
        assert_eq!(stands(&world), ("running".into(), 4, percent));
        let on = arms(&world);
        told("shrinks", percent, shares.last().unwrap(), &on);
        assert_eq!(moved(shares.last().unwrap(), &on).0, 0, "somebody joined while the share shrank");
        assert_eq!(moved(&shares[older], &on).1, 0, "somebody left who had come earlier");
        shares.push(on);
    }
    world.push(&release.clone().steps(&[STEPS[0], STEPS[1], STEPS[2]]).text());
    let on = arms(&world);
    told("shrinks", 25.0, &shares[6], &on);
    assert!(on == shares[3], "25 % are others than before");
    (0..2).for_each(|_| drop(order(&other, "promote")));
    let elsewhere = arms(&other);
    told("on another gateway", 25.0, &on, &elsewhere);
    assert!(elsewhere == on, "two gateways disagree");
    world.stop();
    assert!(world.run());
    let after = arms(&world);
    told("after a restart", 25.0, &on, &after);
    assert!(after == on, "a restart moved somebody");
    order(&world, "abort");
    assert!(arms(&world).iter().all(|on| !on), "an abort left somebody on the canary");
    println!("after an abort            0 %: nobody");
}
