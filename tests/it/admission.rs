//! listen and admit: what never becomes a request, and what clients that take their time get.
//!
//! What the parser says of each rule is tested beside it; here it is held against the running gateway: the answer, the
//! closed connection, the log, the counters, and that nothing of it reaches a server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::world::free_port;
use crate::support::*;

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;

fn listener(lines: &str) -> String {
    format!(
        r#"
    [[listener]]
    address = "$LISTEN"
    {lines}
    "#
    )
}

/// What is broken, the bytes, and the status and word that it gets.
fn broken() -> Vec<(&'static str, String, u16, &'static str)> {
    let host = "Host: a.example\r\n";
    vec![
        ("no host", "GET /x HTTP/1.1\r\n\r\n".into(), 400, "host_missing"),
        ("two hosts", format!("GET /x HTTP/1.1\r\n{host}Host: b\r\n\r\n"), 400, "host_twice"),
        ("bad host", "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400, "host_invalid"),
        ("other authority", format!("GET http://b/x HTTP/1.1\r\n{host}\r\n"), 400, "host_mismatch"),
        (
            "two framings",
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
            "content_length_and_transfer_encoding",
        ),
        (
            "two lengths",
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
            400,
            "content_length_twice",
        ),
        ("signed", format!("POST /x HTTP/1.1\r\n{host}Content-Length: +3\r\n\r\nabc"), 400, "content_length_invalid"),
        ("listed", format!("POST /x HTTP/1.1\r\n{host}Content-Length: 3, 3\r\n\r\nabc"), 400, "content_length_invalid"),
        (
            "overlong",
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: {}3\r\n\r\nabc", "0".repeat(30)),
            400,
            "content_length_invalid",
        ),
        ("obs-fold", format!("GET /x HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"), 400, "obs_fold"),
        ("bare LF", format!("GET /x HTTP/1.1\r\n{host}A: b\nC: d\r\n\r\n"), 400, "bare_lf"),
        ("bare CR", format!("GET /x HTTP/1.1\r\n{host}A: b\rC: d\r\n\r\n"), 400, "bare_cr"),
        ("NUL", format!("GET /x HTTP/1.1\r\n{host}A: b\0\r\n\r\n"), 400, "control_byte"),
        ("blank before colon", format!("GET /x HTTP/1.1\r\n{host}A : b\r\n\r\n"), 400, "header_name"),
        ("illegal name", format!("GET /x HTTP/1.1\r\n{host}A[: b\r\n\r\n"), 400, "header_name"),
        ("illegal target", format!("GET /x\"y HTTP/1.1\r\n{host}\r\n"), 400, "target_byte"),
        ("not ASCII", format!("GET /\u{e9} HTTP/1.1\r\n{host}\r\n"), 400, "target_byte"),
        (
            "TE obfuscated",
            format!("POST /x HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n"),
            400,
            "transfer_encoding_invalid",
        ),
        (
            "TE in 1.0",
            format!("POST /x HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
            "transfer_encoding_version",
        ),
        ("dots by %2F", format!("GET /public/..%2Fadmin HTTP/1.1\r\n{host}\r\n"), 400, "path"),
        ("dots by %5C", format!("GET /public/%2E%2e%5cadmin HTTP/1.1\r\n{host}\r\n"), 400, "path"),
        ("dots by ;", format!("GET /public/..;x/admin HTTP/1.1\r\n{host}\r\n"), 400, "path"),
        ("%00", format!("GET /public/x%00.png HTTP/1.1\r\n{host}\r\n"), 400, "path"),
        ("long method", format!("{} /x HTTP/1.1\r\n{host}\r\n", "A".repeat(33)), 400, "method"),
        ("endless method", "A".repeat(8 << 10), 400, "method"),
        ("expectation", format!("GET /x HTTP/1.1\r\n{host}Expect: foo\r\n\r\n"), 417, "expect"),
        (
            "expectation with a desync in mind",
            format!("POST /x HTTP/1.1\r\n{host}Content-Length: 3\r\nExpect: y 100-continue\r\n\r\nabc"),
            417,
            "expect",
        ),
        ("nominated", format!("GET /x HTTP/1.1\r\n{host}Connection: cookie\r\n\r\n"), 400, "connection_nominates"),
        ("spelt otherwise", format!("GET /x HTTP/1.1\r\n{host}X_Real_IP: 1.2.3.4\r\n\r\n"), 400, "lookalike_name"),
        ("CONNECT", format!("CONNECT a.example:443 HTTP/1.1\r\n{host}\r\n"), 405, "connect"),
        ("version", format!("GET /x HTTP/3.0\r\n{host}\r\n"), 505, "version"),
        ("long target", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(17 << 10)), 414, "target_too_long"),
        ("many headers", format!("GET /x HTTP/1.1\r\n{host}{}\r\n", "a: b\r\n".repeat(100)), 431, "too_many_headers"),
        ("large head", format!("GET /x HTTP/1.1\r\n{host}a: {}\r\n\r\n", "x".repeat(65 << 10)), 431, "head_too_large"),
    ]
}

#[test]
fn what_two_servers_could_read_differently_is_refused_logged_and_counted() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    let cases = broken();
    origin.forget();
    for (what, bytes, status, word) in &cases {
        let mut connection = world.connect();
        // What follows must never be taken for a request.
        let _ = connection.send(&[bytes.as_bytes(), b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        let answer = connection.answer(false).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(answer.status, *status, "{what}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
        connection.closed_after();
        eventually(what, || {
            world.log_lines().into_iter().find(|line| line["error"] == *word && line["status"] == *status)
        });
    }
    assert_eq!(origin.hits(), 0, "nothing may reach a server");
    assert_eq!(world.log_lines().len(), cases.len());
    let reasons = ["bad_request", "method_not_allowed", "version_not_supported", "uri_too_long", "head_too_large"];
    let refused: f64 = reasons
        .iter()
        .chain(&["expectation_failed"])
        .map(|reason| world.metric("tollgate_rejected_total", &[&format!("reason=\"{reason}\"")]))
        .sum();
    assert_eq!(refused, cases.len() as f64);
    let line = world.log_lines().into_iter().find(|line| line["error"] == "obs_fold").expect("a line");
    assert_eq!(
        (line["method"].as_str(), line["path"].as_str(), line["client"].as_str()),
        (Some("GET"), Some("/x"), Some("127.0.0.1"))
    );
    assert_eq!(line["host"], "a.example");
}

#[test]
fn a_body_that_breaks_its_frame_ends_the_request_and_the_connection() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "3\r\nabcX\r\n0\r\n\r\n",
        "3;\r\nabc\r\n0\r\n\r\n",
        "3;a=\"b\r\nabc\r\n0\r\n\r\n",
        "3 ;a\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0000000000000000\r\n\r\n",
    ] {
        for apart in [false, true] {
            let mut connection = world.connect();
            connection.send(head.as_bytes()).expect("sent");
            if apart {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = connection.send(format!("{body}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
            let answer = connection.answer(false).unwrap_or_else(|e| panic!("{body:?}: {e}"));
            answer.is_problem(400, "bad_request");
            connection.closed_after();
        }
    }
    let good = "3\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: y\r\n\r\n";
    let mut connection = world.connect();
    for _ in 0..3 {
        connection.send(format!("{head}{good}").as_bytes()).expect("sent");
        assert_eq!(connection.answer(false).expect("an answer").status, 200);
    }
    assert!(origin.seen().iter().all(|seen| seen.path != "/smuggled"));
    assert!(origin.seen().iter().any(|seen| seen.body == b"abcde"));
}

#[test]
fn extensions_and_padding_are_left_behind() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address");
    let world = World::start(&format!(
        r#"
    [upstream.app]
    servers = ["{address}"]
    {ROUTE}"#
    ));
    let signed = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497";
    let body = format!(
        "0003;chunk-signature={signed}\r\nabc\r\n002;a;b=\"; \\\"c\"\r\nde\r\n000;chunk-signature={signed}\r\nx-t: 1\r\n\r\n"
    );
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = format!("{head}{body}");
    // At once, and cut wherever a parser could stumble.
    for cut in (0..body.len()).step_by(7).map(|at| head.len() + at) {
        let mut connection = world.connect();
        connection.send(&whole.as_bytes()[..cut]).expect("sent");
        std::thread::sleep(Duration::from_millis(5));
        connection.send(&whole.as_bytes()[cut..]).expect("sent");
        let (mut stream, _) = server.accept().expect("a connection");
        let mut seen = vec![];
        while !seen.ends_with(b"0\r\n\r\n") {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).expect("a request");
            assert!(read > 0, "{}", seen.escape_ascii());
            seen.extend_from_slice(&part[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").expect("sent");
        drop(stream);
        assert_eq!(connection.answer(false).expect("an answer").status, 200);
        let text = String::from_utf8_lossy(&seen);
        let (_, sent) = text.split_once("\r\n\r\n").expect("a body");
        assert!(!sent.contains(';') && !sent.contains("signature") && !sent.contains("00"), "{sent:?}");
        let data: String = sent.split("\r\n").skip(1).step_by(2).collect();
        assert_eq!(data, "abcde", "{sent:?}");
    }
}

#[test]
fn what_a_route_protects_is_not_reached_through_another_one() {
    let origin = Origin::start("a");
    let fleet = fleet("app", &[&origin]);
    let world = World::start(&format!(
        r#"
        {fleet}[route.admin]
        paths = ["/admin/*"]
        upstream = "app"
        deny = ["0.0.0.0/0"]
        [route.files]
        paths = ["/public/*"]
        upstream = "app"
        strip_prefix = "/public"
        "#
    ));
    for path in [
        "/public/..%2Fadmin/x",
        "/public/%2e%2e%2fadmin/x",
        "/public/a/..%2f..%2Fadmin/x",
        "/public/..%5Cadmin/x",
        "/public/..;/admin/x",
        "/public/.;a=b/x",
        "/public/%2E%2E%3B/admin/x",
        "/public/a%2F../b%2F..",
        "http://localhost/public/..%2Fadmin/x",
        "/public/x%00",
    ] {
        world.ask(get(path)).is_problem(400, "bad_request");
    }
    assert_eq!(origin.hits(), 0);
    assert_eq!(world.ask(get("/public/../admin/x")).status, 403, "what one reading has is routed by it");
    for (path, served) in [
        ("/public/bucket/a%2Fb", "/bucket/a%2Fb"),
        ("/public/a;v=1/b", "/a;v=1/b"),
        ("/public/a%5Cb", "/a%5Cb"),
        ("/public/a/%2e%2e/b", "/b"),
        ("/public/..%252Fadmin", "/..%252Fadmin"),
        ("/public/.well-known/..x", "/.well-known/..x"),
    ] {
        assert_eq!(world.ask(get(path)).status, 200, "{path}");
        assert_eq!(origin.last().path, served);
    }
}

#[test]
fn options_of_everything_are_the_gateways_to_tell() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    let mut connection = world.connect();
    for _ in 0..3 {
        let answer = connection.ask(&request("OPTIONS", "*")).expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (204, Some("keep-alive")));
        let allow = answer.header("allow").expect("a list");
        assert!(["GET", "POST", "PATCH"].iter().all(|method| allow.split(", ").any(|one| one == *method)), "{allow}");
        assert_eq!((answer.header("content-length"), answer.header("x-request-id").is_some()), (None, true));
    }
    assert_eq!(connection.ask(&get("/")).expect("an answer").status, 200);
    assert_eq!(origin.hits(), 1, "no server is asked");
    assert_eq!(connection.ask(&request("OPTIONS", "/x")).expect("an answer").status, 200, "a path has its server's");
    let line = world.log_line("*");
    assert_eq!((&line["method"], &line["status"]), (&"OPTIONS".into(), &204.into()));
    assert_eq!(world.metric("tollgate_rejected_total", &[]), 0.0);
    let tunnel = world.ask(request("CONNECT", "a:1"));
    assert!(tunnel.status == 405 && tunnel.header("allow").is_some_and(|allow| allow.contains("GET")), "{tunnel:?}");
}

#[test]
fn heads_that_trickle_are_read_and_late_ones_get_408() {
    let world = World::start(
        &(listener("header_timeout = \"1s\"")
            + r#"
    [route.all]
    respond = { body = "ok" }
    "#),
    );
    let mut slow = world.connect();
    for byte in get("/slowly").bytes() {
        slow.send(&[byte]).expect("sent");
    }
    assert_eq!(slow.answer(false).expect("an answer").text(), "ok");
    drop(slow);
    let mut never = world.connect();
    never.send(b"GET /never HTTP/1.1\r\nHost: a\r\n").expect("sent");
    let begun = Instant::now();
    never.answer(false).expect("an answer").is_problem(408, "head_timeout");
    assert!(begun.elapsed() >= Duration::from_millis(800), "{:?}", begun.elapsed());
    never.closed_after();
    // The limit is for the whole head: a byte now and then does not help.
    let mut drip = world.connect();
    let dripped = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(100));
        drip.send(b"a").is_ok()
    });
    assert!(dripped.take(60).any(|sent| !sent), "the connection stays for ever");
    // Who says nothing at all hears nothing.
    world.connect().closed_after();
    world.metric_reaches("tollgate_connections", &[], 0.0);
}

#[test]
fn a_body_must_keep_its_rate() {
    let origin = Origin::start("a");
    let config = listener("body_min_rate = \"1KiB\"") + &fleet("app", &[&origin]) + ROUTE;
    let world = World::start(&config);
    let begun = Instant::now();
    let mut connection = world.connect();
    connection.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc").expect("sent");
    connection.answer(false).expect("an answer").is_problem(408, "body_too_slow");
    let after = begun.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&after), "{after:?}");
    connection.closed_after();
    assert_eq!(world.log_line("/x")["error"], "body_too_slow");
    assert_eq!(
        world.metric("tollgate_upstream_requests_total", &["outcome=\"reset\""]),
        0.0,
        "the server is not blamed"
    );
}

