//! The way of a request: listen → identify → admit → route → authenticate → limit → assign → balance → forward →
//! observe.
//!
//! This file is the table of contents; all decisions are in the stages. A request takes one of two ways: the [`lane`],
//! in a straight line, or Pingora's, whose hooks call the same stages, for what the lane does not speak. Stages see both
//! as an [`exchange`].
//!
//! | hook | stage | what it settles |
//! |---|---|---|
//! | (accept) | [`listen`] | PROXY header, TLS, protocol; how long the client may take ([`watch`]) |
//! | (read) | [`connection`] | where messages end ([`framing`]); that their bytes have one reading ([`http_guard`]) |
//! | `new_ctx` | [`ctx`] | the one snapshot that serves this request |
//! | `request_filter` | [`identify`] | client, scheme, host, request id |
//! | | [`gate`] | the verdict on the bytes of a head, or on an HTTP/2 head: 400 and related statuses; 421 |
//! | | [`route`] | the route, or 404; whether the client may use it, or 403; its canned answer ([`answer`]) |
//! | | [`authenticate`] | the calling app and user, or 401 and 403 |
//! | | [`limit`] | whether the limits of route and app have room, or 429 |
//! | | [`assign`] | the version that the user is on |
//! | `proxy_upstream_filter` | [`ahead`] | room for the body, or 503; a short one is read before it takes a place |
//! | | [`balance`] | a place under the upstream's limit and the first attempt's server, or 503 |
//! | `upstream_peer` | [`balance`] | the same for a further attempt |
//! | `connected_to_upstream` | [`forward`] | the attempt's own deadlines ([`deadline`]) |
//! | `upstream_request_filter` | [`rewrite`] | headers and path for the server |
//! | `request_body_filter` | [`body`] | the length of the body, or 413 |
//! | `upstream_response_filter` | [`forward`] | whether a listed status sends the request to another server |
//! | `fail_to_connect`, `error_while_proxy` | [`forward`] | whether to try again, or elsewhere ([`rescue`]) |
//! | `response_filter` | [`rewrite`] | headers for the client; whether the body is compressed ([`compress`]) |
//! | `fail_to_proxy` | [`reject`] | which of 502, 503 and 504 |
//! | `logging` | [`observe`] | outcome, metrics and log line, once |
//!
//! [`connection`]: downstream::connection
//! [`framing`]: downstream::framing
//! [`listen`]: downstream::listen
//! [`watch`]: downstream::watch
//! [`deadline`]: upstream::deadline

pub mod ahead;
pub mod answer;
pub mod assign;
pub mod authenticate;
pub mod balance;
pub mod body;
pub mod compress;
pub mod ctx;
pub mod downstream;
pub mod exchange;
pub mod forward;
pub mod gate;
pub mod identify;
pub mod lane;
pub mod limit;
pub mod observe;
pub mod reject;
pub mod rescue;
pub mod rewrite;
pub mod route;
pub mod transport;
pub mod upstream;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use self::ctx::Ctx;
use self::exchange::Exchange;
use self::gate::admit;
use self::route::Found;
use self::upstream::deadline::link::Link;
use crate::memory::Account;
use crate::problem::Reason;
use crate::runtime::snapshot::Snapshot;
use crate::telemetry::Registry;
use crate::telemetry::access_log::AccessLog;
use client_auth::nonce::Nonces;

