//! Clients who always fail, and told so long ago.

use super::*;

/// Chance gave the canary five times as many of a few clients who always fail as it gave stable.
#[test]
fn clients_who_always_fail_do_not_make_a_hiccup_last() {
    let mut servers = Servers::default();
    let mut told = ([0, 0], [0, 0]);
    // As many as ever, all of them, and then by chance some more than ever, for four seconds.
    let canary = [vec![5; 60], vec![100], vec![8; 4], vec![5; 2]].concat();
    for (at, failing) in (1..).zip(canary) {
        let telling = if failing == 100 { 95 } else { 0 };
        asked(&mut servers, (Arm::Stable, 1), [100, 1, 0], second(at));
        asked(&mut servers, (Arm::Canary, 9), [100, failing, telling], second(at));
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
        let telling = if failing == 40 { 10 } else { 0 };
        asked(&mut servers, (Arm::Stable, 1), [100, 1, 0], second(at));
        asked(&mut servers, (Arm::Canary, 9), [100, failing, telling], second(at));
        told += heard(&mut servers, second(at)).0[1];
    }
    assert!(told >= 30, "{told}");
}

#[test]
fn who_told_long_ago_is_not_counted_again_beside_a_burst() {
    let mut servers = Servers::default();
    for number in [1, 2] {
        asked(&mut servers, (Arm::Stable, number), [10, 1, 0], second(1));
    }
    window(&mut servers, Arm::Canary, 9, 9, second(1));
    servers.close(1, second(1));
    window(&mut servers, Arm::Canary, 9, 0, second(2));
    let heard = servers.close(1, second(2));
    assert_eq!([of(&heard.before, ERRORS), of(&heard.hiccups, ERRORS)], [[0, 0], [0, 1]]);
}
