//! A listener in checked form. Certificates and keys are parsed and fit each other. Of two certificates that cover one name the
//! first one wins.

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
    /// Where to listen.
    pub address: SocketAddr,
    /// HTTP/2 without TLS, beside HTTP/1.1; never with `tls`.
    pub h2c: bool,
    /// Whether every connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// Time for a whole head; never zero.
    pub header_timeout: Duration,
    /// How long a kept connection may be without a request; never zero.
    pub idle_timeout: Duration,
    /// Bytes a second, over any 10 s of a request body; 0: no limit.
    pub body_min_rate: u64,
    /// Bytes of a head.
    pub head_max: usize,
    /// Headers of a head.
    pub headers_max: usize,
    /// Bytes of a request target.
    pub uri_max: usize,
    /// Connections of one client address; 0: no limit.
    pub max_connections_per_ip: u32,
    /// TLS; absent: plain.
    pub tls: Option<ListenerTls>,
    /// Where `address` stands.
    pub place: Place,
}

/// `[listener.tls]`
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// At least one, in the order written; the first one serves clients whose name none covers.
    pub certificates: Vec<Certificate>,
    /// A client certificate of this authority is required.
    pub client_ca: Option<ClientCa>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Certificate {
    /// Chain and key, which fit each other.
    pub key: Arc<CertifiedKey>,
    /// DNS names it covers, lower case; `*.` stands for one label.
    pub names: Vec<String>,
}

impl PartialEq for Certificate {
    /// By the chain: a key that fits it can only be the same one.
    fn eq(&self, other: &Certificate) -> bool {
        self.key.cert == other.key.cert
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Who signs client certificates.
#[derive(Clone)]
pub struct ClientCa {
    /// The authorities, DER.
    pub authorities: Arc<[Vec<u8>]>,
    /// Judges what clients present.
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
