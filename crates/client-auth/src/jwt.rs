//! Bearer tokens: JSON Web Tokens (RFC 7519) in the compact form of a signature (RFC 7515), by RS256, ES256 or EdDSA.
//!
//! The token's `alg` only picks among the keys of that kind, so no key is ever used with another algorithm than its
//! own; `none` and the HMAC algorithms have no keys. With a `kid` only keys of that name count; without one all keys of
//! the kind are tried, if they are few. `exp` is required. Nothing is trusted before the signature is verified, and
//! `crit` is refused, as no extension is known here. Encrypted tokens are not covered.
//!
//! An issuer signs more than access tokens with its keys. `typ` may be absent, `JWT` or `at+jwt` (RFC 9068); any other
//! value is another kind of token (RFC 8725, section 3.11). An ID token says `JWT` as well, but is for the application
//! that asked for it: `audience` tells it apart. Where no audience is set, a token with the claims of an ID token is
//! refused, unless its `typ` is `at+jwt`.

mod judged;
mod jwk;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::judged::Judged;
pub use self::jwk::{Jwk, KeySet, Verify};

/// The longest token that is accepted, in bytes.
pub const TOKEN_MAX: usize = 16 << 10;
/// How far the issuer's clock may be off, in seconds.
const LEEWAY_S: f64 = 60.0;
/// The most keys that are tried for a token without a `kid`.
const UNNAMED_MAX: usize = 4;

/// The requirements on a token beside its signature.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    /// `iss`, exactly.
    pub issuer: Option<&'a str>,
    /// One of `aud`.
    pub audience: Option<&'a str>,
    /// The claim that names the user, a text or a number: by its own name, else a path with dots into objects.
    pub user_claim: Option<&'a str>,
}

/// The result of a valid token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The user claim; `None` where it is absent, empty, or neither text nor number.
    pub user: Option<Box<str>>,
    /// The start and the end of its validity, in seconds since 1970, with the leeway for clocks.
    holds: (f64, f64),
}

impl Token {
    /// Whether the token is still valid at a time, in seconds since 1970.
    fn holds(&self, now_s: u64) -> bool {
        let (from, until) = self.holds;
        (from..until).contains(&(now_s as f64))
    }
}

/// Why a token is refused, in words for its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is not a JWS in compact form.
    #[error("The token is not a signed JWT: three parts in base64url without padding, joined by dots.")]
    Malformed,
    /// The token is longer than [`TOKEN_MAX`].
    #[error("The token is longer than 16 KiB.")]
    TooLong,
    /// Another algorithm.
    #[error("The token's `alg` is not one of RS256, ES256 and EdDSA.")]
    Algorithm,
    /// `crit`
    #[error("The token has a `crit` header, and no extension is understood here.")]
    Critical,
    /// `typ` names another kind of token.
    #[error("The token's `typ` says that it is no access token: `JWT`, `at+jwt` or none at all is taken.")]
    Kind,
    /// An ID token, where no audience says that it is meant.
    #[error("This is an ID token. Send an access token.")]
    IdToken,
    /// No key of the set matches.
    #[error("No key of the issuer fits the token's `kid` and `alg`.")]
    NoKey,
    /// Too many keys could match.
    #[error("The token names no `kid`, and the issuer has several keys.")]
    Unnamed,
    /// The signature is not valid.
    #[error("The token's signature does not hold.")]
    Signature,
    /// The claims are not a JSON object, or a date among them is not a number.
    #[error("The token's claims are not a JSON object with dates in seconds.")]
    Claims,
    /// `exp` is absent.
    #[error("The token has no `exp`.")]
    Endless,
    /// `exp` has passed.
    #[error("The token has expired.")]
    Expired,
    /// `nbf` or `iat` is in the future.
    #[error("The token is not valid yet.")]
    Early,
    /// `iss` differs.
    #[error("The token is not of the issuer that this route takes.")]
    Issuer,
    /// `aud` differs.
    #[error("The token is not for the audience of this route.")]
    Audience,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    kid: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    typ: Option<std::borrow::Cow<'a, str>>,
    crit: Option<Value>,
}

/// The kind that `typ` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `at+jwt`
    Access,
    /// `JWT`, or no `typ`.
    Any,
}

