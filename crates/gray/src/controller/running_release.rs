//! One configured release: its judge, its step, its state.
//!
//! It feeds the judge with what is measured, and does what follows: a finding of the judge may take the release back or
//! stop it, and [`promotion`] says when it leaves its step. The judge goes on in every state but those without users on
//! the canary.

use std::sync::Arc;
use std::time::Duration;

use super::incident::{self, EvidenceHistory};
use super::promotion::{self, Judged, Promotion};
use super::spec::Spec;
use super::state::{Next, Order, ReleaseState, next};
use super::view::{Gauges, View};
use super::{Moment, OrderError, PersistedRelease, Surroundings, Ticked};
use crate::breakdown::Breakdown;
use crate::judge::{Finding, Judge, Settings};
use crate::report::{Action, Arms, Evidence, Kind};
use crate::sample::{Arm, Sample};
use crate::settings::{OnFail, Release};
use crate::shared_state::{RescueOutcome, SharedState, Stage};
use base::units::{BasisPoints, Nanos};

/// A release that is configured.
pub struct RunningRelease {
    /// The release as configured.
    pub spec: Spec,
    /// The state shared with requests.
    pub live: Arc<SharedState>,
    pub(super) judge: Judge,
    pub(super) cells: Breakdown,
    pub(super) trail: EvidenceHistory,
    state: ReleaseState,
    step: usize,
    /// The number of the stage; each change of the step or share raises it.
    stages: u16,
    /// How long the step has lasted.
    lasted: Duration,
    ticked: Nanos,
    began_ms: u64,
    report: Option<String>,
    /// Whether the log says already that users are forgotten.
    forgets: bool,
    seen: Vec<Sample>,
}

fn settings(spec: &Spec) -> Settings {
    let judge = &spec.release.judge;
    let slo_micros = judge.slo.map(|slo| u32::try_from(slo.as_micros()).unwrap_or(u32::MAX));
    Settings { false_alarm: judge.false_alarm, slo_micros, routes: spec.routes.len() }
}

impl RunningRelease {
    /// A release that was not configured before; it goes on from `kept`.
    pub fn new(spec: Spec, kept: Option<PersistedRelease>, at: Moment) -> RunningRelease {
        let mut entry = RunningRelease {
            judge: Judge::new(settings(&spec), at.now),
            cells: Breakdown::new(at.now),
            trail: EvidenceHistory::default(),
            live: Arc::default(),
            state: ReleaseState::Running,
            step: 0,
            stages: 0,
            lasted: Duration::ZERO,
            ticked: at.now,
            began_ms: at.wall_ms,
            report: None,
            forgets: false,
            seen: vec![],
            spec,
        };
        if let Some(kept) = &kept {
            entry.judge.restore(&kept.judge);
            entry.state = kept.state;
            entry.step = kept.step.min(entry.spec.last());
            if kept.steps != 0 && kept.steps != entry.spec.release.steps.len() {
                entry.step = BasisPoints::new(kept.share).map_or(0, |share| entry.spec.step_of(share));
            }
            entry.lasted = Duration::from_millis(kept.step_ms);
            entry.began_ms = kept.began_ms;
            entry.report = kept.report.clone();
        }
        let is_kept = kept.is_some();
        entry.set_stage(at.now);
        if is_kept {
            entry.judge.goes_on();
        }
        entry
    }

    /// The same release as it is configured now.
    pub fn becomes(mut self, spec: Spec, at: Moment) -> RunningRelease {
        self.look(at);
        let (before, steps) = (self.spec.share(self.step), self.spec.release.steps.len());
        let range = self.spec.share_of_range(self.step);
        if spec.release.judge.on_fail != self.spec.release.judge.on_fail {
            self.judge.acquit();
        }
        self.judge.set(settings(&spec));
        if spec.cohorts != self.spec.cohorts {
            // The bit stands for another cohort now.
            self.cells.clear(at.now);
        }
        self.spec = spec;
        if self.spec.release.steps.len() != steps {
            self.step = self.spec.step_of(before);
        }
        let unfinished = self.step < self.spec.last() || self.spec.share(self.step) > before;
        if self.state == ReleaseState::Promoted && unfinished {
            self.state = ReleaseState::Running;
        }
        match self.spec.share_of_range(self.step) == range {
            true => self.live.set_stage(self.stage()),
            false => self.go_to(self.step, at.now),
        }
        self
    }

    /// What a restart needs.
    pub fn keep(&self) -> PersistedRelease {
        PersistedRelease {
            definition: self.spec.release.definition.clone(),
            state: self.state,
            name: self.spec.release.name.to_string(),
            step: self.step,
            steps: self.spec.release.steps.len(),
            share: self.spec.share(self.step).hundredths(),
            step_ms: self.lasted.as_millis() as u64,
            began_ms: self.began_ms,
            report: self.report.clone(),
            judge: self.judge.keep(),
        }
    }

