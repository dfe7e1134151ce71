//! A client's connection, as Pingora's sessions see it.
//!
//! The bytes of an HTTP/1.x client pass request by request through the verdicts of [`http_guard`]: first a head,
//! complete and judged, then exactly its body, then nothing until the request has ended. Bytes behind it belong to the
//! next request and wait here. So Pingora's parser gets only bytes with one reading, never sees a pipelined request,
//! and cannot read past a body. A stand-in replaces a refused head, and the [`ClientWatch`] says why: the refusal is
//! then answered, logged and counted like any request. With HTTP/2, and after 101, bytes pass as they are.
//!
//! Where possible, reads go straight into the session's buffer. Small writes are gathered, so that a head and a short
//! body leave in one packet. The connection carries the peer's identity, once rather than once per request.

mod direct;

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use pingora::proxy::Session;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::frames::Frames;
use super::framing::{Framing, Phase};
use super::watch::sweeper::Sweeper;
use super::watch::{Cause, ClientWatch, RefusedRequest};
use crate::proxy::transport::Transport;
use crate::runtime::snapshot::listener::Bounds;
use crate::runtime::snapshot::listener::Shown;
use base::clock;
use config::model::Scheme;

/// Up to this many bytes, writes are gathered.
const GATHER_BYTES: usize = 4096;
/// Size of a read that cannot go straight to the session.
const READ_BYTES: usize = 4096;
/// An HTTP/2 head with this many times `headers_max` fields is not even decoded; one slightly above the limit gets an
/// answer.
const FIELDS_MAX: usize = 2;
/// The stand-in for a refused head. Only the stage `admit` looks at it.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: -\r\n\r\n";

/// The peer of a connection, and what is known about the connection.
pub struct Peer {
    /// The peer's address; after a PROXY header, the one that it names.
    pub address: IpAddr,
    /// The address as a header value.
    pub text: HeaderValue,
    /// Its scheme.
    pub scheme: Scheme,
    /// Whether it speaks HTTP/2.
    pub http2: bool,
    /// What its client certificate proved, if one was required.
    pub shown: Option<Arc<Shown>>,
    /// The limits of its requests' heads.
    pub bounds: Arc<Bounds>,
    /// Its waits; with HTTP/2, those of this stream alone.
    pub watch: Arc<ClientWatch>,
    /// The sweeper for bodies of HTTP/2 streams.
    pub sweeper: Arc<Sweeper>,
}

impl Peer {
    /// The peer of a session; the unspecified address if the connection was not made here.
    pub fn of(session: &Session) -> &Peer {
        static UNKNOWN: LazyLock<Peer> = LazyLock::new(|| Peer {
            address: Ipv4Addr::UNSPECIFIED.into(),
            text: HeaderValue::from_static("unknown"),
            scheme: Scheme::Http,
            http2: false,
            shown: None,
            bounds: Arc::default(),
            watch: Arc::default(),
            sweeper: Arc::default(),
        });
        Peer::carried_by(session.as_ref().digest()).map_or_else(|| &*UNKNOWN, |peer| &**peer)
    }

    /// The peer that a session's digest carries.
    pub fn carried_by(digest: Option<&Digest>) -> Option<&Arc<Peer>> {
        digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }

    /// The peer for a stream of an HTTP/2 connection, with a watch of its own.
    pub fn for_stream(&self) -> Peer {
        Peer {
            text: self.text.clone(),
            shown: self.shown.clone(),
            bounds: self.bounds.clone(),
            watch: Arc::default(),
            sweeper: self.sweeper.clone(),
            ..*self
        }
    }

    /// The address as a header value.
    pub fn text(address: IpAddr) -> HeaderValue {
        HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
    }
}

/// The form in which Pingora carries a peer to the session. The digest is made for HTTP proxies and must contain an
/// answer of one.
pub fn carried(peer: Arc<Peer>) -> pingora::Result<Arc<ProxyDigest>> {
    let response = Box::new(ResponseHeader::build(200, Some(0))?);
    Ok(Arc::new(ProxyDigest::new(response, Some(Box::new(peer)))))
}

/// The result of a read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Got {
    /// The reader gets bytes, or the end.
    Ready,
    /// Bytes lie ahead now.
    Ahead,
}

/// A client's connection.
pub struct Connection {
    transport: Transport,
    bounds: Arc<Bounds>,
    framing: Framing,
    /// The frames that pass, if it speaks HTTP/2.
    frames: Option<Box<Frames>>,
    /// Bytes read and not handed on; the first `cleared` of them may go.
    ahead: BytesMut,
    cleared: usize,
    gathered: Vec<u8>,
    watch: Arc<ClientWatch>,
    socket: Arc<SocketDigest>,
    peer: Arc<Peer>,
    digest: Arc<ProxyDigest>,
}

