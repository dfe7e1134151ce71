//! The client's side of a request in the lane: a connection of HTTP/1.1, or a stream of HTTP/2.

use std::io;
use std::task::{Context, Poll, ready};

use pingora::Result;
use pingora::http::ResponseHeader;

use super::wire;
use super::workspace::{Incoming, READ, READ_LONG};
use crate::proxy::downstream::connection::{Connection, Peer};

/// Where a request comes from and its answer goes to.
pub trait Client: Send {
    /// Whether a body of unknown length is framed by chunks in what the client gets.
    const CHUNKS: bool;

    /// The peer, and what is known about the connection.
    fn peer(&self) -> &Peer;

    /// Whether the whole body was read, or there is none.
    fn is_body_read(&mut self) -> bool;

    /// Reads a part of the body into `buffer`, without its framing: how many bytes, about `size` at most; none at the end
    /// alone.
    fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut Incoming, size: usize) -> Poll<io::Result<usize>>;

    /// Ready once the client has left, while its request is complete.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Sends the head of an answer, or puts it into `out`, which is sent next. `goes_on`: whether another request may
    /// follow, if this head is the final one; `ends`: no body follows.
    fn head(&mut self, head: ResponseHeader, goes_on: Option<bool>, ends: bool, out: &mut Vec<u8>) -> Result<()>;

    /// Sends what the client takes of these parts: how many bytes. `ends`: nothing follows them. Without any bytes, what
    /// was sent before reaches the client.
    fn poll_send(&mut self, cx: &mut Context<'_>, parts: [&[u8]; 3], ends: bool) -> Poll<Result<usize>>;

    /// How much of an answer to read at once, of which `left` bytes are known to come.
    fn read_size(&self, left: u64) -> usize;

    /// The client has taken all that was read, and it was something.
    fn takes_all(&mut self) {}
}

impl Client for Box<Connection> {
    const CHUNKS: bool = true;

    fn peer(&self) -> &Peer {
        Connection::peer(self)
    }

    fn is_body_read(&mut self) -> bool {
        Connection::is_body_read(self)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut Incoming, size: usize) -> Poll<io::Result<usize>> {
        let read = ready!(Connection::poll_body(self, cx, buffer.room(size)))?;
        buffer.came(read);
        Poll::Ready(Ok(read))
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Connection::poll_left(self, cx)
    }

    fn head(&mut self, head: ResponseHeader, goes_on: Option<bool>, _ends: bool, out: &mut Vec<u8>) -> Result<()> {
        wire::answer(out, &head, goes_on);
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, parts: [&[u8]; 3], _ends: bool) -> Poll<Result<usize>> {
        Connection::poll_send(self, cx, parts)
    }

    fn read_size(&self, left: u64) -> usize {
        if left > READ as u64 { READ_LONG } else { READ }
    }
}
