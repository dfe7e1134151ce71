//! What is known of one request: each stage writes its part once, later stages read it.
//!
//! It pins the snapshot, so a request sees one configuration from its head to its last byte. Whatever must be given
//! back (a server's in-flight count, a timer) is given back by dropping: a panic in a stage leaks nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Uri};
use pingora::http::RequestHeader;

use super::ahead::BodyRoom;
use super::assign::Assigned;
use super::compress::Compression;
use super::deadline::Deadline;
use super::limit::Limited;
use super::observe;
use super::watch::{ClientWatch, RefusedRequest};
use crate::problem::Reason;
use crate::runtime::snapshot::{Server, Snapshot, Upstream};
use balance::adaptive::Permit;
use balance::attempt::AttemptFailure;
use balance::{Lease, Member, Tried};
use base::clock;
use base::units::Nanos;
use config::model::Scheme;

/// State of a request.
pub struct Ctx {
    /// Its connection, or its stream; by `identify`.
    pub watch: Option<Arc<ClientWatch>>,
    /// The configuration that serves it.
    pub snapshot: Arc<Snapshot>,
    /// When its head was read.
    pub started: Nanos,
    /// What was asked, where its session is gone once the request is cut off: of an HTTP/2 stream; by `identify`.
    pub asked: Option<Box<LoggedRequest>>,
    /// Who asks; by `identify`.
    pub client: IpAddr,
    /// Whether the peer is one of `trusted.proxies`; by `identify`.
    pub peer_trusted: bool,
    /// How the client came; by `identify`.
    pub scheme: Scheme,
    /// `x-request-id`; by `identify`.
    pub request_id: HeaderValue,
    /// The path as routed, where it is not the path as sent; by `route`.
    pub path: Option<Box<str>>,
    /// Number of the route; by `route`.
    pub route: Option<usize>,
    /// Number of the app that asks; by `authenticate`.
    pub app: Option<u32>,
    /// The user that a token names; by `authenticate`.
    pub user: Option<Box<str>>,
    /// What its limits said; by `limit`.
    pub limited: Option<Box<Limited>>,
    /// The version that the user is on, where the route has a release; by `assign`.
    pub assigned: Option<Assigned>,
    /// What was refused before it was a request; by `admit`.
    pub refused: Option<Box<RefusedRequest>>,
    /// Why the gateway answered by itself.
    pub rejected: Option<Reason>,
    /// The answer's body, where it is compressed.
    pub compression: Option<Box<Compression>>,
    /// Room for the request's body; by `ahead`.
    pub room: Option<BodyRoom>,
    /// The attempts; by `balance` and `forward`.
    pub attempts: Attempts,
    /// Booked by `observe`; else it is booked when it is dropped.
    pub booked: bool,
}

/// What a request asked, for its line in the log.
pub struct LoggedRequest {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// `host`, which stands in where the target has none, and `user-agent`.
    pub headers: [Option<HeaderValue>; 2],
}

impl LoggedRequest {
    /// What a head asks.
    pub fn of(head: &RequestHeader) -> LoggedRequest {
        let headers = [HOST, USER_AGENT].map(|name| head.headers.get(name).cloned());
        LoggedRequest { method: head.method.clone(), uri: head.uri.clone(), headers }
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if !self.booked {
            observe::cut_off(self);
        }
    }
}

/// State of a request's attempts at servers.
pub struct Attempts {
    /// Number of the upstream in the snapshot.
    pub upstream: usize,
    /// Attempts at this upstream so far, this one included.
    pub count: u32,
    /// Attempts at the canary, before stable took over.
    pub earlier: u32,
    /// When this upstream got the request.
    pub began: Nanos,
    /// Of them, those on a pooled connection that turned out dead: they cost nothing.
    pub free: u32,
    /// Servers tried.
    pub tried: Tried,
    /// The server of this attempt; counts as in flight while held.
    pub lease: Option<Lease<Server>>,
    /// Its place under the upstream's adaptive limit, until its answer's head.
    pub permit: Option<Permit>,
    /// The server of the attempt before, for the log.
    pub last: Option<Arc<Member<Server>>>,
    /// When this attempt began.
    pub started: Nanos,
    /// From this attempt's start to its answer's head.
    pub head_after: Option<Duration>,
    /// Status of this attempt's head, as the server sent it.
    pub status: u16,
    /// Whether its answer may pause for as long as it likes: a tunnel, or events as they come.
    pub has_pauses: bool,
    /// Whether this attempt's connection has served a request before.
    pub reused: bool,
    /// Ends this attempt when it is late.
    pub deadline: Option<Deadline>,
    /// How the last attempt ended that brought no answer; decides between 502 and 504.
    pub end: Option<AttemptEnd>,
    /// Bytes of the request body seen in this attempt.
    pub body_bytes: u64,
    /// Its body still comes, at the client's pace; by `ahead`, until it is whole.
    pub uploading: bool,
}

