//! The stage `body`: parts of bodies as they pass in both directions.
//!
//! A request's body may have `body_max` bytes (413) and needs room (503). Parts of an answer are compressed if
//! [`compress`](super::compress) has begun to. The connection's [watch](super::downstream::watch) learns what moves.

use bytes::Bytes;
use http::HeaderMap;
use pingora::{Error, ErrorType, Result};

use super::ctx::Ctx;
use super::exchange::Exchange;
use super::{ahead, forward, rescue};
use crate::problem::Reason;
use base::clock;

/// Starts to wait for the body of an HTTP/2 request; for HTTP/1.1 the connection does so. The two sides of a gRPC call
/// have their own deadlines.
pub fn watch(exchange: &mut impl Exchange, ctx: &Ctx) {
    if !exchange.peer().http2 || ahead::talks(exchange, ctx) || !exchange.has_body() {
        return;
    }
    exchange.peer().watch.begins_upload(clock::now);
}

/// Handles a part of the request's body on its way to the server.
pub fn request_part(exchange: &impl Exchange, part: Option<usize>, ends: bool, ctx: &mut Ctx) -> Result<()> {
    match ends {
        true => forward::request_sent(ctx),
        false => forward::part_sent(ctx),
    }
    let Some(part) = part else { return Ok(()) };
    let peer = exchange.peer();
    if peer.http2 {
        peer.watch.moves();
        peer.watch.sends_on();
    }
    ctx.attempts.body_bytes += part as u64;
    // A tunnel has no body, however many bytes pass.
    let route = ctx.route.filter(|_| ctx.attempts.status != 101);
    if route.is_some_and(|route| ctx.snapshot.route(route).0.filters.body_limit.is_exceeded_by(ctx.attempts.body_bytes))
    {
        ctx.rejected = Some(Reason::BodyTooLarge);
        return Err(Error::explain(ErrorType::HTTPStatus(413), "body_max").into_down());
    }
    if ctx.room.as_mut().is_some_and(|room| !room.has(ctx.attempts.body_bytes)) {
        ctx.rejected = Some(Reason::Overloaded);
        return Err(Error::explain(ErrorType::HTTPStatus(503), "no room for the body").into_down());
    }
    Ok(())
}

/// Handles a part of the answer's body on its way to the client.
pub fn response_part(body: &mut Option<Bytes>, end_of_stream: bool, ctx: &mut Ctx) -> Result<()> {
    let Some(compression) = &mut ctx.compression else { return Ok(()) };
    compression.part(body, end_of_stream)?;
    if compression.ended() {
        ctx.compression = None;
    }
    Ok(())
}

/// Handles the answer's trailers. They take the place of the body's last part, so what compression still holds goes
/// first.
pub fn response_trailers(exchange: &mut impl Exchange, trailers: &HeaderMap, ctx: &mut Ctx) -> Result<Option<Bytes>> {
    rescue::ended_as_grpc(ctx, trailers);
    answer_moves(exchange, true);
    let mut rest = None;
    if let Some(compression) = &mut ctx.compression {
        compression.part(&mut rest, true)?;
    }
    Ok(rest)
}

/// Notes a part of the answer to an HTTP/2 stream. After the last part the client has nothing to wait for, so it owes
/// the rest of its request, even in a gRPC call.
pub fn answer_moves(exchange: &mut impl Exchange, ends: bool) {
    if !exchange.peer().http2 {
        return;
    }
    let over = !ends || exchange.is_body_read();
    let watch = &exchange.peer().watch;
    watch.moves();
    if ends {
        watch.has_answer();
    }
    if !over {
        watch.awaits_upload(clock::now);
    }
}
