//! Two ways of a request: the lane, and Pingora's. Which one takes what, and that nobody can tell them apart.

mod differential;

use std::ffi::OsString;

use crate::support::client::request;
use crate::support::nginx::Nginx;
use crate::support::origin::End;
use crate::support::secure::made;
use crate::support::*;

const WAYS: [&str; 2] = ["lane", "pingora"];

/// A gateway that says which way its answers took, and takes this one where it can.
#[track_caller]
fn start(way: &str, config: &str) -> World {
    let mut world = World::prepare();
    world.layer = switches(way);
    world.boot(config);
    world
}

fn switches(way: &str) -> Vec<(OsString, OsString)> {
    vec![("TOLLGATE_WAY".into(), way.into()), ("TOLLGATE_SHOW_WAY".into(), "1".into())]
}

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;

/// One upstream of HTTP/1.1, one of HTTP/2 that refuses connections, and a route's own answer.
fn config(origin: &Origin) -> String {
    format!(
        r#"
        {}
        [upstream.two]
        servers = ["127.0.0.1:1"]
        http2 = true
        [route.all]
        upstream = "app"
        [route.two]
        paths = ["/two"]
        upstream = "two"
        [route.own]
        paths = ["/own"]
        respond = {{ body = "/own" }}
        [route.none]
        hosts = ["other.test"]
        paths = ["/"]
        respond = {{ status = 204 }}
        "#,
        fleet("app", &[origin])
    )
}

#[test]
fn what_the_lane_speaks_takes_it_and_nothing_else_does() {
    let origin = Origin::start("a");
    let world = start("lane", &config(&origin));
    let upgrade = get("/").header("connection", "upgrade").header("upgrade", "websocket");
    for (asked, status, way) in [
        (get("/"), 200, "lane"),
        (request("HEAD", "/"), 200, "lane"),
        (post("/", "a body"), 200, "lane"),
        (post("/", "2\r\nab\r\n0\r\n\r\n").header("transfer-encoding", "chunked"), 200, "lane"),
        (get("/own"), 200, "lane"),
        (get("/").host("other.test"), 204, "lane"),
        (get("/two"), 502, "pingora"),
        (get("/").header("content-length", "x"), 400, "pingora"),
        (request("OPTIONS", "*"), 204, "lane"),
        (upgrade, 200, "pingora"),
    ] {
        let answer = world.ask(asked.clone());
        assert_eq!((answer.status, answer.header("x-tollgate-way")), (status, Some(way)), "{asked:?}");
    }
    let mut old = world.connect();
    old.send(b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(old.answer(false).unwrap().header("x-tollgate-way"), Some("pingora"));
    let world = start("pingora", &config(&origin));
    for path in ["/", "/own"] {
        assert_eq!(world.ask(get(path)).header("x-tollgate-way"), Some("pingora"));
    }
    let world = World::start(&config(&origin));
    assert_eq!(world.ask(get("/")).header("x-tollgate-way"), None, "only where a switch asks for it");
}

#[test]
fn clients_of_http2_and_servers_over_tls_take_the_lane() {
    let made = made(&["inside.example"]);
    let secure = Nginx::with(
        "listen 127.0.0.1:$PORT ssl; ssl_certificate a.crt; ssl_certificate_key a.key;",
        "return 200 '$connection $request_method';",
        &[("a.crt", &made.cert), ("a.key", &made.key)],
    );
    let config = format!(
        r#"
        [[listener]]
        address = "$LISTEN"
        h2c = true
        [upstream.app]
        servers = ["{}"]
        tls = {{ sni = "inside.example", ca = "a.crt" }}
        {ROUTE}
        "#,
        secure.address()
    );
    for way in WAYS {
        let mut world = World::prepare();
        world.write_as("a.crt", made.cert.as_bytes());
        world.layer = switches(way);
        world.boot(&config);
        let mut connections = Vec::new();
        for n in 0..10 {
            let protocol = if n % 2 == 0 { "--http1.1" } else { "--http2-prior-knowledge" };
            let url = format!("http://127.0.0.1:{}/", world.port);
            let asked = ["--silent", "--show-error", "--include", protocol, &url];
            let output = std::process::Command::new("curl").args(asked).output().unwrap();
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(answer.contains(&format!("x-tollgate-way: {way}\r\n")), "{protocol}: {answer}");
            connections.push(answer.lines().last().unwrap().to_owned());
        }
        connections.dedup();
        assert!(connections.len() <= 2, "{way}: connections are used again, by either thread: {connections:?}");
    }
}

#[test]
fn a_connection_goes_from_way_to_way() {
    let origin = Origin::start("a");
    origin.script(|seen| Act::body(&format!("{} {}", seen.path, seen.body.len())));
    let world = start("lane", &config(&origin));
    let chunked = post("/p", "3\r\nabc\r\n0\r\n\r\n").header("transfer-encoding", "chunked");
    let asked = [
        (get("/1"), "lane", "/1 0"),
        (get("/two"), "pingora", ""),
        (post("/2", "four"), "lane", "/2 4"),
        (chunked, "lane", "/p 3"),
        (get("/own"), "lane", "/own"),
    ];
    // A request that no server could take ends its connection, on either way.
    let ends = |way: &str| way == "pingora";
    for begin in 0..asked.len() {
        let mut connection = world.connect();
        for (asked, way, body) in asked[begin..].iter().chain(&asked[..begin]).take_while(|(_, way, _)| !ends(way)) {
            let answer = connection.ask(asked).unwrap();
            assert_eq!((answer.header("x-tollgate-way"), answer.text().as_str()), (Some(*way), *body));
        }
    }
    let mut connection = world.connect();
    let upgrade = get("/up").header("connection", "upgrade").header("upgrade", "websocket");
    for _ in 0..3 {
        assert_eq!(connection.ask(&get("/l")).unwrap().header("x-tollgate-way"), Some("lane"));
        // The server declines.
        assert_eq!(connection.ask(&upgrade).unwrap().header("x-tollgate-way"), Some("pingora"));
    }
    // All at once: each waits for the one before it.
    let all: Vec<u8> =
        [get("/1"), upgrade.clone(), post("/2", "x"), upgrade, get("/3")].iter().flat_map(|r| r.bytes()).collect();
    connection.send(&all).unwrap();
    for body in ["/1 0", "/up 0", "/2 1", "/up 0", "/3 0"] {
        assert_eq!(connection.answer(false).unwrap().text(), body);
    }
}

#[test]
fn a_client_that_closes_its_half_has_left() {
    for way in WAYS {
        let (origin, gate) = (Origin::start("a"), Gate::new());
        origin.does(Act::when(&gate, Act::ok()));
        let world = start(way, &config(&origin));
        let mut connection = world.connect();
        connection.send(&get("/left").bytes()).unwrap();
        connection.finish();
        connection.closed_after();
        let line = world.log_line("/left");
        assert_eq!((&line["status"], &line["error"]), (&499.into(), &"client_left".into()), "{way}");
        gate.open();
    }
}

/// Answers that are odd, and what a client gets of them: the status, and the body where there is one.
const ODD: [(&str, End, u16, &str); 19] = [
    ("HTTP/1.1 200 OK\r\ncontent-length: 0, 0\r\n\r\n", End::Keep, 200, ""),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        End::Keep,
        200,
        "ab",
    ),
    ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nab", End::Keep, 200, "ab"),
    ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nab", End::Hang, 502, ""),
    ("HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nab", End::Hang, 502, ""),
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        End::Keep,
        200,
        "ab",
    ),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;x=y\r\na\r\n1 \r\nb\r\n0\r\nx: y\r\n\r\n",
        End::Keep,
        200,
        "ab",
    ),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nab", End::Close, 200, "ab"),
    ("HTTP/1.1 200 OK\r\n\r\nab", End::Close, 200, "ab"),
    ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", End::Close, 200, "ab"),
    ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nab", End::Keep, 200, "ab"),
    ("HTTP/1.1 200 OK\r\nfolded: a\r\n  b\r\ncontent-length: 2\r\n\r\nab", End::Keep, 200, "ab"),
    ("HTTP/1.1 200 OK\r\nspaced : a\r\ncontent-length: 2\r\n\r\nab", End::Keep, 200, "ab"),
    ("HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n", End::Hang, 502, ""),
    ("HTTP/1.1 2000 Odd\r\ncontent-length: 0\r\n\r\n", End::Hang, 502, ""),
    ("HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n", End::Hang, 502, ""),
    ("nonsense\r\n\r\n", End::Hang, 502, ""),
    (
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
        End::Keep,
        200,
        "ab",
    ),
    ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n", End::Keep, 204, ""),
];

