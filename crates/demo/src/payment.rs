//! Payments and refunds as callbacks of three kinds of providers, each with its own signature and secrets of this run.
//!
//! Secrets come from the system's random numbers and are written only into the demo's folder. A message means the same
//! each time it is sent; its signature and time are new. Providers that sign by RSA are missing: the demo cannot make
//! an RSA key without another program.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use crate::identity::Identity;
use base::hex;

/// The channels that send callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// `provider = "stripe"`
    Card,
    /// `provider = "standardwebhooks"`
    Transfer,
    /// `provider = "hmac"`
    Wallet,
}

/// All channels.
pub const CHANNELS: [Channel; 3] = [Channel::Card, Channel::Transfer, Channel::Wallet];
/// The percentage of a card payment that the platform keeps.
pub const FEE_PERCENT: i64 = 1;

impl Channel {
    /// The channel's name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Card => "card",
            Channel::Transfer => "transfer",
            Channel::Wallet => "wallet",
        }
    }

    /// The currency of its payments.
    pub fn currency(self) -> &'static str {
        match self {
            Channel::Card => "USD",
            Channel::Transfer => "EUR",
            Channel::Wallet => "CNY",
        }
    }
}

/// The secrets of senders, ledger and merchant.
#[derive(Clone)]
pub struct Secrets {
    card: String,
    transfer: [u8; 32],
    wallet: String,
    merchant: [u8; 32],
    /// The platform's token for the ledger's API.
    pub token: String,
    encryption: String,
    /// The gateway's certificate, and the keys of apps.
    pub identity: Identity,
}

impl Secrets {
    /// Draws new ones.
    pub fn draw() -> Result<Secrets, String> {
        Ok(Secrets {
            card: whsec(&random()?),
            transfer: random()?,
            wallet: hex::encode(&random()?),
            merchant: random()?,
            token: hex::encode(&random()?),
            encryption: hex::encode(&random()?),
            identity: Identity::draw()?,
        })
    }

    /// Writes the files that the configuration names.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        let folder = folder.join("secrets");
        let files = [
            ("card.whsec", self.card.clone()),
            ("transfer.whsec", whsec(&self.transfer)),
            ("wallet.key", self.wallet.clone()),
            ("shop.whsec", whsec(&self.merchant)),
            ("ledger.token", self.token.clone()),
            ("ledger.key", self.encryption.clone()),
        ];
        let mut files = files.into_iter().chain(self.identity.files());
        let written = std::fs::create_dir(&folder)
            .and_then(|()| files.try_for_each(|(name, text)| std::fs::write(folder.join(name), text)));
        written.map_err(|e| format!("{}: {e}", folder.display()))
    }
}

/// A callback about a payment or its refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The channel that sends it.
    pub channel: Channel,
    /// The number of the payment within the channel.
    pub order: u32,
    /// Whether it is a refund.
    pub is_refund: bool,
    /// The amount in cents.
    pub amount: i64,
}

/// A signed request.
pub struct Signed {
    /// The path behind the gateway.
    pub path: String,
    /// The headers of the signature.
    pub headers: Vec<(&'static str, String)>,
    /// The signed body.
    pub body: Vec<u8>,
}

impl Callback {
    /// The `channel_txn_no` of the callback.
    pub fn number(&self) -> String {
        let mark = if self.is_refund { "re" } else { "pi" };
        format!("{mark}_{}_{}", self.channel.name(), self.order)
    }

    fn payment(&self) -> String {
        Callback { is_refund: false, ..self.clone() }.number()
    }

    /// The number of the order.
    pub fn out_trade_no(&self) -> String {
        format!("order-{}-{}", self.channel.name(), self.order)
    }

    /// The merchant's number of the refund.
    pub fn out_refund_no(&self) -> String {
        format!("refund-{}-{}", self.channel.name(), self.order)
    }

    /// The value of `kind`.
    pub fn kind(&self) -> &'static str {
        if self.is_refund { "refund" } else { "payment" }
    }

