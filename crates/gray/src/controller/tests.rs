//! Releases from the first step to the last, and back, with a clock and users made up here.

use super::state::ReleaseState;
use super::*;
use crate::assignment::{Assignment, RequestView};
use crate::bucket::Hash;
use crate::report::{Action, Kind};
use crate::sample::{Ending, Sample};
use crate::settings::{JudgeRules, Names, OnFail, Release, Rescue, Step};
use crate::user_source::UserSource;
use balance::attempt::{AttemptFailure, FailureSet};
use base::finding::Place;
use base::units::{BasisPoints, Share};
use http::HeaderMap;
use std::time::Duration;

/// Upstreams by their numbers: stable and canary.
const UPSTREAMS: [&str; 2] = ["v1", "v2"];
const ROUTE: &str = "orders";

/// Steps of so many percent and seconds.
fn steps(all: &[(f64, u64)]) -> Vec<Step> {
    let step = |&(percent, hold): &(f64, u64)| Step {
        percent: BasisPoints::percent(percent).unwrap(),
        hold: Duration::from_secs(hold),
    };
    all.iter().map(step).collect()
}

/// A release of three steps with the settings that the file form has by default.
fn release() -> Release {
    release_but(|_| ())
}

/// The same, changed.
fn release_but(change: impl FnOnce(&mut Release)) -> Release {
    let mut release = Release {
        name: "r".into(),
        routes: vec![0],
        canary: 1,
        user: vec![UserSource::Header("x-user-id".parse().unwrap())],
        hash: Hash::default(),
        salt: None,
        definition: String::new(),
        former_definition: String::new(),
        include: vec![],
        exclude: vec![],
        layer: None,
        steps: steps(&[(10.0, 5), (50.0, 5), (100.0, 5)]),
        holdback: BasisPoints::NONE,
        rescue: Rescue {
            on: FailureSet { connect: true, reset: true, timeout: true, statuses: vec![500, 502, 503, 504] },
            methods: vec![http::Method::GET],
            budget: Share::percent(100.0).unwrap(),
        },
        judge: JudgeRules {
            false_alarm: 0.001,
            slo: None,
            settle: Duration::from_secs(30),
            min_users: 20,
            max_wait: Duration::from_secs(24 * 3600),
            on_fail: OnFail::Rollback,
        },
        place: Place::default(),
    };
    change(&mut release);
    release.define(UPSTREAMS[1], &[ROUTE])
}

fn adopt(controller: &mut Controller, releases: &[Release]) -> Vec<Arc<SharedState>> {
    let upstreams = UPSTREAMS.map(Arc::from).to_vec();
    let names = Names { upstreams, routes: vec![(ROUTE.into(), Some(0))], cohorts: vec![] };
    controller.adopt(releases, &names, Moment::default())
}

fn controller(kept: PersistedReleases) -> Controller {
    Controller::new(
        kept,
        Surroundings {
            stamp: |ms| format!("t{ms}"),
            server: Arc::new(|n| Some(format!("s{n}"))),
            app: Arc::new(|_| None),
        },
    )
}

/// A controller and the users of its release.
struct World {
    controller: Controller,
    plan: Assignment,
    ms: u64,
    reports: Vec<Report>,
    /// The canary takes a tenth of a second.
    slow: bool,
}

impl World {
    fn with(release: Release, kept: PersistedReleases) -> World {
        let mut controller = controller(kept);
        let lives = adopt(&mut controller, std::slice::from_ref(&release));
        let plan = Assignment::new(&release, 0, lives[0].clone());
        World { controller, plan, ms: 0, reports: vec![], slow: false }
    }

    fn new(release: Release) -> World {
        World::with(release, PersistedReleases::default())
    }

    fn at(&self) -> Moment {
        Moment { now: Nanos(self.ms * 1_000_000), wall_ms: self.ms }
    }

    /// A second in which each of 1,000 users asks once, others than in the nine seconds before; `ending` says how it ends.
    fn second(&mut self, ending: impl Fn(u64, Arm) -> Ending) {
        let none = HeaderMap::new();
        let asked = RequestView::of(&none);
        let first = self.ms / 1_000 % 10 * 1_000;
        for n in first..first + 1_000 {
            let user = format!("u{n}");
            let decision = self.plan.decide_for(&[], Some(user.as_bytes()), &asked);
            self.plan.live.began(decision.arm);
            let ending = ending(n, decision.arm);
            self.plan.live.ended(Sample {
                user: decision.user,
                micros: if self.slow && decision.arm == Arm::Canary {
                    100_000
                } else {
                    1_000 + (n * 7919 + self.ms) as u32 % 997
                },
                server: 1 + decision.arm as u32,
                status: if ending == Ending::Failed(AttemptFailure::Status) { 500 } else { 200 },
                route: 0,
                cohorts: 0,
                app: 0,
                step: decision.step,
                arm: decision.arm,
                ending,
                saved: false,
                warm: true,
                judged: decision.is_judged(),
            });
            if n % 100 == 0 {
                self.ms += 100;
                self.tick();
            }
        }
    }