impl Connection {
    /// Wraps an accepted connection, of which `ahead` was read already. `raw` is for HTTP/2.
    pub fn new(transport: Transport, ahead: BytesMut, peer: Peer, raw: bool) -> pingora::Result<Connection> {
        let (bounds, watch) = (peer.bounds.clone(), peer.watch.clone());
        let peer = Arc::new(peer);
        Ok(Connection {
            socket: Arc::new(SocketDigest::from_raw_fd(transport.fd())),
            transport,
            bounds,
            framing: if raw { Framing::raw() } else { Framing::default() },
            frames: raw.then(Box::default),
            ahead,
            cleared: 0,
            gathered: Vec::new(),
            watch,
            digest: carried(peer.clone())?,
            peer,
        })
    }

    /// Reads HTTP/2 bytes, up to the first new head.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.watch.is_opening() {
            // The connection's task polls again.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let mut ahead = std::mem::take(&mut self.ahead);
        let taken = match ahead.is_empty() {
            true => {
                ready!(self.poll_transport(cx, buf))?;
                self.came(&buf.filled()[before..])
            }
            false => self.came(&ahead[..ahead.len().min(buf.remaining())]),
        };
        let Some(taken) = taken else {
            // The connection's task learns of it, and ends the connection.
            buf.set_filled(before);
            return Poll::Pending;
        };
        if ahead.is_empty() {
            self.ahead.extend_from_slice(&buf.filled()[before + taken..]);
            buf.set_filled(before + taken);
        } else {
            buf.put_slice(&ahead[..taken]);
            ahead.advance(taken);
            self.ahead = ahead;
        }
        if self.ahead.is_empty() {
            // An idle connection holds no buffer.
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Inspects arriving HTTP/2 bytes: how many of them may be handed on, or `None` if the client broke a rule.
    fn came(&mut self, bytes: &[u8]) -> Option<usize> {
        let Some(frames) = &mut self.frames else { return Some(bytes.len()) };
        match frames.came(bytes, FIELDS_MAX * self.bounds.limits().headers_max) {
            Ok(taken) => {
                frames.opened().into_iter().for_each(|stream| self.watch.opens(stream));
                self.watch.flows(&frames.flow, clock::now);
                Some(taken)
            }
            Err(wrong) => {
                self.watch.breaks(wrong);
                None
            }
        }
    }

    /// Inspects departing HTTP/2 bytes.
    fn went(&mut self, bytes: &[u8]) {
        let Some(frames) = &mut self.frames else { return };
        frames.went(bytes);
        self.watch.flows(&frames.flow, clock::now);
    }

    /// Pingora's description of the socket.
    pub fn socket(&self) -> Arc<SocketDigest> {
        self.socket.clone()
    }

    /// Hands on cleared bytes, as far as there is room.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let part = self.cleared.min(buf.remaining());
        buf.put_slice(&self.ahead[..part]);
        self.ahead.advance(part);
        self.cleared -= part;
        if self.ahead.is_empty() {
            // An idle connection holds no buffer.
            self.ahead = BytesMut::new();
        }
    }

    /// Replaces a refused head, or ends a refused body.
    fn refuse(&mut self, refused: RefusedRequest) -> io::Result<()> {
        let in_body = self.framing.phase() == Phase::Body;
        self.watch.refuse(refused);
        self.framing.end();
        self.ahead.clear();
        if in_body {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the body was refused"));
        }
        self.watch.has_head();
        self.ahead.extend_from_slice(STAND_IN);
        self.cleared = STAND_IN.len();
        Ok(())
    }

    /// Checks the bytes ahead; true if some may go.
    fn clear(&mut self) -> io::Result<bool> {
        match self.framing.clear(&self.ahead, &self.bounds, &self.watch) {
            Ok(cleared) => self.cleared = cleared,
            Err(refused) => self.refuse(*refused)?,
        }
        Ok(self.cleared > 0)
    }

    /// Handles the end of the client's bytes.
    fn ended(&mut self) -> io::Result<Got> {
        match (self.watch.is_late(), self.framing.phase()) {
            (true, Phase::Head) if !self.ahead.is_empty() => {
                self.refuse(RefusedRequest::bare(Cause::HeadTimeout, true))?
            }
            (true, Phase::Body) => self.refuse(RefusedRequest::bare(Cause::BodyTooSlow, false))?,
            _ => return Ok(Got::Ready),
        }
        Ok(Got::Ahead)
    }

