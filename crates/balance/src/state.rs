//! The state of one server, in whatever snapshot it is: health, load, latency, failures, ejection, ramp.
//!
//! The state is atomics on two groups of cache lines that no other server shares: those that each request writes, and
//! those that only events write. Orderings are relaxed: each number stands for itself, and a pick that reads one an
//! instant late only decides as it would have an instant earlier. Ejections are decided in `outlier`, not here.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

use super::ewma::PeakEwma;
use base::units::Nanos;

/// The share that a ramp starts with, in 1,024ths: 10 %.
const RAMP_START: u64 = 102;
/// A full share.
pub(super) const FULL: u64 = 1_024;
/// No ramp.
const NEVER: u64 = u64::MAX;

/// The identity of a server for as long as the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Id(u64);

impl Id {
    /// No server.
    pub(super) const NONE: Id = Id(0);

    /// A new identity.
    pub(super) fn fresh() -> Id {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Id(LAST.fetch_add(1, Relaxed) + 1)
    }
}

/// The state of one server.
#[derive(Debug)]
pub struct State {
    pub(super) id: Id,
    pub(super) hot: Hot,
    pub(super) cold: Cold,
}

/// The fields that each request writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Hot {
    in_flight: AtomicU32,
    /// Failures in a row.
    pub(super) failures: AtomicU32,
    pub(super) latency: PeakEwma,
}

/// The fields that only events write.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Cold {
    healthy: AtomicBool,
    /// Ejected, without a success since.
    pub(super) probation: AtomicBool,
    /// The one request of a probation is in flight.
    pub(super) probing: AtomicBool,
    /// The end of the latest ejection.
    pub(super) ejected_until: AtomicU64,
    /// The number of ejections: also the generation that outcomes belong to.
    pub(super) ejections: AtomicU32,
    /// Ejections in a row, which set the length of the next one.
    pub(super) streak: AtomicU32,
    /// The latest failure.
    pub(super) failed_at: AtomicU64,
    /// The start of the ramp of a slow start.
    ramp_from: AtomicU64,
    /// The time of its first request.
    first_asked: AtomicU64,
}

impl State {
    /// A server without requests so far: healthy, so that it is tried at once.
    pub(super) fn new() -> State {
        let cold = Cold {
            healthy: AtomicBool::new(true),
            probation: AtomicBool::new(false),
            probing: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            streak: AtomicU32::new(0),
            failed_at: AtomicU64::new(0),
            ramp_from: AtomicU64::new(NEVER),
            first_asked: AtomicU64::new(NEVER),
        };
        State { id: Id::fresh(), hot: Hot::default(), cold }
    }

    /// Requests in flight, of all snapshots together.
    pub fn in_flight(&self) -> u32 {
        self.hot.in_flight.load(Relaxed)
    }

    /// The result of the last active probes; true where there are none.
    pub fn healthy(&self) -> bool {
        self.cold.healthy.load(Relaxed)
    }

    /// Sets the result of the active probes. A server that comes back starts its ramp.
    pub fn set_healthy(&self, healthy: bool, now: Nanos) {
        let before = self.cold.healthy.swap(healthy, Relaxed);
        if healthy && !before {
            self.start_ramp(now);
        }
    }

    /// The end of the ejection, while there is one.
    pub fn ejected_until(&self, now: Nanos) -> Option<Nanos> {
        let until = Nanos(self.cold.ejected_until.load(Relaxed));
        (now < until).then_some(until)
    }

    /// Whether the server is healthy and not ejected; the value of `upstream_healthy`.
    pub fn is_up(&self, now: Nanos) -> bool {
        self.healthy() && self.ejected_until(now).is_none()
    }

    /// Whether an ejection is over but no request has succeeded since.
    pub fn on_probation(&self, now: Nanos) -> bool {
        self.cold.probation.load(Relaxed) && self.ejected_until(now).is_none()
    }

    /// The peak EWMA of its latency, as of the last answer; `None` before the first one.
    pub fn latency(&self) -> Option<Duration> {
        self.hot.latency.last()
    }

