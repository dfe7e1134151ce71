//! Standard Webhooks 1.0.0: `v1` (HMAC-SHA256) and `v1a` (ed25519) over `id.timestamp.body`.
//!
//! Any signature by any key is enough, among the first sixteen `v1` and the first two `v1a`. Each of these hashes the
//! body anew under each key, and a key rotation needs no more. A message may be 300 s away on either side. `type` says
//! what happened, and `data` holds the rest.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::hmac::Generic;
use super::json::{self, pick};
use super::keyed::{HmacKeys, seconds, tag_base64, window};
use crate::configured::{ConfigKey, FileError, FileKind, Names, Need, Shape, Values};
use crate::event::ProviderEvent;
use crate::normalise;
use crate::receive::Received;
use crate::verify::{Verifier, VerifyError};
use crate::{Dialect, Either, Numbers, Provider};
use base::secret::{self, BASE64, Secret};
use base::units::Currency;

const WINDOW_MS: i64 = 300_000;
/// The number of `v1a` signatures of one message that are checked.
const PUBLIC_MAX: usize = 2;

/// Its row.
pub const PROVIDER: Provider = Provider {
    name: "standardwebhooks",
    keys: &[SECRETS, PUBLIC_KEYS],
    either: Some(Either {
        keys: &[SECRETS.name, PUBLIC_KEYS.name],
        message: "the channel has no key: every callback would be refused",
        hint: "add secret_files = [\"secrets/name.whsec\"], or public_key_files = [\"secrets/name.whpk\"]",
    }),
    prepare: |values, names| crate::verifier(StandardWebhooks::new(values, names)),
    dialect: Dialect::Plain,
    numbers: Numbers::OfAnAccount,
    names_owner: false,
    cumulative_refunds: false,
    digits: Currency::digits,
    outgoing: None,
};

/// The secrets of v1.
pub const SECRETS: ConfigKey = ConfigKey {
    name: "secret_files",
    about: "Files with the secrets that sign callbacks, \"whsec_\" and base64.",
    shape: Shape::Files(SECRET),
    need: Need::Optional,
};

/// The keys of v1a.
pub const PUBLIC_KEYS: ConfigKey = ConfigKey {
    name: "public_key_files",
    about: "Files with \"whpk_\" and an ed25519 key in base64 (v1a).",
    shape: Shape::Files(FileKind::line(public_key)),
    need: Need::Optional,
};

/// A secret that signs: 24 to 64 bytes in base64, usually after `whsec_`.
pub const SECRET: FileKind = FileKind::line(signing_secret);

fn signing_secret(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let text = secret::line(bytes);
    let message = match BASE64.decode(text.strip_prefix(b"whsec_").unwrap_or(text)) {
        Ok(secret) if (24..=64).contains(&secret.len()) => return Ok(secret),
        Ok(secret) => format!("the webhook secret has {} bytes, not 24 to 64", secret.len()),
        Err(_) if text.starts_with(b"whsec_") => "what follows `whsec_` in the webhook secret is not base64".to_owned(),
        Err(_) => "the webhook secret is neither `whsec_` and base64 nor base64".to_owned(),
    };
    Err(FileError::new(message, "make one: (printf whsec_; head -c 32 /dev/urandom | base64) > the file"))
}

/// An ed25519 key in base64, usually after `whpk_`.
fn public_key(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let text = secret::line(bytes);
    let message = match BASE64.decode(text.strip_prefix(b"whpk_").unwrap_or(text)) {
        Ok(key) if key.len() == 32 => return Ok(key),
        Ok(key) => format!("the public key has {} bytes, not 32", key.len()),
        Err(_) => "the public key is not base64".to_owned(),
    };
    Err(FileError::new(message, "`whpk_` and the 32 bytes of an ed25519 public key in base64"))
}

