//! The only place that reads the time.
//!
//! Monotonic time is a [`Nanos`] since the process started, wall-clock time a count of milliseconds since 1970. The
//! pure engines take both as arguments and never come here. Time zones are not covered: everything is UTC.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::units::Nanos;

static START: OnceLock<Instant> = OnceLock::new();

/// Monotonic time since the first call.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Nanos {
    Nanos(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[allow(clippy::disallowed_methods)]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// RFC 3339, UTC, with milliseconds: `2026-11-21T03:38:00.123Z`.
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
