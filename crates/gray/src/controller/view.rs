//! Views of a release for the admin API and the metrics.

use std::sync::Arc;

use serde::Serialize;

use super::state::ReleaseState;
use crate::report::{Arms, Evidence};

/// A release as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: ReleaseState,
    /// The step, from 1.
    pub step: usize,
    /// The number of steps.
    pub steps: usize,
    /// The share of all users on the canary now, in percent.
    pub percent: f64,
    /// The counts of both arms since the release began, or since the start of the process.
    pub arms: Arms,
    /// The e-values of the signals: the higher, the more evidence against the canary.
    pub evidence: Evidence,
    /// Failed canary requests that stable answered.
    pub rescued: u64,
    /// Failed canary requests that were not rescued.
    pub not_rescued: u64,
    /// Requests without a user key.
    pub unkeyed: u64,
    /// Users whom the judge had to forget because its memory is bounded.
    pub forgotten_users: u64,
    /// What the next step waits for; empty where none follows.
    pub waits_for: String,
    /// When the release began, RFC 3339.
    pub began_at: String,
    /// How long the step has lasted, in seconds.
    pub step_seconds: u64,
    /// Its routes.
    pub routes: Vec<String>,
    /// The canary's upstream.
    pub canary: String,
    /// Id of the last report.
    pub report: Option<String>,
}

/// The values of a release for the metrics.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Its name.
    pub name: Arc<str>,
    /// The share of all users on the canary, in percent.
    pub percent: f64,
    /// Each signal and its e-value.
    pub evidence: Vec<(&'static str, f64)>,
    /// Each state, and whether the release is in it.
    pub states: Vec<(&'static str, bool)>,
    /// Each outcome of a rescue, with its count.
    pub rescues: Vec<(&'static str, u64)>,
    /// Requests without a user key.
    pub unkeyed: u64,
}
