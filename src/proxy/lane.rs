//! The lane: a request of HTTP/1.1 to servers of HTTP/1.1, in a straight line.
//!
//! Nearly all traffic takes it. The connection has the judged head as bytes with offsets and the idle pool has open
//! connections, so what is left between the stages is to write a head, to read one, and to move two bodies:
//!
//! | module | is |
//! |---|---|
//! | [`request`] | the request as the stages see it; what the client is sent |
//! | [`attempt`] | its attempts: a connection, and what follows when one fails |
//! | [`transfer`] | both directions of an attempt, in one poll |
//! | [`answer`] | the head of a server's answer, and where its body ends |
//! | [`wire`] | heads as bytes |
//! | [`workspace`] | buffers, kept for the next request |
//!
//! What the lane does not speak goes Pingora's way, from the same first line: HTTP/1.0, upgrades, HTTP/2 on either
//! side, TLS to servers, and what admission refuses. The environment variable `TOLLGATE_WAY=pingora` sends everything
//! that way, and `TOLLGATE_SHOW_WAY=1` says in `x-tollgate-way` which one an answer took: both are for tests.

mod answer;
mod attempt;
mod request;
mod transfer;
mod wire;
mod workspace;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};
use pingora::Result;
use tokio::io::AsyncWrite;

use self::request::Request;
use super::ctx::Ctx;
use super::downstream::connection::Connection;
use super::exchange::Exchange;
use super::route::{self, Found};
use super::{Gateway, identify, observe, reject};

/// Says which way an answer took, where that is asked for.
pub const X_TOLLGATE_WAY: HeaderName = HeaderName::from_static("x-tollgate-way");

static IS_ON: LazyLock<bool> = LazyLock::new(|| std::env::var_os("TOLLGATE_WAY").is_none_or(|way| way != "pingora"));
static SHOWS_WAY: LazyLock<bool> = LazyLock::new(|| std::env::var_os("TOLLGATE_SHOW_WAY").is_some());

/// The header that names a way, where that is asked for.
pub fn shown(way: &'static str) -> Option<(HeaderName, HeaderValue)> {
    SHOWS_WAY.then(|| (X_TOLLGATE_WAY, HeaderValue::from_static(way)))
}

/// A request that the lane takes.
pub struct Taken {
    request: Box<Request>,
    ctx: Box<Ctx>,
    found: Found,
}

/// Takes the request whose head the connection has, unless Pingora's way must. Nothing has happened to it then.
pub fn take(gateway: &Gateway, mut client: Box<Connection>) -> std::result::Result<Taken, Box<Connection>> {
    let watch = &client.peer().watch;
    let verdict = watch.verdict();
    if !*IS_ON || verdict.http10 || verdict.upgrade || watch.refused().is_some() {
        return Err(client);
    }
    let (asked, bytes) = client.take_head();
    let mut ctx = Box::new(Ctx::new(gateway.snapshot.load_full()));
    let taken = asked.ok().and_then(|asked| {
        identify::who(&asked, client.peer(), &mut ctx);
        let found = route::find(&asked, &ctx);
        found.route.is_none_or(|route| ctx.snapshot.is_plain(route)).then_some((asked, found))
    });
    match taken {
        Some((asked, found)) => Ok(Taken { request: Box::new(Request::new(client, asked)), ctx, found }),
        None => {
            ctx.booked = true;
            client.give_back(&bytes);
            Err(client)
        }
    }
}

impl Taken {
    /// Serves the request; the connection, if its client may send another one.
    pub async fn serve(self, gateway: &Gateway) -> Option<Box<Connection>> {
        let Taken { mut request, mut ctx, found } = self;
        let served = serve(gateway, &mut request, &mut ctx, found).await;
        if let Err(e) = &served {
            request.ends_connection();
            Box::pin(reject::failed(&mut *request, &mut ctx, e)).await;
            // What came before the error is the client's; it may be gone.
            let _ = poll_fn(|cx| request.poll_send(cx, &mut &[][..])).await;
        }
        observe::finished(gateway, &*request, served.err().as_deref(), &mut ctx);
        let goes_on = request.goes_on && request.client.is_body_read();
        let mut client = request.client;
        if goes_on {
            return Some(client);
        }
        // The client may be gone.
        let _ = poll_fn(|cx| Pin::new(&mut *client).poll_shutdown(cx)).await;
        None
    }
}

async fn serve(gateway: &Gateway, request: &mut Request, ctx: &mut Ctx, found: Found) -> Result<()> {
    let goes_on = !gateway.is_answered(request, ctx, Some(found)).await? && gateway.has_server(request, ctx).await?;
    if goes_on { attempt::attempts(gateway, request, ctx).await } else { Ok(()) }
}