impl Kind {
    /// The kind by `typ`, a media type of which `application/` may be omitted (RFC 7515, section 4.1.9).
    fn of(typ: Option<&str>) -> Result<Kind, TokenError> {
        let Some(typ) = typ else { return Ok(Kind::Any) };
        let short = match typ.split_at_checked(12) {
            Some((start, rest)) if start.eq_ignore_ascii_case("application/") => rest,
            _ => typ,
        };
        match short {
            _ if short.eq_ignore_ascii_case("at+jwt") => Ok(Kind::Access),
            _ if short.eq_ignore_ascii_case("jwt") => Ok(Kind::Any),
            _ => Err(TokenError::Kind),
        }
    }
}

impl KeySet {
    /// Verifies a token at a time, in seconds since 1970.
    pub fn verify(&self, token: &[u8], rules: &Rules<'_>, now_s: u64) -> Result<Token, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::TooLong);
        }
        let token = std::str::from_utf8(token).map_err(|_| TokenError::Malformed)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let decoded = |part: &str| BASE64URL.decode(part).map_err(|_| TokenError::Malformed);
        let (header, claims, signature) = (decoded(header)?, decoded(claims)?, decoded(signature)?);
        // Members that are skipped must be text too (RFC 7515, section 5.2).
        let header = std::str::from_utf8(&header).map_err(|_| TokenError::Malformed)?;
        let header: Header<'_> = serde_json::from_str(header).map_err(|_| TokenError::Malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let kind = Kind::of(header.typ.as_deref())?;
        let kinds = Verify::of(&header.alg).ok_or(TokenError::Algorithm)?;
        self.signed(kinds, header.kid.as_deref(), signed.as_bytes(), &signature)?;
        let claims: Map<String, Value> = serde_json::from_slice(&claims).map_err(|_| TokenError::Claims)?;
        let holds = judge(&claims, rules, now_s as f64)?;
        if kind == Kind::Any && rules.audience.is_none() && is_id_token(&claims) {
            return Err(TokenError::IdToken);
        }
        Ok(Token { user: rules.user_claim.and_then(|name| user(&claims, name)), holds })
    }

    /// Whether a matching key has signed the message.
    fn signed(&self, by: Verify, kid: Option<&str>, message: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        let mut fitting =
            self.keys().iter().filter(|key| key.verify() == by && kid.is_none_or(|kid| key.kid() == Some(kid)));
        match fitting.clone().count() {
            0 => Err(TokenError::NoKey),
            1..=UNNAMED_MAX => {
                fitting.any(|key| key.signed(message, signature)).then_some(()).ok_or(TokenError::Signature)
            }
            _ => Err(TokenError::Unnamed),
        }
    }
}

/// Checks the registered claims (RFC 7519, section 4.1); returns the start and the end of their validity.
fn judge(claims: &Map<String, Value>, rules: &Rules<'_>, now_s: f64) -> Result<(f64, f64), TokenError> {
    let date = |name| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().filter(|at| at.is_finite()).map(Some).ok_or(TokenError::Claims),
    };
    let (ends, begins, issued) = (date("exp")?, date("nbf")?, date("iat")?);
    let until = ends.ok_or(TokenError::Endless)? + LEEWAY_S;
    let from = [begins, issued].into_iter().flatten().fold(f64::MIN, f64::max) - LEEWAY_S;
    if now_s >= until {
        return Err(TokenError::Expired);
    }
    if now_s < from {
        return Err(TokenError::Early);
    }
    if rules.issuer.is_some_and(|issuer| claims.get("iss").and_then(Value::as_str) != Some(issuer)) {
        return Err(TokenError::Issuer);
    }
    let is_for = |audience: &str| match claims.get("aud") {
        Some(Value::String(only)) => only == audience,
        Some(Value::Array(any)) => any.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    };
    if rules.audience.is_some_and(|audience| !is_for(audience)) {
        return Err(TokenError::Audience);
    }
    Ok((from, until))
}

/// Whether these are the claims of an ID token (OpenID Connect Core, sections 2 and 3.3.2.11): a hash of what came with
/// it, or a nonce. Some issuers repeat the nonce in access tokens, which have a scope (RFC 9068).
fn is_id_token(claims: &Map<String, Value>) -> bool {
    let has = |name| claims.contains_key(name);
    has("at_hash") || has("c_hash") || (has("nonce") && !has("scope") && !has("scp"))
}

/// The user claim: the claim of exactly that name, else the one at the end of the path.
fn user(claims: &Map<String, Value>, name: &str) -> Option<Box<str>> {
    let mut steps = name.split('.');
    let first = steps.next().and_then(|step| claims.get(step));
    let nested = || steps.try_fold(first?, |at, step| at.as_object()?.get(step));
    match claims.get(name).or_else(nested)? {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
