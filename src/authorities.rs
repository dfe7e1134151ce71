//! The system's root certificates, for Pingora's connectors.
//!
//! Pingora panics if it cannot read them, for example if /etc/ssl has a link to a bundle that is not installed. So they
//! are read once before, with its own function. If that fails or finds none, as on a machine without the package
//! ca-certificates, connectors get no certificates: then only the `tls.ca` of an upstream makes its servers trusted
//! over HTTPS.

use std::sync::LazyLock;

use pingora::connectors::ConnectorOptions;
use pingora::tls::{RootCertStore, load_platform_certs_incl_env_into_store};

/// A file without certificates.
const NOTHING: &str = "/dev/null";
/// A root certificate whose key was never kept, so nothing is signed with it.
const NOBODY: &[u8] = include_bytes!("authorities/nobody.der");

static PRESENT: LazyLock<bool> = LazyLock::new(|| {
    let mut store = RootCertStore::empty();
    let why = match load_platform_certs_incl_env_into_store(&mut store) {
        Ok(()) if !store.is_empty() => return true,
        Ok(()) => "the system has no certificates of authorities".to_owned(),
        Err(e) => e.to_string(),
    };
    log::warn!(
        "no server is trusted over https but by the `tls.ca` of its upstream: {why}; install the system's certificates \
         (ca-certificates), or set SSL_CERT_FILE"
    );
    false
});

/// The file that a connector should read instead of the system's certificates.
pub fn ca_file() -> Option<String> {
    (!*PRESENT).then(|| NOTHING.to_owned())
}

/// A root certificate for connections that verify nothing, where the system has none: without any, rustls makes no
/// verifier, and so Pingora no connection.
pub fn nobody() -> Option<&'static [u8]> {
    (!*PRESENT).then_some(NOBODY)
}

/// The options of a connector that keeps `idle_max` idle connections.
pub fn options(idle_max: usize) -> ConnectorOptions {
    ConnectorOptions { ca_file: ca_file(), ..ConnectorOptions::new(idle_max) }
}
