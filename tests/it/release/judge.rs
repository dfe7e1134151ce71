//! The judge seen from outside: what follows its verdicts, who is its control, and what users tell it.

use super::*;
use crate::support::nginx::Nginx;

fn healthy() -> (Origin, Origin) {
    let both = (Origin::start("stable"), Origin::start("canary"));
    both.0.forget();
    both.1.forget();
    both
}

#[test]
fn on_fail_hold_stops_the_steps_and_leaves_users_where_they_are() {
    let (stable, canary) = healthy();
    canary.does(Act::status(500));
    let world = between(&stable, &canary).table("[release.v2.judge]\non_fail = \"hold\"").start();
    let crowd = Users::new(500, 800);
    crowd.while_(&world, || {
        let held = becomes(&world, "held");
        assert_eq!((&held["percent"], held["report"].is_string()), (&10.0.into(), true), "{held:#}");
        let hits = canary.hits();
        crowd.goes_round();
        assert!(canary.hits() > hits, "users stay on the canary, and stable answers for it");
        assert!(wait::stays(Duration::from_secs(1), || stands(&world) == ("held".into(), 1, 10.0)));
        assert_eq!(order(&world, "abort"), ("aborted".into(), 1, 0.0));
    });
    crowd.noticed_nothing();
}

#[test]
fn on_fail_report_only_tells() {
    let (stable, canary) = healthy();
    canary.does(Act::status(500));
    let world = between(&stable, &canary).table("[release.v2.judge]\non_fail = \"report\"").start();
    let crowd = Users::new(500, 800);
    crowd.while_(&world, || {
        eventually("a report", || view(&world)["report"].is_string().then_some(()));
        assert!(wait::stays(Duration::from_secs(2), || stands(&world) == ("running".into(), 1, 10.0)));
    });
    crowd.noticed_nothing();
    let told = || world.messages().lines().filter(|line| line.contains("release v2: reported: ")).count();
    eventually("the report in the log", || (told() > 0).then_some(()));
    assert_eq!(told(), 1, "a verdict is told once: {}", world.messages());
}

#[test]
fn a_slow_canary_is_taken_back() {
    let (stable, canary) = healthy();
    canary.script(|_| {
        std::thread::sleep(Duration::from_millis(60));
        Act::ok()
    });
    let world = between(&stable, &canary)
        .steps(&[(20.0, "1h")])
        .table(
            r#"
        [release.v2.judge]
        slo = "50ms"
        settle = "0s""#,
        )
        .start();
    let crowd = Users::new(400, 600);
    crowd.while_(&world, || becomes(&world, "rolled_back"));
    crowd.noticed_nothing();
    assert_eq!(view(&world)["rescued"], 0);
    let said = eventually("the reason in the log", || {
        world.messages().lines().find(|line| line.contains("release v2: rolled_back:")).map(str::to_owned)
    });
    assert!(said.contains("latency"), "{said}");
}

#[test]
fn a_holdback_keeps_a_control_that_finds_a_late_fault() {
    let (stable, canary) = healthy();
    let release = between(&stable, &canary).steps(&[(50.0, "1h"), (100.0, "1h")]).key("holdback = 5");
    let world = release.start();
    assert_eq!(order(&world, "promote"), ("running".into(), 2, 95.0));
    let crowd = Users::new(600, 1000);
    crowd.while_(&world, || {
        let hits = stable.hits();
        crowd.goes_round();
        assert!(stable.hits() > hits, "nobody is left on stable");
        canary.does(Act::status(500));
        let fault = Instant::now();
        taken_back(&world, &crowd, || Some(fault));
    });
    crowd.noticed_nothing();
}

#[test]
fn with_everybody_on_the_canary_a_fault_is_told_and_nothing_taken_back() {
    let (stable, canary) = healthy();
    let world = between(&stable, &canary).steps(&[(50.0, "1h"), (100.0, "1h")]).start();
    let crowd = Users::new(400, 1000);
    crowd.while_(&world, || {
        // Five hundred user-seconds of stable are what the canary is held against later.
        (0..12).for_each(|_| crowd.goes_round());
        assert_eq!(order(&world, "promote"), ("running".into(), 2, 100.0));
        crowd.goes_round();
        canary.does(Act::status(500));
        eventually("a report", || view(&world)["report"].is_string().then_some(()));
        assert!(wait::stays(Duration::from_secs(1), || stands(&world).2 == 100.0));
    });
    crowd.noticed_nothing();
    assert!(
        world.messages().contains("release v2: reported: canary does worse than stable did"),
        "{}",
        world.messages()
    );
}

/// The same program on both arms, on a machine that has other things to do: a canary that is asked less is woken more
/// slowly, by fractions of a millisecond. That is no fault of a version.
#[test]
fn an_identical_canary_is_left_alone() {
    let (stable, canary) = (Nginx::start("stable"), Nginx::start("canary"));
    // Warm from the start, else nobody's answers would be timed within the seven seconds.
    let warm = "[release.v2.judge]\nsettle = \"0s\"";
    let world = gray(&[stable.address()], &[canary.address()]).table(warm).start();
    let crowd = Users::new(20_000, 8_000);
    crowd.while_(&world, || {
        assert!(
            wait::stays(Duration::from_secs(7), || stands(&world) == ("running".into(), 1, 10.0)),
            "{:#}",
            view(&world)
        );
    });
    crowd.noticed_nothing();
}

