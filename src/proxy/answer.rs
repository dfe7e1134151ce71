//! Answers: a route's redirects and canned responses and the gateway's own to `OPTIONS *`, which ask no server, and what
//! is done to the head of every server's answer.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{StatusCode, Uri, header};
use pingora::Result;
use pingora::http::ResponseHeader;

use super::ctx::Ctx;
use super::exchange::Exchange;
use super::{Gateway, compress, lane, reject, rewrite};
use base::said;
use config::model::{Action, Piece, Scheme};

/// Whether a request asks for the options of the gateway itself (RFC 9110, section 9.3.7). Admission allows `*` for no
/// other method.
pub fn is_asked_of_us(exchange: &impl Exchange) -> bool {
    exchange.asked().uri.path() == "*"
}

/// Answers with the gateway's options: no single server could speak for all of them.
pub async fn of_us(exchange: &mut impl Exchange, ctx: &Ctx) -> Result<()> {
    let mut head = ResponseHeader::build(StatusCode::NO_CONTENT, Some(3))?;
    head.insert_header(header::ALLOW, reject::PROXIED)?;
    reject::respond(exchange, ctx, head, Bytes::new(), false).await
}

/// Sends the route's own answer if it has one; says whether it did.
pub async fn from_route(exchange: &mut impl Exchange, ctx: &Ctx, route: usize) -> Result<bool> {
    let (mut head, body) = match &ctx.snapshot.route(route).0.action {
        Action::Upstream(_) | Action::Ledger => return Ok(false),
        Action::Redirect { to, status } => (redirect(exchange, ctx, to, *status)?, Bytes::new()),
        Action::Respond { status, body, headers } => {
            let mut head = ResponseHeader::build(*status, Some(headers.len() + 2))?;
            for (name, value) in headers {
                head.append_header(name.clone(), value.clone())?;
            }
            (head, body.clone())
        }
    };
    rewrite::response(&mut head, ctx)?;
    // Boxed, so that a request that a server answers does not carry it.
    Box::pin(reject::respond(exchange, ctx, head, body, false)).await.map(|()| true)
}

fn redirect(exchange: &impl Exchange, ctx: &Ctx, to: &[Piece], status: StatusCode) -> Result<ResponseHeader> {
    let sent = exchange.asked();
    let mut head = ResponseHeader::build(status, Some(3))?;
    let host = said::host(said::authority(&sent.uri, &sent.headers));
    let path = ctx.path.as_deref().unwrap_or(sent.uri.path());
    head.insert_header(header::LOCATION, location(to, ctx.scheme, &host, path, &sent.uri))?;
    Ok(head)
}

/// Fills in the template of a redirect.
pub fn location(to: &[Piece], scheme: Scheme, host: &str, path: &str, uri: &Uri) -> String {
    let mut location = String::new();
    for piece in to {
        match piece {
            Piece::Text(text) => location.push_str(text),
            Piece::Scheme if scheme == Scheme::Https => location.push_str("https"),
            Piece::Scheme => location.push_str("http"),
            Piece::Host => location.push_str(host),
            Piece::Path => location.push_str(path),
            Piece::Query => {
                if let Some(query) = uri.query() {
                    location.push('?');
                    location.push_str(query);
                }
            }
        }
    }
    location
}

/// Prepares the head of a server's answer for the client.
pub fn to_client<E: Exchange>(
    gateway: &Gateway,
    exchange: &mut E,
    head: &mut ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    // A request in flight when draining began was promised a persistent connection.
    if gateway.draining.load(Ordering::Relaxed) && !head.status.is_informational() {
        exchange.ends_connection();
    }
    let watch = &exchange.peer().watch;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        watch.becomes_tunnel();
    }
    rewrite::response(head, ctx)?;
    if let Some((name, way)) = lane::shown(E::WAY).filter(|_| !rewrite::informational(head.status)) {
        head.insert_header(name, way)?;
    }
    let compress = ctx.route.is_some_and(|route| ctx.snapshot.route(route).0.filters.compression.0);
    if compress && !head.status.is_informational() {
        let room = |bytes| gateway.memory.try_hold_encoder(ctx.client, bytes);
        ctx.compression = compress::begin(exchange.asked(), head, room)?;
    }
    Ok(())
}
