//! Requests end: whatever a client and a server do or leave undone, what a request holds comes back.
//!
//! The worlds are those in which it did not: an upload to a server that waits, hangs or is frozen, clients that left or
//! take nothing, tunnels in which nobody speaks.

mod states;

use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::wait::{stays, within};
use crate::support::*;

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;

/// A server that does nothing by itself: connections are taken by the kernel, and read by nobody.
struct Hung(TcpListener);

impl Hung {
    fn new() -> Hung {
        Hung(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    fn accept(&self) -> TcpStream {
        let stream = self.0.accept().unwrap().0;
        stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        stream
    }
}

/// A configuration with one server.
fn one(address: &str, keys: &str) -> String {
    format!(
        r#"
    [upstream.app]
    servers = ["{address}"]
    retry.attempts = 1
    {keys}
    {ROUTE}"#
    )
}

fn in_flight(world: &World, address: &str) -> f64 {
    world.server(address)["in_flight"].as_f64().unwrap()
}

#[track_caller]
fn comes_back(world: &World, address: &str) {
    let back = within(Duration::from_secs(10), || (in_flight(world, address) == 0.0).then_some(()));
    assert!(back.is_some(), "{} still in flight", in_flight(world, address));
}

/// Sends until nobody takes any more; what came back.
fn upload(connection: &mut Connection, length: usize) -> std::io::Result<u16> {
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    connection.send(head.as_bytes())?;
    // The gateway may answer and close before all of it is sent.
    let _ = connection.send(&vec![b'x'; length]);
    connection.answer(false).map(|answer| answer.status)
}

#[test]
fn an_upgrade_that_is_none_ends_like_any_upload() {
    let hung = Hung::new();
    let limits = "max_requests_per_server = 1\ntimeout.first_byte = \"300ms\"";
    let world = World::start(&one(&hung.address(), limits));
    for framing in ["content-length: 100000", "transfer-encoding: chunked"] {
        let mut connection = world.connect();
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n{framing}\r\n\r\n");
        connection.send(head.as_bytes()).unwrap();
        let part = if framing.starts_with('c') { &b"x"[..] } else { b"1\r\nx\r\n" };
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(50));
            // It may have been ended, which is what this is about.
            let _ = connection.send(part);
        }
        drop(connection);
        comes_back(&world, &hung.address());
        assert_eq!(world.server(&hung.address())["failures_in_a_row"], 0, "{framing}");
    }
}

#[test]
fn a_slow_upload_with_an_upgrade_is_not_its_servers_fault() {
    let origin = Origin::start("a");
    let world = World::start(&one(&origin.address(), "timeout.first_byte = \"200ms\""));
    let mut connection = world.connect();
    let head = "POST / HTTP/1.1\r\nhost: a\r\nupgrade: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    connection.send(head.as_bytes()).unwrap();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(60));
        connection.send(b"1\r\nx\r\n").unwrap();
    }
    connection.send(b"0\r\n\r\n").unwrap();
    assert_eq!(connection.answer(false).unwrap().status, 200);
    assert_eq!(origin.last().body, vec![b'x'; 11]);
    assert_eq!(origin.last().header("upgrade"), None, "only a WebSocket is asked for");
    assert_eq!(world.server(&origin.address())["failures_in_a_row"], 0);
}

#[test]
fn an_upload_to_a_server_that_reads_nothing_ends_after_write() {
    let hung = Hung::new();
    let world = World::start(&one(&hung.address(), "timeout.write = \"300ms\"\nmax_requests_per_server = 1"));
    let mut connection = world.connect();
    let begun = Instant::now();
    assert_eq!(upload(&mut connection, 20_000_000).unwrap_or(504), 504);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    comes_back(&world, &hung.address());
    // A client that left before is no reason to wait longer.
    let mut connection = world.connect();
    connection.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20000000\r\n\r\n").unwrap();
    let _ = connection.send(&[b'x'; 4_000_000]);
    drop(connection);
    comes_back(&world, &hung.address());
}