    /// The stage: which users are on the canary.
    fn stage(&self) -> Stage {
        match self.state.is_back() {
            true => Stage::CLOSED,
            false => Stage {
                border: self.spec.border(self.step),
                open: true,
                unkeyed: self.spec.is_for_everybody(self.step),
                step: self.stages,
            },
        }
    }

    /// Publishes the stage to the next request and to the judge.
    fn set_stage(&mut self, now: Nanos) {
        self.stages = self.stages.wrapping_add(1);
        self.live.set_stage(self.stage());
        if !self.state.is_back() {
            self.judge.share_changed(self.spec.share_of_range(self.step), self.stages, now);
        }
    }

    fn go_to(&mut self, step: usize, now: Nanos) {
        self.step = step;
        self.lasted = Duration::ZERO;
        self.set_stage(now);
    }

    /// The share of all users on the canary now.
    pub fn percent(&self) -> BasisPoints {
        if self.state.is_back() { BasisPoints::NONE } else { self.spec.share(self.step) }
    }

    /// Its state and its step, from 1.
    pub fn stands(&self) -> (ReleaseState, usize) {
        (self.state, self.step + 1)
    }

    /// When it began, in milliseconds since 1970.
    pub fn began_ms(&self) -> u64 {
        self.began_ms
    }

    pub(super) fn tick(&mut self, at: Moment, around: &Surroundings, ticked: &mut Ticked) {
        self.look(at);
        self.lasted += at.now.since(self.ticked);
        self.ticked = at.now;
        if !self.state.is_back() {
            if let Some(finding) = self.judge.tick(at.now, self.live.in_flight()) {
                self.found(&finding, at, around, ticked);
            }
            if self.judge.forgotten() > 0 && !std::mem::replace(&mut self.forgets, true) {
                ticked.said.push(format!(
                    "release {} has more users than the judge can follow ({}): those not seen for longest are forgotten, \
                     and are new when they come again",
                    self.spec.release.name,
                    Judge::USERS
                ));
            }
            self.trail.note(at, self.evidence(), self.percent());
            self.go_on(at, around, ticked);
        }
    }

    /// Feeds the judge with the samples so far. A change of the share comes after that: answers under the old share
    /// must not be compared with those that follow.
    fn look(&mut self, at: Moment) {
        let mut seen = std::mem::take(&mut self.seen);
        self.live.take(&mut seen);
        if !self.state.is_back() {
            self.cells.advance(at.now);
            for seen in &seen {
                let told = self.judge.observe(seen);
                self.cells.observe(seen, told);
            }
            let failed = seen.iter().any(|seen| seen.arm == Arm::Canary && seen.ending.is_failure());
            self.trail.failed(failed, at);
        }
        seen.clear();
        self.seen = seen;
    }

    fn found(&mut self, finding: &Finding, at: Moment, around: &Surroundings, ticked: &mut Ticked) {
        let (kind, action) = match (finding, self.spec.release.judge.on_fail) {
            (Finding::Worse { .. }, OnFail::Rollback) => (Kind::Worse, Action::RolledBack),
            (Finding::Worse { .. }, OnFail::Hold) => (Kind::Worse, Action::Held),
            (Finding::Worse { .. }, OnFail::Report) => (Kind::Worse, Action::Reported),
            (Finding::Shared { .. }, OnFail::Rollback) => (Kind::Shared, Action::RolledBack),
            (Finding::Shared { .. }, OnFail::Hold) => (Kind::Shared, Action::Held),
            (Finding::Shared { .. }, OnFail::Report) => (Kind::Shared, Action::Reported),
            (Finding::Outside { .. }, _) => (Kind::Outside, Action::Reported),
            (Finding::Untrusted(..), _) => (Kind::Untrusted, Action::Held),
            (Finding::Watch { .. }, _) => (Kind::Watch, Action::Reported),
        };
        match action {
            // First of all: nothing that follows may keep a user on the canary.
            Action::RolledBack => {
                self.state = ReleaseState::RolledBack;
                self.live.set_stage(Stage::CLOSED);
            }
            Action::Held if self.state == ReleaseState::Running => self.state = ReleaseState::Held,
            Action::Held | Action::Reported => {}
        }
        self.tell((kind, action, incident::reason(finding)), Some(finding), at, around, ticked);
    }

    /// Makes the report.
    fn tell(
        &mut self,
        what: (Kind, Action, String),
        finding: Option<&Finding>,
        at: Moment,
        around: &Surroundings,
        ticked: &mut Ticked,
    ) {
        let report = incident::report(self, what, finding, at, around);
        self.report = Some(report.id.clone());
        ticked.reports.push(report);
        ticked.changed = true;
    }

