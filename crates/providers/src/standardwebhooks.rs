//! Standard Webhooks 1.0.0: `v1` (HMAC-SHA256) and `v1a` (ed25519) over `id.timestamp.body`.
//!
//! Any signature by any key is enough, among the first sixteen `v1` and the first two `v1a`. Each of these hashes the
//! body anew under each key, and a key rotation needs no more. A message may be 300 s away on either side. `type` says
//! what happened, and `data` holds the rest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::hmac::Generic;
use super::json::{self, pick};
use super::keyed::{HmacKeys, seconds, tag_base64, window};
use crate::event::ProviderEvent;
use crate::normalise;
use crate::receive::Received;
use crate::verify::{Provider, VerifyError};
use base::secret::Secret;
use config::model::ledger::Channel;

const WINDOW_MS: i64 = 300_000;
/// The number of `v1a` signatures of one message that are checked.
const PUBLIC_MAX: usize = 2;

/// A Standard Webhooks channel.
#[derive(Debug)]
pub struct StandardWebhooks {
    secrets: HmacKeys,
    public_keys: Vec<UnparsedPublicKey<[u8; 32]>>,
}

impl StandardWebhooks {
    /// A channel with these secrets and public keys.
    pub fn new(secrets: &[Secret], public_keys: &[[u8; 32]]) -> StandardWebhooks {
        let public_keys = public_keys.iter().map(|key| UnparsedPublicKey::new(&ED25519, *key)).collect();
        StandardWebhooks { secrets: HmacKeys::new(secrets), public_keys }
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

const PATHS: [&[&str]; 6] = [
    &["data", "id"],
    &["data", "out_trade_no"],
    &["data", "amount_minor"],
    &["data", "currency"],
    &["type"],
    &["timestamp"],
];

impl Provider for StandardWebhooks {
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
        let occurred_ms = normalise::rfc3339(json::text(found[5]).as_deref());
        let [id, order, amount, currency, kind, _] = found;
        let mut message = Generic::of_json([id, order, amount, currency, kind], false);
        message.occurred_ms = occurred_ms.or(u64::try_from(at_ms).ok());
        Ok(message)
    }

    fn normalise(&self, message: Generic<'_>, received: &Received, channel: &Channel) -> ProviderEvent {
        message.event(&received.body, channel)
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    #[test]
    fn of_the_signatures_that_cost_much_two_are_looked_at() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let provider = StandardWebhooks::new(&[], &[pair.public_key().as_ref().try_into().unwrap()]);
        let right = format!("v1a,{}", STANDARD.encode(pair.sign(b"abc")));
        let wrong = format!("v1a,{}", STANDARD.encode([0; 64]));
        assert!(provider.is_signed(&[b"a", b"bc"], &format!("v1,x {wrong} {right}")));
        assert!(!provider.is_signed(&[b"a", b"bc"], &format!("{wrong} {wrong} {right}")));
    }
}
