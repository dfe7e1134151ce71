//! forward: attempts that fail, what is tried again and where, and what the client is told when nothing helped.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::origin::End;
use crate::support::*;

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;
/// No server is taken out, so that the tries alone decide.
const NO_OUTLIER: &str = r"
[upstream.app.outlier]
consecutive_failures = 0
";

fn config(servers: &[String], keys: &str) -> String {
    let servers: Vec<String> = servers.iter().map(|address| format!("{address:?}")).collect();
    format!(
        r"
    [upstream.app]
    servers = [{}]
    {NO_OUTLIER}{keys}{ROUTE}",
        servers.join(", ")
    )
}

fn retries(world: &World, reason: &str) -> f64 {
    world.metric("tollgate_retries_total", &["upstream=\"app\"", &format!("reason={reason:?}")])
}

#[test]
fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let (dead, alive) = (Dead::new(), Origin::start("alive"));
    let world = World::start(&config(&[dead.address(), alive.address()], ""));
    for n in 1..=4 {
        assert_eq!(world.ask(get("/")).server(), "alive");
        assert_eq!(world.ask(post("/", "a body")).server(), "alive", "nothing was sent, so it may be sent again");
        assert_eq!(alive.last().body, b"a body");
        assert_eq!(alive.hits(), 2 * n);
    }
    assert!(retries(&world, "connect") >= 4.0);
    let outcomes = ["server=\"", &dead.address(), "outcome=\"connect\""];
    assert_eq!(world.metric("tollgate_upstream_requests_total", &outcomes), retries(&world, "connect"));
}

#[test]
fn a_broken_attempt_goes_to_another_server_each_time() {
    let (a, b, c) = (Origin::start("a"), Origin::start("b"), Origin::start("c"));
    a.does(Act::reset());
    b.does(Act::Raw(vec![], End::Close));
    let servers = [a.address(), b.address(), c.address()];
    let world = World::start(&config(
        &servers,
        r"
    [upstream.app.retry]
    attempts = 3
    ",
    ));
    for n in 1..=6 {
        assert_eq!(world.ask(get(&format!("/{n}"))).server(), "c");
        assert!(a.hits() <= n && b.hits() <= n, "a server was tried twice by one request");
    }
    assert!(retries(&world, "reset") >= 6.0);
    let attempts: u64 = (1..=6).map(|n| world.log_line(&format!("/{n}"))["attempts"].as_u64().unwrap()).sum();
    assert_eq!(attempts as usize, a.hits() + b.hits() + c.hits());
}

#[test]
fn a_post_that_may_have_been_seen_is_not_sent_twice() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    a.does(Act::reset());
    b.does(Act::reset());
    let world = World::start(&config(&[a.address(), b.address()], ""));
    for n in 1..=4 {
        world.ask(post("/", "pay")).is_problem(502, "bad_gateway");
        assert_eq!(a.hits() + b.hits(), n);
    }
    world.ask(get("/")).is_problem(502, "bad_gateway");
    assert_eq!(a.hits() + b.hits(), 6, "a GET is tried twice");
}

#[test]
fn what_is_not_listed_is_not_retried() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    a.does(Act::reset());
    b.does(Act::reset());
    let world = World::start(&config(
        &[a.address(), b.address()],
        r#"
    [upstream.app.retry]
    on = ["connect"]
    "#,
    ));
    world.ask(get("/")).is_problem(502, "bad_gateway");
    assert_eq!(a.hits() + b.hits(), 1);
}

