//! Alipay's asynchronous notification: a form, signed by RSA2 (SHA-256 with RSA) over its decoded parameters.
//!
//! The signed bytes are in the charset in which they came; they are decoded once and never transcoded. Some services
//! sign `sign_type` and others do not: both forms are tried, the usual one first. RSA (SHA-1) is refused. There is no
//! window: a replay is a duplicate. A refund is reported at the payment's address, with all refunds so far as its
//! amount, whatever the status. A notification without `app_id` is not ours; one without `seller_id` may be.
//!
//! The signed text joins decoded values by `&` without escaping them, so it can be cut in more than one way. Two
//! parameters that were merged into one, in a value or in a name, are refused. The reverse cannot be detected: where a
//! value that a payer chooses (`passback_params`, `subject`, `body`) holds `&refund_fee=…`, anyone with the signed
//! notification can send it as a separate parameter. So such a value must not hold `&`.

mod api;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use encoding_rs::{Encoding, UTF_8};

use super::form::{self, Parameter};
use super::keyed::{RsaVerifier, rsa};
use super::rsa::FILE;
use crate::api::{API_URL, NOTIFY_URL};
use crate::configured::{ACCOUNT, ConfigKey, Need, Shape, Values};
use crate::event::{Amount, Effect, Kind, Of, ProviderEvent, Requested};
use crate::normalise::{self, Money, Note};
use crate::receive::Received;
use crate::verify::{Verifier, VerifyError};
use crate::{Dialect, Numbers, Provider};
use base::units::Currency;

/// Its row.
pub const PROVIDER: Provider = Provider {
    name: "alipay",
    keys: &[APP_ID, SELLER_ID, PUBLIC_KEYS, API_URL, api::PRIVATE_KEY, NOTIFY_URL],
    either: None,
    prepare: |values, _| crate::verifier(Alipay::new(values)),
    dialect: Dialect::Words("success", "failure"),
    numbers: Numbers::OfAnAccount,
    names_owner: true,
    cumulative_refunds: true,
    digits: Currency::digits,
    outgoing: Some(api::OUTGOING),
};

/// Our app.
pub const APP_ID: ConfigKey = ConfigKey {
    name: "app_id",
    about: "Our app_id. A payment of another app is never booked.",
    shape: Shape::Text(ACCOUNT),
    need: Need::Required("app_id = \"2021000000000000\""),
};

/// Our seller.
pub const SELLER_ID: ConfigKey = ConfigKey {
    name: "seller_id",
    about: "Our seller_id.",
    shape: Shape::Text(ACCOUNT),
    need: Need::Required("seller_id = \"2088000000000000\""),
};

/// Alipay's keys.
pub const PUBLIC_KEYS: ConfigKey = ConfigKey {
    name: "public_key_files",
    about: "Files with its public keys (PEM, a certificate or bare base64).",
    shape: Shape::Files(FILE),
    need: Need::Required("public_key_files = [\"secrets/{}\"]"),
};

/// The Alipay provider of one channel.
#[derive(Debug)]
pub struct Alipay {
    app_id: String,
    seller_id: String,
    keys: Vec<RsaVerifier>,
}

impl Alipay {
    fn new(values: &Values) -> Alipay {
        Alipay {
            app_id: values.text(&APP_ID).unwrap_or_default().to_owned(),
            seller_id: values.text(&SELLER_ID).unwrap_or_default().to_owned(),
            keys: values.files(&PUBLIC_KEYS).iter().map(rsa).collect(),
        }
    }

    fn is_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        self.keys.iter().any(|key| key.verify(text, signature).is_ok())
    }

    /// The field by which the message is not ours, if any.
    fn foreign(&self, message: &AlipayMessage<'_>) -> Option<&'static str> {
        if message.get("app_id").as_deref() != Some(&*self.app_id) {
            return Some("app_id");
        }
        message.get("seller_id").filter(|seller| **seller != *self.seller_id).map(|_| "seller_id")
    }
}

impl Verifier for Alipay {
    type Message<'a> = AlipayMessage<'a>;

