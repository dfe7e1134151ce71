//! Latency: the thresholds that answers are compared with, and the quantiles that are shown.
//!
//! A route's thresholds are quantiles of stable's answers, one answer per user in half a minute. They are frozen once
//! there are enough answers, at the end of a window, so a user is exposed to the same ones for the whole of it. The
//! objective needs no answers. To answers that come later, a threshold from observed answers is as good as a draw from
//! the same distribution: the number above it on the canary is negative hypergeometric, close to the hypergeometric
//! that the evidence assumes.
//!
//! A threshold lies a little above its quantile, because two versions are never quite equally fast. Fewer users mean
//! fewer kept connections, and a server with fewer requests wakes more slowly and has colder caches. A difference that
//! no user notices must not take a release back.
//!
//! Answers of servers that may be cold count as long as there are no others: a gateway that has just started does not
//! know its servers yet. Thresholds from them are replaced once there are enough answers of warm servers.
//!
//! Quantiles come from `hdrhistogram`, with two significant digits. A threshold is the upper end of its bucket, so
//! answers that all take the same time are not above it. Longer than an hour counts as an hour.

use crate::report::ArmView;
use crate::sample::{Ending, Sample};
use balance::attempt::AttemptFailure;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::signals::{P50, SLO};

/// How many thresholds there are: p50, p75, p90, p95, p99, p99.9 and the objective.
const THRESHOLDS: usize = SLO - P50 + 1;

/// Quantiles, each with the number of answers that freezes it.
const FREEZE: [(f64, u64); THRESHOLDS - 1] =
    [(0.5, 200), (0.75, 200), (0.9, 200), (0.95, 200), (0.99, 2_000), (0.999, 20_000)];

/// The number of quantiles that few answers freeze.
const FEW: usize = 4;

/// An hour in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// A threshold that no answer is above.
const UNKNOWN: u32 = u32::MAX;

fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LONGEST, 2).expect("bounds and digits are constants in range")
}

/// Thresholds of one route, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Limits([u32; THRESHOLDS]);

impl Limits {
    /// The threshold of a signal; `None` where it is not known yet.
    pub(super) fn of(&self, signal: usize) -> Option<u32> {
        Some(self.0[signal - P50]).filter(|limit| *limit != UNKNOWN)
    }
}

/// Thresholds of all routes.
pub(super) struct Thresholds {
    limits: Vec<Limits>,
    learning: Vec<Learning>,
}

/// The answers from which a route's thresholds are learnt.
enum Learning {
    /// No answer so far.
    Nothing,
    /// Answers of servers that may be cold, and of no others.
    Cold(Box<Histogram<u32>>),
    /// Answers of warm servers, until all quantiles are frozen, and how many are.
    Warm(Box<Histogram<u32>>, usize),
    /// All are known.
    Done,
}

impl Thresholds {
    /// For this many routes.
    pub(super) fn new(routes: usize, slo: Option<u32>) -> Thresholds {
        let mut limits = Limits([UNKNOWN; THRESHOLDS]);
        limits.0[THRESHOLDS - 1] = slo.unwrap_or(UNKNOWN);
        Thresholds { limits: vec![limits; routes], learning: (0..routes).map(|_| Learning::Nothing).collect() }
    }

    /// A route's thresholds.
    pub(super) fn at(&self, route: u16) -> &Limits {
        &self.limits[usize::from(route)]
    }

    /// What a restart needs.
    pub(super) fn keep(&self) -> Vec<Limits> {
        self.limits.clone()
    }

    /// Takes what an earlier process kept of these routes, until warm servers have given new ones.
    pub(super) fn restore(&mut self, kept: &[Limits]) {
        if kept.len() == self.limits.len() {
            self.limits.copy_from_slice(kept);
        }
    }

