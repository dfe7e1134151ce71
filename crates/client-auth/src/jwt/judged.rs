//! A cache of valid tokens, so that a user's next request costs a hash instead of a signature.
//!
//! Each thread has its own, so no thread waits for another. A token is known by its SHA-256, and only together with the
//! very key set that verified it: every configuration has key sets of its own, so after a reload all tokens are
//! verified anew. Refused tokens are not kept. A full table is emptied: a token that comes again is verified once more.

use std::sync::Arc;

use ahash::AHashMap;
use ring::digest::{SHA256, digest};

use super::{KeySet, Rules, TOKEN_MAX, Token, TokenError};

/// The most tokens that are kept.
const KEPT_MAX: usize = 4_096;

/// The valid tokens of a thread, at most 4,096: about 1 MiB.
#[derive(Debug, Default)]
pub struct Judged {
    tokens: AHashMap<[u8; 32], (Arc<KeySet>, Token)>,
}

impl Judged {
    /// Verifies as [`KeySet::verify`] does. The rules must be the same whenever the key set is.
    pub fn verify(
        &mut self,
        keys: &Arc<KeySet>,
        token: &[u8],
        rules: &Rules<'_>,
        now_s: u64,
    ) -> Result<Token, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::TooLong);
        }
        let mut sum = [0; 32];
        sum.copy_from_slice(digest(&SHA256, token).as_ref());
        let known = self.tokens.get(&sum).filter(|(by, known)| Arc::ptr_eq(by, keys) && known.holds(now_s));
        if let Some((_, known)) = known {
            return Ok(known.clone());
        }
        let judged = keys.verify(token, rules, now_s)?;
        if self.tokens.len() == KEPT_MAX {
            self.tokens.clear();
        }
        self.tokens.insert(sum, (keys.clone(), judged.clone()));
        Ok(judged)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Issuer, NOW};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_judged_once_and_only_as_long_as_it_holds() {
        let issuer = Issuer::new();
        let (keys, rules) = (Arc::new(issuer.keys()), Rules { user_claim: Some("sub"), ..Rules::default() });
        let claims = json!({"exp": NOW + 10, "nbf": NOW, "sub": "u"});
        let token = issuer.token(json!({"alg": "ES256"}), &claims);
        let mut judged = Judged::default();
        let mut verify = |keys: &Arc<KeySet>, token: &str, now_s| judged.verify(keys, token.as_bytes(), &rules, now_s);
        let first = verify(&keys, &token, NOW).unwrap();
        assert_eq!(first.user.as_deref(), Some("u"));
        assert_eq!(verify(&keys, &token, NOW + 69), Ok(first));
        assert_eq!(verify(&keys, &token, NOW + 70), Err(TokenError::Expired));
        assert_eq!(verify(&keys, &token, NOW - 61), Err(TokenError::Early));
        let other = Arc::new(Issuer::new().keys());
        assert_eq!(verify(&other, &token, NOW), Err(TokenError::Signature), "another key set");
        let mut changed = token.clone();
        changed.replace_range(token.len() - 4.., "AAAA");
        assert_eq!(verify(&keys, &changed, NOW), Err(TokenError::Signature));
    }

    #[test]
    fn the_table_is_bounded() {
        let issuer = Issuer::new();
        let keys = Arc::new(issuer.keys());
        let mut judged = Judged::default();
        let mut token = |n: usize| {
            let token = issuer.token(json!({"alg": "EdDSA"}), &json!({"exp": NOW + 10, "n": n}));
            assert!(judged.verify(&keys, token.as_bytes(), &Rules::default(), NOW).is_ok());
            judged.tokens.len()
        };
        assert!((0..KEPT_MAX + 10).map(&mut token).max() == Some(KEPT_MAX));
        assert!(token(0) < 20, "it began anew");
    }
}