    /// Whether it got its first request at least `settle` before `now`: until then it may be cold.
    pub fn is_warm(&self, settle: Duration, now: Nanos) -> bool {
        let first = self.cold.first_asked.load(Relaxed);
        first != NEVER && now.since(Nanos(first)) >= settle
    }

    /// Notes that a request is sent to it.
    pub(super) fn asked(&self, now: Nanos) {
        // Read first: it is written once, and all cores share its cache line.
        if self.cold.first_asked.load(Relaxed) == NEVER {
            self.cold.first_asked.store(now.0, Relaxed);
        }
    }

    /// The number of its ejections.
    pub fn ejections(&self) -> u32 {
        self.cold.ejections.load(Relaxed)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.hot.failures.load(Relaxed)
    }

    /// Whether it may get a request, apart from the limit of requests in flight.
    pub(super) fn usable(&self, now: Nanos) -> bool {
        self.is_up(now) && !(self.cold.probation.load(Relaxed) && self.cold.probing.load(Relaxed))
    }

    pub(super) fn has_room(&self, limit: Option<u32>) -> bool {
        limit.is_none_or(|limit| self.in_flight() < limit)
    }

    /// Counts a request in, unless `limit` are in flight.
    pub(super) fn enter(&self, limit: Option<u32>) -> bool {
        let Some(limit) = limit else {
            self.hot.in_flight.fetch_add(1, Relaxed);
            return true;
        };
        let more = |n: u32| (n < limit).then_some(n + 1);
        self.hot.in_flight.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Counts a request out.
    pub(super) fn leave(&self) {
        let before = self.hot.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a request left that never entered");
    }

    pub(super) fn start_ramp(&self, now: Nanos) {
        self.cold.ramp_from.store(now.0, Relaxed);
    }

    /// The share of its weight while it ramps up over `slow_start` nanoseconds, in 1,024ths.
    pub(super) fn ramp(&self, slow_start: u64, now: Nanos) -> u64 {
        let from = self.cold.ramp_from.load(Relaxed);
        if from == NEVER {
            return FULL;
        }
        let since = now.0.saturating_sub(from);
        if since >= slow_start {
            return FULL;
        }
        RAMP_START + (u128::from(FULL - RAMP_START) * u128::from(since) / u128::from(slow_start)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_is_linear_from_a_tenth() {
        let state = State::new();
        let slow_start = 30_000_000_000;
        assert_eq!(state.ramp(slow_start, Nanos(0)), FULL, "nothing started it");
        state.set_healthy(true, Nanos(5));
        assert_eq!(state.ramp(slow_start, Nanos(5)), FULL, "it was healthy before");
        state.set_healthy(false, Nanos(10));
        state.set_healthy(true, Nanos(20));
        assert_eq!(state.ramp(slow_start, Nanos(20)), RAMP_START);
        assert_eq!(state.ramp(slow_start, Nanos(7)), RAMP_START, "time that runs back");
        assert_eq!(state.ramp(slow_start, Nanos(20 + slow_start / 2)), (RAMP_START + FULL) / 2);
        assert_eq!(state.ramp(slow_start, Nanos(20 + slow_start)), FULL);
    }

    #[test]
    fn a_server_is_warm_some_time_after_its_first_request() {
        let (state, settle) = (State::new(), Duration::from_secs(30));
        assert!(!state.is_warm(Duration::ZERO, Nanos(5)), "it was never asked");
        state.asked(Nanos(7));
        state.asked(Nanos(9_000_000_000));
        assert!(!state.is_warm(settle, Nanos(30_000_000_006)) && state.is_warm(settle, Nanos(30_000_000_007)));
        assert!(state.is_warm(Duration::ZERO, Nanos(7)));
    }

    #[test]
    fn servers_share_no_cache_line() {
        assert_eq!(align_of::<State>(), 128);
        assert!(size_of::<Hot>() == 128 && size_of::<Cold>() == 128);
    }
}