    fn tick(&mut self) {
        let ticked = self.controller.tick(self.at());
        self.reports.extend(ticked.reports);
    }

    fn order(&mut self, order: Order) -> Result<View, OrderError> {
        self.controller.order("r", order, self.at())
    }

    fn view(&self) -> View {
        self.controller.view("r").unwrap()
    }

    fn stands(&self) -> (ReleaseState, usize, f64) {
        let view = self.view();
        (view.state, view.step, view.percent)
    }

    /// Seconds until it stands otherwise; panics after two minutes.
    fn seconds_until(&mut self, what: impl Fn(&View) -> bool, ending: impl Fn(u64, Arm) -> Ending) -> u64 {
        for seconds in 1..=120 {
            self.second(&ending);
            if what(&self.view()) {
                return seconds;
            }
        }
        panic!("still {:?}", self.view());
    }
}

fn well(_: u64, _: Arm) -> Ending {
    Ending::Good
}

fn canary_fails(_: u64, arm: Arm) -> Ending {
    if arm == Arm::Canary { Ending::Failed(AttemptFailure::Status) } else { Ending::Good }
}

#[test]
fn a_healthy_release_is_promoted_step_by_step() {
    let mut world = World::new(release());
    assert_eq!(world.stands(), (ReleaseState::Running, 1, 10.0));
    let first = world.seconds_until(|view| view.step == 2, well);
    assert!(first >= 5, "hold is a minimum: {first}");
    assert_eq!(world.stands(), (ReleaseState::Running, 2, 50.0));
    world.seconds_until(|view| view.step == 3, well);
    assert_eq!(world.stands(), (ReleaseState::Running, 3, 100.0));
    let last = world.seconds_until(|view| view.state == ReleaseState::Promoted, well);
    assert!((5..=6).contains(&last), "without a control hold alone counts: {last}");
    assert!(world.reports.is_empty(), "{:?}", world.reports);
    let view = world.view();
    assert_eq!((view.arms.canary.errors, view.waits_for.as_str()), (0, ""));
}

#[test]
fn a_failing_one_is_back_within_the_second_with_a_report() {
    let mut world = World::new(release());
    (0..3).for_each(|_| world.second(well));
    world.second(canary_fails);
    world.second(canary_fails);
    assert_eq!(world.stands(), (ReleaseState::RolledBack, 1, 0.0));
    assert_eq!(world.plan.live.stage(), crate::shared_state::Stage::CLOSED);
    let [report] = &world.reports[..] else { panic!("{:?}", world.reports) };
    assert_eq!((report.facts.kind, report.facts.action), (Kind::Worse, Action::RolledBack));
    assert!(report.facts.users_harmed > 0 && report.facts.evidence.errors >= 1_000.0, "{report:?}");
    assert_eq!(report.facts.change.canary, "v2");
    assert!(report.facts.reason.ends_with(", at one server of one"), "{}", report.facts.reason);
    assert_eq!(world.view().report.as_ref(), Some(&report.id));
    // It stays back, whatever comes, until someone resumes it: then it starts again with fresh evidence.
    (0..5).for_each(|_| world.second(well));
    assert_eq!(world.stands(), (ReleaseState::RolledBack, 1, 0.0));
    assert_eq!(world.order(Order::Pause), Err(OrderError::State(ReleaseState::RolledBack)));
    assert_eq!(world.order(Order::Abort).unwrap().state, ReleaseState::RolledBack, "it is back already");
    assert_eq!(world.order(Order::Resume).unwrap().state, ReleaseState::Running);
    assert_eq!(world.stands(), (ReleaseState::Running, 1, 10.0));
    assert!(world.view().evidence.errors <= 1.0);
}

#[test]
fn on_fail_may_hold_or_only_report() {
    for (on_fail, state, action) in
        [(OnFail::Hold, ReleaseState::Held, Action::Held), (OnFail::Report, ReleaseState::Running, Action::Reported)]
    {
        let mut world = World::new(release_but(|release| release.judge.on_fail = on_fail));
        (0..8).for_each(|_| world.second(canary_fails));
        assert_eq!(world.stands(), (state, 1, 10.0));
        assert_eq!(world.reports.iter().map(|report| report.facts.action).collect::<Vec<_>>(), [action]);
    }
}

