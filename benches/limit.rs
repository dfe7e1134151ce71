//! What a limit costs: one decision among a million keys, three limits at once, two threads, a key that is hot.
//!
//! A decision may take 150 ns at most. Keys are asked in no order, so a decision meets at least one
//! miss of the cache; a bare load from a table of the same size stands beside it. What a key is made of has just been read
//! from the network, so it is made up in a register. The memory of the table is printed first; it never grows.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::Duration;

use ahash::RandomState;
use base::units::Nanos;
use criterion::{Criterion, criterion_group, criterion_main};
use rate_limit::{Ask, Key, Limiter, Rate, Rule, decide};

const KEYS: u64 = 1_000_000;
/// Keys that stay in the cache.
const HOT: u64 = 256;
const BEGIN: Nanos = Nanos(1_000_000_000);

/// A limit that admits whatever is asked here.
fn rule(limiter: &Limiter, name: &str) -> Rule {
    let rate = Rate::new(1, Duration::from_secs(60), u32::MAX / 1_000).expect("a rate");
    limiter.rule(name, "header", Some(rate), None)
}

fn key(rule: &Rule, user: u64) -> Key {
    let mut text = *b"user-00000000";
    text[5..].copy_from_slice(&user.to_le_bytes());
    let mut key = rule.key();
    key.part(&text);
    key.finish()
}

fn asked(rule: &Rule, user: u64) -> bool {
    decide(&mut [Ask::new(rule, key(rule, user))], BEGIN).is_ok()
}

/// Users in no order.
struct Users(u64);

impl Users {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(below)) >> 64) as u64
    }
}

fn one(c: &mut Criterion) {
    let limiter = Limiter::new(RandomState::with_seeds(1, 2, 3, 4));
    let rule = &rule(&limiter, "a");
    assert!((0..KEYS).all(|user| asked(rule, user)));
    println!("the table of {KEYS} keys takes {} KiB", limiter.memory() >> 10);
    let mut group = c.benchmark_group("limit");
    let mut users = Users(88_172_645_463_325_252);
    group.bench_function("hot", |b| b.iter(|| assert!(asked(rule, black_box(users.next(HOT))))));
    group.bench_function("million", |b| b.iter(|| assert!(asked(rule, black_box(users.next(KEYS))))));
    let over = AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| {
            let mut users = Users(362_436_069);
            while !over.load(Ordering::Relaxed) {
                assert!(asked(rule, users.next(KEYS)));
            }
        });
        group.bench_function("million, beside another thread", |b| {
            b.iter(|| assert!(asked(rule, black_box(users.next(KEYS)))));
        });
        over.store(true, Ordering::Relaxed);
    });
    let table = vec![1_u64; limiter.memory() / size_of::<u64>()];
    let mut sum = 0;
    group.bench_function("a bare load", |b| {
        // Each address needs the load before.
        b.iter(|| {
            users.0 ^= sum & 2;
            sum = table[users.next(table.len() as u64) as usize];
            sum
        });
    });
    group.finish();
}

fn three(c: &mut Criterion) {
    let limiter = Limiter::new(RandomState::with_seeds(1, 2, 3, 4));
    let rules = ["a", "b", "c"].map(|name| rule(&limiter, name));
    let users_each = KEYS / 3;
    assert!(rules.iter().all(|rule| (0..users_each).all(|user| asked(rule, user))));
    let mut users = Users(521_288_629);
    c.bench_function("limit/three at once", |b| {
        b.iter(|| {
            let mut asks = [0, 1, 2].map(|n| Ask::new(&rules[n], key(&rules[n], users.next(users_each))));
            assert!(decide(black_box(&mut asks), BEGIN).is_ok());
        });
    });
}

criterion_group!(benches, one, three);
criterion_main!(benches);
