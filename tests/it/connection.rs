//! listen: a client's connection, from its first byte to its close.

use std::thread;
use std::time::Duration;

use crate::support::client::request;
use crate::support::nginx::Nginx;
use crate::support::origin::End;
use crate::support::wait::stays;
use crate::support::*;

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start("a");
    origin.script(|seen| Act::body(&seen.path));
    let world = World::start(&format!(
        r#"
        {}{ROUTE}[route.own]
        paths = ["/own"]
        respond = {{ body = "/own" }}
        "#,
        fleet("app", &[&origin])
    ));
    let paths = ["/1", "/2", "/own", "/3", "/none", "/4", "/own", "/5"];
    let mut connection = world.connect();
    for _ in 0..20 {
        let all: Vec<u8> = paths.iter().flat_map(|path| get(path).bytes()).collect();
        connection.send(&all).unwrap();
        for path in paths {
            assert_eq!(connection.answer(false).unwrap().text(), path);
        }
    }
    let posts: Vec<u8> = (0..5).flat_map(|n| post(&format!("/post/{n}"), format!("body {n}")).bytes()).collect();
    connection.send(&posts).unwrap();
    for n in 0..5 {
        assert_eq!(connection.answer(false).unwrap().text(), format!("/post/{n}"));
    }
}

#[test]
fn an_idle_connection_is_closed_after_idle_timeout_and_not_before() {
    let world = World::start(
        r#"
        [[listener]]
        address = "$LISTEN"
        idle_timeout = "1s"
        [route.all]
        respond = { body = "ok" }
        "#,
    );
    let (mut used, mut silent) = (world.connect(), world.connect());
    assert_eq!(used.ask(&get("/")).unwrap().status, 200);
    let after = used.closed_after();
    assert!(after >= Duration::from_millis(800), "closed after {after:?}");
    silent.closed_after();
    world.metric_reaches("tollgate_connections", &[], 0.0);
}

#[test]
fn idle_timeout_follows_a_push() {
    let config = |idle: &str| {
        format!(
            r#"
            [[listener]]
            address = "$LISTEN"
            idle_timeout = "{idle}"
            [route.all]
            respond = {{ body = "ok" }}
            "#
        )
    };
    let world = World::start(&config("1h"));
    let mut connection = world.connect();
    assert_eq!(connection.ask(&get("/")).unwrap().status, 200);
    world.push(&config("1s"));
    assert_eq!(connection.ask(&get("/")).unwrap().status, 200);
    connection.closed_after();
}

#[test]
fn a_client_that_wants_to_close_or_speaks_http10_is_obeyed() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    let mut closing = world.connect();
    let answer = closing.ask(&get("/").header("connection", "close")).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    closing.closed_after();
    let mut old = world.connect();
    old.send(b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(old.answer(false).unwrap().text(), "a");
    old.closed_after();
    let mut half = world.connect();
    half.send(&get("/").bytes()).unwrap();
    assert_eq!(half.answer(false).unwrap().text(), "a");
    half.finish();
    half.closed_after();
}