#[test]
fn a_cause_outside_takes_nothing_back() {
    let mut world = World::new(release());
    world.order(Order::Pause).unwrap();
    (0..64).for_each(|_| world.second(well));
    let stood = world.stands();
    let third = |n: u64, _| if n.is_multiple_of(3) { Ending::Failed(AttemptFailure::Status) } else { Ending::Good };
    (0..10).for_each(|_| world.second(third));
    assert_eq!(world.stands(), stood, "it neither goes back nor on");
    let [report] = &world.reports[..] else { panic!("{:?}", world.reports) };
    assert_eq!((report.facts.kind, report.facts.action), (Kind::Outside, Action::Reported));
    let outside = report.facts.outside.as_ref().unwrap();
    assert_eq!((outside.upstream.as_str(), outside.route.as_str(), outside.status.as_str()), ("v1", "orders", "500"));
}

#[test]
fn an_outage_right_after_a_step_takes_it_back() {
    let mut world = World::new(release());
    (0..4).for_each(|_| world.second(well));
    let third = |n: u64, _| if n.is_multiple_of(3) { Ending::Failed(AttemptFailure::Status) } else { Ending::Good };
    (0..10).for_each(|_| world.second(third));
    assert_eq!(world.stands(), (ReleaseState::RolledBack, 1, 0.0));
    let [report] = &world.reports[..] else { panic!("{:?}", world.reports) };
    assert_eq!((report.facts.kind, report.facts.action), (Kind::Shared, Action::RolledBack));
    assert!(report.verdict.contains("Both arms fail since v2 got 10 % of the users"), "{}", report.verdict);
    assert!(report.facts.reason.contains("s after it got more of them"), "{}", report.facts.reason);
}

#[test]
fn a_slow_one_is_taken_back_by_its_times() {
    let mut world = World::new(release_but(|release| {
        release.judge.slo = Some(Duration::from_millis(50));
        release.judge.settle = Duration::ZERO;
    }));
    (0..3).for_each(|_| world.second(well));
    world.slow = true;
    (0..4).for_each(|_| world.second(well));
    assert_eq!(world.stands().0, ReleaseState::RolledBack);
    let [report] = &world.reports[..] else { panic!("{:?}", world.reports) };
    assert!(report.facts.reason.starts_with("decided by latency"), "{}", report.facts.reason);
    let places: Vec<&str> = report.facts.places.iter().map(|place| place.text.as_str()).collect();
    assert!(places.first().is_some_and(|text| text.contains("slow answers")), "{places:?}");
    assert_eq!((report.facts.rescued, report.facts.users_harmed), (0, 0), "slow is no failure");
}

#[test]
fn orders_lead_where_they_should() {
    let mut world = World::new(release());
    assert_eq!(world.order(Order::Pause).unwrap().state, ReleaseState::Paused);
    (0..20).for_each(|_| world.second(well));
    assert_eq!(world.stands(), (ReleaseState::Paused, 1, 10.0), "paused stops the steps");
    assert_eq!(world.order(Order::Promote).unwrap().step, 2);
    assert_eq!(world.stands(), (ReleaseState::Paused, 2, 50.0), "one step, and paused as before");
    assert_eq!(world.order(Order::Resume).unwrap().state, ReleaseState::Running);
    assert_eq!(world.order(Order::Resume), Err(OrderError::State(ReleaseState::Running)));
    assert_eq!(world.order(Order::Promote).unwrap().step, 3);
    assert_eq!(world.order(Order::Promote).unwrap().state, ReleaseState::Promoted);
    assert_eq!(world.order(Order::Promote), Err(OrderError::State(ReleaseState::Promoted)));
    assert_eq!(world.order(Order::Abort).unwrap().state, ReleaseState::Aborted);
    assert_eq!(world.stands(), (ReleaseState::Aborted, 3, 0.0));
    assert_eq!(world.order(Order::Resume).unwrap().step, 1);
    assert_eq!(world.controller.order("x", Order::Abort, world.at()), Err(OrderError::Unknown));
    // A paused one is judged, too.
    assert_eq!(world.order(Order::Pause).unwrap().state, ReleaseState::Paused);
    (0..3).for_each(|_| world.second(canary_fails));
    assert_eq!(world.stands().0, ReleaseState::RolledBack);
}

#[test]
fn without_evidence_it_ends_on_hold_and_says_why() {
    let mut world = World::new(release_but(|release| {
        release.judge.min_users = 5_000;
        release.judge.max_wait = Duration::from_secs(20);
    }));
    let waited = world.seconds_until(|view| view.state == ReleaseState::Held, well);
    assert!((20..=21).contains(&waited), "{waited}");
    let [report] = &world.reports[..] else { panic!("{:?}", world.reports) };
    assert_eq!((report.facts.kind, report.facts.action), (Kind::NoEvidence, Action::Held));
    assert!(report.facts.reason.contains("of 5000 on the canary"), "{}", report.facts.reason);
    assert_eq!(world.order(Order::Resume).unwrap().state, ReleaseState::Running);
    (0..5).for_each(|_| world.second(well));
    assert_eq!(world.stands().0, ReleaseState::Running, "it waits anew");
}

