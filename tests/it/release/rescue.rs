//! When stable answers for a canary that failed, when it does not, and what is told of it.
//!
//! Everybody is on the canary: without a control nothing is ever taken back, so each request meets the same release.

use super::*;
use crate::support::client::request;
use crate::support::origin::End;

const KIB: usize = 1024;

/// A canary for everybody, whose own upstream is stable's.
fn everybody(stable: &Origin, canary: &Origin) -> Gray {
    between(stable, canary).steps(&[(100.0, "1h")])
}

fn pair() -> (Origin, Origin) {
    (Origin::start("stable"), Origin::start("canary"))
}

/// Waits for the counts of outcomes: rescued, failed, unprotected, budget.
#[track_caller]
fn outcomes(world: &World, expected: [f64; 4]) {
    let seen = || ["rescued", "failed", "unprotected", "budget"].map(|outcome| rescues(world, outcome));
    assert!(within(LONG, || (seen() == expected).then_some(())).is_some(), "{:?}, not {expected:?}", seen());
    let view = view(world);
    assert_eq!(view["rescued"].as_f64(), Some(expected[0]));
    assert_eq!(view["not_rescued"].as_f64(), Some(expected[1..].iter().sum()));
}

#[test]
fn a_rescue_is_told_in_the_log_and_the_metrics() {
    let (stable, canary) = pair();
    canary.does(Act::status(503));
    let world = everybody(&stable, &canary).start();
    let answer = world.ask(by("u1", "/rescued"));
    assert_eq!((answer.status, answer.server()), (200, "stable"));
    canary.does(Act::ok());
    assert_eq!(world.ask(by("u1", "/well")).server(), "canary");
    let (rescued, well) = (world.log_line("/rescued"), world.log_line("/well"));
    let said = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    for line in [&rescued, &well] {
        assert_eq!(
            (said(line, "arm"), said(line, "release"), said(line, "route")),
            ("canary".into(), "v2".into(), "shop".into())
        );
        assert_eq!(line["bucket"], rescued["bucket"]);
        assert!(line["bucket"].as_u64().is_some_and(|bucket| bucket < 10_000), "{line}");
        assert_eq!((&line["status"], line.get("error")), (&200.into(), None), "{line}");
    }
    assert_eq!((&rescued["rescued"], &rescued["attempts"]), (&true.into(), &2.into()));
    assert_eq!((said(&rescued, "upstream"), said(&rescued, "server")), ("stable".into(), stable.address()));
    assert_eq!((well.get("rescued"), &well["attempts"]), (None, &1.into()));
    assert_eq!((said(&well, "upstream"), said(&well, "server")), ("canary".into(), canary.address()));
    let of_canary = ["route=\"shop\"", "arm=\"canary\"", "status_class=\"2xx\""];
    world.metric_reaches("tollgate_requests_total", &of_canary, 2.0);
    world.metric_reaches("tollgate_request_duration_seconds_count", &of_canary[..2], 2.0);
    outcomes(&world, [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_user_on_stable_has_stables_arm_and_no_rescue() {
    let (stable, canary) = pair();
    let world = between(&stable, &canary).start();
    stable.does(Act::status(503));
    let user = (0..200).map(|n| format!("u{n}")).find(|user| server_of(&world, user) == "stable").unwrap();
    assert_eq!(world.ask(by(&user, "/failing")).status, 503);
    let line = world.log_line("/failing");
    assert_eq!((&line["arm"], &line["release"], line.get("rescued")), (&"stable".into(), &"v2".into(), None));
    assert_eq!((&line["status"], &line["attempts"]), (&503.into(), &1.into()));
    outcomes(&world, [0.0; 4]);
    assert!(world.metric("tollgate_requests_total", &["arm=\"stable\"", "status_class=\"5xx\""]) >= 1.0);
}

#[test]
fn a_post_without_a_key_is_not_sent_twice() {
    let (stable, canary) = pair();
    canary.does(Act::status(500));
    let world = everybody(&stable, &canary).start();
    let answer = world.ask(post("/", "pay"));
    assert_eq!((answer.status, answer.server()), (500, "canary"), "the client gets the canary's own answer");
    assert_eq!(stable.hits(), 0);
    canary.does(Act::reset());
    world.ask(post("/", "pay")).is_problem(502, "bad_gateway");
    assert_eq!((stable.hits(), canary.hits()), (0, 2));
    outcomes(&world, [0.0, 0.0, 2.0, 0.0]);
}

#[test]
fn a_post_with_a_key_is_rescued_where_the_release_names_the_method() {
    let (stable, canary) = pair();
    canary.does(Act::status(500));
    let world = everybody(&stable, &canary).key("rescue = { methods = [\"GET\", \"POST\"] }").start();
    let keyed = || post("/", "pay 7").header("idempotency-key", "k-7");
    assert_eq!(world.ask(keyed()).server(), "stable");
    assert_eq!((stable.last().method.as_str(), &stable.last().body[..]), ("POST", &b"pay 7"[..]));
    assert_eq!(stable.last().header("idempotency-key"), Some("k-7"));
    for unprotected in [post("/", "pay 7"), post("/", "pay 7").header("idempotency-key", ""), request("PUT", "/")] {
        assert_eq!(world.ask(unprotected).status, 500);
    }
    assert_eq!(stable.hits(), 1);
    outcomes(&world, [1.0, 0.0, 3.0, 0.0]);
    world.push(&everybody(&stable, &canary).text());
    assert_eq!(world.ask(keyed()).status, 500, "a key alone does not make it safe: the release must name POST");
}

#[test]
fn a_body_is_rescued_whole_or_not_at_all() {
    let (stable, canary) = pair();
    let world = everybody(&stable, &canary).start();
    let body = |size: usize| (0..size).map(|n| (n * 31 % 251) as u8).collect::<Vec<u8>>();
    let put = |size: usize| request("PUT", "/").header("content-length", size);
    for fault in [Act::status(500), Act::reset()] {
        canary.does(fault);
        let hits = stable.hits();
        let mut connection = world.connect();
        connection.send(&[put(60 * KIB).bytes(), body(60 * KIB)].concat()).unwrap();
        let answer = connection.answer(false).unwrap();
        assert_eq!((answer.status, answer.server()), (200, "stable"));
        assert!(stable.last().body == body(60 * KIB), "stable got another body");
        connection = world.connect();
        connection.send(&[put(70 * KIB).bytes(), body(70 * KIB)].concat()).unwrap();
        assert!(connection.answer(false).unwrap().status >= 500);
        assert_eq!(stable.hits(), hits + 1, "half a body reached stable");
    }
    outcomes(&world, [2.0, 0.0, 2.0, 0.0]);
}

#[test]
fn a_chunked_body_is_rescued_whole() {
    let (stable, canary) = pair();
    canary.does(Act::status(500));
    let world = everybody(&stable, &canary).start();
    let piece = vec![b'x'; 10 * KIB];
    let chunk = [format!("{:x}\r\n", piece.len()).into_bytes(), piece, b"\r\n".to_vec()].concat();
    let chunked = |pieces: usize| {
        let head = request("PUT", "/").header("transfer-encoding", "chunked").bytes();
        [head, chunk.repeat(pieces), b"0\r\n\r\n".to_vec()].concat()
    };
    let ask = |pieces: usize| {
        let mut connection = world.connect();
        connection.send(&chunked(pieces)).unwrap();
        connection.answer(false).unwrap()
    };
    assert_eq!(ask(6).server(), "stable");
    assert_eq!(stable.last().body.len(), 60 * KIB);
    assert_eq!(ask(7).status, 500);
    outcomes(&world, [1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn an_answer_that_breaks_in_its_middle_is_beyond_rescue() {
    let (stable, canary) = pair();
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nhalf".to_vec();
    let world = everybody(&stable, &canary).start();
    for end in [End::Close, End::Reset] {
        canary.does(Act::Raw(half.clone(), end));
        assert!(world.try_ask(&get("/")).is_err(), "half an answer is none");
    }
    assert_eq!(stable.hits(), 0);
    outcomes(&world, [0.0, 0.0, 2.0, 0.0]);
}

#[test]
fn an_upgrade_is_not_rescued_and_works() {
    let (stable, canary) = pair();
    canary.script(|seen| if seen.path == "/socket" { Act::Echo } else { Act::status(500) });
    let world = everybody(&stable, &canary).start();
    let upgrade = |path: &str| get(path).header("connection", "upgrade").header("upgrade", "websocket");
    let mut socket = world.connect();
    assert_eq!(socket.ask(&upgrade("/socket")).unwrap().status, 101);
    socket.send(b"frame").unwrap();
    assert_eq!(socket.exactly(5).unwrap(), b"frame");
    assert_eq!(world.ask(upgrade("/broken")).status, 500);
    assert_eq!(stable.hits(), 0);
    drop(socket);
    outcomes(&world, [0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn what_is_not_listed_passes_through() {
    let (stable, canary) = pair();
    let world = everybody(&stable, &canary).start();
    for status in [400, 404, 429, 501, 505] {
        canary.does(Act::status(status));
        let answer = world.ask(get("/"));
        assert_eq!((answer.status, answer.server()), (status, "canary"));
    }
    assert_eq!(stable.hits(), 0);
    outcomes(&world, [0.0; 4]);
    // Nothing but a reset is listed now.
    world.push(&everybody(&stable, &canary).key("rescue = { on = [\"reset\"] }").text());
    canary.does(Act::status(500));
    assert_eq!(world.ask(get("/")).status, 500);
    canary.does(Act::reset());
    assert_eq!(world.ask(get("/")).server(), "stable");
    outcomes(&world, [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_listed_429_is_rescued() {
    let (stable, canary) = pair();
    canary.does(Act::status(429));
    let world = everybody(&stable, &canary).key("rescue = { on = [429] }").start();
    assert_eq!(world.ask(get("/")).server(), "stable");
    outcomes(&world, [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(eventually("it is counted", || view(&world)["arms"]["canary"]["errors"].as_u64().filter(|n| *n > 0)), 1);
}

#[test]
fn a_budget_of_nothing_rescues_nothing() {
    let (stable, canary) = pair();
    canary.does(Act::status(500));
    let world = everybody(&stable, &canary).key("rescue = { budget_percent = 0 }").start();
    for _ in 0..5 {
        assert_eq!(world.ask(get("/")).server(), "canary");
    }
    assert_eq!(stable.hits(), 0);
    outcomes(&world, [0.0, 0.0, 0.0, 5.0]);
}

#[test]
fn half_a_budget_rescues_about_half() {
    let (stable, canary) = pair();
    canary.does(Act::status(500));
    let world = everybody(&stable, &canary).key("rescue = { budget_percent = 50 }").start();
    let rescued = (0..100).filter(|_| world.ask(get("/")).status == 200).count();
    assert!((40..=60).contains(&rescued), "{rescued} of 100");
    outcomes(&world, [rescued as f64, 0.0, 0.0, 100.0 - rescued as f64]);
}

#[test]
fn where_nothing_was_sent_any_method_is_rescued() {
    let (stable, dead) = (Origin::start("stable"), Dead::new());
    let world = gray(&[stable.address()], &[dead.address()]).steps(&[(100.0, "1h")]).start();
    for (n, asked) in
        [post("/", "pay"), request("PATCH", "/"), get("/"), request("DELETE", "/")].into_iter().enumerate()
    {
        assert_eq!(world.ask(asked).server(), "stable");
        assert_eq!(stable.hits(), n + 1);
    }
    let large = vec![b'x'; 200 * KIB];
    assert_eq!(world.ask(post("/", large.clone())).server(), "stable");
    assert!(stable.last().body == large, "stable got another body");
    outcomes(&world, [5.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_canary_without_a_server_in_service_is_rescued() {
    let (stable, canary) = pair();
    canary.set_healthy(false);
    let probes = r#"
    [upstream.canary.health]
    path = "/health"
    interval = "50ms"
    unhealthy_after = 1"#;
    let world = everybody(&stable, &canary).table(probes).start();
    world.metric_reaches("tollgate_upstream_healthy", &["upstream=\"canary\""], 0.0);
    canary.does(Act::status(500));
    for _ in 0..5 {
        assert_eq!(world.ask(get("/")).server(), "stable");
    }
    outcomes(&world, [5.0, 0.0, 0.0, 0.0]);
}

#[test]
fn after_a_rescue_stables_own_retries_apply() {
    let (stable, dead, canary) = (Origin::start("stable"), Dead::new(), Origin::start("canary"));
    let second = Origin::start("canary");
    [&canary, &second].iter().for_each(|canary| canary.does(Act::status(500)));
    let off = |name: &str| format!("[upstream.{name}.outlier]\nconsecutive_failures = 0");
    let world = gray(&[dead.address(), stable.address()], &[canary.address(), second.address()])
        .steps(&[(100.0, "1h")])
        .table(&off("stable"))
        .table(&off("canary"))
        .start();
    for n in 0..6 {
        let answer = world.ask(get(&format!("/{n}")));
        assert_eq!((answer.status, answer.server()), (200, "stable"));
    }
    assert_eq!(canary.hits() + second.hits(), 6, "the canary's other server was tried before stable");
    let attempts: Vec<u64> = (0..6).map(|n| world.log_line(&format!("/{n}"))["attempts"].as_u64().unwrap()).collect();
    assert!(attempts.iter().all(|n| [2, 3].contains(n)) && attempts.contains(&3), "{attempts:?}");
    let retried = world.metric("tollgate_retries_total", &["upstream=\"stable\"", "reason=\"connect\""]);
    assert_eq!(retried as u64, attempts.iter().sum::<u64>() - 12);
    assert_eq!(world.metric("tollgate_retries_total", &["upstream=\"canary\""]), 0.0);
    outcomes(&world, [6.0, 0.0, 0.0, 0.0]);
}

#[test]
fn where_stable_fails_too_the_client_gets_stables_answer() {
    let (stable, canary) = pair();
    canary.does(Act::status(500));
    stable.does(Act::Answer(503, vec![("retry-after".into(), "7".into())], "later".into()));
    let world = everybody(&stable, &canary).start();
    let answer = world.ask(get("/"));
    assert_eq!((answer.status, answer.server(), answer.text().as_str()), (503, "stable", "later"));
    assert_eq!(answer.header("retry-after"), Some("7"));
    stable.does(Act::reset());
    world.ask(get("/reset")).is_problem(502, "bad_gateway");
    let line = world.log_line("/reset");
    assert_eq!(
        (&line["rescued"], &line["upstream"], &line["error"]),
        (&true.into(), &"stable".into(), &"upstream_reset".into())
    );
    outcomes(&world, [0.0, 2.0, 0.0, 0.0]);
}
