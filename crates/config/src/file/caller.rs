//! The forms of `[auth.*]`, `[app.*]` and `[limit.*]`.
//!
//! `check` decides which keys go together, and reads files and names.

use std::time::Duration;

use http::HeaderName;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::http::CookieName;
use super::located::{Located, Table};
use super::number::Number;
use super::scalar::{FilePath, FromText, Name, OneOf, Word, not_a};
use crate::model::KeyPart;
use client_auth::apps::AppStatus;

/// How callers of a route prove who they are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthForm {
    /// "api_key" (a key of an app), "hmac" (RFC 9421, hmac-sha256 over @method, @target-uri and, with a body,
    /// content-digest, with keyid, created and nonce; a body over 64 KiB gets 413) or "jwt" (Authorization: Bearer;
    /// RS256, ES256 or EdDSA; exp is required; typ is JWT, at+jwt or absent).
    #[schemars(required)]
    pub kind: Option<Word<AuthWord>>,
    /// The header that carries the key of an app.
    #[schemars(extend("default" = "x-api-key", "x-with" = ["kind", "api_key"]))]
    pub header: Option<Word<HeaderName>>,
    /// How far a signature's `created` may be from now. The longest one of all is how long nonces are kept: within it a
    /// key may sign about 900,000 requests (3,000 a second at 5m), all keys together 3.6 million. A request beyond that
    /// gets 503 until the oldest nonces expire.
    #[schemars(extend("default" = "5m", "x-with" = ["kind", "hmac"]))]
    pub clock_skew: Option<Word<Duration>>,
    /// The `iss` that a token must have. Absent: any.
    pub issuer: Option<Word<Name>>,
    /// The `aud` that a token must name. Absent: any, but no ID token (a token with at_hash or c_hash, or with nonce
    /// and no scope).
    pub audience: Option<Word<Name>>,
    /// File with the key set (RFC 7517). Required for jwt.
    pub jwks_file: Option<Word<FilePath>>,
    /// The claim that is the user key of cohorts, releases and limits: a name, or a path with dots. Absent: none.
    pub user_claim: Option<Word<Name>>,
}

/// `kind` of an `[auth.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`model::AuthKind` says it")]
pub enum AuthWord {
    ApiKey,
    Hmac,
    Jwt,
}

impl OneOf for AuthWord {
    const WHAT: &'static str = "a kind of proof";
    const EXAMPLE: &'static str = "\"api_key\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("api_key", AuthWord::ApiKey), ("hmac", AuthWord::Hmac), ("jwt", AuthWord::Jwt)];
}

/// A developer's application on the platform.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppForm {
    /// "pending", "approved" or "suspended". Pending and suspended apps get 403.
    #[schemars(extend("default" = "approved"))]
    pub status: Option<Word<AppStatus>>,
    /// Its keys; several while one replaces another.
    #[schemars(extend("default" = []))]
    #[serde(default)]
    pub keys: Vec<Located<Table<AppKeyForm>>>,
    /// Limits of every request of the app: names of `[limit.*]`.
    #[schemars(extend("default" = []))]
    #[serde(default)]
    pub limits: Vec<Word<Name>>,
}

impl OneOf for AppStatus {
    const WHAT: &'static str = "a status of an app";
    const EXAMPLE: &'static str = "\"approved\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("pending", AppStatus::Pending), ("approved", AppStatus::Approved), ("suspended", AppStatus::Suspended)];
}

/// One key of an app.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppKeyForm {
    /// Name of the key; the `keyid` of signatures.
    #[schemars(required)]
    pub id: Option<Word<Name>>,
    /// File with the key, or with "sha256:" and the 64 hex digits of its hash. A hash cannot verify signatures.
    #[schemars(required)]
    pub secret_file: Option<Word<FilePath>>,
}

/// How often, and how many at once. At least one of rate and concurrency.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitForm {
    /// What is counted apart: "app", "user", "ip" (IPv6: a /64), "route", "header:NAME", "cookie:NAME", "query:NAME";
    /// several join. A missing value counts as empty, and so does one that occurs several times, since servers differ
    /// in which one they read. Cookies and query parameters are decoded. Empty: all requests are counted together.
    #[schemars(extend("default" = []))]
    #[serde(default)]
    pub key: Vec<Word<KeyPart>>,
    /// Requests a second, a minute or an hour: "100/s", "600/m", "5000/h". Absent: no limit.
    pub rate: Option<Word<RateText>>,
    /// Requests that may come at once. Absent: those of one second, at least 1.
    pub burst: Option<Located<Number<1, { u32::MAX as u64 }>>>,
    /// Requests in flight of a key. Absent: no limit.
    pub concurrency: Option<Located<Number<1, { u32::MAX as u64 }>>>,
}

/// `rate`: a count and its period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateText {
    /// The number of requests.
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

impl FromText for RateText {
    const WHAT: &'static str = "a rate";
    const EXAMPLE: &'static str = "\"100/s\", \"600/m\" or \"5000/h\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^[1-9][0-9]*/[smh]$" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let (count, unit) = text.split_once('/').ok_or_else(|| not_a::<Self>(text))?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(not_a::<Self>(text)),
        };
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count: u64 = if digits { count.parse().unwrap_or(u64::MAX) } else { return Err(not_a::<Self>(text)) };
        match u32::try_from(count) {
            Ok(count @ 1..=1_000_000_000) => Ok(RateText { count, per: Duration::from_secs(seconds) }),
            _ => Err(format!("`{text}` is out of range\nfrom 1 to 1000000000 requests, such as {}", Self::EXAMPLE)),
        }
    }
}

impl FromText for KeyPart {
    const WHAT: &'static str = "a part of a limit's key";
    const EXAMPLE: &'static str =
        "\"app\", \"user\", \"ip\", \"route\", \"header:x-tenant\", \"cookie:uid\" or \"query:user\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^(app|user|ip|route|(header|cookie|query):.+)$" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("app", _) => Ok(KeyPart::App),
            ("user", _) => Ok(KeyPart::User),
            ("ip", _) => Ok(KeyPart::Ip),
            ("route", _) => Ok(KeyPart::Route),
            (_, Some(("header", name))) => HeaderName::from_text(name).map(KeyPart::Header),
            (_, Some(("cookie", name))) => CookieName::from_text(name).map(|name| KeyPart::Cookie(name.0)),
            (_, Some(("query", name))) if !name.is_empty() => Ok(KeyPart::Query(name.to_owned())),
            _ => Err(not_a::<Self>(text)),
        }
    }
}
