//! The model of proofs and limits: what callers must prove, and how often they may call.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use base::finding::Place;
use client_auth::jwt::KeySet;

/// `[auth.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// The table's name.
    pub name: Arc<str>,
    /// How callers prove who they are.
    pub kind: AuthKind,
    /// The place of the table.
    pub place: Place,
}

/// `kind` of an `[auth.NAME]`, with its keys
#[derive(Clone, Debug, PartialEq)]
pub enum AuthKind {
    /// A key of an app in a header.
    ApiKey {
        /// The header.
        header: HeaderName,
    },
    /// A request signed with a key of an app (RFC 9421, hmac-sha256).
    Hmac {
        /// How far `created` may be from now, both ways.
        clock_skew: Duration,
    },
    /// A token of a user, `Authorization: Bearer`.
    Jwt {
        /// `iss` that a token must have.
        issuer: Option<String>,
        /// `aud` that a token must name.
        audience: Option<String>,
        /// The issuer's keys.
        keys: Arc<KeySet>,
        /// The claim that is the user key.
        user_claim: Option<String>,
    },
}

/// `[limit.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The table's name.
    pub name: Arc<str>,
    /// The parts of the key that are counted apart; empty for all requests together.
    pub key: Vec<KeyPart>,
    /// Requests in a period.
    pub rate: Option<Rate>,
    /// Requests in flight; at least 1.
    pub concurrency: Option<u32>,
    /// The place of the table.
    pub place: Place,
}

/// `rate` and `burst`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests in `per`; at least 1.
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
    /// Requests that may come at once; at least 1.
    pub burst: u32,
}

impl Rate {
    /// The rate as the limiter keeps it; too many tokens over too long a time cannot be kept.
    pub fn as_kept(self) -> Result<rate_limit::Rate, rate_limit::RateError> {
        rate_limit::Rate::new(self.count, self.per, self.burst)
    }
}

/// A part of a limit's `key`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// `app`
    App,
    /// `user`: the `user_claim` of its token
    User,
    /// `ip`: an IPv6 address counts as its /64
    Ip,
    /// `route`
    Route,
    /// `header:NAME`
    Header(HeaderName),
    /// `cookie:NAME`
    Cookie(String),
    /// `query:NAME`
    Query(String),
}
