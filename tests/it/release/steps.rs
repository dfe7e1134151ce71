//! Steps that follow each other by themselves: what they wait for, and what holds them.

use super::*;

/// A healthy release: a first step that has enough users, and short holds.
fn healthy() -> (Origin, Origin) {
    let both = (Origin::start("stable"), Origin::start("canary"));
    both.0.forget();
    both.1.forget();
    both
}

const FEW: &str = r"
[release.v2.judge]
min_users = 5
false_alarm = 0.000001";

#[test]
fn a_healthy_canary_goes_to_everybody_and_nobody_notices() {
    let (stable, canary) = healthy();
    let steps = [(40.0, "300ms"), (60.0, "300ms"), (100.0, "300ms")];
    let world = between(&stable, &canary).steps(&steps).table(FEW).start();
    let crowd = Users::new(1000, 1000);
    let mut seen = vec![];
    crowd.while_(&world, || {
        let promoted = within(LONG, || {
            let now = stands(&world);
            if seen.last() != Some(&now) {
                seen.push(now.clone());
            }
            (now.0 == "promoted").then_some(())
        });
        assert!(promoted.is_some(), "{:#}", view(&world));
        // It is for good: everybody stays on the canary.
        let (before, sent) = (stable.hits(), crowd.answered());
        crowd.goes_round();
        assert!(stable.hits() - before <= 8 && crowd.answered() > sent, "stable still gets requests");
    });
    crowd.noticed_nothing();
    let expected: Vec<(String, u64, f64)> =
        [("running", 1, 40.0), ("running", 2, 60.0), ("running", 3, 100.0), ("promoted", 3, 100.0)]
            .map(|(state, step, percent)| (state.to_owned(), step, percent))
            .to_vec();
    assert_eq!(seen, expected);
    let view = view(&world);
    assert_eq!((&view["rescued"], &view["not_rescued"], &view["report"]), (&0.into(), &0.into(), &Value::Null));
    assert_eq!(world.metric("tollgate_release_percent", &["release=\"v2\""]), 100.0);
    assert_eq!(world.metric("tollgate_release_state", &["state=\"promoted\""]), 1.0);
    assert_eq!(world.metric("tollgate_release_state", &["release=\"v2\""]), 1.0, "it is in one state");
}

#[test]
fn hold_is_a_minimum() {
    let (stable, canary) = healthy();
    let world = between(&stable, &canary).steps(&[(50.0, "6s"), (60.0, "1h")]).table(FEW).start();
    let begun = Instant::now();
    let crowd = Users::new(1000, 1000);
    crowd.while_(&world, || {
        let waits = || view(&world)["waits_for"].as_str().unwrap_or_default().to_owned();
        let ready = within(Duration::from_secs(6), || Some(waits()).filter(|text| !text.contains(';')));
        if let Some(text) = ready {
            // The evidence is there; the time is not over.
            assert!(text.starts_with("hold: ") || stands(&world).1 == 2, "{text}");
        }
        assert!(within(LONG, || (stands(&world).1 == 2).then_some(())).is_some(), "{:#}", view(&world));
    });
    assert!(begun.elapsed() >= Duration::from_millis(5900), "the step lasted only {:?}", begun.elapsed());
    crowd.noticed_nothing();
}

#[test]
fn a_paused_release_takes_no_step_until_it_is_resumed() {
    let (stable, canary) = healthy();
    let world = between(&stable, &canary).steps(&[(50.0, "0s"), (60.0, "1h")]).table(FEW).start();
    assert_eq!(order(&world, "pause"), ("paused".into(), 1, 50.0));
    let crowd = Users::new(1000, 1000);
    crowd.while_(&world, || {
        assert!(wait::stays(Duration::from_secs(5), || stands(&world) == ("paused".into(), 1, 50.0)));
        assert_eq!(order(&world, "resume"), ("running".into(), 1, 50.0));
        assert!(within(LONG, || (stands(&world) == ("running".into(), 2, 60.0)).then_some(())).is_some());
    });
    crowd.noticed_nothing();
}

#[test]
fn a_paused_release_is_still_judged() {
    let (stable, canary) = healthy();
    let world = between(&stable, &canary).start();
    order(&world, "pause");
    canary.does(Act::status(500));
    let crowd = Users::new(500, 800);
    crowd.while_(&world, || becomes(&world, "rolled_back"));
    crowd.noticed_nothing();
}

#[test]
fn too_few_users_end_on_hold_and_that_is_said() {
    let (stable, canary) = healthy();
    let judge = r#"
    [release.v2.judge]
    min_users = 1000
    max_wait = "400ms""#;
    let world = between(&stable, &canary).steps(&[(50.0, "0s"), (100.0, "1h")]).table(judge).start();
    let user = a_user(&world, true);
    let held = becomes(&world, "held");
    assert_eq!((&held["step"], &held["percent"]), (&1.into(), &50.0.into()), "users stay where they are");
    assert_eq!(server_of(&world, &user), "canary");
    assert!(held["report"].is_string(), "{held:#}");
    let said = eventually("the report in the log", || {
        world.messages().lines().find(|line| line.contains("release v2: held:")).map(str::to_owned)
    });
    assert!(said.contains("1000 on the canary") && said.contains("step 1"), "{said}");
    // A later one is another step, with a wait of its own.
    assert_eq!(order(&world, "promote"), ("running".into(), 2, 100.0));
    assert!(
        wait::stays(Duration::from_secs(1), || stands(&world).0 == "running"),
        "at the last step hold alone counts"
    );
}
