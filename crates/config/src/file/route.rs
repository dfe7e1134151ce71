//! The form of `[route.NAME]`.
//!
//! It takes `hosts`, `paths` and the rest value by value. `check` requires that they differ from those of other routes,
//! and that there is exactly one action.

use http::Method;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Sub;
use super::http::{PathStart, RoutePath, Target};
use super::located::Located;
use super::net::Host;
use super::number::Number;
use super::scalar::{Name, OneOf, Size, Word};
use crate::filter::headers::{HeaderRulesForm, Headers};
use crate::model::Scheme;

/// Conditions on a request, and what happens to it where all of them hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteForm {
    /// "api.example.com", "*.example.org" (one or more labels), or "*"; without a port. Absent: any.
    #[serde(default)]
    pub hosts: Vec<Word<Host>>,
    /// "/orders" (exact), "/orders/*" (prefix), "~^/v[0-9]+/" (regex, unanchored). Absent: any.
    #[serde(default)]
    pub paths: Vec<Word<RoutePath>>,
    /// Methods. GET also takes HEAD. Absent: any.
    #[serde(default)]
    pub methods: Vec<Word<Method>>,
    /// Headers that must have exactly this value, on every line of that name.
    #[serde(default)]
    pub headers: Headers,
    /// How the client connected: "http" or "https". Absent: any.
    pub scheme: Option<Word<Scheme>>,
    /// Client networks that may use the route. Others get 403. Absent: all.
    pub allow: Option<Located<Vec<Word<IpNet>>>>,
    /// Client networks that may not. Wins over allow.
    #[serde(default)]
    pub deny: Vec<Word<IpNet>>,
    /// Name of the upstream. Exactly one of upstream, redirect, respond and ledger.
    pub upstream: Option<Word<Name>>,
    /// Answers with a redirect.
    pub redirect: Sub<RedirectForm>,
    /// Answers with a fixed response.
    pub respond: Sub<RespondForm>,
    /// Hands the request to the ledger. After strip_prefix its path must be /callbacks/CHANNEL; any other path gets
    /// 404.
    #[schemars(extend("default" = false))]
    pub ledger: Option<Located<bool>>,
    /// Removed from the start of the path before forwarding.
    pub strip_prefix: Option<Word<PathStart>>,
    /// Put before the path, after strip_prefix.
    pub add_prefix: Option<Word<PathStart>>,
    /// Rules for the request on its way to the upstream.
    pub request_headers: Sub<HeaderRulesForm>,
    /// Rules for the response on its way to the client.
    pub response_headers: Sub<HeaderRulesForm>,
    /// What callers must prove, all of it: names of `[auth.*]`.
    #[schemars(extend("default" = []))]
    #[serde(default)]
    pub auth: Vec<Word<Name>>,
    /// Limits of the route's requests, all of which must have room: names of `[limit.*]`.
    #[schemars(extend("default" = []))]
    #[serde(default)]
    pub limits: Vec<Word<Name>>,
    /// Size that a request body may have. Longer: 413. Absent: no limit.
    pub body_max: Option<Word<Size>>,
    /// Compresses responses (zstd, brotli or gzip, as the client accepts) of text, JSON, XML, scripts, SVG and
    /// WebAssembly.
    #[schemars(extend("default" = false))]
    pub compress: Option<bool>,
}

/// Answers with a redirect.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedirectForm {
    /// Target. {scheme}, {host}, {path} and {query} (with its "?") are those of the request.
    #[schemars(required)]
    pub to: Option<Word<Target>>,
    /// 301, 302, 303, 307 or 308.
    #[schemars(extend("default" = 308))]
    pub status: Option<Located<Number<300, 399>>>,
}

/// Answers with a text.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RespondForm {
    /// Status of the response.
    #[schemars(extend("default" = 200))]
    pub status: Option<Located<Number<200, 599>>>,
    /// Body of the response.
    #[schemars(extend("default" = ""))]
    pub body: Option<Word<String>>,
    /// Headers of the response.
    #[serde(default)]
    pub headers: Headers,
}

impl OneOf for Scheme {
    const WHAT: &'static str = "a scheme";
    const EXAMPLE: &'static str = "\"https\"";
    const WORDS: &'static [(&'static str, Self)] = &[("http", Scheme::Http), ("https", Scheme::Https)];
}