#[test]
fn a_server_that_answers_without_reading_on_is_heard() {
    let hung = Hung::new();
    let world = World::start(&one(&hung.address(), "timeout.write = \"500ms\""));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| upload(&mut world.connect(), 20_000_000).unwrap());
        let mut stream = hung.accept();
        stream.read_exact(&mut [0; 20]).unwrap();
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
        std::io::Write::write_all(&mut stream, answer).unwrap();
        assert_eq!(asked.join().unwrap(), 413);
    });
}

#[test]
fn total_ends_an_answer_that_its_client_does_not_take() {
    let origin = Origin::start("a");
    origin.does(Act::body(&"x".repeat(30_000_000)));
    let world = World::start(&one(&origin.address(), "timeout.total = \"500ms\""));
    let mut connection = world.connect();
    connection.send(&get("/").bytes()).unwrap();
    eventually("the request is in flight", || (in_flight(&world, &origin.address()) == 1.0).then_some(()));
    comes_back(&world, &origin.address());
    let late = || world.log_lines().into_iter().find(|line| line["error"] == "upstream_timeout");
    assert_eq!(eventually("a line in the access log", late)["status"], 200);
    assert_eq!(world.metric("tollgate_stuck_requests_total", &[]), 0.0, "a limit that does its work is no last resort");
}

#[test]
fn whoever_leaves_behind_another_request_has_left() {
    let hung = Hung::new();
    let world = World::start(&one(&hung.address(), "timeout.first_byte = \"60s\""));
    let first = get("/").bytes();
    let second = [post("/", "hello").bytes(), first.clone()].concat();
    for parts in [[&first[..], &first], [&second, b"\r\n"], [&first, &[b'x'; 100_000]]] {
        let mut connection = world.connect();
        for part in parts {
            // What lies behind the first request is not read before it ends.
            connection.send(part).unwrap();
            let taken = within(Duration::from_secs(5), || (in_flight(&world, &hung.address()) == 1.0).then_some(()));
            assert!(taken.is_some(), "it has gone to its server");
        }
        drop(connection);
        comes_back(&world, &hung.address());
    }
    assert_eq!(world.server(&hung.address())["failures_in_a_row"], 0);
}

#[test]
fn a_tunnel_in_which_nobody_speaks_ends_without_a_word_and_blames_nobody() {
    let hung = Hung::new();
    let world = World::start(&one(&hung.address(), "timeout.read = \"400ms\"\noutlier.consecutive_failures = 1"));
    let upgrade = get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
    let mut connection = world.connect();
    connection.send(&upgrade.bytes()).unwrap();
    let mut server = hung.accept();
    let mut head = [0; 4096];
    assert!(server.read(&mut head).unwrap() > 0);
    let accepted = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    std::io::Write::write_all(&mut server, accepted).unwrap();
    assert_eq!(connection.answer(true).unwrap().status, 101);
    // What the client says is a sign of life, although the server is silent.
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(100));
        connection.send(b"ping").unwrap();
        server.read_exact(&mut [0; 4]).expect("the tunnel is open");
    }
    connection.closed_after();
    comes_back(&world, &hung.address());
    let said = world.server(&hung.address());
    assert_eq!(said["failures_in_a_row"], 0, "{said}");
    let line = world.log_line("/ws");
    assert_eq!((&line["status"], &line["error"]), (&101.into(), &"idle".into()), "{line}");
}

#[test]
fn events_that_pause_end_without_blame() {
    let origin = Origin::start("a");
    let events =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\n: hi\n\r\n";
    origin.does(Act::Raw(events.to_vec(), origin::End::Hang));
    let world = World::start(&one(&origin.address(), "timeout.read = \"300ms\""));
    let mut connection = world.connect();
    connection.send(&get("/events").bytes()).unwrap();
    assert!(connection.answer(false).is_err(), "it breaks off");
    assert_eq!(world.server(&origin.address())["failures_in_a_row"], 0);
}

