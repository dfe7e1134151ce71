//! A set of public keys (JWKS, RFC 7517), as issuers publish it.
//!
//! A key that cannot verify a token here (another type, curve, use or algorithm) is skipped, as the RFC asks. A key of
//! a known kind that is broken, short or private is an error, since its author thought that it counts. Whether a point
//! lies on its curve is found when a signature is verified.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

/// Bits of an RSA key that `ring` verifies with.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Bytes of a P-256 coordinate, and of an Ed25519 key.
const POINT: usize = 32;

/// An issuer's public keys, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    keys: Box<[Jwk]>,
}

/// A key that can verify tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    kid: Option<Box<str>>,
    key: Key,
}

/// The algorithm that a key verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Verify {
    /// The algorithm by the name in a token's `alg`. Ed25519 has two (RFC 8037, RFC 9864).
    pub fn of(alg: &str) -> Option<Verify> {
        match alg {
            "RS256" => Some(Verify::Rs256),
            "ES256" => Some(Verify::Es256),
            "EdDSA" | "Ed25519" => Some(Verify::EdDsa),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa(Box<[u8]>, Box<[u8]>),
    /// An uncompressed point.
    P256(Box<[u8]>),
    Ed25519(Box<[u8]>),
}

/// The JSON form of a set.
#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<WrittenKey>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kty: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    used: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
}

impl KeySet {
    /// Reads a JWKS file. An error is a message, a line break and a hint.
    pub fn parse(text: &[u8]) -> Result<KeySet, String> {
        let hint = "a JSON Web Key Set, such as {\"keys\": [{\"kty\": \"RSA\", \"kid\": \"1\", \"n\": \"…\", \"e\": \"AQAB\"}]}";
        let written: WrittenSet =
            serde_json::from_slice(text).map_err(|error| format!("the file is not a set of keys: {error}\n{hint}"))?;
        let mut keys = vec![];
        for (at, key) in written.keys.iter().enumerate() {
            let name =
                key.kid.as_ref().map_or_else(|| format!("{} of the set", at + 1), |kid| format!("`{}`", shown(kid)));
            if let Some(read) = key.read().map_err(|wrong| format!("key {name} {wrong}"))? {
                keys.push(Jwk { kid: key.kid.as_deref().map(Box::from), key: read });
            }
        }
        if keys.is_empty() {
            let message = format!("none of the {} keys in the file can verify a token", written.keys.len());
            return Err(format!(
                "{message}\nkeys for RS256 (kty RSA), ES256 (kty EC, crv P-256) or EdDSA (kty OKP, crv Ed25519)"
            ));
        }
        Ok(KeySet { keys: keys.into() })
    }

    /// The keys, in the order written.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }
}

impl WrittenKey {
    /// The key, or `None` where it is not meant for verifying tokens.
    fn read(&self) -> Result<Option<Key>, String> {
        let meant = self.used.as_deref().is_none_or(|used| used == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify" || op == "sign"));
        let kind = match (self.kty.as_deref(), self.crv.as_deref()) {
            (Some("RSA"), _) => Verify::Rs256,
            (Some("EC"), Some("P-256")) => Verify::Es256,
            (Some("OKP"), Some("Ed25519")) => Verify::EdDsa,
            _ => return Ok(None),
        };
        if !meant || self.alg.as_deref().is_some_and(|alg| Verify::of(alg) != Some(kind)) {
            return Ok(None);
        }
        if self.d.is_some() {
            return Err(
                "is a private key\nput only the public parts into the file: remove d, p, q, dp, dq and qi".to_owned()
            );
        }
        match kind {
            Verify::Rs256 => rsa(part("n", self.n.as_deref())?, part("e", self.e.as_deref())?),
            Verify::Es256 => {
                let (x, y) = (point("x", self.x.as_deref())?, point("y", self.y.as_deref())?);
                Ok(Key::P256([&[4][..], &x, &y].concat().into()))
            }
            Verify::EdDsa => point("x", self.x.as_deref()).map(|x| Key::Ed25519(x.into())),
        }
        .map(Some)
    }
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Key, String> {
    let bare = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Box<[u8]>>();
    let (n, e) = (bare(&n), bare(&e));
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !BITS.contains(&bits) {
        return Err(format!("has {bits} bits\nRSA keys have {} to {} bits", BITS.start(), BITS.end()));
    }
    let exponent = e.iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    if n.last().is_none_or(|last| last & 1 == 0)
        || e.len() > 5
        || exponent < 3
        || exponent & 1 == 0
        || exponent >> 33 != 0
    {
        return Err(
            "is no RSA key: its modulus or exponent cannot be\nexport it anew; `e` is usually \"AQAB\"".to_owned()
        );
    }
    Ok(Key::Rsa(n, e))
}

fn part(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let hint = "export it anew, as JSON Web Key (RFC 7518, section 6)";
    let text = text.ok_or_else(|| format!("has no `{name}`\n{hint}"))?;
    BASE64URL.decode(text).map_err(|_| format!("has a `{name}` that is not base64url without padding\n{hint}"))
}

fn point(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let bytes = part(name, text)?;
    if bytes.len() == POINT {
        return Ok(bytes);
    }
    Err(format!(
        "has a `{name}` of {} bytes, not {POINT}\nexport it anew, as JSON Web Key (RFC 7518, section 6)",
        bytes.len()
    ))
}

fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

impl Jwk {
    /// The key's name in the set.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The only algorithm that it verifies, whatever a token asks for.
    pub fn verify(&self) -> Verify {
        match &self.key {
            Key::Rsa(..) => Verify::Rs256,
            Key::P256(_) => Verify::Es256,
            Key::Ed25519(_) => Verify::EdDsa,
        }
    }

    /// Whether this key made the signature over the message.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Key::Rsa(n, e) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Key::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Key::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
        }
    }
}
