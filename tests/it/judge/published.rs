//! The evidence of one signal beside the sequential tests of others, in the two comparisons that are best known.
//!
//! M. Schultzberg and S. Ankargren, "Choosing a Sequential Testing Framework" (Spotify, 2023): two groups of 500, normal
//! outcomes, an effect of a fifth of a standard deviation, looks after each pair or in batches. The others see the outcomes
//! and know their variance; ours sees what it sees of a latency: who is above the control's p50, p75, p90 and p95.
//! E. Miller, "Simple Sequential A/B Testing" (2015): of N events the treatment has 2 sqrt(N) more than the control.
//! All rules are one-sided, at 5 %. Theirs need N in advance (the group sequential test, Miller's) or a guess of it (the
//! mixture); ours needs none, and goes on where they end.

use gray::judge::{Bet, Process};

use super::*;

/// Observations of a group.
const N: usize = 500;
/// p50, p75, p90 and p95 of the standard normal distribution.
const QUANTILES: [f64; 4] = [0.0, 0.674_49, 1.281_552, 1.644_854];
/// Looks, and the quantile of the normal distribution that 5 % shared by so many leave.
const LOOKS: [(usize, f64); 5] = [(N, 3.7190), (56, 3.1227), (42, 3.0381), (28, 2.9137), (14, 2.6901)];
/// The quantile without a correction.
const NAIVE: f64 = 1.644_854;
/// What is enough of an e-value.
const ENOUGH: f64 = 20.0;
const RULES: [&str; 6] =
    ["ours", "ours, as errors in the judge", "group sequential", "mixture (GAVI, mSPRT)", "Bonferroni", "naive"];

/// A standard normal number (Box and Muller).
fn normal(random: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}

/// The differences of so many pairs, summed, at each look.
fn walk(random: &mut fastrand::Rng, looks: usize, effect: f64, mut each: impl FnMut(usize, f64, [[u32; 2]; 4])) {
    let (mut sum, mut seen) = (0.0, [[0; 2]; 4]);
    for n in 1..=N {
        let outcomes = [normal(random), normal(random) + effect];
        sum += outcomes[1] - outcomes[0];
        for (events, quantile) in seen.iter_mut().zip(QUANTILES) {
            events.iter_mut().zip(outcomes).for_each(|(count, outcome)| *count += u32::from(outcome > quantile));
        }
        if n * looks / N > (n - 1) * looks / N {
            each(n, sum, std::mem::take(&mut seen));
        }
    }
}

/// The greatest sum, in standard deviations of the last one, that 95 % of walks without effect stay below (O'Brien and
/// Fleming).
fn group_sequential(looks: usize) -> f64 {
    let mut most: Vec<f64> = runs(20_000, |seed| {
        let mut most = f64::MIN;
        walk(&mut fastrand::Rng::with_seed(mixed(21, seed)), looks, 0.0, |_, sum, _| most = most.max(sum));
        most / (2.0 * N as f64).sqrt()
    });
    most.sort_by(f64::total_cmp);
    most[most.len() * 95 / 100]
}

/// Which rules find an effect within a walk.
fn found(seed: u64, (looks, corrected): (usize, f64), bound: f64, effect: f64) -> [bool; RULES.len()] {
    let all = 2.0 * N as f64;
    // Howard and others (2021), tuned for the last look; two-sided at twice the level.
    let alpha: f64 = 0.1;
    let rho = all / (-2.0 * alpha.ln() + (-2.0 * alpha.ln() + 1.0).ln());
    let mut processes = [const { None }; 4].map(|_: Option<Process>| Process::default());
    let mut found = [false; RULES.len()];
    walk(&mut fastrand::Rng::with_seed(mixed(22, seed)), looks, effect, |n, sum, events| {
        processes.iter_mut().zip(events).for_each(|(process, events)| process.play(&Bet::of(0.5, events)));
        let e = processes.iter().map(Process::e).sum::<f64>() / 4.0;
        let v = 2.0 * n as f64;
        let mixture = ((v + rho) * ((v + rho) / (rho * alpha * alpha)).ln()).sqrt();
        let z = sum / v.sqrt();
        // Half of the judge's weight, and nine tenths of its chance.
        let as_errors = 0.9 * (0.5 * e + 0.5) >= ENOUGH;
        let now = [e >= ENOUGH, as_errors, sum >= bound * all.sqrt(), sum >= mixture, z >= corrected, z >= NAIVE];
        found.iter_mut().zip(now).for_each(|(found, now)| *found |= now);
    });
    found
}

#[test]
#[ignore = "long: scripts/test --long"]
fn the_comparison_of_spotify() {
    const RUNS: usize = 10_000;
    let names = LOOKS.map(|(looks, _)| if looks == N { "each pair".to_owned() } else { format!("{looks} looks") });
    for (what, effect) in [("false positives, %", 0.0), ("power at an effect of 0.2, %", 0.2)] {
        let columns = LOOKS.map(|look| {
            let bound = group_sequential(look.0);
            let all = runs(RUNS, |seed| found(seed, look, bound, effect));
            std::array::from_fn::<f64, 6, _>(|rule| {
                100.0 * all.iter().filter(|found| found[rule]).count() as f64 / RUNS as f64
            })
        });
        println!("| {what} | {} |\n|---|---|---|---|---|---|", names.join(" | "));
        for (rule, name) in RULES.iter().enumerate() {
            println!("| {name} | {} |", columns.map(|column| format!("{:.1}", column[rule])).join(" | "));
        }
        if effect == 0.0 {
            assert!(columns.iter().all(|column| column[0] <= 5.5 && column[1] <= 5.5), "{columns:?}");
        }
    }
}

#[test]
#[ignore = "long: scripts/test --long"]
fn the_rule_of_evan_miller() {
    const RUNS: usize = 10_000;
    println!(
        "| events of a treatment that has so many more | rule | found, % | events until then, mean |\n|---|---|---|---|"
    );
    for (lift, events) in [(0.0, 200), (0.5, 200), (0.2, 969), (1.0, 72)] {
        let part = (1.0 + lift) / (2.0 + lift);
        let all = runs(RUNS, |seed| {
            let mut random = fastrand::Rng::with_seed(mixed(23, seed));
            let (mut ahead, mut process) = (0_i64, Process::default());
            let (mut miller, mut ours) = (None, None);
            for n in 1..=10 * events {
                let treated = random.f64() < part;
                ahead += if treated { 1 } else { -1 };
                process.play(&Bet::of(0.5, [u32::from(!treated), u32::from(treated)]));
                if n <= events && miller.is_none() && ahead as f64 >= 2.0 * (events as f64).sqrt() {
                    miller = Some(n);
                }
                if ours.is_none() && process.e() >= ENOUGH {
                    ours = Some(n);
                }
            }
            [miller, ours.filter(|n| *n <= events), ours]
        });
        let ours = |n: i64| format!("ours, seen until {n}");
        for (rule, name) in [format!("Miller, N = {events}"), ours(events), ours(10 * events)].iter().enumerate() {
            let found: Vec<i64> = all.iter().filter_map(|run| run[rule]).collect();
            let mean = found.iter().sum::<i64>() as f64 / found.len().max(1) as f64;
            let percent = 100.0 * found.len() as f64 / RUNS as f64;
            println!("| {:.0} % | {name} | {percent:.1} | {mean:.0} |", lift * 100.0);
            assert!(lift > 0.0 || percent <= 5.5, "{name}: {percent}");
        }
    }
}