    fn verify<'a>(&self, received: &'a Received, _: u64) -> Result<AlipayMessage<'a>, VerifyError> {
        let message = AlipayMessage::read(&received.body)?;
        let signature = message.bytes("sign").and_then(|sign| STANDARD.decode(sign).ok());
        let signature = signature.ok_or(VerifyError::Forged("no sign in base64"))?;
        let sign_type = message.bytes("sign_type");
        if sign_type.is_some_and(|kind| kind != b"RSA2") {
            return Err(VerifyError::Forged("sign_type is not RSA2"));
        }
        let is_signed = self.is_signed(&message.signed_text(false), &signature)
            || sign_type.is_some() && self.is_signed(&message.signed_text(true), &signature);
        if is_signed { Ok(message) } else { Err(VerifyError::Forged("no signature of Alipay's keys")) }
    }

    fn normalise(&self, message: AlipayMessage<'_>, received: &Received) -> ProviderEvent {
        let event = message.event(&received.body);
        match self.foreign(&message) {
            Some(field) => ProviderEvent { effect: Effect::Foreign(field), ..event },
            None => event,
        }
    }

    fn sent<'a>(&self, _: &'a Received) -> Option<&'a str> {
        None
    }
}

/// Parameters that carry a notification's meaning.
const SAID: [&str; 12] = [
    "app_id",
    "charset",
    "gmt_payment",
    "gmt_refund",
    "notify_id",
    "out_biz_no",
    "out_trade_no",
    "refund_fee",
    "seller_id",
    "total_amount",
    "trade_no",
    "trade_status",
];

/// Whether this value, written into the signed text as it is, would be read there as another parameter. Then two
/// parameters may have been merged into one.
fn holds_another(value: &[u8]) -> bool {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| *byte == b'&') {
        rest = &rest[at + 1..];
        let name = &rest[..rest.iter().position(|byte| *byte == b'=').unwrap_or(0)];
        if SAID.iter().any(|said| said.as_bytes() == name) {
            return true;
        }
    }
    false
}

/// A notification's parameters, by name.
#[derive(Debug)]
pub struct AlipayMessage<'a> {
    parameters: Vec<Parameter<'a>>,
    charset: &'static Encoding,
}

impl<'a> AlipayMessage<'a> {
    /// Reads a form in which no name occurs twice.
    pub fn read(body: &'a [u8]) -> Result<AlipayMessage<'a>, VerifyError> {
        let mut parameters = form::parse(body).ok_or(VerifyError::Malformed("the form has too many parameters"))?;
        parameters.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        if parameters.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(VerifyError::Malformed("a parameter is there twice"));
        }
        let is_name = |name: &[u8]| !name.iter().any(|byte| matches!(byte, b'&' | b'='));
        if !parameters.iter().all(|(name, _)| is_name(name)) {
            return Err(VerifyError::Malformed("a parameter's name holds another parameter"));
        }
        if parameters.iter().any(|(_, value)| holds_another(value)) {
            return Err(VerifyError::Malformed("a value holds another parameter"));
        }
        let mut message = AlipayMessage { parameters, charset: UTF_8 };
        if let Some(charset) = message.bytes("charset").filter(|charset| !charset.is_empty()) {
            message.charset = Encoding::for_label(charset).ok_or(VerifyError::Malformed("the charset is unknown"))?;
        }
        Ok(message)
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        let at = self.parameters.binary_search_by(|(key, _)| (**key).cmp(name.as_bytes())).ok()?;
        Some(&self.parameters[at].1)
    }