#[test]
fn a_listed_status_is_retried_and_the_last_one_is_told() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    a.does(Act::status(503));
    let retry = r"
    [upstream.app.retry]
    attempts = 2
    on = [503]
    ";
    let world = World::start(&config(&[a.address(), b.address()], retry));
    for _ in 0..4 {
        assert_eq!(world.ask(get("/")).server(), "b");
    }
    assert_eq!(retries(&world, "status"), a.hits() as f64);
    b.does(Act::status(503));
    let answer = world.ask(get("/"));
    assert_eq!((answer.status, answer.text().len()), (503, 1), "the server's own answer, as it is");
    b.does(Act::status(500));
    a.does(Act::status(500));
    let before = a.hits() + b.hits();
    assert_eq!(world.ask(get("/")).status, 500);
    assert_eq!(a.hits() + b.hits(), before + 1, "500 is not listed");
    assert_eq!(world.ask(post("/", "x")).status, 500);
}

#[test]
fn a_first_byte_that_is_late_is_given_up_for_another_server() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    a.does(Act::hang());
    let world = World::start(&config(
        &[a.address(), b.address()],
        r#"
    [upstream.app.timeout]
    first_byte = "200ms"
    "#,
    ));
    for _ in 0..3 {
        assert_eq!(world.ask(get("/")).server(), "b");
    }
    assert!(retries(&world, "timeout") >= 1.0);
    b.does(Act::hang());
    let begun = Instant::now();
    world.ask(get("/late")).is_problem(504, "gateway_timeout");
    assert!(begun.elapsed() >= Duration::from_millis(400), "both were waited for");
    assert_eq!(world.log_line("/late")["error"], "upstream_timeout");
    assert_eq!(world.log_line("/late")["attempts"], 2);
}

#[test]
fn a_head_in_time_may_be_followed_by_a_slow_body() {
    let origin = Origin::start("a");
    let gate = Gate::new();
    origin.script({
        let gate = gate.clone();
        move |seen| match seen.path.as_str() {
            "/slow" => Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na".to_vec(), End::Hang),
            _ => Act::when(&gate, Act::ok()),
        }
    });
    let timeout = r#"
        [upstream.app.timeout]
        first_byte = "100ms"
        read = "700ms"
        [upstream.app.retry]
        attempts = 1
        "#;
    let world = World::start(&config(&[origin.address()], timeout));
    let begun = Instant::now();
    assert!(world.try_ask(&get("/slow")).is_err(), "half a body is no answer");
    assert!(begun.elapsed() >= Duration::from_millis(600), "first_byte cut a body: {:?}", begun.elapsed());
    world.metric_reaches("tollgate_upstream_requests_total", &["outcome=\"timeout\""], 1.0);
    world.ask(get("/late")).is_problem(504, "gateway_timeout");
    gate.open();
}

#[test]
fn a_body_without_a_length_that_falls_silent_is_not_taken_for_whole() {
    let origin = Origin::start("a");
    origin.does(Act::Raw(b"HTTP/1.1 200 OK\r\n\r\nhalf".to_vec(), End::Hang));
    let world = World::start(&config(
        &[origin.address()],
        r#"
    [upstream.app.timeout]
    read = "200ms"
    "#,
    ));
    assert!(world.try_ask(&get("/")).is_err(), "half a body is no answer");
    world.metric_reaches("tollgate_upstream_requests_total", &["outcome=\"timeout\""], 1.0);
}

#[test]
fn a_client_that_sends_slowly_is_not_its_servers_silence() {
    let origin = Origin::start("a");
    let world = World::start(&config(
        &[origin.address()],
        r#"
        [upstream.app.timeout]
        read = "200ms"
        first_byte = "200ms"
        [upstream.app.retry]
        attempts = 1
        "#,
    ));
    let mut client = world.connect();
    let request = post("/", "first second").bytes();
    let (first, second) = request.split_at(request.len() - 6);
    for _ in 0..2 {
        client.send(first).unwrap();
        thread::sleep(Duration::from_millis(600));
        client.send(second).unwrap();
        assert_eq!(client.answer(false).unwrap().status, 200);
        assert_eq!(origin.last().body, b"first second");
    }
    let chunk = post("/", "3\r\nabc\r\n0\r\n\r\n").header("transfer-encoding", "chunked").bytes();
    let (first, second) = chunk.split_at(chunk.len() - 5);
    client.send(first).unwrap();
    thread::sleep(Duration::from_millis(600));
    origin.does(Act::hang());
    let sent = Instant::now();
    client.send(second).unwrap();
    client.answer(false).unwrap().is_problem(504, "gateway_timeout");
    assert!(sent.elapsed() >= Duration::from_millis(150), "the silence counts from the request's end");
}