    /// Goes to the next step or on hold, where the rule of promotion says so.
    fn go_on(&mut self, at: Moment, around: &Surroundings, ticked: &mut Ticked) {
        if self.state != ReleaseState::Running {
            return;
        }
        match self.promotion() {
            Promotion::Wait(_) => {}
            Promotion::Go => {
                self.next_step(at.now);
                let (name, percent, steps) = (&self.spec.release.name, self.percent(), self.spec.release.steps.len());
                ticked.said.push(match self.state {
                    ReleaseState::Promoted => {
                        format!("release {name} is promoted: {percent} of users on {}", self.spec.canary)
                    }
                    _ => format!("release {name} goes to step {} of {steps}: {percent} of users", self.step + 1),
                });
                ticked.changed = true;
            }
            Promotion::GiveUp(missing) => {
                self.state = ReleaseState::Held;
                let waited = self.lasted.as_secs();
                let reason = format!("after {waited} s step {} still waits: {missing}", self.step + 1);
                self.tell((Kind::NoEvidence, Action::Held, reason), None, at, around, ticked);
            }
        }
    }

    /// What the rule says of the step now.
    fn promotion(&self) -> Promotion {
        let Release { steps, judge: rules, .. } = &self.spec.release;
        let step = promotion::Step {
            hold: steps.get(self.step).map_or(Duration::ZERO, |step| step.hold),
            lasted: self.lasted,
            min_users: rules.min_users,
            max_wait: rules.max_wait,
        };
        let judged = self.judge.safe().map(|safety| Judged {
            users: self.judge.users_of_step(),
            lacks: (!safety.is_safe()).then(|| safety.wants()),
            outside: self.judge.outside(),
        });
        Promotion::of(step, judged)
    }

    fn next_step(&mut self, now: Nanos) {
        match self.step < self.spec.last() {
            true => self.go_to(self.step + 1, now),
            false => self.state = ReleaseState::Promoted,
        }
    }

    pub(super) fn order(&mut self, order: Order, at: Moment) -> Result<(), OrderError> {
        self.look(at);
        match next(self.state, order) {
            Next::Refuse => return Err(OrderError::State(self.state)),
            Next::Stay => {}
            Next::Become(ReleaseState::Running) if self.state == ReleaseState::Held => {
                self.state = ReleaseState::Running;
                // An operator has looked into it: the cause of the hold is measured anew, after the
                // window that is still open.
                self.go_to(self.step, at.now);
                self.judge.acquit();
            }
            Next::Become(state) => {
                self.state = state;
                self.live.set_stage(self.stage());
            }
            Next::StartAgain => {
                self.judge = Judge::new(settings(&self.spec), at.now);
                self.cells.clear(at.now);
                self.trail = EvidenceHistory::default();
                self.state = ReleaseState::Running;
                self.began_ms = at.wall_ms;
                self.go_to(0, at.now);
            }
            Next::NextStep => {
                if self.state == ReleaseState::Held {
                    self.state = ReleaseState::Running;
                }
                self.next_step(at.now);
            }
        }
        Ok(())
    }

    pub(super) fn feedback(&mut self, user: u64, arm: Arm, bad: bool) {
        if !self.state.is_back() {
            self.judge.feedback(user, arm, bad);
        }
    }

    /// The e-values now.
    pub fn evidence(&self) -> Evidence {
        let evidence = self.judge.evidence();
        Evidence {
            errors: evidence.errors,
            refusals: evidence.refusals,
            latency: evidence.latency,
            feedback: evidence.feedback,
        }
    }

    /// Failed requests of the canary: rescued by stable, and not rescued.
    pub fn rescues(&self) -> (u64, u64) {
        // Each is read once, since they grow meanwhile.
        let of = |outcome| self.live.rescues(outcome);
        (
            of(RescueOutcome::Rescued),
            of(RescueOutcome::Failed) + of(RescueOutcome::Unprotected) + of(RescueOutcome::Budget),
        )
    }

    pub(super) fn arms(&self) -> Arms {
        let [stable, canary] = self.judge.arms();
        Arms { stable, canary }
    }

    pub(super) fn gauges(&self) -> Gauges {
        let Evidence { errors, refusals, latency, feedback } = self.evidence();
        Gauges {
            name: self.spec.release.name.clone(),
            percent: self.percent().as_percent(),
            evidence: vec![("errors", errors), ("refusals", refusals), ("latency", latency), ("feedback", feedback)],
            states: ReleaseState::ALL.iter().map(|state| (state.label(), *state == self.state)).collect(),
            rescues: RescueOutcome::ALL.iter().map(|o| (o.label(), self.live.rescues(*o))).collect(),
            unkeyed: self.live.unkeyed.sum(),
        }
    }

    pub(super) fn view(&self, around: &Surroundings) -> View {
        let (rescued, not_rescued) = self.rescues();
        View {
            name: self.spec.release.name.to_string(),
            state: self.state,
            step: self.step + 1,
            steps: self.spec.release.steps.len(),
            percent: self.percent().as_percent(),
            arms: self.arms(),
            evidence: self.evidence(),
            rescued,
            not_rescued,
            unkeyed: self.live.unkeyed.sum(),
            forgotten_users: self.judge.forgotten(),
            waits_for: if self.state == ReleaseState::Running { self.promotion().missing() } else { String::new() },
            began_at: (around.stamp)(self.began_ms),
            step_seconds: self.lasted.as_secs(),
            routes: self.spec.routes.iter().map(ToString::to_string).collect(),
            canary: self.spec.canary.to_string(),
            report: self.report.clone(),
        }
    }
}