    /// A value that is present, not empty, and text in the charset.
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let bytes = self.bytes(name).filter(|bytes| !bytes.is_empty())?;
        self.charset.decode_without_bom_handling_and_without_replacement(bytes)
    }

    fn signed_text(&self, with_type: bool) -> Vec<u8> {
        let length = self.parameters.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        let mut text = Vec::with_capacity(length);
        for (name, value) in &self.parameters {
            if **name == *b"sign" || !with_type && **name == *b"sign_type" {
                continue;
            }
            if !text.is_empty() {
                text.push(b'&');
            }
            text.extend_from_slice(name);
            text.push(b'=');
            text.extend_from_slice(value);
        }
        text
    }

    /// The meaning, provided that the message is ours.
    fn event(&self, body: &[u8]) -> ProviderEvent {
        let status = self.get("trade_status").unwrap_or_default();
        let refunded = self.bytes("refund_fee").filter(|fee| !fee.is_empty());
        let refunded = refunded.map(|_| yuan(self.get("refund_fee").as_deref()));
        match (refunded, &*status) {
            (Some(Err(reason)), _) => self.refund(Err(reason), body),
            (Some(Ok(fee @ 1..)), _) => self.refund(Ok(fee), body),
            (_, "TRADE_SUCCESS" | "TRADE_FINISHED") => self.payment(body),
            (_, "TRADE_CLOSED") => ProviderEvent { effect: Effect::Close, ..self.note(&status, body) },
            _ => self.note(&status, body),
        }
    }

    fn payment(&self, body: &[u8]) -> ProviderEvent {
        Money {
            kind: Kind::Payment,
            account: self.account(),
            number: self.get("trade_no"),
            within: None,
            out_trade_no: self.get("out_trade_no"),
            of: None,
            amount: yuan(self.get("total_amount").as_deref()).map(Amount::Exact),
            currency: Ok(Some(Currency::CNY)),
            occurred_ms: self.time("gmt_payment"),
        }
        .event(body)
    }

    fn refund(&self, fee: Result<i64, &'static str>, body: &[u8]) -> ProviderEvent {
        let trade_no = self.get("trade_no");
        let event = Money {
            kind: Kind::Refund,
            account: self.account(),
            number: self.get("out_biz_no").or_else(|| self.get("gmt_refund")),
            // The merchant chooses a refund's number, so another payment may have the same.
            within: Some(trade_no.as_deref().unwrap_or_default()),
            out_trade_no: self.get("out_trade_no"),
            of: normalise::name(trade_no.clone()).map(Of::Number),
            amount: fee.map(Amount::Cumulative),
            currency: Ok(Some(Currency::CNY)),
            occurred_ms: self.time("gmt_refund"),
        }
        .event(body);
        ProviderEvent { request: normalise::name(self.get("out_biz_no")).map(Requested::OutRefundNo), ..event }
    }

    fn note(&self, status: &str, body: &[u8]) -> ProviderEvent {
        let number = self.get("trade_no");
        let key = normalise::note_key(number.as_deref().or(self.get("notify_id").as_deref()), status, body);
        let (account, out_trade_no) = (self.account(), self.get("out_trade_no"));
        Note { account, key, number, out_trade_no, occurred_ms: self.time("notify_time") }.event()
    }

    fn account(&self) -> Cow<'_, str> {
        self.get("app_id").unwrap_or_default()
    }

    fn time(&self, name: &str) -> Option<u64> {
        normalise::china(self.get(name).as_deref()).or_else(|| normalise::china(self.get("notify_time").as_deref()))
    }
}

fn yuan(text: Option<&str>) -> Result<i64, &'static str> {
    normalise::minor(text, Currency::CNY.digits())
}

