//! The payment providers, one file each, and one type for all of them.
//!
//! | module | is |
//! |---|---|
//! | [`alipay`] | a form signed by RSA2 |
//! | [`wechatpay`] | JSON signed by RSA, with an encrypted resource |
//! | [`stripe`] | JSON signed by HMAC |
//! | [`standardwebhooks`] | JSON signed by HMAC or ed25519 |
//! | [`hmac`] | anything signed by HMAC, with fields by configuration |
//! | [`keyed`], [`json`], [`form`] | what they share |
//! | [`receive`], [`verify`], [`normalise`], [`event`] | a message on its way from raw bytes to its meaning |
//!
//! Keys are prepared once per configuration, in [`Prepared`]. The signature is checked before the window, and the
//! window before the signed content is parsed. Alipay is the exception: its signature is a field of the form that it
//! signs.

pub mod alipay;
pub mod event;
pub mod form;
pub mod hmac;
pub mod json;
pub mod keyed;
pub mod normalise;
pub mod receive;
pub mod standardwebhooks;
pub mod stripe;
pub mod verify;
pub mod wechatpay;

use std::sync::Arc;

use self::receive::Received;
use self::verify::{VerifiedMessage, VerifyError};
use config::model::ledger::{Channel, Provider};

/// A provider with its keys prepared.
#[derive(Debug)]
pub enum AnyProvider {
    /// `alipay`
    Alipay(alipay::Alipay),
    /// `wechatpay`
    WechatPay(Box<wechatpay::WechatPay>),
    /// `stripe`
    Stripe(stripe::Stripe),
    /// `standardwebhooks`
    StandardWebhooks(standardwebhooks::StandardWebhooks),
    /// `hmac`
    Hmac(Box<hmac::Hmac>),
}

impl AnyProvider {
    /// Prepares the keys of a configured provider.
    pub fn new(provider: &Provider) -> AnyProvider {
        match provider {
            Provider::Alipay { app_id, seller_id, public_keys } => {
                AnyProvider::Alipay(alipay::Alipay::new(app_id, seller_id, public_keys))
            }
            Provider::WechatPay { mchid, api_v3_key, platform_keys } => {
                AnyProvider::WechatPay(Box::new(wechatpay::WechatPay::new(mchid, api_v3_key, platform_keys)))
            }
            Provider::Stripe { secrets, .. } => AnyProvider::Stripe(stripe::Stripe::new(secrets)),
            Provider::StandardWebhooks { secrets, public_keys } => {
                AnyProvider::StandardWebhooks(standardwebhooks::StandardWebhooks::new(secrets, public_keys))
            }
            Provider::Hmac(provider) => AnyProvider::Hmac(Box::new(hmac::Hmac::new(provider))),
        }
    }

    /// Verifies a message that came to `channel` and gives its meaning.
    pub fn verify(&self, channel: &Channel, received: Received, now_ms: u64) -> Result<VerifiedMessage, VerifyError> {
        match self {
            AnyProvider::Alipay(provider) => verify::verify(provider, channel, received, now_ms),
            AnyProvider::WechatPay(provider) => verify::verify(&**provider, channel, received, now_ms),
            AnyProvider::Stripe(provider) => verify::verify(provider, channel, received, now_ms),
            AnyProvider::StandardWebhooks(provider) => verify::verify(provider, channel, received, now_ms),
            AnyProvider::Hmac(provider) => verify::verify(&**provider, channel, received, now_ms),
        }
    }
}

/// The time at which a message was sent by its signed headers, in milliseconds since 1970; `None` without such a
/// header.
fn sent_ms(provider: &AnyProvider, received: &Received) -> Option<i64> {
    let seconds = match provider {
        AnyProvider::WechatPay(_) => received.header("wechatpay-timestamp")?,
        AnyProvider::StandardWebhooks(_) => received.header("webhook-timestamp")?,
        AnyProvider::Stripe(_) => {
            let parts = received.header("stripe-signature")?.split(',');
            parts.into_iter().find_map(|part| part.trim().strip_prefix("t="))?
        }
        AnyProvider::Alipay(_) | AnyProvider::Hmac(_) => return None,
    };
    seconds.parse::<i64>().ok()?.checked_mul(1_000)
}

/// A channel that is ready to take callbacks.
#[derive(Debug)]
pub struct Prepared {
    channel: Arc<Channel>,
    provider: AnyProvider,
}

impl Prepared {
    /// Prepares a channel's keys.
    pub fn new(channel: Arc<Channel>) -> Prepared {
        let provider = AnyProvider::new(&channel.provider);
        Prepared { channel, provider }
    }

    /// The channel.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// The time at which a message was sent by its signed headers, in milliseconds since 1970; `None` without such a
    /// header.
    pub fn sent_ms(&self, verified: &VerifiedMessage) -> Option<i64> {
        sent_ms(&self.provider, verified.received())
    }

    /// Verifies a message and gives its meaning.
    pub fn verify(&self, received: Received, now_ms: u64) -> Result<VerifiedMessage, VerifyError> {
        self.provider.verify(&self.channel, received, now_ms)
    }
}

#[cfg(test)]
mod tests;
