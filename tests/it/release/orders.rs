//! What operators may order, through the admin API and the command line, and how they are told that they may not.

use std::process::Output;

use super::*;
use crate::support::client::request;

fn quiet() -> (Origin, Origin, Gray) {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let release = between(&stable, &canary).steps(&[(10.0, "1h"), (50.0, "1h"), (100.0, "1h")]);
    (stable, canary, release)
}

/// Brings a release into a state by what users and operators do.
#[track_caller]
fn bring(state: &str) -> (Origin, Origin, World) {
    let (stable, canary, release) = quiet();
    let wait = if state == "held" { "[release.v2.judge]\nmax_wait = \"100ms\"" } else { "" };
    let steps = if state == "held" {
        [(10.0, "0s"), (50.0, "1h"), (100.0, "1h")]
    } else {
        [(10.0, "1h"), (50.0, "1h"), (100.0, "1h")]
    };
    let world = release.steps(&steps).table(wait).start();
    match state {
        "paused" => drop(order(&world, "pause")),
        "aborted" => drop(order(&world, "abort")),
        "promoted" => (0..3).for_each(|_| drop(order(&world, "promote"))),
        "rolled_back" => {
            canary.does(Act::status(500));
            Users::new(500, 800).while_(&world, || becomes(&world, state));
            canary.does(Act::ok());
        }
        _ => {}
    }
    becomes(&world, state);
    (stable, canary, world)
}

#[track_caller]
fn refuses(world: &World, order: &str) {
    let before = view(world);
    let answer = try_order(world, order);
    let document = answer.json();
    assert_eq!((answer.status, answer.header("content-type")), (409, Some("application/problem+json")), "{document}");
    assert_eq!(document["type"], "urn:tollgate:problem:wrong_state");
    let (detail, state) = (document["detail"].as_str().unwrap_or_default(), before["state"].as_str().unwrap());
    assert!(detail.contains(order) && detail.contains(state), "{detail}");
    let now = view(world);
    assert_eq!((&now["state"], &now["step"]), (&before["state"], &before["step"]), "a refused order did something");
}

#[test]
fn promote_goes_step_by_step_to_the_end() {
    let (_stable, _canary, release) = quiet();
    let world = release.start();
    assert_eq!(stands(&world), ("running".into(), 1, 10.0));
    assert_eq!(order(&world, "promote"), ("running".into(), 2, 50.0));
    assert_eq!(order(&world, "promote"), ("running".into(), 3, 100.0));
    assert_eq!(order(&world, "promote"), ("promoted".into(), 3, 100.0));
    for user in ["u1", "u2", "u3"] {
        assert_eq!(server_of(&world, user), "canary");
    }
    ["promote", "pause", "resume"].iter().for_each(|order| refuses(&world, order));
    assert_eq!(order(&world, "abort"), ("aborted".into(), 3, 0.0));
    assert_eq!(server_of(&world, "u1"), "stable");
}

#[test]
fn an_abort_is_obeyed_by_the_very_next_request_from_every_state() {
    for state in ["running", "paused", "held", "promoted"] {
        let (_stable, canary, world) = bring(state);
        let user = a_user(&world, true);
        // A kept connection obeys too.
        let mut kept = world.connect();
        assert_eq!(kept.ask(&by(&user, "/")).unwrap().server(), "canary");
        let hits = canary.hits();
        assert_eq!(order(&world, "abort").0, "aborted");
        assert_eq!(kept.ask(&by(&user, "/")).unwrap().server(), "stable", "{state}");
        assert!(on_canary(&world, 100).iter().all(|on| !on));
        assert_eq!((canary.hits(), stands(&world).2), (hits, 0.0));
        assert_eq!(order(&world, "abort").0, "aborted", "once more changes nothing");
        ["pause", "promote"].iter().for_each(|order| refuses(&world, order));
        assert_eq!(order(&world, "resume"), ("running".into(), 1, 10.0), "it starts again at the first step");
    }
}

