//! The engine as a whole: against a plain model, on many threads, with a table that is full, and through a swap.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ahash::RandomState;

use super::gcra::Ticks;
use super::*;
use base::units::Nanos;

const SECOND: u64 = 1_000_000_000;

fn limiter() -> Limiter {
    Limiter::of_sets(RandomState::with_seeds(1, 2, 3, 4), 4, 4)
}

fn rate(count: u32, per: u64, burst: u32) -> Option<Rate> {
    Some(Rate::new(count, Duration::from_nanos(per), burst).unwrap())
}

fn key(rule: &Rule, user: u64) -> Key {
    let mut key = rule.key();
    key.number(user);
    key.finish()
}

fn asks(rule: &Rule, user: u64) -> Ask<'_> {
    Ask::new(rule, key(rule, user))
}

fn admits(rule: &Rule, user: u64, now: u64) -> bool {
    decide(&mut [asks(rule, user)], Nanos(now)).is_ok()
}

fn left(rule: &Rule, user: u64, now: u64) -> u32 {
    let mut ask = asks(rule, user);
    ask.look(Ticks::at(Nanos(now)));
    ask.left().unwrap().tokens
}

/// The same rule as a leaky bucket in whole numbers of any size: a request weighs `per`, and `count` leak each nanosecond.
struct Model {
    count: u128,
    per: u128,
    burst: u128,
    owed: u128,
    at: u128,
}

impl Model {
    /// Whether it conforms, and by how many nanoseconds it does or does not.
    fn ask(&mut self, now: u64) -> (bool, u128) {
        let now = u128::from(now);
        self.owed = self.owed.saturating_sub((now - self.at) * self.count);
        self.at = now;
        let (wanted, room) = (self.owed + self.per, self.burst * self.per);
        (wanted <= room, wanted.abs_diff(room) / self.count)
    }
}

#[test]
fn it_decides_as_the_model_does() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..300 {
        let limiter = limiter();
        let count =
            if round % 2 == 0 { *random.choice(&[1, 2, 5, 8, 10, 100, 1_000]).unwrap() } else { random.u32(1..5_000) };
        let per = random.choice([1_000_000, SECOND, 60 * SECOND, 3_600 * SECOND]).unwrap();
        let burst = if random.bool() { random.u32(1..4) } else { random.u32(1..200) };
        let exact = u128::from(per) * 16 % u128::from(count) == 0;
        let rule = limiter.rule("a", "user", rate(count, per, burst), None);
        let mut models: HashMap<u64, Model> = HashMap::new();
        let mut now = random.u64(0..SECOND);
        let interval = per / u64::from(count);
        for _ in 0..500 {
            // Often exactly on the border, now and then after a long silence.
            now += match random.u8(0..8) {
                0 => interval,
                1 => 0,
                2 => interval * u64::from(burst),
                3 => interval.saturating_sub(1),
                _ => random.u64(0..=interval),
            };
            let user = random.u64(0..5);
            let (count, per, burst) = (u128::from(count), u128::from(per), u128::from(burst));
            let model = models.entry(user).or_insert(Model { count, per, burst, owed: 0, at: 0 });
            let (expected, margin) = model.ask(now);
            let found = admits(&rule, user, now);
            // Where an interval is no whole number of sixteenths, the very border is nobody's.
            if exact || margin > 100 {
                assert_eq!(found, expected, "{count}/{per} burst {burst} at {now}, off the border by {margin} ns");
            }
            if found {
                model.owed += per;
            }
        }
    }
}

#[test]
fn a_rate_admits_burst_and_then_rate() {
    let limiter = limiter();
    let rule = limiter.rule("a", "user", rate(100, SECOND, 200), None);
    assert_eq!((0..300).filter(|_| admits(&rule, 1, 0)).count(), 200);
    assert!(!admits(&rule, 1, 9_999_999));
    assert!(admits(&rule, 1, 10_000_000), "exactly when its token comes");
    let admitted = (0..6_000_000).filter(|n| admits(&rule, 1, 10_000_001 + n * 10_000)).count();
    assert_eq!(admitted, 5_999, "a minute at a thousand times the rate, which ends before the last token comes");
    // A rate whose interval is no whole number: 7 a second for an hour.
    let rule = limiter.rule("b", "user", rate(7, SECOND, 2), None);
    let admitted = (0..3_600_000).filter(|n| admits(&rule, 1, n * 1_000_000)).count();
    assert_eq!(admitted, 25_201);
}

