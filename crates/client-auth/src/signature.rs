//! Signed requests: HTTP Message Signatures (RFC 9421) with hmac-sha256.
//!
//! A signature must cover `@method`, `@target-uri` and, where the request has a body, `content-digest`; it must
//! have `keyid`, `created` and `nonce`. It may cover more. Of several signatures the first one counts whose `keyid`
//! names a known key; the others are ignored, so a request costs one HMAC. That HMAC is computed for strangers too,
//! so its cost is bounded: by `FIELD_MAX`, by the numbers in `input`, and by 256 parameters of a query of which one
//! is covered. The answer does not tell whether a `keyid` exists: an unknown one is refused in the same words and
//! about the same time as a wrong signature. Only the bare id of a key that several apps have is told apart, since
//! only the sender can mend it.
//!
//! Three checks are left to the caller, in this order, as they need the body or outlive the request: whether the
//! body matches its digest ([`super::digest`]), whether the nonce is new ([`super::nonce`]), and whether the app
//! may call. Signatures in trailers, of answers, and the parameters `sf`, `key`, `bs`, `req` and `tr` of a
//! component are not covered.

mod base;
mod input;

use std::borrow::Cow;

use http::HeaderMap;
use ring::hmac;

pub use self::base::Request;
use self::base::base;
use self::input::{Input, tag_of};
use super::digest::CONTENT_DIGEST;
use super::keys::Found;

/// The fields of a signature.
const SIGNATURE_INPUT: &str = "signature-input";
const SIGNATURE: &str = "signature";
/// The longest field that is accepted, in bytes.
const FIELD_MAX: usize = 16 << 10;
/// The longest nonce and keyid, in bytes.
const WORD_MAX: usize = 256;

/// A valid signature, and what is still to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The key that made it.
    pub by: Found,
    /// Its nonce.
    pub nonce: Box<[u8]>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Whether the body must match `content-digest`.
    pub covers_body: bool,
}

/// The result of looking up a `keyid`.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'k> {
    /// One key has it, and this is its secret.
    One(Found, &'k [u8]),
    /// Several apps have a key of this id.
    Several,
    /// No key has it, or none that can sign.
    Nobody,
}

/// The window of `created`: the current time, and how far clocks may differ, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Seconds since 1970.
    pub now_s: u64,
    /// `clock_skew`
    pub skew_s: u64,
}

/// Why a signature is refused, in words for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The request has no signature.
    #[error("Sign the request: Signature-Input and Signature, as RFC 9421 has them.")]
    Missing,
    /// A field is not a structured field of the right shape.
    #[error("Signature-Input or Signature is not what RFC 9421, section 4, has.")]
    Malformed,
    /// A label, component or parameter is named twice.
    #[error("Signature-Input or Signature names a label, a component or a parameter twice.")]
    Twice,
    /// A field is too long.
    #[error("Signature-Input or Signature is too long.")]
    TooLong,
    /// There is more than is accepted.
    #[error(
        "Signature-Input or Signature has more than 4 signatures, or one of them more than 32 components or 16 parameters."
    )]
    TooMany,
    /// `keyid` is absent or not a text.
    #[error("Signature-Input has no `keyid`.")]
    NoKeyid,
    /// Several apps have this id.
    #[error("Several apps have a key of this `keyid`; write `app/id`, such as `acme/k1`.")]
    Ambiguous,
    /// Another algorithm.
    #[error("`alg` is not \"hmac-sha256\".")]
    Algorithm,
    /// `created` is absent or not a time.
    #[error("Signature-Input has no `created`, in whole seconds since 1970.")]
    NoCreated,
    /// `nonce` is absent, empty or too long.
    #[error("Signature-Input has no `nonce` of 1 to 256 characters.")]
    NoNonce,
    /// `created` is too far from now.
    #[error("`created` is too far from this server's time: look at the clock, and sign each request anew.")]
    Skewed,
    /// `expires` has passed.
    #[error("The signature has expired.")]
    Expired,
    /// A required component is not covered.
    #[error("The signature must cover \"@method\", \"@target-uri\" and, with a body, \"content-digest\".")]
    Uncovered,
    /// A component that is not known here, or not in this request.
    #[error("The signature covers a component that this request does not have, or that is not known here.")]
    Component,
    /// The signature is not valid.
    #[error(
        "The signature is not that of the `keyid`'s secret over this method, this target URI and what else it covers."
    )]
    Wrong,
}

