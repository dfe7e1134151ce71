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
use crate::configured::{ConfigKey, FileError, FileKind, Names, Need, Shape, TextError, TextKind, Values};
use crate::event::{Amount, Kind, Of, ProviderEvent, Requested};
use crate::normalise::{self, Money, Note};
use crate::receive::Received;
use crate::verify::{Verifier, VerifyError};
use crate::{Dialect, Numbers, Provider};
use base::secret;
use base::units::Currency;

/// Its row.
pub const PROVIDER: Provider = Provider {
    name: "hmac",
    keys: &[
        SECRETS,
        HEADER,
        ALGORITHM,
        ENCODING,
        FORMAT,
        PREFIX,
        ID,
        ORDER,
        AMOUNT,
        AMOUNT_UNIT,
        CURRENCY,
        KIND,
        REFUND,
    ],
    either: None,
    prepare: |values, names| crate::verifier(Hmac::new(values, names)),
    dialect: Dialect::Plain,
    numbers: Numbers::OfAnAccount,
    names_owner: false,
    cumulative_refunds: false,
    digits: Currency::digits,
    outgoing: None,
};

/// The secrets, as the sender has them.
pub const SECRETS: ConfigKey = ConfigKey {
    name: "secret_files",
    about: "Files with the secrets that sign callbacks, as the sender has them.",
    shape: Shape::Files(FileKind::line(raw_secret)),
    need: Need::Required("secret_files = [\"secrets/{}\"]"),
};

/// The header with the signature.
pub const HEADER: ConfigKey = ConfigKey {
    name: "header",
    about: "The header with the signature.",
    shape: Shape::Text(TextKind::Any {
        what: "a header name",
        example: "\"x-tenant\"",
        read: |text| match http::HeaderName::from_bytes(text.as_bytes()) {
            Ok(name) => Ok(name.as_str().to_owned()),
            Err(_) => Err(TextError::Other),
        },
    }),
    need: Need::Required("header = \"x-signature\""),
};

/// The HMAC's hash.
pub const ALGORITHM: ConfigKey =
    one_of("algorithm", "The HMAC's hash.", "an algorithm", &["sha256"], Need::Default("sha256"));

/// How the signature is written.
pub const ENCODING: ConfigKey =
    one_of("encoding", "How the signature is written.", "an encoding", &["hex", "base64"], Need::Default("hex"));

/// What bodies are.
pub const FORMAT: ConfigKey = one_of(
    "format",
    "What bodies are: \"json\" or \"form\". Absent: JSON where the first byte that is not white space is \"{\", else what \
     the Content-Type says, which is not signed.",
    "a format",
    &["json", "form"],
    Need::Optional,
);

/// What stands before the signature.
pub const PREFIX: ConfigKey = ConfigKey {
    name: "prefix",
    about: "What stands before the signature in the header, such as \"sha256=\".",
    shape: Shape::Text(TextKind::Any {
        what: "a prefix of a signature",
        example: "\"sha256=\"",
        read: |text| match text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            true => Ok(text.to_owned()),
            false => Err(TextError::Own("`{}` holds a character that no header has", "such as \"sha256=\"")),
        },
    }),
    need: Need::Default(""),
};

/// Where the number is.
pub const ID: ConfigKey =
    field("id_field", "Where the number is: dotted paths in JSON (\"data.id\"), names in forms.", "id");
/// Where the order's number is.
pub const ORDER: ConfigKey = field("order_field", "Where the order's number is.", "out_trade_no");
/// Where the amount is.
pub const AMOUNT: ConfigKey = field("amount_field", "Where the amount is.", "amount_minor");
/// What the amount counts.
pub const AMOUNT_UNIT: ConfigKey = one_of(
    "amount_unit",
    "What the amount counts: minor units (cents) or major units.",
    "a unit of amounts",
    &["minor", "major"],
    Need::Default("minor"),
);
/// Where the currency is.
pub const CURRENCY: ConfigKey = field("currency_field", "Where the currency is.", "currency");
/// Where the kind is.
pub const KIND: ConfigKey = field("kind_field", "Where the kind is: payment, refund or chargeback.", "kind");

/// Where the number of a refund that was asked for is.
pub const REFUND: ConfigKey = field(
    "refund_field",
    "Where the merchant's number of a refund is, by which a requested refund ends.",
    "out_refund_no",
);

const fn one_of(
    name: &'static str,
    about: &'static str,
    what: &'static str,
    words: &'static [&'static str],
    need: Need,
) -> ConfigKey {
    ConfigKey { name, about, shape: Shape::Text(TextKind::OneOf { what, words }), need }
}

/// A key that names a value in a message: names joined by dots.
const fn field(name: &'static str, about: &'static str, default: &'static str) -> ConfigKey {
    let kind = TextKind::Any {
        what: "a field",
        example: "\"amount_minor\", or \"data.object.id\" for one inside of others",
        read: |text| match text.split('.').all(|name| !name.is_empty()) {
            true => Ok(text.to_owned()),
            false => Err(TextError::Other),
        },
    };
    ConfigKey { name, about, shape: Shape::Text(kind), need: Need::Default(default) }
}

fn raw_secret(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    match secret::line(bytes) {
        [] => Err(FileError::new("the secret is empty", "put the secret into the file, as the sender has it")),
        secret => Ok(secret.to_vec()),
    }
}

/// A generic sender's channel.
#[derive(Debug)]
pub struct Hmac {
    channel: String,
    keys: HmacKeys,
    header: String,
    is_base64: bool,
    /// Whether bodies are forms; `None`: detected from the body.
    is_form: Option<bool>,
    prefix: String,
    /// Names of id, order, amount, currency, kind and refund in a form.
    names: [String; FIELDS],
    /// The same names as paths in JSON.
    paths: [Vec<String>; FIELDS],
    major: bool,
}

