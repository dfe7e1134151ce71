//! Reports of a release: a verdict as a page for an engineer, and the same as JSON.
//!
//! A report holds names, never numbers of the run form: people and programs read it days later, when the configuration
//! has changed. Times are RFC 3339 text from the caller. A report decides nothing: findings and actions come as
//! [`IncidentFacts`], and only sentences are made here. The gateway's `notify` keeps and sends it.

mod markdown;
mod sentence;

use serde::{Deserialize, Serialize};

use super::localise::{Part, Place};
use super::sample::{GRPC, status_text};

/// Points of a trajectory that are kept.
pub const POINTS: usize = 60;
/// Characters of a release's name that an id keeps.
const ID_NAME: usize = 64;

/// What the judge found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The canary is worse than stable.
    Worse,
    /// Both arms are worse than they were: the cause is outside of the release.
    Outside,
    /// Both arms are worse since the canary got more users.
    Shared,
    /// Stable differs from itself, or users are not split as planned: the comparison means nothing.
    Untrusted,
    /// Worse than the frozen baseline, where there is no control.
    Watch,
    /// The time of a step passed without evidence.
    NoEvidence,
}

/// The action that followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// All users went back to stable.
    RolledBack,
    /// No further step.
    Held,
    /// Only this report.
    Reported,
}

impl Kind {
    /// The name in JSON.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Worse => "worse",
            Kind::Outside => "outside",
            Kind::Shared => "shared",
            Kind::Untrusted => "untrusted",
            Kind::Watch => "watch",
            Kind::NoEvidence => "no_evidence",
        }
    }
}

impl Action {
    /// The name in JSON.
    pub fn label(self) -> &'static str {
        match self {
            Action::RolledBack => "rolled_back",
            Action::Held => "held",
            Action::Reported => "reported",
        }
    }
}

/// The definition that was released, and its progress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The name of the canary's upstream.
    pub canary: String,
    /// The names of the upstreams of the routes, each once.
    pub stable: Vec<String>,
    /// The names of the routes.
    pub routes: Vec<String>,
    /// The sources of the user key, as in the configuration.
    pub user: Vec<String>,
    /// The name of the hash.
    pub hash: String,
    /// The salt.
    pub salt: String,
    /// The step at that time, from 1.
    pub step: usize,
    /// The number of steps.
    pub steps: usize,
    /// The share of users that the step gives to the canary, in percent.
    pub percent: f64,
    /// When the release began, RFC 3339.
    pub started_at: String,
}

/// E-values against the canary: 1 says nothing, a verdict needs `threshold`. A report holds the largest number in place
/// of infinity, and 1 in place of NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Of failures.
    pub errors: f64,
    /// Of refusals; reports of older builds have none.
    #[serde(default = "nothing_said")]
    pub refusals: f64,
    /// Of slow answers.
    pub latency: f64,
    /// Of bad feedback.
    pub feedback: f64,
}

/// The evidence at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// RFC 3339.
    pub at: String,
    /// Its value.
    #[serde(flatten)]
    pub evidence: Evidence,
    /// The share of users on the canary then, in percent.
    pub percent: f64,
}

/// The counts of an arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmView {
    /// Requests, whether their users may be compared or not.
    pub requests: u64,
    /// Users who may be compared.
    pub users: u64,
    /// Failed requests.
    pub errors: u64,
    /// Median time to answer, in milliseconds; `None` without an answer.
    pub p50_ms: Option<f64>,
    /// 99th percentile, in milliseconds.
    pub p99_ms: Option<f64>,
}

/// Both arms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arms {
    /// The routes' own upstreams.
    pub stable: ArmView,
    /// The release's upstream.
    pub canary: ArmView,
}

/// Users of `include` cohorts: on the canary, but not by chance, so counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apart {
    /// Their requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

/// A place by its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceView {
    /// As one line, such as `server 127.0.0.1:9002, status 5xx: 412 of 420 users who met a failure`.
    pub text: String,
    /// Its conditions; empty for the whole canary.
    pub parts: Vec<PartView>,
    /// Log likelihood ratio of the scan, in nats.
    pub llr: f64,
    /// Its share of the canary's excess failures over stable, 0 to 1.
    pub explains: f64,
    /// Failures there.
    pub bad: u64,
    /// All failures of the canary.
    pub of: u64,
    /// Requests there.
    pub requests: u64,
}

/// One condition of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartView {
    /// `route`, `server`, `cohort`, `app`, `status` or `ending`.
    pub dimension: String,
    /// Its value, by name.
    pub value: String,
}

/// The common cause from which both arms suffer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// The likely upstream; empty where none stands out.
    pub upstream: String,
    /// The route; empty for all routes.
    pub route: String,
    /// How it fails, such as `5xx` or `timeout`.
    pub status: String,
    /// The share of stable's requests that fail, 0 to 1.
    pub stable_share: f64,
    /// The same share of the canary.
    pub canary_share: f64,
}

