//! Runs the releases: takes what was seen to their judges, and what the judges find to their stages.
//!
//! It is asked ten times a second ([`Controller::tick`]) and by operators ([`Controller::order`]); it stores the stage,
//! which the next request obeys, and says what must be told and kept. A rollback needs nothing but that store. What is
//! kept lets a restart go on at the same step; a release that left the configuration is remembered too, so that what
//! was taken back does not start again by being pushed again. Of releases with one name the definition decides whether
//! they are the same ([`spec`]).

pub mod incident;
pub mod running_release;
pub mod spec;
pub mod state;
pub mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::running_release::RunningRelease;
use self::spec::Spec;
use self::state::{Order, ReleaseState};
use self::view::{Gauges, View};
use super::judge;
use super::report::Report;
use super::sample::Arm;
use super::shared_state::SharedState;
use crate::settings::{Names, Release};
use base::units::Nanos;

/// When something happens, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// For measuring.
    pub now: Nanos,
    /// For telling: milliseconds since 1970.
    pub wall_ms: u64,
}

/// What the controller cannot know by itself.
#[derive(Clone)]
pub struct Surroundings {
    /// RFC 3339 of milliseconds since 1970.
    pub stamp: fn(u64) -> String,
    /// Name of the server with a number.
    pub server: Arc<dyn Fn(u32) -> Option<String> + Send + Sync>,
    /// Name of the app with a number.
    pub app: Arc<dyn Fn(u32) -> Option<String> + Send + Sync>,
}

/// What a restart needs of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersistedRelease {
    /// Its name.
    pub name: String,
    /// Which definition it is.
    pub definition: String,
    /// Where it stands.
    pub state: ReleaseState,
    /// The step, from 0.
    pub step: usize,
    /// How many steps there were.
    pub steps: usize,
    /// Share of users at that step, in hundredths of a percent.
    pub share: u16,
    /// How long it has lasted, in milliseconds.
    pub step_ms: u64,
    /// When the release began, in milliseconds since 1970.
    pub began_ms: u64,
    /// Id of the last report.
    pub report: Option<String>,
    /// The judge's evidence.
    pub judge: judge::PersistedJudge,
}

/// Everything that is kept: releases that left the configuration first, the one that left last behind them.
pub type PersistedReleases = Vec<PersistedRelease>;

/// Definitions that are remembered after they left the configuration.
const GONE: usize = 1_000;

/// What a tick leads to.
#[derive(Debug, Default)]
pub struct Ticked {
    /// To be told.
    pub reports: Vec<Report>,
    /// To be said in the log.
    pub said: Vec<String>,
    /// Whether something changed that must survive a restart.
    pub changed: bool,
}

/// Why an order was not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// There is no such release.
    Unknown,
    /// It is not for this state.
    State(ReleaseState),
}

/// All releases.
pub struct Controller {
    entries: Vec<RunningRelease>,
    gone: PersistedReleases,
    /// What was kept is lost: releases that are adopted first may have been taken back.
    distrusts: bool,
    around: Surroundings,
}

impl Controller {
    /// None yet; `kept` is what a process before has left.
    pub fn new(kept: PersistedReleases, around: Surroundings) -> Controller {
        Controller { entries: vec![], gone: kept, distrusts: false, around }
    }

    /// What was kept could not be read: the releases of the first configuration count as aborted.
    pub fn distrust(&mut self) {
        self.distrusts = true;
    }

    /// Takes over the releases of a configuration that is about to be served; their shared states, in its order.
    pub fn adopt(&mut self, releases: &[Release], names: &Names, at: Moment) -> Vec<Arc<SharedState>> {
        let mut before = std::mem::take(&mut self.entries);
        for release in releases {
            let spec = Spec::new(release, names);
            let entry = match before.iter().position(|entry| entry.spec.is_same(&spec)) {
                Some(index) => before.swap_remove(index).becomes(spec, at),
                None => {
                    let is_it = |kept: &PersistedRelease| {
                        kept.name == *release.name && spec.release.is_defined_by(&kept.definition)
                    };
                    let kept = self.gone.iter().position(is_it).map(|index| self.gone.remove(index));
                    RunningRelease::new(spec, kept, at)
                }
            };
            self.entries.push(entry);
        }
        if std::mem::take(&mut self.distrusts) {
            for entry in &mut self.entries {
                // An abort always works.
                let _ = entry.order(Order::Abort, at);
            }
        }
        for left in before {
            let replaced = self.entries.iter().any(|entry| entry.spec.release.name == left.spec.release.name);
            // Another definition starts anew, and so does the old one after it, unless it was taken back.
            if !replaced || left.stands().0.is_back() {
                self.gone.push(left.keep());
            }
        }
        self.gone.drain(..self.gone.len().saturating_sub(GONE));
        self.entries.iter().map(|entry| entry.live.clone()).collect()
    }

    /// Looks at what was seen, and acts on it.
    pub fn tick(&mut self, at: Moment) -> Ticked {
        let mut ticked = Ticked::default();
        self.entries.iter_mut().for_each(|entry| entry.tick(at, &self.around, &mut ticked));
        ticked
    }

    /// Obeys an operator.
    pub fn order(&mut self, name: &str, order: Order, at: Moment) -> Result<View, OrderError> {
        let entry =
            self.entries.iter_mut().find(|entry| &*entry.spec.release.name == name).ok_or(OrderError::Unknown)?;
        entry.order(order, at)?;
        Ok(entry.view(&self.around))
    }

    /// Counts feedback of a user on the arm he is on.
    pub fn feedback(&mut self, name: &str, user: u64, arm: Arm, bad: bool) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| &*entry.spec.release.name == name) {
            entry.feedback(user, arm, bad);
        }
    }

    /// How a release stands.
    pub fn view(&self, name: &str) -> Option<View> {
        self.entries.iter().find(|entry| &*entry.spec.release.name == name).map(|entry| entry.view(&self.around))
    }

    /// How all stand, in the order of the configuration.
    pub fn views(&self) -> Vec<View> {
        self.entries.iter().map(|entry| entry.view(&self.around)).collect()
    }

    /// The shared states, by name.
    pub fn lives(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<SharedState>)> {
        self.entries.iter().map(|entry| (&entry.spec.release.name, &entry.live))
    }

    /// What the metrics say.
    pub fn gauges(&self) -> Vec<Gauges> {
        self.entries.iter().map(RunningRelease::gauges).collect()
    }

    /// What a restart needs.
    pub fn keep(&self) -> PersistedReleases {
        self.gone.iter().cloned().chain(self.entries.iter().map(RunningRelease::keep)).collect()
    }
}
