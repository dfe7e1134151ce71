//! Listening sockets and the connections they take, until the process drains.
//!
//! The gateway accepts itself instead of using Pingora's `Server`: all listeners then share one proxy and one pool of
//! upstream connections, a shutdown can wait for exactly what is in flight, and sockets can be handed over. A
//! connection passes several steps, each with a limit: PROXY header, a place for its address, TLS, the protocol. A
//! connection that fails one of them is closed without an answer, because it has no request yet.

pub mod address;
mod http1;
mod http2;
pub mod proxy_protocol;
pub mod room;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use bytes::BytesMut;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::address::{Place, Places};
use self::room::{ConnectionRoom, Inside};
use super::connection::{Connection, Peer};
use super::watch::ClientWatch;
use super::watch::sweeper::{Sweeper, TimeoutConfig};
use crate::problem::Reason;
use crate::proxy::Gateway;
use crate::proxy::observe;
use crate::proxy::transport::{Tcp, Transport};
use crate::proxy::upstream::connector::Http1Connector;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::snapshot::listener::Shown;
use crate::telemetry::Registry;
use crate::telemetry::access_log::AccessLog;
use base::clock;
use base::shard::Gauge;
use config::model::{self, Scheme};

/// Pause after a failed accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The HTTP/2 connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much longer a client may send after a refusal: closing at once would reset the connection, and the client might
/// never see the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;

/// The state of one listener.
pub struct ListeningSocket {
    /// Its address in the configuration.
    pub address: SocketAddr,
    /// The configuration for new connections.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The state that all requests share.
    pub gateway: Gateway,
    /// Pingora's way, which all listeners share.
    pub proxy: Arc<HttpProxy<Gateway, Http1Connector>>,
    /// Counters.
    pub registry: Arc<Registry>,
    /// The access log.
    pub access_log: Arc<AccessLog>,
    /// Connections open now.
    pub open: Arc<Gauge>,
    /// Ends connections whose clients take too long.
    pub sweeper: Arc<Sweeper>,
    /// Connections by client address.
    pub places: Arc<Places>,
    /// Connections of all listeners.
    pub room: Arc<ConnectionRoom>,
    /// Turns true when the process drains.
    pub shutdown: ShutdownWatch,
}

/// An accepted connection.
struct AcceptedConnection {
    transport: Transport,
    tcp: Arc<TcpStream>,
    /// Bytes of it read already.
    ahead: BytesMut,
    from: IpAddr,
    http2: bool,
    secure: bool,
    shown: Option<Arc<Shown>>,
    /// Given back when it closes.
    _place: Option<Place>,
}

