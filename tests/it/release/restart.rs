//! What a release has come to is kept: over a kill, a restart, a reload, and its absence from the file.

use rustix::process::Signal;

use super::*;

const STEPS: [(f64, &str); 3] = [(10.0, "1h"), (50.0, "1h"), (100.0, "1h")];

fn quiet() -> (Origin, Origin, Gray) {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let release = between(&stable, &canary).steps(&STEPS);
    (stable, canary, release)
}

/// Has the gateway take the release back, and waits until that is on the disk.
#[track_caller]
fn spoil(world: &World, canary: &Origin) {
    canary.does(Act::status(500));
    let crowd = Users::new(500, 800);
    crowd.while_(world, || becomes(world, "rolled_back"));
    crowd.noticed_nothing();
    canary.does(Act::ok());
    eventually("the state on the disk", || {
        let text = std::fs::read_to_string(world.path("state/releases.json")).unwrap_or_default();
        text.contains("rolled_back").then_some(())
    });
}

fn kill_and_run(world: &mut World) {
    world.signal(Signal::KILL);
    world.ended();
    assert!(world.run(), "{}", world.messages());
}

#[test]
fn step_and_state_survive_a_kill() {
    let (_stable, _canary, release) = quiet();
    let mut world = release.start();
    order(&world, "promote");
    let on = on_canary(&world, 200);
    kill_and_run(&mut world);
    assert_eq!(stands(&world), ("running".into(), 2, 50.0));
    assert_eq!(on_canary(&world, 200), on);
    let began = view(&world)["began_at"].clone();
    for (word, expected) in [("pause", ("paused", 2, 50.0)), ("abort", ("aborted", 2, 0.0))] {
        order(&world, word);
        kill_and_run(&mut world);
        assert_eq!(stands(&world), (expected.0.to_owned(), expected.1, expected.2));
        assert_eq!(view(&world)["began_at"], began, "it did not begin again");
    }
    order(&world, "resume");
    (0..3).for_each(|_| drop(order(&world, "promote")));
    kill_and_run(&mut world);
    assert_eq!(stands(&world), ("promoted".into(), 3, 100.0));
    assert_eq!(server_of(&world, "u1"), "canary");
}

#[test]
fn the_step_goes_on_lasting_over_a_restart() {
    let (_stable, _canary, release) = quiet();
    let mut world = release.start();
    let lasted = |world: &World| view(world)["step_seconds"].as_u64().unwrap();
    eventually("two seconds", || (lasted(&world) >= 2).then_some(()));
    world.stop();
    assert!(world.run());
    assert!(lasted(&world) >= 2, "{}", lasted(&world));
}

#[test]
fn what_was_taken_back_stays_so_over_reload_absence_and_restart() {
    let (stable, canary, release) = quiet();
    let mut world = release.start();
    spoil(&world, &canary);
    let report = view(&world)["report"].clone();
    let stays_back = |world: &World, after: &str| {
        assert_eq!(stands(world), ("rolled_back".into(), 1, 0.0), "after {after}");
        assert_eq!(view(world)["report"], report, "after {after}");
        assert!(on_canary(world, 100).iter().all(|on| !on), "after {after}");
    };
    world.push(
        &release
            .clone()
            .table(
                r#"
    [route.more]
    paths = ["/more"]
    respond = {}"#,
            )
            .text(),
    );
    stays_back(&world, "a reload");
    let without = |text: &str| text.split("[release.v2]").next().unwrap().to_owned();
    world.push(&without(&release.text()));
    assert_eq!(world.admin(get("/api/v1/releases/v2")).status, 404);
    assert_eq!(server_of(&world, "u1"), "stable");
    world.push(&release.text());
    stays_back(&world, "being pushed again");
    kill_and_run(&mut world);
    stays_back(&world, "a kill");
    // Gone while the process starts, and back only later.
    world.push(&without(&release.text()));
    world.stop();
    assert!(world.run());
    world.push(&release.text());
    stays_back(&world, "a restart without it");
    // What may change without making another release of it.
    world.push(&release.clone().steps(&[(20.0, "1s"), (100.0, "1s")]).table("[release.v2.judge]\nslo = \"1s\"").text());
    stays_back(&world, "other steps");
    world.push(&release.clone().key("salt = \"second try\"").text());
    assert_eq!(stands(&world), ("running".into(), 1, 10.0), "another definition starts");
    assert!(on_canary(&world, 100).iter().any(|on| *on));
    drop(stable);
}

#[test]
fn another_definition_starts_again_and_anything_else_goes_on() {
    let (_stable, canary, release) = quiet();
    let third = Origin::start("third");
    let also = format!("[upstream.third]\nservers = [{:?}]", third.address());
    let release = release.table(&also);
    let world = release.start();
    order(&world, "promote");
    let on = on_canary(&world, 200);
    for (what, same) in [
        ("steps", release.clone().steps(&[(5.0, "1h"), (50.0, "2h"), (70.0, "1h")])),
        (
            "judge",
            release.clone().table(
                r#"
        [release.v2.judge]
        slo = "1s"
        min_users = 3"#,
            ),
        ),
        ("rescue", release.clone().key("rescue = { budget_percent = 50 }")),
        ("holdback", release.clone().key("holdback = 5")),
    ] {
        world.push(&same.text());
        assert_eq!(stands(&world), ("running".into(), 2, 50.0), "{what}");
        assert_eq!(on_canary(&world, 200), on, "{what}");
    }
    for (what, other) in [
        ("canary", release.text().replace("canary = \"canary\"", "canary = \"third\"")),
        ("user", release.clone().key("user = [\"header:x-user-id\", \"ip\"]").text()),
        ("hash", release.clone().key("hash = \"flagd2\"").text()),
        ("salt", release.clone().key("salt = \"other\"").text()),
        (
            "layer",
            release
                .clone()
                .steps(&[(10.0, "1h"), (50.0, "1h")])
                .key("layer = { name = \"l\", from = 0, to = 60 }")
                .text(),
        ),
    ] {
        world.push(&release.text());
        while stands(&world).1 < 2 {
            order(&world, "promote");
        }
        world.push(&other);
        assert_eq!(stands(&world), ("running".into(), 1, 10.0), "another {what} is another release");
    }
    drop(canary);
}

#[test]
fn a_broken_state_file_does_not_keep_the_gateway_from_serving() {
    let (_stable, _canary, release) = quiet();
    let mut world = release.start();
    order(&world, "promote");
    world.stop();
    world.write_as("state/releases.json", b"{ half");
    assert!(world.run(), "{}", world.messages());
    assert_eq!(stands(&world), ("aborted".into(), 1, 0.0), "it may have been taken back");
    assert!(world.messages().contains("releases.json"), "it is said: {}", world.messages());
    assert!(world.path("state/releases.json.unreadable").exists());
    order(&world, "resume");
    order(&world, "promote");
    world.stop();
    assert!(world.run());
    assert_eq!(stands(&world), ("running".into(), 2, 50.0));
}
