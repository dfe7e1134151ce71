//! The counters of routes, upstreams and servers.
//!
//! A configuration holds these by reference, so that a request counts without a look-up. A route's series is created at
//! its first use: ten thousand idle routes cost nothing. Nothing here is ever reset.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use balance::attempt::AttemptFailure;
use base::shard::Sharded;

/// Upper bounds of the duration histogram, in seconds.
pub const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

const BUCKETS_NANOS: [u64; BUCKETS.len()] = {
    let mut nanos = [0; BUCKETS.len()];
    let mut i = 0;
    while i < BUCKETS.len() {
        nanos[i] = (BUCKETS[i] * 1e9) as u64;
        i += 1;
    }
    nanos
};

/// The version of a backend that a request went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// No release runs on the route.
    None,
    /// The route's own upstream.
    Stable,
    /// A release's canary upstream.
    Canary,
}

impl Arm {
    /// All arms, in the order of their numbers.
    pub const ALL: [Arm; 3] = [Arm::None, Arm::Stable, Arm::Canary];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Arm::None => "none",
            Arm::Stable => "stable",
            Arm::Canary => "canary",
        }
    }
}

/// One thread's part of a route's series.
#[derive(Debug, Default)]
pub struct RouteCells {
    classes: [AtomicU64; 5],
    buckets: [AtomicU64; BUCKETS.len()],
    nanos: AtomicU64,
}

/// The counters of a route and an arm.
#[derive(Debug, Default)]
pub struct ArmSeries(Sharded<RouteCells>);

/// Totals of an [`ArmSeries`].
#[derive(Debug, Default, PartialEq)]
pub struct ArmTotals {
    /// Answers 1xx to 5xx.
    pub classes: [u64; 5],
    /// Answers up to each of [`BUCKETS`], not cumulative.
    pub buckets: [u64; BUCKETS.len()],
    /// All answers.
    pub count: u64,
    /// Sum of the durations, in seconds.
    pub seconds: f64,
}

impl ArmSeries {
    /// Counts an answer.
    pub fn answered(&self, status: u16, duration: Duration) {
        let nanos = duration.as_nanos() as u64;
        let cells = self.0.mine();
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        cells.classes[class].fetch_add(1, Ordering::Relaxed);
        if let Some(bucket) = BUCKETS_NANOS.iter().position(|bound| nanos <= *bound) {
            cells.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        cells.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn totals(&self) -> ArmTotals {
        let mut totals = ArmTotals::default();
        for cells in self.0.all() {
            for (sum, cell) in totals.classes.iter_mut().zip(&cells.classes) {
                *sum += cell.load(Ordering::Relaxed);
            }
            for (sum, cell) in totals.buckets.iter_mut().zip(&cells.buckets) {
                *sum += cell.load(Ordering::Relaxed);
            }
            totals.seconds += cells.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        }
        totals.count = totals.classes.iter().sum();
        totals
    }
}

/// A route's series, one for each arm, each created at its first use.
#[derive(Debug, Default)]
pub struct RouteSeries([OnceLock<Box<ArmSeries>>; Arm::ALL.len()]);

impl RouteSeries {
    /// The series of an arm.
    pub fn arm(&self, arm: Arm) -> &ArmSeries {
        self.0[arm as usize].get_or_init(Box::default)
    }

    /// The series in use.
    pub fn used(&self) -> impl Iterator<Item = (Arm, &ArmSeries)> {
        Arm::ALL.into_iter().filter_map(|arm| Some((arm, &**self.0[arm as usize].get()?)))
    }
}

/// How an attempt at a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer below 500.
    Success,
    /// It failed; `Status` is an answer from 500 up, or one that is retried on another server.
    Failed(AttemptFailure),
    /// The client left.
    Canceled,
}

impl Outcome {
    /// All outcomes, in the order of their places.
    pub const ALL: [Outcome; 6] = [
        Outcome::Success,
        Outcome::Failed(AttemptFailure::Status),
        Outcome::Failed(AttemptFailure::Connect),
        Outcome::Failed(AttemptFailure::Reset),
        Outcome::Failed(AttemptFailure::Timeout),
        Outcome::Canceled,
    ];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failed(AttemptFailure::Status) => "failure",
            Outcome::Failed(failure) => failure.label(),
            Outcome::Canceled => "canceled",
        }
    }

    fn place(self) -> usize {
        match self {
            Outcome::Success => 0,
            Outcome::Failed(failure) => failure as usize,
            Outcome::Canceled => 5,
        }
    }
}

/// The counters of a server.
#[derive(Debug, Default)]
pub struct ServerSeries(Sharded<[AtomicU64; Outcome::ALL.len()]>);

impl ServerSeries {
    /// Counts an attempt.
    pub fn attempted(&self, outcome: Outcome) {
        self.0.mine()[outcome.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// Attempts with an outcome.
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.0.all().map(|cells| cells[outcome.place()].load(Ordering::Relaxed)).sum()
    }
}

/// The reason for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// A pooled connection was dead.
    Pooled,
    /// The attempt failed; `Status` is one that `retry.on` lists.
    Failed(AttemptFailure),
}

impl RetryReason {
    /// All reasons, in the order of their places.
    pub const ALL: [RetryReason; 5] = [
        RetryReason::Pooled,
        RetryReason::Failed(AttemptFailure::Status),
        RetryReason::Failed(AttemptFailure::Connect),
        RetryReason::Failed(AttemptFailure::Reset),
        RetryReason::Failed(AttemptFailure::Timeout),
    ];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            RetryReason::Pooled => "pooled",
            RetryReason::Failed(failure) => failure.label(),
        }
    }

    fn place(self) -> usize {
        match self {
            RetryReason::Pooled => 0,
            RetryReason::Failed(failure) => failure as usize,
        }
    }
}

/// The counters of an upstream.
#[derive(Debug, Default)]
pub struct UpstreamSeries(Sharded<[AtomicU64; RetryReason::ALL.len()]>);

impl UpstreamSeries {
    /// Counts a retry.
    pub fn retried(&self, reason: RetryReason) {
        self.0.mine()[reason.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// Retries for a reason.
    pub fn total(&self, reason: RetryReason) -> u64 {
        self.0.all().map(|cells| cells[reason.place()].load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_reasons_stand_in_the_order_of_their_places() {
        assert_eq!(Outcome::ALL.map(Outcome::place), [0, 1, 2, 3, 4, 5]);
        assert_eq!(RetryReason::ALL.map(RetryReason::place), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_answer_counts_in_its_class_and_bucket() {
        let route = RouteSeries::default();
        assert_eq!(route.used().count(), 0, "made at its first use");
        route.arm(Arm::None).answered(204, Duration::from_micros(1_000));
        route.arm(Arm::None).answered(503, Duration::from_secs(60));
        let totals = route.arm(Arm::None).totals();
        assert_eq!(totals.classes, [0, 1, 0, 0, 1]);
        assert_eq!((totals.count, totals.buckets[0], totals.buckets.iter().sum::<u64>()), (2, 1, 1));
        assert!((totals.seconds - 60.001).abs() < 1e-9);
    }
}
