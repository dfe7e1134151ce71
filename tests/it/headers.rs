//! identify and rewrite: who asks, and what the server and the client get to see of each other.

use crate::support::origin::End;
use crate::support::*;

fn world(route: &str, origin: &Origin) -> World {
    World::start(&format!(
        r#"
        [trusted]
        proxies = ["127.0.0.2", "10.0.0.0/8"]
        {}[route.all]
        upstream = "app"
        {route}"#,
        fleet("app", &[origin])
    ))
}

#[test]
fn prefixes_are_cut_and_added_and_the_query_stays() {
    let origin = Origin::start("a");
    let world = world(
        r#"
    strip_prefix = "/api"
    add_prefix = "/internal"
    "#,
        &origin,
    );
    for (sent, expected) in [
        ("/api/orders?x=%2F&y=a+b", "/internal/orders?x=%2F&y=a+b"),
        ("/api", "/internal/"),
        ("/apis/x", "/internal/apis/x"),
        ("/other", "/internal/other"),
    ] {
        assert_eq!(world.ask(get(sent)).status, 200);
        assert_eq!(origin.last().path, expected, "{sent}");
    }
}

#[test]
fn the_target_reaches_the_server_as_it_was_routed() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    for (sent, expected) in
        [("/plain?a=b&c", "/plain?a=b&c"), ("/a%20b/%E4?q=%ff", "/a%20b/%E4?q=%ff"), ("/a/../b", "/b"), ("/x?", "/x?")]
    {
        assert_eq!(world.ask(get(sent)).status, 200);
        assert_eq!(origin.last().path, expected, "{sent}");
    }
}

#[test]
fn the_routes_rules_have_the_last_word() {
    let origin = Origin::start("a");
    origin.does(Act::Answer(
        200,
        vec![("server".into(), "secret/1.0".into()), ("x-kept".into(), "yes".into())],
        "b".into(),
    ));
    let world = world(
        r#"
        request_headers = { set = { "x-gateway" = "tollgate", host = "inside.example" }, remove = ["x-debug"] }
        response_headers = { set = { "x-frame-options" = "DENY" }, remove = ["server"] }
        "#,
        &origin,
    );
    let answer = world.ask(get("/").header("x-debug", "1").header("x-gateway", "forged").header("x-other", "stays"));
    let seen = origin.last();
    assert_eq!(seen.header("x-gateway"), Some("tollgate"));
    assert_eq!(seen.header("host"), Some("inside.example"));
    assert_eq!((seen.header("x-debug"), seen.header("x-other")), (None, Some("stays")));
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    assert_eq!((answer.header("server"), answer.header("x-kept")), (None, Some("yes")));
}

#[test]
fn what_a_route_adds_comes_after_what_is_there_once_whatever_is_tried_again() {
    let (broken, origin) = (Origin::start("broken"), Origin::start("a"));
    broken.does(Act::reset());
    let cookies = vec![("set-cookie".into(), "session=1".into()), ("set-cookie".into(), "theme=dark".into())];
    origin.does(Act::Answer(200, cookies, "b".into()));
    let world = World::start(&format!(
        r#"
        {}[route.all]
        upstream = "app"
        request_headers = {{ set = {{ x-zone = "1" }}, add = {{ x-tag = "edge", x-zone = "2" }} }}
        response_headers = {{ add = {{ set-cookie = "region=eu; Secure", vary = "accept" }}, remove = ["server"] }}
        "#,
        fleet("app", &[&broken, &origin])
    ));
    for _ in 0..2 {
        let answer = world.ask(get("/").header("x-tag", "client"));
        let lines =
            |name: &str| answer.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
        let cookies: Vec<&str> = lines("set-cookie").iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(cookies, ["session=1", "theme=dark", "region=eu; Secure"]);
        assert_eq!(lines("vary").len(), 1);
        let seen = origin.last();
        assert_eq!((seen.header("x-tag"), seen.header("x-zone")), (Some("client|edge"), Some("1|2")));
    }
    assert!(broken.hits() > 0, "an attempt came before");
    // What comes before the final answer has less, not more.
    let early = "HTTP/1.1 103 Early Hints\r\nserver: s\r\nlink: </a>\r\n\r\n";
    origin.does(Act::Raw(format!("{early}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").into(), End::Close));
    let mut connection = world.connect();
    let early = connection.ask(&get("/")).unwrap();
    assert_eq!((early.status, early.header("set-cookie"), early.header("server")), (103, None, None));
    assert_eq!(
        (early.header("link"), connection.answer(false).unwrap().header("vary")),
        (Some("</a>"), Some("accept"))
    );
}

