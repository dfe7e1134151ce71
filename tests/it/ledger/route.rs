//! A route with `ledger = true`: only callbacks get to the ledger, and whoever sends one is always told what became of it.

use std::time::Duration;

use crate::support::client::request;
use crate::support::origin::End;
use crate::support::*;

/// A gateway whose ledger is at this address, with these routes.
fn world(address: &str, routes: &str) -> World {
    let mut world = World::prepare();
    world.write_as("ledger.key", "5a".repeat(32).as_bytes());
    let ledger = format!(
        r#"
        [ledger]
        address = "{address}"
        embedded = false
        encryption_key_files = ["ledger.key"]
        store_password_file = ""
        token_file = ""
        "#
    );
    world.boot(&format!("{ledger}{routes}"));
    world
}

const PAY: &str = r#"
[route.pay]
paths = ["/pay/*"]
ledger = true
strip_prefix = "/pay"
"#;
const ANY: &str = r"
[route.any]
ledger = true
";

#[test]
fn a_callback_is_handed_over_without_the_prefix() {
    let ledger = Origin::start("ledger");
    let world = world(&ledger.address(), PAY);
    let answer =
        world.ask(post("/pay/callbacks/card?notify=1&x=%2F", "{\"id\":1}").header("x-forwarded-for", "9.9.9.9"));
    assert_eq!((answer.status, answer.server()), (200, "ledger"));
    let seen = ledger.last();
    assert_eq!(
        (&*seen.method, &*seen.path, &*seen.body),
        ("POST", "/callbacks/card?notify=1&x=%2F", &b"{\"id\":1}"[..])
    );
    assert_eq!((seen.header("x-forwarded-for"), seen.header("x-forwarded-proto")), (Some("127.0.0.1"), Some("http")));
    assert!(seen.header("x-request-id").is_some() && seen.header("host") == Some("localhost"), "{seen:?}");
    // Which methods there are is the ledger's to say.
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(world.ask(request(method, "/pay/callbacks/a-b_9")).status, 200);
        assert_eq!((&*ledger.last().method, &*ledger.last().path), (method, "/callbacks/a-b_9"));
    }
    world.metric_reaches("tollgate_upstream_requests_total", &["upstream=\"ledger\""], 5.0);
    let line = world.log_line("/pay/callbacks/card");
    assert_eq!((&line["upstream"], &line["route"]), (&"ledger".into(), &"pay".into()), "{line}");
}

#[test]
fn what_the_ledger_answers_reaches_the_sender_as_it_is() {
    let ledger = Origin::start("ledger");
    let world = world(&ledger.address(), PAY);
    for status in [200, 400, 401, 405, 413, 500, 502, 503] {
        ledger.does(Act::Answer(status, vec![("retry-after".into(), "7".into())], "failure".to_owned()));
        let answer = world.ask(post("/pay/callbacks/card", "x"));
        assert_eq!((answer.status, &*answer.text(), answer.header("retry-after")), (status, "failure", Some("7")));
    }
    // No failure takes it out, and none is tried again.
    assert_eq!(ledger.hits(), 8);
}

#[test]
fn nothing_but_callbacks_can_be_reached() {
    let ledger = Origin::start("ledger");
    let world = world(&ledger.address(), ANY);
    for path in [
        "/",
        "/v1/orders",
        "/metrics",
        "/readyz",
        "/callbacks",
        "/callbacks/",
        "/callbacks/card/",
        "/callbacks/card/x",
        "/callbacks/Card",
        "/callbacks/a.b",
        "/callbacks/..",
        "/callbacks/../v1/orders",
        "/callbacks/%2e%2e/v1/orders",
        "/callbacks/card/../../v1/orders",
        "/callbacks/card%20",
        "/callbacks/card;x=1",
        "/callbacks/%",
        "/callbacks%2fcard",
        "/x/callbacks/card",
        "//v1/orders",
        "/callbacks/card%3fx",
        "http://localhost/v1/orders",
        "http://localhost/callbacks/../v1/orders",
    ] {
        world.ask(post(path, "x")).is_problem(404, "no_callback");
    }
    for two_readings in ["/callbacks/..%2fv1%2forders", "/callbacks/card%2f..%2f..%2fv1%2forders", "/callbacks/card%00"]
    {
        world.ask(post(two_readings, "x")).is_problem(400, "bad_request");
    }
    assert_eq!(ledger.hits(), 0);
    for path in [
        "//callbacks//card",
        "/v1/../callbacks/card",
        "/callbacks/x/../card",
        "/callbacks/%63ard",
        "http://localhost/callbacks/card",
    ] {
        assert_eq!(world.ask(post(path, "x")).status, 200, "{path}");
        assert_eq!(ledger.last().path, "/callbacks/card", "{path}");
    }
    world.metric_reaches("tollgate_rejected_total", &["reason=\"no_callback\""], 23.0);
}