#[test]
fn what_was_rolled_back_starts_again_by_resume_alone() {
    let (_stable, canary, world) = bring("rolled_back");
    assert!(on_canary(&world, 100).iter().all(|on| !on));
    ["pause", "promote"].iter().for_each(|order| refuses(&world, order));
    assert_eq!(order(&world, "abort"), ("rolled_back".into(), 1, 0.0), "it is back already, and why stays known");
    let evidence = view(&world)["evidence"]["errors"].as_f64().unwrap();
    assert_eq!(order(&world, "resume"), ("running".into(), 1, 10.0));
    assert!(on_canary(&world, 100).iter().any(|on| *on));
    let fresh = view(&world)["evidence"]["errors"].as_f64().unwrap();
    assert!(evidence > 100.0 && fresh <= 1.5, "the evidence is not fresh: {evidence}, then {fresh}");
    // It is judged anew, of the same users.
    canary.does(Act::status(500));
    let crowd = Users::new(500, 800);
    crowd.while_(&world, || becomes(&world, "rolled_back"));
    crowd.noticed_nothing();
}

#[test]
fn pause_and_resume_are_refused_where_they_make_no_sense() {
    let (_stable, _canary, world) = bring("running");
    refuses(&world, "resume");
    assert_eq!(order(&world, "pause"), ("paused".into(), 1, 10.0));
    assert_eq!(order(&world, "pause"), ("paused".into(), 1, 10.0), "it is paused already");
    assert_eq!(order(&world, "promote"), ("paused".into(), 2, 50.0), "an operator may take the step himself");
    assert_eq!(order(&world, "resume"), ("running".into(), 2, 50.0));
    let (_stable, _canary, world) = bring("held");
    assert_eq!(order(&world, "promote"), ("running".into(), 2, 50.0));
}

#[test]
fn what_is_not_there_is_said() {
    let (_stable, _canary, release) = quiet();
    let world = release.start();
    for asked in [get("/api/v1/releases/v9"), post("/api/v1/releases/v9/abort", "")] {
        let answer = world.admin(asked);
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["type"], "urn:tollgate:problem:no_release");
        assert!(
            answer.json()["detail"].as_str().unwrap().contains("v2"),
            "it names those there are: {}",
            answer.text()
        );
    }
    assert_eq!(try_order(&world, "explode").status, 404);
    assert_eq!(world.admin(get("/api/v1/releases/v2/abort")).status, 405, "reading changes nothing");
    assert_eq!(world.admin(request("DELETE", "/api/v1/releases/v2")).status, 405);
    let foreign = post("/api/v1/releases/v2/abort", "").header("origin", "http://evil.example");
    assert_eq!(world.admin(foreign).status, 403, "no web page may abort a release");
    assert_eq!(stands(&world), ("running".into(), 1, 10.0));
}

