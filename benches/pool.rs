//! What a pick costs: each algorithm over 4 and over 100 servers, the lease given back and its success reported.
//!
//! `cargo bench --bench pool`. One thread: contention is not measured here, `scripts/bench` sees it.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use balance::budget::Budget;
use balance::settings::{Balance, HashKey, Outlier};
use balance::{Pick, Pool, Settings, Spec, Tried};
use base::units::{Nanos, Share};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn pool(balance: Balance, servers: u16) -> Pool<()> {
    let max_ejected = Share::percent(50.0).expect("50 is a share");
    let outlier = Outlier { consecutive_failures: 5, eject_for: Duration::from_secs(10), max_ejected };
    let settings = Settings { balance, slow_start: Some(Duration::from_secs(30)), max_in_flight: Some(1_000), outlier };
    let spec = |i: u16| Spec { address: SocketAddr::from(([10, 0, 0, 1], 1_000 + i)), weight: 1 + i % 3, attached: () };
    Pool::new(settings, (0..servers).map(spec).collect(), None, Nanos(0))
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    let balances = [
        ("round_robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("least_request", Balance::LeastRequest),
        ("peak_ewma", Balance::PeakEwma),
        ("hash", Balance::Hash(HashKey::Ip)),
    ];
    for (name, balance) in balances {
        for servers in [4, 100] {
            let pool = pool(balance.clone(), servers);
            let tried = Tried::new();
            let mut now = 0;
            group.bench_function(BenchmarkId::new(name, servers), |bencher| {
                bencher.iter(|| {
                    now += 1_000;
                    let random = fastrand::u64(..);
                    let pick =
                        Pick { key: &random.to_le_bytes(), tried: &tried, now: Nanos(now), random, uploading: false };
                    let lease = pool.pick(black_box(pick)).expect("all servers are up");
                    lease.succeeded(Duration::from_micros(random % 512), Nanos(now));
                    black_box(lease.address)
                })
            });
        }
    }
    group.finish();
}

fn stand_ins(criterion: &mut Criterion) {
    let pool = pool(Balance::RoundRobin, 100);
    for member in pool.members().iter().step_by(2) {
        member.state.set_healthy(false, Nanos(0));
    }
    let tried = Tried::new();
    criterion.bench_function("pick/round_robin, half of 100 down", |bencher| {
        bencher.iter(|| {
            let pick = Pick { key: b"", tried: &tried, now: Nanos(1), random: fastrand::u64(..), uploading: false };
            black_box(pool.pick(pick).expect("half is up").address)
        })
    });
}

fn budget(criterion: &mut Criterion) {
    let budget = Budget::new(Share::percent(20.0).expect("20 is a share"), None);
    let mut now = 0;
    criterion.bench_function("budget/request", |bencher| {
        bencher.iter(|| {
            now += 10_000;
            budget.request(Nanos(black_box(now)));
        })
    });
    criterion.bench_function("budget/try_retry", |bencher| {
        bencher.iter(|| {
            now += 10_000;
            budget.try_retry(Nanos(black_box(now)))
        })
    });
}

criterion_group!(benches, picks, stand_ins, budget);
criterion_main!(benches);
