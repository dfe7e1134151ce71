//! The connection without a codec in between: heads as bytes with offsets, and bodies without their framing.
//!
//! The rules are those of the codec's reader: a complete and judged head, then exactly its body, then nothing until the
//! request has ended. Until its head is taken for good a request may still go to the codec, which then reads the same
//! bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Version};
use http_guard::head::Field;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, InvalidHTTPHeader, OrErr, Result};
use tokio::io::{AsyncWrite, ReadBuf};

use super::{Connection, Got, Peer, Phase};
use crate::proxy::transport::poll_write_parts;
use base::clock;

/// Headers that stages add to a head.
const ADDED: usize = 5;
/// Chunks of a body in one read for which no room is allocated.
const SPANS: usize = 16;

impl Connection {
    /// The peer, and what is known about the connection.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Waits until a head is complete and judged; false at the end of the connection. The watch says whether it was
    /// refused.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.watch.take_over() {
            if !self.ahead.is_empty() {
                self.watch.unparks();
            }
            self.framing.next();
        }
        loop {
            if self.cleared > 0 {
                return Poll::Ready(Ok(true));
            }
            if self.framing.phase() != Phase::Head {
                // The request before it did not end in order.
                return Poll::Ready(Ok(false));
            }
            if !self.ahead.is_empty() {
                match self.framing.head(&self.ahead, &self.bounds, &self.watch) {
                    Ok(length) => self.cleared = length,
                    Err(refused) => self.refuse(*refused)?,
                }
                if self.cleared > 0 {
                    continue;
                }
            }
            if ready!(self.poll_ahead(cx))? == 0 && self.ended()? == Got::Ready {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// Takes the head that [`Connection::poll_head`] has found, and its bytes.
    pub fn take_head(&mut self) -> (Result<RequestHeader>, Bytes) {
        let bytes = match self.cleared == self.ahead.len() {
            true => std::mem::take(&mut self.ahead).freeze(),
            false => self.ahead.split_to(self.cleared).freeze(),
        };
        self.cleared = 0;
        (head(&bytes, self.framing.fields()), bytes)
    }

    /// Gives the bytes of a head back, for the codec to read.
    pub fn give_back(&mut self, head: &[u8]) {
        let mut ahead = BytesMut::with_capacity(head.len() + self.ahead.len());
        ahead.extend_from_slice(head);
        ahead.extend_from_slice(&self.ahead);
        (self.ahead, self.cleared) = (ahead, head.len());
    }

    /// Whether the whole body was read, or there is none.
    pub fn is_body_read(&self) -> bool {
        self.framing.phase() != Phase::Body
    }

    /// Reads a part of the body into `room`, without its framing: how many bytes; none at the end alone.
    pub fn poll_body(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        while !self.is_body_read() {
            let came = match self.ahead.is_empty() {
                true => {
                    let most = usize::try_from(self.framing.left()).unwrap_or(usize::MAX).min(room.len());
                    let mut buf = ReadBuf::new(&mut room[..most]);
                    ready!(self.poll_transport(cx, &mut buf))?;
                    buf.filled().len()
                }
                false => {
                    let part = self.ahead.len().min(room.len());
                    room[..part].copy_from_slice(&self.ahead[..part]);
                    self.ahead.advance(part);
                    part
                }
            };
            if came == 0 {
                self.ended()?;
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let body = self.unframe(&mut room[..came])?;
            if self.ahead.is_empty() {
                // An idle connection holds no buffer.
                self.ahead = BytesMut::new();
            }
            if body > 0 {
                return Poll::Ready(Ok(body));
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Moves the body itself to the front of these bytes, which came from the connection. What lies behind the body is
    /// the next request's.
    fn unframe(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut spans, mut more, mut count) = ([(0, 0); SPANS], Vec::new(), 0);
        let taken = self.framing.payload(bytes, |span| {
            match spans.get_mut(count) {
                Some(place) => *place = (span.start, span.end),
                None => more.push((span.start, span.end)),
            }
            count += 1;
        });
        let taken = match taken {
            Ok(taken) => taken,
            Err(refused) => return self.refuse(*refused).map(|()| 0),
        };
        if taken < bytes.len() {
            let mut ahead = BytesMut::from(&bytes[taken..]);
            ahead.extend_from_slice(&self.ahead);
            self.ahead = ahead;
        }
        let mut body = 0;
        for (start, end) in spans.into_iter().take(count).chain(more) {
            bytes.copy_within(start..end, body);
            body += end - start;
        }
        Ok(body)
    }

    /// Ready once the client has left, while its request is complete. What it sends meanwhile is the next request.
    pub fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.ahead.is_empty() {
                return if self.watch.parks(cx) { Poll::Ready(()) } else { Poll::Pending };
            }
            match ready!(self.poll_ahead(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }

    /// Sends what the client takes of these parts: how many bytes. Without any, what TLS still holds is sent.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, parts: [&[u8]; 3]) -> Poll<Result<usize>> {
        let written = match parts.iter().all(|part| part.is_empty()) {
            true => Pin::new(&mut self.transport).poll_flush(cx).map_ok(|()| 0),
            false => poll_write_parts(Pin::new(&mut self.transport), cx, parts),
        };
        match written {
            Poll::Pending => {
                self.watch.stalls(clock::now);
                Poll::Pending
            }
            Poll::Ready(written) => {
                self.watch.moves();
                self.watch.takes();
                Poll::Ready(written.map_err(|e| Error::because(ErrorType::WriteError, "at the client", e).into_down()))
            }
        }
    }
}

/// The head in these bytes, which were judged.
fn head(bytes: &Bytes, fields: &[Field]) -> Result<RequestHeader> {
    // An empty line may come before the request line.
    let mut words = bytes.trim_ascii_start().splitn(3, |byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(method).or_err(InvalidHTTPHeader, "the method")?;
    parts.version = Version::HTTP_11;
    parts.headers.reserve(fields.len() + ADDED);
    for field in fields {
        let name = HeaderName::from_bytes(&bytes[field.name()]).or_err(InvalidHTTPHeader, "a header's name")?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(field.value()));
        parts.headers.append(name, value.or_err(InvalidHTTPHeader, "a header's value")?);
    }
    let mut head = RequestHeader::from(parts);
    head.set_raw_path(target)?;
    Ok(head)
}
