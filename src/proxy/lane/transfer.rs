//! Both directions of an attempt, in one poll: no channel, no task, one buffer each way.
//!
//! A part goes on before the next is read, so neither side can make the gateway hold more than a buffer. What each side
//! waits for is noted as the codec's streams note it ([`Link`](crate::proxy::upstream::deadline::link::Link),
//! [`ClientWatch`](crate::proxy::downstream::watch::ClientWatch)): the limits are the same on both ways.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use pingora::{Error, ErrorType, InvalidHTTPHeader, Result, RetryType};
use tokio::io::ReadBuf;

use super::answer::{self, Framing, HEAD_MAX};
use super::client::Client;
use super::request::{Body, Request};
use super::wire;
use super::workspace::{READ, READ_LONG, READ_SHORT};
use crate::proxy::ctx::Ctx;
use crate::proxy::exchange::Exchange;
use crate::proxy::rewrite::informational;
use crate::proxy::upstream::connector::ServerConnection;
use crate::proxy::{Gateway, answer as answers, body, forward};
use base::clock;

/// Parts of a body up to this size are copied behind the head or the size line before them: one write, one part.
const COPIED: usize = 4 << 10;

/// The state of the direction to the server.
#[derive(Clone, Copy)]
enum Up {
    /// Parts of the body follow; this many bytes of it were sent in this attempt.
    Body { again: usize },
    /// What is in the buffer is the rest.
    Last,
    /// All was sent.
    Done,
    /// The server takes nothing more. Its answer may be there all the same.
    Broken,
}

/// The state of the direction to the client.
enum Down {
    /// The head of the final answer is awaited.
    Head,
    /// Its body.
    Body(Framing),
    /// All was handed on.
    Done,
}

/// The part of a body on its way, behind a buffer of outgoing bytes.
#[derive(Default)]
struct Sending {
    part: Behind,
    /// The framing behind it.
    tail: &'static [u8],
    /// Bytes of the body that are on their way, wherever they are.
    size: usize,
    /// Bytes of part and tail that were sent.
    sent: usize,
    /// Anything was sent.
    took: bool,
}

/// Where a part of a body is.
#[derive(Default)]
enum Behind {
    #[default]
    Nothing,
    /// At the front of the buffer of incoming bytes, of which so many are done with afterwards.
    Read { body: usize, taken: usize },
    /// In what is kept of the body, from here on.
    Kept(usize),
    /// Made by compression.
    Made(Bytes),
}

impl Sending {
    /// What is left of the part and of its tail.
    fn rest<'b>(&self, part: &'b [u8]) -> [&'b [u8]; 2] {
        let skipped = self.sent.min(part.len());
        [&part[skipped..], &self.tail[self.sent - skipped..]]
    }
}

/// An attempt under way.
pub struct Transfer<'a, C> {
    gateway: &'a Gateway,
    request: &'a mut Request<C>,
    ctx: &'a mut Ctx,
    server: Box<ServerConnection>,
    up: Up,
    down: Down,
    /// The body for the server is framed by chunks.
    chunks_up: bool,
    /// The body for the client is framed by chunks.
    chunks_down: bool,
    to_server: Sending,
    to_client: Sending,
    /// Something for the client was not flushed.
    unsent: bool,
    /// It is the last of the answer.
    ends: bool,
    /// The server keeps the connection open after the answer.
    kept: bool,
}

impl<'a, C: Client> Transfer<'a, C> {
    /// The transfer of a request whose head is in the buffer for the server.
    pub fn new(
        gateway: &'a Gateway,
        request: &'a mut Request<C>,
        ctx: &'a mut Ctx,
        server: Box<ServerConnection>,
        framing: Body,
    ) -> Result<Self> {
        if framing == Body::None {
            body::request_part(request, None, true, ctx)?;
        }
        let up = if framing == Body::None { Up::Last } else { Up::Body { again: 0 } };
        request.workspace.answer.clear();
        request.workspace.body.clear();
        Ok(Transfer {
            gateway,
            request,
            ctx,
            server,
            up,
            down: Down::Head,
            chunks_up: framing == Body::Chunked,
            chunks_down: false,
            to_server: Sending::default(),
            to_client: Sending::default(),
            unsent: false,
            ends: false,
            kept: false,
        })
    }

