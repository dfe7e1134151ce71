//! The judge of a release, tried on thousands of releases that did not happen.
//!
//! The product's own judge, fed with requests drawn by chance from fixed seeds and ticked four times a second: what it
//! promises about false alarms and delays is counted, not derived. Each trial has a short form in every run of the tests
//! and a long one with figures: `scripts/test --long`, or
//! `cargo test --test it judge:: -- --ignored --nocapture --test-threads 1`.
//! Sockets, threads of the gateway and the clock are not part of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use balance::attempt::AttemptFailure;
use base::units::Nanos;
use gray::judge::{Doubt, Finding, Judge, Settings};
use gray::sample::{Arm, Ending, Sample};

mod pods;
mod published;
mod uneven;

/// Ticks in a second.
const TICKS: u64 = 4;
/// The chance of a false alarm that all judges are asked for.
const FALSE_ALARM: f64 = 0.001;
/// Points of the latency distribution.
const POINTS: usize = 1 << 16;

/// Mixes the bits of a number (Steele, Lea, Flood: splitmix64).
fn mixed(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Ascending latencies in microseconds: lognormal, median 20 ms, each as likely as the others.
fn latencies() -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(0);
    let mut normal = || (-2.0 * random.f64().max(1e-300).ln()).sqrt() * (random.f64() * std::f64::consts::TAU).cos();
    let mut all: Vec<f32> = (0..POINTS).map(|_| (20_000.0 * (0.6 * normal()).exp()) as f32).collect();
    all.sort_by(f32::total_cmp);
    all
}

/// What the requests of a release are like.
#[derive(Clone, Copy)]
struct World {
    /// Users, each as likely as the others to be the next.
    users: u64,
    a_second: u64,
    /// Chance of an error, by arm.
    errors: [f64; 2],
    /// Part of the answers above stable's p95, by arm.
    above_p95: [f64; 2],
    /// Part of the users who always fail.
    always_fail: f64,
    /// Whether users have a speed of their own.
    own_speed: bool,
    /// Whether another answers for whom a version fails, by arm.
    saved: [bool; 2],
}

/// A harmless canary.
const HARMLESS: World = World {
    users: 1_000_000,
    a_second: 1_000,
    errors: [0.001; 2],
    above_p95: [0.05; 2],
    always_fail: 0.0,
    own_speed: false,
    saved: [false; 2],
};

/// A release that is going on.
struct Trial<'a> {
    world: World,
    latencies: &'a [f32],
    random: fastrand::Rng,
    seed: u64,
    share: f64,
    step: u16,
    judge: Judge,
    ticks: u64,
    requests: u64,
    found: Vec<Finding>,
}

impl<'a> Trial<'a> {
    fn new(world: World, latencies: &'a [f32], seed: u64) -> Trial<'a> {
        let settings = Settings { false_alarm: FALSE_ALARM, slo_micros: Some(200_000), routes: 1 };
        Trial {
            world,
            latencies,
            random: fastrand::Rng::with_seed(mixed(1, seed)),
            seed,
            share: 0.0,
            step: 0,
            judge: Judge::new(settings, Nanos(0)),
            ticks: 0,
            requests: 0,
            found: vec![],
        }
    }

    fn now(&self) -> Nanos {
        Nanos(self.ticks * 1_000_000_000 / TICKS)
    }

    fn share(&mut self, share: f64) {
        self.share = share;
        self.step += 1;
        self.judge.share_changed(share, self.step, self.now());
    }

    /// A request as it would be: who, which arm, how it ends.
    fn request(&mut self) -> Sample {
        let number = self.random.u64(..self.world.users);
        let user = mixed(mixed(2, self.seed), number);
        let chance = |salt: u64| mixed(salt, user) as f64 / u64::MAX as f64;
        let arm = if chance(3) < self.share { Arm::Canary } else { Arm::Stable };
        let fails = self.world.always_fail > 0.0 && chance(4) < self.world.always_fail
            || self.random.f64() < self.world.errors[arm as usize];
        let (border, at) = (POINTS / 20 * 19, self.random.u64(..));
        let above = self.world.above_p95[arm as usize];
        let point = if above == 0.05 {
            at as usize % POINTS
        } else if self.random.f64() < above {
            border + at as usize % (POINTS - border)
        } else {
            at as usize % border
        };
        let speed = if self.world.own_speed { 0.5 + chance(5) } else { 1.0 };
        Sample {
            user,
            micros: (f64::from(self.latencies[point]) * speed) as u32,
            server: 1,
            status: if fails { 500 } else { 200 },
            route: 0,
            cohorts: 0,
            app: 0,
            step: self.step,
            arm,
            ending: if fails { Ending::Failed(AttemptFailure::Status) } else { Ending::Good },
            saved: fails && self.world.saved[arm as usize],
            warm: true,
            judged: true,
        }
    }

    /// A quarter of a second; what was found in it.
    fn tick(&mut self) -> Option<Finding> {
        for _ in 0..self.world.a_second / TICKS {
            let seen = self.request();
            self.judge.observe(&seen);
            self.requests += 1;
        }
        self.ticks += 1;
        let found = self.judge.tick(self.now(), [0; 2]);
        self.found.extend(found);
        found
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * TICKS {
            self.tick();
        }
    }

    /// Requests from now on until the canary is found worse; at most so many.
    fn until_worse(&mut self, most: u64) -> u64 {
        let begun = self.requests;
        while self.requests - begun < most {
            if let Some(Finding::Worse { .. }) = self.tick() {
                break;
            }
        }
        self.requests - begun
    }
}

/// Runs a trial so many times, on two threads; the results are in the order of their seeds.
fn runs<T: Send>(count: usize, trial: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = vec![];
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= count {
                break done;
            }
            done.push((run, trial(run as u64)));
        }
    };
    let mut all: Vec<(usize, T)> = thread::scope(|scope| {
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_by_key(|(run, _)| *run);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Median and 95th percentile.
fn spread(mut all: Vec<u64>) -> (u64, u64) {
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() * 95 / 100])
}