#[test]
fn what_is_left_is_told() {
    let limiter = limiter();
    let rule = limiter.rule("a", "user", rate(1, SECOND, 3), Some(4));
    let mut ask = [asks(&rule, 1)];
    let hold = decide(&mut ask, Nanos(0)).unwrap();
    assert_eq!(ask[0].left(), Some(Left { tokens: 2, next: Duration::from_secs(1) }));
    assert_eq!(ask[0].free(), Some(3));
    drop((hold, decide(&mut ask, Nanos(0)).unwrap(), decide(&mut ask, Nanos(0)).unwrap()));
    assert_eq!(ask[0].left(), Some(Left { tokens: 0, next: Duration::from_secs(1) }));
    let refused = decide(&mut ask, Nanos(SECOND / 4)).unwrap_err();
    assert_eq!(refused, Refused { by: 0, over: Over::Rate(Duration::from_millis(750)) });
    assert_eq!(ask[0].left(), Some(Left { tokens: 0, next: Duration::from_millis(750) }));
    assert_eq!(left(&rule, 1, 10 * SECOND), 3);
}

#[test]
fn rates_that_cannot_be_kept_are_refused() {
    let of = |count, per, burst| Rate::new(count, Duration::from_nanos(per), burst).unwrap_err();
    assert_eq!([of(0, 1, 1), of(1, 0, 1), of(1, 1, 0)], [RateError::Zero; 3]);
    assert_eq!(of(100, 1, 1), RateError::TooFast);
    assert_eq!(of(1, 3_600 * SECOND, 1_000_000), RateError::TooLong);
    Rate::new(u32::MAX, Duration::from_secs(1), u32::MAX).unwrap();
    Rate::new(1, Duration::from_secs(3_600), 70_000).unwrap();
}

#[test]
fn a_refused_request_takes_nothing_of_the_others() {
    let limiter = limiter();
    let wide = limiter.rule("wide", "user", rate(1, SECOND, 10), Some(5));
    let narrow = limiter.rule("narrow", "user", rate(1, 10 * SECOND, 2), None);
    let single = limiter.rule("single", "user", None, Some(1));
    let mut ask = [asks(&wide, 1), asks(&narrow, 1), asks(&single, 1)];
    drop(decide(&mut ask, Nanos(0)).unwrap());
    let held = decide(&mut ask, Nanos(0)).unwrap();
    assert_eq!(held.len(), 2);
    let refused = decide(&mut ask, Nanos(0)).unwrap_err();
    assert_eq!(refused, Refused { by: 1, over: Over::Rate(Duration::from_secs(10)) });
    assert_eq!(left(&wide, 1, 0), 8, "refused by a rate");
    let refused = decide(&mut ask, Nanos(20 * SECOND)).unwrap_err();
    assert_eq!(refused, Refused { by: 2, over: Over::Concurrency });
    assert_eq!((left(&wide, 1, 20 * SECOND), left(&narrow, 1, 20 * SECOND)), (10, 2), "refused by what is in flight");
    assert_eq!((ask[0].free(), ask[2].free()), (Some(4), Some(0)), "one of five is held");
    drop(held);
    decide(&mut ask, Nanos(20 * SECOND)).unwrap();
    // Two rates refuse: the longer wait is the one that is told.
    let mut ask = [asks(&wide, 2), asks(&narrow, 2)];
    for _ in 0..2 {
        decide(&mut ask, Nanos(0)).unwrap();
    }
    while admits(&wide, 2, 0) {}
    assert_eq!(decide(&mut ask, Nanos(0)).unwrap_err().over, Over::Rate(Duration::from_secs(10)));
}

#[test]
fn two_asks_of_one_key_take_two() {
    let limiter = limiter();
    let rule = limiter.rule("a", "user", rate(1, SECOND, 3), None);
    let mut ask = [asks(&rule, 1), asks(&rule, 1)];
    decide(&mut ask, Nanos(0)).unwrap();
    assert_eq!(decide(&mut ask, Nanos(0)).unwrap_err().by, 1, "the first found the third token, the second none");
    assert_eq!(left(&rule, 1, 0), 1, "which was given back");
}

#[test]
fn threads_on_one_key_get_exactly_what_there_is() {
    let limiter = limiter();
    let rule = limiter.rule("a", "user", rate(1_000, SECOND, 500), None);
    let (clock, admitted) = (AtomicU64::new(0), AtomicU64::new(0));
    let (rule, clock, admitted) = (&rule, &clock, &admitted);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                for _ in 0..20_000 {
                    // Each reads a clock that the others move on meanwhile.
                    let now = clock.fetch_add(SECOND / 100_000, Relaxed);
                    admitted.fetch_add(u64::from(admits(rule, 1, now)), Relaxed);
                }
            });
        }
    });
    // 160,000 requests in 1.6 s.
    let (admitted, most) = (admitted.load(Relaxed), 500 + 1_600);
    assert!(admitted <= most, "{admitted} of at most {most}");
    // A thread that comes late with an old time is refused what the model, which sees times in order, would grant.
    assert!(admitted >= most - 5, "{admitted} of {most}");
}

