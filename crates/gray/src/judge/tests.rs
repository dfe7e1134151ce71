//! Tests of the judge as a whole: what it finds, what it must not, and what it forgets.

use super::*;
use crate::sample::Ending;
use balance::attempt::AttemptFailure;

mod harm;

const MILLIS: u64 = 1_000_000;

/// A judge, its time, and users by number.
struct Court {
    judge: Judge,
    now: u64,
    step: u16,
    found: Vec<Finding>,
}

fn court(share: f64) -> Court {
    court_of(share, 1)
}

fn court_of(share: f64, routes: usize) -> Court {
    let judge = Judge::new(Settings { false_alarm: 0.001, slo_micros: None, routes }, Nanos(0));
    let mut court = Court { judge, now: 0, step: 0, found: vec![] };
    court.goes_to(share);
    court
}

/// A request that went well.
fn seen(user: u64, arm: Arm) -> Sample {
    Sample { micros: 10_000, step: 0, ..Sample::good(user.wrapping_mul(0x9e37_79b9_7f4a_7c15), arm) }
}

fn failed(user: u64, arm: Arm) -> Sample {
    Sample { ending: Ending::Failed(AttemptFailure::Status), status: 503, ..seen(user, arm) }
}

impl Court {
    /// Requests of this step.
    fn see(&mut self, requests: impl IntoIterator<Item = Sample>) -> &mut Court {
        let step = self.step;
        requests.into_iter().for_each(|seen| _ = self.judge.observe(&Sample { step, ..seen }));
        self
    }

    fn goes_to(&mut self, share: f64) {
        self.step += 1;
        self.judge.share_changed(share, self.step, Nanos(self.now));
    }

    /// Time passes; what was found in it.
    fn pass(&mut self, millis: u64) -> Option<Finding> {
        self.now += millis * MILLIS;
        let found = self.judge.tick(Nanos(self.now), [u64::MAX; 2]);
        self.found.extend(found);
        found
    }

    /// Ticks on for a while, without requests.
    fn wait(&mut self) -> Option<Finding> {
        (0..8).find_map(|_| self.pass(250))
    }
}

const STABLE: Arm = Arm::Stable;
const CANARY: Arm = Arm::Canary;

#[test]
fn a_canary_that_fails_everyone_is_found_in_half_a_second() {
    let mut court = court(0.05);
    court.see((0..190).map(|user| seen(user, STABLE))).see((900..910).map(|user| failed(user, CANARY)));
    assert_eq!(court.pass(250), None, "the window ends early; the answer waits");
    let Some(Finding::Worse { signal: "errors", e, hit: Hit { servers: 1, of: 1 } }) = court.pass(250) else {
        panic!("{:?}", court.found)
    };
    assert!(e >= 1_000.0 && court.judge.evidence().combined() >= 1_000.0);
    court.see((910..930).map(|user| failed(user, CANARY)));
    assert_eq!(court.wait(), None, "told once");
    court.judge.acquit();
    assert!(court.judge.evidence().combined() <= 1.0 + 1e-9);
    court.see((200..400).map(|user| seen(user, STABLE))).see((930..945).map(|user| failed(user, CANARY)));
    assert!(matches!(court.wait(), Some(Finding::Worse { .. })), "acquitted is not immune");
}

#[test]
fn four_failures_wait_for_the_end_of_the_window() {
    let mut court = court(0.05);
    court.see((0..190).map(|user| seen(user, STABLE))).see((900..904).map(|user| failed(user, CANARY)));
    court.pass(250);
    assert_eq!(court.judge.evidence().errors, 1.0);
    court.pass(750);
    assert!(court.judge.evidence().errors > 10.0);
}

#[test]
fn a_client_that_always_fails_counts_once_where_counting_requests_would_convict() {
    let mut court = court(0.05);
    let mut requests = evidence::Process::default();
    for _ in 0..30 {
        court.see((0..95).map(|user| seen(user, STABLE))).see((900..905).map(|user| seen(user, CANARY)));
        court.see((0..20).map(|_| failed(900, CANARY)));
        court.pass(1_000);
        requests.play(&evidence::Bet::of(0.05, [0, 20]));
    }
    assert!(requests.e() > 1e9, "{}", requests.e());
    assert!(court.judge.evidence().errors < 20.0 && court.found.is_empty(), "{:?}", court.judge.evidence());
    assert_eq!(court.judge.arms()[1].errors, 600, "they are shown");
}

