//! Who is on the canary, at the size of a real user base.

use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::cohort::UserSet;
use crate::settings::{JudgeRules, Layer, OnFail, Rule, Step};
use crate::shared_state::Stage;
use balance::attempt::FailureSet;
use base::finding::Place;
use base::units::Share;

const USERS: usize = 100_000;

fn points(percent: f64) -> BasisPoints {
    BasisPoints::percent(percent).unwrap()
}

fn release(name: &str) -> Release {
    Release {
        name: name.into(),
        routes: vec![0],
        canary: 1,
        user: vec![UserSource::Header("x-user-id".parse().unwrap()), UserSource::Cookie("uid".into()), UserSource::Ip],
        hash: Hash::Xxh3,
        salt: Some(name.to_owned()),
        definition: String::new(),
        former_definition: String::new(),
        include: vec![],
        exclude: vec![],
        layer: None,
        steps: [1.0, 5.0, 25.0, 100.0].map(|p| Step { percent: points(p), hold: Duration::ZERO }).to_vec(),
        holdback: BasisPoints::NONE,
        rescue: Rescue {
            on: FailureSet { connect: true, reset: true, timeout: true, statuses: vec![] },
            methods: vec![],
            budget: Share::ALL,
        },
        judge: JudgeRules {
            false_alarm: 0.001,
            slo: None,
            settle: Duration::ZERO,
            min_users: 20,
            max_wait: Duration::from_secs(86_400),
            on_fail: OnFail::Rollback,
        },
        place: Place::file("test.toml"),
    }
}

fn plan_with(release: &Release, cohorts: usize) -> Assignment {
    let asked: Vec<usize> = (0..cohorts).collect();
    Assignment {
        name: release.name.clone(),
        canary: release.canary,
        rescue: release.rescue.clone(),
        settle: release.judge.settle,
        live: Arc::default(),
        sources: release.user.clone(),
        hash: release.hash,
        salt: release.salt().as_bytes().into(),
        range: Range::of(release),
        roles: roles(release, asked),
    }
}

fn at_step(plan: &Assignment, release: &Release, step: usize) {
    plan.live.set_stage(Stage { border: border_at(release, step), open: true, unkeyed: false, step: 1 });
}

/// Users on the canary.
fn on_canary(plan: &Assignment) -> HashSet<usize> {
    let none = HeaderMap::new();
    let decide = |user: &String| plan.decide_for(&[], Some(user.as_bytes()), &RequestView::of(&none)).arm;
    (0..USERS).filter(|n| decide(&format!("user-{n}")) == Arm::Canary).collect()
}

#[test]
fn users_stay_through_a_ramp_and_only_the_newest_leave_on_the_way_back() {
    let release = release("orders-v2");
    let plan = plan_with(&release, 0);
    let mut ramp: Vec<HashSet<usize>> = vec![];
    for (step, share) in [0.01, 0.05, 0.25, 1.0].into_iter().enumerate() {
        at_step(&plan, &release, step);
        let users = on_canary(&plan);
        let sigma = (USERS as f64 * share * (1.0 - share)).sqrt();
        assert!((users.len() as f64 - USERS as f64 * share).abs() <= 3.0 * sigma, "{} at {share}", users.len());
        assert!(ramp.last().is_none_or(|before| before.is_subset(&users)), "nobody leaves while it grows");
        ramp.push(users);
    }
    for step in (0..3).rev() {
        at_step(&plan, &release, step);
        assert_eq!(on_canary(&plan), ramp[step], "the way back meets the same users");
    }
    // Another gateway, and this one after a restart, decide the same.
    let other = plan_with(&release, 0);
    at_step(&other, &release, 1);
    assert_eq!(on_canary(&other), ramp[1]);
    plan.live.set_stage(Stage::CLOSED);
    assert!(on_canary(&plan).is_empty());
}

