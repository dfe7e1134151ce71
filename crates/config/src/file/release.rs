//! The form of `[release.NAME]`.
//!
//! Names of routes, upstreams and cohorts stay names here, and shares are checked one by one. `check` decides whether
//! they grow, fit their layer and leave room for the holdback.

use std::time::Duration;

use http::{HeaderName, Method};
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::Sub;
use super::http::CookieName;
use super::located::{Located, Table};
use super::number::{Chance, Number, Percent, Points};
use super::scalar::{FromText, Name, OneOf, Word, not_a};
use super::upstream::Failure;
use gray::bucket::Hash;
use gray::settings::OnFail;
use gray::user_source::{EXAMPLES, PATTERN, UserSource, UserSourceError};

/// A new version for a share of the users that grows step by step, judged, and taken back where it is worse.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseForm {
    /// Names of the routes whose users are split. Each forwards to an upstream, which is stable.
    #[schemars(required)]
    pub routes: Option<Located<Vec<Word<Name>>>>,
    /// Name of the upstream with the new version. None of the routes has it.
    #[schemars(required)]
    pub canary: Option<Word<Name>>,
    /// Where the user key comes from, the first source that is present: "header:NAME", "cookie:NAME", "app" (the app
    /// that calls), "claim" (the user_claim of its token), "ip".
    #[schemars(extend("default" = ["ip"]))]
    pub user: Option<Located<Vec<Word<UserSource>>>>,
    /// How a user key becomes a position: exactly as the owner of the hash computes it.
    #[schemars(extend("default" = "xxh3"))]
    pub hash: Option<Word<Hash>>,
    /// Hashed with the user key; "" is empty. Absent: the name, a zero byte and 16 digits of the definition's SHA-256,
    /// so a changed definition meets other users first.
    pub salt: Option<Word<String>>,
    /// Cohorts that are always on the canary: served and reported, never judged.
    #[serde(default)]
    pub include: Vec<Word<Name>>,
    /// Cohorts that are never on the canary. Wins over include.
    #[serde(default)]
    pub exclude: Vec<Word<Name>>,
    /// This release's part of a layer's users. Releases of one layer share no user. Absent: everybody.
    pub layer: Sub<LayerForm>,
    /// Shares of all users, which must grow.
    #[schemars(required)]
    pub steps: Option<Located<Vec<Located<Table<StepForm>>>>>,
    /// Percent of users kept on stable at the last step, so that the judge keeps a control.
    #[schemars(extend("default" = 0))]
    pub holdback: Option<Located<Points<0>>>,
    /// When stable answers for the canary.
    #[schemars(extend("default" = {}))]
    pub rescue: Sub<RescueForm>,
    /// When the release goes on and when it is taken back.
    #[schemars(extend("default" = {}))]
    pub judge: Sub<JudgeForm>,
}

/// A part of a layer's users.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerForm {
    /// Name of the layer. Releases that name the same layer must have ranges that do not overlap.
    #[schemars(required)]
    pub name: Option<Word<Name>>,
    /// Start of the range, in percent.
    #[schemars(required)]
    pub from: Option<Located<Points<0>>>,
    /// End of the range, in percent.
    #[schemars(required)]
    pub to: Option<Located<Points<0>>>,
}

/// One step.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepForm {
    /// Percent of all users, in steps of 0.01.
    #[schemars(required)]
    pub percent: Option<Located<Points<1>>>,
    /// How long the step lasts at least.
    #[schemars(extend("default" = "0s"))]
    pub hold: Option<Word<Duration>>,
}

/// A failed canary request is answered by stable before a byte reaches the client.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RescueForm {
    /// Failures that are rescued: "connect", "reset", "timeout", and statuses from 400 to 599.
    #[schemars(extend("default" = ["connect", "reset", "timeout", 500, 502, 503, 504]))]
    pub on: Option<Vec<Located<Failure>>>,
    /// Methods that are rescued. Methods that are not idempotent only with an Idempotency-Key.
    #[schemars(extend("default" = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]))]
    pub methods: Option<Vec<Word<Method>>>,
    /// Rescues allowed, in percent of the canary's requests.
    #[schemars(extend("default" = 100))]
    pub budget_percent: Option<Located<Percent<100>>>,
}

/// Compares the users of both versions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeForm {
    /// Chance, over the release's whole life, that a harmless release is taken back.
    #[schemars(extend("default" = 0.001))]
    pub false_alarm: Option<Located<Chance>>,
    /// A slower response is a bad one, beside the quantiles of stable. Absent: only the quantiles.
    pub slo: Option<Word<Duration>>,
    /// How long after a server's first request its responses are not timed.
    #[schemars(extend("default" = "30s"))]
    pub settle: Option<Word<Duration>>,
    /// Users on the canary, within a step, before the step may be promoted. The evidence of safety, which it needs too,
    /// takes about 300. A rollback does not wait for them.
    #[schemars(extend("default" = 20))]
    pub min_users: Option<Located<Number<0, 1_000_000_000>>>,
    /// A step without evidence is put on hold after this time, with a report.
    #[schemars(extend("default" = "24h"))]
    pub max_wait: Option<Word<Duration>>,
    /// What follows a verdict against the canary.
    #[schemars(extend("default" = "rollback"))]
    pub on_fail: Option<Word<OnFail>>,
}

impl FromText for UserSource {
    const WHAT: &'static str = "a source of the user key";
    const EXAMPLE: &'static str = EXAMPLES;
    fn schema() -> Schema {
        json_schema!({ "pattern": PATTERN })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        UserSource::parse(text).map_err(|no_source| match no_source {
            UserSourceError::Kind => not_a::<Self>(text),
            UserSourceError::HeaderName(name) => not_a::<HeaderName>(name),
            UserSourceError::CookieName(name) => not_a::<CookieName>(name),
        })
    }
}

impl OneOf for Hash {
    const WHAT: &'static str = "a hash";
    const EXAMPLE: &'static str = "\"xxh3\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("xxh3", Hash::Xxh3),
        ("growthbook2", Hash::GrowthBook2),
        ("unleash", Hash::Unleash),
        ("launchdarkly", Hash::LaunchDarkly),
        ("flagd2", Hash::Flagd2),
        ("nginx", Hash::Nginx),
    ];
}

impl OneOf for OnFail {
    const WHAT: &'static str = "what follows a verdict";
    const EXAMPLE: &'static str = "\"rollback\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("rollback", OnFail::Rollback), ("hold", OnFail::Hold), ("report", OnFail::Report)];
}
