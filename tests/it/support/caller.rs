//! Callers who prove who they are: a signer of requests (RFC 9421) and an issuer of tokens, written from the RFCs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD as BASE64, BASE64_URL_SAFE_NO_PAD as BASE64URL};
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::client::{Request, request};

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `Content-Digest` of a body.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(digest(&SHA256, body)))
}

/// What a signed request says; the test changes what it is about.
#[derive(Clone)]
pub struct Signed {
    pub keyid: String,
    pub secret: String,
    pub method: String,
    pub target: String,
    pub host: String,
    pub body: Option<Vec<u8>>,
    pub created: u64,
    pub nonce: String,
    /// More parameters, each with its semicolon.
    pub more: String,
}

/// A request to be signed. Its time is a little ahead: nothing signed in the second of the gateway's start is taken.
pub fn signed(keyid: &str, secret: &str, method: &str, target: &str) -> Signed {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Signed {
        keyid: keyid.into(),
        secret: secret.into(),
        method: method.into(),
        target: target.into(),
        host: "api.example.com".into(),
        body: None,
        created: now_s() + 2,
        nonce: format!("nonce-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        more: String::new(),
    }
}

impl Signed {
    /// With a body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Signed {
        self.body = Some(body.into());
        self
    }

    /// What the signature adds to the request's headers.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let digest = self.body.as_ref().map(|body| content_digest(body));
        let covered = if digest.is_some() { " \"content-digest\"" } else { "" };
        let parameters = format!(
            "(\"@method\" \"@target-uri\"{covered});created={};keyid=\"{}\";nonce=\"{}\"{}",
            self.created, self.keyid, self.nonce, self.more
        );
        let mut base = format!("\"@method\": {}\n\"@target-uri\": http://{}{}\n", self.method, self.host, self.target);
        if let Some(digest) = &digest {
            base.push_str(&format!("\"content-digest\": {digest}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {parameters}"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let tag = BASE64.encode(hmac::sign(&key, base.as_bytes()));
        let mut fields =
            vec![("signature-input", format!("sig1={parameters}")), ("signature", format!("sig1=:{tag}:"))];
        fields.extend(digest.map(|digest| ("content-digest", digest)));
        fields
    }

    /// The request, with its signature and without its body's headers.
    pub fn head(&self) -> Request {
        let bare = request(&self.method, &self.target).host(&self.host);
        self.fields().into_iter().fold(bare, |head, (name, value)| head.header(name, value))
    }

    /// The whole request.
    pub fn whole(&self) -> Request {
        match &self.body {
            Some(body) => self.head().with_body(body.clone()),
            None => self.head(),
        }
    }

    /// The whole request in chunks of this many bytes, as it goes over the wire.
    pub fn chunked(&self, size: usize) -> Vec<u8> {
        let mut bytes = self.head().header("transfer-encoding", "chunked").bytes();
        for part in self.body.as_deref().unwrap_or_default().chunks(size) {
            bytes.extend(format!("{:x}\r\n", part.len()).bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

/// Who gives tokens to users.
pub struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub fn new() -> Issuer {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Issuer {
            ec: EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
            random,
        }
    }

    /// What it publishes.
    pub fn jwks(&self) -> String {
        let point = self.ec.public_key().as_ref();
        let coded = |bytes: &[u8]| BASE64URL.encode(bytes);
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "x": coded(&point[1..33]), "y": coded(&point[33..])},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": coded(self.ed.public_key().as_ref())},
        ]})
        .to_string()
    }

    /// A token.
    pub fn token(&self, alg: &str, claims: &Value) -> String {
        let (kid, by_ed) = if alg == "EdDSA" { ("ed", true) } else { ("ec", false) };
        let header = json!({"alg": alg, "kid": kid, "typ": "JWT"});
        let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let tag = if by_ed {
            self.ed.sign(signed.as_bytes()).as_ref().to_vec()
        } else {
            self.ec.sign(&self.random, signed.as_bytes()).unwrap().as_ref().to_vec()
        };
        format!("{signed}.{}", BASE64URL.encode(tag))
    }
}
