//! One active probe of one server: a TCP connect, or an HTTP GET over the upstream's own protocol and TLS.
//!
//! Any 2xx or 3xx is good, and the probe does not wait for the body. Each probe opens its own connection, because it
//! asks whether one can be opened; one time limit covers all of it. It follows the check of `pingora-load-balancing`
//! (`HttpHealthCheck`), which is not used because each instance reads the system's certificates again, requires exactly
//! 200, and has no limit on the whole. It does not count: `hysteresis` does.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use pingora::OrErr;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::net::TcpStream;

use config::model::Health;

/// Identifies the probe in a backend's log.
const USER_AGENT: &str = concat!("tollgate-health/", env!("CARGO_PKG_VERSION"));

/// What is probed, and how.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) address: SocketAddr,
    pub(super) health: Health,
    /// How to connect: as for requests.
    pub(super) peer: Arc<HttpPeer>,
}

/// Why a probe failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It took longer than this.
    Timeout(Duration),
    /// No connection.
    Connect(std::io::Error),
    /// No connection, or no answer on it.
    Http(Box<pingora::Error>),
    /// An answer that is not 2xx or 3xx.
    Status(u16),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Timeout(limit) => write!(f, "no answer within {limit:?}"),
            Failure::Connect(error) => write!(f, "cannot connect: {error}"),
            Failure::Http(error) => match &error.cause {
                Some(cause) => write!(f, "{}: {cause}", error.etype().as_str()),
                None => f.write_str(error.etype().as_str()),
            },
            Failure::Status(status) => write!(f, "answered {status}"),
        }
    }
}

impl From<Box<pingora::Error>> for Failure {
    fn from(error: Box<pingora::Error>) -> Failure {
        Failure::Http(error)
    }
}

/// Probes once.
pub(super) async fn probe(plan: &Plan, connector: &Connector) -> Result<(), Failure> {
    let limit = plan.health.timeout;
    let probed = async {
        match &plan.health.path {
            None => TcpStream::connect(plan.address).await.map(drop).map_err(Failure::Connect),
            Some(path) => get(plan, path, connector).await,
        }
    };
    tokio::time::timeout(limit, probed).await.unwrap_or(Err(Failure::Timeout(limit)))
}

async fn get(plan: &Plan, path: &str, connector: &Connector) -> Result<(), Failure> {
    let peer = probe_peer(&plan.peer);
    let host = if peer.sni.is_empty() { plan.address.to_string() } else { peer.sni.clone() };
    let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
    request.insert_header("user-agent", USER_AGENT)?;
    let (mut session, _) = connector.get_http_session(&peer).await?;
    match session {
        // Not both: strict servers refuse `Host` beside `:authority`.
        HttpSession::H2(_) => request.set_uri(absolute(&peer, &host, path)?),
        _ => request.insert_header("host", host)?,
    }
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    let status = final_status(&mut session).await?;
    session.shutdown().await;
    if (200..400).contains(&status) { Ok(()) } else { Err(Failure::Status(status)) }
}

/// A target in the form of HTTP/2: with scheme and authority.
fn absolute(peer: &HttpPeer, host: &str, path: &str) -> pingora::Result<Uri> {
    let scheme = if peer.is_tls() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(path).build();
    uri.or_err(pingora::InvalidHTTPHeader, "the target of a probe")
}

/// The final status of the answer. Informational ones come before it on HTTP/1.1 only: over HTTP/2 a lower layer skips
/// them.
async fn final_status(session: &mut HttpSession) -> Result<u16, Failure> {
    loop {
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |head| head.status.as_u16());
        let interim = (100..200).contains(&status) && status != 101;
        if !interim || !matches!(session, HttpSession::H1(_)) {
            return Ok(status);
        }
    }
}

/// The peer of requests, without their time limits, and with a new connection for each probe.
fn probe_peer(peer: &HttpPeer) -> HttpPeer {
    let mut peer = peer.clone();
    let options = &mut peer.options;
    options.connection_timeout = None;
    options.total_connection_timeout = None;
    options.read_timeout = None;
    options.write_timeout = None;
    options.max_h2_streams = 1;
    peer
}