#[test]
fn a_tunnel_may_carry_more_than_a_body() {
    let origin = Origin::start("a");
    origin.does(Act::Echo);
    let world = World::start(&format!("{}{ROUTE}body_max = \"1KiB\"\n", fleet("app", &[&origin])));
    let mut connection = world.connect();
    let upgrade = get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
    connection.send(&upgrade.bytes()).unwrap();
    assert_eq!(connection.answer(true).unwrap().status, 101);
    for _ in 0..8 {
        connection.send(&[b'x'; 1024]).unwrap();
        assert_eq!(connection.exactly(1024).unwrap(), [b'x'; 1024]);
    }
}

#[test]
fn a_body_that_waits_for_its_servers_word_is_not_late() {
    let (origin, gate) = (Hung::new(), Duration::from_millis(11_500));
    let world = World::start(&one(&origin.address(), ""));
    let mut connection = world.connect();
    let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    connection.send(head).unwrap();
    let mut server = origin.accept();
    assert!(server.read(&mut [0; 4096]).unwrap() > 0);
    // Longer than the ten seconds over which a body is measured.
    std::thread::sleep(gate);
    std::io::Write::write_all(&mut server, b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    assert_eq!(connection.answer(true).unwrap().status, 100);
    connection.send(b"ok").unwrap();
    server.read_exact(&mut [0; 2]).unwrap();
    std::io::Write::write_all(&mut server, b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!(connection.answer(false).unwrap().status, 204);
}

#[test]
fn a_server_that_owes_its_100_is_late_like_one_that_owes_its_answer() {
    let hung = Hung::new();
    let world = World::start(&one(&hung.address(), "timeout.first_byte = \"300ms\""));
    let mut connection = world.connect();
    connection.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").unwrap();
    connection.answer(false).unwrap().is_problem(504, "gateway_timeout");
    // Some servers wait for the body instead, and the client sent none: a stranger must not blame them so.
    assert_eq!(world.server(&hung.address())["failures_in_a_row"], 0);
}

#[test]
fn who_waits_for_a_100_that_never_comes_is_not_waited_for() {
    let hung = Hung::new();
    let world = World::start(&format!(
        r#"
        [[listener]]
        address = "$LISTEN"
        header_timeout = "500ms"
        {}"#,
        one(&hung.address(), "timeout.read = \"0s\"")
    ));
    let mut connection = world.connect();
    connection.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").unwrap();
    connection.answer(false).unwrap().is_problem(408, "body_too_slow");
    comes_back(&world, &hung.address());
}

#[test]
fn any_line_of_connection_closes_it() {
    let origin = Origin::start("a");
    let world = World::start(&one(&origin.address(), ""));
    let mut connection = world.connect();
    let asked = get("/").header("connection", "keep-alive").header("connection", "close");
    assert_eq!(connection.ask(&asked).unwrap().header("connection"), Some("close"));
    connection.closed_after();
}

#[test]
fn the_last_resort_is_not_for_those_who_wait_within_their_limits() {
    // A listener and an upstream with short limits, and a server that uses nearly all of each.
    let hung = Hung::new();
    let world = World::start(&format!(
        r#"
        [[listener]]
        address = "$LISTEN"
        header_timeout = "200ms"
        idle_timeout = "200ms"
        {}"#,
        one(&hung.address(), "timeout = { connect = \"100ms\", read = \"900ms\", write = \"100ms\" }")
    ));
    let mut connection = world.connect();
    connection.send(&get("/").bytes()).unwrap();
    let mut server = hung.accept();
    assert!(server.read(&mut [0; 4096]).unwrap() > 0);
    std::io::Write::write_all(&mut server, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n").unwrap();
    for part in [b"a", b"b", b"c"] {
        std::thread::sleep(Duration::from_millis(700));
        std::io::Write::write_all(&mut server, part).unwrap();
    }
    assert_eq!(connection.answer(false).unwrap().text(), "abc");
    assert!(stays(Duration::from_millis(100), || world.metric("tollgate_stuck_requests_total", &[]) == 0.0));
    let _ = server.shutdown(Shutdown::Both);
}