#[test]
fn a_client_of_http10_gets_neither_chunks_nor_answers_before_the_answer() {
    let origin = Origin::start("a");
    origin.script(|seen| {
        let head = match seen.path.as_str() {
            "/sized" => "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            "/ended" => "HTTP/1.1 200 OK\r\n\r\nabc",
            "/none" => "HTTP/1.1 304 Not Modified\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        };
        Act::Raw(format!("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{head}").into_bytes(), End::Close)
    });
    let http2 = http2_server();
    let world = World::start(&format!(
        r#"
        {}[upstream.new]
        servers = ["127.0.0.1:{http2}"]
        http2 = true
        {ROUTE}[route.new]
        paths = ["/new"]
        upstream = "new"
        "#,
        fleet("app", &[&origin])
    ));
    let mut kept = world.connect();
    let ask = |connection: &mut Connection, method: &str, path: &str| {
        let head = format!("{method} {path} HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n");
        connection.send(head.as_bytes()).unwrap();
        connection.answer(method == "HEAD").unwrap()
    };
    // What has an end of its own keeps the connection.
    for (method, path, status) in [("GET", "/sized", 200), ("GET", "/none", 304), ("HEAD", "/chunked", 200)] {
        let answer = ask(&mut kept, method, path);
        assert_eq!((answer.status, answer.header("transfer-encoding")), (status, None), "{path}");
        assert_eq!(answer.header("connection"), Some("keep-alive"), "{path}");
    }
    for path in ["/chunked", "/ended", "/new"] {
        let mut connection = world.connect();
        let answer = ask(&mut connection, "GET", path);
        assert_eq!((answer.status, answer.text().as_str()), (200, "abc"), "{path}");
        assert_eq!((answer.header("transfer-encoding"), answer.header("content-length")), (None, None), "{path}");
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
    }
    assert_eq!(world.log_line("/new")["bytes"], 3);
    let answer = world.ask(get("/chunked"));
    assert_eq!(answer.status, 103, "HTTP/1.1 is told");
}

#[test]
fn the_answer_of_an_http10_server_has_the_gateways_version() {
    let origin = Origin::start("a");
    origin.does(Act::Raw(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(), End::Close));
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    for client in ["HTTP/1.1", "HTTP/1.0"] {
        let mut connection = world.connect();
        connection.send(format!("GET / {client}\r\nhost: localhost\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(connection.exactly(17).unwrap(), b"HTTP/1.1 200 OK\r\n", "for {client}");
    }
}

/// The port of a server that answers `abc` over HTTP/2, without a length.
fn http2_server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                        body.send_data(bytes::Bytes::from_static(b"abc"), true).unwrap();
                    }
                });
            }
        });
    });
    port
}

#[test]
fn connections_are_counted_by_listener() {
    let world = World::start(
        r#"
    [route.all]
    respond = { body = "ok" }
    "#,
    );
    let mut held: Vec<Connection> = (0..3).map(|_| world.connect()).collect();
    held.iter_mut().for_each(|connection| drop(connection.ask(&get("/")).unwrap()));
    let listener = format!("listener=\"127.0.0.1:{}\"", world.port);
    world.metric_reaches("tollgate_connections", &[&listener], 3.0);
    held.truncate(1);
    world.metric_reaches("tollgate_connections", &[&listener], 1.0);
}

#[test]
fn what_is_no_http_gets_no_server_and_harms_nobody() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    let mut kept = world.connect();
    assert_eq!(kept.ask(&get("/")).unwrap().status, 200);
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
    ] {
        let mut connection = world.connect();
        connection.send(junk).unwrap();
        connection.finish();
        // An answer of 400 or a close: both refuse it.
        if let Ok(answer) = connection.answer(false) {
            assert_eq!(answer.status, 400, "{junk:?}");
        }
    }
    assert_eq!(origin.hits(), 1);
    assert_eq!(kept.ask(&get("/")).unwrap().status, 200);
}

#[test]
fn expect_continue_and_early_hints_pass() {
    let origin = Origin::start("a");
    let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx";
    origin.script(move |seen| match seen.path.as_str() {
        "/hints" => Act::Raw(hints.to_vec(), crate::support::origin::End::Close),
        _ => Act::ok(),
    });
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    let mut connection = world.connect();
    let mut answer = connection.ask(&get("/hints")).unwrap();
    if answer.status == 103 {
        answer = connection.answer(false).unwrap();
    }
    assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
    let mut patient = world.connect();
    patient.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody").unwrap();
    let mut answer = patient.answer(false).unwrap();
    if answer.status == 100 {
        answer = patient.answer(false).unwrap();
    }
    assert_eq!((answer.status, origin.last().body.as_slice()), (200, &b"body"[..]));
}

/// A CA and a certificate of `name` signed by it, in PEM: CA, certificate, key.
fn certificates(name: &str) -> [String; 3] {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    [ca_pem, certificate.pem(), key.serialize_pem()]
}

