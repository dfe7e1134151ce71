//! The model of a configuration: what `file` read and `check` understood, as plain typed data.
//!
//! It holds no handle, socket or counter; `snapshot` makes the run form from it. Everything in it is valid by
//! construction: names resolve, patterns parse, numbers are in range. Conditions that only a running gateway can check
//! (a changed listener, a removal above `removal_max_percent`) are in `swap`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use regex::Regex;

use crate::filter::Filters;
use balance::attempt::FailureSet;
use balance::settings::{Balance, Outlier};
use base::finding::Place;
use base::secret::Secret;
use base::units::Share;
use client_auth::apps::App;
use gray::settings::{Cohort, Names, Release};

pub mod caller;
pub mod ledger;
pub mod listener;
pub mod notify;

pub use caller::{Auth, AuthKind, KeyPart, Limit, Rate};
pub use listener::{Certificate, ClientCa, Listener, ListenerTls};
pub use notify::{Notify, NotifyFormat};

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[[listener]]`, as written; never empty.
    pub listeners: Vec<Listener>,
    /// `[admin]`
    pub admin: Option<Admin>,
    /// `[trusted].proxies`: the networks whose `X-Forwarded-*` headers are believed.
    pub trusted: Vec<IpNet>,
    /// `[log]`
    pub log: Log,
    /// `[reload]`
    pub reload: Reload,
    /// `[upstream.*]`, by name.
    pub upstreams: Vec<Upstream>,
    /// `[route.*]`, in the order written (files in name order).
    pub routes: Vec<Route>,
    /// `[auth.*]`, in the order written.
    pub auths: Vec<Auth>,
    /// `[app.*]`, in the order written.
    pub apps: Vec<App>,
    /// `[limit.*]`, in the order written.
    pub limits: Vec<Limit>,
    /// `[cohort.*]`, in the order written.
    pub cohorts: Vec<Cohort>,
    /// `[release.*]`, in the order written.
    pub releases: Vec<Release>,
    /// `[notify.*]`, in the order written.
    pub notify: Vec<Notify>,
    /// `[ledger]`
    pub ledger: Option<ledger::Ledger>,
    /// Files read besides the configuration itself (tokens, certificates): changes in them reload too.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// The limits of a route and of an app, by their numbers, each once.
    pub fn limits_of(&self, route: usize, app: Option<usize>) -> impl Iterator<Item = usize> {
        let of_route = &self.routes[route].limits;
        let of_app = app.and_then(|app| self.apps.get(app)).map_or(&[][..], |app| &app.limits);
        of_route.iter().chain(of_app.iter().filter(|limit| !of_route.contains(limit))).copied()
    }

    /// The names that the numbers of its releases stand for.
    pub fn names(&self) -> Names {
        let forwards = |route: &Route| match route.action {
            Action::Upstream(upstream) => Some(upstream),
            Action::Ledger | Action::Redirect { .. } | Action::Respond { .. } => None,
        };
        Names {
            upstreams: self.upstreams.iter().map(|upstream| upstream.name.clone()).collect(),
            routes: self.routes.iter().map(|route| (route.name.clone(), forwards(route))).collect(),
            cohorts: self.cohorts.iter().map(|cohort| cohort.name.clone()).collect(),
        }
    }
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// The folder of revisions and release state; absolute, or relative to the working directory.
    pub state_dir: PathBuf,
    /// How long a shutdown waits for requests in flight.
    pub shutdown_grace: Duration,
    /// The most client connections of all listeners together; at least 1.
    pub max_connections: usize,
    /// The most bytes of requests, bodies, encoders and header lists together; at least 1.
    pub memory_max: u64,
    /// The place of the table; the first config file when it is absent.
    pub place: Place,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The bearer token, from `token_file`, without one trailing newline.
    pub token: Option<Secret>,
    /// The place of `address`.
    pub place: Place,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Where access log lines go.
    pub access: AccessLog,
    /// The share of answers below 500 that are logged.
    pub sample: Share,
}

/// `log.access`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// Appended to a file, made if absent.
    File(PathBuf),
}

/// `[reload]`
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// Whether file changes are followed.
    pub watch: bool,
    /// A revision that drops more than this share of all routes or of all servers is refused unless forced.
    pub removal_max: Share,
    /// Revisions kept; at least 1.
    pub history: usize,
}

/// `[upstream.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// The table's name.
    pub name: Arc<str>,
    /// The source of the servers.
    pub servers: Servers,
    /// How a server is picked.
    pub balance: Balance,
    /// How long a server that comes (back) takes to grow to its full share.
    pub slow_start: Option<Duration>,
    /// The most requests in flight of a server.
    pub max_requests_per_server: Option<u32>,
    /// HTTPS to the servers.
    pub tls: Option<UpstreamTls>,
    /// HTTP/2 to the servers: by ALPN with `tls`, with prior knowledge without.
    pub http2: bool,
    /// Adaptive concurrency limit.
    pub adaptive: bool,
    /// Active probes.
    pub health: Option<Health>,
    /// Passive ejection.
    pub outlier: Outlier,
    /// Time limits.
    pub timeout: Timeouts,
    /// Retries.
    pub retry: Retry,
    /// The place of the table.
    pub place: Place,
}

