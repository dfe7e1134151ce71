//! Harm that is no failure of the canary alone: refusals, slowness for users who stay, what stable suffers from as well.

use super::*;

fn refused(user: u64, arm: Arm, status: u16) -> Sample {
    Sample { status, ..seen(user, arm) }
}

/// A second of a hundred users on each arm, of whom stable refuses two and the canary so many.
fn refusing(court: &mut Court, second: u64, canary: u64) {
    let of = move |arm, refusing: u64| {
        (0..100).map(move |n| {
            let user = second * 1_000 + n + if arm == CANARY { 500 } else { 0 };
            if n < refusing { refused(user, arm, 404) } else { seen(user, arm) }
        })
    };
    court.see(of(STABLE, 2)).see(of(CANARY, canary));
    court.pass(1_000);
}

#[test]
fn a_canary_that_refuses_what_stable_answers_is_worse() {
    let mut court = court(0.5);
    for second in 0..10 {
        refusing(&mut court, second, 2);
    }
    assert!(court.found.is_empty(), "{:?}", court.found);
    let refusals = (0..40).map(|n| refused(90_000 + n, CANARY, 401));
    court.see((80_000..80_100).map(|user| seen(user, STABLE))).see(refusals);
    court.pass(1_000);
    assert!(court.found.is_empty(), "it may be a hiccup of its server");
    for second in 11..15 {
        let refusals = (0..40).map(|n| refused(90_000 + second * 100 + n, CANARY, 401));
        court.see((80_000..80_100).map(|user| seen(user, STABLE))).see(refusals);
        court.pass(1_000);
    }
    assert!(matches!(court.found[..], [Finding::Worse { signal: "refusals", .. }]), "{:?}", court.found);
}

#[test]
fn one_that_refuses_everybody_from_the_start_is_found_at_once() {
    let mut court = court(0.05);
    court.see((0..190).map(|user| seen(user, STABLE))).see((900..910).map(|user| refused(user, CANARY, 403)));
    court.pass(1_000);
    let Some(Finding::Worse { signal: "refusals", .. }) = court.pass(250) else { panic!("{:?}", court.found) };
}

#[test]
fn what_stable_often_refuses_is_compared_in_episodes() {
    let mut court = court(0.5);
    for second in 0..40 {
        refusing(&mut court, second, 2);
    }
    assert!(court.found.is_empty(), "{:?}", court.found);
    let mut seconds = 0;
    while court.found.is_empty() && seconds < 60 {
        refusing(&mut court, 100 + seconds, 40);
        seconds += 1;
    }
    assert!(matches!(court.found[..], [Finding::Worse { signal: "refusals", .. }]), "{:?}", court.found);
    assert!(seconds <= 20, "{seconds}");
}

#[test]
fn a_canary_that_turns_slow_for_users_who_stay_is_worse() {
    let mut court = court(0.2);
    // The same users each second; a canary that lost its cache is slow, but not as slow as stable's slowest.
    let second = |court: &mut Court, slow: bool| {
        let of = |arm, users: std::ops::Range<u64>, slow: bool| {
            users.map(move |user| {
                let rare = if user % 50 == 0 { 300_000 } else { 20_000 };
                Sample { micros: if slow { rare.max(90_000) } else { rare }, ..seen(user, arm) }
            })
        };
        court.see(of(STABLE, 0..400, false)).see(of(CANARY, 500..600, slow));
        court.pass(1_000)
    };
    (0..200).for_each(|_| _ = second(&mut court, false));
    assert!(court.found.is_empty(), "{:?}", court.found);
    let mut seconds = 0;
    while court.found.is_empty() && seconds < 120 {
        second(&mut court, true);
        seconds += 1;
    }
    assert!(matches!(court.found[..], [Finding::Worse { signal: "latency", .. }]), "{:?}", court.found);
    assert!(seconds <= 40, "{seconds}");
}

#[test]
fn an_outage_soon_after_the_canary_got_more_users_is_its_doing() {
    let mut court = court(0.25);
    calm(&mut court);
    let outage = |court: &mut Court, first: u64| {
        court.see((first..first + 150).map(|user| failed(user, STABLE)));
        court.see((first + 500..first + 550).map(|user| failed(user, CANARY)));
        (0..4).for_each(|_| _ = court.pass(250));
    };
    outage(&mut court, 20_000);
    let [Finding::Shared { stable, canary, after, .. }] = court.found[..] else { panic!("{:?}", court.found) };
    assert!(stable > 0.4 && canary > 0.4 && (10..15).contains(&after.as_secs()), "{stable} {canary} {after:?}");
    outage(&mut court, 30_000);
    assert_eq!(court.found.len(), 1, "told once");
    let mut later = super::court(0.25);
    (0..7).for_each(|_| calm(&mut later));
    outage(&mut later, 20_000);
    assert!(matches!(later.found[..], [Finding::Outside { .. }]), "{:?}", later.found);
}

#[test]
fn a_smaller_share_is_nobodys_fault() {
    let mut court = court(0.5);
    (0..7).for_each(|_| calm(&mut court));
    court.goes_to(0.25);
    court.see((20_000..20_150).map(|user| failed(user, STABLE))).see((20_500..20_550).map(|user| failed(user, CANARY)));
    court.wait();
    assert!(matches!(court.found[..], [Finding::Outside { .. }]), "{:?}", court.found);
}

#[test]
fn at_a_hundred_percent_slowness_is_watched_as_well() {
    let mut court = court(0.5);
    calm(&mut court);
    calm(&mut court);
    court.goes_to(1.0);
    let second = |court: &mut Court, micros: u32| {
        let first = court.now / MILLIS * 10;
        court.see((first..first + 100).map(|user| Sample { micros, ..seen(user, CANARY) }));
        court.pass(1_000);
    };
    (0..10).for_each(|_| second(&mut court, 10_000));
    assert!(court.found.is_empty(), "{:?}", court.found);
    (0..5).for_each(|_| second(&mut court, 100_000));
    let [Finding::Watch { of: Watched::Slowness, canary, baseline }] = court.found[..] else {
        panic!("{:?}", court.found)
    };
    assert!(canary > 0.4 && baseline < 0.1, "{canary} {baseline}");
}

#[test]
fn a_client_that_polls_is_not_what_people_get() {
    let mut court = court(0.5);
    // It asks 500 times a second and gets its answer from a cache; people wait for a tenth of a second.
    for second in 0..3 {
        court.see((0..500).map(|_| Sample { micros: 500, ..seen(1, STABLE) }));
        court.see((0..100).map(|n| Sample { micros: 100_000, ..seen(1_000 + second * 100 + n, STABLE) }));
        court.pass(1_000);
    }
    assert!(court.judge.thresholds.at(0).of(signals::P50).is_some_and(|limit| limit > 100_000));
}
