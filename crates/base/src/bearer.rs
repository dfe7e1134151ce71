//! Bearer tokens (RFC 6750): how a request sends one, and how it is compared.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::digest::{SHA256, digest};

/// The token of a request's first `Authorization` line.
pub fn sent(headers: &HeaderMap) -> Option<&[u8]> {
    token(headers.get(AUTHORIZATION)?.as_bytes())
}

/// The token of an `Authorization` line.
pub fn token(line: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = line.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Compares in constant time: both sides are hashed first, so neither content nor length can be timed.
pub fn equal(sent: &[u8], token: &[u8]) -> bool {
    let (a, b) = (digest(&SHA256, sent), digest(&SHA256, token));
    let differs = a.as_ref().iter().zip(b.as_ref()).fold(0, |differs, (a, b)| differs | (a ^ b));
    std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_follows_the_scheme_in_any_case() {
        assert_eq!(token(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(token(b"bEARER  abc "), Some(&b"abc"[..]));
        assert_eq!(token(b"Basic abc"), None);
        assert_eq!(token(b"Bearer"), None);
        assert!(equal(b"a", b"a") && !equal(b"a", b"b") && !equal(b"a", b"aa"));
    }
}
