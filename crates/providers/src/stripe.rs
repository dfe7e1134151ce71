//! Stripe: `Stripe-Signature: t=…,v1=…`, an HMAC-SHA256 of `t.body` under the whole `whsec_…` text.
//!
//! Any `v1` by any secret is enough; of several `t` the first counts. A message may be from the future, as in Stripe's
//! own libraries, but not older than 300 s. Amounts are in Stripe's units, which for a few currencies differ from the
//! minor units of ISO 4217 ([`digits`]).

mod api;

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{self, pick};
use super::keyed::{HmacKeys, Tag, seconds, tag_hex, window};
use crate::api::API_URL;
use crate::configured::{self, ConfigKey, FileError, FileKind, Names, Need, Shape, TextError, TextKind, Values};
use crate::event::{Amount, Kind, Of, ProviderEvent, Requested};
use crate::normalise::{self, Money, Note};
use crate::receive::Received;
use crate::verify::{Verifier, VerifyError};
use crate::{Dialect, Numbers, Provider};
use base::secret;
use base::units::Currency;

/// Its row.
pub const PROVIDER: Provider = Provider {
    name: "stripe",
    keys: &[SECRETS, ACCOUNT, API_URL, api::API_KEY],
    either: None,
    prepare: |values, names| crate::verifier(Stripe::new(values, names)),
    dialect: Dialect::Plain,
    numbers: Numbers::OfAllAccounts { account: &ACCOUNT },
    names_owner: false,
    cumulative_refunds: false,
    digits,
    outgoing: Some(api::OUTGOING),
};

/// The secrets of the endpoint.
pub const SECRETS: ConfigKey = ConfigKey {
    name: "secret_files",
    about: "Files with the secrets that sign callbacks, several while they rotate. An endpoint must get \
            payment_intent.succeeded, charge.succeeded, charge.captured, refund.created, refund.updated, refund.failed \
            and charge.dispute.*; charge.refunded books no refund.",
    shape: Shape::Files(FileKind::line(signing_secret)),
    need: Need::Required("secret_files = [\"secrets/{}\"]"),
};

/// The account at Stripe.
pub const ACCOUNT: ConfigKey = ConfigKey {
    name: "account",
    about: "The account that its events belong to. What another merchant's channel has told of the same account is a \
            conflict. Absent: the account is the merchant's own. It may be named later: a payment is found by its number \
            wherever it was filed.",
    shape: Shape::Text(TextKind::Any {
        what: "an account",
        example: "\"acct_1032D82eZvKYlo2C\"",
        read: |text| match configured::word(text) {
            Ok(word) if !word.starts_with("acct_") => Err(TextError::Own(
                "`{}` is no account of Stripe",
                "such as \"acct_1032D82eZvKYlo2C\", as its dashboard shows it",
            )),
            read => read,
        },
    }),
    need: Need::Optional,
};

/// The signing secret of an endpoint, as the dashboard shows it: the whole `whsec_…` text is the key.
fn signing_secret(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let secret = secret::line(bytes);
    let hint = "the endpoint's signing secret, which begins with `whsec_`";
    if [&b"sk_"[..], b"rk_", b"pk_"].iter().any(|start| secret.starts_with(start)) {
        return Err(FileError::new("this is an API key of Stripe, which signs nothing", hint));
    }
    if secret.is_empty() || !secret.iter().all(u8::is_ascii_graphic) {
        return Err(FileError::new("the secret is not one word", hint));
    }
    Ok(secret.to_vec())
}

const WINDOW_MS: i64 = 300_000;

/// A Stripe channel.
#[derive(Debug)]
pub struct Stripe {
    keys: HmacKeys,
    account: String,
}

impl Stripe {
    fn new(values: &Values, names: &Names<'_>) -> Stripe {
        Stripe { keys: HmacKeys::new(values.files(&SECRETS)), account: account(values, names.merchant) }
    }
}

