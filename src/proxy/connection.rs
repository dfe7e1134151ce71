//! A client's connection, as Pingora's sessions see it.
//!
//! It is Pingora's own stream without what we do not need: reads go straight into the session's buffer, and small
//! writes are gathered, so that a head and a short body leave in one packet. It carries who is at the other end and
//! since when it is idle, once per connection rather than once per request.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use http::HeaderValue;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, SocketDigest, Ssl, TimingDigest, UniqueID, UniqueIDType,
};
use pingora::proxy::Session;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::idle::{Idle, Sweeper};

/// Writes are gathered up to this many bytes.
const GATHER_BYTES: usize = 4096;

/// Who is at the other end of a connection, and what is known of the connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its address as a header value.
    pub text: HeaderValue,
    /// Since when the connection is without a request.
    pub idle: Arc<Idle>,
}

impl Peer {
    fn new(address: IpAddr) -> Peer {
        let text = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Peer { address, text, idle: Arc::default() }
    }

    /// The peer of a session; the unspecified address where the connection is none of ours.
    pub fn of(session: &Session) -> &Peer {
        static UNKNOWN: LazyLock<Peer> = LazyLock::new(|| Peer::new(Ipv4Addr::UNSPECIFIED.into()));
        let carried = session.as_ref().digest().and_then(|digest| digest.proxy_digest.as_ref()?.user_data.as_ref());
        carried.and_then(|data| data.downcast_ref::<Peer>()).unwrap_or_else(|| &UNKNOWN)
    }
}

/// A client's TCP connection.
pub struct Connection {
    stream: Arc<TcpStream>,
    gathered: Vec<u8>,
    socket: Arc<SocketDigest>,
    peer: Arc<ProxyDigest>,
}

impl Connection {
    /// Wraps an accepted connection, which `idle` closes when it is silent for too long.
    pub fn new(stream: TcpStream, from: SocketAddr, idle: &Sweeper) -> pingora::Result<Connection> {
        let stream = Arc::new(stream);
        let socket = SocketDigest::from_raw_fd(stream.as_raw_fd());
        let _ = socket.peer_addr.set(Some(pingora::protocols::l4::socket::SocketAddr::Inet(from)));
        let peer = Peer::new(from.ip().to_canonical());
        idle.follow(&stream, &peer.idle);
        // The digest is made for HTTP proxies, whose answer it holds; ours only carries `peer`.
        let response = Box::new(ResponseHeader::build(200, Some(0))?);
        Ok(Connection {
            stream,
            gathered: Vec::new(),
            socket: Arc::new(socket),
            peer: Arc::new(ProxyDigest::new(response, Some(Box::new(peer)))),
        })
    }

    /// Writes out what was gathered.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = 0;
        let result = loop {
            if written == self.gathered.len() {
                break Poll::Ready(Ok(()));
            }
            match poll_write(&self.stream, cx, &self.gathered[written..]) {
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

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        poll_read(&self.stream, cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() + buf.len() > GATHER_BYTES {
            ready!(self.poll_gathered(cx))?;
        }
        if buf.len() > GATHER_BYTES {
            return poll_write(&self.stream, cx, buf);
        }
        self.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_gathered(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_gathered(cx))?;
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

/// Reads what there is.
pub fn poll_read(stream: &TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let (room, mut read) = (buf.remaining(), 0);
        let tried = stream.try_io(Interest::READABLE, || {
            read = stream.try_read_buf(buf)?;
            // A read that leaves room has emptied the socket: saying so now spares the next read a system call.
            if (1..room).contains(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match tried {
            _ if read > 0 => return Poll::Ready(Ok(())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            tried => return Poll::Ready(tried),
        }
    }
}

/// Writes what fits.
pub fn poll_write(stream: &TcpStream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_write(buf) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

#[async_trait]
impl pingora::protocols::Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The other end may be gone already.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.stream.as_raw_fd()
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
        Some(self.peer.clone())
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stream", &self.stream).finish_non_exhaustive()
    }
}
