//! The lane: a request to servers of HTTP/1.1, in a straight line.
//!
//! Nearly all traffic takes it. The connection has the judged head as bytes with offsets and the idle pool has open
//! connections, so what is left between the stages is to write a head, to read one, and to move two bodies:
//!
//! | module | is |
//! |---|---|
//! | [`request`] | the request as the stages see it; what the client is sent |
//! | [`client`] | where it comes from: a connection of HTTP/1.1, or a [`stream`] of HTTP/2 |
//! | [`attempt`] | its attempts: a connection, and what follows when one fails |
//! | [`transfer`] | both directions of an attempt, in one poll |
//! | [`answer`] | the head of a server's answer, and where its body ends |
//! | [`wire`] | heads as bytes |
//! | [`workspace`] | buffers, kept for the next request |
//!
//! What the lane does not speak goes Pingora's way, from the same first line: HTTP/1.0, upgrades, HTTP/2 to
//! servers, and heads of HTTP/1.x that admission refuses. The environment variable `TOLLGATE_WAY=pingora` sends everything
//! that way, and `TOLLGATE_SHOW_WAY=1` says in `x-tollgate-way` which one an answer took: both are for tests.

pub mod answer;
pub mod attempt;
pub mod client;
pub mod request;
pub mod stream;
pub mod transfer;
pub mod wire;
pub mod workspace;

use std::future::poll_fn;
use std::sync::LazyLock;

use http::header::UPGRADE;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::{ErrorSource, Result};

use self::client::Client;
use self::request::Request;
use self::stream::Stream;
use super::ctx::Ctx;
use super::downstream::connection::{Connection, Peer};
use super::exchange::Exchange;
use super::route::{self, Found};
use super::{Gateway, identify, observe, reject, rewrite};

/// Says which way an answer took, where that is asked for.
const X_TOLLGATE_WAY: HeaderName = HeaderName::from_static("x-tollgate-way");

static IS_ON: LazyLock<bool> = LazyLock::new(|| std::env::var_os("TOLLGATE_WAY").is_none_or(|way| way != "pingora"));
static SHOWS_WAY: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("TOLLGATE_SHOW_WAY").is_some_and(|says| says == "1"));

/// The header that names a way, where that is asked for.
pub fn shown(way: &'static str) -> Option<(HeaderName, HeaderValue)> {
    SHOWS_WAY.then(|| (X_TOLLGATE_WAY, HeaderValue::from_static(way)))
}

/// A request that the lane takes.
pub struct Taken<C> {
    request: Box<Request<C>>,
    ctx: Box<Ctx>,
    found: Found,
}

/// Takes the request whose head the connection has, unless Pingora's way must. Nothing has happened to it then.
pub fn take(
    gateway: &Gateway,
    mut client: Box<Connection>,
) -> std::result::Result<Taken<Box<Connection>>, Box<Connection>> {
    let watch = &client.peer().watch;
    let verdict = watch.verdict();
    if !*IS_ON || verdict.http10 || verdict.upgrade || watch.refused().is_some() {
        return Err(client);
    }
    let (asked, bytes) = client.take_head();
    let chosen = asked.ok().and_then(|mut asked| {
        if verdict.other_upgrade {
            // Before a route is found by it.
            asked.remove_header(&UPGRADE);
        }
        choose(gateway, client.peer(), &asked).map(|chosen| (asked, chosen))
    });
    match chosen {
        Some((asked, (ctx, found))) => Ok(Taken { request: Box::new(Request::new(client, asked)), ctx, found }),
        None => {
            client.give_back(&bytes);
            Err(client)
        }
    }
}

/// Takes the request of a stream, unless Pingora's way must. Nothing has happened to it then.
pub fn take_stream(gateway: &Gateway, mut stream: Box<Stream>) -> std::result::Result<Taken<Box<Stream>>, Box<Stream>> {
    if !*IS_ON || rewrite::join_cookies(stream.session_mut().req_header_mut()).is_err() {
        return Err(stream);
    }
    match choose(gateway, stream.peer(), stream.session().req_header()) {
        Some((ctx, found)) => {
            let asked = std::mem::replace(stream.session_mut().req_header_mut(), rewrite::empty());
            Ok(Taken { request: Box::new(Request::new(stream, asked)), ctx, found })
        }
        None => Err(stream),
    }
}

/// The state and the route of a request, if the lane speaks with all servers that it may come to.
fn choose(gateway: &Gateway, peer: &Peer, asked: &RequestHeader) -> Option<(Box<Ctx>, Found)> {
    let mut ctx = Box::new(Ctx::new(gateway.snapshot.load_full()));
    identify::who(asked, peer, &mut ctx);
    let found = route::find(asked, &ctx);
    if found.route.is_none_or(|route| ctx.snapshot.is_http1(route)) {
        return Some((ctx, found));
    }
    // The other way has a state of its own.
    ctx.booked = true;
    None
}

impl<C: Client> Taken<C> {
    /// Serves the request; its client, and whether that may send another one.
    pub async fn serve(self, gateway: &Gateway) -> (C, bool) {
        let Taken { mut request, mut ctx, found } = self;
        let served = serve(gateway, &mut request, &mut ctx, found).await;
        if let Err(e) = &served {
            request.ends_connection();
            Box::pin(reject::failed(&mut *request, &mut ctx, e)).await;
            if *e.esource() != ErrorSource::Downstream {
                // What came before the error is the client's; it may be gone.
                let _ = poll_fn(|cx| request.poll_send(cx, &mut &[][..], false)).await;
            }
        }
        observe::finished(gateway, &*request, served.err().as_deref(), &mut ctx);
        let goes_on = request.goes_on && request.client.is_body_read();
        (request.client, goes_on)
    }
}

async fn serve<C: Client>(gateway: &Gateway, request: &mut Request<C>, ctx: &mut Ctx, found: Found) -> Result<()> {
    let goes_on = !gateway.is_answered(request, ctx, Some(found)).await? && gateway.has_server(request, ctx).await?;
    if goes_on { attempt::attempts(gateway, request, ctx).await } else { Ok(()) }
}
