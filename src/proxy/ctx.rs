//! What is known about one request: each stage writes its part once, later stages read it.
//!
//! It pins the snapshot, so a request sees one configuration from its head to its last byte. Everything that must be
//! given back (a server's in-flight count, a timer) is given back by dropping: a panic in a stage leaks nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Uri};
use pingora::http::RequestHeader;

use super::ahead::BodyRoom;
use super::assign::Assigned;
use super::compress::Compression;
use super::downstream::watch::{ClientWatch, RefusedRequest};
use super::limit::Limited;
use super::observe;
use super::upstream::deadline::Deadline;
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
    /// The watch of its connection or stream; by `identify`.
    pub watch: Option<Arc<ClientWatch>>,
    /// The configuration that serves it.
    pub snapshot: Arc<Snapshot>,
    /// When its head was read.
    pub started: Nanos,
    /// The request for the log, if it is an HTTP/2 stream, whose session is gone after a cut-off; by `identify`.
    pub asked: Option<Box<LoggedRequest>>,
    /// The client's address; by `identify`.
    pub client: IpAddr,
    /// Whether the peer is one of `trusted.proxies`; by `identify`.
    pub peer_trusted: bool,
    /// The scheme by which the client came; by `identify`.
    pub scheme: Scheme,
    /// `x-request-id`; by `identify`.
    pub request_id: HeaderValue,
    /// The path as routed, if it differs from the path as sent; by `route`.
    pub path: Option<Box<str>>,
    /// Number of the route; by `route`.
    pub route: Option<usize>,
    /// Number of the calling app; by `authenticate`.
    pub app: Option<u32>,
    /// The user that a token names; by `authenticate`.
    pub user: Option<Box<str>>,
    /// The result of its limits; by `limit`.
    pub limited: Option<Box<Limited>>,
    /// The version that the user is on, if the route has a release; by `assign`.
    pub assigned: Option<Assigned>,
    /// The request that admission refused; by `admit`.
    pub refused: Option<Box<RefusedRequest>>,
    /// Why the gateway itself answered.
    pub rejected: Option<Reason>,
    /// The compression of the answer's body, if it has one.
    pub compression: Option<Box<Compression>>,
    /// Memory held for the request's body; by `ahead`.
    pub room: Option<BodyRoom>,
    /// The attempts; by `balance` and `forward`.
    pub attempts: Attempts,
    /// Booked by `observe`; otherwise it is booked when dropped.
    pub booked: bool,
}

/// The parts of a request for its line in the log.
pub struct LoggedRequest {
    /// Its method.
    pub method: Method,
    /// Its target.
    pub uri: Uri,
    /// `host`, for a target without one, and `user-agent`.
    pub headers: [Option<HeaderValue>; 2],
}

impl LoggedRequest {
    /// The parts of this head.
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
    /// When this upstream received the request.
    pub began: Nanos,
    /// Those of `count` that met a dead pooled connection or were left unprocessed: they cost nothing.
    pub free: u32,
    /// Servers already tried.
    pub tried: Tried,
    /// The server of this attempt; counts as in flight while held.
    pub lease: Option<Lease<Server>>,
    /// Its place under the upstream's adaptive limit, until the head of its answer.
    pub permit: Option<Permit>,
    /// The server of the previous attempt, for the log.
    pub last: Option<Arc<Member<Server>>>,
    /// When this attempt began.
    pub started: Nanos,
    /// From this attempt's start to the head of its answer.
    pub head_after: Option<Duration>,
    /// Status of this attempt's head, as the server sent it.
    pub status: u16,
    /// Whether its answer may pause for any time: a tunnel, or server-sent events.
    pub has_pauses: bool,
    /// Whether this attempt's connection has served a request before.
    pub reused: bool,
    /// How long its server may be silent after the head of its answer, if the gateway itself watches it.
    pub read: Option<Duration>,
    /// Ends this attempt if it is late.
    pub deadline: Option<Deadline>,
    /// How the last attempt without an answer ended; decides between 502 and 504.
    pub end: Option<AttemptEnd>,
    /// Bytes of the request body seen in this attempt.
    pub body_bytes: u64,
    /// Its body still arrives, at the client's pace; by `ahead`, until it is complete.
    pub uploading: bool,
}

/// How an attempt without an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// A failure. `Status` is a status in `retry.on` or `rescue.on`; `Timeout` is `first_byte`, `read`, `write` or
    /// `total`.
    Failed(AttemptFailure),
    /// No connection in time.
    ConnectTimeout,
    /// A pooled connection had been closed by the server.
    Pooled,
    /// The client left.
    Canceled,
    /// The server sent neither `100 Continue` nor anything else, and the client sent no body.
    Unsaid,
    /// A tunnel, or a stream of events, in which neither side sent anything for `read`.
    Idle,
}

impl AttemptEnd {
    /// The failure that it is, whichever side is to blame; `None` if nothing failed.
    pub fn failure(self) -> Option<AttemptFailure> {
        match self {
            AttemptEnd::Failed(failure) => Some(failure),
            AttemptEnd::ConnectTimeout => Some(AttemptFailure::Connect),
            AttemptEnd::Pooled => Some(AttemptFailure::Reset),
            AttemptEnd::Unsaid => Some(AttemptFailure::Timeout),
            AttemptEnd::Canceled | AttemptEnd::Idle => None,
        }
    }

    /// Whether it counts against the server. A status was booked when its head arrived.
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
                read: None,
                deadline: None,
                end: None,
                body_bytes: 0,
                uploading: false,
            },
            booked: false,
        }
    }

    /// The upstream of the request's route; `None` before `route`, and for routes that answer without a server.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.snapshot.upstreams.get(self.attempts.upstream)
    }
}