/// The facts of a report, with every name resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentFacts {
    /// The name of the release.
    pub release: String,
    /// The time, RFC 3339 UTC.
    pub at: String,
    /// What the judge found.
    pub kind: Kind,
    /// The action that followed.
    pub action: Action,
    /// More about the finding, as a clause; empty where there is no more.
    pub reason: String,
    /// What was released.
    pub change: Change,
    /// The time since when the canary fails, RFC 3339.
    pub since: Option<String>,
    /// The evidence now.
    pub evidence: Evidence,
    /// The threshold for the mean of the evidence.
    pub threshold: f64,
    /// Evidence over time, oldest first; thinned to [`POINTS`].
    pub trajectory: Vec<Point>,
    /// Users of the canary for whom it failed, rescued or not.
    pub users_harmed: u64,
    /// Failed canary requests that stable answered.
    pub rescued: u64,
    /// Those whose failure reached the client.
    pub not_rescued: u64,
    /// Both arms side by side.
    pub arms: Arms,
    /// Users of `include` cohorts.
    pub include: Apart,
    /// Where the fault is, the likeliest place first.
    pub places: Vec<PlaceView>,
    /// The common cause, where `kind` is outside or shared.
    pub outside: Option<Outside>,
}

/// A fault report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The id; ids sort by time. Letters, digits and `._-` only.
    pub id: String,
    /// The finding in a sentence.
    pub verdict: String,
    /// What to do next, in a sentence or two.
    pub next: String,
    /// The facts.
    #[serde(flatten)]
    pub facts: IncidentFacts,
}

impl Report {
    /// Writes the sentences, and makes the id from the time and the release.
    pub fn new(mut facts: IncidentFacts) -> Report {
        facts.trajectory = thinned(facts.trajectory);
        facts.trajectory.iter_mut().for_each(|point| point.evidence = point.evidence.finite());
        facts.evidence = facts.evidence.finite();
        Report {
            id: id(&facts.at, &facts.release),
            verdict: sentence::verdict(&facts),
            next: sentence::next(&facts),
            facts,
        }
    }

    /// The report as a Markdown page.
    pub fn markdown(&self) -> String {
        markdown::page(self)
    }
}

/// The names for the numbers of a place. A number without a name is shown as a number.
pub struct PlaceNames<'a> {
    /// The name of a route, by its index in the release.
    pub route: &'a dyn Fn(u16) -> Option<String>,
    /// The name of a server, by its number.
    pub server: &'a dyn Fn(u32) -> Option<String>,
    /// The name of a cohort, by its bit.
    pub cohort: &'a dyn Fn(u8) -> Option<String>,
    /// The name of an app, by its number.
    pub app: &'a dyn Fn(u32) -> Option<String>,
}

impl PlaceView {
    /// A place with its names; `what` says what it counts: `users who met a failure`.
    pub fn new(place: &Place, what: &str, names: &PlaceNames<'_>) -> PlaceView {
        let parts: Vec<PartView> = place.parts.iter().map(|part| PartView::new(*part, names)).collect();
        let mut said: Vec<String> = parts.iter().map(|part| format!("{} {}", part.dimension, part.value)).collect();
        if !place.parts.iter().any(|part| part.is_location()) {
            said.insert(0, "the whole canary".to_owned());
        }
        let (bad, of) = (sentence::count(place.bad), sentence::count(place.of));
        PlaceView {
            text: format!("{}: {bad} of {of} {what}", said.join(", ")),
            parts,
            llr: place.llr,
            explains: place.explains,
            bad: place.bad,
            of: place.of,
            requests: place.requests,
        }
    }
}

impl PartView {
    fn new(part: Part, names: &PlaceNames<'_>) -> PartView {
        let numbered = |name: Option<String>, number: u32| name.unwrap_or_else(|| format!("#{number}"));
        let value = match part {
            Part::Route(route) => numbered((names.route)(route), route.into()),
            Part::Server(server) => numbered((names.server)(server), server),
            Part::Cohort(cohort) => numbered((names.cohort)(cohort), cohort.into()),
            Part::App(app) => numbered((names.app)(app), app),
            Part::Status(status) => status_text(status),
            Part::Class(class) if u16::from(class) >= GRPC / 100 => "gRPC".to_owned(),
            Part::Class(class) => format!("{class}xx"),
            Part::Failure(failure) => failure.label().to_owned(),
        };
        PartView { dimension: part.dimension().to_owned(), value }
    }
}

/// `20261121T153012.123Z-orders-v2` for `2026-11-21T15:30:12.123Z` and `orders-v2`. Every character of the name other
/// than a letter, digit, `_` or `-` becomes `_`.
pub fn id(at: &str, release: &str) -> String {
    let time: String = at.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').take(ID_NAME).collect();
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let name: String = release.chars().map(safe).take(ID_NAME).collect();
    format!("{time}-{name}")
}

/// At most [`POINTS`], evenly picked, with the first and the last.
fn thinned(points: Vec<Point>) -> Vec<Point> {
    let length = points.len();
    if length <= POINTS {
        return points;
    }
    let mut kept = (0..POINTS).map(|k| k * (length - 1) / (POINTS - 1)).peekable();
    points.into_iter().enumerate().filter(|(at, _)| kept.next_if_eq(at).is_some()).map(|(_, point)| point).collect()
}

/// The e-value of a signal that a report lacks.
fn nothing_said() -> f64 {
    1.0
}

impl Evidence {
    /// Replaces infinity, which JSON lacks, and NaN, which says nothing.
    fn finite(self) -> Evidence {
        let finite = |value: f64| if value.is_nan() { 1.0 } else { value.clamp(0.0, f64::MAX) };
        Evidence {
            errors: finite(self.errors),
            refusals: finite(self.refusals),
            latency: finite(self.latency),
            feedback: finite(self.feedback),
        }
    }
}

#[cfg(test)]
mod tests;
