//! The model of a listener. Certificates and keys are parsed and match. Of two certificates that cover
//! one name the first one wins.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;

use base::finding::Place;

/// `[[listener]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The address to listen on.
    pub address: SocketAddr,
    /// HTTP/2 without TLS, beside HTTP/1.1; never with `tls`.
    pub h2c: bool,
    /// Whether every connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// The time limit of a whole head; never zero.
    pub header_timeout: Duration,
    /// How long a kept connection may be without a request; never zero.
    pub idle_timeout: Duration,
    /// Bytes per second, over any 10 s of a request body; 0 for no limit.
    pub body_min_rate: u64,
    /// The most bytes of a head.
    pub head_max: usize,
    /// The most headers of a head.
    pub headers_max: usize,
    /// The most bytes of a request target.
    pub uri_max: usize,
    /// Connections of one client address; 0 for no limit.
    pub max_connections_per_ip: u32,
    /// TLS; absent for plain connections.
    pub tls: Option<ListenerTls>,
    /// The place of `address`.
    pub place: Place,
}

/// `[listener.tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// At least one, in the order written; the first serves clients whose name no certificate covers.
    pub certificates: Vec<Certificate>,
    /// A client certificate of this authority is required.
    pub client_ca: Option<ClientCa>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Certificate {
    /// The chain and its key.
    pub key: Arc<CertifiedKey>,
    /// DNS names that it covers, lower case; `*.` stands for one label.
    pub names: Vec<String>,
}

impl PartialEq for Certificate {
    /// Compares the chains: a key that matches one can only be the same key.
    fn eq(&self, other: &Certificate) -> bool {
        self.key.cert == other.key.cert
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The authorities that sign client certificates.
#[derive(Clone)]
pub struct ClientCa {
    /// The authorities, DER.
    pub authorities: Arc<[Vec<u8>]>,
    /// Verifies the certificates of clients.
    pub verifier: Arc<dyn ClientCertVerifier>,
}

impl PartialEq for ClientCa {
    fn eq(&self, other: &ClientCa) -> bool {
        self.authorities == other.authorities
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCa").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}
