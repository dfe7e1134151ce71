//! Compressed answers, decoded by a client that is not ours (`curl`, with the libraries of zlib, brotli and zstd).

use std::process::Command;

use crate::support::client::Answer;
use crate::support::origin::End;
use crate::support::*;

const ROUTES: &str = r#"
[route.all]
upstream = "app"
compress = true
[route.plain]
paths = ["/plain/*"]
upstream = "app"
"#;

/// Codings, and the version of HTTP that the client speaks.
const WAYS: [(&str, &str); 6] = [
    ("gzip", "--http1.1"),
    ("br", "--http1.1"),
    ("zstd", "--http1.1"),
    ("gzip", "--http2-prior-knowledge"),
    ("br", "--http2-prior-knowledge"),
    ("zstd", "--http2-prior-knowledge"),
];

fn world(origin: &Origin) -> World {
    World::start(&format!(
        r#"
    [[listener]]
    address = "$LISTEN"
    h2c = true
    {}{ROUTES}"#,
        fleet("app", &[origin])
    ))
}

/// Text that neither is all the same nor random.
fn text(length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let words = std::iter::repeat_with(|| format!("{{\"id\": {}, \"name\": \"order\"}}\n", random.u32(..)));
    words.take(length / 30).collect()
}

fn html(body: &str) -> Act {
    Act::Answer(200, vec![("content-type".into(), "text/html; charset=utf-8".into())], body.to_owned())
}

/// Body after decoding, with the version of HTTP as an option of `curl`.
fn decoded(world: &World, path: &str, coding: &str, version: &str) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--compressed", version, "--header", &format!("Accept-Encoding: {coding}")])
        .arg(format!("http://127.0.0.1:{}{path}", world.port))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn what_was_sent_is_what_is_decoded() {
    let origin = Origin::start("a");
    let world = world(&origin);
    for length in [600, 70_000, 3_000_000] {
        let body = text(length);
        // With its length, and in parts of a length that nobody knows.
        origin.does(html(&body));
        let whole = body.clone();
        for (coding, version) in WAYS {
            assert!(decoded(&world, "/", coding, version) == whole.as_bytes(), "{coding}, {version}, {length}");
        }
        let mut raw =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for part in body.as_bytes().chunks(5_000) {
            raw.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            raw.extend_from_slice(part);
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"0\r\n\r\n");
        origin.does(Act::Raw(raw, End::Keep));
        for (coding, version) in WAYS {
            assert!(
                decoded(&world, "/", coding, version) == whole.as_bytes(),
                "{coding}, {version}, {length} in parts"
            );
        }
    }
}

#[test]
fn the_head_tells_and_the_body_is_smaller() {
    let origin = Origin::start("a");
    let world = world(&origin);
    let body = text(30_000);
    let tagged = ("etag".into(), "\"v1\"".into());
    origin.does(Act::Answer(200, vec![("content-type".into(), "application/json".into()), tagged], body.clone()));
    let mut connection = world.connect();
    for (accepts, coding) in
        [("gzip", "gzip"), ("gzip, br;q=0.9", "gzip"), ("gzip, br, zstd", "zstd"), ("br, *;q=0", "br")]
    {
        let answer = connection.ask(&get("/").header("accept-encoding", accepts)).unwrap();
        assert_eq!(answer.header("content-encoding"), Some(coding), "{accepts}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.header("etag"), Some("W/\"v1\""));
        assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, Some("chunked")));
        assert!(answer.body.len() * 2 < body.len(), "{}", answer.body.len());
    }
    for request in
        [get("/"), get("/").header("accept-encoding", "gzip;q=0"), get("/plain/x").header("accept-encoding", "br")]
    {
        let answer = connection.ask(&request).unwrap();
        assert_eq!((answer.header("content-encoding"), answer.header("etag")), (None, Some("\"v1\"")));
        assert!(answer.text() == body);
    }
    assert_eq!(connection.ask(&get("/plain/x")).unwrap().header("vary"), None);
}

#[test]
fn what_must_stay_stays() {
    let origin = Origin::start("a");
    let world = world(&origin);
    let long = text(5_000);
    let asks = |name: &str, value: &str, status: u16, body: &str| {
        let kind = ("content-type".to_owned(), "text/plain".to_owned());
        origin.does(Act::Answer(status, vec![kind, (name.to_owned(), value.to_owned())], body.to_owned()));
        world.ask(get("/").header("accept-encoding", "gzip, br, zstd"))
    };
    for (name, value, status, body) in [
        ("x-a", "short", 200, "short"),
        ("cache-control", "no-transform", 200, &*long),
        ("content-range", "bytes 0-4999/9000", 206, &long),
        ("content-digest", "sha-256=:YQ==:", 200, &long),
    ] {
        let answer = asks(name, value, status, body);
        assert_eq!((answer.header("content-encoding"), answer.status), (None, status), "{name}");
        assert!(answer.text() == body, "{name}");
    }
    assert_eq!(asks("content-encoding", "br", 200, &long).text(), long, "it is coded already");
    let mut old = world.connect();
    origin.does(html(&long));
    old.send(b"GET / HTTP/1.0\r\nhost: localhost\r\naccept-encoding: gzip\r\n\r\n").unwrap();
    let answer = old.answer(false).unwrap();
    assert_eq!((answer.header("content-encoding"), answer.text() == long), (None, true));
}