/// How an attempt ended that brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It failed. `Status` is a status in `retry.on` or `rescue.on`; `Timeout` is `first_byte`, `read`, `write` or `total`.
    Failed(AttemptFailure),
    /// No connection in time.
    ConnectTimeout,
    /// A pooled connection had been closed by the server.
    Pooled,
    /// The client left.
    Canceled,
    /// The server said neither `100 Continue` nor anything else, and the client sent no body.
    Unsaid,
    /// A tunnel, or a stream of events, in which nobody said anything for `read`.
    Idle,
}

impl AttemptEnd {
    /// The failure that it is, whoever is to blame; none where nothing failed.
    pub fn failure(self) -> Option<AttemptFailure> {
        match self {
            AttemptEnd::Failed(failure) => Some(failure),
            AttemptEnd::ConnectTimeout => Some(AttemptFailure::Connect),
            AttemptEnd::Pooled => Some(AttemptFailure::Reset),
            AttemptEnd::Unsaid => Some(AttemptFailure::Timeout),
            AttemptEnd::Canceled | AttemptEnd::Idle => None,
        }
    }

    /// Whether it speaks against the server. A status was booked when its head arrived.
    pub fn blames_server(self) -> bool {
        match self {
            AttemptEnd::Failed(failure) => failure != AttemptFailure::Status,
            AttemptEnd::ConnectTimeout => true,
            AttemptEnd::Pooled | AttemptEnd::Canceled | AttemptEnd::Unsaid | AttemptEnd::Idle => false,
        }
    }

    /// The access log's `error`.
    pub fn label(self) -> &'static str {
        match self {
            AttemptEnd::Failed(AttemptFailure::Connect) => "upstream_connect",
            AttemptEnd::ConnectTimeout => "upstream_connect_timeout",
            AttemptEnd::Failed(AttemptFailure::Reset) | AttemptEnd::Pooled => "upstream_reset",
            AttemptEnd::Failed(AttemptFailure::Timeout) | AttemptEnd::Unsaid => "upstream_timeout",
            AttemptEnd::Failed(AttemptFailure::Status) => "upstream_status",
            AttemptEnd::Canceled => "client_left",
            AttemptEnd::Idle => "idle",
        }
    }
}

impl Ctx {
    /// The state of a request whose head was just read.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        let now = clock::now();
        Self {
            watch: None,
            snapshot,
            started: now,
            client: IpAddr::from([0, 0, 0, 0]),
            peer_trusted: false,
            scheme: Scheme::Http,
            request_id: HeaderValue::from_static(""),
            asked: None,
            path: None,
            route: None,
            app: None,
            user: None,
            limited: None,
            assigned: None,
            refused: None,
            rejected: None,
            compression: None,
            room: None,
            attempts: Attempts {
                upstream: usize::MAX,
                count: 0,
                earlier: 0,
                began: now,
                free: 0,
                tried: Tried::default(),
                lease: None,
                permit: None,
                last: None,
                started: now,
                head_after: None,
                status: 0,
                has_pauses: false,
                reused: false,
                deadline: None,
                end: None,
                body_bytes: 0,
                uploading: false,
            },
            booked: false,
        }
    }

    /// The upstream of the request's route; `None` before `route`, and for routes that answer by themselves.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.snapshot.upstreams.get(self.attempts.upstream)
    }
}