impl Hmac {
    fn new(values: &Values, of: &Names<'_>) -> Hmac {
        let text = |key: &ConfigKey| values.text(key).unwrap_or_default().to_owned();
        let names = [&ID, &ORDER, &AMOUNT, &CURRENCY, &KIND, &REFUND].map(text);
        Hmac {
            channel: of.channel.to_owned(),
            keys: HmacKeys::new(values.files(&SECRETS)),
            header: text(&HEADER),
            is_base64: values.text(&ENCODING) == Some("base64"),
            is_form: values.text(&FORMAT).map(|format| format == "form"),
            prefix: text(&PREFIX),
            paths: names.each_ref().map(|name| name.split('.').map(str::to_owned).collect()),
            names,
            major: values.text(&AMOUNT_UNIT) == Some("major"),
        }
    }

    fn of_form<'a>(&self, body: &'a [u8]) -> Result<Generic<'a>, VerifyError> {
        let mut parameters = form::parse(body).ok_or(VerifyError::Malformed("the form has too many parameters"))?;
        let mut values = [const { None }; FIELDS];
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

/// Whether the body is a form, where no format is configured.
fn is_form(received: &Received) -> bool {
    if received.body.trim_ascii_start().starts_with(b"{") {
        return false;
    }
    let media = received.header("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    media.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

impl Verifier for Hmac {
    type Message<'a> = Generic<'a>;

    fn verify<'a>(&self, received: &'a Received, _: u64) -> Result<Generic<'a>, VerifyError> {
        let header = received.header(&self.header).ok_or(VerifyError::Forged("no signature header"))?;
        let decode = if self.is_base64 { tag_base64 } else { tag_hex };
        let tag = header.strip_prefix(&self.prefix).and_then(decode);
        if !self.keys.signed(&[&received.body], tag.into_iter()) {
            return Err(VerifyError::Forged("no signature of the channel's secrets"));
        }
        if self.is_form.unwrap_or_else(|| is_form(received)) {
            return self.of_form(&received.body);
        }
        let found = json::pick(&received.body, &self.paths.each_ref().map(Vec::as_slice));
        let found = found.ok_or(VerifyError::Malformed("the message is no JSON object"))?;
        Ok(Generic::of_json(found, self.major))
    }

    fn normalise(&self, message: Generic<'_>, received: &Received) -> ProviderEvent {
        message.event(&received.body, &self.channel)
    }

    fn sent<'a>(&self, _: &'a Received) -> Option<&'a str> {
        None
    }
}

/// The number of fields that are read of a generic message.
pub const FIELDS: usize = 6;

/// The fields of a generic message.
#[derive(Debug)]
pub struct Generic<'a> {
    id: Option<Cow<'a, str>>,
    out_trade_no: Option<Cow<'a, str>>,
    amount: Result<i64, &'static str>,
    currency: Result<Currency, &'static str>,
    kind: Option<Cow<'a, str>>,
    out_refund_no: Option<Cow<'a, str>>,
    /// The time of the message, in milliseconds since 1970.
    pub occurred_ms: Option<u64>,
}

impl<'a> Generic<'a> {
    /// Reads id, order, amount, currency, kind and refund.
    pub fn of_json(fields: [Option<&'a RawValue>; FIELDS], major: bool) -> Generic<'a> {
        let [id, order, amount, currency, kind, refund] = fields;
        let text = |raw| json::scalar(raw).filter(|text| !text.is_empty());
        let currency = normalise::currency(json::text(currency).as_deref());
        let amount = digits(currency, major).and_then(|digits| json::minor(amount, digits));
        let [id, out_trade_no, kind, out_refund_no] = [id, order, kind, refund].map(text);
        Generic { id, out_trade_no, amount, currency, kind, out_refund_no, occurred_ms: None }
    }

    fn of_texts(fields: [Option<Cow<'a, str>>; FIELDS], major: bool) -> Generic<'a> {
        let [id, out_trade_no, amount, currency, kind, out_refund_no] = fields;
        let currency = normalise::currency(currency.as_deref());
        let amount = digits(currency, major).and_then(|digits| normalise::minor(amount.as_deref(), digits));
        Generic { id, out_trade_no, amount, currency, kind, out_refund_no, occurred_ms: None }
    }

    /// The meaning of the message.
    pub fn event(self, body: &[u8], channel: &str) -> ProviderEvent {
        let account = Cow::Borrowed(channel);
        let word = self.kind.as_deref().unwrap_or_default();
        let Some(kind) = normalise::kind(word) else {
            let key = normalise::note_key(self.id.as_deref(), word, body);
            let (number, out_trade_no) = (self.id, self.out_trade_no);
            return Note { account, key, number, out_trade_no, occurred_ms: self.occurred_ms }.event();
        };
        let of = normalise::name(self.out_trade_no.clone()).filter(|_| kind != Kind::Payment).map(Of::OutTradeNo);
        let request = normalise::name(self.out_refund_no).filter(|_| kind == Kind::Refund).map(Requested::OutRefundNo);
        let event = Money {
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
        .event(body);
        ProviderEvent { request, ..event }
    }
}

/// Decimals that an amount may have. Without a currency it is unknown what a major unit is.
fn digits(currency: Result<Currency, &'static str>, major: bool) -> Result<u32, &'static str> {
    if major { currency.map(Currency::digits) } else { Ok(0) }
}
