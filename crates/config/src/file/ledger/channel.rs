//! The form of `[ledger.channel.NAME]`: the keys of all providers, side by side.
//!
//! Each key occurs once, whichever providers have it. `check` requires the keys of the channel's own provider and
//! refuses those of another, since it can name both.

use http::HeaderName;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::super::Sub;
use super::super::located::{Located, Table};
use super::super::scalar::{FilePath, FromText, Name, OneOf, Word, not_a, shown};
use super::fee::FeeForm;
use crate::model::ledger::{Encoding, Format};

/// Where callbacks come from: one account at a payment provider.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelForm {
    /// "stripe", "alipay", "wechatpay", "standardwebhooks" or "hmac" (HMAC over the raw body).
    #[schemars(required)]
    pub provider: Option<Word<ProviderName>>,
    /// Name of the merchant to whom the money is owed.
    #[schemars(required)]
    pub merchant: Option<Word<Name>>,
    /// Whether a payment that no order names is parked until one does. Refused as true until the API can make orders.
    #[schemars(extend("default" = false))]
    pub require_order: Option<bool>,
    /// What the merchant is charged. Absent: nothing.
    pub fee: Sub<FeeForm>,
    /// stripe, standardwebhooks, hmac: files with the secrets that sign callbacks, several while they rotate. A Stripe
    /// endpoint must get payment_intent.succeeded, charge.succeeded, charge.captured, refund.created, refund.updated,
    /// refund.failed and charge.dispute.*; charge.refunded books no refund.
    pub secret_files: Option<Located<Vec<Word<FilePath>>>>,
    /// alipay: files with its public keys (PEM, a certificate or bare base64). standardwebhooks: "whpk_" and an ed25519
    /// key in base64 (v1a).
    pub public_key_files: Option<Located<Vec<Word<FilePath>>>>,
    /// stripe: the account that its events belong to. What another merchant's channel has told of the same account is a
    /// conflict. Absent: the account is the merchant's own. It may be named later: a payment is found by its number
    /// wherever it was filed.
    pub account: Option<Word<Account>>,
    /// alipay: our app_id. A payment of another app is never booked.
    pub app_id: Option<Word<Account>>,
    /// alipay: our seller_id.
    pub seller_id: Option<Word<Account>>,
    /// wechatpay: our mchid.
    pub mchid: Option<Word<Account>>,
    /// wechatpay: file with the APIv3 key, 32 bytes.
    pub api_v3_key_file: Option<Word<FilePath>>,
    /// wechatpay: the platform's certificates by serial, or its public keys by id.
    pub platform_keys: Option<Located<Vec<Located<Table<PlatformKeyForm>>>>>,
    /// hmac: the header with the signature.
    pub header: Option<Word<HeaderName>>,
    /// The HMAC's hash.
    #[schemars(extend("default" = "sha256", "x-with" = ["provider", "hmac"]))]
    pub algorithm: Option<Word<Algorithm>>,
    /// How the signature is written.
    #[schemars(extend("default" = "hex", "x-with" = ["provider", "hmac"]))]
    pub encoding: Option<Word<Encoding>>,
    /// hmac: what bodies are: "json" or "form". Absent: JSON where the first byte that is not white space is "{", else
    /// what the Content-Type says, which is not signed.
    pub format: Option<Word<Format>>,
    /// What stands before the signature in the header, such as "sha256=".
    #[schemars(extend("default" = "", "x-with" = ["provider", "hmac"]))]
    pub prefix: Option<Word<SignaturePrefix>>,
    /// Where the number is: dotted paths in JSON ("data.id"), names in forms.
    #[schemars(extend("default" = "id", "x-with" = ["provider", "hmac"]))]
    pub id_field: Option<Word<Field>>,
    /// Where the order's number is.
    #[schemars(extend("default" = "out_trade_no", "x-with" = ["provider", "hmac"]))]
    pub order_field: Option<Word<Field>>,
    /// Where the amount is.
    #[schemars(extend("default" = "amount_minor", "x-with" = ["provider", "hmac"]))]
    pub amount_field: Option<Word<Field>>,
    /// What the amount counts: minor units (cents) or major units.
    #[schemars(extend("default" = "minor", "x-with" = ["provider", "hmac"]))]
    pub amount_unit: Option<Word<Unit>>,
    /// Where the currency is.
    #[schemars(extend("default" = "currency", "x-with" = ["provider", "hmac"]))]
    pub currency_field: Option<Word<Field>>,
    /// Where the kind is: payment, refund or chargeback.
    #[schemars(extend("default" = "kind", "x-with" = ["provider", "hmac"]))]
    pub kind_field: Option<Word<Field>>,
}

