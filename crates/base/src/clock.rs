//! The clocks: the only place that reads the time.
//!
//! Monotonic time is a [`Nanos`] since the process started, wall-clock time a count of milliseconds since 1970. The
//! pure engines take both as arguments and never read a clock. Time zones are not covered: everything is UTC.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::units::Nanos;

static START: OnceLock<Instant> = OnceLock::new();
/// Wall-clock nanoseconds when the process started.
static WALL_AT_START: AtomicU64 = AtomicU64::new(0);

/// Monotonic time since the first call.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Nanos {
    Nanos(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

/// The machine's monotonic clock in microseconds, as a service manager reads it.
pub fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[allow(clippy::disallowed_methods)]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// The wall-clock time at a monotonic one, in milliseconds since 1970. It costs no system call:
/// [`follow_wall`] measures the distance between the two clocks, so after the wall clock was set the result
/// may be wrong until the next call of that.
pub fn wall_ms_at(now: Nanos) -> u64 {
    WALL_AT_START.load(Ordering::Relaxed).saturating_add(now.0) / 1_000_000
}

/// Measures the distance between the clocks anew.
pub fn follow_wall() {
    WALL_AT_START.store((wall_ms() * 1_000_000).saturating_sub(now().0), Ordering::Relaxed);
}

/// Formats a time by RFC 3339, UTC, with milliseconds: `2026-11-21T03:38:00.123Z`.
pub fn rfc3339(wall_ms: u64) -> String {
    jiff::Timestamp::from_millisecond(wall_ms as i64)
        .map(|t| format!("{t:.3}"))
        .unwrap_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_timestamp_is_rfc3339_with_milliseconds() {
        assert_eq!(super::rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(super::rfc3339(1_795_232_280_120), "2026-11-21T03:38:00.120Z");
    }
}
