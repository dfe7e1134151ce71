//! Detects a wrong clock by the times in genuine messages. Pure.
//!
//! Only messages with a right signature count, accepted ones and those outside of their window: the last 64, and none
//! older than a quarter of an hour. A message from the future proves that a clock is wrong: with five of them and a
//! median of more than 60 s, this one is slow (or the provider's is fast). An old message proves nothing by itself: it
//! may be a replay. So this clock counts as fast when even the freshest is older than 60 s, of at least five accepted
//! messages or of the last 32, whatever their result.

use std::collections::VecDeque;

/// Messages that are kept.
const KEPT: usize = 64;
/// The number of messages among which one would be fresh if the clock were right.
const FRESH: usize = 32;
/// The least number of messages that proves anything.
const ENOUGH: usize = 5;
/// The tolerated difference, in milliseconds.
const BORNE_MS: i64 = 60_000;
/// The time for which a message counts, in milliseconds.
const AGE_MS: i64 = 15 * 60_000;

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ms: i64,
    skew_ms: i64,
    accepted: bool,
}

/// The last clock differences.
#[derive(Clone, Debug, Default)]
pub struct Skew {
    samples: VecDeque<Sample>,
}

impl Skew {
    /// Takes a genuine message that came at `now_ms` and whose time is `skew_ms` later; accepted, or outside of its
    /// window.
    pub fn genuine(&mut self, skew_ms: i64, accepted: bool, now_ms: i64) {
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at_ms: now_ms, skew_ms, accepted });
    }

    /// The median by which messages are ahead of this clock, in milliseconds; `None` without messages.
    pub fn median_ms(&self, now_ms: i64) -> Option<i64> {
        median(self.recent(now_ms).map(|sample| sample.skew_ms).collect())
    }

    /// The error of this clock in milliseconds: above 0 it is slow, below 0 fast; `None` if nothing proves one.
    pub fn wrong_ms(&self, now_ms: i64) -> Option<i64> {
        let future: Vec<i64> = self.recent(now_ms).map(|sample| sample.skew_ms).filter(|skew| *skew > 0).collect();
        if future.len() >= ENOUGH
            && let Some(slow) = median(future).filter(|slow| *slow > BORNE_MS)
        {
            return Some(slow);
        }
        let last: Vec<Sample> = self.recent(now_ms).rev().take(FRESH).copied().collect();
        let accepted = last.iter().filter(|sample| sample.accepted).count();
        let freshest = last.iter().map(|sample| sample.skew_ms).max()?;
        let proved = accepted >= ENOUGH || last.len() == FRESH;
        (proved && freshest < -BORNE_MS).then_some(freshest)
    }

    fn recent(&self, now_ms: i64) -> impl DoubleEndedIterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| now_ms - sample.at_ms <= AGE_MS)
    }
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_232_280_000;

    fn skew(samples: impl IntoIterator<Item = (i64, bool)>) -> Skew {
        let mut skew = Skew::default();
        samples.into_iter().for_each(|(seconds, accepted)| skew.genuine(seconds * 1_000, accepted, NOW));
        skew
    }

    #[test]
    fn five_messages_from_the_future_prove_a_slow_clock_and_four_do_not() {
        assert_eq!(skew([(-1, true); 50].into_iter().chain([(400, false); 5])).wrong_ms(NOW), Some(400_000));
        assert_eq!(skew([(400, false); 4]).wrong_ms(NOW), None);
        assert_eq!(skew([(59, true); 64]).wrong_ms(NOW), None, "that is borne");
        assert_eq!(skew([(2, true); 6].into_iter().chain([(400, false); 5])).wrong_ms(NOW), None, "at the median");
    }

    #[test]
    fn old_messages_alone_are_repetitions_and_no_skew() {
        assert_eq!(skew([(-4_000, false); 20]).wrong_ms(NOW), None);
        assert_eq!(skew([(-1, true)].into_iter().chain([(-4_000, false); 31])).wrong_ms(NOW), None, "one is fresh");
    }

    #[test]
    fn a_clock_is_fast_when_nothing_is_fresh_any_more() {
        assert_eq!(
            skew([(-90, true), (-100, true), (-200, true), (-290, true), (-70, true)]).wrong_ms(NOW),
            Some(-70_000)
        );
        assert_eq!(skew([(-400, false); 32]).wrong_ms(NOW), Some(-400_000));
        assert_eq!(skew([(-90, true), (-100, true), (-3, true), (-290, true), (-70, true)]).wrong_ms(NOW), None);
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let skew = skew([(400, false); 10]);
        assert_eq!((skew.median_ms(NOW), skew.wrong_ms(NOW)), (Some(400_000), Some(400_000)));
        assert_eq!((skew.median_ms(NOW + AGE_MS + 1), skew.wrong_ms(NOW + AGE_MS + 1)), (None, None));
    }
}
