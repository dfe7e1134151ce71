//! A user stays on one version: while the share grows, when it shrinks, on every gateway, after a restart.

use super::*;

const USERS: usize = 1000;
const STEPS: [(f64, &str); 4] = [(1.0, "1h"), (5.0, "1h"), (25.0, "1h"), (100.0, "1h")];
/// Who moves is not the judge's business here.
const NO_JUDGE: &str = "[release.v2.judge]\non_fail = \"report\"";

fn origins() -> (Origin, Origin) {
    let both = (Origin::start("stable"), Origin::start("canary"));
    both.0.forget();
    both.1.forget();
    both
}

/// Users of `after` who were not in `before`.
fn joined(before: &[bool], after: &[bool]) -> usize {
    before.iter().zip(after).filter(|(before, after)| !**before && **after).count()
}

/// Within three standard deviations of what chance gives.
#[track_caller]
fn is_share(on: &[bool], percent: f64) {
    let (p, all) = (percent / 100.0, on.len() as f64);
    let count = on.iter().filter(|on| **on).count() as f64;
    assert!((count - p * all).abs() <= 3.0 * (all * p * (1.0 - p)).sqrt(), "{count} of {all} are not {percent} %");
}

#[test]
fn a_growing_share_takes_nobody_away_and_a_shrinking_one_only_the_newest() {
    let (stable, canary) = origins();
    let release = between(&stable, &canary).table(NO_JUDGE);
    let world = release.clone().steps(&STEPS).start();
    let mut shares = vec![on_canary(&world, USERS)];
    for (step, (percent, _)) in STEPS.iter().enumerate().skip(1) {
        assert_eq!(order(&world, "promote"), ("running".into(), step as u64 + 1, *percent));
        shares.push(on_canary(&world, USERS));
        assert_eq!(joined(&shares[step], &shares[step - 1]), 0, "somebody was taken off the canary by step {step}");
    }
    shares.iter().zip(STEPS).for_each(|(on, (percent, _))| is_share(on, percent));
    // The last step's percent is written smaller: the newest leave, down to who came first.
    let mut newest = shares[3].clone();
    for share in [60.0, 25.5, 25.1] {
        world.push(&release.clone().steps(&[(1.0, "1h"), (5.0, "1h"), (25.0, "1h"), (share, "1h")]).text());
        assert_eq!(stands(&world), ("running".into(), 4, share), "another share keeps the step");
        let on = on_canary(&world, USERS);
        is_share(&on, share);
        assert_eq!((joined(&newest, &on), joined(&on, &shares[2])), (0, 0), "somebody came, or an older one left");
        newest = on;
    }
    world.push(&release.clone().steps(&[(1.0, "1h"), (2.0, "1h"), (3.0, "1h"), (5.0, "1h")]).text());
    assert_eq!(on_canary(&world, USERS), shares[1], "5 % are the same users, however they were reached");
    world.push(&release.clone().steps(&[(1.0, "1h")]).text());
    assert_eq!(stands(&world), ("running".into(), 1, 1.0), "a step that is gone becomes the last one");
    assert_eq!(on_canary(&world, USERS), shares[0]);
    order(&world, "abort");
    assert!(on_canary(&world, USERS).iter().all(|on| !on));
}

#[test]
fn another_gateway_and_the_same_one_after_reload_and_restart_give_the_same_arms() {
    let (stable, canary) = origins();
    let release = between(&stable, &canary).steps(&STEPS).table(NO_JUDGE);
    let (mut world, other) = (release.start(), release.start());
    for world in [&world, &other] {
        order(world, "promote");
        assert_eq!(order(world, "promote"), ("running".into(), 3, 25.0));
    }
    let on = on_canary(&world, USERS);
    assert_eq!(on_canary(&other, USERS), on, "two gateways disagree");
    let revision = world.revision();
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
    assert!(world.revision() > revision);
    assert_eq!(on_canary(&world, USERS), on, "a reload moved somebody");
    world.stop();
    assert!(world.run());
    assert_eq!(stands(&world), ("running".into(), 3, 25.0));
    assert_eq!(on_canary(&world, USERS), on, "a restart moved somebody");
}

#[test]
fn a_user_is_on_one_arm_whatever_he_asks() {
    let (stable, canary) = origins();
    let more = r#"
    [route.cart]
    paths = ["/cart/*"]
    methods = ["GET", "POST"]
    upstream = "stable""#;
    let both = between(&stable, &canary).steps(&[(50.0, "1h")]).table(more).text();
    let world = World::start(&both.replace("routes = [\"shop\"]", "routes = [\"shop\", \"cart\"]"));
    for user in 0..100 {
        let user = format!("u{user}");
        let server = server_of(&world, &user);
        for path in ["/a", "/a?b=c", "/cart/7"] {
            assert_eq!(world.ask(by(&user, path)).server(), server, "{user} {path}");
        }
        let order = post("/cart/7", "one").header("x-user-id", &user);
        assert_eq!(world.ask(order).server(), server, "{user}");
    }
}

#[test]
fn releases_of_one_layer_share_no_user() {
    let (stable, canary, third) = (Origin::start("stable"), Origin::start("canary"), Origin::start("third"));
    let layer = |from: u8, to: u8| format!("layer = {{ name = \"checkout\", from = {from}, to = {to} }}");
    let second = format!(
        r#"
        [upstream.third]
        servers = [{:?}]
        [release.v3]
        routes = ["shop"]
        canary = "third"
        user = ["header:x-user-id"]
        {}
        steps = [{{ percent = 30, hold = "1h" }}]"#,
        third.address(),
        layer(50, 100)
    );
    let world = between(&stable, &canary).steps(&[(20.0, "1h")]).key(&layer(0, 50)).table(&second).start();
    let mut counts = std::collections::BTreeMap::new();
    for user in 0..USERS {
        *counts.entry(server_of(&world, &format!("u{user}"))).or_insert(0.0) += 1.0;
    }
    for (server, percent) in [("canary", 20.0), ("third", 30.0), ("stable", 50.0)] {
        let p: f64 = percent / 100.0;
        let sigma = (USERS as f64 * p * (1.0 - p)).sqrt();
        assert!((counts[server] - USERS as f64 * p).abs() <= 3.0 * sigma, "{counts:?}");
    }
    // The first is taken back: its users go to stable, and nobody moves between canaries.
    let third_before: Vec<bool> = (0..200).map(|user| server_of(&world, &format!("u{user}")) == "third").collect();
    order(&world, "abort");
    for (user, third) in third_before.iter().enumerate() {
        let expected = if *third { "third" } else { "stable" };
        assert_eq!(server_of(&world, &format!("u{user}")), expected, "u{user}");
    }
}
