//! Connections to servers, as Pingora's sessions see them: made here, limited here, and kept for the next request.
//!
//! Pingora can keep idle connections itself, but at a cost: a task for each connection, two shared tables, and a system
//! call for each reuse. Servers that speak HTTP/1.1 without TLS therefore get connections from [`Http1Connector`], over
//! a [`ServerStream`]. Whether a connection may be used again stays Pingora's decision (its `Connection` header, what
//! was read and what was sent). Having decided that it may, Pingora checks once that the stream is silent before it
//! would keep it. At that check a stream whose answer is complete reports its end, so Pingora drops it and
//! [`idle_pool`] keeps the connection. A stream dropped without that check is closed.
//!
//! The lane uses the same connections and the same pool, and over TLS too: those are opened by Pingora's connector and
//! kept here. On Pingora's way TLS and HTTP/2 use its own connections and pool; [`tracked`] only makes them subject to
//! limits.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::http::custom::{Connection, Connector};
use pingora::connectors::{L4Connect, TransportConnector};
use pingora::http::ResponseHeader;
use pingora::protocols::l4::{self, ext, socket};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::CustomALPN;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, SocketDigest, Ssl, Stream, TcpKeepalive,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora::upstreams::peer::{HttpPeer, Peer, Tracer, Tracing};
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::deadline::link::Link;
use super::idle_pool;
use crate::authorities;
use crate::proxy::transport::{poll_read, poll_write, poll_write_parts};
use base::clock;

/// Bytes of an answer per read. Up to a dozen such parts wait for a client that reads slowly, so this bounds its cost.
/// For a client that takes nothing now, or has not taken the last part yet, reads are small: enough for bytes that
/// carry no part of the answer, such as a long head or a chunk's size.
const READ_MAX: usize = 8 << 10;
const READ_AHEAD: usize = 256;

/// The ALPN by which a peer selects [`Http1Connector`]; it never goes over the wire.
pub fn plain() -> ALPN {
    static PLAIN: LazyLock<ALPN> = LazyLock::new(|| ALPN::Custom(CustomALPN::new(b"tollgate".to_vec())));
    PLAIN.clone()
}

/// Connects to servers that speak HTTP/1.1 without TLS.
#[derive(Debug)]
pub struct Http1Connector;

#[async_trait]
impl Connector for Http1Connector {
    type Session = ();

    async fn get_http_session<P: Peer + Send + Sync + 'static>(&self, peer: &P) -> Result<(Connection<()>, bool)> {
        let address = inet(peer.address())?;
        let open = match idle_pool::take(address.into()) {
            Some(open) => open,
            None => Box::new(connect(address, peer.total_connection_timeout(), peer.tcp_keepalive()).await?),
        };
        Ok((Connection::Stream(Box::new(ServerStream { open: Some(open), released: false })), false))
    }

    async fn reused_http_session<P: Peer + Send + Sync + 'static>(&self, _peer: &P) -> Option<()> {
        None
    }

    async fn release_http_session<P: Peer + Send + Sync + 'static>(&self, (): (), _: &P, _: Option<Duration>) {}
}

fn inet(address: &socket::SocketAddr) -> Result<SocketAddr> {
    let none = || Error::explain(ErrorType::InternalError, "servers are at internet addresses");
    address.as_inet().copied().ok_or_else(none)
}

/// Opens a connection to a server, within `limit`: over TLS if the peer says so.
pub async fn open(peer: &HttpPeer, limit: Option<Duration>) -> Result<ServerConnection> {
    let address = inet(peer.address())?;
    if !peer.tls() {
        return connect(address, limit, peer.tcp_keepalive()).await;
    }
    static SECURE: LazyLock<TransportConnector> =
        LazyLock::new(|| TransportConnector::new(Some(authorities::options(1))));
    let mut peer = peer.clone();
    peer.options.custom_l4 = Some(tracked());
    peer.options.total_connection_timeout = limit;
    let stream = SECURE.new_stream(&peer).await?;
    let digest = stream.get_proxy_digest();
    let link = digest.as_ref().and_then(|digest| Link::carried_by(digest).cloned());
    let (Some(digest), Some(link)) = (digest, link) else {
        return Error::e_explain(ErrorType::InternalError, "a connection without limits");
    };
    Ok(ServerConnection { to: Destination { address, group: peer.group_key }, link, digest, io: ServerIo::Tls(stream) })
}

/// Opens a connection without TLS, within `limit`.
async fn connect(
    address: SocketAddr,
    limit: Option<Duration>,
    keepalive: Option<&TcpKeepalive>,
) -> Result<ServerConnection> {
    let connecting = ext::connect(&address, None);
    let stream = match limit {
        None => connecting.await,
        Some(limit) => tokio::time::timeout(limit, connecting)
            .await
            .unwrap_or_else(|_| Error::e_explain(ErrorType::ConnectTimedout, format!("{address} after {limit:?}"))),
    }?;
    if let Some(keepalive) = keepalive {
        ext::set_tcp_keepalive(&stream, keepalive)?;
    }
    // An error means that the server has closed it meanwhile.
    let _ = stream.set_nodelay(true);
    let link = Link::new(stream.as_raw_fd());
    Ok(ServerConnection { to: address.into(), digest: digest(&link)?, link, io: ServerIo::Plain(stream) })
}

/// The digest that makes a session's [`Link`] available to the stages.
fn digest(link: &Arc<Link>) -> Result<Arc<ProxyDigest>> {
    // It is made for HTTP proxies and must contain an answer of one; here it only carries the link.
    let response = Box::new(ResponseHeader::build(200, Some(0))?);
    Ok(Arc::new(ProxyDigest::new(response, Some(Box::new(link.clone())))))
}