    /// The request, signed at this time.
    pub fn signed(&self, secrets: &Secrets, now_ms: u64) -> Signed {
        let now = now_ms / 1_000;
        let (body, headers) = match self.channel {
            Channel::Card => {
                let body = self.card(now).to_string();
                let tag = hex::encode(&mac(secrets.card.as_bytes(), format!("{now}.{body}").as_bytes()));
                (body, vec![("stripe-signature", format!("t={now},v1={tag}"))])
            }
            Channel::Transfer => {
                let body = json!({ "type": format!("{}.succeeded", self.kind()), "data": self.plain() }).to_string();
                let id = format!("msg_{}", self.number());
                let tag = webhook_signature(&secrets.transfer, &id, &now.to_string(), body.as_bytes());
                let (time, signature) = (now.to_string(), tag);
                (body, vec![("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)])
            }
            Channel::Wallet => {
                let mut body = self.plain();
                body["kind"] = self.kind().into();
                let body = body.to_string();
                let tag = hex::encode(&mac(secrets.wallet.as_bytes(), body.as_bytes()));
                (body, vec![("x-signature", tag)])
            }
        };
        Signed { path: format!("/pay/callbacks/{}", self.channel.name()), headers, body: body.into_bytes() }
    }

    /// The body in Stripe's form.
    fn card(&self, now: u64) -> Value {
        let currency = self.channel.currency().to_ascii_lowercase();
        let (kind, object) = if self.is_refund {
            let object = json!({ "id": self.number(), "object": "refund", "amount": self.amount, "currency": currency,
                "payment_intent": self.payment(), "status": "succeeded" });
            ("refund.created", object)
        } else {
            let object = json!({ "id": self.number(), "object": "payment_intent", "amount": self.amount,
                "amount_received": self.amount, "currency": currency, "status": "succeeded",
                "metadata": { "out_trade_no": self.out_trade_no() } });
            ("payment_intent.succeeded", object)
        };
        json!({ "id": format!("evt_{}", self.number()), "object": "event", "type": kind, "created": now,
            "data": { "object": object } })
    }

    fn plain(&self) -> Value {
        let out_refund_no = self.is_refund.then(|| self.out_refund_no());
        json!({ "id": self.number(), "out_trade_no": self.out_trade_no(), "amount_minor": self.amount,
            "currency": self.channel.currency(), "out_refund_no": out_refund_no })
    }
}

impl Signed {
    /// The same with one byte of the signed text changed: the first digit of the amount, so that it still parses.
    pub fn forged(mut self) -> Signed {
        let place = |body: &[u8]| {
            let key = body.windows(7).rposition(|window| window == b"\"amount")?;
            body[key..].iter().position(u8::is_ascii_digit).map(|digit| key + digit)
        };
        if let Some(digit) = place(&self.body) {
            self.body[digit] ^= 1;
        }
        self
    }
}

/// Checks the signatures of Standard Webhooks for a merchant.
pub struct Ear([u8; 32]);

impl Ear {
    /// A checker with the secret in a file.
    pub fn read(file: &Path) -> Result<Ear, String> {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let decoded = text.trim().strip_prefix("whsec_").and_then(|text| BASE64_STANDARD.decode(text).ok());
        let secret = decoded.and_then(|bytes| bytes.try_into().ok());
        secret.map(Ear).ok_or_else(|| format!("{} holds no secret", file.display()))
    }

    /// Whether one of the signatures is right.
    pub fn trusts(&self, id: &str, time: &str, signatures: &str, body: &[u8]) -> bool {
        let right = webhook_signature(&self.0, id, time, body);
        signatures.split(' ').any(|signature| signature == right)
    }
}

fn webhook_signature(key: &[u8], id: &str, time: &str, body: &[u8]) -> String {
    let text = [format!("{id}.{time}.").as_bytes(), body].concat();
    format!("v1,{}", BASE64_STANDARD.encode(mac(key, &text)))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// 32 random bytes from the system.
pub fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map(|()| bytes).map_err(|_| "the system gives no random numbers".to_owned())
}

fn whsec(bytes: &[u8]) -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;
    use crate::conf::tests::loaded;
    use ledger::channel::Prepared;
    use providers::receive::Received;
    use providers::verify::VerifyError;

    const NOW_MS: u64 = 1_795_232_280_000;

    fn received(signed: Signed) -> Received {
        let mut headers = HeaderMap::new();
        for (name, value) in signed.headers {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        Received::new(headers, signed.body.into(), NOW_MS)
    }

    #[test]
    fn the_ledger_takes_what_is_signed_and_refuses_a_flipped_byte() {
        let secrets = Secrets::draw().unwrap();
        let ledger = loaded(&secrets).ledger.unwrap();
        for channel in CHANNELS {
            let door =
                Prepared::new(ledger.channels.iter().find(|one| &*one.name == channel.name()).unwrap().clone().into());
            for is_refund in [false, true] {
                let callback = Callback { channel, order: 7, is_refund, amount: 4_200 };
                let genuine = received(callback.signed(&secrets, NOW_MS));
                assert!(door.verify(genuine, NOW_MS).is_ok(), "{callback:?}");
                let forged = received(callback.signed(&secrets, NOW_MS).forged());
                let refused = door.verify(forged, NOW_MS).err();
                assert!(matches!(refused, Some(VerifyError::Forged(_))), "{callback:?}: {refused:?}");
            }
        }
    }

    #[test]
    fn a_merchant_hears_its_own_secret_alone() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::draw().unwrap();
        secrets.write(folder.path()).unwrap();
        let ear = Ear::read(&folder.path().join("secrets/shop.whsec")).unwrap();
        let signature = webhook_signature(&secrets.merchant, "1", "2", b"{}");
        assert!(ear.trusts("1", "2", &format!("v1,x {signature}"), b"{}"));
        assert!(!ear.trusts("1", "3", &signature, b"{}") && !ear.trusts("1", "2", &signature, b"{ }"));
    }
}
