//! A request in the lane, as the stages see it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};

use super::client::Client;
use super::workspace::{READ, Workspace};
use crate::proxy::ahead::KEPT_MAX;
use crate::proxy::downstream::connection::Peer;
use crate::proxy::exchange::Exchange;
use crate::proxy::reject::GRPC_STATUS;
use crate::proxy::rewrite::informational;

/// A request and its answer.
pub struct Request<C> {
    /// Where it comes from.
    pub client: C,
    /// Its buffers.
    pub workspace: Workspace,
    asked: RequestHeader,
    has_body: bool,
    /// What was read of the body.
    kept: Kept,
    /// Whether the client may send another request after this one.
    pub goes_on: bool,
    answered: Option<StatusCode>,
    refused_as_grpc: bool,
    sent: u64,
}

/// The framing of the body that goes to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// By the length that the head says.
    Length,
    /// By chunks.
    Chunked,
}

/// The body so far, for further attempts.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// It was too long to be kept.
    truncated: bool,
    /// Bytes read, kept or not.
    read: u64,
}

impl Kept {
    fn keep(&mut self, part: &[u8]) {
        self.read += part.len() as u64;
        if self.truncated || self.read > KEPT_MAX as u64 {
            self.truncated = true;
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(part);
        }
    }
}

impl<C: Client> Request<C> {
    /// The request with this head, whose body is on the connection.
    pub fn new(mut client: C, asked: RequestHeader) -> Self {
        Request {
            has_body: !client.is_body_read(),
            client,
            workspace: Workspace::take(!C::CHUNKS),
            asked,
            kept: Kept::default(),
            goes_on: true,
            answered: None,
            refused_as_grpc: false,
            sent: 0,
        }
    }

    /// What was read of the body and can be sent again.
    pub fn kept(&self) -> &[u8] {
        &self.kept.bytes
    }

    /// The body for a server.
    pub fn body(&mut self) -> Body {
        match (self.has_body(), self.asked.headers.contains_key(CONTENT_LENGTH)) {
            (false, _) => Body::None,
            (true, true) => Body::Length,
            (true, false) => Body::Chunked,
        }
    }

    /// Reads a part of the body into the buffer for it, which is empty; 0 at the end.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<Result<usize>> {
        let Request { client, workspace, kept, .. } = self;
        let read = ready!(client.poll_body(cx, &mut workspace.body, size));
        let read = read.map_err(|e| broken(ErrorType::ReadError, e))?;
        kept.keep(&workspace.body.unread()[..read]);
        Poll::Ready(Ok(read))
    }

    /// Sends the head of an answer, with what is in the buffer for the client. `ends`: no body follows.
    pub fn answer_with(&mut self, head: ResponseHeader, ends: bool) -> Result<()> {
        let last = !informational(head.status);
        if last && !self.client.is_body_read() {
            // The rest of the body is in the way of the next request.
            self.goes_on = false;
        }
        self.refused_as_grpc = head.headers.contains_key(GRPC_STATUS);
        self.answered = Some(head.status);
        self.client.head(head, last.then_some(self.goes_on), ends, &mut self.workspace.to_client.bytes)
    }

    /// Counts bytes of the answer's body.
    pub fn counts(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Sends what is in the buffer for the client, and after it what is left of this body; `ends`: nothing follows.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, body: &mut &[u8], ends: bool) -> Poll<Result<()>> {
        loop {
            let first = self.workspace.to_client.unsent();
            let of_first = first.len();
            let written = ready!(self.client.poll_send(cx, [first, body, &[]], ends))?;
            if written == 0 {
                return Poll::Ready(Ok(()));
            }
            self.workspace.to_client.sent(written.min(of_first));
            *body = &body[written.saturating_sub(of_first)..];
        }
    }
}

/// An error at the client.
fn broken(what: ErrorType, e: io::Error) -> Box<Error> {
    let what = if e.kind() == io::ErrorKind::UnexpectedEof { ErrorType::ConnectionClosed } else { what };
    Error::because(what, "at the client", e).into_down()
}

impl<C: Client> Exchange for Request<C> {
    const WAY: &'static str = "lane";

    fn asked(&self) -> &RequestHeader {
        &self.asked
    }

    fn asked_mut(&mut self) -> &mut RequestHeader {
        &mut self.asked
    }

    fn peer(&self) -> &Peer {
        self.client.peer()
    }

    fn has_body(&mut self) -> bool {
        self.has_body && !(self.client.is_body_read() && self.kept.read == 0)
    }

    fn is_body_read(&mut self) -> bool {
        self.client.is_body_read()
    }

    fn is_repeatable(&self) -> bool {
        !self.kept.truncated
    }

    fn ends_connection(&mut self) {
        self.goes_on = false;
    }

    fn answered(&self) -> Option<StatusCode> {
        self.answered
    }

    fn refused_as_grpc(&self) -> bool {
        self.refused_as_grpc
    }

    fn bytes_sent(&self) -> u64 {
        self.sent
    }

    /// It always does.
    fn keep_body(&mut self) {}

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        // A part that was refused is still there.
        self.workspace.body.clear();
        let read = poll_fn(|cx| self.poll_body(cx, READ)).await?;
        let part = Bytes::copy_from_slice(&self.workspace.body.unread()[..read]);
        self.workspace.body.clear();
        Ok((read > 0).then_some(part))
    }

    async fn send_continue(&mut self) -> Result<()> {
        self.answer_with(ResponseHeader::build_no_case(StatusCode::CONTINUE, Some(0))?, false)?;
        poll_fn(|cx| self.poll_send(cx, &mut &[][..], false)).await
    }

    async fn send(&mut self, head: ResponseHeader, body: Bytes, bodiless: bool) -> Result<()> {
        self.answer_with(head, bodiless)?;
        let mut rest = if bodiless { &[] } else { &body[..] };
        let length = rest.len();
        poll_fn(|cx| self.poll_send(cx, &mut rest, true)).await?;
        self.counts(length);
        Ok(())
    }
}
