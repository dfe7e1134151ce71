//! Bearer tokens and sets of keys: what holds was signed by a key of the set, and says what the rules ask for.
//!
//! The first byte picks: a token as it came, claims signed well, or a set of keys.
#![no_main]

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use libfuzzer_sys::fuzz_target;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::{Map, Value};
use client_auth::jwt::{Judged, KeySet, TokenError, Rules, TOKEN_MAX};

const NOW: u64 = 1_800_000_000;

fn rules() -> Rules<'static> {
    Rules { issuer: Some("me"), audience: Some("you"), user_claim: Some("user.id"), ..Rules::default() }
}

struct Issuer {
    pair: Ed25519KeyPair,
    keys: Arc<KeySet>,
}

/// The same in every run, so that seeds of tokens stay valid.
static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed of 32 bytes");
    let x = BASE64URL.encode(pair.public_key().as_ref());
    let text = format!(
        r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "{x}"}},
        {{"kty": "EC", "crv": "P-256", "kid": "ec", "x": "CzaL_XSMg73Exlm9YLvjq8PvVwKGNAlZ5dTukm7prGE",
          "y": "xSJTWpGW7zejfx5iIiSGN7WCQEr65vO_1drj5hzm1rI"}}]}}"#
    );
    Issuer { pair, keys: Arc::new(KeySet::parse(text.as_bytes()).expect("a set of keys")) }
});

fn signed(text: &[u8]) -> Vec<u8> {
    ISSUER.pair.sign(text).as_ref().to_vec()
}

/// Judges a token twice, the second time with the first verdict at hand.
fn judge(token: &[u8]) -> Result<(), TokenError> {
    let verdict = ISSUER.keys.verify(token, &rules(), NOW);
    let mut judged = Judged::default();
    for _ in 0..2 {
        assert_eq!(judged.verify(&ISSUER.keys, token, &rules(), NOW), verdict);
    }
    let token = verdict?;
    assert!(token.user.is_none_or(|user| !user.is_empty()));
    Ok(())
}

/// Claims that were taken, as another reader has them.
fn hold(claims: &[u8]) {
    let claims: Map<String, Value> = serde_json::from_slice(claims).expect("taken claims are an object");
    let now = NOW as f64;
    assert!(claims["exp"].as_f64().expect("exp") > now - 60.0);
    for name in ["nbf", "iat"] {
        assert!(claims.get(name).is_none_or(|at| at.as_f64().expect("a date") <= now + 60.0));
    }
    assert_eq!(claims["iss"], "me");
    assert!(claims["aud"] == "you" || claims["aud"].as_array().is_some_and(|all| all.contains(&"you".into())));
}

/// As it came: nobody but the issuer can have made what holds.
fn raw(token: &[u8]) {
    if judge(token).is_err() {
        return;
    }
    assert!(token.len() <= TOKEN_MAX);
    let last = token.iter().rposition(|byte| *byte == b'.').expect("parts");
    let (text, tag) = (&token[..last], &token[last + 1..]);
    let tag = BASE64URL.decode(tag).expect("a signature");
    let key = UnparsedPublicKey::new(&ED25519, ISSUER.pair.public_key().as_ref());
    key.verify(text, &tag).expect("it was signed, and by the one key that anybody has the secret of");
    let claims = text.split(|byte| *byte == b'.').nth(1).expect("claims");
    hold(&BASE64URL.decode(claims).expect("claims"));
}

/// Header, line break, claims: signed by the issuer's key, whatever they say.
fn genuine(text: &[u8]) {
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else { return };
    let (header, claims) = (&text[..end], &text[end + 1..]);
    let text = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
    let token = format!("{text}.{}", BASE64URL.encode(signed(text.as_bytes())));
    let verdict = judge(token.as_bytes());
    if verdict.is_ok() {
        hold(claims);
    }
    // What the gateway leaves alone in a header, it does not read as closely as this reader.
    let Ok(header) = serde_json::from_slice::<Value>(header) else { return };
    match verdict {
        Ok(()) => {
            assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519", "{header}");
            assert!(header["kid"].is_null() || header["kid"] == "ed", "{header}");
            assert!(header["crit"].is_null(), "{header}");
        }
        Err(TokenError::Signature) => assert_eq!(header["alg"], "ES256", "genuine and refused"),
        Err(_) => {}
    }
}

fn keys(text: &[u8]) {
    match KeySet::parse(text) {
        Ok(set) => {
            assert!(!set.keys().is_empty());
            let _ = set.keys().iter().any(|key| key.signed(text, text));
        }
        Err(message) => assert!(message.contains('\n'), "no hint: {message}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((b't', token)) => raw(token),
        Some((b's', text)) => genuine(text),
        Some((b'k', text)) => keys(text),
        _ => {}
    }
});
