//! The attempts of a request at its servers: a connection, then both directions until both are done.

use std::future::poll_fn;
use std::time::Duration;

use pingora::{Error, ErrorType, Result};

use super::client::Client;
use super::request::{Body, Request};
use super::transfer::Transfer;
use super::wire::{self, Edits};
use crate::proxy::ctx::Ctx;
use crate::proxy::exchange::Exchange;
use crate::proxy::upstream::connector::{self, Destination, ServerConnection};
use crate::proxy::upstream::idle_pool;
use crate::proxy::{Gateway, forward, rewrite};

/// Sends the request until an attempt is answered, or none may follow.
pub async fn attempts<C: Client>(gateway: &Gateway, request: &mut Request<C>, ctx: &mut Ctx) -> Result<()> {
    loop {
        let left = forward::next(request, ctx)?;
        let connected = match idle(ctx) {
            Some(server) => Ok(server),
            None => Box::pin(connect(ctx, left)).await,
        };
        let e = match connected {
            Ok(server) => match attempt(gateway, request, ctx, server).await {
                Ok(()) => return Ok(()),
                Err(e) => forward::attempt_failed(request, ctx, e),
            },
            Err(e) => forward::connect_failed(request, ctx, e),
        };
        if !e.retry() {
            return Err(e);
        }
    }
}

fn idle(ctx: &Ctx) -> Option<Box<ServerConnection>> {
    let server = &ctx.attempts.lease.as_ref()?.attached;
    idle_pool::take(Destination::of(server.address, &server.peer))
}

async fn connect(ctx: &Ctx, left: Option<Duration>) -> Result<Box<ServerConnection>> {
    let lease = ctx.attempts.lease.as_ref().ok_or_else(|| Error::new(ErrorType::InternalError))?;
    let limit = ctx.upstream().and_then(|upstream| upstream.timeout.connect);
    let limit = [limit, left].into_iter().flatten().min();
    connector::open(&lease.attached.peer, limit).await.map(Box::new)
}

/// One attempt on this connection, which is kept or closed after it.
async fn attempt<C: Client>(
    gateway: &Gateway,
    request: &mut Request<C>,
    ctx: &mut Ctx,
    server: Box<ServerConnection>,
) -> Result<()> {
    forward::connected(request, ctx, (false, true), &server.link);
    // Once: the end of a body may arrive at any time.
    let body = request.body();
    head(request, ctx, body)?;
    let mut transfer = Transfer::new(gateway, request, ctx, server, body)?;
    poll_fn(|cx| transfer.poll(cx)).await?;
    if let Some(server) = transfer.reusable() {
        idle_pool::keep(server);
    }
    Ok(())
}

/// Puts the head for the server into its buffer.
fn head<C: Client>(request: &mut Request<C>, ctx: &Ctx, body: Body) -> Result<()> {
    let mut edits = Edits::default();
    let target = rewrite::edit(request.asked(), &mut edits, ctx)?;
    let mut out = std::mem::take(&mut request.workspace.to_server);
    out.clear();
    wire::request(&mut out.bytes, request.asked(), target.as_deref(), &edits, body == Body::Chunked);
    request.workspace.to_server = out;
    Ok(())
}
