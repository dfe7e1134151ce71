//! The way of a request: listen → admit → route → identify → limit → assign → balance → forward → observe.
//!
//! Each of Pingora's hooks calls one stage; this file is the table of contents, and nothing else decides here.
//!
//! | hook | stage | what it settles |
//! |---|---|---|
//! | (accept) | [`listen`] | the [`connection`]: address, buffers, how long it may be [`idle`] |
//! | `new_ctx` | [`ctx`] | the one snapshot that serves this request |
//! | `request_filter` | [`identify`] | client, scheme, host, request id |
//! | | [`route`] | the route, or 404; who may use it, or 403; what it answers by itself ([`answer`]) |
//! | | [`assign`] | the version that the user is on |
//! | `upstream_peer` | [`balance`] | the server of this attempt, or 503 |
//! | `connected_to_upstream` | [`forward`] | the attempt's own deadlines ([`deadline`]) |
//! | `upstream_request_filter` | [`rewrite`] | headers and path towards the server |
//! | `request_body_filter` | here | the length of the body, or 413 |
//! | `upstream_response_filter` | [`forward`] | a listed status goes to another server |
//! | `fail_to_connect`, `error_while_proxy` | [`forward`] | whether to try again, or elsewhere ([`rescue`]) |
//! | `response_filter` | [`rewrite`] | headers towards the client |
//! | `fail_to_proxy` | [`reject`] | 502, 503 or 504, told apart |
//! | `logging` | [`observe`] | outcome, metrics and log line, once |
//!
//! Not here yet: strict admission and limits (the front door).

pub mod answer;
pub mod assign;
pub mod balance;
pub mod connection;
pub mod ctx;
pub mod deadline;
pub mod dial;
pub mod forward;
pub mod identify;
pub mod idle;
pub mod kept;
pub mod listen;
pub mod observe;
pub mod reject;
pub mod rescue;
pub mod rewrite;
pub mod route;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use self::connection::Peer;
use self::ctx::Ctx;
use self::reject::Reason;
use crate::config::model::{Action, Scheme};
use crate::config::snapshot::ledger::is_callback;
use crate::config::snapshot::{Snapshot, holds};
use crate::path::normalise_path;
use crate::pool::NoMember;
use crate::telemetry::Registry;
use crate::telemetry::access_log::AccessLog;

