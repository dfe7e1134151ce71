//! Ejection, probation and panic.

use super::*;

#[test]
fn failures_in_a_row_eject_and_a_success_starts_the_count_again() {
    let pool = pool(settings(Balance::RoundRobin), &[1, 1, 1, 1]);
    assert!(fail(&pool, 0, 4, at(0.0)).is_empty());
    lease_of(&pool, 0, at(0.0)).succeeded(SECOND, at(0.0));
    assert_eq!(pool.members()[0].state.failures(), 0);
    assert!(fail(&pool, 0, 4, at(0.0)).is_empty());
    let ejected = fail(&pool, 0, 1, at(0.0));
    assert_eq!(ejected, [Ejection { until: at(10.0), length: 10 * SECOND, in_a_row: 1 }]);
    let state = &pool.members()[0].state;
    assert_eq!((state.ejected_until(at(9.9)), state.ejections()), (Some(at(10.0)), 1));
    assert_eq!(state.ejected_until(at(10.0)), None, "time alone ends it");
    for balance in all_balances() {
        let pool = super::pool(settings(balance), &[1, 1, 1, 1]);
        fail(&pool, 0, 5, at(0.0));
        assert_eq!(Client::new(1).counts(&pool, 1_000)[0], 0);
    }
}

#[test]
fn zero_switches_it_off() {
    let mut off = settings(Balance::RoundRobin);
    off.outlier.consecutive_failures = 0;
    let never = pool(off.clone(), &[1, 1]);
    assert!(fail(&never, 0, 1_000, at(0.0)).is_empty());
    let ejecting = pool(settings(Balance::RoundRobin), &[1, 1]);
    fail(&ejecting, 0, 5, at(0.0));
    let pardoned = Pool::new(off, specs(&[1, 1]), Some(&ejecting), at(1.0));
    assert!(pardoned.members()[0].state.is_up(at(1.0)), "and lets out who was ejected before");
}

#[test]
fn never_more_than_the_greatest_share_is_out() {
    for (servers, out) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let pool = pool(settings(Balance::Random), &vec![1; servers]);
        let ejected: usize = (0..servers).map(|name| fail(&pool, name, 20, at(0.0)).len()).sum();
        assert_eq!(ejected, out, "of {servers}");
    }
    let mut all = settings(Balance::Random);
    all.outlier.max_ejected = Share::ALL;
    let pool = pool(all, &[1, 1, 0]);
    let ejected: Vec<usize> = (0..3).map(|name| fail(&pool, name, 20, at(0.0)).len()).collect();
    assert_eq!(ejected, [1, 1, 0], "drained ones are neither ejected nor counted");
}

#[test]
fn there_is_room_again_when_an_ejection_is_over() {
    let pool = pool(settings(Balance::Random), &[1, 1]);
    assert_eq!(fail(&pool, 0, 5, at(0.0)).len(), 1);
    assert_eq!(fail(&pool, 1, 50, at(9.0)).len(), 0);
    assert_eq!(fail(&pool, 1, 1, at(10.0)).len(), 1, "the failures since then count");
}

#[test]
fn ejections_grow_up_to_a_cap_and_shrink_with_good_behaviour() {
    let mut often = settings(Balance::Random);
    often.outlier.eject_for = 100 * SECOND;
    let pool = pool(often, &[1, 1]);
    let mut now = 0.0;
    let mut lengths = vec![];
    for _ in 0..5 {
        let ejection = fail(&pool, 0, 5, at(now))[0];
        lengths.push(ejection.length.as_secs());
        now += ejection.length.as_secs_f64();
    }
    assert_eq!(lengths, [100, 200, 300, 300, 300]);
    // 250 s without a failure take two off the five; the next one is the fourth.
    let fourth = fail(&pool, 0, 5, at(now + 250.0))[0];
    assert_eq!((fourth.in_a_row, fourth.length), (4, 300 * SECOND));
    // A failure now and then keeps an interval from being a quiet one.
    let end = now + 250.0 + 300.0;
    lease_of(&pool, 0, at(end)).succeeded(SECOND, at(end));
    for i in 1..8 {
        let now = at(end + 60.0 * f64::from(i));
        assert!(fail(&pool, 0, 1, now).is_empty());
        lease_of(&pool, 0, now).succeeded(SECOND, now);
    }
    assert_eq!(fail(&pool, 0, 5, at(end + 500.0))[0].in_a_row, 5);
    assert_eq!(fail(&pool, 0, 5, at(end + 100_000.0))[0].in_a_row, 1, "in the end it is forgiven");
}

#[test]
fn a_long_first_ejection_is_not_cut() {
    let mut long = settings(Balance::Random);
    long.outlier.eject_for = 1_000 * SECOND;
    let pool = pool(long, &[1, 1]);
    assert_eq!(fail(&pool, 0, 5, at(0.0))[0].length, 1_000 * SECOND);
    assert_eq!(fail(&pool, 0, 5, at(1_000.0))[0].length, 1_000 * SECOND);
}