    /// Reads into `buf`, and takes back what may not go.
    fn poll_straight(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Got>> {
        let before = buf.filled().len();
        ready!(self.poll_transport(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(self.ended());
        }
        match self.framing.clear(read, &self.bounds, &self.watch) {
            Ok(cleared) => {
                if cleared < read.len() {
                    self.ahead.extend_from_slice(&read[cleared..]);
                    buf.set_filled(before + cleared);
                }
                Poll::Ready(Ok(if cleared > 0 { Got::Ready } else { Got::Ahead }))
            }
            Err(refused) => {
                buf.set_filled(before);
                Poll::Ready(self.refuse(*refused).map(|()| Got::Ahead))
            }
        }
    }

    /// Reads bytes that must wait here.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buf = ReadBuf::uninit(&mut bytes);
        ready!(self.poll_transport(cx, &mut buf))?;
        self.ahead.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_transport(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let in_body = self.framing.phase() == Phase::Body;
        let before = buf.filled().len();
        match Pin::new(&mut self.transport).poll_read(cx, buf) {
            Poll::Pending => {
                if in_body {
                    self.watch.awaits_body(clock::now);
                }
                Poll::Pending
            }
            // Shutting down the reading half breaks TLS; the reason is known.
            Poll::Ready(Err(_)) if self.watch.is_late() => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) => {
                let read = buf.filled().len() - before;
                if read > 0 {
                    self.watch.moves();
                }
                if in_body {
                    self.watch.has_body(read, clock::now);
                }
                Poll::Ready(Ok(()))
            }
            failed => failed,
        }
    }

    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = 0;
        let result = loop {
            if written == self.gathered.len() {
                break Poll::Ready(Ok(()));
            }
            match poll_write(&mut self.transport, &self.watch, cx, &self.gathered[written..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => written += n,
                Poll::Ready(Err(e)) => break Poll::Ready(Err(e)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.gathered.drain(..written);
        result
    }
}

/// Writes what fits, and notes whether the client takes anything.
fn poll_write(
    transport: &mut Transport,
    watch: &ClientWatch,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match Pin::new(transport).poll_write(cx, bytes) {
        Poll::Pending => {
            watch.stalls(clock::now);
            Poll::Pending
        }
        done => {
            watch.moves();
            watch.takes();
            done
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.cleared > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            if this.watch.is_tunnel() {
                this.framing.pass_all();
            }
            match this.framing.phase() {
                Phase::Raw if this.frames.is_some() => return this.poll_frames(cx, buf),
                Phase::Raw if this.ahead.is_empty() => return this.poll_transport(cx, buf),
                Phase::Raw => this.cleared = this.ahead.len(),
                Phase::Between if this.watch.take_over() => {
                    if !this.ahead.is_empty() {
                        this.watch.unparks();
                    }
                    this.framing.next();
                }
                // The bytes ahead belong to the next request; only the end of this one is awaited.
                Phase::Between if !this.ahead.is_empty() => match this.watch.parks(cx) {
                    true => return Poll::Ready(Ok(())),
                    false => return Poll::Pending,
                },
                Phase::Between => match ready!(this.poll_ahead(cx))? {
                    0 => return Poll::Ready(Ok(())),
                    _ => continue,
                },
                Phase::Head | Phase::Body => {
                    let got = match this.ahead.is_empty() {
                        true => ready!(this.poll_straight(cx, buf))?,
                        false if this.clear()? || ready!(this.poll_ahead(cx))? > 0 => Got::Ahead,
                        false => this.ended()?,
                    };
                    if got == Got::Ready {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() + buf.len() > GATHER_BYTES {
            ready!(self.poll_gathered(cx))?;
        }
        if buf.len() > GATHER_BYTES {
            let this = self.get_mut();
            let written = poll_write(&mut this.transport, &this.watch, cx, buf);
            if let Poll::Ready(Ok(written)) = written {
                this.went(&buf[..written]);
            }
            return written;
        }
        self.gathered.extend_from_slice(buf);
        self.went(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(cx))?;
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.transport).poll_flush(cx);
        match flushed.is_pending() {
            true => this.watch.stalls(clock::now),
            false => this.watch.takes(),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(cx))?;
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}

#[async_trait]
impl pingora::protocols::Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The peer may be gone already.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.transport.fd()
    }
}

impl Ssl for Connection {}

impl Peek for Connection {}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("transport", &self.transport).finish_non_exhaustive()
    }
}