#[test]
fn the_list_and_the_view_say_how_a_release_stands() {
    let (_stable, _canary, release) = quiet();
    let world = release.start();
    on_canary(&world, 200);
    let canary = on_canary(&world, 200).iter().filter(|on| **on).count() as u64;
    let seen = eventually("what was asked is counted", || {
        let view = view(&world);
        let of = |arm: &str, what: &str| view["arms"][arm][what].as_u64().unwrap_or_default();
        (of("stable", "requests") + of("canary", "requests") == 400).then_some(view.clone())
    });
    let arms = &seen["arms"];
    assert_eq!(
        (arms["canary"]["users"].as_u64(), arms["stable"]["users"].as_u64()),
        (Some(canary), Some(200 - canary))
    );
    assert_eq!((&arms["canary"]["errors"], &arms["stable"]["errors"]), (&0.into(), &0.into()));
    for arm in ["stable", "canary"] {
        let (p50, p99) = (arms[arm]["p50_ms"].as_f64().unwrap(), arms[arm]["p99_ms"].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99, "{arms}");
    }
    for signal in ["errors", "refusals", "latency", "feedback"] {
        assert!(seen["evidence"][signal].as_f64().is_some_and(|e| e < 100.0), "{seen:#}");
    }
    assert!(seen["waits_for"].as_str().is_some_and(|text| text.starts_with("hold: ")), "{seen:#}");
    let list = world.admin(get("/api/v1/releases")).json();
    assert_eq!((list.as_array().map(Vec::len), &list[0]["name"]), (Some(1), &"v2".into()));
    let without = World::start(
        r"
    [route.all]
    respond = {}
    ",
    );
    assert_eq!(without.admin(get("/api/v1/releases")).text(), "[]");
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_command_line_orders_and_shows() {
    let (_stable, _canary, release) = quiet();
    let world = release.start();
    let run = |arguments: &[&str]| world.cli(&[&["release"], arguments, &["-c", "tollgate.toml"]].concat());
    let list = run(&["list"]);
    assert_eq!(code(&list), 0, "{}", error(&list));
    assert!(out(&list).lines().any(|line| line.contains("v2") && line.contains("running") && line.contains("1/3")));
    let json = run(&["list", "--json"]);
    let parsed: Value = serde_json::from_str(&out(&json)).expect("JSON");
    assert_eq!((code(&json), &parsed[0]["name"], &parsed[0]["percent"]), (0, &"v2".into(), &10.0.into()));
    for (word, state, step, percent) in [
        ("pause", "paused", 1, 10.0),
        ("resume", "running", 1, 10.0),
        ("promote", "running", 2, 50.0),
        ("abort", "aborted", 2, 0.0),
    ] {
        let done = run(&[word, "v2"]);
        assert_eq!(code(&done), 0, "{word}: {}", error(&done));
        assert!(out(&done).contains(state), "{word}: {}", out(&done));
        assert_eq!(stands(&world), (state.to_owned(), step, percent));
        let shown: Value = serde_json::from_str(&out(&run(&["show", "v2", "--json"]))).expect("JSON");
        assert_eq!((&shown["state"], &shown["step"]), (&state.into(), &step.into()));
    }
    assert!(out(&run(&["show", "v2"])).contains("v2 is aborted"));
    assert!(out(&run(&["resume", "v2", "--json"])).contains("\"running\""));
}

#[test]
fn the_command_line_says_no_with_one_and_wrong_use_with_two() {
    let (_stable, _canary, release) = quiet();
    let mut world = release.start();
    order(&world, "abort");
    let url = format!("http://127.0.0.1:{}", world.admin_port);
    let conf = ["-c", "tollgate.toml"];
    let run = |world: &World, arguments: &[&str]| world.cli(&[&["release"], arguments].concat());
    let refused = run(&world, &["promote", "v2", conf[0], conf[1]]);
    assert_eq!(code(&refused), 1);
    assert!(error(&refused).contains("aborted"), "{}", error(&refused));
    let unknown = run(&world, &["show", "v9", conf[0], conf[1]]);
    assert_eq!(code(&unknown), 1);
    assert!(error(&unknown).contains("v9") && error(&unknown).contains("v2"), "{}", error(&unknown));
    let json = run(&world, &["abort", "v9", "--json", conf[0], conf[1]]);
    let document: Value = serde_json::from_str(&out(&json)).expect("JSON");
    assert_eq!((code(&json), &document["status"]), (1, &404.into()));
    for wrong in [&["explode", "v2"][..], &["show"], &["pause"], &[], &["list"]] {
        let output = run(&world, wrong);
        assert_eq!(code(&output), 2, "{wrong:?}: {} {}", out(&output), error(&output));
        assert!(!error(&output).is_empty());
    }
    let by_address = run(&world, &["show", "v2", "--admin", &url]);
    assert_eq!(code(&by_address), 0, "{}", error(&by_address));
    assert_eq!(code(&run(&world, &["resume", "v2", "--admin", &url])), 0);
    assert_eq!(stands(&world).0, "running");
    world.stop();
    let gone = run(&world, &["list", "--admin", &url]);
    assert_eq!(code(&gone), 1);
    assert!(error(&gone).contains("is the gateway running"), "{}", error(&gone));
}

#[test]
fn orders_through_the_command_line_bring_the_token() {
    let (_stable, _canary, release) = quiet();
    let mut world = World::prepare();
    world.write_as("admin.token", b"s3cret\n");
    world.token = Some("s3cret".into());
    world.boot(&format!(
        r#"
    [admin]
    address = "$ADMIN"
    token_file = "admin.token"
    {}"#,
        release.text()
    ));
    let done = world.cli(&["release", "pause", "v2", "-c", "tollgate.toml"]);
    assert_eq!(code(&done), 0, "{}", error(&done));
    let url = format!("http://127.0.0.1:{}", world.admin_port);
    assert_eq!(code(&world.cli(&["release", "abort", "v2", "--admin", &url])), 1, "without the token");
    let named = world.cli(&["release", "abort", "v2", "--admin", &url, "--token-file", "admin.token"]);
    assert_eq!(code(&named), 0, "{}", error(&named));
    assert_eq!(stands(&world).0, "aborted");
    eventually("who it was", || world.messages().contains("release v2: abort by tester").then_some(()));
}
