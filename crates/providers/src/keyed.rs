//! Keys that are ready to verify, and the encodings of signatures and times that providers share.
//!
//! Secrets are compared in constant time. A message is hashed once per key, however many signatures it carries.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{hmac, signature};

use crate::verify::VerifyError;
use base::secret::Secret;

/// The number of signatures of one message that are checked; later ones are ignored.
const SIGNATURES_MAX: usize = 16;

/// An HMAC-SHA256, 32 bytes.
pub type Tag = [u8; 32];

/// HMAC-SHA256 under any of several keys, while they rotate.
#[derive(Debug)]
pub struct HmacKeys(Vec<hmac::Key>);

impl HmacKeys {
    /// Keys of these secrets; each secret's bytes are the key.
    pub fn new(secrets: &[Secret]) -> HmacKeys {
        HmacKeys(secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, &secret.0)).collect())
    }

    /// Whether one of the tags is the HMAC of the concatenated `parts` under one of the keys.
    pub fn signed(&self, parts: &[&[u8]], tags: impl Iterator<Item = Tag> + Clone) -> bool {
        tags.clone().next().is_some() && self.0.iter().any(|key| is_signed(key, parts, tags.clone()))
    }
}

/// `ring` compares in constant time only against a tag that it computes, so both tags go through the key once more.
fn is_signed(key: &hmac::Key, parts: &[&[u8]], tags: impl Iterator<Item = Tag>) -> bool {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    let blinded = hmac::sign(key, context.sign().as_ref());
    tags.take(SIGNATURES_MAX).any(|tag| hmac::verify(key, &tag, blinded.as_ref()).is_ok())
}

/// A key for SHA-256 with RSA, PKCS#1 v1.5, 2048 bits or more.
pub type RsaVerifier = signature::UnparsedPublicKey<Arc<[u8]>>;

/// Prepares an RSA key, as [`super::rsa::FILE`] reads it.
pub fn rsa(key: &Secret) -> RsaVerifier {
    signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key.0.clone())
}

/// Decodes a tag from base64.
pub fn tag_base64(text: &str) -> Option<Tag> {
    let mut bytes = [0; 33];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}

/// Decodes a tag from hex, in either case.
pub fn tag_hex(text: &str) -> Option<Tag> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut tag = [0; 32];
    for (byte, pair) in tag.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(tag)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Parses seconds since 1970, digits only, into milliseconds.
pub fn seconds(text: &str) -> Option<i64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<i64>().ok().filter(|_| is_digits)?.checked_mul(1000)
}

/// Refuses a genuine message whose time less ours, in milliseconds, is not in the window.
pub fn window(at_ms: i64, now_ms: u64, is_in: impl Fn(i64) -> bool) -> Result<(), VerifyError> {
    let skew_ms = at_ms.saturating_sub(i64::try_from(now_ms).unwrap_or(i64::MAX));
    if is_in(skew_ms) { Ok(()) } else { Err(VerifyError::Expired { skew_ms }) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_tag_of_any_key_is_found_in_any_place() {
        let secret = |text: &str| Secret(Arc::from(text.as_bytes()));
        let sign = |key: &str, text: &str| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes());
            Tag::try_from(tag.as_ref()).unwrap()
        };
        let keys = HmacKeys::new(&[secret("old"), secret("new")]);
        for key in ["old", "new"] {
            let tags = [[0; 32], sign(key, "abc"), [1; 32]];
            assert!(keys.signed(&[b"a", b"", b"bc"], tags.into_iter()));
            assert!(!keys.signed(&[b"abd"], tags.into_iter()));
        }
        assert!(!keys.signed(&[b"abc"], [sign("other", "abc")].into_iter()));
        assert!(!keys.signed(&[b"abc"], [].into_iter()));
        let late = std::iter::repeat_n([0; 32], SIGNATURES_MAX).chain([sign("old", "abc")]);
        assert!(!keys.signed(&[b"abc"], late));
    }

    #[test]
    fn tags_and_times_have_one_form() {
        let hex = "0aF1".repeat(16);
        assert_eq!(tag_hex(&hex).map(|tag| tag[..2].to_vec()), Some(vec![0x0a, 0xf1]));
        for text in ["", "0a", &"0g".repeat(32), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(tag_hex(text), None);
        }
        assert_eq!(tag_base64(&STANDARD.encode([7; 32])), Some([7; 32]));
        for length in [0, 31, 33, 64, 600] {
            assert_eq!(tag_base64(&STANDARD.encode(vec![7; length])), None);
        }
        assert_eq!(seconds("1700000000"), Some(1_700_000_000_000));
        for text in ["", "+1", "-1", "1.0", " 1", "9223372036854775807", "99999999999999999999", "一"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