#[test]
fn the_host_passes_unchanged() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    world.ask(get("/").host("Shop.Example:8443"));
    assert_eq!(origin.last().header("host"), Some("Shop.Example:8443"));
}

#[test]
fn what_a_server_says_of_its_own_connection_stays_there() {
    let origin = Origin::start("a");
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n";
    let options = "keep-alive: timeout=5\r\nconnection: keep-alive\r\nconnection: x-hop, content-length\r\nx-hop: 1\r\nx-end: 1\r\n";
    origin.does(Act::Raw(format!("{head}{options}\r\nok").into_bytes(), End::Close));
    let world = world("", &origin);
    let answer = world.ask(get("/"));
    assert_eq!((answer.header("keep-alive"), answer.header("x-hop"), answer.header("x-end")), (None, None, Some("1")));
    assert_eq!((answer.header("content-length"), answer.text().as_str()), (Some("2"), "ok"));
    origin.does(Act::Raw(
        format!("{head}connection: keep-alive\r\nkeep-alive: timeout=5\r\n\r\nok").into_bytes(),
        End::Close,
    ));
    assert_eq!(world.ask(get("/")).header("keep-alive"), None);
}

#[test]
fn forwarding_headers_of_strangers_are_replaced() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    let forged = get("/")
        .host("shop.example")
        .header("x-forwarded-for", "10.1.1.1")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-port", "1")
        .header("x-forwarded-anything", "1")
        .header("forwarded", "for=10.1.1.1")
        .header("x-tollgate-app", "acme");
    assert_eq!(world.ask(forged).status, 200);
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;proto=http"));
    for gone in ["x-forwarded-port", "x-forwarded-anything", "x-tollgate-app"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(world.log_line("/")["client"], "127.0.0.1");
}