#[test]
fn a_slow_server_is_not_its_clients_fault() {
    let origin = Origin::start("a");
    let gate = Gate::new();
    origin.does(Act::when(&gate, Act::ok()));
    let world = World::start(&(listener("body_min_rate = \"1MiB\"") + &fleet("app", &[&origin]) + ROUTE));
    let mut connection = world.connect();
    connection.send(&post("/x", "all of it").bytes()).expect("sent");
    std::thread::sleep(Duration::from_secs(12));
    gate.open();
    assert_eq!(connection.answer(false).expect("an answer").status, 200);
}

#[test]
fn bounds_follow_a_push_also_on_connections_that_are_there() {
    let config = |lines: &str| {
        listener(lines)
            + r#"
    [route.all]
    respond = { body = "ok" }
    "#
    };
    let world = World::start(&config(""));
    let mut connection = world.connect();
    let long = get(&format!("/{}", "x".repeat(200)));
    assert_eq!(connection.ask(&long).expect("an answer").status, 200);
    world.push(&config("uri_max = \"100B\"\nheaders_max = 3"));
    connection.ask(&long).expect("an answer").is_problem(414, "uri_too_long");
    let many = get("/").header("a", 1).header("b", 2).header("c", 3);
    world.ask(many).is_problem(431, "head_too_large");
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let world = World::start(
        &(listener("max_connections_per_ip = 3")
            + r#"
    [route.all]
    respond = { body = "ok" }
    "#),
    );
    let mut held: Vec<_> = (0..3).map(|_| world.connect()).collect();
    for connection in &mut held {
        assert_eq!(connection.ask(&get("/")).expect("an answer").status, 200);
    }
    world.connect().closed_after();
    assert_eq!(world.ask_from([127, 0, 0, 9], get("/")).status, 200, "another address is not concerned");
    world.metric_reaches("tollgate_rejected_total", &["reason=\"too_many_connections\""], 1.0);
    held.pop();
    eventually("a place is free again", || world.try_ask(&get("/")).ok().filter(|answer| answer.status == 200));
}

#[test]
fn all_listeners_together_have_so_many_connections_and_no_more() {
    let other = free_port();
    let second = format!(
        r#"
    [[listener]]
    address = "127.0.0.1:{other}"
    proxy_protocol = true
    "#
    );
    let rest = r#"
    [trusted]
    proxies = ["127.0.0.1"]
    [route.all]
    respond = { body = "ok" }
    "#;
    let world = World::start(&format!(
        r"
    [server]
    threads = 2
    max_connections = 3
    {}{second}{rest}",
        listener("")
    ));
    let mut held: Vec<_> = (0..2).map(|_| world.connect()).collect();
    for connection in &mut held {
        assert_eq!(connection.ask(&get("/")).expect("an answer").status, 200);
    }
    // It counts from its first moment on, although it never says who it is.
    let silent = Connection::to(other).expect("a connection");
    world.metric_reaches("tollgate_connections", &[&format!("listener=\"127.0.0.1:{other}\"")], 1.0);
    for _ in 0..100 {
        world.connect().closed_after();
    }
    world.metric_reaches("tollgate_rejected_total", &["reason=\"max_connections\""], 100.0);
    drop(silent);
    eventually("a place is free again", || world.try_ask(&get("/")).ok().filter(|answer| answer.status == 200));
    assert_eq!(held[0].ask(&get("/")).expect("an answer").status, 200);
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let origin = Origin::start("a");
    origin.does(Act::body(&"x".repeat(32 << 20)));
    let world = World::start(&(listener("idle_timeout = \"1s\"") + &fleet("app", &[&origin]) + ROUTE));
    let mut connection = world.connect();
    connection.send(&get("/").bytes()).expect("sent");
    world.metric_reaches("tollgate_connections", &[], 1.0);
    world.metric_reaches("tollgate_connections", &[], 0.0);
}

#[test]
fn lengths_and_methods_that_are_fine_stay_fine() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    let mut connection = world.connect();
    for odd in [
        request("GET", "/body-of-a-get").header("content-length", 0),
        request("PROPFIND", "/dav"),
        get("http://localhost/absolute?a={b}|c"),
        get("/obs").header("x-text", "gr\u{fc}n"),
    ] {
        assert_eq!(connection.ask(&odd).expect("an answer").status, 200, "{odd:?}");
    }
    connection.send(b"\r\nGET /after-an-empty-line HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    assert_eq!(connection.answer(false).expect("an answer").status, 200);
}