/// A key of WeChat Pay, and the serial that its callbacks name it by.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlatformKeyForm {
    /// Serial of the certificate, or id of the public key.
    #[schemars(required)]
    pub serial: Option<Word<Account>>,
    /// PEM file with the certificate or the public key.
    #[schemars(required)]
    pub file: Option<Word<FilePath>>,
}

/// `provider`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderName {
    /// `stripe`
    Stripe,
    /// `alipay`
    Alipay,
    /// `wechatpay`
    WechatPay,
    /// `standardwebhooks`
    StandardWebhooks,
    /// `hmac`
    Hmac,
}

impl OneOf for ProviderName {
    const WHAT: &'static str = "a provider";
    const EXAMPLE: &'static str = "\"stripe\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("stripe", ProviderName::Stripe),
        ("alipay", ProviderName::Alipay),
        ("wechatpay", ProviderName::WechatPay),
        ("standardwebhooks", ProviderName::StandardWebhooks),
        ("hmac", ProviderName::Hmac),
    ];
}

/// `algorithm`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `sha256`
    Sha256,
}

impl OneOf for Algorithm {
    const WHAT: &'static str = "an algorithm";
    const EXAMPLE: &'static str = "\"sha256\"";
    const WORDS: &'static [(&'static str, Self)] = &[("sha256", Algorithm::Sha256)];
}

impl OneOf for Encoding {
    const WHAT: &'static str = "an encoding";
    const EXAMPLE: &'static str = "\"hex\"";
    const WORDS: &'static [(&'static str, Self)] = &[("hex", Encoding::Hex), ("base64", Encoding::Base64)];
}

impl OneOf for Format {
    const WHAT: &'static str = "a format";
    const EXAMPLE: &'static str = "\"json\"";
    const WORDS: &'static [(&'static str, Self)] = &[("json", Format::Json), ("form", Format::Form)];
}

/// `amount_unit`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `minor`
    Minor,
    /// `major`
    Major,
}

impl OneOf for Unit {
    const WHAT: &'static str = "a unit of amounts";
    const EXAMPLE: &'static str = "\"minor\"";
    const WORDS: &'static [(&'static str, Self)] = &[("minor", Unit::Minor), ("major", Unit::Major)];
}

/// The id of an account or key at a provider: one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account(pub String);

impl FromText for Account {
    const WHAT: &'static str = "an account";
    const EXAMPLE: &'static str = "\"2021000000000000\": one word, as the provider gave it";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if word { Ok(Account(text.to_owned())) } else { Err(not_a::<Self>(text)) }
    }
}

/// The path of a value in a message: names joined by dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(pub String);

impl FromText for Field {
    const WHAT: &'static str = "a field";
    const EXAMPLE: &'static str = "\"amount_minor\", or \"data.object.id\" for one inside of others";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let named = !text.is_empty() && text.split('.').all(|name| !name.is_empty());
        if named { Ok(Field(text.to_owned())) } else { Err(not_a::<Self>(text)) }
    }
}

/// The text before the signature in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignaturePrefix(pub String);

impl FromText for SignaturePrefix {
    const WHAT: &'static str = "a prefix of a signature";
    const EXAMPLE: &'static str = "\"sha256=\"";
    fn from_text(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Ok(SignaturePrefix(text.to_owned()));
        }
        Err(format!("`{}` holds a character that no header has\nsuch as {}", shown(text), Self::EXAMPLE))
    }
}