#[test]
fn a_restart_and_a_push_go_on_where_it_stood() {
    let mut world = World::new(release());
    world.seconds_until(|view| view.step == 2, well);
    let kept = world.controller.keep();
    let text = serde_json::to_string(&kept).unwrap();
    let kept: PersistedReleases = serde_json::from_str(&text).unwrap();
    let mut again = World::with(release(), kept);
    assert_eq!(again.stands(), (ReleaseState::Running, 2, 50.0));
    // Steps and judge may change on the way; a step that is gone is the last one.
    let mut push = |release: Release| {
        adopt(&mut again.controller, &[release]);
        again.controller.view("r").map(|view| (view.state, view.step, view.percent))
    };
    let other = |all: &[(f64, u64)]| release_but(|release| release.steps = steps(all));
    assert_eq!(push(other(&[(10.0, 5), (40.0, 5), (100.0, 5)])), Some((ReleaseState::Running, 2, 40.0)));
    assert_eq!(push(other(&[(10.0, 5), (20.0, 5)])), Some((ReleaseState::Running, 2, 20.0)));
    let salted = release_but(|release| release.salt = Some("new".to_owned()));
    assert_eq!(push(salted), Some((ReleaseState::Running, 1, 10.0)), "another definition");
}

#[test]
fn other_steps_give_nobody_more_without_evidence() {
    let mut world = World::new(release());
    world.seconds_until(|view| view.step == 2, well);
    let mut push = |percents: &[f64]| {
        let all: Vec<(f64, u64)> = percents.iter().map(|percent| (*percent, 600)).collect();
        adopt(&mut world.controller, &[release_but(|release| release.steps = steps(&all))]);
        world.stands()
    };
    // The first step is done and taken out: by its number the second would be for everybody.
    assert_eq!(push(&[50.0, 100.0]), (ReleaseState::Running, 1, 50.0));
    assert_eq!(push(&[5.0, 20.0, 50.0, 100.0]), (ReleaseState::Running, 3, 50.0));
    assert_eq!(push(&[60.0, 100.0]), (ReleaseState::Running, 1, 60.0), "none is for fewer");
    assert_eq!(push(&[70.0, 100.0]), (ReleaseState::Running, 1, 70.0), "as many steps: the same one");
    assert_eq!(world.view().step_seconds, 0, "a changed share has its hold before it");
}

#[test]
fn what_was_held_is_judged_again_once_someone_resumed_it() {
    let mut world = World::new(release_but(|release| release.judge.on_fail = OnFail::Hold));
    (0..3).for_each(|_| world.second(canary_fails));
    assert_eq!(world.stands().0, ReleaseState::Held);
    world.order(Order::Resume).unwrap();
    (0..2).for_each(|_| world.second(well));
    assert_eq!((world.stands().0, world.reports.len()), (ReleaseState::Running, 1));
    // All users have failed in their lives; a fault is heard in the next episode at the latest.
    world.seconds_until(|view| view.state == ReleaseState::Held, canary_fails);
    assert_eq!(world.reports.len(), 2);
}

#[test]
fn without_its_memory_it_takes_nothing_for_harmless() {
    let mut lost = controller(PersistedReleases::default());
    lost.distrust();
    adopt(&mut lost, &[release()]);
    assert_eq!(lost.view("r").map(|view| (view.state, view.percent)), Some((ReleaseState::Aborted, 0.0)));
    adopt(&mut lost, &[release_but(|release| release.salt = Some("new".to_owned()))]);
    assert_eq!(
        lost.view("r").map(|view| view.state),
        Some(ReleaseState::Running),
        "a new definition was not taken back"
    );
}

#[test]
fn what_was_taken_back_is_remembered_while_it_is_away() {
    let mut world = World::new(release());
    world.order(Order::Abort).unwrap();
    adopt(&mut world.controller, &[]);
    assert_eq!(world.controller.view("r"), None);
    let mut world = World::with(release(), world.controller.keep());
    assert_eq!(world.stands(), (ReleaseState::Aborted, 1, 0.0), "pushed again unchanged, by another process");
    adopt(&mut world.controller, &[release_but(|release| release.hash = Hash::Nginx)]);
    assert_eq!(world.stands(), (ReleaseState::Running, 1, 10.0), "a new definition starts");
    adopt(&mut world.controller, &[release()]);
    assert_eq!(world.stands(), (ReleaseState::Aborted, 1, 0.0), "and the old one is what it was");
}