#[test]
fn probation_is_one_request_at_a_time_until_one_succeeds() {
    for balance in all_balances() {
        let pool = pool(settings(balance.clone()), &[1, 1]);
        fail(&pool, 0, 5, at(0.0));
        let mut client = Client::new(2);
        client.at(10.5);
        assert!(pool.members()[0].state.on_probation(at(10.5)));
        let held: Vec<_> = (0..200).map(|_| client.pick(&pool).unwrap()).collect();
        assert_eq!(held.iter().filter(|lease| lease.attached == 0).count(), 1, "{balance:?}");
        drop(held);
        let mut probe = client.pick(&pool).unwrap();
        while probe.attached != 0 {
            probe = client.pick(&pool).unwrap();
        }
        probe.succeeded(Duration::from_millis(1), at(10.6));
        drop(probe);
        assert!(!pool.members()[0].state.on_probation(at(10.6)));
        let held: Vec<_> = (0..200).map(|_| client.pick(&pool).unwrap()).collect();
        assert!(held.iter().filter(|lease| lease.attached == 0).count() > 50, "{balance:?}");
    }
}

#[test]
fn a_failed_probation_ejects_again_at_once_and_longer() {
    let pool = pool(settings(Balance::Random), &[1, 1]);
    fail(&pool, 0, 5, at(0.0));
    let again = fail(&pool, 0, 1, at(12.0));
    assert_eq!(again, [Ejection { until: at(32.0), length: 20 * SECOND, in_a_row: 2 }]);
    // A request that ends without an outcome (the client went away) leaves the place to the next one.
    drop(Lease::take(&pool.members()[0], false, at(33.0), None).unwrap());
    assert!(pool.members()[0].state.on_probation(at(33.0)));
    assert!(Lease::take(&pool.members()[0], false, at(33.0), None).is_some());
}

#[test]
fn what_was_sent_before_an_ejection_says_nothing_after_it() {
    let pool = pool(settings(Balance::Random), &[1, 1]);
    let old: Vec<_> = (0..20).map(|_| lease_of(&pool, 0, at(0.0))).collect();
    fail(&pool, 0, 5, at(0.0));
    let late: Vec<_> = old.iter().filter_map(|lease| lease.failed(at(5.0))).collect();
    assert!(late.is_empty(), "not while it is out");
    let late: Vec<_> = old.iter().filter_map(|lease| lease.failed(at(11.0))).collect();
    assert!(late.is_empty(), "nor on probation");
    old[0].succeeded(SECOND, at(11.0));
    assert!(pool.members()[0].state.on_probation(at(11.0)), "nor for it");
    drop(old);
}

#[test]
fn a_fleet_that_is_down_is_tried_and_says_so() {
    for balance in all_balances() {
        let pool = pool(settings(balance.clone()), &[1, 3, 0]);
        assert!(!pool.is_panicking(at(0.0)));
        for member in &pool.members()[..2] {
            member.state.set_healthy(false, at(0.0));
        }
        assert!(pool.is_panicking(at(0.0)), "the drained one does not count");
        let counts = Client::new(3).counts(&pool, 10_000);
        let tolerance = if matches!(balance, Balance::Hash(_)) { 0.08 } else { 0.02 };
        roughly(&counts, &[1.0, 3.0, 0.0], tolerance);
        pool.members()[0].state.set_healthy(true, at(1.0));
        assert!(!pool.is_panicking(at(1.0)));
        assert_eq!(Client::new(3).counts(&pool, 100), [100, 0, 0]);
    }
}

#[test]
fn panic_ends_by_itself_when_an_ejection_does() {
    let mut all = settings(Balance::RoundRobin);
    all.outlier.max_ejected = Share::ALL;
    let pool = pool(all, &[1]);
    fail(&pool, 0, 5, at(0.0));
    assert!(pool.is_panicking(at(9.0)));
    let mut client = Client::new(4);
    assert_eq!(client.at(9.0).counts(&pool, 3), [3]);
    assert!(!pool.is_panicking(at(10.0)));
    let held: Vec<_> = (0..3).map(|_| client.at(10.0).pick(&pool).unwrap()).collect();
    assert_eq!(held.len(), 3, "even on probation: there is nobody else");
}

#[test]
fn panic_respects_limits_and_prefers_the_untried() {
    let limited = Settings { max_in_flight: Some(2), ..settings(Balance::RoundRobin) };
    let pool = pool(limited, &[1, 1]);
    pool.members().iter().for_each(|m| m.state.set_healthy(false, at(0.0)));
    let mut client = Client::new(5);
    let held: Vec<_> = (0..4).map(|_| client.pick(&pool).unwrap()).collect();
    assert_eq!(client.pick(&pool).err(), Some(PickError::Saturated));
    drop(held);
    for _ in 0..50 {
        let mut tried = Tried::new();
        let first = client.pick(&pool).unwrap();
        first.mark(&mut tried);
        assert_ne!(client.retry(&pool, &tried).unwrap().attached, first.attached);
    }
}

#[test]
fn a_retry_tries_a_server_that_is_down_before_the_one_that_just_failed() {
    let pool = pool(settings(Balance::RoundRobin), &[1, 1]);
    pool.members()[1].state.set_healthy(false, at(0.0));
    let mut client = Client::new(6);
    let mut tried = Tried::new();
    let first = client.pick(&pool).unwrap();
    assert_eq!(first.attached, 0);
    first.mark(&mut tried);
    let second = client.retry(&pool, &tried).unwrap();
    assert_eq!(second.attached, 1);
    second.mark(&mut tried);
    assert_eq!(client.retry(&pool, &tried).unwrap().attached, 0, "then the one that is up again");
    assert!(!pool.is_panicking(at(0.0)));
}