/// What harmless releases were told.
#[derive(Default, Debug)]
struct Told {
    worse: usize,
    guard: usize,
    ratio: usize,
    outside: usize,
    requests: u64,
}

/// Few users to many, with a speed of their own, of whom some always fail.
fn clustered(seed: u64) -> World {
    let (users, a_second) = ([800, 4_000, 50_000][seed as usize % 3], [200, 200, 400][seed as usize / 3 % 3]);
    World { users, a_second, always_fail: 0.005, own_speed: true, ..HARMLESS }
}

/// So many errors on both arms that windows end early, all or some.
fn dirty(seed: u64) -> World {
    let a_second = [200, 400, 1_000][seed as usize % 3];
    World { users: 50_000, a_second, errors: [0.05; 2], ..HARMLESS }
}

/// The same where stable answers for the canary, or where stable's requests are tried again and the canary's are not.
fn saved(seed: u64) -> World {
    let of_stable = seed.is_multiple_of(2);
    World { saved: [of_stable, !of_stable], errors: [0.04; 2], ..dirty(2) }
}

/// Harmless releases with four steps.
fn harmless(count: usize, world: impl Fn(u64) -> World + Sync) -> Told {
    let latencies = latencies();
    let all = runs(count, |seed| {
        let mut trial = Trial::new(world(seed), &latencies, seed);
        for share in [0.01, 0.05, 0.25, 0.5] {
            trial.share(share);
            trial.run(16);
        }
        (trial.found, trial.requests)
    });
    told(all)
}

fn told(all: Vec<(Vec<Finding>, u64)>) -> Told {
    let mut told = Told::default();
    for (found, requests) in all {
        told.requests += requests;
        let any = |is: fn(&Finding) -> bool| usize::from(found.iter().any(is));
        told.worse += any(|found| matches!(found, Finding::Worse { .. }));
        told.guard += any(|found| matches!(found, Finding::Untrusted(Doubt::Guard, _)));
        told.ratio += any(|found| matches!(found, Finding::Untrusted(Doubt::Ratio, _)));
        told.outside += any(|found| matches!(found, Finding::Outside { .. }));
    }
    told
}

/// Requests until a canary at 5 % with one point more errors is found, after so many clean seconds.
fn errors(count: usize, users: u64, clean: u64) -> (u64, u64) {
    errors_in(World { users, ..HARMLESS }, count, clean)
}

/// See there.
fn errors_in(world: World, count: usize, clean: u64) -> (u64, u64) {
    let latencies = latencies();
    let all = runs(count, |seed| {
        let mut trial = Trial::new(world, &latencies, seed);
        trial.share(0.05);
        trial.run(clean);
        if trial.found.iter().any(|found| matches!(found, Finding::Worse { .. })) {
            return None;
        }
        trial.world.errors[1] += 0.01;
        Some(trial.until_worse(1_000_000))
    });
    let found: Vec<u64> = all.into_iter().flatten().collect();
    assert!(found.len() + 1 >= count, "{} were found worse while they were not", count - found.len());
    spread(found)
}

