//! What `[ledger]` means: plain data, valid by construction; every secret is read, every key is parsed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::finding::Place;
use base::secret::Secret;

/// Name, in metrics and logs, of the upstream that routes with `ledger = true` forward to; no other may have it.
pub const UPSTREAM: &str = "ledger";

/// `[ledger]`
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    /// Where it listens, or, when not embedded, where it is.
    pub address: SocketAddr,
    /// Whether `tollgate run` starts it.
    pub embedded: bool,
    /// Where the books are.
    pub store: Store,
    /// 32 bytes each, at least one; the first encrypts, all decrypt.
    pub encryption_keys: Vec<Secret>,
    /// The platform's token.
    pub token: Option<Secret>,
    /// Callbacks a commit may hold; at least 1.
    pub batch_max: usize,
    /// Waits between two tries of a delivery; after the last one it is dead.
    pub delivery_backoff: Vec<Duration>,
    /// Time one try may take; never zero.
    pub delivery_timeout: Duration,
    /// `[ledger.channel.*]`, in the order written; at least one.
    pub channels: Vec<Channel>,
    /// `[ledger.merchant.*]`, in the order written.
    pub merchants: Vec<Merchant>,
    /// Where `state_dir` is: the anchor is kept there.
    pub state_dir: PathBuf,
    /// Where `address` stands, or the table.
    pub place: Place,
}

/// `store`
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// `sqlite:PATH`, joined to `state_dir`.
    Sqlite(PathBuf),
    /// `postgres://user@host/db`; the URL carries no password.
    Postgres {
        /// As written.
        url: String,
        /// From `store_password_file`.
        password: Option<Secret>,
    },
}

/// `[ledger.channel.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// The table's name: `[a-z0-9_-]+`.
    pub name: Arc<str>,
    /// How its callbacks are verified and read.
    pub provider: Provider,
    /// A merchant of this ledger.
    pub merchant: Arc<str>,
    /// Whether a payment that no order names is parked.
    pub require_order: bool,
    /// Charged to the merchant.
    pub fee: Option<Fee>,
}

/// `fee`: `percent` of the amount and `fixed_minor`, at least `minimum_minor`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fee {
    /// Exact, as written.
    pub percent: rust_decimal::Decimal,
    /// In minor units of the payment's currency.
    pub fixed_minor: i64,
    /// In minor units of the payment's currency.
    pub minimum_minor: i64,
    /// How a part of a minor unit is rounded.
    pub rounding: Rounding,
}

/// `rounding`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// `half_even`
    HalfEven,
    /// `half_up`: half away from zero
    HalfUp,
    /// `up`: away from zero
    Up,
    /// `down`: towards zero
    Down,
}

/// `provider`, with the keys of that provider.
#[derive(Clone, Debug, PartialEq)]
pub enum Provider {
    /// `stripe`
    Stripe {
        /// Whole `whsec_…` texts as bytes; at least one.
        secrets: Vec<Secret>,
        /// `acct_…`: whose numbers they are. Absent: the merchant's own.
        account: Option<String>,
    },
    /// `alipay`
    Alipay {
        /// Ours.
        app_id: String,
        /// Ours.
        seller_id: String,
        /// Alipay's keys; at least one.
        public_keys: Vec<RsaKey>,
    },
    /// `wechatpay`
    WechatPay {
        /// Ours.
        mchid: String,
        /// 32 bytes.
        api_v3_key: Secret,
        /// Platform certificates' or public keys' serials (as written) with their keys; at least one.
        platform_keys: Vec<(String, RsaKey)>,
    },
    /// `standardwebhooks`; at least one secret or key.
    StandardWebhooks {
        /// Decoded, 24 to 64 bytes (v1).
        secrets: Vec<Secret>,
        /// ed25519 public keys (v1a).
        public_keys: Vec<[u8; 32]>,
    },
    /// `hmac`
    Hmac(Hmac),
}

impl Provider {
    /// As the configuration spells it.
    pub fn label(&self) -> &'static str {
        match self {
            Provider::Stripe { .. } => "stripe",
            Provider::Alipay { .. } => "alipay",
            Provider::WechatPay { .. } => "wechatpay",
            Provider::StandardWebhooks { .. } => "standardwebhooks",
            Provider::Hmac(_) => "hmac",
        }
    }
}

/// An RSA public key of 2048 to 8192 bits: the DER of PKCS#1's `RSAPublicKey`, as `ring` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaKey(pub Arc<[u8]>);

impl AsRef<[u8]> for RsaKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// `provider = "hmac"`
#[derive(Clone, Debug, PartialEq)]
pub struct Hmac {
    /// Raw bytes; at least one.
    pub secrets: Vec<Secret>,
    /// The header with the signature.
    pub header: http::HeaderName,
    /// `encoding`
    pub encoding: Encoding,
    /// `format`; absent: told by the body.
    pub format: Option<Format>,
    /// What stands before the signature in the header; may be empty.
    pub prefix: String,
    /// Names or dotted paths of the fields.
    pub fields: Fields,
}

/// `encoding`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `hex`
    Hex,
    /// `base64`
    Base64,
}

/// `format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `json`
    Json,
    /// `form`
    Form,
}

/// Where a generic message keeps what: dotted JSON paths, or form names.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields {
    /// `id_field`
    pub id: String,
    /// `order_field`
    pub order: String,
    /// `amount_field`
    pub amount: String,
    /// `amount_unit` is `major`.
    pub major: bool,
    /// `currency_field`
    pub currency: String,
    /// `kind_field`
    pub kind: String,
}

/// `[ledger.merchant.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Merchant {
    /// The table's name: `[a-z0-9_-]+`.
    pub name: Arc<str>,
    /// Where its events are posted.
    pub url: String,
    /// Signs its events (Standard Webhooks), decoded.
    pub secret: Secret,
    /// Its own token.
    pub token: Option<Secret>,
    /// Whether `url` may be a loopback or private address.
    pub allow_private: bool,
}
