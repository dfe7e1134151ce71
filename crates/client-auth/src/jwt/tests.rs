//! Tokens against the vectors of their standards, and against those who forge them.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

pub(super) const NOW: u64 = 1_800_000_000;

/// RFC 7515, appendix A.2: RS256.
const A2_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t\
    1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jz\
    DwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const A2_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
/// RFC 7515, appendix A.3: ES256.
const A3_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
/// RFC 8037, appendix A.4: EdDSA. Its payload is no claims.
const ED_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
    hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
const ED_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// When the tokens of RFC 7515 are valid.
const JOE: u64 = 1_300_819_000;

fn set(keys: &[&str]) -> KeySet {
    KeySet::parse(format!("{{\"keys\": [{}]}}", keys.join(",")).as_bytes()).unwrap()
}

fn joe(key: &str, token: &str) -> Result<Option<Box<str>>, TokenError> {
    let rules = Rules { issuer: Some("joe"), ..Rules::default() };
    set(&[key]).verify(token.as_bytes(), &rules, JOE).map(|token| token.user)
}

/// An issuer with a key for ES256 and one for EdDSA.
pub(super) struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub(super) fn new() -> Issuer {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Issuer { ec, ed: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(), random }
    }

    pub(super) fn keys(&self) -> KeySet {
        let point = self.ec.public_key().as_ref();
        let (x, y) = (BASE64URL.encode(&point[1..33]), BASE64URL.encode(&point[33..]));
        let ed = BASE64URL.encode(self.ed.public_key().as_ref());
        set(&[
            &json!({"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "alg": "ES256", "x": x, "y": y})
                .to_string(),
            &json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": ed, "key_ops": ["verify"]}).to_string(),
            A2_KEY,
        ])
    }

    pub(super) fn token(&self, header: Value, claims: &Value) -> String {
        let by_ed = header["alg"].as_str().is_some_and(|alg| alg.starts_with("Ed"));
        let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature = if by_ed {
            self.ed.sign(signed.as_bytes()).as_ref().to_vec()
        } else {
            self.ec.sign(&self.random, signed.as_bytes()).unwrap().as_ref().to_vec()
        };
        format!("{signed}.{}", BASE64URL.encode(signature))
    }

    fn judge(&self, claims: Value, rules: &Rules<'_>) -> Result<Option<String>, TokenError> {
        let token = self.token(json!({"alg": "ES256", "kid": "ec"}), &claims);
        self.keys().verify(token.as_bytes(), rules, NOW).map(|token| token.user.map(String::from))
    }
}

#[test]
fn the_tokens_of_the_rfcs_hold() {
    assert_eq!(joe(A2_KEY, A2_TOKEN), Ok(None));
    assert_eq!(joe(A3_KEY, A3_TOKEN), Ok(None));
    // Its signature holds, so that what is wrong are its claims.
    assert_eq!(joe(ED_KEY, ED_TOKEN), Err(TokenError::Claims));
    let damaged = ED_TOKEN.replace("hgyY0il", "hgyY0im");
    assert_eq!(joe(ED_KEY, &damaged), Err(TokenError::Signature));
}

#[test]
fn no_byte_of_a_token_can_be_changed() {
    for (key, token) in [(A2_KEY, A2_TOKEN), (A3_KEY, A3_TOKEN)] {
        let keys = set(&[key]);
        let bare = Rules::default();
        assert!(keys.verify(token.as_bytes(), &bare, JOE).is_ok());
        for at in 0..token.len() {
            for flip in [1, 2, 4, 32, 128] {
                let mut bytes = token.as_bytes().to_vec();
                bytes[at] ^= flip;
                assert!(keys.verify(&bytes, &bare, JOE).is_err(), "byte {at} of {token} with {flip} flipped");
            }
        }
        for end in 0..token.len() {
            assert!(keys.verify(&token.as_bytes()[..end], &bare, JOE).is_err(), "{end} bytes of it");
        }
    }
}

#[test]
fn a_key_is_used_by_no_other_algorithm_than_its_own() {
    let issuer = Issuer::new();
    let claims = json!({"exp": NOW + 100});
    let keys = issuer.keys();
    let verify = |header: Value| keys.verify(issuer.token(header, &claims).as_bytes(), &Rules::default(), NOW);
    assert!(verify(json!({"alg": "ES256", "kid": "ec"})).is_ok());
    assert!(verify(json!({"alg": "ES256"})).is_ok(), "the only key of its kind");
    assert!(verify(json!({"alg": "EdDSA", "kid": "ed"})).is_ok());
    assert!(verify(json!({"alg": "Ed25519", "kid": "ed"})).is_ok());
    for (header, expected) in [
        (json!({"alg": "none"}), TokenError::Algorithm),
        (json!({"alg": "None", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "HS256", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "es256", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": "RS512"}), TokenError::Algorithm),
        (json!({"alg": "PS256"}), TokenError::Algorithm),
        (json!({"alg": "ES384", "kid": "ec"}), TokenError::Algorithm),
        (json!({"alg": ""}), TokenError::Algorithm),
        (json!({"alg": "EdDSA", "kid": "ec"}), TokenError::NoKey),
        (json!({"alg": "ES256", "kid": "ed"}), TokenError::NoKey),
        (json!({"alg": "ES256", "kid": "other"}), TokenError::NoKey),
        (json!({"alg": "RS256", "kid": "ec"}), TokenError::NoKey),
        (json!({"alg": "RS256"}), TokenError::Signature),
        (json!({"alg": "ES256", "kid": "ec", "crit": ["exp"]}), TokenError::Critical),
        (json!({"alg": "ES256", "kid": "ec", "crit": []}), TokenError::Critical),
        (json!({"alg": 7}), TokenError::Malformed),
        (json!({"kid": "ec"}), TokenError::Malformed),
        (json!(["ES256"]), TokenError::Malformed),
    ] {
        assert_eq!(verify(header.clone()), Err(expected), "{header}");
    }
    // An HMAC under the public key, as text and as bytes: the classic confusion.
    let signed = format!("{}.{}", BASE64URL.encode(r#"{"alg":"HS256"}"#), BASE64URL.encode(claims.to_string()));
    for secret in [A2_KEY.as_bytes(), issuer.ec.public_key().as_ref()] {
        let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), signed.as_bytes());
        let token = format!("{signed}.{}", BASE64URL.encode(tag));
        assert_eq!(keys.verify(token.as_bytes(), &Rules::default(), NOW), Err(TokenError::Algorithm));
    }
}

#[test]
fn claims_are_judged_by_the_rules() {
    let issuer = Issuer::new();
    let bare = Rules::default();
    let ours = Rules { issuer: Some("https://id.example"), audience: Some("api"), user_claim: None };
    let (iss, exp) = ("https://id.example", NOW + 100);
    for (claims, rules, expected) in [
        (json!({"exp": exp}), bare, Ok(None)),
        (json!({"exp": exp as f64 + 0.5, "nbf": NOW, "iat": NOW}), bare, Ok(None)),
        (json!({"exp": NOW - 59}), bare, Ok(None)),
        (json!({"exp": NOW - 60}), bare, Err(TokenError::Expired)),
        (json!({"exp": -5}), bare, Err(TokenError::Expired)),
        (json!({}), bare, Err(TokenError::Endless)),
        (json!({"exp": null}), bare, Err(TokenError::Claims)),
        (json!({"exp": exp.to_string()}), bare, Err(TokenError::Claims)),
        (json!({"exp": exp, "nbf": NOW + 60}), bare, Ok(None)),
        (json!({"exp": exp, "nbf": NOW + 61}), bare, Err(TokenError::Early)),
        (json!({"exp": exp, "iat": NOW + 61}), bare, Err(TokenError::Early)),
        (json!({"exp": exp, "nbf": "soon"}), bare, Err(TokenError::Claims)),
        (json!({"exp": exp, "iss": iss, "aud": "api"}), ours, Ok(None)),
        (json!({"exp": exp, "iss": iss, "aud": ["web", "api"]}), ours, Ok(None)),
        (json!({"exp": exp, "iss": iss, "aud": ["web", 7]}), ours, Err(TokenError::Audience)),
        (json!({"exp": exp, "iss": iss, "aud": "api2"}), ours, Err(TokenError::Audience)),
        (json!({"exp": exp, "iss": iss}), ours, Err(TokenError::Audience)),
        (json!({"exp": exp, "iss": "https://id.example/", "aud": "api"}), ours, Err(TokenError::Issuer)),
        (json!({"exp": exp, "iss": [iss], "aud": "api"}), ours, Err(TokenError::Issuer)),
        (json!({"exp": exp, "aud": "api"}), ours, Err(TokenError::Issuer)),
        (json!([1]), bare, Err(TokenError::Claims)),
        (json!("exp"), bare, Err(TokenError::Claims)),
    ] {
        assert_eq!(issuer.judge(claims.clone(), &rules), expected, "{claims}");
    }
}

#[test]
fn another_kind_of_token_is_no_access_token() {
    let issuer = Issuer::new();
    let (bare, ours) = (Rules::default(), Rules { audience: Some("api"), ..Rules::default() });
    let judge = |typ: Value, more: Value, rules: &Rules<'_>| {
        let (mut header, mut claims) = (json!({"alg": "ES256", "typ": typ}), json!({"exp": NOW + 100, "aud": "api"}));
        header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        issuer.keys().verify(issuer.token(header, &claims).as_bytes(), rules, NOW).map(|_| ())
    };
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
        assert_eq!(judge(json!(typ), json!({}), &bare), Ok(()), "{typ}");
    }
    assert_eq!(judge(Value::Null, json!({}), &bare), Ok(()));
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "id+jwt", "jwt+", "text/jwt", "", "application/"] {
        for rules in [&bare, &ours] {
            assert_eq!(judge(json!(typ), json!({}), rules), Err(TokenError::Kind), "{typ}");
        }
    }
    assert_eq!(judge(json!(["JWT"]), json!({}), &bare), Err(TokenError::Malformed));
    for claims in
        [json!({"at_hash": "x"}), json!({"c_hash": "x"}), json!({"nonce": "n"}), json!({"at_hash": "x", "scope": "a"})]
    {
        for typ in [json!("JWT"), Value::Null] {
            assert_eq!(judge(typ.clone(), claims.clone(), &bare), Err(TokenError::IdToken), "{claims}");
            // The operator has said whose tokens are meant.
            assert_eq!(judge(typ, claims.clone(), &ours), Ok(()), "{claims}");
        }
        assert_eq!(judge(json!("at+jwt"), claims.clone(), &bare), Ok(()), "{claims}");
    }
    for scope in ["scope", "scp"] {
        assert_eq!(judge(json!("JWT"), json!({"nonce": "n", scope: "openid"}), &bare), Ok(()), "{scope}");
    }
}

#[test]
fn the_user_is_a_text_or_a_number_by_name_or_path() {
    let issuer = Issuer::new();
    for (claims, name, expected) in [
        (json!({"sub": "u-1"}), "sub", Some("u-1")),
        (json!({"sub": 42}), "sub", Some("42")),
        (json!({"sub": ""}), "sub", None),
        (json!({"sub": null}), "sub", None),
        (json!({"sub": ["u-1"]}), "sub", None),
        (json!({"sub": true}), "sub", None),
        (json!({}), "sub", None),
        (json!({"user": {"id": "u-2"}}), "user.id", Some("u-2")),
        (json!({"user": {"id": "u-2"}, "user.id": "u-3"}), "user.id", Some("u-3")),
        (json!({"user": "u-4"}), "user.id", None),
        (json!({"https://example.com/uid": "u-5"}), "https://example.com/uid", Some("u-5")),
        (json!({"sub": "\u{7528}\u{6237}"}), "sub", Some("\u{7528}\u{6237}")),
    ] {
        let mut claims = claims;
        claims["exp"] = json!(NOW + 1);
        let rules = Rules { user_claim: Some(name), ..Rules::default() };
        assert_eq!(issuer.judge(claims.clone(), &rules), Ok(expected.map(str::to_owned)), "{claims} {name}");
    }
}

#[test]
fn odd_tokens_are_malformed() {
    let keys = set(&[A2_KEY]);
    let long = format!("{}{}", A2_TOKEN, "A".repeat(TOKEN_MAX));
    for (token, expected) in [
        ("", TokenError::Malformed),
        ("..", TokenError::Malformed),
        ("a.b", TokenError::Malformed),
        ("eyJhbGciOiJSUzI1NiJ9.e30.", TokenError::Signature),
        ("eyJhbGciOiJSUzI1NiJ9.e30.====", TokenError::Malformed),
        (&format!("{A2_TOKEN}="), TokenError::Malformed),
        (&format!("{A2_TOKEN}.AA"), TokenError::Malformed),
        (&format!(" {A2_TOKEN}"), TokenError::Malformed),
        ("\u{e9}.e30.AA", TokenError::Malformed),
        (&long, TokenError::TooLong),
    ] {
        assert_eq!(keys.verify(token.as_bytes(), &Rules::default(), JOE), Err(expected), "{token:.80}");
    }
    assert_eq!(keys.verify(b"\xff.e30.AA", &Rules::default(), JOE), Err(TokenError::Malformed));
    let odd = format!("{}.e30.AA", BASE64URL.encode(b"{\"alg\":\"RS256\",\"x\":\"\xff\"}"));
    assert_eq!(keys.verify(odd.as_bytes(), &Rules::default(), JOE), Err(TokenError::Malformed), "skipped, and no text");
    let deep = format!("{}.e30.AA", BASE64URL.encode(format!("{{\"alg\":{}", "[".repeat(5_000))));
    assert_eq!(keys.verify(deep.as_bytes(), &Rules::default(), JOE), Err(TokenError::Malformed));
}

#[test]
fn a_token_without_kid_is_tried_with_few_keys_only() {
    let others = |count: usize| (0..count).map(|_| ED_KEY).chain([A2_KEY]).collect::<Vec<_>>();
    let verify = |keys: KeySet, token: &str| keys.verify(token.as_bytes(), &Rules::default(), JOE);
    assert_eq!(verify(set(&others(4)), ED_TOKEN), Err(TokenError::Claims), "one of four has signed");
    assert_eq!(verify(set(&others(5)), ED_TOKEN), Err(TokenError::Unnamed));
    assert!(verify(set(&others(5)), A2_TOKEN).is_ok(), "keys of other kinds do not count");
}

#[test]
fn sets_are_read_with_what_is_useful_in_them() {
    let with = |key: &str, more: &str| key.replacen('{', &format!("{{{more},"), 1);
    let count = |keys: &[&str]| set(keys).keys().len();
    assert_eq!(count(&[A2_KEY, A3_KEY, ED_KEY]), 3);
    let strange = r#"{"kty":"LWE","x":7}"#.replace("7", "\"AA\"");
    let oct = r#"{"kty":"oct","k":"AAAA"}"#;
    let p384 = r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#;
    let used = with(A2_KEY, r#""use":"enc""#);
    let ops = with(A3_KEY, r#""key_ops":["deriveKey"]"#);
    let alg = with(A2_KEY, r#""alg":"RS512""#);
    assert_eq!(count(&[&strange, oct, p384, &used, &ops, &alg, r#"{"x":"AA"}"#, ED_KEY]), 1);
    assert_eq!(count(&[&with(A2_KEY, r#""use":"sig","alg":"RS256","kid":"1","x5c":["AA"]"#)]), 1);
}

#[test]
fn sets_that_cannot_be_meant_are_refused_with_a_hint() {
    let small = BASE64URL.encode([255; 128]);
    let even = BASE64URL.encode([254; 256]);
    let odd = BASE64URL.encode([255; 256]);
    let rsa = |n: &str, e: &str| format!(r#"{{"keys":[{{"kty":"RSA","kid":"a","n":"{n}","e":"{e}"}}]}}"#);
    for (text, expected) in [
        (String::new(), "the file is not a set of keys"),
        ("[]".into(), "the file is not a set of keys"),
        (r#"{"keys":{}}"#.into(), "the file is not a set of keys"),
        (A2_KEY.into(), "the file is not a set of keys: missing field `keys`"),
        (r#"{"keys":[]}"#.into(), "none of the 0 keys in the file can verify a token"),
        (r#"{"keys":[{"kty":"oct","k":"AA"}]}"#.into(), "none of the 1 keys in the file can verify a token"),
        (rsa(&small, "AQAB"), "key `a` has 1024 bits"),
        (rsa("", "AQAB"), "key `a` has 0 bits"),
        (rsa(&even, "AQAB"), "key `a` is no RSA key"),
        (rsa(&odd, "AQ"), "key `a` is no RSA key"),
        (rsa(&odd, "Ag"), "key `a` is no RSA key"),
        (rsa(&odd, "_____w8"), "key `a` is no RSA key"),
        (rsa("a=", "AQAB"), "key `a` has a `n` that is not base64url"),
        (r#"{"keys":[{"kty":"RSA","e":"AQAB"}]}"#.into(), "key 1 of the set has no `n`"),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#.into(), "key 1 of the set has a `x` of 1 bytes"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}"#.into(), "key 1 of the set has a `x` of 1 bytes"),
        (format!("{{\"keys\":[{}]}}", A3_KEY.replacen('{', r#"{"d":"AA","#, 1)), "key 1 of the set is a private key"),
    ] {
        let error = KeySet::parse(text.as_bytes()).unwrap_err();
        let (message, hint) = error.split_once('\n').unwrap();
        assert!(message.starts_with(expected) && !hint.is_empty(), "{text:.200} gave {error}");
    }
    assert_eq!(set(&[A2_KEY]), set(&[&A2_KEY.replace("\"ofg", "\"AAAAofg")]), "leading zeros change nothing");
}