/// Reads an unsigned body; for tests that it never panics.
#[cfg(test)]
pub fn mean(body: &[u8]) {
    let _ = AlipayMessage::read(body).map(|message| message.event(body));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: &str) -> ProviderEvent {
        AlipayMessage::read(body.as_bytes()).unwrap().event(body.as_bytes())
    }

    #[test]
    fn the_signed_text_is_sorted_decoded_once_and_keeps_empty_values() {
        let body = b"b=%2525&sign=x&a+b=1%2B1&charset=gbk&B=%D6%D0&sign_type=RSA2&c=";
        let message = AlipayMessage::read(body).unwrap();
        assert_eq!(message.signed_text(false), b"B=\xd6\xd0&a b=1+1&b=%25&c=&charset=gbk");
        assert_eq!(message.signed_text(true), b"B=\xd6\xd0&a b=1+1&b=%25&c=&charset=gbk&sign_type=RSA2");
        assert_eq!(message.get("B").as_deref(), Some("中"));
        assert!(matches!(AlipayMessage::read(b"a=1&%61=2"), Err(VerifyError::Malformed(_))));
        assert!(matches!(AlipayMessage::read(b"charset=klingon"), Err(VerifyError::Malformed(_))));
        assert_eq!(AlipayMessage::read(b"a=%D6%D0").unwrap().get("a"), None);
    }

    #[test]
    fn two_parameters_put_into_one_are_refused() {
        let read = |body: &str| AlipayMessage::read(body.as_bytes()).map(|message| message.signed_text(false));
        let genuine = "passback_params=x&refund_fee=5.00&trade_status=TRADE_SUCCESS";
        assert_eq!(read(genuine).unwrap(), genuine.as_bytes());
        // Merged into a name: a parameter that sorts before it may be hidden in it.
        for merged in ["passback_params=x&refund_fee%3D5.00%26t=1", "a%3D1%26refund_fee=5.00", "a%26b=1", "a%3D=1"] {
            assert!(matches!(read(merged), Err(VerifyError::Malformed(_))), "{merged}");
        }
        let merged = "passback_params=x%26refund_fee%3D5.00&trade_status=TRADE_SUCCESS";
        assert!(matches!(read(merged), Err(VerifyError::Malformed(_))));
        for fine in ["subject=a%26b%3Dc", "subject=refund_fee%3D5", "subject=%26", "subject=%26refund_fee"] {
            assert!(read(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_notification_means_what_its_status_and_its_refund_fee_say() {
        let paid =
            "app_id=1&trade_no=T1&out_trade_no=O1&total_amount=88.88&gmt_payment=2018-06-08+10:34:56&trade_status=";
        for status in ["TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_SUCCESS&refund_fee=0.00", "TRADE_SUCCESS&refund_fee="]
        {
            let event = event(&format!("{paid}{status}"));
            assert_eq!((event.kind, &event.effect, &*event.key), (Kind::Payment, &Effect::Book, "T1"));
            assert_eq!((event.amount, event.currency), (Some(Amount::Exact(8888)), Some(Currency::CNY)));
            assert_eq!((event.account.as_str(), event.occurred_ms), ("1", Some(1_528_425_296_000)));
        }
        for status in ["TRADE_SUCCESS", "TRADE_CLOSED", "TRADE_FINISHED"] {
            let event =
                event(&format!("{paid}{status}&refund_fee=10.5&gmt_refund=2018-06-09+10:34:56.320&out_biz_no=R1"));
            assert_eq!((event.kind, &event.effect, &*event.key), (Kind::Refund, &Effect::Book, "T1/R1"));
            assert_eq!((event.number.as_deref(), event.of), (Some("R1"), Some(Of::Number("T1".into()))));
            assert_eq!((event.amount, event.occurred_ms), (Some(Amount::Cumulative(1050)), Some(1_528_511_696_320)));
        }
        let unnumbered = event(&format!("{paid}TRADE_SUCCESS&refund_fee=1&gmt_refund=2018-06-09+10:34:56"));
        assert_eq!(unnumbered.number.as_deref(), Some("2018-06-09 10:34:56"));
        let closed = event("app_id=1&trade_no=T1&out_trade_no=O1&trade_status=TRADE_CLOSED");
        assert_eq!((closed.kind, closed.effect, &*closed.key), (Kind::Other, Effect::Close, "T1:TRADE_CLOSED"));
        let waiting = event("app_id=1&trade_no=T1&trade_status=WAIT_BUYER_PAY");
        assert_eq!((waiting.effect, &*waiting.key), (Effect::Note, "T1:WAIT_BUYER_PAY"));
    }

    #[test]
    fn an_amount_that_is_not_exact_is_unreadable() {
        for (fields, kind) in [
            ("trade_status=TRADE_SUCCESS&total_amount=1.001", Kind::Payment),
            ("trade_status=TRADE_SUCCESS", Kind::Payment),
            ("trade_status=TRADE_SUCCESS&total_amount=-1", Kind::Payment),
            ("trade_status=TRADE_SUCCESS&total_amount=1&refund_fee=x&out_biz_no=R1", Kind::Refund),
            ("trade_status=TRADE_CLOSED&refund_fee=%FF&out_biz_no=R1", Kind::Refund),
            ("trade_status=TRADE_CLOSED&refund_fee=1", Kind::Refund),
        ] {
            let event = event(&format!("app_id=1&trade_no=T1&{fields}"));
            assert!(matches!(event.effect, Effect::Unreadable(_)), "{fields}: {event:?}");
            assert_eq!(event.kind, kind);
        }
    }
}
