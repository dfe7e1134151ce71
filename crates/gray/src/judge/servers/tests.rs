//! Tests of what hits a server.

use super::super::signals::{P95, P99};
use super::*;
use crate::judge::evidence::{Bet, Process};
use crate::judge::signals::ERRORS;
use balance::attempt::AttemptFailure;

mod always_failing;

/// A request; whoever fails gets another answer.
fn seen(user: u64, arm: Arm, server: u32, ending: Ending) -> Sample {
    Sample { server, ending, saved: true, ..Sample::good(user, arm) }
}

fn second(n: u64) -> Nanos {
    Nanos(n * 1_000_000_000)
}

/// Users of a server in a window: the first ones fail, and of those the last ones tell it for the first time.
fn asked(servers: &mut Servers, (arm, server): (Arm, u32), [users, failing, telling]: [u64; 3], now: Nanos) {
    for user in 0..users {
        let ending = if user < failing { Ending::Failed(AttemptFailure::Status) } else { Ending::Good };
        let seen = seen(user, arm, server, ending);
        servers.asked(&seen, 1, now);
        servers.active(&seen);
        if ending.is_failure() {
            servers.met(&seen, ERRORS);
            if user + telling >= failing {
                servers.event(&seen, ERRORS);
            }
        }
    }
}

/// Ten users of a server in a window, of whom so many fail and tell it.
fn window(servers: &mut Servers, arm: Arm, server: u32, failing: u64, now: Nanos) {
    asked(servers, (arm, server), [10, failing, failing], now);
}

fn heard(servers: &mut Servers, now: Nanos) -> ([u32; 2], [u32; 2], f64) {
    let heard = servers.close(1, now);
    (users(&heard, ERRORS), of(&heard.hiccups, ERRORS), heard.servers)
}

fn of(counts: &EvidenceCounts, signal: usize) -> [u32; 2] {
    [EvidenceCell::Stable, EvidenceCell::Canary].map(|cell| counts.of(signal, cell))
}

/// Users who count by themselves.
fn users(heard: &Heard, signal: usize) -> [u32; 2] {
    let all = [&heard.before, &heard.now, &heard.late].map(|counts| of(counts, signal));
    [0, 1].map(|arm| all.iter().map(|counts| counts[arm]).sum())
}

#[test]
fn a_hiccup_of_a_server_is_one_event_and_one_that_lasts_is_none() {
    let mut servers = Servers::default();
    for server in 1..=3 {
        window(&mut servers, Arm::Stable, server, 0, second(1));
    }
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    assert_eq!(heard(&mut servers, second(1)), ([0, 0], [0, 0], 0.25));
    window(&mut servers, Arm::Canary, 9, 8, second(2));
    assert_eq!(heard(&mut servers, second(2)), ([0, 0], [0, 0], 0.25));
    window(&mut servers, Arm::Canary, 9, 0, second(3));
    assert_eq!(heard(&mut servers, second(3)), ([0, 0], [0, 1], 0.25), "it was over");
    window(&mut servers, Arm::Canary, 9, 8, second(4));
    assert_eq!(heard(&mut servers, second(4)), ([0, 0], [0, 0], 0.25));
    // Whoever fails again tells nothing new, but that it lasts.
    asked(&mut servers, (Arm::Canary, 9), [4, 4, 0], second(5));
    assert_eq!(heard(&mut servers, second(5)), ([0, 0], [0, 0], 0.25));
    assert_eq!(heard(&mut servers, second(6)), ([0, 0], [0, 0], 0.25), "nobody asked it");
    window(&mut servers, Arm::Canary, 9, 3, second(7));
    assert_eq!(heard(&mut servers, second(7)), ([0, 8], [0, 0], 0.25), "it lasts");
    window(&mut servers, Arm::Canary, 9, 8, second(8));
    servers.end_step();
    window(&mut servers, Arm::Canary, 9, 0, second(9));
    assert_eq!(heard(&mut servers, second(9)).1, [0, 0]);
}

