//! The system's root certificates, for Pingora's connectors.
//!
//! Pingora panics if it cannot read them, for example if /etc/ssl has a link to a bundle that is not installed. So they
//! are read once before, with its own function. If that fails, connectors get no certificates: then only the `tls.ca`
//! of an upstream makes its servers trusted over HTTPS.

use std::sync::LazyLock;

use pingora::connectors::ConnectorOptions;
use pingora::tls::{RootCertStore, load_platform_certs_incl_env_into_store};

/// A file without certificates.
const NOTHING: &str = "/dev/null";

static READABLE: LazyLock<bool> = LazyLock::new(|| {
    let read = load_platform_certs_incl_env_into_store(&mut RootCertStore::empty());
    if let Err(why) = &read {
        log::warn!(
            "no server is trusted over https but by the `tls.ca` of its upstream: {why}; install the system's \
             certificates (ca-certificates), or set SSL_CERT_FILE"
        );
    }
    read.is_ok()
});

/// The file that a connector should read instead of the system's certificates.
pub fn ca_file() -> Option<String> {
    (!*READABLE).then(|| NOTHING.to_owned())
}

/// The options of a connector that keeps `idle_max` idle connections.
pub fn options(idle_max: usize) -> ConnectorOptions {
    ConnectorOptions { ca_file: ca_file(), ..ConnectorOptions::new(idle_max) }
}
