//! The controller of the releases: it feeds their judges with samples, and their stages with what the judges find.
//!
//! It runs ten times a second ([`Controller::tick`]) and on an operator's order ([`Controller::order`]). It stores the
//! stage, which the next request follows, and returns what must be reported and kept. A rollback needs nothing but that
//! store. With the state that is kept, a restart goes on at the same step. A release that left the configuration is
//! remembered too, so that one that was taken back does not start again when it is pushed again.
//!
//! | module | is |
//! |---|---|
//! | [`promotion`] | the rule by which a release leaves its step |
//! | [`running_release`] | one configured release: its judge, its step, its state |
//! | [`state`] | the states, and an operator's orders in each of them |
//! | [`spec`] | what makes two releases of one name the same: the definition |
//! | [`incident`] | a finding as a report |
//! | [`view`] | what the API and the metrics show |

pub mod incident;
pub mod promotion;
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

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// For measuring.
    pub now: Nanos,
    /// For showing: milliseconds since 1970.
    pub wall_ms: u64,
}

/// What the controller cannot know by itself.
#[derive(Clone)]
pub struct Surroundings {
    /// Formats milliseconds since 1970 by RFC 3339.
    pub stamp: fn(u64) -> String,
    /// The name of a server, by its number.
    pub server: Arc<dyn Fn(u32) -> Option<String> + Send + Sync>,
    /// The name of an app, by its number.
    pub app: Arc<dyn Fn(u32) -> Option<String> + Send + Sync>,
}

/// What a restart needs of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PersistedRelease {
    /// Its name.
    pub name: String,
    /// The hash of its definition.
    pub definition: String,
    /// Its state.
    pub state: ReleaseState,
    /// The step, from 0.
    pub step: usize,
    /// How many steps there were.
    pub steps: usize,
    /// The share of users at that step, in hundredths of a percent.
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

/// All releases that are kept: first those that left the configuration, the last to leave at their end.
pub type PersistedReleases = Vec<PersistedRelease>;

/// Releases that are remembered after they left the configuration.
const GONE: usize = 1_000;

/// The results of a tick.
#[derive(Debug, Default)]
pub struct Ticked {
    /// Reports to send.
    pub reports: Vec<Report>,
    /// Lines for the log.
    pub said: Vec<String>,
    /// Whether something changed that must survive a restart.
    pub changed: bool,
}

/// Why an order was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// There is no release of this name.
    Unknown,
    /// The order does not apply in this state.
    State(ReleaseState),
}

/// All releases.
pub struct Controller {
    entries: Vec<RunningRelease>,
    gone: PersistedReleases,
    /// The kept state is lost: releases that are adopted first may have been taken back.
    distrusts: bool,
    around: Surroundings,
}

impl Controller {
    /// A controller without releases; `kept` is what an earlier process left.
    pub fn new(kept: PersistedReleases, around: Surroundings) -> Controller {
        Controller { entries: vec![], gone: kept, distrusts: false, around }
    }

    /// Notes that the kept state could not be read: the releases of the first configuration count as aborted.
    pub fn distrust(&mut self) {
        self.distrusts = true;
    }

    /// Takes over the releases of a configuration that is about to be served; returns their
    /// shared states, in its order.
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
            // Another definition starts anew, and so does the old one after it, unless that was taken back.
            if !replaced || left.stands().0.is_back() {
                self.gone.push(left.keep());
            }
        }
        self.gone.drain(..self.gone.len().saturating_sub(GONE));
        self.entries.iter().map(|entry| entry.live.clone()).collect()
    }

    /// Feeds the judges with the samples since the last tick, and acts on what they find.
    pub fn tick(&mut self, at: Moment) -> Ticked {
        let mut ticked = Ticked::default();
        self.entries.iter_mut().for_each(|entry| entry.tick(at, &self.around, &mut ticked));
        ticked
    }

    /// Executes an operator's order.
    pub fn order(&mut self, name: &str, order: Order, at: Moment) -> Result<View, OrderError> {
        let entry =
            self.entries.iter_mut().find(|entry| &*entry.spec.release.name == name).ok_or(OrderError::Unknown)?;
        entry.order(order, at)?;
        Ok(entry.view(&self.around))
    }

    /// Counts feedback of a user on their arm.
    pub fn feedback(&mut self, name: &str, user: u64, arm: Arm, bad: bool) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| &*entry.spec.release.name == name) {
            entry.feedback(user, arm, bad);
        }
    }

    /// The view of a release.
    pub fn view(&self, name: &str) -> Option<View> {
        self.entries.iter().find(|entry| &*entry.spec.release.name == name).map(|entry| entry.view(&self.around))
    }

    /// The views of all releases, in the order of the configuration.
    pub fn views(&self) -> Vec<View> {
        self.entries.iter().map(|entry| entry.view(&self.around)).collect()
    }

    /// The shared states, by name.
    pub fn lives(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<SharedState>)> {
        self.entries.iter().map(|entry| (&entry.spec.release.name, &entry.live))
    }

    /// The values for the metrics.
    pub fn gauges(&self) -> Vec<Gauges> {
        self.entries.iter().map(RunningRelease::gauges).collect()
    }

    /// What a restart needs.
    pub fn keep(&self) -> PersistedReleases {
        self.gone.iter().cloned().chain(self.entries.iter().map(RunningRelease::keep)).collect()
    }
}