/// A cache that hears of a body by an answer without one must hear the same of it.
#[test]
fn what_has_no_body_tells_of_the_one_that_would_have_come() {
    let origin = Origin::start("a");
    let world = world(&origin);
    let tagged = vec![("content-type".into(), "text/html".into()), ("etag".into(), "\"v1\"".into())];
    origin.does(Act::Answer(200, tagged, text(5_000)));
    let whole = world.ask(get("/").header("accept-encoding", "gzip"));
    let head = request_head(&world);
    for name in ["content-encoding", "etag", "vary", "content-length"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
    origin.does(Act::Raw(b"HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\n\r\n".into(), End::Keep));
    let asks =
        |accepts: &str| world.ask(get("/").header("accept-encoding", accepts).header("if-none-match", "W/\"v1\""));
    let unchanged = asks("gzip");
    assert_eq!((unchanged.status, unchanged.header("content-encoding")), (304, None));
    assert_eq!((unchanged.header("etag"), unchanged.header("vary")), (Some("W/\"v1\""), Some("Accept-Encoding")));
    let unchanged = asks("identity");
    assert_eq!((unchanged.header("etag"), unchanged.header("vary")), (Some("\"v1\""), Some("Accept-Encoding")));
}

/// Streams whose client opens no window, over five connections; the answers to all of them, unread.
async fn stalled(port: u16, coding: &str) -> Vec<h2::RecvStream> {
    let mut bodies = vec![];
    for _ in 0..5 {
        let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut client, connection) =
            h2::client::Builder::new().initial_window_size(2_048).handshake::<_, bytes::Bytes>(tcp).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..100 {
            std::future::poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            let request = http::Request::get("http://a.example/").header("accept-encoding", coding).body(()).unwrap();
            bodies.push(client.send_request(request, true).unwrap().0.await.unwrap().into_body());
        }
    }
    bodies
}

#[test]
fn answers_that_nobody_reads_hold_a_bounded_number_of_encoders() {
    let origin = Origin::start("a");
    let server = r#"
    [server]
    threads = 2
    memory_max = "1GiB"
    [[listener]]
    address = "$LISTEN"
    h2c = true
    "#;
    let world = World::start(&format!("{server}{}{ROUTES}", fleet("app", &[&origin])));
    let body = text(300_000);
    let mut raw = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    raw.extend_from_slice(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
    origin.does(Act::Raw(raw, End::Keep));
    let encoders = || world.metric("tollgate_memory_bytes", &["kind=\"encoders\""]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() * 1024.0
    };
    // A client has a sixty-fourth of it.
    let part = 16.0 * 1_048_576.0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for coding in ["zstd", "br"] {
        let before = resident();
        let bodies = runtime.block_on(stalled(world.port, coding));
        let more = resident() - before;
        println!("500 stalled streams, {coding}: {:.1} MiB more, encoders {}", more / 1_048_576.0, encoders());
        assert!(encoders() > 0.0 && encoders() <= part, "{coding}: {} of {part}", encoders());
        assert!(more < part + 500.0 * 192.0 * 1_024.0, "{coding}: {more}");
        assert_eq!(world.ask(get("/").header("accept-encoding", coding)).status, 200);
        drop(bodies);
        runtime.block_on(async { tokio::time::sleep(std::time::Duration::from_millis(100)).await });
        world.metric_reaches("tollgate_memory_bytes", &["kind=\"encoders\""], 0.0);
    }
}

fn request_head(world: &World) -> Answer {
    let mut connection = world.connect();
    connection.send(b"HEAD / HTTP/1.1\r\nhost: localhost\r\naccept-encoding: gzip\r\n\r\n").unwrap();
    connection.answer(true).unwrap()
}

#[test]
fn a_slow_stream_is_not_held_back() {
    let origin = Origin::start("a");
    let world = world(&origin);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    origin.does(Act::Raw(head.into(), End::Hang));
    for coding in ["gzip", "br", "zstd"] {
        let mut child = Command::new("curl")
            .args(["--silent", "--no-buffer", "--compressed", "--max-time", "15"])
            .args(["--header", &format!("Accept-Encoding: {coding}")])
            .arg(format!("http://127.0.0.1:{}/", world.port))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        assert_eq!(&first, b"first", "{coding}: the server sends nothing more, and does not end");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Events stay as they are.
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
    origin.does(Act::Raw(head.into(), End::Hang));
    let mut connection = world.connect();
    connection.send(&get("/").header("accept-encoding", "gzip").bytes()).unwrap();
    let seen = connection.answer(true).unwrap();
    assert_eq!(seen.header("content-encoding"), None);
    assert_eq!(connection.exactly(12).unwrap(), b"9\r\ndata: 1\n\n");
}

#[test]
fn an_answer_that_is_tried_elsewhere_was_never_begun() {
    let (bad, good) = (Origin::start("bad"), Origin::start("good"));
    let body = text(20_000);
    bad.does(Act::Answer(502, vec![("content-type".into(), "text/html".into())], text(20_000)));
    good.does(html(&body));
    let world = World::start(&format!(
        r"
        {}[upstream.app.retry]
        attempts = 2
        on = [502]
        {ROUTES}",
        fleet("app", &[&bad, &good])
    ));
    for _ in 0..4 {
        assert!(decoded(&world, "/", "br", "--http1.1") == body.as_bytes());
    }
    assert!(bad.hits() > 0, "nothing was tried twice");
}

#[test]
fn a_body_that_breaks_is_not_ended() {
    let origin = Origin::start("a");
    let world = world(&origin);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 100000\r\n\r\n";
    origin.does(Act::Raw([head.as_bytes(), text(20_000).as_bytes()].concat(), End::Close));
    let mut connection = world.connect();
    connection.send(&get("/").header("accept-encoding", "gzip").bytes()).unwrap();
    assert!(connection.answer(false).is_err(), "half a body must not look like a whole one");
}