#[test]
fn odd_answers_mean_the_same_on_both_ways() {
    for way in WAYS {
        let origin = Origin::start("a");
        let world = start(way, &config(&origin));
        for (answer, end, status, body) in ODD {
            origin.does(Act::Raw(answer.into(), end));
            let mut connection = world.connect();
            connection.send(&get("/").bytes()).unwrap();
            let mut got = connection.answer(false).unwrap();
            while got.status < 200 {
                got = connection.answer(false).unwrap();
            }
            assert_eq!((got.status, got.header("x-tollgate-way")), (status, Some(way)), "{answer}");
            let codings = got.headers.iter().filter(|(name, _)| name == "transfer-encoding").map(|(_, value)| &**value);
            let coded = codings.collect::<Vec<_>>().join(", ");
            assert!(
                matches!(&*coded, "" | "chunked") || way == "pingora" || coded == "gzip, chunked",
                "{answer}: {coded}"
            );
            let lengths = got.headers.iter().filter(|(name, _)| name == "content-length").count();
            assert!(lengths <= 1, "{way}: {answer}");
            assert!(status == 502 || got.text() == body, "{way}: {answer}: {}", got.text());
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_ended() {
    for way in WAYS {
        let origin = Origin::start("a");
        let world = start(way, &config(&origin));
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabX",
        ] {
            origin.does(Act::Raw(answer.into(), End::Close));
            assert!(world.try_ask(&get("/")).is_err(), "{way}: {answer}");
        }
    }
}