#[test]
fn one_user_is_himself_and_the_first_and_the_last_of_a_burst_are_parts_of_it() {
    let mut servers = Servers::default();
    let at = |ms: u64| Nanos(1_000_000_000 + ms * 1_000_000);
    for ms in [0, 250] {
        window(&mut servers, Arm::Canary, 9, 0, at(ms));
        heard(&mut servers, at(ms));
    }
    window(&mut servers, Arm::Canary, 9, 1, at(500));
    assert_eq!(heard(&mut servers, at(500)).0, [0, 0], "it may be the first of many");
    window(&mut servers, Arm::Canary, 9, 0, at(750));
    assert_eq!(heard(&mut servers, at(750)), ([0, 1], [0, 0], 1.0));
    for (ms, failing) in [(1_000, 1), (1_250, 9), (1_500, 1)] {
        window(&mut servers, Arm::Canary, 9, failing, at(ms));
        assert_eq!(heard(&mut servers, at(ms)), ([0, 0], [0, 0], 1.0), "{ms}");
    }
    window(&mut servers, Arm::Canary, 9, 0, at(2_500));
    assert_eq!(heard(&mut servers, at(2_500)), ([0, 0], [0, 1], 1.0), "eleven are one");
}

#[test]
fn beside_a_hiccup_of_stable_the_canary_has_the_part_of_those_who_are_left() {
    let mut servers = Servers::default();
    let mut windows = |at: u64, [first, second, canary]: [u64; 3]| {
        window(&mut servers, Arm::Stable, 1, first, self::second(at));
        window(&mut servers, Arm::Stable, 2, second, self::second(at));
        window(&mut servers, Arm::Canary, 9, canary, self::second(at));
        let heard = servers.close(1, self::second(at));
        (of(&heard.before, ERRORS), of(&heard.hiccups, ERRORS), heard.said(ERRORS, 0.25).before)
    };
    windows(1, [0, 0, 0]);
    assert_eq!(windows(2, [5, 0, 1]).0, [0, 0]);
    let hiccup = Bet::of(1.0 / 3.0, [1, 0]);
    let half = 0.25 / (0.25 + 0.75 * 0.5);
    assert_eq!(windows(3, [0, 0, 0]), ([0, 1], [1, 0], Bet::of(half, [0, 1]).and(&hiccup)));
    windows(4, [10, 10, 1]);
    let both = Bet::of(1.0 / 3.0, [2, 0]);
    assert_eq!(windows(5, [0, 0, 1]), ([0, 1], [2, 0], Bet::of(1.0, [0, 1]).and(&both)), "nobody is left");
    assert_eq!(windows(6, [0, 0, 0]), ([0, 1], [0, 0], Bet::of(0.25, [0, 1])), "that of the fifth second");
}

#[test]
fn chance_on_stable_leaves_nobody_out() {
    let mut servers = Servers::default();
    let (mut counted, mut told) = ([0; 2], [0; 2]);
    // Half of the users are above the median; now and then, more of stable's than chance gives once in a hundred
    // thousand times.
    for n in 1..=200 {
        for (arm, number, users, above) in
            [(Arm::Stable, 1, 900, if n % 20 == 0 { 560 } else { 450 }), (Arm::Canary, 9, 48, 24)]
        {
            above_median(&mut servers, (arm, number), users, above, second(n));
            told[arm as usize] += above;
        }
        let all = users(&servers.close(1, second(n)), P50);
        counted = [0, 1].map(|arm| counted[arm] + u64::from(all[arm]));
    }
    // The last window's wait.
    assert_eq!(counted, [told[0] - 560, told[1] - 24]);
}

#[test]
fn who_got_no_answer_counts_at_once_and_the_others_wait() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    heard(&mut servers, second(1));
    window(&mut servers, Arm::Canary, 9, 8, second(2));
    let unsaved = Sample { saved: false, ..seen(99, Arm::Canary, 9, Ending::Failed(AttemptFailure::Status)) };
    servers.asked(&unsaved, 1, second(2));
    servers.active(&unsaved);
    servers.met(&unsaved, ERRORS);
    servers.event(&unsaved, ERRORS);
    assert_eq!(heard(&mut servers, second(2)).0, [0, 1]);
}

