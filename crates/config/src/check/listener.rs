//! The checks of `[[listener]]`.
//!
//! Every certificate is parsed and compared with its key here, so that no handshake meets one that cannot serve.
//! Whether it is still valid is for the client to check.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::CA_MAX;
use super::{Check, collide, duration, number, size};
use crate::file::listener as form;
use crate::file::scalar::{FilePath, Size, Word};
use crate::file::{ConfigForm, Item};
use crate::model::{Certificate, ClientCa, Listener, ListenerTls};
use crate::source_map::Span;
use base::secret::FILE_MAX;

/// Bounds of `head_max` and `uri_max`.
const HEAD_BYTES: (u64, u64) = (1 << 10, 512 << 10);
const URI_BYTES: (u64, u64) = (64, 60 << 10);
/// The most bytes of a private key's file.
const KEY_FILE_MAX: u64 = 16 * FILE_MAX;

impl Check<'_, '_> {
    pub(super) fn listeners(&mut self, form: &ConfigForm) -> Vec<Listener> {
        if form.listeners.is_empty() && form.whole {
            self.findings.nowhere("there is no `[[listener]]`", "add one: [[listener]] address = \"127.0.0.1:8080\"");
        }
        let nobody = form.trusted.as_ref().is_none_or(|item| item.form.proxies.is_empty() && item.whole);
        let mut taken: Vec<(SocketAddr, &Span)> = Vec::new();
        let mut listeners = Vec::new();
        for item in &form.listeners {
            let listener = self.listener(item, nobody);
            let Some(address) = &item.form.address else {
                self.missing(item.whole, &item.span, "address", "address = \"127.0.0.1:8080\"");
                continue;
            };
            let wanted = address.value.0;
            if let Some((_, first)) = taken.iter().find(|(other, _)| collide(*other, wanted)) {
                self.collision(&address.span, &format!("another listener has `{wanted}` already"), first);
            }
            taken.push((wanted, &address.span));
            listeners.extend(listener);
        }
        listeners
    }

    /// `nobody`: no proxy is trusted.
    fn listener(&mut self, item: &Item<form::ListenerForm>, nobody: bool) -> Option<Listener> {
        let form = &item.form;
        let tls = form.tls.as_ref().map(|at| self.listener_tls(&at.span, &at.value.0, item.whole));
        let h2c = form.h2c.as_ref().filter(|at| at.value);
        if let (Some(at), Some(_)) = (h2c, &form.tls) {
            let hint = "remove it: with `tls`, HTTP/2 is agreed on in the handshake (ALPN)";
            self.findings.at(&at.span, "`h2c` is HTTP/2 without TLS", hint);
        }
        let proxied = form.proxy_protocol.as_ref().filter(|at| at.value);
        if let Some(at) = proxied.filter(|_| nobody) {
            let hint = "add `[trusted] proxies = [\"10.0.0.0/8\"]`: from anyone else the connection closes";
            self.findings.at(&at.span, "`proxy_protocol` without `trusted.proxies` closes every connection", hint);
        }
        let header_timeout = self.lasting("header_timeout", "10s", &form.header_timeout);
        let idle_timeout = self.lasting("idle_timeout", "60s", &form.idle_timeout);
        let head_max = self.size_within(&form.head_max, HEAD_BYTES, ("1KiB", "512KiB"));
        let uri_max = self.size_within(&form.uri_max, URI_BYTES, ("64B", "60KiB"));
        let address = form.address.as_ref()?;
        Some(Listener {
            address: address.value.0,
            h2c: h2c.is_some(),
            proxy_protocol: proxied.is_some(),
            header_timeout,
            idle_timeout,
            body_min_rate: size(&form.body_min_rate),
            head_max,
            headers_max: number(&form.headers_max) as usize,
            uri_max,
            max_connections_per_ip: number(&form.max_connections_per_ip) as u32,
            tls: tls.flatten(),
            place: self.places.place(&address.span),
        })
    }

    fn lasting(&mut self, key: &str, such_as: &str, written: &Option<Word<Duration>>) -> Duration {
        let timeout = duration(written);
        if let Some(at) = written.as_ref().filter(|_| timeout.is_zero()) {
            let message = format!("`{key}` must be longer than nothing: every connection would close at once");
            self.findings.at(&at.span, message, format!("such as \"{such_as}\""));
        }
        timeout
    }

