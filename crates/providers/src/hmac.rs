//! Any sender that signs the raw body by HMAC-SHA256: header, encoding and fields are configured.
//!
//! `format` says what the body is. Without it, a body that begins with `{` is JSON whatever `Content-Type` says: that
//! header is not signed, and text within JSON that was replayed as a form would be read as fields. For any other body,
//! `Content-Type` says whether it is a form. There is no window, because the signature covers no time. A message
//! without an id is identified by the SHA-256 of its body.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::keyed::{HmacKeys, tag_base64, tag_hex};
use super::{form, json};
use crate::event::{Amount, Kind, Of, ProviderEvent};
use crate::normalise::{self, Money, Note};
use crate::receive::Received;
use crate::verify::{Provider, VerifyError};
use base::units::Currency;
use config::model::ledger::{Channel, Encoding, Format, Hmac as Config};

/// A generic sender's channel.
#[derive(Debug)]
pub struct Hmac {
    keys: HmacKeys,
    header: http::HeaderName,
    encoding: Encoding,
    format: Option<Format>,
    prefix: String,
    /// Names of id, order, amount, currency and kind in a form.
    names: [String; 5],
    /// The same names as paths in JSON.
    paths: [Vec<String>; 5],
    major: bool,
}

impl Hmac {
    /// Prepares a channel as configured.
    pub fn new(config: &Config) -> Hmac {
        let fields = &config.fields;
        let names = [&fields.id, &fields.order, &fields.amount, &fields.currency, &fields.kind].map(String::clone);
        Hmac {
            keys: HmacKeys::new(&config.secrets),
            header: config.header.clone(),
            encoding: config.encoding,
            format: config.format,
            prefix: config.prefix.clone(),
            paths: names.each_ref().map(|name| name.split('.').map(str::to_owned).collect()),
            names,
            major: fields.major,
        }
    }

    fn of_form<'a>(&self, body: &'a [u8]) -> Result<Generic<'a>, VerifyError> {
        let mut parameters = form::parse(body).ok_or(VerifyError::Malformed("the form has too many parameters"))?;
        let mut values = [const { None }; 5];
        for (name, value) in parameters.drain(..) {
            for (_, place) in self.names.iter().zip(&mut values).filter(|(wanted, _)| wanted.as_bytes() == &*name) {
                let text = text(value.clone()).ok_or(VerifyError::Malformed("the form is not UTF-8"))?;
                if place.replace(text).is_some() {
                    return Err(VerifyError::Malformed("a form field is there twice"));
                }
            }
        }
        Ok(Generic::of_texts(values.map(|value| value.filter(|value| !value.is_empty())), self.major))
    }
}

fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

/// The format of the body where none is configured.
fn told(received: &Received) -> Format {
    if received.body.trim_ascii_start().starts_with(b"{") {
        return Format::Json;
    }
    let media = received.header("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    let form = media.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded");
    if form { Format::Form } else { Format::Json }
}

impl Provider for Hmac {
    type Message<'a> = Generic<'a>;

    fn verify<'a>(&self, received: &'a Received, _: u64) -> Result<Generic<'a>, VerifyError> {
        let header = received.header(self.header.as_str()).ok_or(VerifyError::Forged("no signature header"))?;
        let tag = header.strip_prefix(&self.prefix).and_then(|signature| match self.encoding {
            Encoding::Hex => tag_hex(signature),
            Encoding::Base64 => tag_base64(signature),
        });
        if !self.keys.signed(&[&received.body], tag.into_iter()) {
            return Err(VerifyError::Forged("no signature of the channel's secrets"));
        }
        if self.format.unwrap_or_else(|| told(received)) == Format::Form {
            return self.of_form(&received.body);
        }
        let found = json::pick(&received.body, &self.paths.each_ref().map(Vec::as_slice));
        let found = found.ok_or(VerifyError::Malformed("the message is no JSON object"))?;
        Ok(Generic::of_json(found, self.major))
    }

    fn normalise(&self, message: Generic<'_>, received: &Received, channel: &Channel) -> ProviderEvent {
        message.event(&received.body, channel)
    }
}

/// The fields of a generic message.
#[derive(Debug)]
pub struct Generic<'a> {
    id: Option<Cow<'a, str>>,
    out_trade_no: Option<Cow<'a, str>>,
    amount: Result<i64, &'static str>,
    currency: Result<Currency, &'static str>,
    kind: Option<Cow<'a, str>>,
    /// The time of the message, in milliseconds since 1970.
    pub occurred_ms: Option<u64>,
}

impl<'a> Generic<'a> {
    /// Reads id, order, amount, currency and kind.
    pub fn of_json([id, order, amount, currency, kind]: [Option<&'a RawValue>; 5], major: bool) -> Generic<'a> {
        let text = |raw| json::scalar(raw).filter(|text| !text.is_empty());
        let currency = normalise::currency(json::text(currency).as_deref());
        let amount = digits(currency, major).and_then(|digits| json::minor(amount, digits));
        Generic { id: text(id), out_trade_no: text(order), amount, currency, kind: text(kind), occurred_ms: None }
    }

    fn of_texts([id, order, amount, currency, kind]: [Option<Cow<'a, str>>; 5], major: bool) -> Generic<'a> {
        let currency = normalise::currency(currency.as_deref());
        let amount = digits(currency, major).and_then(|digits| normalise::minor(amount.as_deref(), digits));
        Generic { id, out_trade_no: order, amount, currency, kind, occurred_ms: None }
    }

    /// The meaning of the message.
    pub fn event(self, body: &[u8], channel: &Channel) -> ProviderEvent {
        let account = Cow::Borrowed(&*channel.name);
        let word = self.kind.as_deref().unwrap_or_default();
        let Some(kind) = normalise::kind(word) else {
            let key = normalise::note_key(self.id.as_deref(), word, body);
            let (number, out_trade_no) = (self.id, self.out_trade_no);
            return Note { account, key, number, out_trade_no, occurred_ms: self.occurred_ms }.event();
        };
        let of = normalise::name(self.out_trade_no.clone()).filter(|_| kind != Kind::Payment).map(Of::OutTradeNo);
        Money {
            kind,
            account,
            number: Some(self.id.unwrap_or_else(|| normalise::digest(body).into())),
            within: None,
            out_trade_no: self.out_trade_no,
            of,
            amount: self.amount.map(Amount::Exact),
            currency: self.currency.map(Some),
            occurred_ms: self.occurred_ms,
        }
        .event(body)
    }
}

/// Decimals that an amount may have. Without a currency it is unknown what a major unit is.
fn digits(currency: Result<Currency, &'static str>, major: bool) -> Result<u32, &'static str> {
    if major { currency.map(Currency::digits) } else { Ok(0) }
}
