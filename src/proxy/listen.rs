//! Listening sockets and the connections they take, until the process drains.
//!
//! We accept ourselves instead of through Pingora's `Server`: all listeners then share one proxy and one pool of
//! upstream connections, a shutdown can wait for exactly what is in flight, and sockets can later be handed over. The
//! loop over a connection's requests is the one of Pingora's `ServerApp`, with the idle timeout of our listener (`idle`)
//! and with pipelining on: without it a pipelined request would abort the one before it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::Gateway;
use super::connection::Connection;
use super::dial::Dialer;
use super::idle::Sweeper;
use crate::telemetry::shard::Gauge;

const BACKLOG: u32 = 4096;
/// Pause when accepting fails, as it does while no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Pingora's word for a connection that it does not close by itself; `idle` does.
const FOR_EVER: u64 = 0;

/// Opens a listening socket. Needs a Tokio runtime around it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One listener's part of the process.
pub struct Acceptor {
    /// The socket.
    pub socket: TcpListener,
    /// Its address in the configuration.
    pub address: SocketAddr,
    /// The proxy all listeners share.
    pub proxy: Arc<HttpProxy<Gateway, Dialer>>,
    /// Connections open now.
    pub open: Arc<Gauge>,
    /// Closes silent connections.
    pub idle: Arc<Sweeper>,
    /// Turns true when the process drains.
    pub shutdown: ShutdownWatch,
}

impl Acceptor {
    /// Takes connections until the process drains; the socket closes then.
    pub async fn run(self) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = shutdown.wait_for(|draining| *draining) => return,
            };
            match accepted {
                Ok((stream, from)) => self.serve(stream, from),
                Err(e) => {
                    log::error!("listener {}: accepting a connection failed: {e}", self.address);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, from: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let Ok(connection) = Connection::new(stream, from, &self.idle) else { return };
        let open = Open::new(&self.open);
        let (proxy, shutdown) = (self.proxy.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let _open = open;
            requests(&proxy, connection, &shutdown).await;
        });
    }
}

async fn requests(proxy: &Arc<HttpProxy<Gateway, Dialer>>, connection: Connection, shutdown: &ShutdownWatch) {
    let mut session = ServerSession::new_http1(Box::new(connection));
    session.set_keepalive(Some(FOR_EVER));
    session.set_pipelining_enabled(true);
    let mut kept = proxy.process_new_http(session, shutdown).await;
    while let Some((stream, settings)) = kept.map(|kept| kept.consume()) {
        let mut session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        kept = proxy.process_new_http(session, shutdown).await;
    }
}

/// Counts a connection as open while it lives.
struct Open(Arc<Gauge>);

impl Open {
    fn new(open: &Arc<Gauge>) -> Open {
        open.up();
        Open(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.down();
    }
}