/// Requests until a canary at 5 % with twice as many answers above p95 is found.
fn slowness(count: usize) -> (u64, u64) {
    let latencies = latencies();
    spread(runs(count, |seed| {
        let mut trial = Trial::new(World { above_p95: [0.05, 0.1], ..HARMLESS }, &latencies, seed);
        trial.share(0.05);
        trial.until_worse(1_000_000)
    }))
}

#[test]
fn harmless_releases_are_left_alone() {
    for world in [clustered, dirty, saved] {
        let told = harmless(100, world);
        assert!(told.worse <= 1 && told.guard <= 1 && told.ratio <= 2 && told.outside <= 1, "{told:?}");
        assert!(told.requests > 100 * 10_000, "{told:?}");
    }
}

#[test]
fn a_worse_canary_is_found_in_time() {
    let (errors, slowness) = (errors(20, 1_000_000, 0), slowness(100));
    assert!(errors.0 <= 32_000, "{errors:?}");
    assert!(slowness.1 <= 41_000, "{slowness:?}");
}

#[test]
fn a_fault_that_comes_late_is_found_almost_as_soon() {
    let (soon, late) = (errors(20, 50_000, 0), errors(20, 50_000, 60));
    assert!(late.0 <= 3 * soon.0, "{soon:?} {late:?}");
}

#[test]
#[ignore = "long: scripts/test --long"]
fn false_alarms_of_twenty_thousand_harmless_releases() {
    println!("| harmless, 1 -> 5 -> 25 -> 50 % | releases | requests | worse | guard | ratio | outside |");
    println!("|---|---|---|---|---|---|---|");
    let row = |name: &str, count: usize, world: fn(u64) -> World| {
        let told = harmless(count, world);
        let Told { worse, guard, ratio, outside, requests } = told;
        println!("| {name} | {count} | {requests} | {worse} | {guard} | {ratio} | {outside} |");
        assert!(worse <= count / 1_000, "{told:?}");
    };
    row("0.1 % errors, 0.5 % of users always fail", 20_001, clustered);
    row("5 % errors, windows end early", 3_000, dirty);
    row("4 % errors; others answer for one of the versions", 3_000, saved);
}

#[test]
#[ignore = "long: scripts/test --long"]
fn false_alarms_of_two_thousand_harmless_releases_of_a_million_requests() {
    println!(
        "| harmless, 1,000 requests/s at 5 % for 1,000 s | releases | requests | worse | guard | ratio | outside |"
    );
    println!("|---|---|---|---|---|---|---|");
    let row = |name: &str, world: World| {
        let latencies = latencies();
        let Told { worse, guard, ratio, outside, requests } = told(runs(2_000, |seed| {
            let mut trial = Trial::new(world, &latencies, seed);
            trial.share(0.05);
            trial.run(1_000);
            (trial.found, trial.requests)
        }));
        println!("| {name} | 2000 | {requests} | {worse} | {guard} | {ratio} | {outside} |");
        assert!(worse <= 2 && guard + ratio <= 20, "{worse} {guard} {ratio}");
    };
    row("of 1,000,000 users", HARMLESS);
    row("of 20,000 users with a speed of their own", World { users: 20_000, own_speed: true, ..HARMLESS });
}

#[test]
#[ignore = "long: scripts/test --long"]
fn requests_until_a_worse_canary_is_found() {
    const RUNS: usize = 400;
    println!("| at 5 %, 1,000 a second, {RUNS} runs | median | p95 |");
    println!("|---|---|---|");
    let row = |name: &str, (median, p95): (u64, u64)| println!("| {name} | {median} | {p95} |");
    let soon = errors(RUNS, 1_000_000, 0);
    row("errors 0.1 -> 1.1 %, of 1,000,000 users", soon);
    row("errors 0.1 -> 1.1 %, of 20,000 users", errors(RUNS, 20_000, 0));
    let rescued = errors_in(World { saved: [false, true], ..HARMLESS }, RUNS, 0);
    row("the same, where stable answers for the canary", rescued);
    let late = errors(RUNS, 1_000_000, 1_000);
    row("errors 0.1 -> 1.1 % after 1,000,000 clean requests", late);
    let slow = slowness(RUNS);
    row("above p95 5 -> 10 %, 1,000 of them before the threshold", slow);
    assert!(soon.0 <= 32_000 && rescued.0 <= 32_000, "{soon:?} {rescued:?}");
    assert!(late.0 <= 2 * soon.0 && late.1 <= 2 * soon.1, "{soon:?} {late:?}");
    assert!(slow.1 <= 41_000, "{slow:?}");
}
