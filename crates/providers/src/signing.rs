//! Our own RSA keys, which sign what we ask of a provider, in the shapes in which providers' tools export them.
//!
//! PEM of PKCS#8 or PKCS#1, or the bare base64 of either. A key that does not sign is found when the configuration is
//! read, not when the first payer waits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use x509_parser::pem::Pem;

use super::configured::{FileError, FileKind};
use base::secret::{BASE64, Secret};

/// A file with an RSA private key of 2048 to 4096 bits. It is read as DER.
pub const PRIVATE_FILE: FileKind = FileKind { max: 64 << 10, read };

fn read(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let hint =
        "our own RSA private key, 2048 to 4096 bits: PEM (`PRIVATE KEY` or `RSA PRIVATE KEY`), or its base64 alone";
    let der = der(bytes).map_err(|message| FileError { message, hint })?;
    match pair(&der) {
        Ok(_) => Ok(der),
        Err(why) => Err(FileError::new(format!("the RSA private key cannot be used: {why}"), hint)),
    }
}

fn der(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let Some(pem) = Pem::iter_from_buffer(bytes).next() else {
        let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let der = BASE64.decode(&text).ok().filter(|der| !der.is_empty());
        return der.ok_or_else(|| "the file holds neither PEM nor a key in base64".to_owned());
    };
    let Pem { label, contents } = pem.map_err(|error| format!("the file is not valid PEM: {error}"))?;
    match &*label {
        "PRIVATE KEY" | "RSA PRIVATE KEY" => Ok(contents),
        "ENCRYPTED PRIVATE KEY" => Err("the private key has a passphrase: write it without one".to_owned()),
        other => Err(format!("the file holds no private key but a section `{}`", other.escape_debug())),
    }
}

/// The key of PKCS#8, else of PKCS#1.
fn pair(der: &[u8]) -> Result<RsaKeyPair, String> {
    let as_pkcs8 = RsaKeyPair::from_pkcs8(der);
    as_pkcs8.or_else(|of_pkcs8| RsaKeyPair::from_der(der).map_err(|_| of_pkcs8)).map_err(|why| why.to_string())
}

/// A key that signs by SHA-256 with RSA, PKCS#1 v1.5.
pub struct RsaSigner(Option<RsaKeyPair>);

impl std::fmt::Debug for RsaSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RsaSigner(..)")
    }
}

impl RsaSigner {
    /// A key, as [`PRIVATE_FILE`] reads it.
    pub fn new(key: &Secret) -> RsaSigner {
        RsaSigner(pair(&key.0).ok())
    }

    /// The signature in base64; empty without a usable key, which no provider takes.
    pub fn sign(&self, text: &[u8]) -> String {
        let Some(key) = &self.0 else { return String::new() };
        let mut signature = vec![0; key.public().modulus_len()];
        match key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature) {
            Ok(()) => STANDARD.encode(signature),
            Err(_) => String::new(),
        }
    }
}
