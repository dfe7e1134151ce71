//! The identities at the front door, made for one run: the gateway's certificate and the keys of two apps.
//!
//! The certificate signs itself, so a client that trusts it trusts only this gateway. The first app's key is on disk
//! only as a hash.

use rcgen::generate_simple_self_signed;
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;

use crate::door::NAME;
use crate::payment::random;
use base::hex;

/// The secrets of the gateway and the apps.
#[derive(Clone)]
pub struct Identity {
    /// The certificate that clients trust.
    pub certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
    /// The key of the app that may call.
    pub acme: String,
    /// The key of the suspended app.
    pub globex: String,
}

impl Identity {
    /// Draws new ones.
    pub fn draw() -> Result<Identity, String> {
        let made = generate_simple_self_signed([NAME.to_owned()]);
        let made = made.map_err(|e| format!("no certificate can be made: {e}"))?;
        Ok(Identity {
            certificate: made.cert.der().clone(),
            certificate_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            acme: hex::encode(&random()?),
            globex: hex::encode(&random()?),
        })
    }

    /// The files, by their names beside those of the other secrets.
    pub fn files(&self) -> [(&'static str, String); 4] {
        let hash = hex::encode(digest(&SHA256, self.acme.as_bytes()).as_ref());
        [
            ("gateway.crt", self.certificate_pem.clone()),
            ("gateway.key", self.key_pem.clone()),
            ("acme.key", format!("sha256:{hash}")),
            ("globex.key", self.globex.clone()),
        ]
    }
}