#[test]
fn a_pool_without_a_place_is_not_dead() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    window(&mut servers, Arm::Canary, 0, 8, second(1));
    assert_eq!(heard(&mut servers, second(1)).0, [0, 0], "its servers are well");
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 0, 10, second(1));
    assert_eq!(heard(&mut servers, second(1)).0, [0, 10]);
}

#[test]
fn what_waits_at_a_server_that_is_asked_no_more_was_a_hiccup() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    heard(&mut servers, second(1));
    window(&mut servers, Arm::Canary, 9, 8, second(2));
    assert_eq!(heard(&mut servers, second(2)).1, [0, 0]);
    assert_eq!(heard(&mut servers, second(11)).1, [0, 0]);
    assert_eq!(heard(&mut servers, second(12)).1, [0, 1]);
    assert_eq!(heard(&mut servers, second(601)).1, [0, 0]);
    assert_eq!(servers.known.len(), 1);
    heard(&mut servers, second(602));
    assert!(servers.known.is_empty());
}

#[test]
fn a_server_that_is_dead_whenever_it_is_asked_again_has_no_hiccups() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    heard(&mut servers, second(1));
    window(&mut servers, Arm::Canary, 9, 10, second(2));
    heard(&mut servers, second(2));
    assert_eq!(heard(&mut servers, second(12)).1, [0, 1], "it is ejected");
    window(&mut servers, Arm::Canary, 9, 10, second(13));
    heard(&mut servers, second(13));
    assert_eq!(heard(&mut servers, second(14)), ([0, 10], [0, 0], 1.0));
    // Where not all fail who ask it again, it is another one.
    assert_eq!(heard(&mut servers, second(24)), ([0, 0], [0, 0], 0.0));
    window(&mut servers, Arm::Canary, 9, 3, second(25));
    heard(&mut servers, second(25));
    window(&mut servers, Arm::Canary, 9, 0, second(26));
    assert_eq!(heard(&mut servers, second(26)), ([0, 0], [0, 1], 1.0));
    // And where it was well meanwhile, too.
    window(&mut servers, Arm::Canary, 9, 10, second(27));
    heard(&mut servers, second(27));
    assert_eq!(heard(&mut servers, second(37)), ([0, 0], [0, 1], 0.0));
}

#[test]
fn a_good_answer_of_an_earlier_step_says_nothing_of_this_one() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    let late = Sample { step: 0, ..seen(5, Arm::Canary, 9, Ending::Good) };
    servers.asked(&late, 1, second(1));
    window(&mut servers, Arm::Canary, 9, 8, second(2));
    assert_eq!(heard(&mut servers, second(2)).0, [0, 0], "it is good in this one");
}

#[test]
fn in_a_large_fleet_one_hiccup_leaves_the_others_in() {
    let mut servers = Servers::default();
    for at in 1..=4 {
        for server in 1..=9 {
            window(&mut servers, Arm::Stable, server, if at == 3 && server == 3 { 9 } else { 0 }, second(at));
        }
        window(&mut servers, Arm::Canary, 99, u64::from(at == 2), second(at));
        let heard = servers.close(1, second(at));
        assert_eq!(users(&heard, ERRORS), [0, u32::from(at == 3)]);
        assert_eq!(heard.steady[0][ERRORS], if at == 4 { 8.0 / 9.0 } else { 1.0 }, "{at}");
    }
}

