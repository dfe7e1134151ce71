//! A rate of events per second, held by the time at which the next one would be due at an even pace. Pure.
//!
//! An event may go out up to a tenth of a second before that time, so a rate is reached even by a loop that wakes up
//! late. Within any second there are no more than the rate, a tenth, and one.

/// Microseconds by which an event may go out before its time.
const EARLY_US: i64 = 100_000;

/// The pace of a lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When the next event is due at an even pace, in microseconds since 1970.
    due_us: i64,
}

impl Pace {
    /// Milliseconds until the next event may go out. A clock that was set back does not stop a lane.
    pub fn wait(&self, rate: u32, now_ms: i64) -> i64 {
        let wait = self.due_us - EARLY_US - now_ms.saturating_mul(1_000);
        if wait > step(rate) { 0 } else { (wait.max(0) + 999) / 1_000 }
    }

    /// Takes an event that goes out now.
    pub fn takes(&mut self, rate: u32, now_ms: i64) {
        let now_us = now_ms.saturating_mul(1_000);
        // A time that is further off was made by a clock that was ahead.
        let due = if self.due_us > now_us + EARLY_US + step(rate) { now_us } else { self.due_us };
        self.due_us = due.max(now_us) + step(rate);
    }
}

fn step(rate: u32) -> i64 {
    1_000_000 / i64::from(rate.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_232_280_000;

    /// The events that go out in these milliseconds.
    fn sent(rate: u32, times: impl Iterator<Item = i64>) -> usize {
        let (mut pace, mut sent) = (Pace::default(), 0);
        for now in times {
            while pace.wait(rate, now) == 0 {
                pace.takes(rate, now);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn a_rate_is_reached_and_held() {
        for rate in [1, 3, 50, 999] {
            let (ten, most) = (sent(rate, NOW..NOW + 10_000), rate as usize * 10);
            assert!((most..=most + rate as usize / 10 + 11).contains(&ten), "{rate}: {ten}");
            let late = sent(rate, (NOW..NOW + 10_000).step_by(40));
            assert!(late >= most * 9 / 10, "{rate}: {late}");
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved() {
        let times = [NOW].into_iter().chain(NOW + 60_000..NOW + 61_000);
        assert!(sent(50, times) <= 62);
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_at_the_rate() {
        let sent = sent(50, (NOW..NOW + 1_000).chain(NOW - 3_600_000..NOW - 3_599_000));
        assert!((100..=115).contains(&sent), "{sent}");
    }
}
