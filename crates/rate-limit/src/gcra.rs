//! The rule of a rate: the Generic Cell Rate Algorithm, in its form of virtual scheduling.
//!
//! Source: ITU-T I.371 (03/2004), annex A, figure A.1. A key's only state is its theoretical arrival time (TAT): when
//! it would have all its tokens back. A request at `now` conforms where TAT ≤ now + tolerance; TAT then becomes
//! max(TAT, now) + interval. With interval = per / count and tolerance = (burst − 1) × interval this is a bucket of
//! `burst` tokens that `count` drop into each `per`: any span of time t admits at most burst + t / interval requests.
//!
//! Times are whole [`Ticks`], sixteenths of a nanosecond, so a request's interval is off by at most a thirty-second of
//! a nanosecond: a limit of a million a second is kept to 32 millionths, one of a thousand to 32 billionths. Ties: a
//! request that comes exactly when its token does conforms. The rule has no state; `super::table` keeps it.

use std::time::Duration;

use base::units::Nanos;

/// Sixteenths of a nanosecond since the process started, or between two moments. 36 years fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticks(pub(super) u64);

const PER_NANO: u64 = 16;
/// How far a key's time may run ahead of the clock, so that sums stay in range: about nine years.
const SPAN_MAX: u128 = 1 << 62;

impl Ticks {
    pub(super) fn at(now: Nanos) -> Ticks {
        Ticks(now.0.saturating_mul(PER_NANO))
    }

    pub(super) const fn seconds(seconds: u64) -> Ticks {
        Ticks(seconds * 1_000_000_000 * PER_NANO)
    }

    fn after(self, span: u64) -> Ticks {
        Ticks(self.0.saturating_add(span))
    }

    fn before(self, span: u64) -> u64 {
        self.0.saturating_sub(span)
    }
}

/// How far a key's time may lie beyond what its rate allows before it counts as one of an older, slower rate. A thread
/// that read its clock later may also have set it; no thread waits this long between its clock and its answer.
const STRANGE: Ticks = Ticks::seconds(5);

/// A rate that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Nothing would ever pass, or everything at once.
    #[error("count, time and burst of a rate must be at least 1")]
    Zero,
    /// More than 16 requests a nanosecond.
    #[error("the rate is too high to be told from none")]
    TooFast,
    /// The burst takes more than nine years to come back.
    #[error("a burst this large takes years to come back at this rate")]
    TooLong,
}

/// A rate with its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
    interval: u64,
    tolerance: u64,
}

/// The answer of a rate to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It conforms; the key's time becomes this.
    Conforms(Ticks),
    /// It must wait.
    TooEarly {
        /// The time to set the key to first, where its time is of an older rate.
        mend: Option<Ticks>,
    },
}

/// What a key has left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Requests that conform at once.
    pub tokens: u32,
    /// The time until one more conforms than now; for a key with all its tokens, until a spent one comes back.
    pub next: Duration,
}

impl Rate {
    /// `count` requests each `per`, and `burst` at once.
    pub fn new(count: u32, per: Duration, burst: u32) -> Result<Rate, RateError> {
        if count == 0 || per.is_zero() || burst == 0 {
            return Err(RateError::Zero);
        }
        let (per_ticks, count_wide) = (per.as_nanos() * u128::from(PER_NANO), u128::from(count));
        // Rounded to the nearest; the tolerance is whole intervals, so that a burst is exact.
        let interval = (per_ticks + count_wide / 2) / count_wide;
        if interval == 0 {
            return Err(RateError::TooFast);
        }
        if interval * u128::from(burst) > SPAN_MAX {
            return Err(RateError::TooLong);
        }
        let interval = interval as u64;
        Ok(Rate { count, per, burst, interval, tolerance: interval * u64::from(burst - 1) })
    }

    /// Requests that conform at once when none came before.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time in which a spent burst comes back, in whole seconds, rounded up; and the requests that the rate allows
    /// in that time. They are the burst and its time where that is whole seconds.
    pub fn window(&self) -> (u64, u64) {
        let (per, count) = (self.per.as_nanos(), u128::from(self.count));
        let second = 1_000_000_000 * count;
        let seconds = (u128::from(self.burst) * per).div_ceil(second).max(1);
        ((seconds * second / per) as u64, seconds as u64)
    }

    /// Whether one more request of a key conforms. `time` is the key's, `None` where it has all its tokens.
    pub(super) fn ask(&self, time: Option<Ticks>, now: Ticks) -> Answer {
        let Some(time) = time else { return Answer::Conforms(now.after(self.interval)) };
        if time.before(self.tolerance) <= now.0 {
            return Answer::Conforms(time.max(now).after(self.interval));
        }
        let empty = now.after(self.span());
        Answer::TooEarly { mend: (time > empty.after(STRANGE.0)).then_some(empty) }
    }

    /// The time of a key that gets one token back; `taken` is its time when that was taken. `None` where the token has
    /// come back by itself: then the tokens of others do not follow on it without a gap.
    pub(super) fn give_back(&self, time: Ticks, taken: Ticks) -> Option<Ticks> {
        let since = time.0.checked_sub(taken.0)?;
        since.is_multiple_of(self.interval).then(|| Ticks(time.before(self.interval)))
    }

    /// What a key of this time has left.
    pub(super) fn left(&self, time: Option<Ticks>, now: Ticks) -> Left {
        let owed = time.map_or(0, |time| time.before(now.0)).min(self.span());
        let credit = self.span() - owed;
        let next = self.interval - credit % self.interval;
        Left { tokens: (credit / self.interval) as u32, next: Duration::from_nanos(next.div_ceil(PER_NANO)) }
    }

    /// The time from no token to all.
    fn span(&self) -> u64 {
        self.tolerance + self.interval
    }
}