/// A Standard Webhooks channel.
#[derive(Debug)]
pub struct StandardWebhooks {
    channel: String,
    secrets: HmacKeys,
    public_keys: Vec<UnparsedPublicKey<Arc<[u8]>>>,
}

impl StandardWebhooks {
    fn new(values: &Values, names: &Names<'_>) -> StandardWebhooks {
        let public_key = |key: &Secret| UnparsedPublicKey::new(&ED25519, key.0.clone());
        StandardWebhooks {
            channel: names.channel.to_owned(),
            secrets: HmacKeys::new(values.files(&SECRETS)),
            public_keys: values.files(&PUBLIC_KEYS).iter().map(public_key).collect(),
        }
    }

    fn is_signed(&self, parts: &[&[u8]], signatures: &str) -> bool {
        let of = |version: &'static str| {
            let all = signatures.split(' ').filter_map(|signature| signature.split_once(','));
            all.filter(move |(name, _)| *name == version).map(|(_, signature)| signature)
        };
        if self.secrets.signed(parts, of("v1").filter_map(tag_base64)) {
            return true;
        }
        if self.public_keys.is_empty() || of("v1a").next().is_none() {
            return false;
        }
        let message = parts.concat();
        of("v1a")
            .take(PUBLIC_MAX)
            .filter_map(|signature| STANDARD.decode(signature).ok())
            .any(|signature| self.public_keys.iter().any(|key| key.verify(&message, &signature).is_ok()))
    }
}

const PATHS: [&[&str]; 7] = [
    &["data", "id"],
    &["data", "out_trade_no"],
    &["data", "amount_minor"],
    &["data", "currency"],
    &["type"],
    &["data", "out_refund_no"],
    &["timestamp"],
];

impl Verifier for StandardWebhooks {
    type Message<'a> = Generic<'a>;

    fn verify<'a>(&self, received: &'a Received, now_ms: u64) -> Result<Generic<'a>, VerifyError> {
        let header = |name| received.header(name).ok_or(VerifyError::Forged("a Standard Webhooks header is missing"));
        let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
        let signatures = header("webhook-signature")?;
        let at_ms = seconds(time).ok_or(VerifyError::Forged("webhook-timestamp is no time"))?;
        if !self.is_signed(&[id.as_bytes(), b".", time.as_bytes(), b".", &received.body], signatures) {
            return Err(VerifyError::Forged("no signature of the Standard Webhooks keys"));
        }
        window(at_ms, now_ms, |skew_ms| skew_ms.abs() <= WINDOW_MS)?;
        let found = pick(&received.body, &PATHS).ok_or(VerifyError::Malformed("the message is no JSON object"))?;
        let [fields @ .., time] = found;
        let occurred_ms = normalise::rfc3339(json::text(time).as_deref());
        let mut message = Generic::of_json(fields, false);
        message.occurred_ms = occurred_ms.or(u64::try_from(at_ms).ok());
        Ok(message)
    }

    fn normalise(&self, message: Generic<'_>, received: &Received) -> ProviderEvent {
        message.event(&received.body, &self.channel)
    }

    fn sent<'a>(&self, received: &'a Received) -> Option<&'a str> {
        received.header("webhook-timestamp")
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;
    use crate::configured::KeyValue;

    #[test]
    fn of_the_signatures_that_cost_much_two_are_looked_at() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = KeyValue::Files(vec![Secret(Arc::from(pair.public_key().as_ref()))]);
        let names = Names { channel: "a", merchant: "m" };
        let provider = StandardWebhooks::new(&Values::default().with(&PUBLIC_KEYS, key), &names);
        let right = format!("v1a,{}", STANDARD.encode(pair.sign(b"abc")));
        let wrong = format!("v1a,{}", STANDARD.encode([0; 64]));
        assert!(provider.is_signed(&[b"a", b"bc"], &format!("v1,x {wrong} {right}")));
        assert!(!provider.is_signed(&[b"a", b"bc"], &format!("{wrong} {wrong} {right}")));
    }
}