#[test]
fn releases_of_a_layer_share_no_user() {
    let part = |name: &str, from: f64, to: f64| Release {
        layer: Some(Layer { name: "checkout".into(), from: points(from), to: points(to) }),
        steps: vec![Step { percent: points(20.0), hold: Duration::ZERO }],
        ..release(name)
    };
    let (one, two) = (part("one", 0.0, 50.0), part("two", 50.0, 100.0));
    let plans = [plan_with(&one, 0), plan_with(&two, 0)];
    at_step(&plans[0], &one, 0);
    at_step(&plans[1], &two, 0);
    let users = [on_canary(&plans[0]), on_canary(&plans[1])];
    assert!(users[0].is_disjoint(&users[1]));
    for users in &users {
        assert!((users.len() as f64 - 20_000.0).abs() <= 3.0 * 126.5, "{}", users.len());
    }
    // At its whole range a release has all of it, and no more.
    plans[0].live.set_stage(Stage { border: Border::ALL, open: true, unkeyed: false, step: 1 });
    let all = on_canary(&plans[0]);
    assert!(all.is_disjoint(&users[1]) && (all.len() as f64 - 50_000.0).abs() <= 3.0 * 158.2, "{}", all.len());
    // The one whose range holds the user concerns him.
    let none = HeaderMap::new();
    for n in 0..200 {
        let user = HeaderMap::from_iter([("x-user-id".parse().unwrap(), format!("user-{n}").parse().unwrap())]);
        let (index, decision) = choose(plans.iter(), &[], &RequestView::of(&user)).unwrap();
        assert_eq!(decision.why, Why::Position);
        let held = |plan: &Assignment| {
            plan.decide_for(&[], Some(format!("user-{n}").as_bytes()), &RequestView::of(&none)).is_judged()
        };
        assert!(held(&plans[index]) && !held(&plans[1 - index]));
    }
}

#[test]
fn who_is_included_by_one_release_is_on_no_arm_of_another() {
    let part = |name: &str, from: f64, to: f64, include: Vec<usize>| Release {
        layer: Some(Layer { name: "checkout".into(), from: points(from), to: points(to) }),
        steps: vec![Step { percent: points(25.0), hold: Duration::ZERO }],
        include,
        ..release(name)
    };
    let (one, two) = (part("one", 0.0, 50.0, vec![]), part("two", 50.0, 100.0, vec![0]));
    let plans = [plan_with(&one, 1), plan_with(&two, 1)];
    at_step(&plans[0], &one, 0);
    at_step(&plans[1], &two, 0);
    let half = [cohort("half", &[], vec![Rule::Percent { share: points(50.0), salt: "half".into() }])];
    let mut judged = [0, 0];
    for n in 0..2_000 {
        let user = HeaderMap::from_iter([("x-user-id".parse().unwrap(), format!("user-{n}").parse().unwrap())]);
        let (index, decision) = choose(plans.iter(), &half, &RequestView::of(&user)).unwrap();
        if decision.cohorts == 1 {
            assert_eq!((index, decision.why), (1, Why::Included(0)));
        } else if index == 0 {
            judged[decision.arm as usize] += 1;
        }
    }
    // Half of the range of the first release is on its canary, of those who are left as well.
    assert!(judged.iter().all(|users| (180..320).contains(users)), "{judged:?}");
}

#[test]
fn holdback_keeps_a_control_at_the_last_step() {
    let held = Release { holdback: points(5.0), ..release("held") };
    assert_eq!(held.share(2), points(25.0));
    assert_eq!(held.share(3), points(95.0));
    assert_eq!(held.share(9), points(95.0), "beyond the last");
    assert_eq!(border_at(&release("all"), 3), Border::ALL);
}

#[test]
fn the_first_source_that_is_there_is_the_key() {
    let plan = plan_with(&release("r"), 0);
    let mut headers = HeaderMap::new();
    let key = |headers: &HeaderMap, client: Option<[u8; 4]>| {
        let asked = RequestView { client: client.map(IpAddr::from), ..RequestView::of(headers) };
        plan.user(&asked).map(|(key, _)| key)
    };
    assert_eq!(key(&headers, None), None);
    assert_eq!(key(&headers, Some([10, 0, 0, 200])).as_deref(), Some("10.0.0.200"));
    headers.insert("cookie", "a=1; uid=c-7".parse().unwrap());
    assert_eq!(key(&headers, Some([10, 0, 0, 1])).as_deref(), Some("c-7"));
    headers.insert("x-user-id", "".parse().unwrap());
    assert_eq!(key(&headers, None).as_deref(), Some("c-7"), "an empty one is none");
    headers.insert("x-user-id", "h-1".parse().unwrap());
    assert_eq!(key(&headers, None).as_deref(), Some("h-1"));
    let none = HeaderMap::new();
    let mapped = RequestView { client: Some("::ffff:10.0.0.1".parse().unwrap()), ..RequestView::of(&none) };
    assert_eq!(plan.user(&mapped).unwrap().0, "10.0.0.1");
}

