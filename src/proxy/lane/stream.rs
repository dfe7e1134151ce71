//! A stream of HTTP/2 in the lane, over Pingora's session for it.
//!
//! A client may open many streams and take nothing on any. So little is read ahead of it: a part goes on before the
//! next is read, and parts are short until the client has taken some.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::SendStream;
use pingora::http::ResponseHeader;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::time::{Sleep, sleep};

use super::client::Client;
use super::workspace::{Incoming, READ_LONG, READ_SHORT};
use crate::proxy::downstream::connection::Peer;
use crate::proxy::rewrite::informational;

/// A stream.
pub struct Stream {
    session: HttpSession,
    peer: Arc<Peer>,
    /// Bytes of its body that were read and not handed on.
    body: Bytes,
    /// Its body has ended. The codec does not say so where trailers follow, which are not read, and no more once the
    /// client has left.
    over: bool,
    /// Takes the answer's body.
    writer: Option<SendStream<Bytes>>,
    /// The answer is complete.
    ended: bool,
    /// How much of an answer to read at once.
    read: usize,
    /// How long the client may take nothing, and when it has for that long.
    patience: Duration,
    late: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// The stream of a session; `patience` is how long its client may take nothing.
    pub fn new(session: HttpSession, peer: Arc<Peer>, patience: Duration) -> Box<Stream> {
        let (body, writer, late) = (Bytes::new(), None, None);
        // Asked before the head is taken, which may say a length of nothing.
        let (over, read) = (session.is_body_empty() || session.is_body_done(), READ_SHORT);
        Box::new(Stream { session, peer, body, over, writer, ended: false, read, patience, late })
    }

    /// The session, to which nothing has happened.
    pub fn session(&self) -> &HttpSession {
        &self.session
    }

    /// The same, to change it.
    pub fn session_mut(&mut self) -> &mut HttpSession {
        &mut self.session
    }

    /// The same, for another way.
    pub fn into_session(mut self: Box<Self>) -> HttpSession {
        self.session.set_write_timeout(Some(self.patience));
        self.session
    }

    /// Waits until the client takes some of `count` bytes: how many.
    fn poll_room(&mut self, cx: &mut Context<'_>, count: usize) -> Poll<Result<usize>> {
        let Some(writer) = &mut self.writer else {
            return Poll::Ready(Error::e_explain(ErrorType::H2Error, "a body before its head"));
        };
        writer.reserve_capacity(count);
        while writer.capacity() == 0 {
            match writer.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(e))) => {
                    return Poll::Ready(Err(Error::because(ErrorType::H2Error, "the stream's window", e)));
                }
                Poll::Ready(None) => return Poll::Ready(Error::e_explain(ErrorType::H2Error, "the stream is over")),
                Poll::Pending => {
                    let late = self.late.get_or_insert_with(|| Box::pin(sleep(self.patience)));
                    ready!(late.as_mut().poll(cx));
                    return Poll::Ready(Error::e_explain(ErrorType::WriteTimedout, "the client opens no window"));
                }
            }
        }
        self.late = None;
        Poll::Ready(Ok(writer.capacity().min(count)))
    }
}

impl Client for Box<Stream> {
    const CHUNKS: bool = false;

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn is_body_read(&mut self) -> bool {
        self.over |= self.session.is_body_done();
        self.over && self.body.is_empty()
    }

    /// Room is made for what has come: a client may have many streams on which nothing comes.
    fn poll_body(&mut self, cx: &mut Context<'_>, buffer: &mut Incoming, size: usize) -> Poll<io::Result<usize>> {
        while self.body.is_empty() {
            match ready!(self.session.poll_read_body_bytes(cx)) {
                None => {
                    self.over = true;
                    return Poll::Ready(Ok(0));
                }
                Some(Ok(part)) => self.body = part,
                Some(Err(e)) => return Poll::Ready(Err(io::Error::other(e))),
            }
            if self.is_body_read() {
                return Poll::Ready(Ok(0));
            }
        }
        let part = self.body.len().min(size);
        self.body.copy_to_slice(&mut buffer.room(part)[..part]);
        buffer.came(part);
        Poll::Ready(Ok(part))
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.writer {
            Some(writer) => writer.poll_reset(cx).map(drop),
            None => Pin::new(&mut self.session.idle()).poll(cx).map(drop),
        }
    }

    /// The codec sends no informational answers.
    fn head(&mut self, head: ResponseHeader, _goes_on: Option<bool>, ends: bool, _out: &mut Vec<u8>) -> Result<()> {
        if informational(head.status) {
            return Ok(());
        }
        self.session.write_response_header(Box::new(head), ends).map_err(|e| e.into_down())?;
        self.writer = self.session.take_response_body_writer();
        self.ended = ends;
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, parts: [&[u8]; 3], ends: bool) -> Poll<Result<usize>> {
        let count = parts.iter().map(|part| part.len()).sum();
        if self.ended || count == 0 && !ends {
            return Poll::Ready(Ok(0));
        }
        let taken = match count {
            0 => 0,
            _ => ready!(self.poll_room(cx, count)).map_err(|e| e.into_down())?,
        };
        let mut data = BytesMut::with_capacity(taken);
        for part in parts {
            data.extend_from_slice(&part[..part.len().min(taken - data.len())]);
        }
        self.ended = ends && taken == count;
        let sent = match &mut self.writer {
            Some(writer) => writer.send_data(data.freeze(), self.ended).or_err(ErrorType::WriteError, "at the client"),
            None => Error::e_explain(ErrorType::H2Error, "a body before its head"),
        };
        Poll::Ready(sent.map(|()| taken).map_err(|e| e.into_down()))
    }

    fn read_size(&self, _left: u64) -> usize {
        self.read
    }

    fn takes_all(&mut self) {
        self.read = (2 * self.read).min(READ_LONG);
    }
}