#[test]
fn https_servers_are_verified_by_their_own_authority_and_name() {
    let [ca, certificate, key] = certificates("inside.example");
    let [stranger, ..] = certificates("inside.example");
    let nginx = Nginx::with(
        "listen 127.0.0.1:$PORT ssl http2; ssl_certificate a.crt; ssl_certificate_key a.key;",
        "return 200 '$server_protocol $ssl_server_name $https';",
        &[("a.crt", &certificate), ("a.key", &key)],
    );
    let mut world = World::prepare();
    world.write_as("ca.crt", ca.as_bytes());
    world.write_as("stranger.crt", stranger.as_bytes());
    let upstream = |name: &str, keys: &str| {
        format!(
            r#"
            [upstream.{name}]
            servers = ["{}"]
            {keys}
            [route.{name}]
            paths = ["/{name}"]
            upstream = "{name}"
            "#,
            nginx.address()
        )
    };
    world.boot(
        &[
            upstream("good", "tls = { sni = \"inside.example\", ca = \"ca.crt\" }"),
            upstream("two", "tls = { sni = \"inside.example\", ca = \"ca.crt\" }\nhttp2 = true"),
            upstream("stranger", "tls = { sni = \"inside.example\", ca = \"stranger.crt\" }"),
            upstream("system", "tls = { sni = \"inside.example\" }"),
            upstream("othername", "tls = { sni = \"outside.example\", ca = \"ca.crt\" }"),
            upstream("unverified", "tls = { sni = \"outside.example\", verify = false }"),
        ]
        .concat(),
    );
    // Twice: the pool must not lend a connection to an upstream that trusts somebody else.
    for _ in 0..2 {
        assert_eq!(world.ask(get("/good")).text(), "HTTP/1.1 inside.example on");
        assert_eq!(world.ask(get("/two")).text(), "HTTP/2.0 inside.example on");
        assert_eq!(world.ask(get("/unverified")).text(), "HTTP/1.1 outside.example on");
        for refused in ["/stranger", "/system", "/othername"] {
            world.ask(get(refused)).is_problem(502, "bad_gateway");
        }
    }
}

