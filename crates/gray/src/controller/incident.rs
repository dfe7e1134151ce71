//! Incidents: from a finding to a report, with its history, its places and their names.
//!
//! The evidence over time is kept in at most 240 points at even distances: when they are full, every other one goes and
//! the distance doubles. A fault began at the canary's first failure after half a minute without one.

use std::time::Duration;

use super::running_release::RunningRelease;
use super::{Moment, Surroundings};
use crate::judge::{Doubt, Finding, Hit, Watched};
use crate::localise::{self, Measure};
use crate::report::{
    Action, Apart, Change, Evidence, IncidentFacts, Kind, Outside, PlaceNames, PlaceView, Point, Report,
};
use crate::sample::{Arm, status_text};
use balance::attempt::AttemptFailure;
use base::units::{BasisPoints, Nanos};

/// Points that are kept.
const POINTS: usize = 240;
/// The first distance between points.
const FIRST: Duration = Duration::from_secs(1);
/// The time without a failure after which a canary counts as healthy.
const WELL: Duration = Duration::from_secs(30);
/// Places that a report names.
const PLACES: usize = 8;

/// The history of a release's evidence and failures.
#[derive(Debug)]
pub struct EvidenceHistory {
    points: Vec<(u64, Evidence, BasisPoints)>,
    every: Duration,
    noted: Option<Nanos>,
    /// When the canary's failures began, in milliseconds since 1970, and when it failed last.
    failing: Option<(u64, Nanos)>,
}

impl Default for EvidenceHistory {
    fn default() -> Self {
        EvidenceHistory { points: vec![], every: FIRST, noted: None, failing: None }
    }
}

impl EvidenceHistory {
    /// Notes the evidence, if the last point is old enough.
    pub fn note(&mut self, at: Moment, evidence: Evidence, percent: BasisPoints) {
        if self.noted.is_some_and(|noted| at.now.since(noted) < self.every) {
            return;
        }
        self.noted = Some(at.now);
        self.points.push((at.wall_ms, evidence, percent));
        if self.points.len() >= POINTS {
            let mut nth = 0;
            self.points.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
            self.every *= 2;
        }
    }

    /// Notes whether the canary failed since the last call.
    pub fn failed(&mut self, failed: bool, at: Moment) {
        if self.failing.is_some_and(|(_, last)| at.now.since(last) > WELL) {
            self.failing = None;
        }
        if failed {
            let began = self.failing.map_or(at.wall_ms, |(began, _)| began);
            self.failing = Some((began, at.now));
        }
    }

    /// When the canary's failures began, in milliseconds since 1970.
    pub fn since(&self) -> Option<u64> {
        self.failing.map(|(began, _)| began)
    }
}

/// A finding as a clause.
pub fn reason(finding: &Finding) -> String {
    match finding {
        Finding::Worse { signal, e, hit } => {
            format!("decided by {signal}, with evidence of {}, at {}", large(*e), servers(*hit))
        }
        Finding::Outside { stable, canary, .. } => {
            format!("{:.1} % of stable's users fail, and {:.1} % of the canary's", stable * 100.0, canary * 100.0)
        }
        Finding::Shared { stable, canary, after, .. } => format!(
            "{:.1} % of stable's users fail, and {:.1} % of the canary's, {} s after it got more of them: it may have \
             exhausted what both use",
            stable * 100.0,
            canary * 100.0,
            after.as_secs()
        ),
        Finding::Untrusted(Doubt::Guard, e) => {
            format!(
                "two halves of stable differ from each other (evidence {e:.0}), so a difference of the arms means nothing"
            )
        }
        Finding::Untrusted(Doubt::Ratio, e) => {
            format!(
                "users are not split over the arms as planned (evidence {e:.0}): some of one arm get lost or come from elsewhere"
            )
        }
        Finding::Watch { of, canary, baseline } => format!(
            "{:.1} % of the users {}, of stable's it were {:.1} %; there is no user left on stable to compare with",
            canary * 100.0,
            match of {
                Watched::Failures => "fail",
                Watched::Slowness => "wait for longer than nineteen of twenty of stable's did",
            },
            baseline * 100.0
        ),
    }
}