impl ListeningSocket {
    /// Takes connections until the process drains; the socket closes then.
    pub async fn run(self: Arc<Self>, socket: TcpListener) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = shutdown.wait_for(|draining| *draining) => return,
            };
            match accepted {
                Ok((stream, from)) => match self.room.enter() {
                    Ok(inside) => {
                        let (watch, open) = (Arc::new(ClientWatch::default()), OpenConnection::new(&self.open, inside));
                        let task = tokio::spawn(self.clone().serve(stream, from.ip(), watch.clone(), open));
                        watch.runs_in(task.abort_handle());
                    }
                    Err(reason) => self.refused(reason),
                },
                Err(e) => {
                    log::error!("listener {}: accepting a connection failed: {e}", self.address);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The current limits for clients.
    pub fn patience(&self) -> TimeoutConfig {
        match settings(&self.snapshot.load(), self.address) {
            Some(it) => {
                TimeoutConfig { head: it.header_timeout, idle: it.idle_timeout, body_min_rate: it.body_min_rate }
            }
            None => TimeoutConfig { head: Duration::from_secs(10), idle: Duration::from_secs(60), body_min_rate: 0 },
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, from: IpAddr, watch: Arc<ClientWatch>, _open: OpenConnection) {
        let _ = stream.set_nodelay(true);
        let snapshot = self.snapshot.load();
        let Some(it) = settings(&snapshot, self.address) else { return };
        let plain = !it.proxy_protocol && it.tls.is_none() && !it.h2c;
        let limit = it.header_timeout;
        let arrived = match plain {
            true => Box::pin(self.greet(stream, from, snapshot)).await,
            // One timer for each connection with more steps before its first request.
            false => match timeout(limit, Box::pin(self.greet(stream, from, snapshot))).await {
                Ok(arrived) => arrived,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            },
        };
        match arrived {
            Ok(Some(arrived)) => self.requests(arrived, watch).await,
            Ok(None) => {}
            Err(e) => log::debug!("listener {}: a connection from {from} did not get in: {e}", self.address),
        }
    }

    /// The steps before the first request; `None` if the connection is refused.
    async fn greet(
        &self,
        stream: TcpStream,
        from: IpAddr,
        snapshot: Guard<Arc<Snapshot>>,
    ) -> io::Result<Option<AcceptedConnection>> {
        let Some(it) = settings(&snapshot, self.address) else { return Ok(None) };
        let (max, h2c) = (it.max_connections_per_ip, it.h2c);
        let tcp = Arc::new(stream);
        let mut transport = Tcp(tcp.clone());
        let mut from = from.to_canonical();
        if it.proxy_protocol {
            if !snapshot.trusts(from) {
                self.refused(Reason::UntrustedProxy);
                return Ok(None);
            }
            let told = proxy_protocol::read(&mut transport).await;
            from = told.inspect_err(|_| self.refused(Reason::UntrustedProxy))?.map_or(from, |told| told.to_canonical());
        }
        let place = if max > 0 { self.places.take(from, max) } else { None };
        if max > 0 && place.is_none() {
            self.refused(Reason::TooManyConnections);
            return Ok(None);
        }
        let tls = snapshot.listener(self.address).and_then(|listener| listener.tls.clone());
        drop(snapshot);
        let mut arrived = AcceptedConnection {
            transport: Transport::Plain(transport),
            tcp,
            ahead: BytesMut::new(),
            from,
            http2: false,
            secure: tls.is_some(),
            shown: None,
            _place: place,
        };
        match (tls, arrived.transport) {
            (Some(tls), Transport::Plain(tcp)) => {
                let stream = TlsAcceptor::from(tls.config.clone()).accept(tcp).await?;
                let session = stream.get_ref().1;
                arrived.http2 = session.alpn_protocol() == Some(b"h2");
                arrived.shown = tls.shown(self.address, session)?.map(Arc::new);
                arrived.transport = Transport::Tls(Box::new(stream));
            }
            (_, mut transport) => {
                if h2c {
                    arrived.http2 = begins_http2(&mut transport, &mut arrived.ahead).await?;
                }
                arrived.transport = transport;
            }
        }
        Ok(Some(arrived))
    }

    /// Whether a client with this certificate would be admitted now.
    fn lets_in(&self, shown: &Shown) -> bool {
        self.snapshot.load().lets_in(shown, clock::wall_ms_at(clock::now()) / 1000)
    }

    /// Counts a connection that is closed without an answer.
    fn refused(&self, reason: Reason) {
        self.registry.rejected(reason);
    }

    /// Counts and logs a request that ended before a stage could answer it.
    fn unseen(&self, reason: Reason, from: IpAddr) {
        observe::unseen(&self.registry, &self.access_log, reason, from);
    }

    async fn requests(self: &Arc<Self>, arrived: AcceptedConnection, watch: Arc<ClientWatch>) {
        let AcceptedConnection { transport, tcp, ahead, from, http2, secure, shown, _place } = arrived;
        let snapshot = self.snapshot.load();
        let Some(listener) = snapshot.listener(self.address) else { return };
        let peer = Peer {
            address: from,
            text: Peer::text(from),
            scheme: if secure { Scheme::Https } else { Scheme::Http },
            http2,
            shown,
            bounds: listener.bounds.clone(),
            watch: watch.clone(),
            sweeper: self.sweeper.clone(),
        };
        drop(snapshot);
        self.sweeper.follow(&tcp, &watch);
        let stream = http2.then(|| peer.for_stream());
        let Ok(connection) = Connection::new(transport, ahead, peer, http2) else { return };
        match stream {
            Some(peer) => Box::pin(http2::serve(self, connection, peer, &watch)).await,
            None => http1::serve(self, connection, from, &watch).await,
        }
        if watch.refused().is_some() {
            linger(&tcp).await;
        }
    }
}

/// The listener's part of the configuration.
fn settings(snapshot: &Snapshot, address: SocketAddr) -> Option<&model::Listener> {
    snapshot.config.listeners.iter().find(|listener| listener.address == address)
}

/// Whether a connection begins with the HTTP/2 preface. Bytes already read are in `ahead`.
async fn begins_http2(transport: &mut Transport, ahead: &mut BytesMut) -> io::Result<bool> {
    while ahead.len() < PREFACE.len() && PREFACE.starts_with(ahead) {
        if transport.read_buf(ahead).await? == 0 {
            return Ok(false);
        }
    }
    Ok(ahead.starts_with(PREFACE))
}

/// Lets a refused client finish, so that it reads its answer.
async fn linger(tcp: &TcpStream) {
    if SockRef::from(tcp).shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let rest = async {
        let (mut bytes, mut seen) = ([0; 4096], 0);
        while seen < LINGER_BYTES && tcp.readable().await.is_ok() {
            match tcp.try_read(&mut bytes) {
                Ok(0) => return,
                Ok(n) => seen += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    let _ = timeout(LINGER, rest).await;
}

/// Counts a connection as open while it lives.
struct OpenConnection(Arc<Gauge>, #[expect(dead_code, reason = "it is given back by dropping")] Inside);

impl OpenConnection {
    fn new(open: &Arc<Gauge>, inside: Inside) -> OpenConnection {
        open.up();
        OpenConnection(open.clone(), inside)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.down();
    }
}