#[test]
fn prefixes_are_judged_after_they_were_put_on() {
    let ledger = Origin::start("ledger");
    let hook = r#"
        [route.hook]
        paths = ["/hook/*"]
        ledger = true
        strip_prefix = "/hook"
        add_prefix = "/callbacks"
        "#;
    let world = world(&ledger.address(), hook);
    assert_eq!(world.ask(post("/hook/card", "x")).status, 200);
    assert_eq!(ledger.last().path, "/callbacks/card");
    for path in ["/hook/", "/hook/a/b", "/hook/callbacks/card"] {
        world.ask(post(path, "x")).is_problem(404, "no_callback");
    }
    world.ask(post("/hook/%2e%2e%2fv1", "x")).is_problem(400, "bad_request");
    assert_eq!(ledger.hits(), 1);
}

/// What a sender is told whose callback did not get through.
#[track_caller]
fn is_to_come_again(answer: &client::Answer) {
    answer.is_problem(503, "ledger_unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[test]
fn a_ledger_that_is_not_there_is_503_again_and_again() {
    let dead = Dead::new();
    let world = world(&dead.address(), PAY);
    for _ in 0..20 {
        is_to_come_again(&world.ask(post("/pay/callbacks/card", "x".repeat(100_000))));
    }
    world.metric_reaches("tollgate_rejected_total", &["reason=\"ledger_unavailable\""], 20.0);
    // It is asked each time: nothing takes it out.
    let lines = eventually("twenty lines", || Some(world.log_lines()).filter(|lines| lines.len() >= 20));
    assert!(lines.iter().all(|line| line["error"] == "upstream_connect"), "{lines:?}");
}

#[test]
fn a_ledger_that_breaks_off_is_503() {
    let ledger = Origin::start("ledger");
    let world = world(&ledger.address(), PAY);
    for act in [Act::reset(), Act::Raw(b"nonsense\r\n\r\n".to_vec(), End::Close), Act::Raw(vec![], End::Close)] {
        ledger.does(act);
        is_to_come_again(&world.ask(post("/pay/callbacks/card", "x")));
    }
    assert_eq!(ledger.hits(), 3, "a fresh connection that broke is not tried again");
    ledger.does(Act::ok());
    assert_eq!(world.ask(post("/pay/callbacks/card", "x")).status, 200);
}

#[test]
fn a_ledger_that_is_silent_is_503_within_five_seconds() {
    let ledger = Origin::start("ledger");
    ledger.does(Act::hang());
    let world = world(&ledger.address(), PAY);
    let begun = std::time::Instant::now();
    is_to_come_again(&world.ask(post("/pay/callbacks/card", "x")));
    let took = begun.elapsed();
    // The ledger itself may take four seconds to say that it could not.
    assert!((Duration::from_secs(4)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!(ledger.hits(), 1);
}

#[test]
fn a_connection_that_went_stale_costs_no_callback() {
    let ledger = Origin::start("ledger");
    let world = world(&ledger.address(), PAY);
    for n in 0..30 {
        let answer = world.ask(post("/pay/callbacks/card", format!("{n}")));
        assert_eq!(answer.status, 200, "{n}: {}", answer.text());
        ledger.hang_up();
    }
    // A pooled connection that breaks under the callback itself.
    ledger.script(|seen| match &*seen.body {
        b"again" if seen.connection == 30 => Act::reset(),
        _ => Act::ok(),
    });
    assert_eq!(world.ask(post("/pay/callbacks/card", "first")).status, 200);
    assert_eq!(ledger.last().connection, 30);
    assert_eq!(world.ask(post("/pay/callbacks/card", "again")).status, 200);
}

#[test]
fn explain_says_where_a_callback_goes() {
    let world = World::prepare();
    world.write_as("ledger.key", "5a".repeat(32).as_bytes());
    let ledger = r#"
    [ledger]
    address = "127.0.0.1:9711"
    encryption_key_files = ["ledger.key"]
    "#;
    world.write(&format!("{ledger}{PAY}"));
    let path = world.config_path();
    let explain = |target: &str| {
        let output = world.cli(&["explain", "POST", target, "-c", path.to_str().unwrap()]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = explain("/pay/callbacks/card");
    assert!(said.contains("handed to the ledger at 127.0.0.1:9711 as /callbacks/card"), "{said}");
    let said = explain("/pay/v1/orders");
    assert!(said.contains("/v1/orders is no path of a callback: it would be answered 404"), "{said}");
}