/// What every request needs: the current snapshot, and where to tell.
pub struct Gateway {
    /// The configuration that new requests take.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where is counted.
    pub registry: Arc<Registry>,
    /// Where is logged.
    pub access_log: Arc<AccessLog>,
    /// True from the moment the process wants to end: answers then close their connections.
    pub draining: Arc<AtomicBool>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// In a box, as Pingora moves it from future to future.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx::new(self.snapshot.load_full()))
    }

    /// None: Pingora's compression module would cost each request something and nobody asked for it.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        self.end_when_draining(session);
        identify(session, ctx);
        let refusal = match route(session, ctx) {
            None => Some(Reason::NoRoute),
            Some(route) => refusal(session, ctx, route),
        };
        if let Some(reason) = refusal {
            reject::answer(session, ctx, reason, reason == Reason::BodyTooLarge).await?;
            return Ok(true);
        }
        if let Some(route) = ctx.route
            && answer::from_route(session, ctx, route).await?
        {
            return Ok(true);
        }
        if let Some(route) = ctx.route {
            assign::assign(session, ctx, route);
        }
        rewrite::identified(session, ctx)?;
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<Box<HttpPeer>> {
        let left = forward::time_left(ctx)?;
        if let Err(none) = forward::pick(session, ctx) {
            ctx.rejected = Some(match none {
                NoMember::Empty => Reason::NoServer,
                NoMember::Saturated => Reason::Saturated,
            });
            return Error::e_explain(ErrorType::HTTPStatus(503), none.to_string());
        }
        forward::peer(session, ctx, left)
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        forward::connected(session, ctx, reused, digest)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        rewrite::request(session, upstream_request, ctx)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        if end_of_stream {
            forward::request_sent(ctx);
        }
        let Some(part) = body else { return Ok(()) };
        ctx.tries.body_bytes += part.len() as u64;
        let max = ctx.route.and_then(|route| ctx.snapshot.route(route).0.body_max);
        if max.is_some_and(|max| ctx.tries.body_bytes > max) {
            ctx.rejected = Some(Reason::BodyTooLarge);
            return Err(Error::explain(ErrorType::HTTPStatus(413), "body_max").into_down());
        }
        // An empty last part would end a chunked request twice and leave the second end on the pooled connection.
        if end_of_stream && part.is_empty() {
            *body = None;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        upstream_response: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        forward::head_arrived(session, ctx, upstream_response)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        // A request that was in flight when draining began had been promised a connection that goes on.
        if self.draining.load(Ordering::Relaxed) && !head.status.is_informational() {
            session.set_keepalive(None);
        }
        rewrite::response(head, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<std::time::Duration>> {
        forward::body_part_arrived(ctx, end_of_stream).map(|()| None)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<Ctx>,
        e: Box<Error>,
    ) -> Box<Error> {
        forward::connect_failed(session, ctx, e)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Box<Ctx>,
        _client_reused: bool,
    ) -> Box<Error> {
        forward::attempt_failed(session, ctx, e)
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Box<Ctx>) -> FailToProxy {
        let gone = *e.esource() == ErrorSource::Downstream
            && matches!(e.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed);
        let begun = session.response_written().is_some_and(|head| !head.status.is_informational());
        if gone || begun {
            session.set_keepalive(None);
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        let reason = forward::reason(ctx, e);
        if let Err(e) = reject::answer(session, ctx, reason, true).await {
            log::debug!("an error answer did not reach its client: {e}");
        }
        FailToProxy { error_code: reason.status(), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Box<Ctx>) {
        observe::finished(self, session, e, ctx);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Ctx>, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Box<Ctx>, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}

impl Gateway {
    /// The answer to this request is the last one on its connection when the process wants to end.
    fn end_when_draining(&self, session: &mut Session) {
        if self.draining.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        }
    }
}

fn identify(session: &Session, ctx: &mut Ctx) {
    let peer = Peer::of(session);
    peer.idle.busy();
    let peer = peer.address;
    let headers = &session.req_header().headers;
    ctx.request_id = identify::request_id(headers);
    ctx.peer_trusted = ctx.snapshot.trusts(peer);
    ctx.client = if ctx.peer_trusted { identify::client(&ctx.snapshot, headers, peer) } else { peer };
    if ctx.peer_trusted {
        ctx.scheme = identify::forwarded_scheme(headers).unwrap_or(Scheme::Http);
    }
}

/// Finds the route and, where it forwards, its upstream.
fn route(session: &Session, ctx: &mut Ctx) -> Option<usize> {
    let head = session.req_header();
    let host = identify::host(identify::authority(&head.uri, &head.headers));
    let path = normalise_path(head.uri.path());
    let found = ctx.snapshot.router.find(&route::Request {
        host: &host,
        path: &path,
        method: &head.method,
        headers: &head.headers,
        scheme: ctx.scheme,
    });
    if let std::borrow::Cow::Owned(path) = path {
        ctx.path = Some(path.into());
    }
    ctx.route = found;
    if let Some(upstream) = ctx.snapshot.forwards_to(found?) {
        ctx.tries.upstream = upstream;
    }
    found
}

/// Why the route may not serve this request.
fn refusal(session: &Session, ctx: &Ctx, route: usize) -> Option<Reason> {
    let route = ctx.snapshot.route(route).0;
    let kept_out = holds(&route.deny, ctx.client) || (!route.allow.is_empty() && !holds(&route.allow, ctx.client));
    if kept_out {
        return Some(Reason::Forbidden);
    }
    if route.action == Action::Ledger && !is_callback(&rewrite::path(session.req_header(), ctx, route)) {
        return Some(Reason::NotACallback);
    }
    let length = || session.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok();
    let too_long = route.body_max.is_some_and(|max| length().is_some_and(|length| length > max));
    too_long.then_some(Reason::BodyTooLarge)
}
