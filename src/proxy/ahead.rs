//! What is done about a request's body before a server is asked for: room for it, and reading ahead.
//!
//! Pingora keeps the first 64 KiB of each body, so that another attempt can send them again, and an HTTP/1.1 session reads
//! into a buffer of as much. Both are held under the account of [`memory`](mod@crate::memory), by what has come and not by
//! what was announced: a stranger holds no more than he sends. Without room the request is refused as overloaded, before
//! its body is read or in its middle; going on without keeping the bytes is nothing that Pingora offers.
//!
//! Where an upstream's places are bounded (`adaptive`, `max_requests_per_server`), a short body of a known length is read
//! whole before a place is taken, so that whoever sends slowly waits on his own time. Everything else is an upload while
//! it comes: longer bodies, those of unknown length, and those whose sender waits for `100 Continue`, which is for the
//! server to say. An upload goes to its server as it comes, but takes no place under the adaptive limit before it is
//! whole, and leaves a quarter of a server's places to others. Calls by gRPC are no uploads: there two sides talk.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use pingora::Result;
use pingora::proxy::Session;

use super::connection::Peer;
use super::ctx::Ctx;
use crate::memory::{Account, Held, Kind};
use crate::problem::Reason;
use base::clock;

/// What Pingora keeps of a body for another attempt, and the longest that is read ahead: what comes beyond is lost.
pub const KEPT_MAX: usize = 64 << 10;
/// What an HTTP/1.1 session reads into.
const READ_MAX: u64 = 64 << 10;
/// How long a body may take that is read ahead, even without a `body_min_rate`: so long it takes at the default one.
pub const WAIT: Duration = Duration::from_secs(131);

/// The room of a request's body.
#[derive(Debug)]
pub struct BodyRoom {
    held: Held,
    /// What is read into, whatever has come.
    buffer: u64,
}

impl BodyRoom {
    /// So many bytes came so far; whether there is room to keep them. What is too long is not kept at all.
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
    /// The body is here.
    Whole,
    /// It is longer than what is kept.
    TooLong,
    /// It took too long.
    TooSlow,
    /// There is no room for it.
    NoRoom,
}

/// Whether the two sides of a request talk by gRPC, and have deadlines of their own.
pub fn talks(session: &Session, ctx: &Ctx) -> bool {
    let grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    ctx.upstream().is_some_and(|upstream| upstream.http2)
        && session.req_header().headers.get(CONTENT_TYPE).is_some_and(grpc)
}

/// The length of the body, where it is known.
pub fn length(session: &Session) -> Option<u64> {
    session.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Makes room for a body that is not empty, unless it has some.
pub fn make_room(session: &Session, ctx: &mut Ctx, memory: &Arc<Account>) -> bool {
    if ctx.room.is_none() {
        let buffer = if Peer::of(session).http2 { 0 } else { length(session).map_or(READ_MAX, |n| n.min(READ_MAX)) };
        ctx.room = memory.try_hold(Kind::Bodies, buffer).map(|held| BodyRoom { held, buffer });
    }
    ctx.room.is_some()
}

/// Prepares a body that is not empty for the choice of a server; an error is why it is not served.
pub async fn prepare(
    session: &mut Session,
    ctx: &mut Ctx,
    memory: &Arc<Account>,
) -> Result<std::result::Result<(), Reason>> {
    if !make_room(session, ctx, memory) {
        return Ok(Err(Reason::Overloaded));
    }
    // Whoever signs is read before.
    if session.as_mut().is_body_done() || Peer::of(session).watch.verdict().upgrade || talks(session, ctx) {
        return Ok(Ok(()));
    }
    let bounded = ctx.upstream().is_some_and(|upstream| upstream.is_bounded());
    let short = length(session).is_some_and(|length| length <= KEPT_MAX as u64);
    if bounded && short && !session.req_header().headers.contains_key(EXPECT) {
        let read = read(session, &mut ctx.room, |_| {}).await?;
        // The server's time begins now.
        ctx.attempts.began = clock::now();
        match read {
            Read::Whole => return Ok(Ok(())),
            Read::NoRoom => return Ok(Err(Reason::Overloaded)),
            // It goes on as what it is.
            Read::TooSlow | Read::TooLong => {}
        }
    }
    ctx.attempts.uploading = true;
    Ok(Ok(()))
}

/// Reads the body, which Pingora keeps and sends once there is a server.
pub async fn read(session: &mut Session, room: &mut Option<BodyRoom>, mut each: impl FnMut(&[u8])) -> Result<Read> {
    // Else Pingora would have nothing left to send.
    session.as_mut().enable_retry_buffering();
    let reading = async {
        let mut seen = 0;
        while let Some(part) = session.as_mut().read_request_body().await? {
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