#[test]
fn a_client_that_reads_slowly_is_not_its_servers_silence() {
    const BODY: usize = 32 << 20;
    let origin = Origin::start("a");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n").into_bytes();
    origin.does(Act::Raw([head, vec![b'x'; BODY]].concat(), End::Close));
    let world = World::start(&config(
        &[origin.address()],
        r#"
    [upstream.app.timeout]
    read = "200ms"
    "#,
    ));
    let mut client = world.connect();
    client.send(&get("/").bytes()).unwrap();
    // Longer than the limit, with more to come than all buffers on the way can hold.
    thread::sleep(Duration::from_millis(700));
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, BODY));
    // And with less: the gateway has the whole answer already, and nothing more will come from the server.
    for size in [2_000_000, 2_900_000, 3_000_000, 3_300_000, 4_000_000, 6_000_000] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes();
        origin.does(Act::Raw([head, vec![b'x'; size]].concat(), End::Keep));
        client.send(&get("/").bytes()).unwrap();
        thread::sleep(Duration::from_millis(500));
        assert_eq!(client.answer(false).unwrap().body.len(), size);
    }
}

#[test]
fn total_alone_is_in_time() {
    let origin = Origin::start("a");
    origin.does(Act::hang());
    let world = World::start(&config(
        &[origin.address()],
        r#"
    [upstream.app.timeout]
    total = "100ms"
    "#,
    ));
    for _ in 0..3 {
        let begun = Instant::now();
        world.ask(get("/")).is_problem(504, "gateway_timeout");
        assert!(begun.elapsed() < Duration::from_millis(350), "{:?}", begun.elapsed());
    }
}

#[test]
fn total_bounds_all_attempts_together() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    a.does(Act::hang());
    b.does(Act::hang());
    let keys = r#"
        [upstream.app.timeout]
        first_byte = "300ms"
        total = "500ms"
        [upstream.app.retry]
        attempts = 100
        "#;
    let world = World::start(&config(&[a.address(), b.address()], keys));
    let begun = Instant::now();
    world.ask(get("/")).is_problem(504, "gateway_timeout");
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    assert_eq!(a.hits() + b.hits(), 2, "no time was left for a third try");
}

#[test]
fn total_cuts_a_body_but_not_an_upgraded_connection() {
    let origin = Origin::start("a");
    origin.script(|seen| match seen.path.as_str() {
        "/body" => Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na".to_vec(), End::Hang),
        "/socket" => Act::Echo,
        _ => Act::ok(),
    });
    let world = World::start(&config(
        &[origin.address()],
        r#"
    [upstream.app.timeout]
    total = "300ms"
    "#,
    ));
    let mut socket = world.connect();
    let upgrade = get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    let answer = socket.ask(&upgrade).unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    let begun = Instant::now();
    assert!(world.try_ask(&get("/body")).is_err());
    assert!(begun.elapsed() >= Duration::from_millis(250));
    // The other connection's total is over for sure; this one's would be too.
    for n in 0..3 {
        let text = format!("frame {n}");
        socket.send(text.as_bytes()).unwrap();
        assert_eq!(socket.exactly(text.len()).unwrap(), text.as_bytes());
    }
    assert_eq!(world.ask(get("/")).status, 200);
}

