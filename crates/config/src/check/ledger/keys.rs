//! The reader of the ledger's own secrets: each kind has its own shape, and findings do not show the secret.
//!
//! One newline at the end of a file is removed. The secrets of channels are read as their providers declare.

use super::super::Check;
use crate::file::scalar::{FilePath, Word};
use base::secret::{FILE_MAX, Secret, line};

/// The number of hex digits of an encryption key.
const KEY_DIGITS: usize = 64;

impl Check<'_, '_> {
    /// An encryption key: 32 bytes, as 64 hex digits.
    pub(super) fn encryption_key(&mut self, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, FILE_MAX)?;
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
        let bytes = self.file(file, FILE_MAX)?;
        let password = line(&bytes);
        if password.is_empty() || std::str::from_utf8(password).map_or(true, |text| text.contains(char::is_control)) {
            self.findings.at(&file.span, "the password is not one line of text", "put only the password into the file");
            return None;
        }
        Some(Secret(password.into()))
    }
}