#[test]
fn who_is_not_heard_of_yet_leaves_nobody_alone() {
    // Users of both arms, by second, and the part of stable's who are there.
    const SECONDS: [(u64, u64, f64); 9] = [
        (100, 100, 1.0),
        (100, 100, 1.0),
        // Stable stands still, and is heard of later.
        (10, 100, 0.1),
        (190, 100, 1.0),
        // Both get fewer.
        (20, 20, 1.0),
        (100, 100, 1.0),
        // The canary stands still.
        (100, 0, 1.0),
        (100, 200, 0.44),
        (100, 100, 1.0),
    ];
    let mut servers = Servers::default();
    for (n, (stable, canary, part)) in (1..).zip(SECONDS) {
        above_median(&mut servers, (Arm::Stable, 1), stable, stable / 2, second(n));
        above_median(&mut servers, (Arm::Canary, 9), canary, canary / 2, second(n));
        let seen = servers.close(1, second(n)).steady[1][P50];
        assert!((seen - part).abs() < 0.01, "{n}: {seen}");
    }
}

#[test]
fn where_the_canary_is_asked_seldom_one_user_is_no_crowd() {
    let mut servers = Servers::default();
    let mut part = |n: u64, stable: u64, canary: u64| {
        above_median(&mut servers, (Arm::Stable, 1), stable, 0, second(n));
        above_median(&mut servers, (Arm::Canary, 9), canary, 0, second(n));
        servers.close(1, second(n)).steady[1][ERRORS]
    };
    assert_eq!(part(1, 0, 10), 0.0, "of stable nobody was ever heard of");
    for n in 2..60 {
        assert_eq!(part(n, 10, 0), 1.0);
    }
    assert_eq!(part(60, 10, 1), 1.0);
    assert!(part(61, 0, 1) < 0.1, "stable stands still");
}

#[test]
fn beside_a_burst_as_many_count_as_of_stable_in_the_same_window() {
    for stable in [0, 1, 20, 50] {
        let mut servers = Servers::default();
        above_median(&mut servers, (Arm::Stable, 1), 100, stable, second(1));
        above_median(&mut servers, (Arm::Canary, 9), 100, 95, second(1));
        servers.close(1, second(1));
        above_median(&mut servers, (Arm::Canary, 9), 100, 0, second(2));
        let heard = servers.close(1, second(2));
        assert_eq!([of(&heard.before, P50), of(&heard.hiccups, P50)], [[stable as u32; 2], [0, 1]]);
    }
}

#[test]
fn what_lasts_on_the_canary_is_more_than_stable_meets_in_the_same_window() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Stable, 1, 4, second(1));
    let Rates { likely, lasting } = servers.rates(Arm::Canary, ERRORS);
    assert_eq!((likely, lasting), (0.4, 0.4), "far more than was believed");
    assert!(servers.rates(Arm::Stable, ERRORS).likely < 0.01);
    above_median(&mut servers, (Arm::Stable, 2), 100, 1, second(1));
    let Rates { likely, lasting } = servers.rates(Arm::Canary, P50);
    assert_eq!(
        (likely, lasting),
        (0.01, 0.5),
        "of latency less than was believed tells a burst, but not that it lasts"
    );
}

#[test]
fn who_waits_for_stable_tells_nothing_of_other_times() {
    let mut servers = Servers::default();
    // Not all are above the median for certain, but those above p95 are.
    for n in 1..=4 {
        let above = if n == 2 { 60 } else { 1 };
        above_median(&mut servers, (Arm::Stable, 1), 100, above, second(n));
        for user in 0..above {
            let seen = seen(user, Arm::Stable, 1, Ending::Good);
            servers.met(&seen, P95);
            servers.event(&seen, P95);
        }
        servers.close(1, second(n));
    }
    let told = (servers.bad[P50] - PRIOR.0 * PRIOR.1[P50], servers.exposed[P50] - PRIOR.0);
    assert_eq!(told, (3.0, 300.0));
}