#[test]
fn the_budget_ends_a_storm_of_retries() {
    let dead = [Dead::new(), Dead::new()];
    let keys = r"
    [upstream.app.retry]
    attempts = 2
    budget_percent = 20
    ";
    let world = World::start(&config(&dead.each_ref().map(Dead::address), keys));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = world.connect();
                for _ in 0..150 {
                    let answer = connection.ask(&get("/")).or_else(|_| {
                        connection = world.connect();
                        connection.ask(&get("/"))
                    });
                    assert_eq!(answer.unwrap().status, 502);
                    connection = world.connect();
                }
            });
        }
    });
    let (requests, retried) = (600.0, retries(&world, "connect"));
    // Ten a second are always free: 100 in the window of ten seconds, and what a slow machine gets beyond it.
    assert!((100.0..=300.0).contains(&retried), "{retried} retries of {requests} requests");
}

#[test]
fn a_dead_pooled_connection_costs_nothing() {
    let origin = Origin::start("a");
    let world = World::start(&config(
        &[origin.address()],
        r"
    [upstream.app.retry]
    attempts = 1
    ",
    ));
    let mut connection = world.connect();
    for _ in 0..5 {
        assert_eq!(connection.ask(&get("/")).unwrap().status, 200);
        origin.hang_up();
        assert_eq!(connection.ask(&get("/")).unwrap().status, 200, "the connection died while it was pooled");
    }
    // Closed while the request was on its way: the server read it and said nothing.
    let silent = std::sync::atomic::AtomicUsize::new(0);
    origin.script(move |seen| {
        let first_on_connection = silent.swap(seen.connection, std::sync::atomic::Ordering::SeqCst) != seen.connection;
        if first_on_connection { Act::ok() } else { Act::Raw(vec![], End::Close) }
    });
    for _ in 0..5 {
        assert_eq!(connection.ask(&get("/")).unwrap().status, 200);
    }
    assert!(retries(&world, "pooled") >= 4.0);
    assert_eq!(world.metric("tollgate_requests_total", &["status_class=\"5xx\""]), 0.0);
}

#[test]
fn statuses_tell_what_happened() {
    let dead = Dead::new();
    let junk = Origin::start("junk");
    junk.does(Act::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), End::Close));
    let world = World::start(&format!(
        r#"
        [upstream.dead]
        servers = ["{}"]
        [upstream.junk]
        servers = ["{}"]
        [route.dead]
        paths = ["/dead"]
        upstream = "dead"
        [route.junk]
        paths = ["/junk"]
        upstream = "junk"
        "#,
        dead.address(),
        junk.address()
    ));
    world.ask(get("/dead")).is_problem(502, "bad_gateway");
    assert_eq!(world.log_line("/dead")["error"], "upstream_connect");
    assert_eq!(world.log_line("/dead")["server"], dead.address());
    world.ask(get("/junk")).is_problem(502, "bad_gateway");
    assert_eq!(world.log_line("/junk")["error"], "upstream_reset");
    world.metric_reaches("tollgate_rejected_total", &["reason=\"bad_gateway\""], 2.0);
}

#[test]
fn a_connect_that_hangs_is_a_timeout() {
    let gone = Gone::start();
    let keys = r#"
    [upstream.app.timeout]
    connect = "200ms"
    [upstream.app.retry]
    attempts = 1
    "#;
    let world = World::start(&config(&[gone.address()], keys));
    world.ask(get("/x")).is_problem(504, "gateway_timeout");
    assert_eq!(world.log_line("/x")["error"], "upstream_connect_timeout");
}

#[test]
fn a_client_that_leaves_blames_no_server() {
    let origin = Origin::start("a");
    let gate = Gate::new();
    origin.does(Act::when(&gate, Act::ok()));
    let world = World::start(&config(&[origin.address()], ""));
    let mut client = world.connect();
    client.send(&get("/left").bytes()).unwrap();
    eventually("the request arrives", || (origin.hits() == 1).then_some(()));
    drop(client);
    let line = world.log_line("/left");
    assert_eq!((&line["status"], &line["error"]), (&499.into(), &"client_left".into()));
    gate.open();
    world.metric_reaches("tollgate_upstream_requests_total", &["outcome=\"canceled\""], 1.0);
    assert_eq!(world.server(&origin.address())["failures_in_a_row"], 0);
}