/// Verifies the signature of a request, except for its body and its nonce. `has_body`: whether the request has a body.
pub fn verify<'k>(
    request: &Request<'_>,
    has_body: bool,
    window: Window,
    signer: impl Fn(&str) -> Signer<'k>,
) -> Result<Signed, SignatureError> {
    let inputs = field(request.headers, SIGNATURE_INPUT).ok_or(SignatureError::Missing)?;
    let tags = field(request.headers, SIGNATURE).ok_or(SignatureError::Missing)?;
    if inputs.len() > FIELD_MAX || tags.len() > FIELD_MAX {
        return Err(SignatureError::TooLong);
    }
    let inputs = Input::all(&inputs)?;
    let (input, signer) = pick(&inputs, signer)?;
    if input.repeats() {
        return Err(SignatureError::Twice);
    }
    let (created, nonce) = input.judge(has_body, window)?;
    let tag = tag_of(&tags, input.label)?.ok_or(SignatureError::Missing)?;
    let (by, secret) = match signer {
        Signer::One(by, secret) => (Some(by), secret),
        Signer::Several => return Err(SignatureError::Ambiguous),
        Signer::Nobody => (None, &[0; 32][..]),
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let authorities = [Some(request.normal_authority()), request.other_authority()];
    let mut holds = false;
    for authority in authorities.into_iter().flatten() {
        let base = base(request, &authority, input).ok_or(SignatureError::Component)?;
        holds |= hmac::verify(&key, base.as_bytes(), &tag).is_ok();
    }
    let by = by.filter(|_| holds).ok_or(SignatureError::Wrong)?;
    Ok(Signed { by, nonce: nonce.into(), created, covers_body: has_body || input.covers(CONTENT_DIGEST) })
}

/// The first signature of a known key; else the first one, with an unknown key.
fn pick<'i, 'a, 'k>(
    inputs: &'i [Input<'a>],
    signer: impl Fn(&str) -> Signer<'k>,
) -> Result<(&'i Input<'a>, Signer<'k>), SignatureError> {
    let mut strange = None;
    for input in inputs {
        let Some(keyid) = input.text("keyid").filter(|keyid| keyid.len() <= WORD_MAX) else { continue };
        match signer(keyid) {
            Signer::Nobody => strange = strange.or(Some((input, Signer::Nobody))),
            known => return Ok((input, known)),
        }
    }
    strange.ok_or(if inputs.is_empty() { SignatureError::Missing } else { SignatureError::NoKeyid })
}

impl Input<'_> {
    /// Checks what the signature covers and when it was made; returns that time and the nonce.
    fn judge(&self, has_body: bool, window: Window) -> Result<(u64, &[u8]), SignatureError> {
        if self.has("alg") && self.text("alg") != Some("hmac-sha256") {
            return Err(SignatureError::Algorithm);
        }
        let created = self.seconds("created").ok_or(SignatureError::NoCreated)?;
        let nonce =
            self.text("nonce").filter(|nonce| (1..=WORD_MAX).contains(&nonce.len())).ok_or(SignatureError::NoNonce)?;
        let covers = self.covers("@method") && self.covers("@target-uri");
        if !covers || (has_body && !self.covers(CONTENT_DIGEST)) {
            return Err(SignatureError::Uncovered);
        }
        if created.abs_diff(window.now_s) > window.skew_s {
            return Err(SignatureError::Skewed);
        }
        if self.has("expires") && self.seconds("expires").is_none_or(|expires| expires < window.now_s) {
            return Err(SignatureError::Expired);
        }
        Ok((created, nonce.as_bytes()))
    }
}

/// The value of a field, its lines joined by commas (RFC 9421, section 2.1); `None` where it is absent or not ASCII.
pub(super) fn field<'h>(headers: &'h HeaderMap, name: &str) -> Option<Cow<'h, str>> {
    let mut lines = headers.get_all(name).iter();
    let text = |line: &'h http::HeaderValue| line.to_str().ok().map(|text| text.trim_matches([' ', '\t']));
    let first = text(lines.next()?)?;
    let mut joined = Cow::Borrowed(first);
    for line in lines {
        let whole = joined.to_mut();
        whole.push_str(", ");
        whole.push_str(text(line)?);
    }
    Some(joined)
}

#[cfg(test)]
mod tests;
