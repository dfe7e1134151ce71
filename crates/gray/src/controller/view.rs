//! What the admin API and the metrics show of a release.

use std::sync::Arc;

use serde::Serialize;

use super::state::ReleaseState;
use crate::report::{Arms, Evidence};

/// A release, as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: ReleaseState,
    /// The step, from 1.
    pub step: usize,
    /// How many steps there are.
    pub steps: usize,
    /// Share of all users that is on the canary now, in percent.
    pub percent: f64,
    /// What was seen of both arms since the release began, or since the start of the process.
    pub arms: Arms,
    /// The e-values of the signals: the higher, the more speaks against the canary.
    pub evidence: Evidence,
    /// Failed canary requests that stable answered.
    pub rescued: u64,
    /// Failed canary requests that nobody could answer.
    pub not_rescued: u64,
    /// Requests without a user key.
    pub unkeyed: u64,
    /// Users whom the judge had to forget, since there is place for so many only.
    pub forgotten_users: u64,
    /// What the next step waits for; empty where none follows.
    pub waits_for: String,
    /// When the release began, RFC 3339.
    pub began_at: String,
    /// Seconds that the step has lasted.
    pub step_seconds: u64,
    /// Its routes.
    pub routes: Vec<String>,
    /// The canary's upstream.
    pub canary: String,
    /// Id of the last report.
    pub report: Option<String>,
}

/// What the metrics say of a release.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Its name.
    pub name: Arc<str>,
    /// Percent of all users on the canary.
    pub percent: f64,
    /// Each signal and its e-value.
    pub evidence: Vec<(&'static str, f64)>,
    /// Each state, and whether it is the release's.
    pub states: Vec<(&'static str, bool)>,
    /// Each outcome of a rescue, and how often it was.
    pub rescues: Vec<(&'static str, u64)>,
    /// Requests without a user key.
    pub unkeyed: u64,
}