#[test]
fn who_failed_on_stable_does_not_fail_for_the_first_time_on_the_canary() {
    // A tenth of the users always fail; steps move more and more of them to the canary, then all back.
    let mut court = court(0.01);
    for share in [1_u64, 5, 25, 50, 0, 50] {
        court.goes_to(share as f64 / 100.0);
        for _ in 0..5 {
            court.see((0..2_000).map(|user| {
                let arm = if user % 100 < share { CANARY } else { STABLE };
                if user / 100 % 10 == 0 { failed(user, arm) } else { seen(user, arm) }
            }));
            court.pass(1_000);
        }
    }
    assert_eq!(court.found, []);
    assert!(court.judge.evidence().errors < 3.0, "{:?}", court.judge.evidence());
    assert_eq!(court.judge.users(), [2_000, 1_000], "movers count for both");
    assert_eq!(court.judge.users_of_step(), 1_000);
}

#[test]
fn what_is_seen_of_another_step_says_nothing() {
    let mut court = court(0.05);
    court.pass(20_000);
    court.goes_to(0.5);
    // Begun when 95 of 100 were on stable: a slow end of theirs, or a failing one, is not compared with what follows.
    let before = court.step - 1;
    for user in 0..1_000 {
        court.judge.observe(&Sample { step: before, ..seen(user, STABLE) });
    }
    for user in 2_000..2_050 {
        court.judge.observe(&Sample { step: before, ..failed(user, CANARY) });
    }
    court.see((3_000..4_000).map(|user| seen(user, if user % 2 == 0 { CANARY } else { STABLE })));
    assert_eq!(court.judge.tick(Nanos(court.now + 1_000 * MILLIS), [0; 2]), None, "the split is as it should be");
    assert_eq!((court.wait(), court.judge.harmed(), court.judge.users_of_step()), (None, 0, 500));
    assert!(court.judge.evidence().errors <= 1.0 + 1e-9, "{:?}", court.judge.evidence());
}

#[test]
fn who_comes_every_second_says_no_more_than_who_comes_once() {
    // Ten regulars, all of them on stable by chance; of the visitors who fail one in twenty is on the canary.
    let mut court = court(0.05);
    for second in 0..400 {
        court.see((0..10).map(|user| seen(user, STABLE)));
        let visitor = 1_000 + second;
        court.see([if second % 20 == 7 { failed(visitor, CANARY) } else { failed(visitor, STABLE) }]);
        court.pass(1_000);
    }
    assert!(court.judge.evidence().errors < 2.0 && court.found.is_empty(), "{:?}", court.judge.evidence());
}

#[test]
fn a_model_that_is_broken_blames_nobody() {
    // Those of stable's users who fail are all in one half, as if the hash decided about errors.
    let mut court = court(0.5);
    let odd = |user: &u64| seen(*user, STABLE).user >> 32 & 1 == 1;
    court.see((0..300).filter(|user| !odd(user)).map(|user| seen(user, STABLE)));
    court.see((0..300).filter(odd).enumerate().map(|(n, user)| {
        let seen = if n % 4 == 0 { failed(user, STABLE) } else { seen(user, STABLE) };
        // Each on a server of his own: it is no server's fault.
        Sample { server: 100 + user as u32, ..seen }
    }));
    court.see((1_000..1_300).map(|user| failed(user, CANARY)));
    court.pass(1_000);
    assert!(matches!(court.found[..], [Finding::Untrusted(Doubt::Guard, e)] if e >= 1_000.0), "{:?}", court.found);
    court.wait();
    assert_eq!(court.found.len(), 1, "{:?}", court.found);
    assert!(court.judge.evidence().errors > 1e6, "the evidence is there");
}

