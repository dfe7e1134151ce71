//! What a judged request is counted as: a first event, a user of the window.
//!
//! Only requests whose user was put on his arm in this step speak: within a step a user is on one arm, and that by the
//! step's share. What began before, and ends later, is shown and counted as a user of the window, no more.

use crate::gray::seen::{Arm, Seen};

use super::quantiles::{Thresholds, Took};
use super::signals::{EPISODE_ERRORS, EPISODE_P99, EPISODE_SLO, ERRORS, P50, P95, P99, SLO};
use super::users::{Now, User};
use super::window::{Cause, Cell, Counts, Window};

/// Latency signals of an episode, and whose thresholds they have.
const IN_EPISODES: [(usize, usize); 2] = [(EPISODE_P99, P99), (EPISODE_SLO, SLO)];

/// A user's request, and what it is counted in.
pub(super) struct Hearing<'a> {
    pub(super) user: &'a mut User,
    pub(super) thresholds: &'a Thresholds,
    pub(super) counts: &'a mut Counts,
    pub(super) window: &'a mut Window,
    /// Whether the window's answers are timed.
    pub(super) timed: bool,
}

impl Hearing<'_> {
    /// Counts a request of any step in the window.
    pub(super) fn note(&mut self, seen: &Seen) {
        let tally = &mut self.window.tally;
        if self.user.now.first(Now::ACTIVE) {
            tally.active[seen.arm as usize] += 1;
        }
        if seen.ending.is_failure() && self.user.now.first(Now::FAILED) {
            tally.failing[seen.arm as usize] += 1;
            if seen.arm == Arm::Stable {
                self.window.blame(Cause { route: seen.route, ending: seen.ending, status: seen.status });
            }
        }
    }

    /// Counts a request of this step and what is known of its latency.
    pub(super) fn hear(&mut self, seen: &Seen, took: Option<Took>) {
        if seen.ending.is_failure() {
            self.fail(seen);
        }
        if let Some(took) = took.filter(|_| self.timed) {
            self.measure(seen, took);
        }
    }

    /// Whether it is his first event of a signal.
    fn tells(&mut self, signal: usize, seen: &Seen) -> bool {
        let first = self.user.may_tell(signal);
        if first {
            self.user.tell(signal);
            self.counts.event(signal, Cell::of(seen.arm, seen.user));
        }
        first
    }

    fn fail(&mut self, seen: &Seen) {
        let on_canary = u32::from(seen.arm == Arm::Canary);
        if self.tells(ERRORS, seen) {
            self.counts.canary_first_failures += on_canary;
        }
        if self.tells(EPISODE_ERRORS, seen) {
            self.counts.canary_failures += on_canary;
        }
    }

    fn measure(&mut self, seen: &Seen, took: Took) {
        let limits = self.thresholds.at(seen.route);
        let is_above = |signal| limits.of(signal).and_then(|limit| took.is_above(limit));
        for signal in P50..=P95 {
            // His first answer is the one that counts.
            match is_above(signal) {
                Some(true) => _ = self.tells(signal, seen),
                Some(false) => self.user.tell(signal),
                None => {}
            }
        }
        for (signal, limit) in (P99..=SLO).map(|signal| (signal, signal)).chain(IN_EPISODES) {
            if is_above(limit) == Some(true) {
                self.tells(signal, seen);
            }
        }
        if let Some(above) = is_above(P95) {
            // Any answer of the second would be above for nearly every user who asks often, and tell nothing.
            if self.user.now.first(Now::MEASURED) {
                self.window.tally.measured[seen.arm as usize] += 1;
                self.window.tally.slow[seen.arm as usize] += u64::from(above);
            }
        }
    }
}
