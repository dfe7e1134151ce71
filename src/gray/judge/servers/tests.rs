//! Tests of what hits a server.

use super::*;
use crate::gray::judge::signals::ERRORS;

/// A request; whoever fails gets another answer.
fn seen(user: u64, arm: Arm, server: u32, ending: Ending) -> Seen {
    Seen { server, ending, saved: true, ..Seen::good(user, arm) }
}

fn second(n: u64) -> Nanos {
    Nanos(n * 1_000_000_000)
}

/// Ten users of a server in a window, of whom so many fail.
fn window(servers: &mut Servers, arm: Arm, server: u32, failing: u64, now: Nanos) {
    for user in 0..10 {
        let ending = if user < failing { Ending::Status } else { Ending::Good };
        let seen = seen(user, arm, server, ending);
        servers.asked(&seen, 1, now);
        servers.active(&seen);
        if ending.is_failure() {
            servers.met(&seen, ERRORS);
            servers.event(&seen, ERRORS);
        }
    }
}

fn heard(servers: &mut Servers, now: Nanos) -> ([u32; 2], [u32; 2], f64) {
    let heard = servers.close(1, now);
    let of = |counts: &Counts| [Cell::Stable, Cell::Canary].map(|cell| counts.of(ERRORS, cell));
    (of(&heard.users), of(&heard.hiccups), heard.servers)
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
    for user in 0..4 {
        // Whoever fails again tells nothing new, but that it lasts.
        let again = seen(user, Arm::Canary, 9, Ending::Status);
        servers.asked(&again, 1, second(5));
        servers.active(&again);
        servers.met(&again, ERRORS);
    }
    assert_eq!(heard(&mut servers, second(5)), ([0, 0], [0, 0], 0.25));
    assert_eq!(heard(&mut servers, second(6)), ([0, 0], [0, 0], 0.25), "nobody asked it");
    window(&mut servers, Arm::Canary, 9, 3, second(7));
    assert_eq!(heard(&mut servers, second(7)), ([0, 11], [0, 0], 0.25), "it lasts");
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
fn beside_a_hiccup_of_stable_nobody_else_counts() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Stable, 1, 0, second(1));
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    heard(&mut servers, second(1));
    window(&mut servers, Arm::Stable, 1, 5, second(2));
    window(&mut servers, Arm::Canary, 9, 1, second(2));
    assert_eq!(heard(&mut servers, second(2)), ([0, 0], [0, 0], 0.5));
    window(&mut servers, Arm::Stable, 1, 0, second(3));
    window(&mut servers, Arm::Canary, 9, 1, second(3));
    assert_eq!(heard(&mut servers, second(3)), ([0, 0], [1, 0], 0.5));
    window(&mut servers, Arm::Canary, 9, 0, second(4));
    assert_eq!(heard(&mut servers, second(4)), ([0, 1], [0, 0], 0.5), "that of the third second");
}

#[test]
fn who_got_no_answer_counts_at_once_and_the_others_wait() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    heard(&mut servers, second(1));
    window(&mut servers, Arm::Canary, 9, 8, second(2));
    let unsaved = Seen { saved: false, ..seen(99, Arm::Canary, 9, Ending::Status) };
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
fn a_good_answer_of_an_earlier_step_says_nothing_of_this_one() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 0, second(1));
    let late = Seen { step: 0, ..seen(5, Arm::Canary, 9, Ending::Good) };
    servers.asked(&late, 1, second(1));
    window(&mut servers, Arm::Canary, 9, 8, second(2));
    assert_eq!(heard(&mut servers, second(2)).0, [0, 0], "it is good in this one");
}

#[test]
fn in_a_large_fleet_one_hiccup_drops_nobody_else() {
    let mut servers = Servers::default();
    for at in 1..=3 {
        for server in 1..=9 {
            window(&mut servers, Arm::Stable, server, if at == 3 && server == 3 { 9 } else { 0 }, second(at));
        }
        window(&mut servers, Arm::Canary, 99, u64::from(at == 2), second(at));
        let users = heard(&mut servers, second(at)).0;
        assert_eq!(users, [0, u32::from(at == 3)]);
    }
}

#[test]
fn latency_is_bet_by_the_users_whose_answers_are_timed() {
    let mut users = Counts::default();
    users.event(P50, Cell::Canary);
    users.event(ERRORS, Cell::Canary);
    let heard = Heard { users, warm: Some([0.5, 1.0]), ..Heard::default() };
    assert_eq!(heard.bet(P50, 0.5), Bet::of(2.0 / 3.0, [0, 1]));
    assert_eq!(heard.bet(ERRORS, 0.5), Bet::of(0.5, [0, 1]));
}

#[test]
fn who_was_never_good_is_dead() {
    let mut servers = Servers::default();
    window(&mut servers, Arm::Canary, 9, 10, second(1));
    assert_eq!(heard(&mut servers, second(1)).0, [0, 10]);
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
    assert!(chance_of(2, 0.5) > 0.05 && chance_of(3, 0.05) < BY_CHANCE && chance_of(0, 9.0) == 1.0);
}