#[test]
fn a_canary_that_loses_users_is_doubted_and_one_that_is_slow_is_not() {
    for (in_flight, doubted) in [([0, 400], false), ([0, 0], true)] {
        let mut court = court(0.05);
        court.pass(1_000);
        court.see((0..5_000).map(|user| seen(user, STABLE)));
        let found = court.judge.tick(Nanos(court.now + MILLIS), in_flight);
        assert_eq!(matches!(found, Some(Finding::Untrusted(Doubt::Ratio, _))), doubted, "{found:?}");
        // Whoever loses users may be at fault: blame stays possible.
        court.see((9_000..9_200).map(|user| failed(user, CANARY)));
        court.now += MILLIS;
        assert!(matches!(court.wait(), Some(Finding::Worse { .. })), "{:?}", court.found);
    }
}

#[test]
fn too_many_users_on_the_canary_forbid_blame_by_little_evidence() {
    for (failing, worse) in [(100, false), (500, true)] {
        let mut court = court(0.05);
        court.pass(1_000);
        court.see((0..1_000).map(|user| seen(user, STABLE)));
        let users =
            (5_000..5_500).map(|user| if user < 5_000 + failing { failed(user, CANARY) } else { seen(user, CANARY) });
        court.see(users);
        let found = court.judge.tick(Nanos(court.now), [0; 2]);
        assert!(matches!(found, Some(Finding::Untrusted(Doubt::Ratio, _))), "{found:?}");
        assert!(court.judge.evidence().combined() < 2.0, "the window is open");
        assert_eq!(matches!(court.wait(), Some(Finding::Worse { .. })), worse, "most of its users fail: {worse}");
    }
}

/// Ten calm seconds of 200 users a second.
fn calm(court: &mut Court) {
    for second in 0..10 {
        let of = |arm, users: std::ops::Range<u64>| users.map(move |user| seen(second * 1_000 + user, arm));
        court.see(of(STABLE, 0..150)).see(of(CANARY, 500..550));
        assert_eq!(court.pass(1_000), None);
    }
}

#[test]
fn an_outage_that_shows_on_the_canary_first_is_an_outage() {
    let mut court = court(0.25);
    court.judge.goes_on();
    calm(&mut court);
    court.see((20_000..20_100).map(|user| seen(user, STABLE))).see((30_000..30_040).map(|user| failed(user, CANARY)));
    assert_eq!(court.pass(250), None, "enough against the canary; stable's failures come after the window");
    assert!(court.judge.evidence().combined() >= 1_000.0);
    let timeout = |user| Sample { ending: Ending::Failed(AttemptFailure::Timeout), status: 0, ..seen(user, STABLE) };
    court.see((20_100..20_160).map(timeout)).see((20_200..20_210).map(|user| failed(user, STABLE)));
    let Some(Finding::Outside { cause, stable, canary }) = court.pass(250) else { panic!("{:?}", court.found) };
    assert_eq!(cause, Cause { route: 0, failure: AttemptFailure::Timeout, status: 0 });
    assert!(stable > 0.4 && canary <= 2.0 * stable, "{stable} {canary}");
    assert!(court.judge.outside() && court.judge.evidence().combined() <= 1.0 + 1e-9, "acquitted");
    court.pass(1_000);
    calm(&mut court);
    assert!(!court.judge.outside(), "it is over");
    court.see((40_000..40_150).map(|user| seen(user, STABLE))).see((50_000..50_050).map(|user| failed(user, CANARY)));
    assert!(matches!(court.wait(), Some(Finding::Worse { .. })), "the canary alone is its own fault");
}

#[test]
fn an_outage_without_a_suspicion_is_told_once_and_again_when_it_comes_again() {
    let mut court = court(0.25);
    court.judge.goes_on();
    calm(&mut court);
    for outage in 1..=2 {
        for second in 0..5 {
            // The first fails everyone; the second a tenth, which is much only if the first was not taken for normal.
            let of = |arm, users: std::ops::Range<u64>| {
                users.map(move |user| {
                    let is_hit = outage == 1 || user % 10 == 0;
                    let user = user + outage * 100_000 + second * 1_000;
                    if is_hit { failed(user, arm) } else { seen(user, arm) }
                })
            };
            court.see(of(STABLE, 0..150)).see(of(CANARY, 500..550));
            (0..4).for_each(|_| _ = court.pass(250));
        }
        assert!(court.judge.outside());
        assert_eq!(court.found.len(), outage as usize, "{:?}", court.found);
        calm(&mut court);
        assert!(!court.judge.outside());
    }
    assert!(court.found.iter().all(|found| matches!(found, Finding::Outside { .. })), "{:?}", court.found);
}