#[test]
fn threads_at_one_instant_get_exactly_the_burst() {
    for round in 0..200 {
        let limiter = limiter();
        let rule = limiter.rule("a", "user", rate(1, 3_600 * SECOND, 5), None);
        let (start, admitted) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !start.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                    for _ in 0..10 {
                        admitted.fetch_add(u32::from(admits(&rule, round, SECOND)), Relaxed);
                    }
                });
            }
            start.store(true, Relaxed);
        });
        assert_eq!(admitted.load(Relaxed), 5, "a key that all bring in at once has one place");
    }
}

#[test]
fn threads_that_contend_for_the_last_tokens_of_two_limits_lose_none() {
    let limiter = limiter();
    let one = limiter.rule("one", "user", rate(1, 3_600 * SECOND, 1_000), Some(100));
    let two = limiter.rule("two", "user", rate(1, 3_600 * SECOND, 700), Some(100));
    let admitted = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (one, two, admitted) = (&one, &two, &admitted);
            scope.spawn(move || {
                for _ in 0..500 {
                    // In either order, so that each is found empty first by somebody.
                    let mut ask = [asks(one, 1), asks(two, 1)];
                    if n % 2 == 0 {
                        ask.reverse();
                    }
                    admitted.fetch_add(u32::from(decide(&mut ask, Nanos(SECOND)).is_ok()), Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.load(Relaxed), 700);
    assert_eq!((left(&one, 1, SECOND), left(&two, 1, SECOND)), (300, 0));
    let mut ask = [asks(&one, 1), asks(&two, 1)];
    for ask in &mut ask {
        ask.look(Ticks(0));
    }
    assert_eq!((ask[0].free(), ask[1].free()), (Some(100), Some(100)), "nothing is in flight");
}

#[test]
fn in_flight_is_exact_and_never_negative() {
    let limiter = limiter();
    let rule = limiter.rule("a", "user", None, Some(3));
    let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
    let entered: u32 = std::thread::scope(|scope| {
        let work = |n: u64| {
            let mut random = fastrand::Rng::with_seed(n);
            let mut entered = 0;
            for _ in 0..20_000 {
                // Other keys come and go in the same sets meanwhile.
                let other = decide(&mut [asks(&rule, random.u64(2..500))], Nanos(0));
                if let Ok(holds) = decide(&mut [asks(&rule, 1)], Nanos(0)) {
                    most.fetch_max(inside.fetch_add(1, Relaxed) + 1, Relaxed);
                    entered += 1;
                    inside.fetch_sub(1, Relaxed);
                    drop(holds);
                }
                drop(other);
            }
            entered
        };
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(entered > 1_000, "{entered}");
    assert!(most.load(Relaxed) <= 3, "{most:?}");
    let mut ask = [asks(&rule, 1)];
    let held: Vec<_> = (0..3).map(|_| decide(&mut ask, Nanos(0)).unwrap()).collect();
    assert_eq!(decide(&mut ask, Nanos(0)).unwrap_err().over, Over::Concurrency);
    drop(held);
    for user in 1..500 {
        let mut ask = [asks(&rule, user)];
        decide(&mut ask, Nanos(0)).unwrap();
        assert_eq!(ask[0].free(), Some(2), "key {user} has nothing in flight");
    }
}

#[test]
fn where_there_is_no_place_to_count_a_request_is_refused() {
    let limiter = Limiter::of_sets(RandomState::new(), 0, 0);
    let rule = limiter.rule("a", "user", None, Some(2));
    let mut held: Vec<_> = (0..32).map(|user| decide(&mut [asks(&rule, user)], Nanos(0)).unwrap()).collect();
    assert_eq!(decide(&mut [asks(&rule, 99)], Nanos(0)).unwrap_err().over, Over::Concurrency);
    decide(&mut [asks(&rule, 5)], Nanos(0)).expect("a key that has a place keeps it");
    held.remove(7);
    let late = decide(&mut [asks(&rule, 99)], Nanos(0)).expect("a place is free");
    drop(held);
    drop(late);
}

#[test]
fn a_full_table_gives_away_what_is_nearest_to_free() {
    let limiter = Limiter::of_sets(RandomState::new(), 0, 0);
    let rule = limiter.rule("a", "user", rate(1, SECOND, 100), None);
    // Key n spends n tokens.
    for user in 1..=32 {
        (0..user).for_each(|_| assert!(admits(&rule, user, SECOND)));
    }
    assert!(admits(&rule, 50, SECOND));
    assert_eq!(left(&rule, 1, SECOND), 100, "its place was given away: an error in its favour");
    for user in 2..=32 {
        assert_eq!(left(&rule, user, SECOND), 100 - user as u32);
    }
    // Key 50 has all its tokens after a second, key 2 after two; a second later a place may be taken.
    assert!(admits(&rule, 60, 3 * SECOND));
    assert_eq!((left(&rule, 50, SECOND), left(&rule, 2, SECOND)), (100, 98), "50 went, which had all its tokens");
}

#[test]
fn a_million_keys_fit() {
    let limiter = Limiter::new(RandomState::new());
    let rule = limiter.rule("a", "user", rate(1, 3_600 * SECOND, 10), None);
    assert_eq!(limiter.memory(), (32 << 20) + (64 << 10));
    let users = 1_u64 << 20;
    (0..users).for_each(|user| assert!(admits(&rule, user, SECOND)));
    let lost = (0..users).filter(|user| left(&rule, *user, SECOND) != 9).count();
    assert!(lost < 200, "{lost} of 2^20 keys were given away");
}

#[test]
fn counts_survive_a_swap() {
    let limiter = limiter();
    let old = limiter.rule("a", "user", rate(100, SECOND, 100), Some(2));
    let hold = decide(&mut [asks(&old, 1)], Nanos(0)).unwrap();
    (0..99).for_each(|_| drop(decide(&mut [asks(&old, 1)], Nanos(0)).unwrap()));
    // The same limit in the next snapshot.
    let same = limiter.rule("a", "user", rate(100, SECOND, 100), Some(2));
    assert!(!admits(&same, 1, 0));
    let narrower = limiter.rule("a", "user", rate(100, SECOND, 100), Some(1));
    let later = 10 * SECOND;
    assert_eq!(decide(&mut [asks(&narrower, 1)], Nanos(later)).unwrap_err().over, Over::Concurrency);
    drop(hold);
    assert!(admits(&narrower, 1, later));
    // Another name, or another key of the same name, is another limit.
    assert_eq!(left(&limiter.rule("b", "user", rate(100, SECOND, 100), None), 1, 0), 100);
    assert_eq!(left(&limiter.rule("a", "ip", rate(100, SECOND, 100), None), 1, 0), 100);
}

#[test]
fn a_changed_rate_keeps_the_time_but_never_waits_longer_than_it_would_itself() {
    let limiter = limiter();
    let slow = limiter.rule("a", "user", rate(1, 3_600 * SECOND, 100), None);
    (0..100).for_each(|_| assert!(admits(&slow, 1, 0)));
    // A hundred hours are owed. With the faster limit that is a burst, which it has just spent.
    let fast = limiter.rule("a", "user", rate(100, SECOND, 100), None);
    assert!(!admits(&fast, 1, SECOND));
    assert!(admits(&fast, 1, SECOND + SECOND / 100), "its first token is there after a hundredth of a second");
    assert_eq!(left(&fast, 1, 5 * SECOND), 100);
    // Ten spent tokens of a hundred a second are a tenth of a second, which is one token of ten a second.
    (0..10).for_each(|_| assert!(admits(&fast, 2, 0)));
    let slower = limiter.rule("a", "user", rate(10, SECOND, 20), None);
    assert_eq!(left(&slower, 2, 0), 19);
}

#[test]
fn parts_do_not_run_together() {
    let limiter = limiter();
    let rule = limiter.rule("a", "user", rate(1, SECOND, 1), None);
    let of = |parts: &[&[u8]]| {
        let mut key = rule.key();
        parts.iter().for_each(|part| key.part(part));
        key.finish()
    };
    let keys = [of(&[b"ab", b"c"]), of(&[b"a", b"bc"]), of(&[b"abc"]), of(&[b"abc", b""]), of(&[b"", b"abc"]), of(&[])];
    for (n, key) in keys.iter().enumerate() {
        assert!(!keys[..n].contains(key), "{n}");
    }
    let at = |address: &str| {
        let mut key = rule.key();
        key.address(address.parse().unwrap());
        key.finish()
    };
    assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"), "one client has a /64");
    assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
    assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    assert_eq!(at("10.0.0.1"), at("::ffff:10.0.0.1"));
}
