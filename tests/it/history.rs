//! Revisions: kept with who, when and what; gone back to; and what a start serves.

use std::fs;

use serde_json::Value;

use crate::support::*;

fn says(text: &str) -> String {
    format!("[route.all]\nrespond = {{ body = \"{text}\" }}\n")
}

fn history(world: &World) -> Vec<Value> {
    world.config()["history"].as_array().unwrap().clone()
}

#[test]
fn revisions_tell_who_when_and_what() {
    let world = World::start(&says("one"));
    world.push(&says("two"));
    let kept = history(&world);
    assert_eq!(kept.iter().map(|r| r["revision"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1], "newest first");
    let last = &kept[0];
    assert!(last["who"].as_str().is_some_and(|who| who == "127.0.0.1" || !who.is_empty()));
    let at = last["at"].as_str().unwrap();
    assert!(at.starts_with("20") && at.ends_with('Z') && at.contains('T'), "{at}");
    let diff = last["diff"].as_str().unwrap();
    assert!(diff.contains("-respond = { body = \"one\" }") && diff.contains("+respond = { body = \"two\" }"), "{diff}");
    let config = world.config();
    assert_eq!((&config["revision"], &config["state"]), (&2.into(), &"good".into()));
    assert!(config["loaded_at"].as_str().is_some_and(|at| at.ends_with('Z')));
}

#[test]
fn a_rollback_is_served_until_the_file_changes() {
    let mut world = World::start(&says("one"));
    world.push(&says("two"));
    world.push(&says("three"));
    let answer = world.admin(post("/api/v1/config/rollback", ""));
    assert_eq!((answer.status, answer.json()["revision"].as_u64()), (200, Some(2)));
    assert_eq!(world.ask(get("/")).text(), "two");
    world.write(&says("three"));
    assert_eq!(world.admin(post("/api/v1/config/reload", "")).json()["revision"], 2, "the same content is ignored");
    assert_eq!(world.ask(get("/")).text(), "two");

    world.stop();
    assert!(world.run());
    assert_eq!((world.ask(get("/")).text().as_str(), world.revision()), ("two", 2), "across a restart");
    let forced = world.admin(post("/api/v1/config/reload?force=true", ""));
    assert_eq!(forced.status, 200);
    assert_eq!(world.ask(get("/")).text(), "three", "unless a reload is forced");

    assert_eq!(world.admin(post("/api/v1/config/rollback?revision=1", "")).json()["revision"], 1);
    assert_eq!(world.ask(get("/")).text(), "one");
    world.write(&says("four"));
    eventually("a changed file is served again", || (world.ask(get("/")).text() == "four").then_some(()));
    let served = world.revision();
    let numbers = eventually("the served revision is kept", || {
        let numbers: Vec<u64> = history(&world).iter().map(|r| r["revision"].as_u64().unwrap()).collect();
        (numbers[0] == served).then_some(numbers)
    });
    assert!(numbers.windows(2).all(|pair| pair[0] > pair[1]), "{numbers:?} count up");
}

#[test]
fn a_revision_that_is_not_kept_is_refused() {
    let world = World::start(&says("one"));
    let answer = world.admin(post("/api/v1/config/rollback", ""));
    assert!(answer.status == 422 && answer.text().contains("no revision before"), "{}", answer.text());
    let answer = world.admin(post("/api/v1/config/rollback?revision=77", ""));
    assert!(answer.status == 422 && answer.text().contains("77 is not kept"), "{}", answer.text());
    assert_eq!(world.admin(post("/api/v1/config/rollback?revision=x", "")).status, 400);
    assert_eq!(world.admin(post("/api/v1/config/confirm", "")).json()["revision"], 1);
}

#[test]
fn the_oldest_revisions_go() {
    let config = |n: usize| format!("[reload]\nhistory = 3\n{}", says(&n.to_string()));
    let world = World::start(&config(0));
    (1..8).for_each(|n| world.push(&config(n)));
    let numbers: Vec<u64> = history(&world).iter().map(|r| r["revision"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [8, 7, 6]);
    assert_eq!(fs::read_dir(world.path("state/revisions")).unwrap().count(), 3);
}

#[test]
fn a_restart_makes_no_revision() {
    let mut world = World::start(&says("one"));
    world.push(&says("two"));
    world.stop();
    assert!(world.run());
    assert_eq!((world.revision(), history(&world).len()), (2, 2));
    world.stop();
    world.write(&says("three"));
    assert!(world.run());
    assert_eq!((world.revision(), history(&world)[0]["trigger"].as_str()), (3, Some("start")));
}

#[test]
fn a_bad_file_at_start_gives_way_to_the_last_good_revision() {
    let mut world = World::start(&says("one"));
    world.stop();
    world.write("[route.all]\nrespond = 7\n");
    assert!(world.run());
    assert_eq!(world.ask(get("/")).text(), "one");
    let error = world.config()["last_error"].clone();
    assert_eq!(error["trigger"], "start");
    assert!(error["findings"].as_array().is_some_and(|f| !f.is_empty()));
    world.write(&says("two"));
    eventually("the mended file is served", || (world.ask(get("/")).text() == "two").then_some(()));
}

#[test]
fn a_bad_file_and_no_good_revision_end_the_start_with_its_findings() {
    let mut world = World::prepare();
    world.write("[route.all]\nrespond = 7\nhostz = []\n");
    assert!(!world.run());
    assert_eq!(world.ended().code(), Some(1));
    let said = world.messages();
    assert!(said.contains("tollgate.toml:") && said.contains("hostz") && said.contains("2 findings"), "{said}");
}

#[test]
fn a_torn_history_costs_no_more_than_its_revision() {
    let mut world = World::start(&says("one"));
    world.push(&says("two"));
    world.stop();
    fs::write(world.path("state/revisions/1.json"), "{ torn").unwrap();
    fs::write(world.path("state/active.json"), "{ torn").unwrap();
    assert!(world.run());
    assert_eq!(world.ask(get("/")).text(), "two");
    assert!(world.revision() >= 2, "numbers are never given twice");
}
