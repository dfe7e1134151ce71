//! The reader of files that a configuration names: tokens, secrets and certificates, each with a size limit.
//!
//! Every file read is recorded, so that a change of it reloads the configuration; also one that could not be read,
//! since it may appear later. Whether a certificate is still valid is left to the handshake.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Check;
use crate::file::scalar::{FilePath, Word};
use base::secret::{BASE64, FILE_MAX, Secret, line};

pub(super) const CA_MAX: u64 = 16 << 20;

impl Check<'_, '_> {
    /// A bearer token: one line of visible ASCII.
    pub(super) fn token(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, FILE_MAX)?;
        let line = line(&bytes);
        if line.is_empty() {
            self.findings.at(&file.span, "the token file is empty", "put a token of at least 16 characters into it");
            return None;
        }
        if !line.iter().all(u8::is_ascii_graphic) {
            self.findings.at(&file.span, "the token is not one word", "one line of letters, digits and punctuation");
            return None;
        }
        Some(Secret(Arc::from(line)))
    }

    /// The secret of a webhook (Standard Webhooks 1.0.0): `whsec_` and 24 to 64 bytes in base64. It is never shown.
    pub(super) fn webhook_secret(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, FILE_MAX)?;
        let line = line(&bytes);
        let message = match line.strip_prefix(b"whsec_").map(|text| BASE64.decode(text)) {
            Some(Ok(secret)) if (24..=64).contains(&secret.len()) => return Some(Secret(Arc::from(secret))),
            Some(Ok(secret)) => format!("the webhook secret has {} bytes, not 24 to 64", secret.len()),
            Some(Err(_)) => "what follows `whsec_` in the webhook secret is not base64".to_owned(),
            None => "the webhook secret does not begin with `whsec_`".to_owned(),
        };
        let hint = "make one: (printf whsec_; head -c 32 /dev/urandom | base64) > the file";
        self.findings.at(&file.span, message, hint);
        None
    }

    /// The certificates of a PEM file, at least one.
    pub(super) fn certificates(&mut self, file: &Word<FilePath>) -> Option<Arc<[Vec<u8>]>> {
        let bytes = self.file(file, CA_MAX)?;
        let hint = "a PEM file with `-----BEGIN CERTIFICATE-----`";
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match read {
            Ok(read) if read.is_empty() => self.findings.at(&file.span, "the file holds no certificate", hint),
            // A handshake expects its certificates to parse, so an invalid one must not get that far.
            Ok(read) => match read.iter().position(|der| X509Certificate::from_der(der).is_err()) {
                None => return Some(read.iter().map(|der| der.to_vec()).collect()),
                Some(at) => {
                    let message = format!("certificate {} in the file is not a valid one", at + 1);
                    self.findings.at(&file.span, message, "make the file anew");
                }
            },
            Err(error) => self.findings.at(&file.span, format!("the file is not valid PEM: {error}"), hint),
        }
        None
    }

    /// The bytes of a file, at most `max` of them.
    pub(super) fn file(&mut self, file: &Word<FilePath>, max: u64) -> Option<Vec<u8>> {
        self.read_with(file, |path| {
            let mut bytes = Vec::new();
            open(path)?.take(max + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > max {
                Err(io::Error::other(format!("it is larger than {} KiB", max >> 10)))
            } else {
                Ok(bytes)
            }
        })
    }

    /// Reads a file with the function given; records it, and adds a finding for an error.
    pub(super) fn read_with<T>(
        &mut self,
        file: &Word<FilePath>,
        read: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Option<T> {
        let path = self.source.root.join(&file.value.0.0);
        let read = read(&path);
        if let Err(error) = &read {
            let message = format!("the file cannot be read: {error}");
            let hint = format!("looked for {}; relative paths start at the config's folder", path.display());
            self.findings.at(&file.span, message, hint);
        }
        self.files.insert(path);
        read.ok()
    }
}

/// Opens a regular file.
pub(super) fn open(path: &Path) -> io::Result<fs::File> {
    // Opening a pipe would block, so only regular files are opened.
    if fs::metadata(path)?.is_file() { fs::File::open(path) } else { Err(io::Error::other("it is not a regular file")) }
}