/// The source of an upstream's servers.
#[derive(Clone, Debug, PartialEq)]
pub enum Servers {
    /// `servers`, as written; addresses are distinct.
    Static(Vec<Member>),
    /// `dns`: every address that the name resolves to, looked up every `refresh`.
    Dns {
        /// Host name.
        name: Arc<str>,
        /// Port of every server.
        port: u16,
        /// The time between two lookups.
        refresh: Duration,
    },
}

/// An entry of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: SocketAddr,
    /// Its share relative to the others; 0 drains it. At most 65,535.
    pub weight: u16,
}

/// `tls` of an upstream
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name requested and verified; default: the DNS name, else the server's address.
    pub sni: String,
    /// Certificates trusted instead of the system's, DER, at least one.
    pub ca: Option<Arc<[Vec<u8>]>>,
    /// Whether the server's certificate is verified.
    pub verify: bool,
}

/// `.health`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The HTTP path of a probe; absent for a TCP connect.
    pub path: Option<String>,
    /// The time between two probes of a server, before jitter.
    pub interval: Duration,
    /// The time limit of a probe.
    pub timeout: Duration,
    /// Failures in a row that make a server unhealthy; at least 1.
    pub unhealthy_after: u32,
    /// Successes in a row that make it healthy again; at least 1.
    pub healthy_after: u32,
}

/// `.timeout`; `None` is "0s": no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS setup.
    pub connect: Option<Duration>,
    /// Per attempt, to the answer's head.
    pub first_byte: Option<Duration>,
    /// Between two reads of the answer.
    pub read: Option<Duration>,
    /// Between two writes of the request.
    pub write: Option<Duration>,
    /// All attempts together.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// How long a request may take without a byte moving, whatever it waits for; `None` for no limit.
    pub fn together(&self) -> Option<Duration> {
        let waits = [self.connect, self.first_byte.or(self.read), self.read, self.write];
        waits.into_iter().sum::<Option<Duration>>().or(self.total)
    }
}

/// `.retry`
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Attempts in all; at least 1.
    pub attempts: u32,
    /// The failures after which another server is tried.
    pub on: FailureSet,
    /// Retries allowed, as a share of the requests of the last 10 s; may exceed 100 %.
    pub budget: Share,
}

/// `[route.NAME]`
#[derive(Clone, Debug)]
pub struct Route {
    /// The table's name.
    pub name: Arc<str>,
    /// Hosts; empty for any.
    pub hosts: Vec<HostPattern>,
    /// Paths; empty for any.
    pub paths: Vec<PathPattern>,
    /// Methods; empty for any. GET also takes HEAD.
    pub methods: Vec<Method>,
    /// Headers that must have exactly this value.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The client's scheme that is required.
    pub scheme: Option<Scheme>,
    /// The action on the request.
    pub action: Action,
    /// The filters of request and response.
    pub filters: Filters,
    /// What callers must prove, all of it, by the numbers of `Config::auths`.
    pub auths: Vec<usize>,
    /// All limits of its requests, by the numbers of `Config::limits`.
    pub limits: Vec<usize>,
    /// The place of the table.
    pub place: Place,
}

impl Route {
    /// The hosts; one `None` for any.
    pub fn host_patterns(&self) -> impl Iterator<Item = Option<&HostPattern>> {
        let any = self.hosts.is_empty().then_some(None);
        any.into_iter().chain(self.hosts.iter().map(Some))
    }

    /// The paths; one `None` for any.
    pub fn path_patterns(&self) -> impl Iterator<Item = Option<&PathPattern>> {
        let any = self.paths.is_empty().then_some(None);
        any.into_iter().chain(self.paths.iter().map(Some))
    }
}

/// An entry of `hosts`, lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// `api.example.com`
    Exact(String),
    /// `*.example.com`, kept as `.example.com`: one or more labels before it.
    Suffix(String),
}

/// An entry of `paths`, normalised (see `base::path`) except for regexes.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// `/orders`
    Exact(String),
    /// `/orders/*`, kept as `/orders/`; `/*` is kept as `/`.
    Prefix(String),
    /// `~^/v[0-9]+/`, unanchored.
    Regex(Regex),
}

impl PathPattern {
    /// Kind and text: a compiled regex cannot be compared, its text can.
    pub fn spelling(&self) -> (u8, &str) {
        match self {
            PathPattern::Exact(path) => (0, path),
            PathPattern::Prefix(path) => (1, path),
            PathPattern::Regex(regex) => (2, regex.as_str()),
        }
    }
}

/// The client's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS, here or at a trusted proxy.
    Https,
}

/// The action of a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Forwards to `Config::upstreams[i]`.
    Upstream(usize),
    /// Hands the request to the ledger's callbacks.
    Ledger,
    /// Answers with a redirect.
    Redirect {
        /// The target: literal text and the variables between.
        to: Vec<Piece>,
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
    },
    /// Answers with a canned answer.
    Respond {
        /// The final status: 200 to 599.
        status: StatusCode,
        /// The body; empty for a status without one.
        body: Bytes,
        /// Headers of the answer; hop-by-hop ones and content-length are refused.
        headers: Vec<(HeaderName, HeaderValue)>,
    },
}

/// A part of `redirect.to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Text(String),
    /// `{scheme}`
    Scheme,
    /// `{host}`, without a port
    Host,
    /// `{path}`
    Path,
    /// `{query}`, with its `?`; empty without a query
    Query,
}
