//! Many threads at once: nothing leaks, nothing exceeds its limit.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

const THREADS: u64 = 8;

#[test]
fn in_flight_ends_at_zero_and_never_exceeds_its_limit() {
    for balance in all_balances() {
        let limited = Settings { max_in_flight: Some(5), ..settings(balance) };
        let pool = pool(limited, &[1, 2, 3]);
        std::thread::scope(|scope| {
            for seed in 0..THREADS {
                let pool = &pool;
                scope.spawn(move || {
                    let mut client = Client::new(seed);
                    let mut held = std::collections::VecDeque::new();
                    for _ in 0..5_000 {
                        held.extend(client.pick(pool));
                        if held.len() > 3 {
                            held.pop_front();
                        }
                    }
                });
            }
        });
        assert!(pool.members().iter().all(|m| m.state.in_flight() == 0));
    }
}

#[test]
fn round_robin_is_exact_across_threads() {
    let pool = pool(settings(Balance::RoundRobin), &[5, 2, 1]);
    let counts = [const { AtomicUsize::new(0) }; 3];
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let (pool, counts) = (&pool, &counts);
            scope.spawn(move || {
                for name in Client::new(seed).names(pool, 8_000) {
                    counts[name].fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert_eq!(counts.map(AtomicUsize::into_inner), [40_000, 16_000, 8_000]);
}

#[test]
fn a_fleet_that_fails_at_once_keeps_its_last_half() {
    for _ in 0..50 {
        let pool = pool(settings(Balance::Random), &[1; 7]);
        let ejected = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for seed in 0..THREADS {
                let (pool, ejected) = (&pool, &ejected);
                scope.spawn(move || {
                    let mut client = Client::new(seed);
                    for _ in 0..200 {
                        let out = client.pick(pool).unwrap().failed(at(0.0));
                        ejected.fetch_add(usize::from(out.is_some()), Relaxed);
                    }
                });
            }
        });
        let out = pool.members().iter().filter(|m| !m.state.is_up(at(0.0))).count();
        assert_eq!((out, ejected.into_inner()), (3, 3));
    }
}

#[test]
fn pools_may_change_under_load() {
    let shared = parking_lot::RwLock::new(Arc::new(pool(settings(Balance::LeastRequest), &[1, 1, 1])));
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let (shared, done) = (&shared, &done);
            scope.spawn(move || {
                let mut client = Client::new(seed);
                for i in 0..3_000 {
                    let pool = Arc::clone(&shared.read());
                    let lease = client.pick(&pool).expect("somebody is always there");
                    lease.succeeded(Duration::from_micros(i), at(0.0));
                }
                done.fetch_add(1, Relaxed);
            });
        }
        for round in 0.. {
            if done.load(Relaxed) == THREADS as usize {
                break;
            }
            let weights = [1 + round % 3, round % 2, 1];
            let old = Arc::clone(&shared.read());
            let new =
                Pool::new(settings(all_balances()[round as usize % 5].clone()), specs(&weights), Some(&old), at(0.0));
            *shared.write() = Arc::new(new);
        }
    });
    let last = shared.into_inner();
    assert!(last.members().iter().all(|m| m.state.in_flight() == 0));
}
