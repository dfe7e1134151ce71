//! What a judged request counts as: a first event, a user of the window, a user of the step (exposure).
//!
//! Only requests whose user was assigned to their arm in this step are evidence: within a step a user is on
//! one arm, by the step's share. A request that began before the step and ends in it is shown and counted as a
//! user of the window, no more.

use crate::sample::{Arm, Ending, Sample};

use super::quantiles::{Thresholds, Took};
use super::refusals::Refusals;
use super::servers::Servers;
use super::signals::{
    EPISODE_ERRORS, EPISODE_P95, EPISODE_P99, EPISODE_REFUSALS, EPISODE_SLO, ERRORS, P50, P95, P99, REFUSALS, SLO,
};
use super::users::{FirstEvent, Now, THERE, User};
use super::window::{Cause, UserCounts, Window};

/// Signals of a user's first answer, each with the signal whose threshold it uses.
const FIRST_ANSWER: [(usize, usize); 5] =
    [(P50, P50), (P50 + 1, P50 + 1), (P50 + 2, P50 + 2), (P95, P95), (EPISODE_P95, P95)];

/// Signals of a user's first answer above the threshold, each with the signal whose threshold it uses.
const FIRST_ABOVE: [(usize, usize); 5] =
    [(P99, P99), (P99 + 1, P99 + 1), (SLO, SLO), (EPISODE_P99, P99), (EPISODE_SLO, SLO)];

/// A user's request, and the counters that it goes into.
pub(super) struct Exposure<'a> {
    pub(super) user: &'a mut User,
    pub(super) thresholds: &'a Thresholds,
    pub(super) refusals: &'a mut Refusals,
    pub(super) servers: &'a mut Servers,
    pub(super) failures: &'a mut Failures,
    pub(super) window: &'a mut Window,
    pub(super) in_step: &'a mut UserCounts,
    /// Whether answers are timed.
    pub(super) timed: bool,
    pub(super) told: Told,
}

/// What a request was its user's first of in the episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// A failure.
    pub failure: bool,
    /// A refusal: the first of the episode, or the first at all of a kind that stable's users seldom get.
    pub refusal: bool,
    /// A slow answer: the user's first answer, or the first above p99 or the objective.
    pub slow: bool,
}

/// First failures on the canary, in the open window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    /// First of the episode: five end a window early.
    pub(super) of_episode: u32,
    /// First of their users' whole life in the release.
    pub(super) of_life: u32,
}

impl Exposure<'_> {
    /// Counts a request of any step in the window.
    pub(super) fn note(&mut self, seen: &Sample) {
        if self.user.now.first(Now::ACTIVE) {
            self.window.tally.active[seen.arm as usize] += 1;
            self.servers.active(seen);
            self.window.cold[seen.arm as usize] += u64::from(!seen.warm);
        }
        if seen.arm == Arm::Stable && self.user.may_tell(THERE) {
            self.user.tell(THERE);
            self.refusals.there();
        }
        if let Ending::Failed(failure) = seen.ending
            && self.user.now.first(Now::FAILED)
        {
            self.window.tally.failing[seen.arm as usize] += 1;
            self.servers.met(seen, ERRORS);
            if seen.arm == Arm::Stable {
                self.window.blame(Cause { route: seen.route, failure, status: seen.status });
            }
        }
        // A burst of rare refusals must not hide below the usual ones.
        if seen.is_refusal() && self.refusals.is_rare(seen) && self.user.now.first(Now::REFUSED) {
            self.servers.met(seen, REFUSALS);
        }
    }

    /// Counts a request of this step, and its latency as far as it is known.
    pub(super) fn hear(&mut self, seen: &Sample, took: Option<Took>) {
        if self.user.first(FirstEvent::InStep) {
            self.in_step.active[seen.arm as usize] += 1;
        }
        if seen.ending.is_failure() {
            self.fail(seen);
        }
        if seen.is_refusal() {
            self.refuse(seen);
        }
        if let Some(took) = took {
            let slow = self.thresholds.at(seen.route).of(P95).and_then(|limit| took.is_above(limit));
            if let Some(slow) = slow.filter(|_| self.user.first(FirstEvent::MeasuredInStep)) {
                self.in_step.first.count(seen.arm, slow);
            }
            if self.timed && seen.warm {
                self.measure(seen, took, slow);
            }
        }
    }

    /// Counts a user's first event of a signal; returns whether it is one.
    fn tells(&mut self, signal: usize, seen: &Sample) -> bool {
        let first = self.user.may_tell(signal);
        if first {
            self.user.tell(signal);
            self.servers.event(seen, signal);
            match signal {
                EPISODE_ERRORS => self.told.failure = true,
                REFUSALS | EPISODE_REFUSALS => self.told.refusal = true,
                EPISODE_P95 | EPISODE_P99 | EPISODE_SLO => self.told.slow = true,
                _ => {}
            }
        }
        first
    }

    fn fail(&mut self, seen: &Sample) {
        let on_canary = u32::from(seen.arm == Arm::Canary);
        if self.user.first(FirstEvent::FailedInStep) {
            self.in_step.failing[seen.arm as usize] += 1;
        }
        if self.tells(ERRORS, seen) {
            self.failures.of_life += on_canary;
        }
        if self.tells(EPISODE_ERRORS, seen) {
            self.failures.of_episode += on_canary;
        }
    }

    fn refuse(&mut self, seen: &Sample) {
        if self.refusals.is_rare(seen) {
            self.tells(REFUSALS, seen);
            if self.user.first(FirstEvent::RefusedInStep) {
                self.in_step.refused[seen.arm as usize] += 1;
            }
        }
        if self.tells(EPISODE_REFUSALS, seen) {
            self.refusals.count(seen);
        }
    }

    fn measure(&mut self, seen: &Sample, took: Took, slow: Option<bool>) {
        let limits = self.thresholds.at(seen.route);
        let is_above = |signal| limits.of(signal).and_then(|limit| took.is_above(limit));
        if self.user.now.first(Now::TIMED) {
            self.servers.timed(seen);
            slow.into_iter().for_each(|slow| self.window.tally.timed.count(seen.arm, slow));
        }
        for signal in P50..=SLO {
            if is_above(signal) == Some(true) && self.user.now.first(Now::above(signal)) {
                self.servers.met(seen, signal);
            }
        }
        for (signal, limit) in FIRST_ANSWER {
            let Some(above) = is_above(limit).filter(|_| self.user.may_tell(signal)) else { continue };
            match above {
                true => _ = self.tells(signal, seen),
                false => self.user.tell(signal),
            }
        }
        for (signal, limit) in FIRST_ABOVE {
            if is_above(limit) == Some(true) {
                self.tells(signal, seen);
            }
        }
        if let Some(slow) = slow.filter(|_| self.user.first(FirstEvent::TimedInStep)) {
            self.in_step.timed.count(seen.arm, slow);
        }
    }
}