#[test]
fn what_lasts_on_both_arms_never_counts_of_the_canary_alone() {
    let mut servers = Servers::default();
    let mut counted = [0; 2];
    let mut process = Process::default();
    for n in 1..=60 {
        // Both are slow from the tenth second on.
        let above = if n < 10 { 50 } else { 95 };
        above_median(&mut servers, (Arm::Stable, 1), 100, above, second(n));
        above_median(&mut servers, (Arm::Canary, 9), 100, above, second(n));
        let heard = servers.close(1, second(n));
        counted = [0, 1].map(|arm| counted[arm] + users(&heard, P50)[arm]);
        assert!(counted[1] <= counted[0], "{n}: {counted:?}");
        process.hear(&heard.said(P50, 0.5));
        assert!(process.e() <= 1.0 + 1e-9, "{n}: {}", process.e());
    }
    assert_eq!(counted[0], counted[1]);
}

#[test]
fn latency_is_bet_by_the_users_whose_answers_are_timed() {
    let mut users = EvidenceCounts::default();
    users.event(P50, EvidenceCell::Canary);
    users.event(ERRORS, EvidenceCell::Canary);
    let heard = Heard { before: users, timed: [[0.5, 1.0], [1.0; 2]], ..Heard::default() };
    assert_eq!(heard.said(P50, 0.5).before, Bet::of(2.0 / 3.0, [0, 1]));
    assert_eq!(heard.said(ERRORS, 0.5).before, Bet::of(0.5, [0, 1]));
}

#[test]
fn whoever_fails_is_not_timed() {
    let mut servers = Servers::default();
    above_median(&mut servers, (Arm::Stable, 1), 90, 0, second(1));
    window(&mut servers, Arm::Stable, 2, 10, second(1));
    above_median(&mut servers, (Arm::Canary, 9), 10, 0, second(1));
    assert_eq!(servers.close(1, second(1)).timed, [[1.0; 2], [0.9, 1.0]]);
    assert_eq!(servers.close(1, second(2)).timed, [[0.9, 1.0], [1.0; 2]]);
}

#[test]
fn a_hiccup_of_stable_excuses_none_of_the_canary() {
    let mut servers = Servers::default();
    for (now, failing) in [(1, 0), (2, 9), (3, 0)] {
        for server in 1..=19 {
            window(&mut servers, Arm::Stable, server, if server == 1 { failing } else { 0 }, second(now));
        }
        window(&mut servers, Arm::Canary, 20, failing.min(4), second(now));
        assert_eq!(users(&servers.close(1, second(now)), ERRORS), [0, 0]);
    }
}

#[test]
fn who_was_never_good_is_dead() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 10, second(1));
    assert_eq!(heard(&mut servers, second(1)).0, [0, 10]);
}

#[test]
fn a_hiccup_of_stable_is_not_what_stable_is_like() {
    let mut servers = Servers::default();
    for n in 1..=3 {
        above_median(&mut servers, (Arm::Stable, 1), 900, if n == 2 { 900 } else { 450 }, second(n));
        servers.close(1, second(n));
    }
    assert!((servers.rate(P50) - 0.5).abs() < 1e-9, "{}", servers.rate(P50));
}

#[test]
fn where_many_fail_many_are_no_burst() {
    let mut servers = Servers::default();
    for n in 1..200 {
        for server in 1..=9 {
            window(&mut servers, Arm::Stable, server, u64::from(n % 2 == 0), second(n));
        }
        window(&mut servers, Arm::Canary, 9, 0, second(n));
        heard(&mut servers, second(n));
    }
    window(&mut servers, Arm::Canary, 9, 2, second(201));
    heard(&mut servers, second(201));
    window(&mut servers, Arm::Canary, 9, 0, second(202));
    assert_eq!(heard(&mut servers, second(202)).0, [0, 2]);
}

/// Ten timed users of the canary, of whom so many are above each threshold.
fn slow(servers: &mut Servers, above: &[(usize, u64)], now: Nanos) {
    for user in 0..10 {
        let seen = seen(user, Arm::Canary, 9, Ending::Good);
        servers.asked(&seen, 1, now);
        servers.active(&seen);
        servers.timed(&seen);
        for (kind, _) in above.iter().filter(|(_, users)| user < *users) {
            servers.met(&seen, *kind);
            servers.event(&seen, *kind);
        }
    }
}