/// Where a connection leads: those of equal destinations serve each other's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The server.
    pub address: SocketAddr,
    /// Equal for equal trust; 0 without TLS.
    pub group: u64,
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Destination {
        Destination { address, group: 0 }
    }
}

impl Destination {
    /// Where this peer is.
    pub fn of(address: SocketAddr, peer: &HttpPeer) -> Destination {
        Destination { address, group: peer.group_key }
    }
}

/// An open connection to a server.
#[derive(Debug)]
pub struct ServerConnection {
    /// Where it leads.
    pub to: Destination,
    /// Its bytes.
    pub io: ServerIo,
    /// Its limits.
    pub link: Arc<Link>,
    digest: Arc<ProxyDigest>,
}

/// The bytes of a connection to a server.
#[derive(Debug)]
pub enum ServerIo {
    /// Plain TCP.
    Plain(TcpStream),
    /// Under TLS.
    Tls(Stream),
}

impl ServerIo {
    /// Reads what is available.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            ServerIo::Plain(tcp) => poll_read(tcp, cx, buf, usize::MAX),
            ServerIo::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }

    /// Writes what fits of these parts; without any, what TLS still holds.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: [&[u8]; 3]) -> Poll<io::Result<usize>> {
        match (self, parts) {
            (ServerIo::Plain(_), [[], [], []]) => Poll::Ready(Ok(0)),
            (ServerIo::Tls(tls), [[], [], []]) => Pin::new(tls).poll_flush(cx).map_ok(|()| 0),
            (ServerIo::Plain(tcp), parts) => poll_write_parts(Pin::new(tcp), cx, parts),
            (ServerIo::Tls(tls), parts) => poll_write_parts(Pin::new(tls), cx, parts),
        }
    }

    /// Whether nothing that was decrypted waits to be read.
    pub fn is_drained(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            ServerIo::Plain(_) => true,
            ServerIo::Tls(tls) => Pin::new(tls).poll_read(cx, &mut ReadBuf::new(&mut [0])).is_pending(),
        }
    }
}

impl Drop for ServerConnection {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// A connection in use by a request.
pub struct ServerStream {
    /// Present until it is dropped.
    open: Option<Box<ServerConnection>>,
    /// Pingora would keep it.
    released: bool,
}

impl ServerStream {
    fn open(&self) -> io::Result<(&ServerConnection, &TcpStream)> {
        match self.open.as_deref() {
            Some(open @ ServerConnection { io: ServerIo::Plain(tcp), .. }) => Ok((open, tcp)),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        if let Some(open) = self.open.take_if(|_| self.released) {
            idle_pool::keep(open);
        }
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.open.as_ref().is_some_and(|open| open.link.is_done()) {
            self.released = true;
            return Poll::Ready(Ok(()));
        }
        let (open, tcp) = self.open()?;
        if open.link.is_held(cx) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let max = if open.link.is_ahead() { READ_AHEAD } else { READ_MAX };
        let read = poll_read(tcp, cx, buf, max);
        open.link.reads(read.is_pending(), clock::now);
        if read.is_ready() {
            open.link.moved(buf.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let (open, tcp) = self.open()?;
        let written = poll_write(tcp, cx, buf);
        open.link.writes(written.is_pending(), clock::now);
        if written.is_ready() {
            open.link.moved(0);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(open) = &self.open {
            open.link.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(self.open()?.1).shutdown(std::net::Shutdown::Write))
    }
}

#[async_trait]
impl pingora::protocols::Shutdown for ServerStream {
    async fn shutdown(&mut self) {
        // The server may be gone already.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ServerStream {
    fn id(&self) -> UniqueIDType {
        self.open().map_or(-1, |(_, tcp)| tcp.as_raw_fd())
    }
}

impl Ssl for ServerStream {}

impl Peek for ServerStream {}

impl GetTimingDigest for ServerStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ServerStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.open.as_ref().map(|open| open.digest.clone())
    }
}

impl GetSocketDigest for ServerStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl fmt::Debug for ServerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream").field("open", &self.open).finish_non_exhaustive()
    }
}

/// Makes connections that Pingora keeps, for TLS and HTTP/2, with limits.
pub fn tracked() -> Arc<dyn L4Connect + Send + Sync> {
    static TRACKED: LazyLock<Arc<Tracked>> = LazyLock::new(|| Arc::new(Tracked));
    TRACKED.clone()
}

#[derive(Debug)]
struct Tracked;

#[async_trait]
impl L4Connect for Tracked {
    async fn connect(&self, address: &socket::SocketAddr) -> Result<l4::stream::Stream> {
        let mut stream = l4::stream::Stream::from(ext::connect(&inet(address)?, None).await?);
        let link = Link::new(stream.as_raw_fd());
        stream.tracer = Some(Tracer(Box::new(Traced(link.clone()))));
        let response = Box::new(ResponseHeader::build(200, Some(0))?);
        stream.set_proxy_digest(ProxyDigest::new(response, Some(Box::new(link))));
        Ok(stream)
    }
}

/// Learns of the connection's end before its socket is closed.
#[derive(Debug)]
struct Traced(Arc<Link>);

impl Tracing for Traced {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        self.0.close();
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(Traced(self.0.clone()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A connection as [`connect`] makes it.
    pub fn open(stream: TcpStream) -> Box<ServerConnection> {
        let link = Link::new(stream.as_raw_fd());
        Box::new(ServerConnection {
            to: stream.peer_addr().unwrap().into(),
            digest: digest(&link).unwrap(),
            link,
            io: ServerIo::Plain(stream),
        })
    }
}
