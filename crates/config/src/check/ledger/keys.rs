//! The reader of the ledger's secrets: each kind has its own shape, and findings do not show the secret.
//!
//! A secret of the wrong shape would make every callback look forged, so shapes are checked even where a provider
//! promises none. One newline at the end of a file is removed.

use base64::Engine;

use super::super::Check;
use super::super::files::{BASE64, CA_MAX, TOKEN_MAX, line};
use super::rsa;
use crate::file::scalar::{FilePath, Word};
use crate::model::ledger::RsaKey;
use base::secret::Secret;

/// The number of hex digits of an encryption key.
const KEY_DIGITS: usize = 64;

impl Check<'_, '_> {
    /// An encryption key: 32 bytes, as 64 hex digits.
    pub(super) fn encryption_key(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, TOKEN_MAX)?;
        let digits = line(&bytes);
        let nibble = |digit: &u8| char::from(*digit).to_digit(16).map(|value| value as u8);
        let nibbles: Option<Vec<u8>> = digits.iter().map(nibble).collect();
        let message = match nibbles {
            Some(nibbles) if nibbles.len() == KEY_DIGITS => {
                let key: Vec<u8> = nibbles.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
                return Some(Secret(key.into()));
            }
            Some(nibbles) => format!("the key has {} hex digits, not {KEY_DIGITS}", nibbles.len()),
            None => format!("the key is not {KEY_DIGITS} hex digits: it has {} bytes, not all are", digits.len()),
        };
        let hint = "make one: openssl rand -hex 32 > the file, or head -c 32 /dev/urandom | xxd -p -c 32 > the file";
        self.findings.at(&file.span, message, hint);
        None
    }

    /// A password: one line.
    pub(super) fn password(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, TOKEN_MAX)?;
        let password = line(&bytes);
        if password.is_empty() || std::str::from_utf8(password).map_or(true, |text| text.contains(char::is_control)) {
            self.findings.at(&file.span, "the password is not one line of text", "put only the password into the file");
            return None;
        }
        Some(Secret(password.into()))
    }

    /// The signing secret of a Stripe endpoint, as the dashboard shows it.
    pub(super) fn stripe_secret(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, TOKEN_MAX)?;
        let secret = line(&bytes);
        let hint = "the endpoint's signing secret, which begins with `whsec_`";
        let api_key = [&b"sk_"[..], b"rk_", b"pk_"].iter().any(|start| secret.starts_with(start));
        if api_key {
            self.findings.at(&file.span, "this is an API key of Stripe, which signs nothing", hint);
        } else if secret.is_empty() || !secret.iter().all(u8::is_ascii_graphic) {
            self.findings.at(&file.span, "the secret is not one word", hint);
        } else {
            return Some(Secret(secret.into()));
        }
        None
    }

    /// A secret that is used as it is.
    pub(super) fn raw_secret(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, TOKEN_MAX)?;
        let secret = line(&bytes);
        if secret.is_empty() {
            self.findings.at(&file.span, "the secret is empty", "put the secret into the file, as the sender has it");
            return None;
        }
        Some(Secret(secret.into()))
    }

    /// WeChat Pay's APIv3 key.
    pub(super) fn api_v3_key(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, TOKEN_MAX)?;
        let key = line(&bytes);
        if key.len() != 32 {
            let message = format!("the APIv3 key has {} bytes, not 32", key.len());
            self.findings.at(&file.span, message, "the 32 characters that were set in the merchant platform");
            return None;
        }
        Some(Secret(key.into()))
    }

    /// The secret of Standard Webhooks: 24 to 64 bytes in base64, usually after `whsec_`.
    pub(super) fn signing_secret(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, TOKEN_MAX)?;
        let text = line(&bytes);
        let message = match BASE64.decode(text.strip_prefix(b"whsec_").unwrap_or(text)) {
            Ok(secret) if (24..=64).contains(&secret.len()) => return Some(Secret(secret.into())),
            Ok(secret) => format!("the webhook secret has {} bytes, not 24 to 64", secret.len()),
            Err(_) if text.starts_with(b"whsec_") => {
                "what follows `whsec_` in the webhook secret is not base64".to_owned()
            }
            Err(_) => "the webhook secret is neither `whsec_` and base64 nor base64".to_owned(),
        };
        let hint = "make one: (printf whsec_; head -c 32 /dev/urandom | base64) > the file";
        self.findings.at(&file.span, message, hint);
        None
    }

    /// A public key of Standard Webhooks: an ed25519 key in base64, usually after `whpk_`.
    pub(super) fn webhook_public_key(&mut self, file: &Word<FilePath>) -> Option<[u8; 32]> {
        let bytes = self.file(file, TOKEN_MAX)?;
        let text = line(&bytes);
        let message = match BASE64.decode(text.strip_prefix(b"whpk_").unwrap_or(text)) {
            Ok(key) => match <[u8; 32]>::try_from(key) {
                Ok(key) => return Some(key),
                Err(key) => format!("the public key has {} bytes, not 32", key.len()),
            },
            Err(_) => "the public key is not base64".to_owned(),
        };
        self.findings.at(&file.span, message, "`whpk_` and the 32 bytes of an ed25519 public key in base64");
        None
    }

    /// An RSA public key of a provider.
    pub(super) fn rsa_key(&mut self, file: &Word<FilePath>) -> Option<RsaKey> {
        let bytes = self.file(file, CA_MAX)?;
        match rsa::public_key(&bytes) {
            Ok(key) => Some(key),
            Err(message) => {
                let hint = "the provider's RSA public key, 2048 bits or more: PEM (`PUBLIC KEY`, `RSA PUBLIC KEY` or \
                            `CERTIFICATE`), or its base64 alone";
                self.findings.at(&file.span, message, hint);
                None
            }
        }
    }
}
