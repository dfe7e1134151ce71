//! The settings of `[cohort.*]` and `[release.*]`, valid by construction.
//!
//! The share of a step is computed here, once for all callers: the last step keeps what `holdback` asks for, also where
//! it is the only one. How far a release has come is not known here.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::bucket::Hash;
use super::cohort::UserSet;
use super::user_source::UserSource;
use balance::attempt::FailureSet;
use base::finding::Place;
use base::hex;
use base::units::{BasisPoints, Share};

/// `[cohort.NAME]`: the users who are in `users` or match a rule.
#[derive(Clone, Debug)]
pub struct Cohort {
    /// The table's name.
    pub name: Arc<str>,
    /// `users_file`, read.
    pub users: Option<Arc<UserSet>>,
    /// `any`
    pub any: Vec<Rule>,
    /// Where the table stands.
    pub place: Place,
}

/// A rule of a cohort's `any`.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// A header has this value.
    Header(HeaderName, HeaderValue),
    /// A cookie has this value, as sent.
    Cookie(String, String),
    /// The request comes from this app.
    App(String),
    /// The user's position by this salt (xxh3) is below the share.
    Percent {
        /// The share.
        share: BasisPoints,
        /// Default: the cohort's name.
        salt: String,
    },
}

/// `[release.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The table's name.
    pub name: Arc<str>,
    /// Indices into `Config::routes`; each forwards to an upstream. Never empty, each once.
    pub routes: Vec<usize>,
    /// Index into `Config::upstreams`; not the upstream of any of `routes`.
    pub canary: usize,
    /// The sources of the user key, of which the first present one counts. Default: the client's address. Never empty.
    pub user: Vec<UserSource>,
    /// The hash from a user to a position.
    pub hash: Hash,
    /// As configured; see [`Release::salt`].
    pub salt: Option<String>,
    /// SHA-256 of canary, routes, user, hash, salt and layer, hexadecimal: the identity of the release.
    pub definition: String,
    /// The same, as older builds computed it.
    pub former_definition: String,
    /// Indices into `Config::cohorts`: always on the canary.
    pub include: Vec<usize>,
    /// Indices into `Config::cohorts`: never on the canary; wins over `include`.
    pub exclude: Vec<usize>,
    /// The range of a layer's users that may be on the canary by percent.
    pub layer: Option<Layer>,
    /// Never empty; shares grow; none is beyond the layer's range.
    pub steps: Vec<Step>,
    /// The share of users of the range kept on stable at the last step; smaller than the last step leaves room for.
    pub holdback: BasisPoints,
    /// When stable answers for the canary.
    pub rescue: Rescue,
    /// When the release goes on, and when it is taken back.
    pub judge: JudgeRules,
    /// Where the table stands.
    pub place: Place,
}

impl Release {
    /// The salt: as configured, else the name, a zero byte and the first 16 digits of the definition. So after a bad
    /// version, the mended one meets other users first, under its new definition.
    pub fn salt(&self) -> Cow<'_, str> {
        match &self.salt {
            Some(salt) => Cow::Borrowed(salt),
            None => Cow::Owned(format!("{}\0{}", self.name, self.definition.get(..16).unwrap_or_default())),
        }
    }

    /// Computes the definition, from the names behind the indices. The length of each part precedes it.
    pub fn define(mut self, canary: &str, routes: &[&str]) -> Release {
        self.former_definition = self.hashed(canary, routes, &[]);
        self.definition = match self.salt.as_deref() == Some(&self.name) {
            true => self.hashed(canary, routes, &["written"]),
            false => self.former_definition.clone(),
        };
        self
    }

    /// Whether what was kept under a definition belongs to this release. Older builds did not tell a salt that equals
    /// the name from a missing one.
    pub fn is_defined_by(&self, kept: &str) -> bool {
        kept == self.definition || kept == self.former_definition
    }

    fn hashed(&self, canary: &str, routes: &[&str], more: &[&str]) -> String {
        let mut text = String::new();
        let mut part = |part: &str| {
            let _ = write!(text, "{}:{part};", part.len());
        };
        part(canary);
        part(&routes.len().to_string());
        routes.iter().for_each(|route| part(route));
        self.user.iter().for_each(|source| part(&source.to_string()));
        part(&format!("{:?}", self.hash));
        part(self.salt.as_deref().unwrap_or(&self.name));
        if let Some(layer) = &self.layer {
            part(&layer.name);
            part(&format!("{}-{}", layer.from.hundredths(), layer.to.hundredths()));
        }
        more.iter().for_each(|more| part(more));
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        hex::encode(digest.as_ref())
    }

    /// The share of all users that may be on the canary by percent: the layer's range, or all.
    pub fn range(&self) -> BasisPoints {
        self.layer.as_ref().map_or(BasisPoints::ALL, Layer::range)
    }

    /// The share of all users that step `step`, from 0, puts on the canary; a step beyond the last is the last one.
    pub fn share(&self, step: usize) -> BasisPoints {
        let last = self.steps.len().saturating_sub(1);
        let percent = self.steps.get(step.min(last)).map_or(BasisPoints::NONE, |step| step.percent);
        if step < last { percent } else { percent.min(self.range().without(self.holdback)) }
    }
}

/// The names that the numbers of a release stand for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The names of upstreams.
    pub upstreams: Vec<Arc<str>>,
    /// The names of routes, each with the number of its own upstream where it forwards to one.
    pub routes: Vec<(Arc<str>, Option<usize>)>,
    /// The names of cohorts.
    pub cohorts: Vec<Arc<str>>,
}

/// `layer`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Releases of one layer share no user.
    pub name: String,
    /// Where the range begins.
    pub from: BasisPoints,
    /// Where it ends; above `from`.
    pub to: BasisPoints,
}

impl Layer {
    /// The width of the range.
    pub fn range(&self) -> BasisPoints {
        self.to.without(self.from)
    }
}

/// A step of `steps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The share of all users.
    pub percent: BasisPoints,
    /// The least time of the step.
    pub hold: Duration,
}

/// `rescue`
#[derive(Clone, Debug, PartialEq)]
pub struct Rescue {
    /// The failures that stable answers for.
    pub on: FailureSet,
    /// Methods that are rescued; those that are not idempotent only with an `Idempotency-Key`.
    pub methods: Vec<Method>,
    /// Rescues allowed, as a share of the canary's requests; at most all.
    pub budget: Share,
}

/// `.judge`
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeRules {
    /// The probability that a harmless release is taken back, over its whole life; above 0, at most 0.5.
    pub false_alarm: f64,
    /// The SLO: a slower answer is a bad one.
    pub slo: Option<Duration>,
    /// How long after its first request a server's answers are not timed.
    pub settle: Duration,
    /// Users on the canary in a step before it may be promoted.
    pub min_users: u64,
    /// The time after which a step without evidence ends on hold.
    pub max_wait: Duration,
    /// The action after a verdict against the canary.
    pub on_fail: OnFail,
}

/// `on_fail`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFail {
    /// All users go back to stable.
    Rollback,
    /// No further step.
    Hold,
    /// Only a report.
    Report,
}
