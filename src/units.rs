//! Numbers with their unit: no bare number crosses a module.
//!
//! A [`Share`] is a part of a whole, a [`Revision`] counts configurations, [`Nanos`] is a moment. Ties and rounding are
//! the caller's.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// A part of a whole, kept as a fraction: `Share::percent(1.0)` is 0.01. Never negative, always finite; above 1 only
/// where a budget may exceed the whole.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// The whole.
    pub const ALL: Share = Share(1.0);

    /// From percent, as the configuration says it; `None` for a negative or non-finite number.
    pub fn percent(percent: f64) -> Option<Share> {
        (percent.is_finite() && percent >= 0.0).then_some(Share(percent / 100.0))
    }

    /// As a fraction of 1.
    pub fn fraction(self) -> f64 {
        self.0
    }

    /// How many of `whole` it is, rounded down.
    pub fn of(self, whole: usize) -> usize {
        (self.0 * whole as f64 + 1e-9) as usize
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0 * 100.0)
    }
}

/// Counts configurations of one `state_dir`, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment, in nanoseconds since the process started. Engines are given it; they never ask a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The moment `time` later; the end of time rather than an overflow.
    pub fn after(self, time: Duration) -> Nanos {
        Nanos(self.0.saturating_add(nanoseconds(time)))
    }

    /// How long ago `earlier` was; zero where it is not earlier, as two cores may disagree.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in nanoseconds; 584 years at most.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
