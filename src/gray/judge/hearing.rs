//! What a judged request is counted as: an exposure, an event, a user-window.
//!
//! A user's arm and stratum are those of his first request in the window, also for what he does later in it: were a
//! request that he began before he moved to the canary not his any more, movers would differ from the rest. A later
//! request on another route is compared with that route's thresholds.

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
    /// Counts a request and what is known of its latency.
    pub(super) fn hear(&mut self, seen: &Seen, took: Option<Took>) {
        self.expose(seen);
        if seen.ending.is_failure() {
            self.fail(seen);
        }
        if let Some(took) = took.filter(|_| self.timed) {
            self.measure(seen, took);
        }
    }

    fn cell(&self, key: u64) -> Cell {
        Cell::of(self.user.arm(), key)
    }

    /// His first request in this window exposes him to what he did not tell yet.
    fn expose(&mut self, seen: &Seen) {
        if !self.user.now.first(Now::ACTIVE) {
            return;
        }
        if seen.arm == Arm::Canary {
            self.user.now.first(Now::CANARY);
        }
        self.user.stratum = seen.route;
        self.window.tally.active[seen.arm as usize] += 1;
        let limits = self.thresholds.at(seen.route);
        for signal in [ERRORS].into_iter().chain(P99..=SLO) {
            if self.user.may_tell(signal) && (signal == ERRORS || self.timed && limits.of(signal).is_some()) {
                self.counts.expose(seen.route, signal, self.cell(seen.user));
            }
        }
        if self.user.may_tell(EPISODE_ERRORS) {
            self.counts.expose(seen.route, EPISODE_ERRORS, self.cell(seen.user));
        }
        for (signal, limit) in IN_EPISODES {
            if self.timed && self.user.may_tell(signal) && limits.of(limit).is_some() {
                self.counts.expose(seen.route, signal, self.cell(seen.user));
            }
        }
    }

    fn fail(&mut self, seen: &Seen) {
        let arm = self.user.arm();
        if self.user.now.first(Now::FAILED) {
            self.window.tally.failing[arm as usize] += 1;
            if arm == Arm::Stable {
                self.window.blame(Cause { route: seen.route, ending: seen.ending, status: seen.status });
            }
        }
        if self.user.may_tell(ERRORS) {
            self.user.tell(ERRORS);
            self.counts.event(self.user.stratum, ERRORS, self.cell(seen.user));
            self.counts.canary_first_failures += u32::from(arm == Arm::Canary);
        }
        if self.user.may_tell(EPISODE_ERRORS) {
            self.user.tell(EPISODE_ERRORS);
            self.counts.event(self.user.stratum, EPISODE_ERRORS, self.cell(seen.user));
            self.counts.canary_failures += u32::from(arm == Arm::Canary);
        }
    }

    fn measure(&mut self, seen: &Seen, took: Took) {
        let (limits, cell) = (self.thresholds.at(seen.route), self.cell(seen.user));
        for signal in P50..=P95 {
            // His first answer is his one exposure, by its own route.
            if self.user.may_tell(signal)
                && let Some(above) = limits.of(signal).and_then(|limit| took.is_above(limit))
            {
                self.user.tell(signal);
                self.counts.expose(seen.route, signal, cell);
                if above {
                    self.counts.event(seen.route, signal, cell);
                }
            }
        }
        let exposed = self.thresholds.at(self.user.stratum);
        for (signal, limit) in (P99..=SLO).map(|signal| (signal, signal)).chain(IN_EPISODES) {
            if self.user.may_tell(signal)
                && exposed.of(limit).is_some()
                && limits.of(limit).and_then(|limit| took.is_above(limit)) == Some(true)
            {
                self.user.tell(signal);
                self.counts.event(self.user.stratum, signal, cell);
            }
        }
        if let Some(above) = limits.of(P95).and_then(|limit| took.is_above(limit)) {
            let arm = self.user.arm() as usize;
            // Any answer of the second would be above for nearly every user who asks often, and tell nothing.
            if self.user.now.first(Now::MEASURED) {
                self.window.tally.measured[arm] += 1;
                self.window.tally.slow[arm] += u64::from(above);
            }
        }
    }
}
