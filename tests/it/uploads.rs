//! Bodies that come slowly: their senders wait on their own time, and on nobody else's.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::frames::*;
use crate::support::*;

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;

/// A gateway before an origin that sends bodies back.
fn echoing(more: &str) -> (Origin, World) {
    let origin = Origin::start("a");
    origin.script(|seen| Act::body(&String::from_utf8_lossy(&seen.body)));
    let listener = r#"
    [[listener]]
    address = "$LISTEN"
    h2c = true
    "#;
    let world = World::start(&format!("{listener}{}{more}{ROUTE}", fleet("app", &[&origin])));
    (origin, world)
}

/// So many clients that send a head and one byte of what it announces.
fn dripping(world: &World, clients: usize, framing: &str) -> Vec<Connection> {
    let begin = |_| {
        let mut connection = world.connect();
        connection.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{framing}").as_bytes()).unwrap();
        connection
    };
    (0..clients).map(begin).collect()
}

const LONG: &str = "content-length: 100000\r\n\r\nx";
const SHORT: &str = "content-length: 1000\r\n\r\nx";
const UNKNOWN: &str = "transfer-encoding: chunked\r\n\r\n1\r\nx\r\n";

fn held(world: &World) -> f64 {
    world.metric("tollgate_memory_bytes", &["kind=\"bodies\""])
}

#[test]
fn slow_uploads_hold_no_place_under_an_adaptive_limit() {
    let (origin, world) = echoing("adaptive = true\n");
    let in_flight = || world.admin(get("/api/v1/upstreams")).json()[0]["adaptive_in_flight"].as_u64();
    let mut long = dripping(&world, 260, LONG);
    eventually("they go to their server as they come", || (origin.connections() >= 260).then_some(()));
    let mut short = dripping(&world, 260, SHORT);
    let all = 260.0 * f64::from((64 << 10) + 1_000);
    eventually("all of them are held", || (held(&world) >= all).then_some(()));
    assert_eq!((world.ask(get("/")).status, in_flight()), (200, Some(0)));
    for (connections, length) in [(&mut long, 100_000), (&mut short, 1_000)] {
        let mut connection = connections.pop().unwrap();
        connection.send(&vec![b'x'; length - 1]).unwrap();
        let answer = connection.answer(false).unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, length));
    }
    drop((long, short));
    world.metric_reaches("tollgate_memory_bytes", &["kind=\"bodies\""], 0.0);
    assert_eq!(in_flight(), Some(0));
}