/// `one server of one`, `3 servers of 4`
fn servers(hit: Hit) -> String {
    let number = |n: u32| if n == 1 { "one".to_owned() } else { n.to_string() };
    format!("{} server{} of {}", number(hit.servers), if hit.servers == 1 { "" } else { "s" }, number(hit.of))
}

/// An e-value for people: beyond a million only its order of magnitude matters.
fn large(e: f64) -> String {
    if e < 1e6 { format!("{e:.0}") } else { format!("{e:.0e}") }
}

/// A report of everything that is known.
pub fn report(
    entry: &RunningRelease,
    (kind, action, reason): (Kind, Action, String),
    finding: Option<&Finding>,
    at: Moment,
    around: &Surroundings,
) -> Report {
    let spec = &entry.spec;
    let stamp = around.stamp;
    let (rescued, not_rescued) = entry.rescues();
    let (_, step) = entry.stands();
    let apart = entry.cells.sum(Arm::Canary, false);
    let now = (at.wall_ms, entry.evidence(), entry.percent());
    let point = |(at, evidence, percent): &(u64, Evidence, BasisPoints)| Point {
        at: stamp(*at),
        evidence: *evidence,
        percent: percent.as_percent(),
    };
    Report::new(IncidentFacts {
        release: spec.release.name.to_string(),
        at: stamp(at.wall_ms),
        kind,
        action,
        reason,
        change: Change {
            canary: spec.canary.to_string(),
            stable: spec.stable.iter().map(ToString::to_string).collect(),
            routes: spec.routes.iter().map(ToString::to_string).collect(),
            user: spec.user(),
            hash: spec.hash().to_owned(),
            salt: spec.release.salt().into_owned(),
            step,
            steps: spec.release.steps.len(),
            percent: spec.share(step - 1).as_percent(),
            started_at: stamp(entry.began_ms()),
        },
        since: entry.trail.since().map(stamp),
        evidence: entry.evidence(),
        threshold: entry.judge.enough(),
        trajectory: entry.trail.points.iter().chain([&now]).map(point).collect(),
        users_harmed: entry.judge.harmed(),
        rescued,
        not_rescued,
        arms: entry.arms(),
        include: Apart { requests: apart.requests, errors: apart.bad },
        places: places(entry, finding, around),
        outside: finding.and_then(|finding| outside(entry, finding)),
    })
}

fn places(entry: &RunningRelease, finding: Option<&Finding>, around: &Surroundings) -> Vec<PlaceView> {
    let (measure, what) = match finding {
        Some(Finding::Worse { signal: "latency", .. } | Finding::Watch { of: Watched::Slowness, .. }) => {
            (Measure::Slow, "slow answers")
        }
        Some(Finding::Worse { signal: "refusals", .. }) => (Measure::Refusals, "users who were refused"),
        _ => (Measure::Failures, "users who met a failure"),
    };
    let names = PlaceNames {
        route: &|route| entry.spec.routes.get(usize::from(route)).map(ToString::to_string),
        server: &*around.server,
        cohort: &|cohort| entry.spec.cohorts.get(usize::from(cohort)).map(ToString::to_string),
        app: &*around.app,
    };
    let (_, places) = localise::find(&entry.cells, measure);
    places.iter().take(PLACES).map(|place| PlaceView::new(place, what, &names)).collect()
}

fn outside(entry: &RunningRelease, finding: &Finding) -> Option<Outside> {
    let (Finding::Outside { cause, stable, canary } | Finding::Shared { cause, stable, canary, .. }) = finding else {
        return None;
    };
    let status = match cause.failure {
        AttemptFailure::Status => status_text(cause.status),
        failure => failure.label().to_owned(),
    };
    let route = usize::from(cause.route);
    Some(Outside {
        upstream: entry.spec.stable_of(route).to_string(),
        route: entry.spec.routes.get(route).map(ToString::to_string).unwrap_or_default(),
        status,
        stable_share: *stable,
        canary_share: *canary,
    })
}
