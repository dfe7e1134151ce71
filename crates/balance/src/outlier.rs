//! Passive ejection (outlier detection): a server that fails several times in a row is left out for
//! a while, longer each time.
//!
//! After Envoy's outlier detection (`source/common/upstream/outlier_detection_impl.cc`): the n-th ejection in a row
//! lasts n times `eject_for`, at most 300 s (or `eject_for`, where that is longer), and n falls by one for each
//! `eject_for` without a failure. Probation is added to that. When an ejection is over, the server gets one request at
//! a time until one succeeds; one that fails ejects it again at once.
//!
//! An ejection is a time, not a flag, so no code can forget to let a server back in. An outcome counts only for the
//! time since the last ejection: requests sent before it are ignored when they end, since a burst of slow failures
//! would otherwise eject a server that has recovered. Two servers that fail in the same instant pass one lock in turn,
//! taken only to eject, so never more than `max_ejected` are out. Drained servers are neither ejected nor counted.
//! Success rates and latencies do not count: a server that fails every other request stays.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::choose::Fleet;
use super::state::State;
use base::units::{Nanos, nanoseconds};

/// The longest ejection, unless `eject_for` is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// The ejection of a server, just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// When it is over.
    pub until: Nanos,
    /// How long it lasts.
    pub length: Duration,
    /// Its number in a row, from 1.
    pub in_a_row: u32,
}

impl State {
    /// Notes that a request of `generation` succeeded.
    pub(super) fn note_success(&self, generation: u32, now: Nanos) {
        if self.hot.failures.load(Relaxed) == 0 && !self.cold.probation.load(Relaxed) {
            return;
        }
        if generation != self.ejections() {
            return;
        }
        self.hot.failures.store(0, Relaxed);
        if self.on_probation(now) && self.cold.probation.swap(false, Relaxed) {
            self.start_ramp(now);
        }
    }

    /// Ends ejection and probation.
    pub(super) fn pardon(&self) {
        if self.cold.probation.swap(false, Relaxed) {
            self.cold.ejected_until.store(0, Relaxed);
            self.hot.failures.store(0, Relaxed);
        }
    }

    /// Shortens the streak by the time without failures.
    fn forgive(&self, eject_for: u64, now: Nanos) {
        let failed_at = self.cold.failed_at.swap(now.0, Relaxed);
        let quiet_from = failed_at.max(self.cold.ejected_until.load(Relaxed));
        let intervals = now.0.saturating_sub(quiet_from) / eject_for.max(1);
        if intervals > 0 {
            let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
            let _ = self.cold.streak.fetch_update(Relaxed, Relaxed, |s| Some(s.saturating_sub(intervals)));
        }
    }

    fn eject(&self, eject_for: Duration, now: Nanos) -> Ejection {
        let in_a_row = self.cold.streak.load(Relaxed).saturating_add(1);
        let length = eject_for.saturating_mul(in_a_row).min(LONGEST.max(eject_for));
        let until = now.after(length);
        self.cold.streak.store(in_a_row, Relaxed);
        self.cold.ejected_until.store(until.0, Relaxed);
        self.cold.ejections.fetch_add(1, Relaxed);
        self.cold.probation.store(true, Relaxed);
        self.hot.failures.store(0, Relaxed);
        Ejection { until, length, in_a_row }
    }
}

impl Fleet {
    /// Notes that a request of `generation` failed at the server with this index; ejects the server when that is due.
    pub(super) fn note_failure(&self, index: usize, generation: u32, now: Nanos) -> Option<Ejection> {
        let state = &self.states[index];
        let threshold = self.settings.outlier.consecutive_failures;
        if generation != state.ejections() || state.ejected_until(now).is_some() {
            return None;
        }
        let failures = state.hot.failures.fetch_add(1, Relaxed).saturating_add(1);
        if threshold == 0 || self.weight(index) == 0 {
            return None;
        }
        state.forgive(nanoseconds(self.settings.outlier.eject_for), now);
        let due = failures >= threshold || state.cold.probation.load(Relaxed);
        if !due || !self.may_eject(now) {
            return None;
        }
        let _one_at_a_time = self.ejecting.lock();
        let still = generation == state.ejections() && state.ejected_until(now).is_none();
        let ejection = (still && self.may_eject(now)).then(|| state.eject(self.settings.outlier.eject_for, now));
        debug_assert!(self.ejected(now) <= self.ejected_max() || ejection.is_none());
        ejection
    }

    /// Servers with a weight that are ejected.
    fn ejected(&self, now: Nanos) -> usize {
        self.carrying().filter(|state| state.ejected_until(now).is_some()).count()
    }

    fn ejected_max(&self) -> usize {
        self.settings.outlier.max_ejected.of(self.carrying().count())
    }

    fn may_eject(&self, now: Nanos) -> bool {
        self.ejected(now) < self.ejected_max()
    }
}