/// How many count of a kind.
fn slow_ones(servers: &mut Servers, kind: usize, now: Nanos) -> (u32, u32) {
    let heard = servers.close(1, now);
    (heard.before.of(kind, EvidenceCell::Canary), heard.hiccups.of(kind, EvidenceCell::Canary))
}

#[test]
fn who_waits_for_a_server_is_above_every_threshold() {
    let mut servers = Servers::default();
    // Eight of ten above the median are no burst, but three above p99 are.
    slow(&mut servers, &[(P50, 8), (P99, 3)], second(1));
    assert_eq!(slow_ones(&mut servers, P50, second(1)), (0, 0));
    slow(&mut servers, &[], second(2));
    assert_eq!(slow_ones(&mut servers, P50, second(2)), (0, 1), "how many are so at any time nobody told yet");
    slow(&mut servers, &[(P50, 8), (P99, 3)], second(4));
    above_median(&mut servers, (Arm::Stable, 1), 400, 200, second(4));
    assert_eq!(slow_ones(&mut servers, P50, second(4)), (0, 0));
    slow(&mut servers, &[], second(5));
    assert_eq!(slow_ones(&mut servers, P50, second(5)), (5, 1), "five are so at any time, and three are one");
    slow(&mut servers, &[(P50, 10), (P99, 1)], second(6));
    servers.close(1, second(6));
    slow(&mut servers, &[], second(7));
    assert_eq!(slow_ones(&mut servers, P99, second(7)), (1, 0), "many above the median are no burst above p99");
}

#[test]
fn chance_before_a_hiccup_makes_it_no_longer() {
    let mut servers = Servers::default();
    let at = |ms: u64| Nanos(1_000_000_000 + ms * 1_000_000);
    window(&mut servers, Arm::Canary, 9, 0, at(0));
    heard(&mut servers, at(0));
    // Two by chance, a hiccup of a second and a half soon after, and one by chance.
    for (ms, failing) in [(250, 2), (1_000, 9), (1_750, 9), (2_400, 9), (3_000, 1)] {
        window(&mut servers, Arm::Canary, 9, failing, at(ms));
        assert_eq!(heard(&mut servers, at(ms)), ([0, 0], [0, 0], 1.0), "{ms}");
    }
    window(&mut servers, Arm::Canary, 9, 0, at(4_000));
    assert_eq!(heard(&mut servers, at(4_000)).1, [0, 1]);
    // What goes on after two seconds does not end by chance.
    for (ms, failing, counts) in [(5_000, 9, 0), (6_000, 9, 0), (7_000, 9, 0), (7_250, 9, 27)] {
        window(&mut servers, Arm::Canary, 9, failing, at(ms));
        assert_eq!(heard(&mut servers, at(ms)), ([0, counts], [0, 0], 1.0), "{ms}");
    }
}

/// Timed users of a server, of whom so many are above the median.
fn above_median(servers: &mut Servers, (arm, number): (Arm, u32), users: u64, above: u64, now: Nanos) {
    for user in 0..users {
        let seen = seen(user, arm, number, Ending::Good);
        servers.asked(&seen, 1, now);
        servers.active(&seen);
        servers.timed(&seen);
        if user < above {
            servers.met(&seen, P50);
            servers.event(&seen, P50);
        }
    }
}

#[test]
fn a_slow_server_of_many_users_is_slow_for_good() {
    let mut servers = Servers::default();
    let mut counted = 0;
    // Half of stable's users are above the median, and three quarters of the canary's, four hundred a second each.
    for n in 1..=600 {
        above_median(&mut servers, (Arm::Stable, 1), 400, 200, second(n));
        above_median(&mut servers, (Arm::Canary, 9), 400, 300, second(n));
        counted += users(&servers.close(1, second(n)), P50)[1];
    }
    assert!(counted > 590 * 300, "{counted}");
}
