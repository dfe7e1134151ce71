//! The front door in checked form: what a listener takes, what callers must prove, and how often they may call.
//!
//! Certificates and keys are parsed and fit each other. Of two certificates that cover one name the first one wins.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use base::finding::Place;
use client_auth::jwt::KeySet;

/// `[[listener]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where to listen.
    pub address: SocketAddr,
    /// HTTP/2 without TLS, beside HTTP/1.1; never with `tls`.
    pub h2c: bool,
    /// Whether every connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// Time for a whole head; never zero.
    pub header_timeout: Duration,
    /// How long a kept connection may be without a request; never zero.
    pub idle_timeout: Duration,
    /// Bytes a second, over any 10 s of a request body; 0: no limit.
    pub body_min_rate: u64,
    /// Bytes of a head.
    pub head_max: usize,
    /// Headers of a head.
    pub headers_max: usize,
    /// Bytes of a request target.
    pub uri_max: usize,
    /// Connections of one client address; 0: no limit.
    pub max_connections_per_ip: u32,
    /// TLS; absent: plain.
    pub tls: Option<ListenerTls>,
    /// Where `address` stands.
    pub place: Place,
}

/// `[listener.tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// At least one, in the order written; the first one serves clients whose name none covers.
    pub certificates: Vec<Certificate>,
    /// A client certificate of this authority is required.
    pub client_ca: Option<ClientCa>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Certificate {
    /// Chain and key, which fit each other.
    pub key: Arc<CertifiedKey>,
    /// DNS names it covers, lower case; `*.` stands for one label.
    pub names: Vec<String>,
}

impl PartialEq for Certificate {
    /// By the chain: a key that fits it can only be the same one.
    fn eq(&self, other: &Certificate) -> bool {
        self.key.cert == other.key.cert
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Who signs client certificates.
#[derive(Clone)]
pub struct ClientCa {
    /// The authorities, DER.
    pub authorities: Arc<[Vec<u8>]>,
    /// Judges what clients present.
    pub verifier: Arc<dyn ClientCertVerifier>,
}

impl PartialEq for ClientCa {
    fn eq(&self, other: &ClientCa) -> bool {
        self.authorities == other.authorities
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCa").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}

/// `[auth.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// The table's name.
    pub name: Arc<str>,
    /// How callers prove who they are.
    pub kind: AuthKind,
    /// Where the table stands.
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
    /// What is counted apart; empty: all requests together.
    pub key: Vec<KeyPart>,
    /// Requests in a time.
    pub rate: Option<Rate>,
    /// Requests in flight; at least 1.
    pub concurrency: Option<u32>,
    /// Where the table stands.
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
    pub fn as_kept(self) -> Result<rate_limit::Rate, rate_limit::BadRate> {
        rate_limit::Rate::new(self.count, self.per, self.burst)
    }
}

/// One of a limit's `key`.
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