#[test]
fn a_connection_to_a_server_is_used_again_after_every_kind_of_whole_answer() {
    let origin = Origin::start("a");
    origin.script(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("HEAD", _) => Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n".to_vec(), End::Keep),
        (_, "/204") => Act::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), End::Keep),
        (_, "/304") => Act::Raw(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n".to_vec(), End::Keep),
        (_, "/chunks") => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            Act::Raw(format!("{head}2\r\nok\r\n0\r\n\r\n").into_bytes(), End::Keep)
        }
        (_, "/hint") => {
            let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
            Act::Raw(format!("{hint}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").into_bytes(), End::Keep)
        }
        _ => Act::body("body"),
    });
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    // One client connection: its next request begins when all of the last one is over.
    let mut client = world.connect();
    for _ in 0..2 {
        assert_eq!(client.ask(&get("/")).unwrap().text(), "body");
        for (without_body, status) in [(request("HEAD", "/"), 200), (get("/204"), 204), (get("/304"), 304)] {
            assert_eq!(client.ask(&without_body).unwrap().status, status);
            // A connection rests after an answer that has no body by rule.
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(client.ask(&get("/chunks")).unwrap().text(), "ok");
        assert_eq!(client.ask(&post("/", "x".repeat(100_000))).unwrap().text(), "body");
        assert_eq!(client.ask(&post("/", "")).unwrap().text(), "body");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_connection_that_ends_or_has_more_on_it_than_its_answer_is_never_used_again() {
    let origin = Origin::start("a");
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n";
    origin.script(move |seen| match seen.path.as_str() {
        "/more" => {
            Act::Raw(format!("{whole}\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").into_bytes(), End::Keep)
        }
        "/close" => Act::Raw(format!("{whole}connection: close\r\n\r\nok").into_bytes(), End::Keep),
        "/brief" => Act::Raw(format!("{whole}keep-alive: timeout=1\r\n\r\nok").into_bytes(), End::Keep),
        "/old" => Act::Raw(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(), End::Keep),
        _ => Act::body("fine"),
    });
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    // One client connection: its next request begins when all of the last one is over.
    let mut client = world.connect();
    for (n, path) in ["/more", "/close", "/old", "/brief"].into_iter().enumerate() {
        assert_eq!(client.ask(&get(path)).unwrap().text(), "ok", "{path}");
        assert_eq!(client.ask(&get("/")).unwrap().text(), "fine", "after {path}");
        assert_eq!(origin.connections(), n + 2, "{path}");
    }
}

#[test]
fn a_connection_that_its_server_closed_meanwhile_fails_no_request() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    // One client connection: its next request begins when all of the last one is over.
    let mut client = world.connect();
    for n in 1..=5 {
        assert_eq!(client.ask(&get("/")).unwrap().status, 200);
        assert_eq!(client.ask(&post("/", "x")).unwrap().status, 200, "a request that may not be repeated");
        assert_eq!(origin.connections(), n);
        origin.hang_up();
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(world.metric("tollgate_retries_total", &[]), 0.0);
}

#[test]
fn limits_hold_over_tls_and_http2_too() {
    let [ca, certificate, key] = certificates("inside.example");
    let origin = Origin::start("a");
    origin.script(|seen| if seen.path == "/hang" { Act::hang() } else { Act::ok() });
    let proxy = format!("proxy_pass http://{}; proxy_read_timeout 20s;", origin.address());
    let files = [("a.crt", certificate.as_str()), ("a.key", key.as_str())];
    let secure = Nginx::with(
        "listen 127.0.0.1:$PORT ssl http2; ssl_certificate a.crt; ssl_certificate_key a.key;",
        &proxy,
        &files,
    );
    let plain = Nginx::with("listen 127.0.0.1:$PORT http2;", &proxy, &[]);
    let tls = "tls = { sni = \"inside.example\", ca = \"ca.crt\" }";
    let mut world = World::prepare();
    world.write_as("ca.crt", ca.as_bytes());
    let upstream = |name: &str, server: &Nginx, keys: &str, limit: &str| {
        format!(
            r#"
            [upstream.{name}]
            servers = ["{}"]
            {keys}
            [upstream.{name}.timeout]
            {limit} = "300ms"
            [route.{name}]
            hosts = ["{name}"]
            upstream = "{name}"
            "#,
            server.address()
        )
    };
    world.boot(
        &[
            upstream("tls", &secure, tls, "first_byte"),
            upstream("tls-read", &secure, tls, "read"),
            upstream("tls-two", &secure, &format!("{tls}\nhttp2 = true"), "first_byte"),
            upstream("two", &plain, "http2 = true", "total"),
            upstream("two-read", &plain, "http2 = true", "read"),
        ]
        .concat(),
    );
    for name in ["tls", "tls-read", "tls-two", "two", "two-read"] {
        for _ in 0..2 {
            assert_eq!(world.ask(get("/").host(name)).status, 200, "{name}");
            world.ask(get("/hang").host(name)).is_problem(504, "gateway_timeout");
        }
    }
}

#[test]
fn http2_without_tls_reaches_the_servers_and_is_probed() {
    let nginx =
        Nginx::with("listen 127.0.0.1:$PORT http2;", "return 200 '$server_protocol $request_method $http_host';", &[]);
    let world = World::start(&format!(
        r#"
        [upstream.app]
        servers = ["{}"]
        http2 = true
        [upstream.app.health]
        path = "/"
        interval = "50ms"
        unhealthy_after = 1
        {ROUTE}"#,
        nginx.address()
    ));
    let mut connection = world.connect();
    for _ in 0..10 {
        assert_eq!(connection.ask(&get("/").host("shop.example")).unwrap().text(), "HTTP/2.0 GET shop.example");
    }
    assert_eq!(connection.ask(&request("HEAD", "/")).unwrap().status, 200);
    assert_eq!(connection.ask(&post("/", "x")).unwrap().text(), "HTTP/2.0 POST localhost");
    // One probe that fails is enough to say so, and nothing makes it healthy again but another one.
    assert!(stays(Duration::from_millis(500), || world.server(&nginx.address())["healthy"] == true));
}

#[test]
fn a_server_that_upgrades_at_once_keeps_its_tunnel() {
    let origin = Origin::start("a");
    origin.does(Act::Echo);
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    for n in 0..200 {
        let mut connection = world.connect();
        let upgrade = get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
        connection.send(&upgrade.bytes()).expect("sent");
        assert_eq!(connection.answer(true).expect("an answer").status, 101, "round {n}");
        connection.send(b"ping").expect("sent");
        assert_eq!(connection.exactly(4).unwrap_or_else(|e| panic!("round {n}: {e}")), b"ping");
    }
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_a_servers_fault() {
    let origin = Origin::start("a");
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    origin.does(Act::Raw(answer.to_vec(), End::Hang));
    let world = World::start(&format!("{}retry.attempts = 1\n{ROUTE}", fleet("app", &[&origin])));
    world.ask(get("/x")).is_problem(502, "bad_gateway");
}
