//! The HTTP client of Tollgate's own requests: webhooks, and commands that ask a running gateway.
//!
//! | module | is |
//! |---|---|
//! | [`api`] | a call to a payment provider |
//! | [`webhook`] | a POST to a receiver, signed as in Standard Webhooks |
//! | [`public`] | keeps requests away from private addresses |
//!
//! It speaks HTTP/1.1, follows no redirects, retries nothing, and uses no proxy from the environment: a request goes
//! where the configuration says. The system decides which certificates are valid. It does not send proxied
//! requests; those go through Pingora.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod api;
pub mod public;
pub mod webhook;

use std::sync::Arc;

use reqwest::ClientBuilder;
pub use reqwest::Error;
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// A builder with the settings that all clients share. It reads the system's certificates; a machine without any can
/// still use plain HTTP.
pub fn builder() -> Result<ClientBuilder, String> {
    Ok(builder_with(tls()?))
}

/// Reads the system's certificates.
fn tls() -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let tls = tls.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let tls = match Verifier::new(provider) {
        Ok(verifier) => tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        Err(why) => {
            log::warn!("no server is trusted over https, for this machine has no certificates of authorities: {why}");
            tls.with_root_certificates(RootCertStore::empty())
        }
    };
    let mut tls = tls.with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

fn builder_with(tls: ClientConfig) -> ClientBuilder {
    ClientBuilder::new()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        .tcp_nodelay(true)
        .user_agent(concat!("Tollgate/", env!("CARGO_PKG_VERSION")))
}
