//! The forms of `[[listener]]`, `[auth.*]`, `[app.*]` and `[limit.*]`.
//!
//! Which keys go together, what files hold and what names lead to is `check`'s. Sizes of heads end where the parser
//! below ends, so that no limit promises more than is kept.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::Sub;
use super::at::{At, Table};
use super::http::CookieName;
use super::number::Number;
use super::word::{FilePath, Name, OneOf, Size, Spelt, Word, not_a};
use crate::model::KeyPart;
use client_auth::apps::AppStatus;

/// Where clients connect.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// IP address and port. REQUIRED.
    #[schemars(required)]
    pub address: Option<Word<SocketAddr>>,
    /// HTTP/2 without TLS, beside HTTP/1.1. Default false.
    pub h2c: Option<At<bool>>,
    /// Every connection begins with a PROXY header (v1 or v2) from trusted.proxies; from anyone else it closes. Default
    /// false.
    pub proxy_protocol: Option<At<bool>>,
    /// Time for the whole head; HTTP/2: to the first complete HEADERS. Default "10s".
    pub header_timeout: Option<Word<Duration>>,
    /// How long a kept connection may be without a request, and how long a client may take nothing of its answer.
    /// Default "60s".
    pub idle_timeout: Option<Word<Duration>>,
    /// Bytes a second, over any 10 s of a request body; "0B": no limit. Default "500B".
    pub body_min_rate: Option<Word<Size>>,
    /// Size of a head, from "1KiB" to "512KiB". Default "64KiB".
    pub head_max: Option<Word<Size>>,
    /// Number of headers. Default 100.
    pub headers_max: Option<At<Number<1, 256>>>,
    /// Length of a request target, from "64B" to "60KiB". Default "16KiB".
    pub uri_max: Option<Word<Size>>,
    /// Connections of one client address (IPv6: of one /64); 0: no limit. Default 0.
    pub max_connections_per_ip: Option<At<Number<0, { u32::MAX as u64 }>>>,
    /// HTTPS: HTTP/1.1 and HTTP/2 by ALPN. Absent: plain.
    pub tls: Sub<ListenerTls>,
}

/// HTTPS.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Picked by the name that the client asks for (SNI); the first one serves the rest. REQUIRED.
    #[schemars(required)]
    pub certificates: Option<At<Vec<At<Table<Certificate>>>>>,
    /// PEM file: a client certificate of these authorities is required. Absent: none is asked for.
    pub client_ca: Option<Word<FilePath>>,
}

/// A certificate and its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file with the chain, the server's own certificate first. REQUIRED.
    #[schemars(required)]
    pub cert: Option<Word<FilePath>>,
    /// PEM file with its private key. REQUIRED.
    #[schemars(required)]
    pub key: Option<Word<FilePath>>,
}

/// How callers of a route prove who they are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// "api_key", "hmac" (RFC 9421) or "jwt". REQUIRED.
    #[schemars(required)]
    pub kind: Option<Word<AuthWord>>,
    /// api_key: the header that carries the key. Default "x-api-key".
    pub header: Option<Word<HeaderName>>,
    /// hmac: how far a signature's `created` may be from now. Default "5m".
    pub clock_skew: Option<Word<Duration>>,
    /// jwt: the `iss` that a token must have. Absent: any.
    pub issuer: Option<Word<Name>>,
    /// jwt: the `aud` that a token must name. Absent: any.
    pub audience: Option<Word<Name>>,
    /// jwt: file with the key set (RFC 7517). REQUIRED for jwt.
    pub jwks_file: Option<Word<FilePath>>,
    /// jwt: the claim that is the user key of cohorts, releases and limits. Absent: none.
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
pub struct App {
    /// "pending", "approved" or "suspended"; the others get 403. Default "approved".
    pub status: Option<Word<AppStatus>>,
    /// Its keys; several while one replaces another. Default [].
    #[serde(default)]
    pub keys: Vec<At<Table<AppKey>>>,
    /// Limits of every request of it. Default [].
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
pub struct AppKey {
    /// Its name; the `keyid` of signatures. REQUIRED.
    #[schemars(required)]
    pub id: Option<Word<Name>>,
    /// File with the key, or with "sha256:" and the 64 hex digits of its hash (which cannot sign). REQUIRED.
    #[schemars(required)]
    pub secret_file: Option<Word<FilePath>>,
}

/// How often, and how many at once. At least one of rate and concurrency.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// What is counted apart: "app", "user", "ip", "route", "header:NAME", "cookie:NAME", "query:NAME"; several join.
    /// Default []: all requests together.
    #[serde(default)]
    pub key: Vec<Word<KeyPart>>,
    /// Requests in a second, a minute or an hour: "100/s", "600/m", "5000/h". Absent: no limit.
    pub rate: Option<Word<RateText>>,
    /// Requests that may come at once. Default: those of one second, at least 1.
    pub burst: Option<At<Number<1, { u32::MAX as u64 }>>>,
    /// Requests in flight. Absent: no limit.
    pub concurrency: Option<At<Number<1, { u32::MAX as u64 }>>>,
}

/// `rate`: a count, and the time it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateText {
    /// Requests.
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

impl Spelt for RateText {
    const WHAT: &'static str = "a rate";
    const EXAMPLE: &'static str = "\"100/s\", \"600/m\" or \"5000/h\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^[1-9][0-9]*/[smh]$" })
    }
    fn spell(text: &str) -> Result<Self, String> {
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

impl Spelt for KeyPart {
    const WHAT: &'static str = "a part of a limit's key";
    const EXAMPLE: &'static str =
        "\"app\", \"user\", \"ip\", \"route\", \"header:x-tenant\", \"cookie:uid\" or \"query:user\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^(app|user|ip|route|(header|cookie|query):.+)$" })
    }
    fn spell(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("app", _) => Ok(KeyPart::App),
            ("user", _) => Ok(KeyPart::User),
            ("ip", _) => Ok(KeyPart::Ip),
            ("route", _) => Ok(KeyPart::Route),
            (_, Some(("header", name))) => HeaderName::spell(name).map(KeyPart::Header),
            (_, Some(("cookie", name))) => CookieName::spell(name).map(|name| KeyPart::Cookie(name.0)),
            (_, Some(("query", name))) if !name.is_empty() => Ok(KeyPart::Query(name.to_owned())),
            _ => Err(not_a::<Self>(text)),
        }
    }
}