#[test]
fn nobody_speaks_for_the_gateway() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    let of_client = ["X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "Client-Cert"];
    let of_request =
        ["Proxy", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"];
    let told = || {
        let names = of_client.iter().chain(&of_request);
        names.fold(get("/"), |request, name| request.header(name, "10.1.1.1")).header("x-mine", "1")
    };
    let seen_of = |name: &str| origin.last().header(&name.to_ascii_lowercase()).map(str::to_owned);
    assert_eq!(world.ask(told()).status, 200);
    for gone in of_client.iter().chain(&of_request) {
        assert_eq!(seen_of(gone), None, "{gone}");
    }
    assert_eq!(seen_of("x-mine").as_deref(), Some("1"));
    assert_eq!(world.ask_from([127, 0, 0, 2], told()).status, 200);
    for kept in of_client {
        assert_eq!(seen_of(kept).as_deref(), Some("10.1.1.1"), "{kept}");
    }
    for gone in of_request {
        assert_eq!(seen_of(gone), None, "{gone}");
    }
}

#[test]
fn no_other_spelling_of_a_routes_own_headers_comes_in() {
    let origin = Origin::start("a");
    let world = World::start(&format!(
        r#"
        {}[route.plain]
        upstream = "app"
        paths = ["/plain"]
        [route.ruled]
        upstream = "app"
        paths = ["/ruled"]
        request_headers = {{ set = {{ x-auth-user = "nobody" }}, remove = ["x-debug-mode"] }}
        "#,
        fleet("app", &[&origin])
    ));
    for name in ["x_auth_user", "X-Auth_User", "x.auth.user", "x_debug-mode"] {
        world.ask(get("/ruled").header(name, "root")).is_problem(400, "bad_request");
    }
    assert_eq!(world.log_line("/ruled")["error"], "lookalike_name");
    assert_eq!(origin.hits(), 0);
    assert_eq!(world.ask(get("/ruled").header("x-auth-user", "root").header("x_other", "1")).status, 200);
    assert_eq!((origin.last().header("x-auth-user"), origin.last().header("x_other")), (Some("nobody"), Some("1")));
    assert_eq!(world.ask(get("/plain").header("x_auth_user", "mine")).status, 200, "another route has no such name");
}

#[test]
fn an_answer_without_a_body_says_nothing_of_its_frame() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    let raw = |head: &str| Act::Raw(format!("HTTP/1.1 {head}\r\n\r\n").into_bytes(), End::Close);
    for frame in ["content-length: 5", "content-length: 0", "transfer-encoding: chunked"] {
        origin.does(raw(&format!("204 No Content\r\n{frame}")));
        let answer = world.ask(get("/"));
        assert_eq!(answer.status, 204);
        assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, None), "{frame}");
    }
    origin.does(raw("304 Not Modified\r\ncontent-length: 5"));
    assert_eq!(world.ask(get("/")).header("content-length"), Some("5"), "it tells of the answer that 200 would be");
    origin.does(raw("200 OK\r\ncontent-length: 5"));
    assert_eq!(world.ask(get("/").method("HEAD")).header("content-length"), Some("5"));
    origin.does(raw("103 Early Hints\r\ncontent-length: 5\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0"));
    let mut connection = world.connect();
    connection.send(&get("/").bytes()).unwrap();
    let early = connection.answer(false).unwrap();
    assert_eq!((early.status, early.header("content-length"), early.header("link")), (103, None, Some("</a>")));
    assert_eq!(connection.answer(false).unwrap().status, 200);
}

#[test]
fn forwarding_headers_of_trusted_proxies_are_continued() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    let told = get("/")
        .header("x-forwarded-for", "198.51.100.7, 192.0.2.5")
        .header("x-forwarded-for", "10.1.1.1")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "shop.example")
        .header("forwarded", "for=192.0.2.5")
        .header("x-tollgate-app", "acme");
    assert_eq!(world.ask_from([127, 0, 0, 2], told).status, 200);
    let seen = origin.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("198.51.100.7, 192.0.2.5, 10.1.1.1, 127.0.0.2"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(seen.header("forwarded"), Some("for=192.0.2.5, for=127.0.0.2;proto=https"));
    assert_eq!(seen.header("x-tollgate-app"), None, "only the gateway says which app it is");
    assert_eq!(world.log_line("/")["client"], "192.0.2.5", "the rightmost address that is not trusted");
}

#[test]
fn a_trusted_proxy_that_says_nothing_is_the_client() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    world.ask_from([127, 0, 0, 2], get("/silent"));
    assert_eq!(origin.last().header("x-forwarded-for"), Some("127.0.0.2"));
    assert_eq!(world.log_line("/silent")["client"], "127.0.0.2");
    world.ask_from([127, 0, 0, 2], get("/junk").header("x-forwarded-for", "192.0.2.1, unknown, 10.1.1.1"));
    assert_eq!(world.log_line("/junk")["client"], "0.0.0.0", "a trusted proxy did not know whose request it was");
    world.ask_from([127, 0, 0, 2], get("/gaps").header("x-forwarded-for", ", 192.0.2.1,, "));
    assert_eq!(world.log_line("/gaps")["client"], "192.0.2.1", "empty places of a list are none");
}