#[test]
fn a_canary_far_worse_than_a_bad_stable_is_worse() {
    let mut court = court(0.25);
    calm(&mut court);
    court.see((20_000..20_150).map(|user| if user % 10 == 0 { failed(user, STABLE) } else { seen(user, STABLE) }));
    court.see((30_000..30_050).map(|user| failed(user, CANARY)));
    assert!(matches!(court.wait(), Some(Finding::Worse { .. })), "{:?}", court.found);
}

#[test]
fn a_few_failures_of_few_users_are_no_outage() {
    let mut court = court(0.5);
    calm(&mut court);
    court.see((20_000..20_020).map(|user| if user < 20_004 { failed(user, STABLE) } else { seen(user, STABLE) }));
    court.see((30_000..30_030).map(|user| if user < 30_012 { failed(user, CANARY) } else { seen(user, CANARY) }));
    court.wait();
    assert!(!court.judge.outside() && court.found.is_empty(), "{:?}", court.found);
}

#[test]
fn at_a_hundred_percent_the_watch_reports_once_an_outage() {
    let mut court = court(0.5);
    calm(&mut court);
    court.goes_to(1.0);
    assert!(court.judge.safe().is_none(), "nothing to compare with");
    for second in 0..6 {
        let users = 100_000 + second * 1_000..100_200 + second * 1_000;
        court.see(users.map(|user| if user % 10 == 0 { failed(user, CANARY) } else { seen(user, CANARY) }));
        court.pass(1_000);
    }
    let [Finding::Watch { of: Watched::Failures, canary, baseline }] = court.found[..] else {
        panic!("{:?}", court.found)
    };
    assert!((canary - 0.1).abs() < 1e-9 && baseline == 0.001, "{canary} {baseline}");
    assert!(!court.judge.outside() && court.judge.evidence().errors <= 1.0 + 1e-9, "no verdict without a control");
}

#[test]
fn slow_answers_count_by_thresholds_of_stable() {
    let mut court = court(0.2);
    let slow = |user: u64, arm, micros| Sample { micros, ..seen(user, arm) };
    for second in 0..12 {
        let micros = |user: u64| 1_000 + (user * 7_919 % 1_000) as u32 * 50;
        let base = second * 10_000;
        court.see((0..800).map(|user| slow(base + user, STABLE, micros(user))));
        court.see((800..1_000).map(|user| slow(base + user, CANARY, micros(user) + 5_000 * second as u32)));
        court.pass(1_000);
    }
    let evidence = court.judge.evidence();
    assert!(evidence.latency >= 1_000.0 && evidence.errors <= 1.0 + 1e-9, "{evidence:?}");
    assert!(matches!(court.found[..], [Finding::Worse { signal: "latency", .. }]), "{:?}", court.found);
    let [stable, canary] = court.judge.arms();
    assert_eq!((stable.requests, canary.requests, stable.users), (9_600, 2_400, 9_600));
    assert!(stable.p50_ms.unwrap() > 20.0 && canary.p99_ms.unwrap() > stable.p99_ms.unwrap());
}

#[test]
fn an_objective_counts_at_once_and_a_changed_one_from_the_next_window() {
    for (objective, is_worse) in [(Some(9_000), true), (None, false)] {
        let mut court = court(0.5);
        court.judge.set(Settings { false_alarm: 0.001, slo_micros: objective, routes: 9 });
        // Answers are timed once the share has settled, and what hits a server for a moment is no fault.
        court.pass(4_000);
        for second in 0..4 {
            let users = |first: u64| first + 1_000 * second..first + 1_000 * second + 60;
            court.see(users(0).map(|user| Sample { micros: 5_000, ..seen(user, STABLE) }));
            court.see(users(100).map(|user| Sample { ending: Ending::Left, ..seen(user, CANARY) }));
            court.pass(1_000);
        }
        court.wait();
        assert_eq!(
            matches!(court.found[..], [Finding::Worse { signal: "latency", .. }]),
            is_worse,
            "{:?}",
            court.found
        );
    }
}

