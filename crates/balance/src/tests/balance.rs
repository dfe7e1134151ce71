//! The algorithms: exactness, proportions, ties, limits, stand-ins.

use super::*;

#[test]
fn round_robin_is_exact_over_each_cycle() {
    let mut client = Client::new(1);
    let five_one_one = pool(settings(Balance::RoundRobin), &[5, 1, 1]);
    assert_eq!(client.names(&five_one_one, 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    for weights in [&[1u16, 1, 1][..], &[3, 2, 1], &[10, 1], &[4, 0, 2, 8], &[1]] {
        let pool = pool(settings(Balance::RoundRobin), weights);
        let cycle: usize = weights.iter().map(|w| usize::from(*w)).sum();
        let expected: Vec<usize> = weights.iter().map(|w| usize::from(*w) * 3).collect();
        assert_eq!(client.counts(&pool, cycle * 3), expected, "{weights:?}");
    }
}

#[test]
fn weights_hold_without_load() {
    for balance in [Balance::Random, Balance::LeastRequest, Balance::PeakEwma] {
        let pool = pool(settings(balance.clone()), &[1, 2, 0, 5]);
        let counts = Client::new(2).counts(&pool, 40_000);
        roughly(&counts, &[1.0, 2.0, 0.0, 5.0], 0.01);
    }
}

#[test]
fn every_balance_spreads_a_dead_servers_share_as_the_weights_say() {
    for balance in all_balances() {
        let pool = pool(settings(balance.clone()), &[4, 1, 3, 2]);
        pool.members()[0].state.set_healthy(false, at(0.0));
        let counts = Client::new(3).counts(&pool, 30_000);
        let tolerance = if matches!(balance, Balance::Hash(_)) { 0.08 } else { 0.01 };
        roughly(&counts, &[0.0, 1.0, 3.0, 2.0], tolerance);
    }
}

#[test]
fn least_request_prefers_the_less_loaded_by_weight() {
    let pool = pool(settings(Balance::LeastRequest), &[1, 1]);
    let mut client = Client::new(4);
    let _load: Vec<_> = (0..3).map(|_| lease_of(&pool, 0, at(0.0))).collect();
    assert_eq!(client.counts(&pool, 100), [0, 100], "of two, both are always looked at");
    let _more: Vec<_> = (0..3).map(|_| lease_of(&pool, 1, at(0.0))).collect();
    let counts = client.counts(&pool, 10_000);
    roughly(&counts, &[1.0, 1.0], 0.02);
}

#[test]
fn least_request_keeps_loads_in_proportion() {
    let pool = pool(settings(Balance::LeastRequest), &[1, 1, 2, 4]);
    let mut client = Client::new(5);
    let held: Vec<_> = (0..800).map(|_| client.pick(&pool).unwrap()).collect();
    let loads: Vec<usize> = pool.members().iter().map(|m| m.state.in_flight() as usize).collect();
    roughly(&loads, &[1.0, 1.0, 2.0, 4.0], 0.02);
    drop(held);
    assert!(pool.members().iter().all(|m| m.state.in_flight() == 0));
}

#[test]
fn peak_ewma_prefers_the_faster_and_avoids_the_failing() {
    let pool = pool(settings(Balance::PeakEwma), &[1, 1]);
    let mut client = Client::new(6);
    for (name, ms) in [(0, 10), (1, 50)] {
        lease_of(&pool, name, at(0.0)).succeeded(Duration::from_millis(ms), at(0.0));
    }
    assert_eq!(client.counts(&pool, 100), [100, 0]);
    let held: Vec<_> = (0..60).map(|_| client.pick(&pool).unwrap()).collect();
    let loads: Vec<usize> = pool.members().iter().map(|m| m.state.in_flight() as usize).collect();
    roughly(&loads, &[5.0, 1.0], 0.03);
    drop(held);
    lease_of(&pool, 0, at(0.0)).failed(at(0.0));
    assert_eq!(client.counts(&pool, 100), [0, 100], "one that refuses at once is not fast");
}

#[test]
fn peak_ewma_tries_the_unmeasured_but_does_not_pile_on_them() {
    let pool = pool(settings(Balance::PeakEwma), &[1, 1]);
    lease_of(&pool, 0, at(0.0)).succeeded(Duration::from_millis(1), at(0.0));
    let mut client = Client::new(7);
    let first = client.pick(&pool).unwrap();
    assert_eq!(first.attached, 1);
    assert_eq!(client.counts(&pool, 50), [50, 0], "until it answers");
}

#[test]
fn a_key_stays_where_it_is() {
    let pool = pool(settings(all_balances()[4].clone()), &[1, 1, 1, 1]);
    let tried = Tried::new();
    let owner = |key: u32, random| {
        let pick = Pick { key: &key.to_le_bytes(), tried: &tried, now: at(0.0), random, uploading: false };
        pool.pick(pick).unwrap().attached
    };
    let before: Vec<usize> = (0..20_000).map(|key| owner(key, 1)).collect();
    pool.members()[2].state.set_healthy(false, at(0.0));
    let without: Vec<usize> = (0..20_000).map(|key| owner(key, 2)).collect();
    let strays = before.iter().zip(&without).filter(|(b, w)| b != w && **b != 2).count();
    assert_eq!(strays, 0, "only the dead server's keys move");
    pool.members()[2].state.set_healthy(true, at(0.0));
    assert_eq!(before, (0..20_000).map(|key| owner(key, 3)).collect::<Vec<_>>(), "and they come back");
}

#[test]
fn a_retry_goes_elsewhere_while_there_is_somewhere() {
    for balance in all_balances() {
        let pool = pool(settings(balance.clone()), &[1, 5, 1]);
        let mut client = Client::new(8);
        for _ in 0..200 {
            let mut tried = Tried::new();
            let mut names = vec![];
            for _ in 0..3 {
                let lease = client.retry(&pool, &tried).unwrap();
                lease.mark(&mut tried);
                names.push(lease.attached);
            }
            names.sort_unstable();
            assert_eq!(names, [0, 1, 2], "{balance:?}");
            assert!(client.retry(&pool, &tried).is_ok(), "all were tried: any will do");
        }
    }
}

#[test]
fn nobody_is_nobody() {
    for balance in all_balances() {
        let mut client = Client::new(9);
        assert_eq!(client.pick(&pool(settings(balance.clone()), &[])).err(), Some(PickError::Empty));
        let drained = pool(settings(balance.clone()), &[0, 0]);
        assert_eq!(client.pick(&drained).err(), Some(PickError::Empty));
        assert!(!drained.is_panicking(at(0.0)));
        let one = pool(settings(balance), &[0, 7]);
        assert_eq!(client.counts(&one, 10), [0, 10]);
    }
}

#[test]
fn a_full_fleet_is_saturated_and_says_so() {
    for balance in all_balances() {
        let limited = Settings { max_in_flight: Some(3), ..settings(balance) };
        let pool = pool(limited, &[1, 9, 0, 2]);
        let mut client = Client::new(10);
        let mut held: Vec<_> = (0..9).map(|_| client.pick(&pool).unwrap()).collect();
        assert_eq!(client.pick(&pool).err(), Some(PickError::Saturated));
        let freed = held.swap_remove(4).attached;
        assert_eq!(client.pick(&pool).unwrap().attached, freed);
        pool.members()[0].state.set_healthy(false, at(0.0));
        held.retain(|lease| lease.attached != 0);
        held.extend((0..6 - held.len()).map(|_| client.pick(&pool).unwrap()));
        assert_eq!(client.pick(&pool).err(), Some(PickError::Saturated), "full ones that are up: no panic");
    }
}

#[test]
fn uploads_leave_a_quarter_of_the_places() {
    for (max, uploads) in [(1, 1), (2, 1), (3, 2), (4, 3), (50, 37)] {
        let pool = pool(Settings { max_in_flight: Some(max), ..settings(Balance::RoundRobin) }, &[1]);
        let tried = Tried::new();
        let pick = |uploading| pool.pick(Pick { key: b"", tried: &tried, now: at(0.0), random: 7, uploading });
        let slow: Vec<_> = std::iter::from_fn(|| pick(true).ok()).collect();
        let others: Vec<_> = std::iter::from_fn(|| pick(false).ok()).collect();
        assert_eq!((slow.len(), others.len()), (uploads, max as usize - uploads), "of {max}");
    }
}

#[test]
fn a_retry_shares_a_server_rather_than_fail_where_the_others_are_full() {
    let limited = Settings { max_in_flight: Some(1), ..settings(Balance::RoundRobin) };
    let pool = pool(limited, &[1, 1]);
    let mut client = Client::new(11);
    let first = client.pick(&pool).unwrap();
    let mut tried = Tried::new();
    first.mark(&mut tried);
    let name = first.attached;
    drop(first);
    let _other = lease_of(&pool, 1 - name, at(0.0));
    assert_eq!(client.retry(&pool, &tried).unwrap().attached, name);
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    for balance in all_balances() {
        let run = || Client::new(12).names(&pool(settings(balance.clone()), &[2, 1, 3]), 500);
        assert_eq!(run(), run());
    }
}