impl Verifier for Stripe {
    type Message<'a> = StripeMessage<'a>;

    fn verify<'a>(&self, received: &'a Received, now_ms: u64) -> Result<StripeMessage<'a>, VerifyError> {
        let header = received.header("stripe-signature").ok_or(VerifyError::Forged("no Stripe-Signature"))?;
        let (time, tags) = signatures(header).ok_or(VerifyError::Forged("a Stripe-Signature without a time"))?;
        let at_ms = seconds(time).ok_or(VerifyError::Forged("a Stripe-Signature without a time"))?;
        if !self.keys.signed(&[time.as_bytes(), b".", &received.body], tags) {
            return Err(VerifyError::Forged("no signature of the Stripe secrets"));
        }
        window(at_ms, now_ms, |skew_ms| skew_ms >= -WINDOW_MS)?;
        StripeMessage::read(&received.body).ok_or(VerifyError::Malformed("the event is no JSON object"))
    }

    fn normalise(&self, message: StripeMessage<'_>, received: &Received) -> ProviderEvent {
        message.event(&self.account, &received.body)
    }

    fn sent<'a>(&self, received: &'a Received) -> Option<&'a str> {
        let mut parts = received.header("stripe-signature")?.split(',');
        parts.find_map(|part| part.trim().strip_prefix("t="))
    }
}

/// The time and all `v1` tags.
fn signatures(header: &str) -> Option<(&str, impl Iterator<Item = Tag> + Clone)> {
    let items = header.split(',').filter_map(|item| item.split_once('='));
    let (_, time) = items.clone().find(|(name, _)| *name == "t")?;
    Some((time, items.filter(|(name, _)| *name == "v1").filter_map(|(_, tag)| tag_hex(tag))))
}

/// The account under which a channel's transactions are filed: the configured account, else the merchant. No Stripe
/// account has a colon. Both may change with the configuration. Stripe's numbers are unique among all accounts, so the
/// books find our transactions by number, under whichever account they were filed.
pub fn account(values: &Values, merchant: &str) -> String {
    values.text(&ACCOUNT).map_or_else(|| format!("merchant:{merchant}"), str::to_owned)
}

/// Decimals of Stripe's amounts: those of ISO 4217, but for a few currencies. Stripe counts whole ariary, and
/// hundredths of ISK and UGX (<https://docs.stripe.com/currencies#special-cases>).
pub fn digits(currency: Currency) -> u32 {
    match currency.code() {
        "MGA" => 0,
        "ISK" | "UGX" => 2,
        _ => currency.digits(),
    }
}

/// The fields of an event that are needed.
#[derive(Debug)]
pub struct StripeMessage<'a> {
    id: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    created: Option<u64>,
    object: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    payment_intent: Option<Cow<'a, str>>,
    charge: Option<Cow<'a, str>>,
    out_trade_no: Option<Cow<'a, str>>,
    out_refund_no: Option<Cow<'a, str>>,
    currency: Option<Cow<'a, str>>,
    amount: Option<&'a RawValue>,
    received: Option<&'a RawValue>,
    captured: Option<&'a RawValue>,
    is_captured: bool,
}

const PATHS: [&[&str]; 14] = [
    &["id"],
    &["type"],
    &["created"],
    &["data", "object", "id"],
    &["data", "object", "status"],
    &["data", "object", "payment_intent"],
    &["data", "object", "charge"],
    &["data", "object", "metadata", "out_trade_no"],
    &["data", "object", "currency"],
    &["data", "object", "amount"],
    &["data", "object", "amount_received"],
    &["data", "object", "amount_captured"],
    &["data", "object", "captured"],
    &["data", "object", "metadata", "out_refund_no"],
];

