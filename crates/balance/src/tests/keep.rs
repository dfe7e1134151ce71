//! What a new pool keeps of the one before, and how newcomers begin.

use super::*;

fn ramping(balance: Balance) -> Settings {
    Settings { slow_start: Some(30 * SECOND), ..settings(balance) }
}

#[test]
fn servers_that_stay_keep_their_state_whatever_their_weight() {
    let old = pool(settings(Balance::RoundRobin), &[1, 1, 1, 1]);
    fail(&old, 0, 5, at(0.0));
    old.members()[1].state.set_healthy(false, at(0.0));
    let held = lease_of(&old, 2, at(0.0));
    held.succeeded(Duration::from_millis(7), at(0.0));
    let mut next = specs(&[3, 2, 0, 1, 1]);
    next.remove(3);
    next.reverse();
    let new = Pool::new(settings(Balance::Random), next, Some(&old), at(1.0));
    let names: Vec<usize> = new.members().iter().map(|m| m.attached).collect();
    assert_eq!(names, [4, 2, 1, 0]);
    assert_eq!(new.members()[3].state.ejected_until(at(1.0)), Some(at(10.0)));
    assert!(!new.members()[2].state.healthy());
    let third = &new.members()[1].state;
    assert_eq!((third.in_flight(), third.latency()), (1, Some(Duration::from_millis(7))));
    drop(held);
    assert_eq!(third.in_flight(), 0, "a lease of the old pool counts out in the new one");
    assert_eq!(Client::new(1).at(1.0).names(&new, 10), [4; 10], "the others are drained, unhealthy, ejected");
}

#[test]
fn round_robin_goes_on_where_it_was() {
    let mut pools = vec![pool(settings(Balance::RoundRobin), &[5, 1, 1])];
    let mut client = Client::new(2);
    let mut names = vec![];
    for _ in 0..70 {
        names.extend(client.names(pools.last().unwrap(), 1));
        let next = Pool::new(settings(Balance::RoundRobin), specs(&[5, 1, 1]), pools.last(), at(0.0));
        pools.push(next);
    }
    let count = |name| names.iter().filter(|n| **n == name).count();
    assert_eq!([count(0), count(1), count(2)], [50, 10, 10], "exact across 70 pools");
    let plans = pools.windows(2).all(|two| Arc::ptr_eq(&two[0].fleet.plan, &two[1].fleet.plan));
    assert!(plans, "tables are shared, not worked out again");
}

#[test]
fn a_failure_that_began_in_the_old_pool_ejects_in_the_new_one() {
    let old = pool(settings(Balance::Random), &[1, 1]);
    let lease = lease_of(&old, 0, at(0.0));
    fail(&old, 0, 4, at(0.0));
    let new = Pool::new(settings(Balance::Random), specs(&[1, 1]), Some(&old), at(0.0));
    assert!(lease.failed(at(0.0)).is_some());
    assert!(!new.members()[0].state.is_up(at(0.0)));
}

#[test]
fn the_first_servers_have_their_full_share_at_once() {
    let first = pool(ramping(Balance::Random), &[1, 1]);
    roughly(&Client::new(3).counts(&first, 10_000), &[1.0, 1.0], 0.02);
    let unresolved = pool(ramping(Balance::Random), &[]);
    let resolved = Pool::new(ramping(Balance::Random), specs(&[1, 1]), Some(&unresolved), at(0.0));
    assert_eq!(resolved.members()[0].state.ramp(30_000_000_000, at(0.0)), state::FULL);
}

#[test]
fn a_newcomer_ramps_up() {
    for balance in &all_balances()[..4] {
        let old = pool(ramping(balance.clone()), &[1]);
        let new = Pool::new(ramping(balance.clone()), specs(&[1, 1]), Some(&old), at(0.0));
        let mut client = Client::new(4);
        for (seconds, factor) in [(0.0, 0.1), (15.0, 0.55), (30.0, 1.0), (99.0, 1.0)] {
            let counts = client.at(seconds).counts(&new, 20_000);
            // Two choices of two servers look at both; the first one drawn wins the tie.
            roughly(&counts, &[1.0, factor], 0.015);
        }
    }
}

#[test]
fn a_newcomer_ramps_up_though_the_others_are_busier() {
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        let old = pool(ramping(balance.clone()), &[1]);
        let new = Pool::new(ramping(balance), specs(&[1, 1]), Some(&old), at(0.0));
        let _busy: Vec<_> = (0..8).map(|_| lease_of(&new, 0, at(0.0))).collect();
        let counts = Client::new(4).counts(&new, 20_000);
        // Drawn first it is kept, drawn second it wins: a tenth of either.
        roughly(&counts, &[0.82, 0.18], 0.015);
    }
}

#[test]
fn who_comes_back_ramps_up_too() {
    let ramp = |pool: &Pool<usize>, seconds| pool.members()[0].state.ramp(30_000_000_000, at(seconds));
    let unhealthy = pool(ramping(Balance::Random), &[1, 1]);
    unhealthy.members()[0].state.set_healthy(false, at(0.0));
    unhealthy.members()[0].state.set_healthy(true, at(5.0));
    assert!(ramp(&unhealthy, 5.0) < 110 && ramp(&unhealthy, 35.0) == state::FULL);
    let ejected = pool(ramping(Balance::Random), &[1, 1]);
    fail(&ejected, 0, 5, at(0.0));
    assert_eq!(ramp(&ejected, 11.0), state::FULL, "probation is slow enough");
    lease_of(&ejected, 0, at(12.0)).succeeded(SECOND, at(12.0));
    assert!(ramp(&ejected, 12.0) < 110);
    let drained = pool(ramping(Balance::Random), &[0, 1]);
    let back = Pool::new(ramping(Balance::Random), specs(&[1, 1]), Some(&drained), at(20.0));
    assert!(ramp(&back, 20.0) < 110, "also who was drained");
    let heavier = Pool::new(ramping(Balance::Random), specs(&[9, 1]), Some(&back), at(60.0));
    assert_eq!(ramp(&heavier, 60.0), state::FULL, "but not who only weighs more");
}

#[test]
fn a_ramp_never_refuses_a_request() {
    let old = pool(ramping(Balance::RoundRobin), &[1]);
    let next = specs(&[0, 1, 2]);
    let new = Pool::new(ramping(Balance::RoundRobin), next, Some(&old), at(0.0));
    let counts = Client::new(5).counts(&new, 9_000);
    roughly(&counts, &[0.0, 1.0, 2.0], 0.02);
}

#[test]
fn a_drained_server_finishes_what_it_has() {
    for balance in all_balances() {
        let old = pool(settings(balance.clone()), &[1, 1]);
        let held = lease_of(&old, 0, at(0.0));
        let new = Pool::new(settings(balance), specs(&[0, 1]), Some(&old), at(0.0));
        assert_eq!(Client::new(6).counts(&new, 100), [0, 100]);
        new.members()[1].state.set_healthy(false, at(0.0));
        assert_eq!(Client::new(6).counts(&new, 100), [0, 100], "not even in panic");
        assert_eq!(new.members()[0].state.in_flight(), 1);
        drop(held);
        assert_eq!(new.members()[0].state.in_flight(), 0);
    }
}
