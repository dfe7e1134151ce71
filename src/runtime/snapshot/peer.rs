//! The connection settings of an upstream's servers, as Pingora's peers.
//!
//! A peer is built once, with the snapshot, and cloned for each attempt. Pingora's pool of idle connections ignores a
//! peer's CA and protocol, so `group_key` says which connections may be shared: those with equal trust.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::tls::CaType;
use pingora::protocols::{ALPN, TcpKeepalive};
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};

use crate::authorities;
use config::model::{Upstream, UpstreamTls};

/// TCP keep-alive of connections to servers: a server that vanished silently is noticed after about a minute and a
/// half, and a firewall in between does not forget the connection. A server that closes an idle connection is noticed
/// at once. In Pingora's pool, which holds the connections of TLS and of HTTP/2, an idle timeout would cost a timer for
/// each request and detect nothing more.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: usize = 3;
/// Requests that share one HTTP/2 connection to a server.
const STREAMS: usize = 100;

/// A peer of the upstream, without its address.
pub fn template(upstream: &Upstream) -> HttpPeer {
    let sni = upstream.tls.as_ref().map_or_else(String::new, |tls| tls.sni.clone());
    let mut peer = HttpPeer::new(SocketAddr::from(([0, 0, 0, 0], 0)), upstream.tls.is_some(), sni);
    peer.group_key = group_key(upstream);
    let options = &mut peer.options;
    options.total_connection_timeout = upstream.timeout.connect;
    // Without TLS and HTTP/2 the request way enforces this limit itself, at a lower cost.
    options.read_timeout = upstream.timeout.read.filter(|_| upstream.http2 || upstream.tls.is_some());
    options.write_timeout = upstream.timeout.write;
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: KEEPALIVE_IDLE,
        interval: KEEPALIVE_INTERVAL,
        count: KEEPALIVE_PROBES,
        user_timeout: Duration::ZERO,
    });
    if upstream.http2 {
        options.alpn = ALPN::H2;
        // `first_byte` and `total` end an attempt by shutting its socket down, so it must not share one.
        let alone = upstream.timeout.first_byte.is_some() || upstream.timeout.total.is_some();
        options.max_h2_streams = if alone { 1 } else { STREAMS };
    }
    if let Some(tls) = &upstream.tls {
        options.verify_cert = tls.verify;
        options.verify_hostname = tls.verify;
        options.ca = trusted(tls);
    }
    peer
}

/// The peer for an address.
pub fn at(template: &HttpPeer, address: SocketAddr) -> HttpPeer {
    let mut peer = template.clone();
    peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
    peer
}

fn trusted(tls: &UpstreamTls) -> Option<Arc<CaType>> {
    let certificate = |der: &[u8]| WrappedX509::new(der.to_vec(), parse_x509);
    match &tls.ca {
        Some(certificates) => Some(certificates.iter().map(|der| certificate(der)).collect()),
        None if !tls.verify => authorities::nobody().map(|der| [certificate(der)].into_iter().collect()),
        None => None,
    }
}

/// Equal for peers whose connections may be shared, across snapshots and upstreams of one process.
fn group_key(upstream: &Upstream) -> u64 {
    if upstream.tls.is_none() && !upstream.http2 {
        return 0;
    }
    let mut hasher = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
    upstream.http2.hash(&mut hasher);
    if let Some(tls) = &upstream.tls {
        (&tls.sni, tls.verify, &tls.ca).hash(&mut hasher);
    }
    hasher.finish() | 1
}

use std::hash::BuildHasher;
