//! Faults that are not the canary's: causes outside of the release, doubts of the comparison,
//! and each arm watched alone.

use std::time::Duration;

use super::change_detection::is_bad;
use super::signals::{ERRORS, P99, SLO};
use super::window::{UserCounts, Window};
use super::{ALIKE, BURST, Doubt, Finding, Judge, OUTSIDE_USERS, Watched, sample_ratio};
use crate::sample::Arm;

/// An outage that begins this soon after the canary's share grew is attributed to the step.
const OF_THE_STEP: Duration = Duration::from_secs(60);
/// How long the judge waits to see whether a fault is more than a hiccup.
const PATIENCE: Duration = Duration::from_secs(3);
/// The share of the canary's users that must fail for no doubt of the model to matter.
const MOST: f64 = 0.5;
/// The share of stable's users that may fail then.
const FEW: f64 = 0.05;

/// What an outage of both arms is attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Nothing in this release: the cause is outside.
    Nobodys,
    /// The step that it followed.
    TheSteps,
    /// That cannot be told yet.
    Unknown,
}

impl Judge {
    /// Looks at each arm alone, with the counts of the window that ends.
    pub(super) fn watch(&mut self, tally: &UserCounts) {
        let Some(baseline) = self.baseline.share() else { return };
        let mut recent = self.recent[0].tally;
        recent.add(&self.recent[1].tally);
        let [stable, canary] = Arm::ALL.map(|arm| recent.share_failing(arm));
        let bad = |share: Option<f64>| share.filter(|share| is_bad(*share, baseline));
        let many = recent.failing[Arm::Stable as usize] >= OUTSIDE_USERS;
        if self.share < 1.0 {
            self.stable.play(tally.active[0], tally.failing[0], baseline);
            if self.stable.end_if_back(stable, baseline) {
                self.begin_anew();
            }
            if !many {
                self.alike = None;
            }
            if let (true, Some(stable), Some(canary)) = (many && self.stable.alarms(), bad(stable), bad(canary))
                && canary <= ALIKE * stable
            {
                let mut window = self.recent[0].clone();
                window.add(&self.recent[1]);
                _ = self.tell_outside(&window, stable, canary);
            }
        } else {
            self.canary.play(tally.active[1], tally.failing[1], baseline);
            self.canary.end_if_back(canary, baseline);
            if let (true, Some(canary)) = (self.canary.alarms(), bad(canary))
                && self.canary.begin()
            {
                self.found.push_back(Finding::Watch { of: Watched::Failures, canary, baseline });
            }
            self.watch_slowness(tally, &recent);
        }
    }

    /// The same for answers above stable's p95, the threshold for as long as the release lasts.
    fn watch_slowness(&mut self, tally: &UserCounts, recent: &UserCounts) {
        let Some(baseline) = self.usually_slow.share() else { return };
        let [_, measured] = recent.timed.measured;
        let canary = (measured > 0).then(|| recent.timed.slow[1] as f64 / measured as f64);
        self.canary_slow.play(tally.timed.measured[1], tally.timed.slow[1], baseline);
        self.canary_slow.end_if_back(canary, baseline);
        if let (true, Some(canary)) = (self.canary_slow.alarms(), canary.filter(|canary| is_bad(*canary, baseline)))
            && self.canary_slow.begin()
        {
            self.found.push_back(Finding::Watch { of: Watched::Slowness, canary, baseline });
        }
    }

    /// After an outage nearly every user has had their first bad event, and would teach nothing more. So those events
    /// are forgotten on both arms alike, and the evidence against the canary with them: users who always fail will
    /// count again, and on top of that evidence they would count twice.
    pub(super) fn begin_anew(&mut self) {
        let first_bad_events = [ERRORS].into_iter().chain(P99..=SLO);
        self.users.forget(first_bad_events.fold(0, |signals, signal| signals | 1 << signal));
        self.servers.end_step();
        self.evidence.acquit();
        self.guard.acquit();
    }

    /// Attributes an outage of both arms. One that began soon after the canary got more users is attributed to the
    /// step: the canary may have exhausted what both use, and taking it back costs nothing if that was chance. It
    /// must be more than a hiccup of one of stable's servers beside the usual failures of the canary; the judge waits
    /// a few seconds to see that.
    pub(super) fn tell_outside(&mut self, window: &Window, stable: f64, canary: f64) -> Whose {
        let Some(cause) = window.main_cause() else { return Whose::Nobodys };
        let after = self.grew.map(|grew| self.now.since(grew)).filter(|after| *after <= OF_THE_STEP);
        let Some(after) = after.filter(|_| !self.stable.lasts()) else {
            if self.stable.begin() {
                self.found.push_back(Finding::Outside { cause, stable, canary });
            }
            return Whose::Nobodys;
        };
        let failing: u64 = self.recent.iter().map(|window| window.tally.failing[Arm::Canary as usize]).sum();
        if failing >= OUTSIDE_USERS && canary > 0.5 * stable && self.servers.most_of_stable_fail(self.now) {
            self.stable.begin();
            self.found.push_back(Finding::Shared { cause, stable, canary, after });
            return Whose::TheSteps;
        }
        let since = *self.alike.get_or_insert(self.now);
        if self.now.since(since) < PATIENCE {
            return Whose::Unknown;
        }
        self.alike = None;
        self.stable.begin();
        self.found.push_back(Finding::Outside { cause, stable, canary });
        Whose::Nobodys
    }

    /// Asks the guard and the ratio test.
    pub(super) fn doubt(&mut self, in_flight: [u64; 2]) {
        let asked = [
            (Doubt::Guard, self.guard.e(), 1.0 / self.settings.false_alarm),
            (Doubt::Ratio, self.ratio.e(in_flight), sample_ratio::BROKEN),
        ];
        for (doubt, e, enough) in asked {
            if e >= enough && !std::mem::replace(&mut self.doubts[doubt as usize], true) {
                self.found.push_back(Finding::Untrusted(doubt, e));
            }
        }
    }

    /// Whether the evidence alone may blame a worse canary. A broken model forbids it, and so does a split that gives
    /// the canary too many users. A canary that lacks users may be losing them.
    pub(super) fn may_blame(&self) -> bool {
        let [guard, ratio] = self.doubts;
        !(guard || ratio && self.ratio.canary_has_too_many())
    }

    /// Whether most of the canary's users fail and hardly any of stable's: that needs no model.
    pub(super) fn overwhelming(&self) -> bool {
        let mut sum = Window::default();
        self.recent.iter().for_each(|window| sum.add(window));
        let [stable, canary] = Arm::ALL.map(|arm| sum.tally.share_failing(arm).unwrap_or(0.0));
        sum.tally.failing[Arm::Canary as usize] >= u64::from(BURST) && canary > MOST && stable < FEW
    }

    /// Whether stable fails as well: in the open window, in that and the last, or in the last two.
    pub(super) fn both_fail(&self) -> Option<(Window, f64, f64)> {
        let least = (5.0 * self.baseline.or_least()).max(0.01);
        [&self.recent[..1], &self.recent[..2], &self.recent[1..]].into_iter().find_map(|windows| {
            let mut sum = Window::default();
            windows.iter().for_each(|window| sum.add(window));
            let [stable, canary] = Arm::ALL.map(|arm| sum.tally.share_failing(arm).unwrap_or(0.0));
            let both = sum.tally.failing[0] >= OUTSIDE_USERS && stable >= least && canary <= ALIKE * stable;
            both.then_some((sum, stable, canary))
        })
    }
}