    fn size_within(
        &mut self,
        written: &Option<Word<Size>>,
        (least, most): (u64, u64),
        (from, to): (&str, &str),
    ) -> usize {
        let size = size(written);
        if let Some(at) = written.as_ref().filter(|_| !(least..=most).contains(&size)) {
            self.findings.at(&at.span, "the size is out of range", format!("from \"{from}\" to \"{to}\""));
        }
        size as usize
    }

    fn listener_tls(&mut self, span: &Span, form: &form::ListenerTlsForm, whole: bool) -> Option<ListenerTls> {
        let example = "certificates = [{ cert = \"tls/a.crt\", key = \"tls/a.key\" }]";
        let Some(written) = &form.certificates else {
            self.missing(whole, span, "certificates", example);
            return None;
        };
        if written.value.is_empty() && whole {
            self.findings.at(&written.span, "`certificates` is empty", format!("such as {example}"));
        }
        let mut certificates = Vec::new();
        for at in &written.value {
            let form = &at.value.0;
            match (&form.cert, &form.key) {
                (Some(cert), Some(key)) => certificates.extend(self.certificate(cert, key)),
                (None, _) => self.missing(whole, &at.span, "cert", "{ cert = \"tls/a.crt\", key = \"tls/a.key\" }"),
                (_, None) => self.missing(whole, &at.span, "key", "{ cert = \"tls/a.crt\", key = \"tls/a.key\" }"),
            }
        }
        let client_ca = form.client_ca.as_ref().map(|file| self.client_ca(file));
        Some(ListenerTls { certificates, client_ca: client_ca.flatten() })
    }

    fn certificate(&mut self, cert: &Word<FilePath>, key: &Word<FilePath>) -> Option<Certificate> {
        let chain = self.certificates(cert);
        let key_bytes = self.file(key, KEY_FILE_MAX);
        let hint =
            "a PEM file with `-----BEGIN PRIVATE KEY-----`, not encrypted: RSA, ECDSA P-256 or P-384, or Ed25519";
        let (chain, key_bytes) = (chain?, key_bytes?);
        let signer = match PrivateKeyDer::from_pem_slice(&key_bytes) {
            Err(error) => {
                self.findings.at(&key.span, format!("the file holds no private key: {error}"), hint);
                return None;
            }
            Ok(der) => ring::sign::any_supported_type(&der),
        };
        let Ok(signer) = signer else {
            self.findings.at(&key.span, "the private key is of no kind that serves", hint);
            return None;
        };
        let names = names(chain.first()?);
        let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            // A signer that cannot give its public key is not one of ours.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let hint = "name the key that was made with the first certificate of `cert`";
                self.findings.at(&key.span, "the private key does not fit the certificate", hint);
                return None;
            }
            Err(error) => {
                let hint = "the server's own certificate stands first, X.509 version 3; make it anew";
                self.findings.at(&cert.span, format!("the certificate cannot serve: {error}"), hint);
                return None;
            }
        }
        Some(Certificate { key: Arc::new(certified), names })
    }

    fn client_ca(&mut self, file: &Word<FilePath>) -> Option<ClientCa> {
        let authorities = self.certificates(file)?;
        let mut roots = RootCertStore::empty();
        for (at, der) in authorities.iter().enumerate() {
            if let Err(error) = roots.add(CertificateDer::from(der.clone())) {
                let message = format!("certificate {} in the file cannot be an authority: {error}", at + 1);
                self.findings.at(&file.span, message, "name the certificates that sign those of the clients");
                return None;
            }
        }
        let provider = Arc::new(ring::default_provider());
        match WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build() {
            Ok(verifier) => Some(ClientCa { authorities, verifier }),
            Err(error) => {
                let hint = format!("a PEM file of at most {} MiB", CA_MAX >> 20);
                self.findings.at(&file.span, format!("client certificates cannot be verified: {error}"), hint);
                None
            }
        }
    }
}

/// DNS names that a certificate covers, in lower case; its common name where it has no alternative names.
fn names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    let names: Vec<String> = names.filter_map(dns).collect();
    if alternative.is_some() {
        return names;
    }
    certificate.subject().iter_common_name().filter_map(|name| Some(name.as_str().ok()?.to_ascii_lowercase())).collect()
}
