//! A canary whose users have more of those who always fail.

use super::*;

/// A hundred users of a server in a window: of those who fail so many tell it for the first time, from the last one on.
fn hundred(servers: &mut Servers, (arm, server): (Arm, u32), failing: u64, first: u64, now: Nanos) {
    for user in 0..100 {
        let ending = if user < failing { Ending::Status } else { Ending::Good };
        let seen = seen(user, arm, server, ending);
        servers.asked(&seen, 1, now);
        servers.active(&seen);
        if ending.is_failure() {
            servers.met(&seen, ERRORS);
        }
        if (failing - first.min(failing)..failing).contains(&user) {
            servers.event(&seen, ERRORS);
        }
    }
}

/// Chance gave the canary five times as many of a few clients who always fail as it gave stable.
#[test]
fn clients_who_always_fail_do_not_make_a_hiccup_last() {
    let mut servers = Servers::default();
    let mut told = ([0, 0], [0, 0]);
    // As many as ever, all of them, and then by chance some more than ever, for four seconds.
    let canary = [vec![5; 60], vec![100], vec![8; 4], vec![5; 2]].concat();
    for (at, failing) in (1..).zip(canary) {
        hundred(&mut servers, (Arm::Stable, 1), 1, 0, second(at));
        hundred(&mut servers, (Arm::Canary, 9), failing, if failing == 100 { 95 } else { 0 }, second(at));
        let (counted, hiccups, _) = heard(&mut servers, second(at));
        for arm in 0..2 {
            told.0[arm] += counted[arm];
            told.1[arm] += hiccups[arm];
        }
    }
    assert_eq!(told, ([0, 0], [0, 1]));
}

/// What more of them meet than ever did is none of that.
#[test]
fn a_fault_among_clients_who_always_fail_lasts() {
    let mut servers = Servers::default();
    let canary = [vec![5; 60], vec![40; 5]].concat();
    let mut told = 0;
    for (at, failing) in (1..).zip(canary) {
        hundred(&mut servers, (Arm::Stable, 1), 1, 0, second(at));
        hundred(&mut servers, (Arm::Canary, 9), failing, if failing == 40 { 10 } else { 0 }, second(at));
        told += heard(&mut servers, second(at)).0[1];
    }
    assert!(told >= 30, "{told}");
}