/// The state that all requests share: the current snapshot, counters and logs.
#[derive(Clone)]
pub struct Gateway {
    /// The configuration for new requests.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Counters.
    pub registry: Arc<Registry>,
    /// The access log.
    pub access_log: Arc<AccessLog>,
    /// Nonces of accepted signatures, kept for as long as those could be replayed.
    pub nonces: Arc<Nonces>,
    /// The account of the memory that requests hold.
    pub memory: Arc<Account>,
    /// True once the process drains: answers then close their connections.
    pub draining: Arc<AtomicBool>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed, because Pingora moves it from future to future.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx::new(self.snapshot.load_full()))
    }

    /// None: Pingora's compression module has a cost for each request and is not used.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        rewrite::join_cookies(session.req_header_mut())?;
        rewrite::spare_informational(session);
        self.is_answered(session, ctx, None).await
    }

    /// Refuses a request here if no server can take it. After an error in a later hook Pingora closes the client's
    /// connection, and reconnecting clients would add to an overload.
    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<bool> {
        self.has_server(session, ctx).await
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Ctx>) -> Result<Box<HttpPeer>> {
        let left = forward::next(session, ctx)?;
        forward::peer(session.has_body(), ctx, left)
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
        let without = || Error::explain(ErrorType::InternalError, "a connection without limits");
        let own = ctx.upstream().is_some_and(|upstream| upstream.is_plain());
        forward::connected(session, ctx, (reused, own), Link::of(digest).ok_or_else(without)?);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        rewrite::request(session.req_header(), upstream_request, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        body::request_part(session, body.as_ref().map(Bytes::len), end_of_stream, ctx)?;
        // An empty last part would end a chunked request twice and leave the second end on the pooled connection.
        if end_of_stream && body.as_ref().is_some_and(|part| part.is_empty()) {
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
        let bodiless = forward::head_arrived(session, ctx, upstream_response)?;
        body::answer_moves(session, bodiless);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<Ctx>,
    ) -> Result<()> {
        answer::to_client(self, session, head, ctx)?;
        if session.req_header().version == Version::HTTP_10 && !head.status.is_informational() {
            // Boxed, so that other futures do not reserve room for it.
            return Box::pin(rewrite::frame_for_http10(session, head)).await;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<std::time::Duration>> {
        body::response_part(body, end_of_stream, ctx).map(|()| None)
    }

    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<Bytes>> {
        body::response_trailers(session, trailers, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Ctx>,
    ) -> Result<Option<std::time::Duration>> {
        body::answer_moves(session, end_of_stream);
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
        FailToProxy { error_code: reject::failed(session, ctx, e).await, can_reuse_downstream: false }
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
    /// The stages before a server is chosen, on either way. True if the request is answered.
    ///
    /// A way that has `found` the route already has identified the client too.
    pub async fn is_answered(&self, exchange: &mut impl Exchange, ctx: &mut Ctx, found: Option<Found>) -> Result<bool> {
        // While the process drains, the answer to this request is the last one on its connection.
        if self.draining.load(Ordering::Relaxed) {
            exchange.ends_connection();
        }
        identify::obey_connection(exchange);
        identify::begins(exchange, ctx);
        if found.is_none() {
            identify::who(exchange.asked(), exchange.peer(), ctx);
        }
        if let Some(reason) = admit(exchange, ctx) {
            return reject::answer(exchange, ctx, reason, true).await.map(|()| true);
        }
        if answer::is_asked_of_us(exchange) {
            return Box::pin(answer::of_us(exchange, ctx)).await.map(|()| true);
        }
        let found = found.unwrap_or_else(|| route::find(exchange.asked(), ctx));
        let Some(route) = route::take(ctx, found) else {
            return reject::answer(exchange, ctx, Reason::NoRoute, false).await.map(|()| true);
        };
        if let Some(reason) = route::refusal(exchange, ctx, route) {
            return reject::answer(exchange, ctx, reason, reason == Reason::BodyTooLarge).await.map(|()| true);
        }
        body::watch(exchange, ctx);
        if authenticate::authenticate(exchange, ctx, route, (&self.nonces, &self.memory)).await? {
            return Ok(true);
        }
        if let Some(reason) = limit::limit(exchange, ctx, route) {
            return reject::answer(exchange, ctx, reason, false).await.map(|()| true);
        }
        if answer::from_route(exchange, ctx, route).await? {
            return Ok(true);
        }
        assign::assign(exchange, ctx, route);
        rewrite::identified(exchange, ctx)?;
        Ok(false)
    }

    /// Prepares the body and picks the first attempt's server, on either way. False if the request is refused.
    pub async fn has_server(&self, exchange: &mut impl Exchange, ctx: &mut Ctx) -> Result<bool> {
        let ready = match exchange.has_body() {
            // Boxed, so that a request without a body does not move this future.
            true => Box::pin(ahead::prepare(exchange, ctx, &self.memory)).await?,
            false => Ok(()),
        };
        let Err(reason) = ready.and_then(|()| forward::pick(exchange, ctx)) else { return Ok(true) };
        let close = !exchange.is_body_read();
        let reason = forward::told(ctx, reason);
        reject::answer(exchange, ctx, reason, close).await?;
        Ok(false)
    }
}