fn cohort(name: &str, users: &[&str], any: Vec<Rule>) -> Cohort {
    let users = (!users.is_empty()).then(|| Arc::new(UserSet::new(users.iter().map(|user| user.as_bytes()))));
    Cohort { name: name.into(), users, any, place: Place::file("test.toml") }
}

#[test]
fn exclude_beats_include_beats_percent() {
    let header = |name: &str| Rule::Header(name.parse().unwrap(), "1".parse().unwrap());
    let cohorts = [
        cohort("staff", &["ada", "bob"], vec![header("x-beta")]),
        cohort("vip", &["bob"], vec![]),
        cohort("half", &[], vec![Rule::Percent { share: points(50.0), salt: "half".into() }]),
    ];
    let release = Release { include: vec![0], exclude: vec![1], ..release("r") };
    let plan = plan_with(&release, cohorts.len());
    let none = HeaderMap::new();
    let decide = |user: Option<&str>, headers: &HeaderMap| {
        let decision = plan.decide_for(&cohorts, user.map(str::as_bytes), &RequestView::of(headers));
        (decision.arm, decision.why)
    };
    plan.live.set_stage(Stage { border: Border::NONE, open: true, unkeyed: false, step: 1 });
    assert_eq!(decide(Some("ada"), &none), (Arm::Canary, Why::Included(0)));
    assert_eq!(decide(Some("bob"), &none), (Arm::Stable, Why::Excluded(1)));
    assert_eq!(decide(Some("eve"), &none), (Arm::Stable, Why::Position));
    assert_eq!(decide(None, &none), (Arm::Stable, Why::Unkeyed));
    let opted = HeaderMap::from_iter([("x-beta".parse().unwrap(), "1".parse().unwrap())]);
    assert_eq!(decide(None, &opted), (Arm::Canary, Why::Included(0)), "opting in needs no key");
    plan.live.set_stage(Stage { border: Border::ALL, open: true, unkeyed: true, step: 1 });
    assert_eq!(decide(Some("bob"), &none), (Arm::Stable, Why::Excluded(1)));
    assert_eq!(decide(None, &none), (Arm::Canary, Why::Unkeyed), "the last step is for everybody");
    plan.live.set_stage(Stage::CLOSED);
    assert_eq!(decide(Some("ada"), &none), (Arm::Stable, Why::Included(0)), "taken back, for staff too");
    let masks: HashSet<u16> = (0..100)
        .map(|n| plan.decide_for(&cohorts, Some(format!("u{n}").as_bytes()), &RequestView::of(&none)).cohorts)
        .collect();
    assert_eq!(masks, HashSet::from([0, 0b100]), "the judge is told of cohorts that decide nothing");
}

#[test]
fn a_layer_and_a_salt_of_one_name_are_two_draws() {
    let half = Release {
        layer: Some(Layer { name: "checkout".into(), from: points(50.0), to: points(100.0) }),
        steps: vec![Step { percent: points(5.0), hold: Duration::ZERO }],
        ..release("checkout")
    };
    let plan = plan_with(&half, 0);
    at_step(&plan, &half, 0);
    let users = on_canary(&plan).len() as f64;
    assert!((users - 5_000.0).abs() <= 3.0 * 68.9, "{users}");
}

#[test]
fn another_definition_meets_other_users_first() {
    let of = |canary: &str, salt: Option<&str>| {
        let release = Release { salt: salt.map(str::to_owned), ..release("orders") }.define(canary, &["orders"]);
        let plan = plan_with(&release, 0);
        at_step(&plan, &release, 1);
        on_canary(&plan)
    };
    let (bad, mended) = (of("v2", None), of("v3", None));
    let both = bad.intersection(&mended).count() as f64;
    assert!((both - 250.0).abs() <= 3.0 * 15.8, "{both} of {}", bad.len());
    assert_eq!(bad, of("v2", None));
    assert_eq!(of("v2", Some("one")), of("v3", Some("one")), "who writes a salt keeps his users");
}