impl<'a> StripeMessage<'a> {
    /// Reads an event's JSON.
    pub fn read(body: &'a [u8]) -> Option<StripeMessage<'a>> {
        let found = pick(body, &PATHS)?;
        let text = |at: usize| json::text(found[at]).filter(|text| !text.is_empty());
        Some(StripeMessage {
            id: text(0),
            kind: text(1),
            created: found[2].and_then(|raw| raw.get().parse::<u64>().ok()?.checked_mul(1000)),
            object: text(3),
            status: text(4),
            payment_intent: reference(found[5]),
            charge: reference(found[6]),
            out_trade_no: text(7),
            out_refund_no: text(13),
            currency: text(8),
            amount: found[9],
            received: found[10],
            captured: found[11],
            is_captured: found[12].is_none_or(|raw| raw.get() != "false"),
        })
    }

    /// The meaning of the event.
    fn event(self, account: &str, body: &[u8]) -> ProviderEvent {
        let (received, amount, captured) = (self.received, self.amount, self.captured);
        match (self.kind.as_deref().unwrap_or_default(), self.status.as_deref()) {
            ("payment_intent.succeeded", _) => self.payment(account, received, body),
            ("charge.succeeded", _) if self.payment_intent.is_none() && self.is_captured => {
                self.payment(account, amount, body)
            }
            // A payment that `charge.succeeded` only authorised is paid now.
            ("charge.captured", _) if self.payment_intent.is_none() => self.payment(account, captured, body),
            ("refund.created" | "refund.updated" | "charge.refund.updated", Some("succeeded")) => {
                self.later(Kind::Refund, account, body)
            }
            ("refund.failed", _) | ("refund.updated" | "charge.refund.updated", Some("failed" | "canceled")) => {
                self.later(Kind::RefundReversal, account, body)
            }
            ("charge.dispute.funds_withdrawn", _) => self.later(Kind::Chargeback, account, body),
            ("charge.dispute.funds_reinstated", _) => self.later(Kind::ChargebackReversal, account, body),
            _ => {
                let key = normalise::note_key(self.id.as_deref(), "", body);
                let (number, out_trade_no) = (self.object, None);
                Note { account: account.into(), key, number, out_trade_no, occurred_ms: self.created }.event()
            }
        }
    }

    fn payment(self, account: &str, amount: Option<&RawValue>, body: &[u8]) -> ProviderEvent {
        let out_trade_no = self.out_trade_no.clone().or_else(|| self.object.clone());
        self.money((Kind::Payment, account), out_trade_no, None, amount, body)
    }

    /// A refund or a dispute. Its order is the order of its payment, whatever its own metadata say.
    fn later(self, kind: Kind, account: &str, body: &[u8]) -> ProviderEvent {
        let of = normalise::name(self.payment_intent.clone().or_else(|| self.charge.clone())).map(Of::Number);
        let (amount, out_refund_no) = (self.amount, normalise::name(self.out_refund_no.clone()));
        let event = self.money((kind, account), None, of, amount, body);
        let is_of_refund = matches!(kind, Kind::Refund | Kind::RefundReversal);
        let request = out_refund_no.map(Requested::OutRefundNo).or(event.number.clone().map(Requested::Number));
        ProviderEvent { request: request.filter(|_| is_of_refund), ..event }
    }

    fn money(
        self,
        (kind, account): (Kind, &str),
        out_trade_no: Option<Cow<'a, str>>,
        of: Option<Of>,
        amount: Option<&RawValue>,
        body: &[u8],
    ) -> ProviderEvent {
        let amount = json::minor(amount, 0).map(Amount::Exact);
        let currency = normalise::currency(self.currency.as_deref()).map(Some);
        let (account, number, within) = (account.into(), self.object, None);
        Money { kind, account, number, within, out_trade_no, of, amount, currency, occurred_ms: self.created }
            .event(body)
    }
}

/// The id of another object, which is a field of that object where it is expanded.
fn reference(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let written = raw?.get();
    let raw = if written.starts_with('{') { pick(written.as_bytes(), &[&["id"]])?[0] } else { raw };
    json::text(raw).filter(|text| !text.is_empty())
}
