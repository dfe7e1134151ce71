//! The end of the process: what is in flight is finished, nothing new is taken.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::*;

fn config(grace: &str, origin: &Origin) -> String {
    format!(
        r#"
        [server]
        threads = 2
        shutdown_grace = "{grace}"
        {}[route.all]
        upstream = "app"
        "#,
        fleet("app", &[origin])
    )
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_takes_nothing_new() {
    let origin = Origin::start("a");
    let gate = Gate::new();
    origin.script({
        let gate = gate.clone();
        move |seen| if seen.path == "/held" { Act::when(&gate, Act::ok()) } else { Act::ok() }
    });
    let mut world = World::start(&config("60s", &origin));
    let mut idle = world.connect();
    assert_ne!(idle.ask(&get("/")).unwrap().header("connection"), Some("close"));
    let held = thread::scope(|scope| {
        let held = scope.spawn(|| world.ask(get("/held")));
        eventually("it is in flight", || (origin.hits() == 2).then_some(()));
        world.signal(Signal::TERM);
        eventually("the listener is closed", || Connection::to(world.port).is_err().then_some(()));
        assert_eq!(world.admin(get("/readyz")).status, 503, "a load balancer sees that it drains");
        assert_eq!(world.admin(get("/healthz")).status, 200);
        let last = idle.ask(&get("/last")).unwrap();
        assert_eq!((last.status, last.header("connection")), (200, Some("close")), "served, and asked to go");
        idle.closed_after();
        gate.open();
        held.join().unwrap()
    });
    assert_eq!((held.status, held.header("connection")), (200, Some("close")));
    world.ends_well();
    let paths: Vec<_> = world.log_lines().iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect();
    assert!(paths.contains(&"/held".to_owned()) && paths.contains(&"/last".to_owned()), "the log is whole: {paths:?}");
}

#[test]
fn silent_connections_do_not_hold_the_end_up() {
    let origin = Origin::start("a");
    let mut world = World::start(&config("60s", &origin));
    let mut kept = world.connect();
    assert_eq!(kept.ask(&get("/")).unwrap().status, 200);
    let _never_spoke = world.connect();
    let begun = Instant::now();
    world.signal(Signal::INT);
    kept.closed_after();
    world.ends_well();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn an_answer_that_began_before_does_not_hold_the_end_up_after_it() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut world = World::start(&format!(
        r#"
        [server]
        shutdown_grace = "60s"
        [upstream.app]
        servers = ["{}"]
        [route.all]
        upstream = "app"
        "#,
        server.local_addr().unwrap()
    ));
    let mut client = world.connect();
    client.send(&get("/").bytes()).unwrap();
    let mut origin = server.accept().unwrap().0;
    let asked = |origin: &mut std::net::TcpStream| origin.read(&mut [0; 4096]).unwrap() > 0;
    assert!(asked(&mut origin));
    // More than what waits for the rest on Pingora's way.
    let part = [b'x'; 8000];
    origin.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 16000\r\n\r\n").unwrap();
    origin.write_all(&part).unwrap();
    let head = client.exactly(17).unwrap();
    assert_eq!(head, b"HTTP/1.1 200 OK\r\n");
    let begun = Instant::now();
    world.signal(Signal::TERM);
    eventually("the listener is closed", || Connection::to(world.port).is_err().then_some(()));
    // Longer than silent connections may stay.
    thread::sleep(Duration::from_millis(1500));
    origin.write_all(&part).unwrap();
    world.ends_well();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn the_grace_ends_what_does_not_end() {
    let origin = Origin::start("a");
    origin.does(Act::hang());
    let mut world = World::start(&config("500ms", &origin));
    let mut stuck = world.connect();
    stuck.send(&get("/").bytes()).unwrap();
    eventually("it is in flight", || (origin.hits() == 1).then_some(()));
    world.signal(Signal::TERM);
    world.ends_well();
    assert!(stuck.answer(false).is_err());
    assert!(world.messages().contains("the grace is over"));
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::start("a");
    origin.does(Act::hang());
    let mut world = World::start(&config("1h", &origin));
    let mut stuck = world.connect();
    stuck.send(&get("/").bytes()).unwrap();
    eventually("it is in flight", || (origin.hits() == 1).then_some(()));
    world.signal(Signal::TERM);
    eventually("it drains", || world.messages().contains("draining").then_some(()));
    world.signal(Signal::TERM);
    world.ended();
}