/// What was seen before a share changed must not be held against what is seen after it: at 100 % all that was slow is
/// the canary's, whatever made it slow.
#[test]
fn a_slow_moment_before_the_share_shrinks_blames_nobody() {
    let (stable, canary) = healthy();
    let release = between(&stable, &canary);
    let world = release.clone().steps(&[(50.0, "1h"), (100.0, "1h")]).start();
    let ask = |name: &str, users: usize| {
        std::thread::scope(|scope| {
            for first in 0..8 {
                let world = &world;
                scope.spawn(move || {
                    let mut connection = world.connect();
                    for user in (first..users).step_by(8) {
                        assert_eq!(connection.ask(&by(&format!("{name}{user}"), "/")).unwrap().status, 200);
                    }
                });
            }
        });
    };
    ask("early", 1600);
    // A window ends, and with it stable's quantiles are known.
    eventually("a second", || (view(&world)["step_seconds"].as_u64() > Some(2)).then_some(()));
    order(&world, "promote");
    canary.script(|_| {
        std::thread::sleep(Duration::from_millis(15));
        Act::ok()
    });
    ask("slow", 32);
    world.push(&release.steps(&[(50.0, "1h"), (60.0, "1h")]).text());
    canary.does(Act::ok());
    ask("late", 200);
    assert!(
        wait::stays(Duration::from_secs(2), || stands(&world) == ("running".into(), 2, 60.0)),
        "{}",
        world.messages()
    );
}

fn feedback(world: &World, body: &str) -> Answer {
    world.admin(post("/api/v1/feedback", body).header("content-type", "application/json"))
}

#[test]
fn bad_feedback_of_the_canarys_users_takes_it_back() {
    let (stable, canary) = healthy();
    let world = between(&stable, &canary).steps(&[(20.0, "1h")]).start();
    let on = on_canary(&world, 300);
    for (user, canary) in on.iter().enumerate() {
        let score = if *canary { 0.2 } else { 0.9 };
        let answer = feedback(&world, &format!("{{\"user\": \"u{user}\", \"score\": {score}, \"release\": \"v2\"}}"));
        let arm = if *canary { "canary" } else { "stable" };
        let counted = answer.json()["counted"].clone();
        // Once it is taken back everybody is on stable.
        assert!(answer.status == 200 && counted[0]["release"] == "v2", "{}", answer.text());
        assert!(counted[0]["arm"] == arm || stands(&world).0 == "rolled_back", "{}", answer.text());
    }
    becomes(&world, "rolled_back");
    let said = eventually("the reason in the log", || {
        world.messages().lines().find(|line| line.contains("release v2: rolled_back:")).map(str::to_owned)
    });
    assert!(said.contains("feedback"), "{said}");
    assert_eq!(view(&world)["arms"]["canary"]["errors"], 0);
}

#[test]
fn bad_feedback_of_everybody_takes_nothing_back() {
    let (stable, canary) = healthy();
    let world = between(&stable, &canary).steps(&[(20.0, "1h")]).start();
    for user in 0..300 {
        let score = if user % 3 == 0 { 0.9 } else { 0.0 };
        assert_eq!(feedback(&world, &format!("{{\"user\": \"u{user}\", \"score\": {score}}}")).status, 200);
    }
    assert!(wait::stays(Duration::from_secs(2), || stands(&world).0 == "running"), "{:#}", view(&world));
}

#[test]
fn feedback_that_makes_no_sense_is_refused() {
    let (stable, canary) = healthy();
    let mut world = World::prepare();
    world.write_as("vip.txt", b"vip\n");
    world.boot(
        &between(&stable, &canary).key("exclude = [\"vip\"]").table("[cohort.vip]\nusers_file = \"vip.txt\"").text(),
    );
    for wrong in [
        "",
        "no JSON",
        "{}",
        "[]",
        "{\"user\": \"u1\"}",
        "{\"score\": 1}",
        "{\"user\": \"\", \"score\": 1}",
        "{\"user\": \"u1\", \"score\": 1.5}",
        "{\"user\": \"u1\", \"score\": -0.1}",
        "{\"user\": \"u1\", \"score\": \"good\"}",
        "{\"user\": 7, \"score\": 1}",
        "{\"user\": \"u1\", \"score\": 1, \"relase\": \"v2\"}",
        "{\"user\": \"u1\", \"score\": null}",
    ] {
        let answer = feedback(&world, wrong);
        assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/problem+json")), "{wrong}");
        assert_eq!(answer.json()["type"], "urn:tollgate:problem:bad_feedback", "{wrong}");
    }
    let unknown = feedback(&world, "{\"user\": \"u1\", \"score\": 1, \"release\": \"v9\"}");
    assert_eq!((unknown.status, &unknown.json()["type"]), (404, &"urn:tollgate:problem:no_release".into()));
    assert_eq!(world.admin(get("/api/v1/feedback")).status, 405);
    let excluded = feedback(&world, "{\"user\": \"vip\", \"score\": 0}");
    assert_eq!((excluded.status, &excluded.json()["counted"]), (200, &serde_json::json!([])), "not there by chance");
}

#[test]
fn feedback_on_stable_speaks_of_stable() {
    let (stable, canary) = healthy();
    let world = between(&stable, &canary).steps(&[(20.0, "1h")]).start();
    let (on, off) = (a_user(&world, true), a_user(&world, false));
    for (user, arm) in [(on, "canary"), (off, "stable")] {
        let answer = feedback(&world, &format!("{{\"user\": \"{user}\", \"score\": 1}}"));
        assert_eq!(answer.json()["counted"], serde_json::json!([{ "release": "v2", "arm": arm }]));
    }
}