#[test]
fn slow_uploads_hold_no_more_than_three_quarters_of_a_server() {
    let (origin, world) = echoing("max_requests_per_server = 4\n");
    let in_flight = || world.server(&origin.address())["in_flight"].as_u64();
    let short = dripping(&world, 20, SHORT);
    eventually("all of them are held", || (held(&world) >= 20_000.0).then_some(()));
    assert_eq!(in_flight(), Some(0), "what is short is read before it takes a place");
    let mut unknown = dripping(&world, 3, UNKNOWN);
    eventually("uploads that go on", || (in_flight() == Some(3)).then_some(()));
    for mut refused in dripping(&world, 5, LONG) {
        let answer = refused.answer(false).unwrap();
        answer.is_problem(503, "saturated");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(world.ask(get("/")).status, 200);
    assert_eq!(world.ask(post("/", "whole")).text(), "whole");
    for connection in &mut unknown {
        connection.send(b"1\r\ny\r\n0\r\n\r\n").unwrap();
        assert_eq!(connection.answer(false).unwrap().text(), "xy");
    }
    drop(short);
    eventually("every place was given back", || (in_flight() == Some(0)).then_some(()));
}

#[test]
fn bodies_come_whole_however_they_come() {
    let (origin, world) = echoing(
        r"
    adaptive = true
    max_requests_per_server = 50
    ",
    );
    let mut connection = world.connect();
    for length in [1, 1_000, 64 << 10, (64 << 10) + 1, 300_000] {
        let body = vec![b'z'; length];
        for request in [post("/", body.clone()), post("/", body.clone()).header("content-type", "application/grpc")] {
            let bytes = request.bytes();
            let (first, rest) = bytes.split_at(bytes.len() - length.div_ceil(2));
            connection.send(first).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
            connection.send(rest).unwrap();
            assert!(connection.answer(false).unwrap().body == body, "{length}");
        }
        let chunked = [format!("{length:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        let answer = connection.ask(&post("/", chunked).header("transfer-encoding", "chunked")).unwrap();
        assert!(answer.body == body, "{length} in chunks");
        std::fs::write(world.path("body"), &body).unwrap();
        for more in ["content-type: text/plain", "expect: 100-continue", "content-length:"] {
            let output = Command::new("curl")
                .args(["--silent", "--show-error", "--http2-prior-knowledge", "--header", more])
                .args(["--data-binary", "@body", &format!("http://127.0.0.1:{}/", world.port)])
                .current_dir(world.path(""))
                .output()
                .unwrap();
            assert!(output.stdout == body, "{length}, {more}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    // A client that waits for the server's word is not kept waiting here.
    let waits = "expect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let mut waiting = dripping(&world, 1, waits).remove(0);
    eventually("it is the server's to say", || (world.server(&origin.address())["in_flight"] == 1).then_some(()));
    waiting.send(b"ok").unwrap();
    assert_eq!(waiting.answer(false).unwrap().text(), "ok");
}

#[test]
fn what_was_read_ahead_is_sent_again() {
    let (bad, good) = (Origin::start("bad"), Origin::start("good"));
    bad.does(Act::reset());
    good.script(|seen| Act::body(&String::from_utf8_lossy(&seen.body)));
    let world = World::start(&format!("{}max_requests_per_server = 5\n{ROUTE}", fleet("app", &[&bad, &good])));
    for n in 0..4 {
        let body = format!("{n}").repeat(40_000);
        assert!(world.ask(post("/", body.clone()).method("PUT")).text() == body);
    }
    assert!(bad.hits() > 0, "nothing was tried twice");
}

#[test]
fn who_leaves_or_sends_too_slowly_is_let_go() {
    let (origin, world) = echoing("max_requests_per_server = 1\n");
    let mut half = dripping(&world, 1, SHORT).remove(0);
    half.finish();
    assert!(half.answer(false).is_err(), "half a body gets no answer of a server");
    drop(half);
    world.metric_reaches("tollgate_memory_bytes", &["kind=\"bodies\""], 0.0);
    assert_eq!(origin.hits(), 0);
    assert_eq!(world.ask(get("/")).status, 200);
}

#[test]
fn without_room_uploads_are_refused_and_nothing_else() {
    let origin = Origin::start("a");
    origin.script(|seen| Act::body(&String::from_utf8_lossy(&seen.body)));
    let server = r#"
    [server]
    memory_max = "16MiB"
    "#;
    let world = World::start(&format!("{server}{}{ROUTE}", fleet("app", &[&origin])));
    let refused = || world.metric("tollgate_rejected_total", &["reason=\"overloaded\""]);
    // What is carried has three quarters, and each upload takes 64 KiB.
    let max = 12.0 * 1_048_576.0;
    let places = 12 << 4;
    let mut uploads = dripping(&world, 300, LONG);
    eventually("the rest is refused", || (refused() as usize + places >= 300).then_some(()));
    assert!(held(&world) <= max, "{} held", held(&world));
    let answer = dripping(&world, 1, LONG)[0].answer(false).unwrap();
    answer.is_problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(world.ask(get("/")).status, 200, "it holds nothing");
    // Who was taken is served, who was refused knows it.
    let rest = vec![b'x'; 99_999];
    let served = uploads.iter_mut().filter_map(|upload| {
        let _ = upload.send(&rest); // a refused one may be closed by now
        let answer = upload.answer(false).ok()?;
        (answer.status == 200).then(|| assert_eq!(answer.body.len(), 100_000))
    });
    let served = served.count();
    assert!((1..=places).contains(&served), "{served} of {places}");
    assert_eq!(served + refused() as usize, 301, "every upload had an answer");
    drop(uploads);
    world.metric_reaches("tollgate_memory_bytes", &["kind=\"bodies\""], 0.0);
    assert_eq!(world.ask(post("/", rest)).status, 200);
    for kind in ["requests", "encoders", "header_lists"] {
        world.metric_reaches("tollgate_memory_bytes", &[&format!("kind=\"{kind}\"")], 0.0);
    }
}

/// A server of HTTP/1.1 that takes so much of a body, nothing for a while, then the rest, and says how much that was.
fn pauses(after: usize, pause: Duration) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.try_clone().unwrap();
    let one = move |mut stream: TcpStream| {
        let (mut part, mut head, mut read) = (vec![0; 64 << 10], vec![], 0);
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        while read < length {
            let before = read;
            read += stream.read(&mut part)?;
            if before <= after && read > after {
                std::thread::sleep(pause);
            }
        }
        let text = format!("{read}");
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
    };
    std::thread::spawn(move || {
        for stream in server.incoming().map_while(Result::ok) {
            std::thread::spawn(move || one(stream));
        }
    });
    listener
}

fn post_head(path: &str, length: usize) -> Vec<u8> {
    let length = length.to_string();
    let head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path)];
    block(&[&head[..], &[("content-length", &length)]].concat())
}

/// A body of 30 MB, sent by curl.
fn curl(world: &World, protocol: &str) -> String {
    // A file for each of those who send at once.
    let file = format!("long{protocol}");
    std::fs::write(world.path(&file), vec![b'x'; 30_000_000]).unwrap();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", protocol, "--header", "expect:", "--data-binary"])
        .arg(format!("@{file}"))
        .arg(format!("http://127.0.0.1:{}/", world.port))
        .current_dir(world.path(""))
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_server_that_takes_nothing_for_a_while_is_not_its_clients_fault() {
    let server = pauses(6_000_000, Duration::from_secs(13));
    let listener = r#"
    [[listener]]
    address = "$LISTEN"
    h2c = true
    "#;
    let world = World::start(&format!(
        r#"
        {listener}[upstream.app]
        servers = ["{}"]
        timeout = {{ write = "60s", read = "60s" }}
        {ROUTE}"#,
        server.local_addr().unwrap()
    ));
    std::thread::scope(|scope| {
        let world = &world;
        for protocol in ["--http2-prior-knowledge", "--http1.1"] {
            scope.spawn(move || assert_eq!(curl(world, protocol), "30000000", "{protocol}"));
        }
    });
}

#[test]
fn an_http2_body_is_timed_while_its_client_may_send() {
    let (server, gone) = (TcpListener::bind("127.0.0.1:0").unwrap(), Gone::start());
    let listener = r#"
    [[listener]]
    address = "$LISTEN"
    h2c = true
    body_min_rate = "500B"
    "#;
    let world = World::start(&format!(
        r#"
        {listener}[upstream.app]
        servers = ["{}"]
        {ROUTE}[upstream.gone]
        servers = ["{}"]
        timeout = {{ connect = "60s" }}
        [route.gone]
        paths = ["/gone"]
        upstream = "gone"
        "#,
        server.local_addr().unwrap(),
        gone.address()
    ));
    // Nothing of the first body is taken before its server answers. It fills the window of the connection, so the client
    // may send nothing of the second.
    let mut full = Frames::connect(world.port, 65_535);
    full.send(&frame(HEADERS, END_HEADERS, 1, &post_head("/gone", 100_000))).unwrap();
    for part in [b'x'; 65_535].chunks(16_000) {
        full.send(&frame(DATA, 0, 1, part)).unwrap();
    }
    full.send(&frame(HEADERS, END_HEADERS, 3, &post_head("/behind", 1_000))).unwrap();
    let mut slow = Frames::connect(world.port, 65_535);
    slow.send(&frame(HEADERS, END_HEADERS, 1, &post_head("/slow?x", 100_000))).unwrap();
    slow.send(&frame(DATA, 0, 1, &[b'x'; 1_000])).unwrap();
    // A frame that comes slower than it is long.
    let mut steady = Frames::connect(world.port, 65_535);
    steady.send(&frame(HEADERS, END_HEADERS, 1, &post_head("/steady", 100_000))).unwrap();
    let long = frame(DATA, 0, 1, &[b'x'; 16_000]);
    let mut parts = long.chunks(800);
    let reset = loop {
        steady.send(parts.next().expect("the slow one is ended within 20 s")).unwrap();
        let reset = slow.within(Duration::from_secs(1)).into_iter().find(|frame| frame.kind == RST_STREAM);
        if let Some(reset) = reset {
            break reset;
        }
    };
    assert_eq!(reset.stream, 1);
    let line = world.log_line("/slow");
    assert_eq!((&line["status"], &line["error"]), (&408.into(), &"body_too_slow".into()), "{line}");
    assert_eq!(
        (&line["method"], &line["host"], &line["route"]),
        (&"POST".into(), &"a".into(), &"all".into()),
        "{line}"
    );
    let is_reset = |came: Vec<Frame>| came.iter().any(|frame| frame.kind == RST_STREAM);
    for part in parts.take(3) {
        steady.send(part).unwrap();
        assert!(!is_reset(steady.within(Duration::from_secs(1))), "it came at 800 bytes a second");
    }
    assert!(!is_reset(full.within(Duration::from_millis(100))), "its client was kept from sending");
}
