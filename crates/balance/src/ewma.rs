//! Peak EWMA of a member's latency: it follows a slower answer at once, and a faster one slowly.
//!
//! After Finagle's `PeakEwma` (com.twitter.finagle.loadbalancer) and linkerd's `tower::load`. There are two
//! differences. Reading does not write, so that choosing between two members never takes their cache lines. And the
//! value that is read decays with the time since the last answer, so that a member which was slow once, and is avoided
//! for it, is tried again. Value and time are two atomics: of two answers in the same instant one may weigh a little
//! more or less than it should.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use base::units::{Nanos, nanoseconds};

/// The time after which an old answer weighs 1/e, in nanoseconds.
const DECAY: f64 = 10e9;
/// The cost of an unmeasured member with requests in flight: more than that of any measured one.
const UNMEASURED: f64 = 1e18;

/// A latency as a moving average.
#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    /// Nanoseconds, as the bits of an `f64`; 0.0 means never measured.
    value: AtomicU64,
    /// When it was last measured.
    at: AtomicU64,
}

impl PeakEwma {
    /// Adds one answer.
    pub(super) fn observe(&self, latency: Duration, now: Nanos) {
        let latency = nanoseconds(latency).max(1) as f64;
        let keep = self.keep(now);
        let mut old = self.value.load(Relaxed);
        loop {
            let value = f64::from_bits(old);
            let new = if latency > value { latency } else { value * keep + latency * (1.0 - keep) };
            match self.value.compare_exchange_weak(old, new.to_bits(), Relaxed, Relaxed) {
                Ok(_) => break,
                Err(other) => old = other,
            }
        }
        self.at.fetch_max(now.0, Relaxed);
    }

    /// The average as of the last answer.
    pub(super) fn last(&self) -> Option<Duration> {
        let value = f64::from_bits(self.value.load(Relaxed));
        (value >= 1.0).then(|| Duration::from_nanos(value as u64))
    }

    /// The cost of one more request at a member with this many in flight, before its weight.
    pub(super) fn cost(&self, in_flight: u32, now: Nanos) -> f64 {
        let value = f64::from_bits(self.value.load(Relaxed)) * self.keep(now);
        let load = f64::from(in_flight);
        match (value >= 1.0, in_flight) {
            (true, _) => value * (load + 1.0),
            (false, 0) => 0.0,
            (false, _) => UNMEASURED * load,
        }
    }

    fn keep(&self, now: Nanos) -> f64 {
        (-(now.0.saturating_sub(self.at.load(Relaxed)) as f64) / DECAY).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(seconds: f64) -> Nanos {
        Nanos((seconds * 1e9) as u64)
    }

    #[test]
    fn peaks_are_adopted_at_once_and_forgotten_slowly() {
        let ewma = PeakEwma::default();
        assert_eq!(ewma.last(), None);
        ewma.observe(MS, at(1.0));
        assert_eq!(ewma.last(), Some(MS));
        ewma.observe(100 * MS, at(1.0));
        assert_eq!(ewma.last(), Some(100 * MS));
        ewma.observe(MS, at(11.0));
        let after = ewma.last().unwrap().as_secs_f64() * 1e3;
        let wanted = 100.0 / std::f64::consts::E + (1.0 - 1.0 / std::f64::consts::E);
        assert!((after - wanted).abs() < 0.01, "{after} ms, wanted {wanted}");
    }

    #[test]
    fn cost_grows_with_load_and_fades_with_silence() {
        let ewma = PeakEwma::default();
        ewma.observe(10 * MS, at(0.0));
        assert_eq!(ewma.cost(0, at(0.0)), 10e6);
        assert_eq!(ewma.cost(3, at(0.0)), 40e6);
        assert!(ewma.cost(0, at(10.0)) < 3.7e6);
        assert_eq!(ewma.cost(0, at(1_000.0)), 0.0, "forgotten: tried again");
    }

    #[test]
    fn an_unmeasured_member_is_tried_once_at_a_time() {
        let ewma = PeakEwma::default();
        assert_eq!(ewma.cost(0, at(5.0)), 0.0);
        let slow = PeakEwma::default();
        slow.observe(Duration::from_secs(3_600), at(5.0));
        assert!(ewma.cost(1, at(5.0)) > slow.cost(1_000, at(5.0)));
    }

    #[test]
    fn time_that_runs_back_does_no_harm() {
        let ewma = PeakEwma::default();
        ewma.observe(MS, at(5.0));
        ewma.observe(2 * MS, at(4.0));
        assert_eq!(ewma.last(), Some(2 * MS));
        assert_eq!(ewma.cost(0, at(1.0)), 2e6);
    }
}
