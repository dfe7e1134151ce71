//! Reads the files a configuration names: tokens and certificates, each with a bound.
//!
//! Every file read is noted, so that a change of it reloads too; also one that could not be read, which may appear.
//! Whether a certificate is still valid in time is the handshake's business.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Check;
use crate::config::file::word::{FilePath, Word};
use crate::config::model::Secret;

const TOKEN_MAX: u64 = 4 << 10;
const CA_MAX: u64 = 16 << 20;

impl Check<'_, '_> {
    /// A bearer token: one line of visible ASCII.
    pub(super) fn token(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, TOKEN_MAX)?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
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

    /// The certificates of a PEM file, at least one.
    pub(super) fn certificates(&mut self, file: &Word<FilePath>) -> Option<Arc<[Vec<u8>]>> {
        let bytes = self.file(file, CA_MAX)?;
        let hint = "a PEM file with `-----BEGIN CERTIFICATE-----`";
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match read {
            Ok(read) if read.is_empty() => self.findings.at(&file.span, "the file holds no certificate", hint),
            // A handshake expects what it is given to parse, so what does not must not get that far.
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

    fn file(&mut self, file: &Word<FilePath>, max: u64) -> Option<Vec<u8>> {
        let path = self.source.root.join(&file.value.0.0);
        let read = read(&path, max);
        if let Err(error) = &read {
            let message = format!("the file cannot be read: {error}");
            let hint = format!("looked for {}; relative paths start at the config's folder", path.display());
            self.findings.at(&file.span, message, hint);
        }
        if !self.files.contains(&path) {
            self.files.push(path);
        }
        read.ok()
    }
}

fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would block, so what is no regular file is not opened.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        Err(io::Error::other(format!("it is larger than {} KiB", max >> 10)))
    } else {
        Ok(bytes)
    }
}