    /// Counts an answer of stable; `warm`: its server is not cold any more.
    pub(super) fn learn(&mut self, route: u16, micros: u32, warm: bool) {
        let learning = &mut self.learning[usize::from(route)];
        match (&*learning, warm) {
            (Learning::Nothing, false) => *learning = Learning::Cold(Box::new(histogram())),
            (Learning::Nothing | Learning::Cold(_), true) => *learning = Learning::Warm(Box::new(histogram()), 0),
            _ => {}
        }
        match (learning, warm) {
            (Learning::Cold(answers), _) | (Learning::Warm(answers, _), true) => {
                answers.saturating_record(u64::from(micros));
            }
            _ => {}
        }
    }

    /// Freezes the quantiles that have enough answers, and takes the objective that holds from now on.
    pub(super) fn freeze(&mut self, slo: Option<u32>) {
        for (limits, learning) in self.limits.iter_mut().zip(&mut self.learning) {
            limits.0[THRESHOLDS - 1] = slo.unwrap_or(UNKNOWN);
            let known =
                |answers: &Histogram<u32>| FREEZE.iter().take_while(|(_, enough)| answers.len() >= *enough).count();
            match learning {
                Learning::Cold(answers) => {
                    for (limit, (quantile, _)) in limits.0.iter_mut().zip(FREEZE).take(known(answers)) {
                        if *limit == UNKNOWN {
                            *limit = threshold(answers, quantile);
                        }
                    }
                }
                Learning::Warm(answers, frozen) => {
                    let before = std::mem::replace(frozen, known(answers));
                    // Ten times as many answers estimate the first four better, so these are frozen once more.
                    let from = if before <= FEW && *frozen > FEW { 0 } else { before };
                    for (limit, (quantile, _)) in limits.0.iter_mut().zip(FREEZE).take(*frozen).skip(from) {
                        *limit = threshold(answers, quantile);
                    }
                    if *frozen == FREEZE.len() {
                        *learning = Learning::Done;
                    }
                }
                Learning::Nothing | Learning::Done => {}
            }
        }
    }
}

/// A threshold above a quantile of stable's answers: a tenth longer, and at least ten milliseconds, since no
/// user notices less. For the rare slow answers it is at least fifty, since a stall of the machine slows
/// many users' answers at once.
fn threshold(answers: &Histogram<u32>, quantile: f64) -> u32 {
    let micros = answers.value_at_quantile(quantile);
    let least = if quantile < 0.99 { 10_000 } else { 50_000 };
    u32::try_from(micros + (micros / 10).max(least)).unwrap_or(UNKNOWN)
}

/// What is known of a request's latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// Exactly this long.
    Exactly(u32),
    /// At least this long: the wait ended before the answer.
    AtLeast(u32),
}

impl Took {
    /// The latency of a request. Failures belong to another signal: one that fails at once is not fast. A time limit,
    /// or a client that leaves, gives a lower bound.
    pub(super) fn of(seen: &Sample) -> Option<Took> {
        match seen.ending {
            Ending::Good => Some(Took::Exactly(seen.micros)),
            Ending::Failed(AttemptFailure::Timeout) | Ending::Left => Some(Took::AtLeast(seen.micros)),
            Ending::Failed(_) => None,
        }
    }

    /// Whether it was longer than `limit`; `None` where that is not known. A request that ended unseen below the limit
    /// says nothing, on either arm, and the user's next answer is their first.
    pub(super) fn is_above(self, limit: u32) -> Option<bool> {
        match self {
            Took::Exactly(micros) => Some(micros > limit),
            Took::AtLeast(micros) => (micros > limit).then_some(true),
        }
    }
}

/// What is shown of an arm.
pub(super) struct Shown {
    requests: u64,
    errors: u64,
    answers: Histogram<u32>,
}

impl Shown {
    pub(super) fn new() -> Shown {
        Shown { requests: 0, errors: 0, answers: histogram() }
    }

    /// Counts a request.
    pub(super) fn count(&mut self, seen: &Sample) {
        self.requests += 1;
        self.errors += u64::from(seen.ending.is_failure());
        if matches!(seen.ending, Ending::Good | Ending::Failed(AttemptFailure::Status)) {
            self.answers.saturating_record(u64::from(seen.micros));
        }
    }

