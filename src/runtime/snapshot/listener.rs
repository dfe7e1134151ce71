//! The run form of a listener: limits that outlive a snapshot, and its TLS.
//!
//! A handshake uses the snapshot of its moment, so certificates and client CAs change with it. A client that proved
//! itself by a certificate is checked again with each request ([`Shown`]): its connection must outlive neither the
//! authorities that it was checked against nor the certificate. It gets no ticket either: a resumed session presents
//! the certificate of the first handshake, and only a full handshake asks for the current one.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use config::model::{self, Certificate, ListenerTls};
use http_guard::head::Limits;

/// A running listener.
pub struct Listener {
    /// Its address.
    pub address: SocketAddr,
    /// The limits of its heads.
    pub bounds: Arc<Bounds>,
    /// Its TLS; `None` on a plain one.
    pub tls: Option<Arc<Tls>>,
}

impl Listener {
    pub(super) fn new(model: &model::Listener, previous: Option<(&model::Listener, &Listener)>) -> Listener {
        let bounds = previous.map_or_else(Arc::default, |(_, run)| run.bounds.clone());
        bounds.follow(model);
        let same = previous.filter(|(before, _)| before.tls == model.tls).and_then(|(_, run)| run.tls.clone());
        let tls = model.tls.as_ref().map(|tls| same.unwrap_or_else(|| Arc::new(Tls::new(tls))));
        Listener { address: model.address, bounds, tls }
    }
}

/// The TLS of a listener.
pub struct Tls {
    /// Configuration of handshakes.
    pub config: Arc<ServerConfig>,
    names: Arc<Names>,
    /// Names of each certificate.
    covered: Vec<Arc<[String]>>,
    /// Authorities of the certificates that clients must show, DER.
    authorities: Option<Arc<[Vec<u8>]>>,
}

/// What a client showed at a listener that requires certificates, and what it was shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The listener's address.
    pub(super) address: SocketAddr,
    /// Names that the listener's certificate covers.
    pub covered: Arc<[String]>,
    authorities: Arc<[Vec<u8>]>,
    /// When the client's certificate expires, in seconds since 1970.
    ends_s: i64,
}

impl Shown {
    /// Whether it would still be admitted, at a time in seconds since 1970. `tls` is the listener's present TLS.
    pub(super) fn holds(&self, tls: Option<&Tls>, now_s: u64) -> bool {
        let asked = tls.and_then(|tls| tls.authorities.as_ref());
        // A listener that no longer requires certificates admits every client.
        asked.is_none_or(|asked| {
            let same = Arc::ptr_eq(asked, &self.authorities) || **asked == *self.authorities;
            same && i64::try_from(now_s).is_ok_and(|now| now <= self.ends_s)
        })
    }
}

impl Tls {
    fn new(tls: &ListenerTls) -> Tls {
        let names = Arc::new(Names::new(&tls.certificates));
        let provider = Arc::new(ring::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
        let builder = versions.expect("the provider has suites for both versions");
        let builder = match &tls.client_ca {
            Some(ca) => builder.with_client_cert_verifier(ca.verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(names.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if let Some(ticketer) = TICKETER.clone().filter(|_| tls.client_ca.is_none()) {
            config.ticketer = ticketer;
        }
        let covered = tls.certificates.iter().map(|it| Arc::from(&it.names[..])).collect();
        let authorities = tls.client_ca.as_ref().map(|ca| ca.authorities.clone());
        Tls { config: Arc::new(config), names, covered, authorities }
    }

    /// What was shown in a handshake at this address, if clients must show a certificate.
    pub fn shown(&self, address: SocketAddr, session: &ServerConnection) -> io::Result<Option<Shown>> {
        let Some(authorities) = self.authorities.clone() else { return Ok(None) };
        let unreadable =
            || io::Error::new(io::ErrorKind::InvalidData, "the end of the client's certificate is unknown");
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let ends_s = certificate.and_then(|der| ends_s(der)).ok_or_else(unreadable)?;
        let covered = self.covered.get(self.names.pick(session.server_name())).cloned().unwrap_or_default();
        Ok(Some(Shown { address, covered, authorities, ends_s }))
    }
}

/// When a certificate expires, in seconds since 1970.
fn ends_s(der: &[u8]) -> Option<i64> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate.validity().not_after.timestamp())
}

/// For all listeners without client certificates: resumption proves nothing there.
static TICKETER: LazyLock<Option<Arc<dyn ProducesTickets>>> =
    LazyLock::new(|| ring::Ticketer::new().inspect_err(|e| log::warn!("TLS sessions cannot be resumed: {e}")).ok());

/// Certificates by name.
#[derive(Debug)]
struct Names {
    /// Exact names, and wildcards as `.example.com`.
    by_name: HashMap<String, usize>,
    keys: Vec<Arc<CertifiedKey>>,
}

impl Names {
    fn new(certificates: &[Certificate]) -> Names {
        let mut by_name = HashMap::new();
        for (index, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                by_name.entry(name.strip_prefix('*').unwrap_or(name).to_owned()).or_insert(index);
            }
        }
        Names { by_name, keys: certificates.iter().map(|certificate| certificate.key.clone()).collect() }
    }

    /// Number of the certificate for a name: the exact one, otherwise the wildcard's (one label, RFC 6125), otherwise
    /// the first.
    fn pick(&self, asked: Option<&str>) -> usize {
        let Some(asked) = asked else { return 0 };
        let wildcard = || asked.find('.').and_then(|dot| self.by_name.get(&asked[dot..]));
        self.by_name.get(asked).or_else(wildcard).copied().unwrap_or(0)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.keys.get(self.pick(hello.server_name())).cloned()
    }
}

/// Whether one of a certificate's names covers a host: lower case, without port.
pub fn covers(names: &[String], host: &str) -> bool {
    names.iter().any(|name| match name.strip_prefix('*') {
        Some(suffix) => host.find('.').is_some_and(|dot| dot > 0 && &host[dot..] == suffix),
        None => name == host,
    })
}

/// The limits of the heads at a listener. They change with the configuration, also for open connections.
#[derive(Debug, Default)]
pub struct Bounds {
    head_max: AtomicUsize,
    headers_max: AtomicUsize,
    uri_max: AtomicUsize,
}

impl Bounds {
    /// Applies a configuration's values.
    pub fn follow(&self, listener: &model::Listener) {
        self.head_max.store(listener.head_max, Ordering::Relaxed);
        self.headers_max.store(listener.headers_max, Ordering::Relaxed);
        self.uri_max.store(listener.uri_max, Ordering::Relaxed);
    }

    /// The present limits.
    pub fn limits(&self) -> Limits {
        Limits {
            head_max: self.head_max.load(Ordering::Relaxed),
            headers_max: self.headers_max.load(Ordering::Relaxed),
            uri_max: self.uri_max.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_one_label() {
        let names = ["a.example".to_owned(), "*.b.example".to_owned()];
        for (host, expected) in [
            ("a.example", true),
            ("x.a.example", false),
            ("x.b.example", true),
            ("b.example", false),
            ("x.y.b.example", false),
            (".b.example", false),
        ] {
            assert_eq!(covers(&names, host), expected, "{host}");
        }
    }
}
