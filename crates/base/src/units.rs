//! Numbers with their unit: no bare number crosses a module.
//!
//! A [`Share`] is a part of a whole, [`BasisPoints`] a share of all users, a [`Revision`] counts configurations,
//! [`Nanos`] is a moment, and a [`Currency`] is the unit of an amount. Ties and rounding are left to the caller.

mod currency;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use self::currency::Currency;

/// A part of a whole, kept as a fraction: `Share::percent(1.0)` is 0.01. Never negative, always finite; above 1 only
/// where a budget may exceed the whole.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// The whole.
    pub const ALL: Share = Share(1.0);

    /// From percent, as in the configuration; `None` for a negative or non-finite number.
    pub fn percent(percent: f64) -> Option<Share> {
        (percent.is_finite() && percent >= 0.0).then_some(Share(percent / 100.0))
    }

    /// As a fraction of 1.
    pub fn fraction(self) -> f64 {
        self.0
    }

    /// This share of `whole`, rounded down.
    pub fn of(self, whole: usize) -> usize {
        (self.0 * whole as f64 + 1e-9) as usize
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0 * 100.0)
    }
}

/// A share of users in hundredths of a percent, from 0 to 10,000: whole numbers, so that every
/// hash can meet it exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct BasisPoints(u16);

impl BasisPoints {
    /// No user.
    pub const NONE: BasisPoints = BasisPoints(0);
    /// Every user.
    pub const ALL: BasisPoints = BasisPoints(10_000);

    /// From hundredths of a percent; `None` above 10,000.
    pub fn new(hundredths: u16) -> Option<BasisPoints> {
        (hundredths <= 10_000).then_some(BasisPoints(hundredths))
    }

    /// From percent, as in the configuration; `None` outside of 0 to 100, and for steps finer than 0.01.
    pub fn percent(percent: f64) -> Option<BasisPoints> {
        let hundredths = (percent * 100.0).round();
        let exact = (percent * 100.0 - hundredths).abs() < 1e-6;
        (exact && (0.0..=10_000.0).contains(&hundredths)).then_some(BasisPoints(hundredths as u16))
    }

    /// In hundredths of a percent.
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// In percent.
    pub fn as_percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// As a fraction of 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// The difference to `other`; zero rather than less.
    pub fn without(self, other: BasisPoints) -> BasisPoints {
        BasisPoints(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for BasisPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.as_percent())
    }
}

/// The number of a configuration in one `state_dir`, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment, in nanoseconds since the process started. Engines take it as an argument; they never read a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The moment `time` later; the last one rather than an overflow.
    pub fn after(self, time: Duration) -> Nanos {
        Nanos(self.0.saturating_add(nanoseconds(time)))
    }

    /// The time since `earlier`; zero where that is not earlier, as two cores may disagree.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in nanoseconds; at most 584 years.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