    /// The view that is shown.
    pub(super) fn view(&self, users: u64) -> ArmView {
        let quantile = |quantile: f64| {
            (!self.answers.is_empty()).then(|| self.answers.value_at_quantile(quantile) as f64 / 1_000.0)
        };
        ArmView { requests: self.requests, users, errors: self.errors, p50_ms: quantile(0.5), p99_ms: quantile(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::signals::{P95, P99};
    use super::*;

    #[test]
    fn thresholds_freeze_once_there_are_enough_answers_and_stay() {
        let mut thresholds = Thresholds::new(2, None);
        for micros in 1..=199 {
            thresholds.learn(1, micros * 1_000, true);
        }
        thresholds.freeze(None);
        assert_eq!(thresholds.at(1).of(P50), None, "one is missing");
        thresholds.learn(1, 200_000, true);
        thresholds.freeze(Some(300_000));
        let (p50, p95) = (thresholds.at(1).of(P50).unwrap(), thresholds.at(1).of(P95).unwrap());
        // 100 and 190 ms, a tenth longer.
        assert!((110_000..112_000).contains(&p50) && (209_000..212_000).contains(&p95), "{p50} {p95}");
        assert_eq!(thresholds.at(1).of(P99), None, "it needs 2,000");
        assert_eq!((thresholds.at(0).of(P50), thresholds.at(0).of(SLO)), (None, Some(300_000)));
        let mut after = |answers: u32, micros: u32| {
            (0..answers).for_each(|_| thresholds.learn(1, micros, true));
            thresholds.freeze(None);
            thresholds.at(1).of(P50)
        };
        assert_eq!(after(1_799, 50_000), Some(p50));
        let better = after(1, 50_000);
        assert!(
            better.is_some_and(|limit| (60_000..62_000).contains(&limit)),
            "ten times as many tell better: {better:?}"
        );
        assert_eq!(after(20_000, 1), better, "and that stays");
        assert_eq!(thresholds.at(1).of(SLO), None);
        assert!(
            thresholds.at(1).of(SLO - 1).is_some() && matches!(thresholds.learning[1], Learning::Done),
            "nothing is left to learn"
        );
    }

    #[test]
    fn what_cold_servers_tell_holds_until_warm_ones_do() {
        let mut thresholds = Thresholds::new(1, None);
        let p50_after = |thresholds: &mut Thresholds, answers: u32, micros: u32, warm: bool| {
            (0..answers).for_each(|_| thresholds.learn(0, micros, warm));
            thresholds.freeze(None);
            thresholds.at(0).of(P50).unwrap_or_default()
        };
        assert!((330_000..335_000).contains(&p50_after(&mut thresholds, 200, 300_000, false)));
        assert!(p50_after(&mut thresholds, 199, 100_000, true) > 300_000, "one is missing");
        assert!((110_000..112_000).contains(&p50_after(&mut thresholds, 1, 100_000, true)));
        assert!(p50_after(&mut thresholds, 10_000, 300_000, false) < 112_000, "a server that is added is cold");
    }

    #[test]
    fn answers_that_all_take_the_same_are_not_above() {
        let mut thresholds = Thresholds::new(1, None);
        for _ in 0..500 {
            thresholds.learn(0, 12_345, true);
        }
        thresholds.freeze(None);
        let limit = thresholds.at(0).of(P50).unwrap();
        assert_eq!(Took::Exactly(12_345).is_above(limit), Some(false));
        assert_eq!(Took::Exactly(22_000).is_above(limit), Some(false), "ten milliseconds longer, and nobody noticed");
        assert_eq!(Took::Exactly(22_700).is_above(limit), Some(true));
    }

    #[test]
    fn who_left_early_says_nothing_and_who_left_late_that_it_was_slow() {
        assert_eq!(Took::AtLeast(5).is_above(9), None);
        assert_eq!(Took::AtLeast(10).is_above(9), Some(true));
    }
}