#[test]
fn users_who_have_all_met_errors_are_still_heard() {
    let mut court = court(0.1);
    let arm = |user: u64| if user < 180 { STABLE } else { CANARY };
    let fails = |user: u64, second: u64| (user * 7_919 + second * 31).is_multiple_of(25);
    for second in 0..90 {
        let ending = |user| if fails(user, second) { Ending::Failed(AttemptFailure::Status) } else { Ending::Good };
        court.see((0..200).map(|user| Sample { ending: ending(user), ..seen(user, arm(user)) }));
        court.pass(1_000);
    }
    assert!(court.found.is_empty(), "{:?}", court.found);
    for _ in 0..4 {
        court.see((0..200).map(|user| seen(user, arm(user))).map(|seen| match seen.arm {
            STABLE => seen,
            CANARY => Sample { ending: Ending::Failed(AttemptFailure::Status), ..seen },
        }));
        court.pass(1_000);
    }
    assert!(matches!(court.found[..], [Finding::Worse { signal: "errors", .. }]), "{:?}", court.found);
}

#[test]
fn feedback_is_a_signal_of_its_own() {
    let mut court = court(0.5);
    for user in 0..60 {
        court.judge.feedback(user, STABLE, false);
        court.judge.feedback(100 + user, CANARY, true);
        court.judge.feedback(100 + user, CANARY, true);
    }
    assert!(matches!(court.wait(), Some(Finding::Worse { signal: "feedback", .. })), "{:?}", court.found);
    assert_eq!((court.judge.evidence().errors, court.judge.users()), (1.0, [0, 0]), "a word is no request");
}

#[test]
fn who_was_not_put_there_by_chance_is_shown_and_not_judged() {
    let mut court = court(0.5);
    court.see((0..100).map(|user| Sample { judged: false, ..failed(user, CANARY) }));
    court.see((200..300).map(|user| Sample { judged: false, ..seen(user, STABLE) }));
    court.see([Sample { route: 1, ..failed(1, CANARY) }]);
    assert_eq!(court.wait(), None);
    assert!((court.judge.evidence().combined() - 1.0).abs() < 1e-9, "{:?}", court.judge.evidence());
    let canary = court.judge.arms()[1];
    assert_eq!((canary.requests, canary.errors, canary.users), (100, 100, 0), "no such route: not counted at all");
    assert_eq!((canary.p50_ms, court.judge.arms()[0].p99_ms.is_some()), (Some(10.047), true));
}

#[test]
fn a_step_becomes_safe_by_clean_users_and_the_next_begins_anew() {
    let mut court = court(0.0);
    assert!(court.judge.safe().is_none(), "nobody is on the canary");
    court.goes_to(0.25);
    assert!(!court.judge.safe().unwrap().is_safe());
    calm(&mut court);
    let safety = court.judge.safe().unwrap();
    assert!(safety.is_safe() && safety.wants().is_empty(), "{safety:?}");
    court.goes_to(0.5);
    assert_eq!(court.judge.users_of_step(), 0);
    assert!(court.judge.safe().unwrap().wants().starts_with("errors: 0 of about 313 users"));
}

#[test]
fn a_restart_keeps_what_speaks_for_the_canary_and_drops_what_speaks_against_it() {
    let mut before = court(0.5);
    before.see((0..400).map(|user| seen(user, STABLE)));
    before.see((1_000..1_400).map(|user| if user < 1_020 { failed(user, CANARY) } else { seen(user, CANARY) }));
    before.pass(1_000);
    assert!(before.judge.evidence().errors > 100.0);
    let kept: PersistedJudge = serde_json::from_str(&serde_json::to_string(&before.judge.keep()).unwrap()).unwrap();
    let mut after = court(0.5);
    after.judge.restore(&kept);
    assert!(after.judge.evidence().errors <= 1.0 + 1e-9, "{:?}", after.judge.evidence());

    let mut before = court(0.5);
    before.see((0..400).map(|user| failed(user, STABLE))).see((1_000..1_400).map(|user| seen(user, CANARY)));
    before.pass(1_000);
    let mut after = court(0.5);
    after.judge.restore(&before.judge.keep());
    assert_eq!(after.judge.evidence(), before.judge.evidence());
    assert!(after.judge.evidence().errors < 0.6);
}