    /// Moves what can be moved; ready once both directions are done, or the attempt failed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            let moved = self.upload(cx)? | self.download(cx)?;
            if matches!((&self.up, &self.down), (Up::Done | Up::Broken, Down::Done)) {
                self.kept &= self.server.io.is_drained(cx);
                return Poll::Ready(Ok(()));
            }
            if moved {
                continue;
            }
            let has_all = matches!(self.up, Up::Last | Up::Done) || self.request.client.is_body_read();
            if has_all && !matches!(self.down, Down::Done) && self.request.client.poll_left(cx).is_ready() {
                return Poll::Ready(Err(Error::explain(ErrorType::ConnectionClosed, "the client left").into_down()));
            }
            return Poll::Pending;
        }
    }

    /// The connection, if its server can take another request on it.
    pub fn reusable(self) -> Option<Box<ServerConnection>> {
        let silent = self.request.workspace.answer.unread().is_empty();
        (self.kept && silent && matches!(self.up, Up::Done)).then_some(self.server)
    }

    /// Moves what it can towards the server; whether anything moved.
    fn upload(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let mut moved = false;
        while !matches!(self.up, Up::Done | Up::Broken) {
            match self.write(cx) {
                Poll::Pending => return Ok(moved),
                // What its answer says counts, if there is one, and that is due now.
                Poll::Ready(Err(_)) => {
                    self.up = Up::Broken;
                    forward::nothing_follows(self.ctx);
                }
                Poll::Ready(Ok(())) => match self.up {
                    Up::Body { again } => {
                        if !self.next_part(cx, again)? {
                            return Ok(moved);
                        }
                    }
                    _ => self.up = Up::Done,
                },
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Writes what waits for the server; ready once it has all of it.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let workspace = &*self.request.workspace;
            let part = match self.to_server.part {
                Behind::Read { body, .. } => &workspace.body.unread()[..body],
                Behind::Kept(from) => &self.request.kept()[from..],
                _ => &[],
            };
            let (first, [part, tail]) = (workspace.to_server.unsent(), self.to_server.rest(part));
            let written = self.server.io.poll_write(cx, [first, part, tail]);
            let of_first = first.len();
            self.server.link.writes(written.is_pending(), clock::now);
            let written = ready!(written)?;
            if written == 0 {
                if let Behind::Read { taken, .. } = self.to_server.part {
                    self.request.workspace.body.read(taken);
                    self.request.workspace.body.holds(if C::CHUNKS { READ_LONG } else { READ_SHORT });
                }
                self.to_server = Sending::default();
                return Poll::Ready(Ok(()));
            }
            self.server.link.moved(0);
            self.request.workspace.to_server.sent(written.min(of_first));
            self.to_server.sent += written.saturating_sub(of_first);
        }
    }

    /// Takes the next part of the body; false if the client has not sent it yet.
    fn next_part(&mut self, cx: &mut Context<'_>, again: usize) -> Result<bool> {
        let kept = self.request.kept().len();
        let (part, body) = if again < kept {
            (Behind::Kept(again), kept - again)
        } else {
            let size = if self.ctx.attempts.body_bytes < READ as u64 { READ } else { READ_LONG };
            let Poll::Ready(read) = self.request.poll_body(cx, size) else { return Ok(false) };
            let body = read?;
            (Behind::Read { body, taken: body }, body)
        };
        let ends = self.request.client.is_body_read();
        body::request_part(self.request, Some(body), ends, self.ctx)?;
        if self.chunks_up && body > 0 {
            wire::chunk_size(&mut self.request.workspace.to_server.bytes, body);
        }
        let tail = tail(self.chunks_up, body, ends);
        self.to_server = Sending { part, tail, size: body, sent: 0, took: false };
        self.up = if ends { Up::Last } else { Up::Body { again: again + body } };
        Ok(true)
    }

    /// Moves what it can towards the client; whether anything moved.
    fn download(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let mut moved = false;
        loop {
            if self.unsent {
                match self.send(cx)? {
                    true => moved = true,
                    false => return Ok(moved),
                }
            }
            let went_on = match &self.down {
                Down::Done => return Ok(moved),
                Down::Head => self.head()?,
                Down::Body(framing) if framing.is_over() => {
                    self.down = Down::Done;
                    // The client has it: what it still sends is owed.
                    body::answer_moves(self.request, true);
                    continue;
                }
                Down::Body(_) => self.body_part(false)?,
            };
            if !went_on && !self.receive(cx)? {
                return Ok(moved);
            }
            moved = true;
        }
    }

    /// Sends what waits for the client; false if it does not take all of it now.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        loop {
            let Request { workspace, client, .. } = &mut *self.request;
            let part = match &self.to_client.part {
                Behind::Read { body, .. } => &workspace.answer.unread()[..*body],
                Behind::Made(made) => made,
                _ => &[],
            };
            let (first, [part, tail]) = (workspace.to_client.unsent(), self.to_client.rest(part));
            let of_first = first.len();
            let written = match client.poll_send(cx, [first, part, tail], self.ends) {
                Poll::Pending => return Ok(false),
                Poll::Ready(written) => written?,
            };
            if written == 0 {
                if let Behind::Read { taken, .. } = self.to_client.part {
                    workspace.answer.read(taken);
                }
                if self.to_client.took {
                    client.takes_all();
                }
                self.request.counts(self.to_client.size);
                (self.to_client, self.unsent) = (Sending::default(), false);
                return Ok(true);
            }
            workspace.to_client.sent(written.min(of_first));
            self.to_client.took = true;
            self.to_client.sent += written.saturating_sub(of_first);
        }
    }

    /// Reads from the server; false if there is nothing yet.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let answer = &mut self.request.workspace.answer;
        let left = if let Down::Body(framing) = &self.down { framing.left() } else { 0 };
        let size = match answer.unread().len() {
            // A long head, or a line between chunks, does not fit.
            filled if filled >= READ_SHORT => (2 * filled).clamp(READ, HEAD_MAX),
            _ => self.request.client.read_size(left),
        };
        let mut buf = ReadBuf::new(answer.room(size));
        if buf.remaining() == 0 {
            return Err(Error::explain(InvalidHTTPHeader, "an answer's head is too long").into_up());
        }
        let read = self.server.io.poll_read(cx, &mut buf);
        let came = buf.filled().len();
        self.server.link.reads(read.is_pending(), clock::now);
        match read {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) if came > 0 => {
                self.server.link.moved(came);
                answer.came(came);
                Ok(true)
            }
            Poll::Ready(read) => self.ended(read.err()).map(|()| true),
        }
    }

    /// Handles the end of the server's bytes.
    fn ended(&mut self, e: Option<io::Error>) -> Result<()> {
        match &self.down {
            Down::Body(framing) if framing.may_end() && e.is_none() => {
                self.body_part(true)?;
                self.down = Down::Body(Framing::Length(0));
                Ok(())
            }
            down => {
                // Without an error of the system or an end it is TLS that failed.
                let closed =
                    e.as_ref().is_none_or(|e| e.raw_os_error().is_some() || e.kind() == io::ErrorKind::UnexpectedEof);
                let mut ended = match e {
                    Some(e) => Error::because(ErrorType::ReadError, "at the server", e),
                    None => Error::explain(ErrorType::ConnectionClosed, "the server closed the connection"),
                };
                if matches!(down, Down::Head) && closed {
                    // A server may close a kept connection at any time.
                    ended.retry = RetryType::ReusedOnly;
                }
                Err(ended.into_up())
            }
        }
    }

    /// Handles a head, if one is complete.
    fn head(&mut self) -> Result<bool> {
        let unread = self.request.workspace.answer.unread();
        let Some((mut head, length)) = answer::head(unread).map_err(|e| e.into_up())? else { return Ok(false) };
        self.request.workspace.answer.read(length);
        let framing = Framing::of(&head, &self.request.asked().method).map_err(|e| e.into_up())?;
        if informational(head.status) {
            forward::head_arrived(self.request, self.ctx, &head)?;
            answers::to_client(self.gateway, self.request, &mut head, self.ctx)?;
            self.request.answer_with(head, false)?;
            self.unsent = true;
            return Ok(true);
        }
        self.kept = answer::is_kept(&head) && !framing.may_end();
        let bodiless = forward::head_arrived(self.request, self.ctx, &head)?;
        body::answer_moves(self.request, false);
        let has_body = !framing.is_over();
        if !has_body && !bodiless {
            // By its framing it is.
            forward::body_part_arrived(self.ctx, true)?;
        }
        answers::to_client(self.gateway, self.request, &mut head, self.ctx)?;
        self.chunks_down = C::CHUNKS && has_body && !head.headers.contains_key(CONTENT_LENGTH);
        if self.chunks_down {
            answer::chunk(&mut head)?;
        }
        self.request.answer_with(head, !has_body)?;
        (self.unsent, self.ends) = (true, !has_body);
        self.down = Down::Body(framing);
        if has_body {
            self.body_part(false)?;
        }
        Ok(true)
    }

    /// Handles the next part of the body, or its end with the connection; false if nothing is there.
    fn body_part(&mut self, closes: bool) -> Result<bool> {
        let Down::Body(framing) = &mut self.down else { return Ok(false) };
        let part = framing.part(self.request.workspace.answer.unread_mut()).map_err(|e| e.into_up())?;
        let ends = closes || framing.is_over();
        if part.body == 0 && !ends {
            self.request.workspace.answer.read(part.taken);
            return Ok(false);
        }
        body::answer_moves(self.request, false);
        forward::body_part_arrived(self.ctx, ends)?;
        let made = match &self.ctx.compression {
            None => None,
            Some(_) => {
                let read = &self.request.workspace.answer.unread()[..part.body];
                let mut made = Some(Bytes::copy_from_slice(read));
                body::response_part(&mut made, ends, self.ctx)?;
                Some(made.unwrap_or_default())
            }
        };
        let size = made.as_ref().map_or(part.body, Bytes::len);
        let workspace = &mut *self.request.workspace;
        if self.chunks_down && size > 0 {
            wire::chunk_size(&mut workspace.to_client.bytes, size);
        }
        let tail = tail(self.chunks_down, size, ends);
        let part = match made {
            None if size > COPIED => Behind::Read { body: size, taken: part.taken },
            None => {
                workspace.to_client.bytes.extend_from_slice(&workspace.answer.unread()[..size]);
                workspace.answer.read(part.taken);
                Behind::Nothing
            }
            Some(made) => {
                workspace.answer.read(part.taken);
                Behind::Made(made)
            }
        };
        (self.to_client, self.unsent, self.ends) = (Sending { part, tail, size, sent: 0, took: false }, true, ends);
        Ok(true)
    }
}

/// The framing behind a part of a body of this size.
fn tail(chunked: bool, size: usize, ends: bool) -> &'static [u8] {
    match (chunked, size > 0, ends) {
        (false, ..) | (true, false, false) => b"",
        (true, true, false) => b"\r\n",
        (true, true, true) => b"\r\n0\r\n\r\n",
        (true, false, true) => b"0\r\n\r\n",
    }
}