#[test]
fn request_ids_are_kept_or_made_and_told_to_both_sides() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    let answer = world.ask(get("/kept").header("x-request-id", "mine-1"));
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(origin.last().header("x-request-id"), Some("mine-1"));
    assert_eq!(world.log_line("/kept")["request_id"], "mine-1");

    let answer = world.ask(get("/made"));
    let made = answer.header("x-request-id").unwrap().to_owned();
    assert!(made.len() == 32 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{made}");
    assert_eq!(origin.last().header("x-request-id"), Some(&*made));
    assert_eq!(world.log_line("/made")["request_id"], made);

    let too_long = "x".repeat(200);
    let answer = world.ask(get("/long").header("x-request-id", &too_long));
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
}

#[test]
fn a_trace_is_carried_on() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    world.ask(get("/").header("traceparent", parent).header("tracestate", "a=b"));
    assert_eq!(origin.last().header("traceparent"), Some(parent));
    assert_eq!(origin.last().header("tracestate"), Some("a=b"));
}

#[test]
fn hop_by_hop_headers_stay_on_their_hop() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    let mut connection = world.connect();
    // As Java's client says it by default, and more.
    let asked = get("/")
        .header("connection", "keep-alive, Upgrade, HTTP2-Settings, TE")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAEAAEAA")
        .header("te", "trailers");
    assert_eq!(connection.ask(&asked).unwrap().status, 200);
    let seen = origin.last();
    for gone in ["upgrade", "http2-settings", "te"] {
        assert_eq!(seen.header(gone), None, "{:?}", seen.headers);
    }
    for named in ["x-hop", "authorization, cookie", "close, Idempotency-Key"] {
        world.ask(get("/").header("connection", named)).is_problem(400, "bad_request");
    }
    assert_eq!(connection.ask(&get("/")).unwrap().status, 200);
}

#[test]
fn bodies_pass_both_ways_whatever_frames_them() {
    let origin = Origin::start("a");
    let world = world("", &origin);
    let large = (0..300_000_u32).flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let mut connection = world.connect();
    assert_eq!(connection.ask(&post("/sized", large.clone())).unwrap().status, 200);
    assert!(origin.last().body == large, "the body changed on its way");
    let chunked = post("/chunked", "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").header("transfer-encoding", "chunked");
    for _ in 0..3 {
        assert_eq!(connection.ask(&chunked).unwrap().status, 200);
        assert_eq!(origin.last().body, b"abcdefg");
    }
    assert_eq!(origin.connections(), 1, "all of it went over one pooled connection");
    origin.does(Act::Raw(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
        origin::End::Close,
    ));
    assert_eq!(connection.ask(&get("/")).unwrap().body, b"abc");
    origin.does(Act::Raw([b"HTTP/1.1 200 OK\r\n\r\n", &large[..]].concat(), origin::End::Close));
    assert!(connection.ask(&get("/")).unwrap().body == large, "a body that ends with its connection");
}

#[test]
fn cookies_that_http_2_splits_reach_the_server_as_one() {
    let origins = [Origin::start("a"), Origin::start("b")];
    let fleet = fleet("app", &[&origins[0], &origins[1]]);
    let world = World::start(&format!(
        r#"
        [[listener]]
        address = "$LISTEN"
        h2c = true
        {fleet}balance = "hash"
        hash_key = "cookie:user"
        [route.all]
        upstream = "app"
        "#
    ));
    let ask = |user: usize| {
        let output = std::process::Command::new("curl")
            .args(["--silent", "--show-error", "--http2-prior-knowledge", "--header", "cookie: a=1", "--header"])
            .arg(format!("cookie: user=u{user}"))
            .args(["--header", "cookie: z=26"])
            .arg(format!("http://127.0.0.1:{}/", world.port))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let chosen: std::collections::BTreeSet<String> = (0..20).map(ask).collect();
    assert_eq!(chosen.len(), 2, "the gateway reads them too");
    let expected = |seen: &str| seen.starts_with("a=1; user=u") && seen.ends_with("; z=26");
    assert!(origins.iter().all(|origin| expected(origin.last().header("cookie").unwrap())));
}
