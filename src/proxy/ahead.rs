//! The handling of a request's body before a server is chosen: room in memory, and reading ahead.
//!
//! Both ways keep the first 64 KiB of each body for further attempts, and for HTTP/1.1 read into a buffer of up to the
//! same size. The account of [`memory`](mod@crate::memory) counts both by the bytes that have arrived and not by the
//! announced length: a client can make the gateway hold no more than it sends. Without room the request is refused as
//! overloaded, before its body is read or in the middle of it. Pingora has no way to go on without keeping the bytes.
//!
//! Where an upstream's places are bounded (`adaptive`, `max_requests_per_server`), a short body of known length is read
//! completely before the request takes a place, so that a slow sender occupies none. Any other body is an upload while
//! it arrives: a longer one, one of unknown length, and one whose client waits for `100 Continue`, which is the
//! server's to send. An upload goes to its server as it arrives, but takes no place under the adaptive limit before it
//! is complete, and leaves a quarter of a server's places to others. gRPC calls are not uploads: both sides talk.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use pingora::Result;

use super::ctx::Ctx;
use super::exchange::Exchange;
use crate::memory::{Account, Held, Kind};
use crate::problem::Reason;
use base::clock;

/// How much of a body Pingora keeps for another attempt, and the longest body that is read ahead. Pingora drops the
/// rest.
pub const KEPT_MAX: usize = 64 << 10;
/// Size of the buffer of an HTTP/1.1 session.
const READ_MAX: u64 = 64 << 10;
/// Maximum time for reading a body ahead, even without a `body_min_rate`: the time that it takes at the default rate.
pub const WAIT: Duration = Duration::from_secs(131);

/// Memory held for a request's body.
#[derive(Debug)]
pub struct BodyRoom {
    held: Held,
    /// Size of the read buffer, however much has arrived.
    buffer: u64,
}

impl BodyRoom {
    /// Notes that `seen` bytes have arrived; false without room to keep them. A body that is too long is not kept at
    /// all.
    pub fn has(&mut self, seen: u64) -> bool {
        if seen > KEPT_MAX as u64 {
            self.held.shrink(self.buffer);
            return true;
        }
        // Pingora's buffer doubles.
        self.held.cover(self.buffer + seen.next_power_of_two())
    }
}

/// How reading ahead ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The body is complete.
    Whole,
    /// It is longer than Pingora keeps.
    TooLong,
    /// It took too long.
    TooSlow,
    /// There is no room for it.
    NoRoom,
}

/// Whether this is a gRPC call, in which both sides talk and have their own deadlines.
pub fn talks(exchange: &impl Exchange, ctx: &Ctx) -> bool {
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    ctx.upstream().is_some_and(|upstream| upstream.http2)
        && exchange.asked().headers.get(CONTENT_TYPE).is_some_and(grpc)
}

/// The length of the body, if known.
pub fn length(exchange: &impl Exchange) -> Option<u64> {
    exchange.asked().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Makes room for a body that is not empty, unless it has room already. False if there is none.
pub fn make_room(exchange: &impl Exchange, ctx: &mut Ctx, memory: &Arc<Account>) -> bool {
    if ctx.room.is_none() {
        let buffer = if exchange.peer().http2 { 0 } else { length(exchange).map_or(READ_MAX, |n| n.min(READ_MAX)) };
        ctx.room = memory.try_hold(Kind::Bodies, buffer).map(|held| BodyRoom { held, buffer });
    }
    ctx.room.is_some()
}

/// Prepares a body that is not empty for the choice of a server. The inner error is the reason for a refusal.
pub async fn prepare(
    exchange: &mut impl Exchange,
    ctx: &mut Ctx,
    memory: &Arc<Account>,
) -> Result<std::result::Result<(), Reason>> {
    if !make_room(exchange, ctx, memory) {
        return Ok(Err(Reason::Overloaded));
    }
    // A signed body was read before.
    if exchange.is_body_read() || exchange.peer().watch.verdict().upgrade || talks(exchange, ctx) {
        return Ok(Ok(()));
    }
    let bounded = ctx.upstream().is_some_and(|upstream| upstream.is_bounded());
    let short = length(exchange).is_some_and(|length| length <= KEPT_MAX as u64);
    if bounded && short && !exchange.asked().headers.contains_key(EXPECT) {
        let read = read(exchange, &mut ctx.room, |_| {}).await?;
        // The server's time begins now.
        ctx.attempts.began = clock::now();
        match read {
            Read::Whole => return Ok(Ok(())),
            Read::NoRoom => return Ok(Err(Reason::Overloaded)),
            // It goes on as an upload.
            Read::TooSlow | Read::TooLong => {}
        }
    }
    ctx.attempts.uploading = true;
    Ok(Ok(()))
}

/// Reads the body, which Pingora keeps and sends once a server is chosen.
pub async fn read(
    exchange: &mut impl Exchange,
    room: &mut Option<BodyRoom>,
    mut each: impl FnMut(&[u8]),
) -> Result<Read> {
    // Otherwise Pingora would have nothing left to send.
    exchange.keep_body();
    let reading = async {
        let mut seen = 0;
        while let Some(part) = exchange.read_body().await? {
            seen += part.len();
            if seen > KEPT_MAX {
                return Ok(Read::TooLong);
            }
            if room.as_mut().is_none_or(|room| !room.has(seen as u64)) {
                return Ok(Read::NoRoom);
            }
            each(&part);
        }
        Ok(Read::Whole)
    };
    match tokio::time::timeout(WAIT, reading).await {
        Ok(read) => read.map_err(pingora::Error::into_down),
        Err(_) => Ok(Read::TooSlow),
    }
}
