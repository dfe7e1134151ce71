//! WeChat Pay v3: JSON signed by SHA-256 with RSA over `time\nnonce\nbody\n`, with its resource under AES-256-GCM.
//!
//! `Wechatpay-Serial` names the key, in either case: the serial of a platform certificate or the id of a public key;
//! both occur while an account changes over. A message must be less than 300 s away on either side. Signatures that
//! begin with `WECHATPAY/SIGNTEST/` are WeChat Pay's own probes. A message without an mchid is ours, since our key
//! decrypted it.

mod api;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::json::{self, pick};
use super::keyed::{RsaVerifier, rsa, seconds, window};
use super::rsa::FILE;
use crate::api::{API_URL, NOTIFY_URL};
use crate::configured::{ACCOUNT, ConfigKey, FileError, FileKind, Need, Shape, Values};
use crate::event::{Amount, Effect, Kind, Of, ProviderEvent, Requested};
use crate::normalise::{self, Money, Note};
use crate::receive::Received;
use crate::verify::{Verifier, VerifyError};
use crate::{Dialect, Numbers, Provider};
use base::secret;
use base::units::Currency;

const WINDOW_MS: i64 = 300_000;
const PROBE: &str = "WECHATPAY/SIGNTEST/";
const SIGNATURE_TYPE: &str = "WECHATPAY2-SHA256-RSA2048";

/// Its row.
pub const PROVIDER: Provider = Provider {
    name: "wechatpay",
    keys: &[MCHID, API_V3_KEY, PLATFORM_KEYS, API_URL, api::PRIVATE_KEY, NOTIFY_URL, api::SERIAL, api::APP_ID],
    either: None,
    prepare: |values, _| crate::verifier(WechatPay::new(values)),
    dialect: Dialect::CodeAndMessage("SUCCESS", "FAIL"),
    numbers: Numbers::OfAnAccount,
    names_owner: true,
    cumulative_refunds: false,
    digits: Currency::digits,
    outgoing: Some(api::OUTGOING),
};

/// Our merchant number.
pub const MCHID: ConfigKey = ConfigKey {
    name: "mchid",
    about: "Our mchid.",
    shape: Shape::Text(ACCOUNT),
    need: Need::Required("mchid = \"1900000000\""),
};

/// The key that encrypts resources.
pub const API_V3_KEY: ConfigKey = ConfigKey {
    name: "api_v3_key_file",
    about: "File with the APIv3 key, 32 bytes.",
    shape: Shape::File(FileKind::line(api_v3_key)),
    need: Need::Required("api_v3_key_file = \"secrets/wechatpay.apiv3\""),
};

/// The keys that sign callbacks.
pub const PLATFORM_KEYS: ConfigKey = ConfigKey {
    name: "platform_keys",
    about: "The platform's certificates by serial, or its public keys by id.",
    shape: Shape::Serials(FILE),
    need: Need::Required(
        "platform_keys = [{ serial = \"5157F09EFDC096DE15EBE81A47057A72\", file = \"secrets/wechatpay.pem\" }]",
    ),
};

fn api_v3_key(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    match secret::line(bytes) {
        key if key.len() == 32 => Ok(key.to_vec()),
        key => {
            let message = format!("the APIv3 key has {} bytes, not 32", key.len());
            Err(FileError::new(message, "the 32 characters that were set in the merchant platform"))
        }
    }
}

/// A WeChat Pay channel.
#[derive(Debug)]
pub struct WechatPay {
    mchid: String,
    /// `None` decrypts nothing; the configuration has checked the key's length.
    key: Option<LessSafeKey>,
    platform_keys: Vec<(String, RsaVerifier)>,
}

impl WechatPay {
    fn new(values: &Values) -> WechatPay {
        let key = values.files(&API_V3_KEY).first().and_then(|key| UnboundKey::new(&AES_256_GCM, &key.0).ok());
        let platform_keys = values.serials(&PLATFORM_KEYS).iter();
        WechatPay {
            mchid: values.text(&MCHID).unwrap_or_default().to_owned(),
            key: key.map(LessSafeKey::new),
            platform_keys: platform_keys.map(|(serial, key)| (serial.clone(), rsa(key))).collect(),
        }
    }

    /// Checks the signature; returns the message's time in milliseconds.
    fn sender(&self, received: &Received) -> Result<i64, VerifyError> {
        let header = |name| received.header(name).ok_or(VerifyError::Forged("a Wechatpay header is missing"));
        let signature = header("wechatpay-signature")?;
        if signature.starts_with(PROBE) {
            return Err(VerifyError::Probe);
        }
        let (time, nonce, serial) =
            (header("wechatpay-timestamp")?, header("wechatpay-nonce")?, header("wechatpay-serial")?);
        let has_type = received.headers.contains_key("wechatpay-signature-type");
        if has_type && received.header("wechatpay-signature-type") != Some(SIGNATURE_TYPE) {
            return Err(VerifyError::Forged("another Wechatpay-Signature-Type than WECHATPAY2-SHA256-RSA2048"));
        }
        let at_ms = seconds(time).ok_or(VerifyError::Forged("Wechatpay-Timestamp is no time"))?;
        let mut keys = self.platform_keys.iter().filter(|(known, _)| known.eq_ignore_ascii_case(serial)).peekable();
        keys.peek().ok_or(VerifyError::Forged("an unknown Wechatpay-Serial"))?;
        let signature =
            STANDARD.decode(signature).map_err(|_| VerifyError::Forged("Wechatpay-Signature is not in base64"))?;
        let text = [time.as_bytes(), b"\n", nonce.as_bytes(), b"\n", &received.body, b"\n"].concat();
        if keys.any(|(_, key)| key.verify(&text, &signature).is_ok()) {
            Ok(at_ms)
        } else {
            Err(VerifyError::Forged("no signature of the platform key"))
        }
    }
}

impl Verifier for WechatPay {
    type Message<'a> = WechatPayMessage<'a>;

    fn verify<'a>(&self, received: &'a Received, now_ms: u64) -> Result<WechatPayMessage<'a>, VerifyError> {
        let at_ms = self.sender(received)?;
        window(at_ms, now_ms, |skew_ms| skew_ms.abs() < WINDOW_MS)?;
        let found =
            pick(&received.body, &ENVELOPE).ok_or(VerifyError::Malformed("the notification is no JSON object"))?;
        let text = |at: usize| json::text(found[at]);
        let key = self.key.as_ref().filter(|_| text(3).is_none_or(|algorithm| algorithm == "AEAD_AES_256_GCM"));
        let resource = key.zip(text(4)).zip(text(5)).and_then(|((key, ciphertext), nonce)| {
            decrypt(key, &ciphertext, &nonce, text(6).as_deref().unwrap_or_default())
        });
        let resource = resource
            .ok_or(VerifyError::Forged("the resource cannot be decrypted: is this channel's api_v3_key right?"))?;
        let resource = Resource::read(&resource).ok_or(VerifyError::Malformed("the resource is no JSON object"))?;
        Ok(WechatPayMessage { id: text(0), event_type: text(1), create_time: text(2), resource })
    }

    fn normalise(&self, message: WechatPayMessage<'_>, received: &Received) -> ProviderEvent {
        message.event(&received.body, &self.mchid)
    }

    fn sent<'a>(&self, received: &'a Received) -> Option<&'a str> {
        received.header("wechatpay-timestamp")
    }
}

const ENVELOPE: [&[&str]; 7] = [
    &["id"],
    &["event_type"],
    &["create_time"],
    &["resource", "algorithm"],
    &["resource", "ciphertext"],
    &["resource", "nonce"],
    &["resource", "associated_data"],
];

fn decrypt(key: &LessSafeKey, ciphertext: &str, nonce: &str, associated_data: &str) -> Option<Vec<u8>> {
    let mut text = STANDARD.decode(ciphertext).ok()?;
    let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).ok()?;
    let length = key.open_in_place(nonce, Aad::from(associated_data.as_bytes()), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}

/// A notification, decrypted.
#[derive(Debug)]
pub struct WechatPayMessage<'a> {
    id: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    create_time: Option<Cow<'a, str>>,
    resource: Resource,
}

/// The fields of a resource that are needed.
#[derive(Debug)]
struct Resource {
    mchid: Option<String>,
    transaction_id: Option<String>,
    out_trade_no: Option<String>,
    state: Option<String>,
    success_time: Option<String>,
    refund_id: Option<String>,
    refund_status: Option<String>,
    out_refund_no: Option<String>,
    currency: Option<String>,
    total: Result<i64, &'static str>,
    refund: Result<i64, &'static str>,
}

const RESOURCE: [&[&str]; 12] = [
    &["mchid"],
    &["sp_mchid"],
    &["transaction_id"],
    &["out_trade_no"],
    &["trade_state"],
    &["success_time"],
    &["refund_id"],
    &["refund_status"],
    &["amount", "currency"],
    &["amount", "total"],
    &["amount", "refund"],
    &["out_refund_no"],
];

impl Resource {
    fn read(text: &[u8]) -> Option<Resource> {
        let found = pick(text, &RESOURCE)?;
        let text = |at: usize| json::scalar(found[at]).filter(|text| !text.is_empty()).map(Cow::into_owned);
        Some(Resource {
            mchid: text(0).or_else(|| text(1)),
            transaction_id: text(2),
            out_trade_no: text(3),
            state: text(4),
            success_time: text(5),
            refund_id: text(6),
            refund_status: text(7),
            out_refund_no: text(11),
            currency: text(8),
            total: json::minor(found[9], 0),
            refund: json::minor(found[10], 0),
        })
    }

    /// The payment of a refund.
    fn payment(&self) -> Option<Of> {
        let name = |text: &Option<String>| normalise::name(text.as_deref().map(Cow::Borrowed));
        let number = name(&self.transaction_id).map(Of::Number);
        number.or_else(|| name(&self.out_trade_no).map(Of::OutTradeNo))
    }

    fn request(&self) -> Option<Requested> {
        normalise::name(self.out_refund_no.as_deref().map(Cow::Borrowed)).map(Requested::OutRefundNo)
    }
}

impl WechatPayMessage<'_> {
    /// The meaning of the message for the merchant number `ours`.
    fn event(self, body: &[u8], ours: &str) -> ProviderEvent {
        let account = self.resource.mchid.clone().unwrap_or_else(|| ours.to_owned());
        let is_foreign = account != ours;
        let is = |state: &Option<String>| state.as_deref().is_none_or(|state| state == "SUCCESS");
        let event = match self.event_type.as_deref() {
            Some("TRANSACTION.SUCCESS") if is(&self.resource.state) => self.payment(account, body),
            Some("REFUND.SUCCESS") if is(&self.resource.refund_status) => self.refund(account, body),
            Some("REFUND.ABNORMAL" | "REFUND.CLOSED") => self.failed_refund(account, body),
            _ => self.note(account, body),
        };
        if is_foreign { ProviderEvent { effect: Effect::Foreign("mchid"), ..event } } else { event }
    }

    fn occurred_ms(&self) -> Option<u64> {
        let time = normalise::rfc3339(self.resource.success_time.as_deref());
        time.or_else(|| normalise::rfc3339(self.create_time.as_deref()))
    }

    fn payment(self, account: String, body: &[u8]) -> ProviderEvent {
        let occurred_ms = self.occurred_ms();
        let resource = self.resource;
        Money {
            kind: Kind::Payment,
            account: account.into(),
            number: resource.transaction_id.map(Cow::Owned),
            within: None,
            out_trade_no: resource.out_trade_no.map(Cow::Owned),
            of: None,
            amount: resource.total.map(Amount::Exact),
            currency: normalise::currency(Some(resource.currency.as_deref().unwrap_or(Currency::CNY.code()))).map(Some),
            occurred_ms,
        }
        .event(body)
    }

    fn refund(self, account: String, body: &[u8]) -> ProviderEvent {
        let (occurred_ms, request) = (self.occurred_ms(), self.resource.request());
        let resource = self.resource;
        let of = resource.payment();
        let currency = resource.currency.as_deref();
        let event = Money {
            kind: Kind::Refund,
            account: account.into(),
            number: resource.refund_id.map(Cow::Owned),
            within: None,
            out_trade_no: resource.out_trade_no.map(Cow::Owned),
            of,
            amount: resource.refund.map(Amount::Exact),
            currency: currency.map(|code| normalise::currency(Some(code))).transpose(),
            occurred_ms,
        }
        .event(body);
        ProviderEvent { request, ..event }
    }

    fn failed_refund(self, account: String, body: &[u8]) -> ProviderEvent {
        let (request, of) = (self.resource.request(), self.resource.payment());
        let effect = if request.is_some() { Effect::Fail } else { Effect::Note };
        ProviderEvent { effect, request, of, ..self.note(account, body) }
    }

    fn note(self, account: String, body: &[u8]) -> ProviderEvent {
        let occurred_ms = self.occurred_ms();
        let resource = self.resource;
        let number = resource.refund_id.or(resource.transaction_id);
        let state = resource.state.or(resource.refund_status).unwrap_or_default();
        let about = [self.event_type.as_deref().unwrap_or_default(), &state].join(":");
        let key = match &number {
            Some(_) => normalise::note_key(number.as_deref(), about.trim_matches(':'), body),
            None => normalise::note_key(self.id.as_deref(), "", body),
        };
        let (number, out_trade_no) = (number.map(Cow::Owned), resource.out_trade_no.map(Cow::Owned));
        Note { account: account.into(), key, number, out_trade_no, occurred_ms }.event()
    }
}

#[cfg(test)]
mod tests {
    use ring::aead::AES_128_GCM;

    use super::*;

    fn event(event_type: &str, resource: &str) -> ProviderEvent {
        let resource = Resource::read(resource.as_bytes()).unwrap();
        let time = Some("2018-06-08T10:34:56+08:00".into());
        let message = WechatPayMessage {
            id: Some("N1".into()),
            event_type: Some(event_type.into()),
            create_time: time,
            resource,
        };
        message.event(b"body", "1900000001")
    }

    /// The vector of WeChat Pay's own library for Go, which has a key of 128 bits.
    #[test]
    fn a_resource_is_decrypted_as_wechat_pays_own_library_does() {
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, b"testAPIv3Key0000").unwrap());
        let text = "FsdXzxryWfKwvLJKf8LG/ToRPTRh8RN9wROC";
        let (nonce, data) = ("wCq51qZv4Yfg", "Dl56FrqWQJF1t9LtC3vEUsniZKvbqdR8");
        assert_eq!(decrypt(&key, text, nonce, data).as_deref(), Some(&b"Hello World"[..]));
        for (text, nonce, data) in [(text, nonce, ""), (text, "", data), ("", nonce, data), ("AAAA", nonce, data)] {
            assert_eq!(decrypt(&key, text, nonce, data), None);
        }
    }

    #[test]
    fn a_payment_and_its_refund_are_read() {
        let paid = r#""mchid":"1900000001","transaction_id":"4200","out_trade_no":"O1","success_time":"2018-06-08T10:34:56+08:00""#;
        let event_of = |kind, rest: &str| event(kind, &format!("{{{paid},{rest}}}"));
        let payment =
            event_of("TRANSACTION.SUCCESS", r#""trade_state":"SUCCESS","amount":{"total":8888,"currency":"HKD"}"#);
        assert_eq!((payment.kind, &payment.effect, &*payment.key), (Kind::Payment, &Effect::Book, "4200"));
        assert_eq!((payment.amount, payment.currency), (Some(Amount::Exact(8888)), Currency::parse("HKD")));
        assert_eq!((payment.occurred_ms, &*payment.account), (Some(1_528_425_296_000), "1900000001"));
        let payment = event_of("TRANSACTION.SUCCESS", r#""amount":{"total":"12"}"#);
        assert_eq!((payment.effect, payment.currency), (Effect::Book, Some(Currency::CNY)));
        let refund =
            event_of("REFUND.SUCCESS", r#""refund_id":"50","refund_status":"SUCCESS","amount":{"total":9,"refund":8}"#);
        assert_eq!((refund.kind, &refund.effect, &*refund.key), (Kind::Refund, &Effect::Book, "50"));
        assert_eq!((refund.amount, refund.currency), (Some(Amount::Exact(8)), None));
        assert_eq!((refund.of, refund.out_trade_no.as_deref()), (Some(Of::Number("4200".into())), Some("O1")));
    }

    #[test]
    fn a_refund_names_the_request_that_it_ends_and_one_that_failed_says_so() {
        let number = r#""mchid":"1900000001","transaction_id":"42","refund_id":"50","out_refund_no":"R1""#;
        let named = Some(Requested::OutRefundNo("R1".into()));
        let done = event("REFUND.SUCCESS", &format!(r#"{{{number},"amount":{{"refund":8}}}}"#));
        assert_eq!((done.effect, done.request), (Effect::Book, named.clone()));
        for kind in ["REFUND.ABNORMAL", "REFUND.CLOSED"] {
            let failed = event(kind, &format!("{{{number}}}"));
            assert_eq!((failed.effect, failed.request), (Effect::Fail, named.clone()), "{kind}");
        }
    }

    #[test]
    fn what_is_not_needed_is_noted_and_what_is_anothers_is_foreign() {
        let closed = event("REFUND.CLOSED", r#"{"mchid":"1900000001","refund_id":"50","refund_status":"CLOSED"}"#);
        assert_eq!((closed.effect, &*closed.key, closed.kind), (Effect::Note, "50:REFUND.CLOSED:CLOSED", Kind::Other));
        let unpaid = event("TRANSACTION.SUCCESS", r#"{"transaction_id":"42","trade_state":"NOTPAY"}"#);
        assert_eq!((unpaid.effect, &*unpaid.key), (Effect::Note, "42:TRANSACTION.SUCCESS:NOTPAY"));
        assert_eq!(event("MARKETING.X", "{}").key, "N1");
        for key in ["mchid", "sp_mchid"] {
            let foreign = event("TRANSACTION.SUCCESS", &format!(r#"{{"{key}":"2","transaction_id":"4"}}"#));
            assert_eq!((foreign.effect, &*foreign.account, &*foreign.key), (Effect::Foreign("mchid"), "2", "4"));
        }
        let partner = r#"{"sp_mchid":"1900000001","sub_mchid":"2","transaction_id":"4","amount":{"total":1}}"#;
        assert_eq!(event("TRANSACTION.SUCCESS", partner).effect, Effect::Book);
        let unreadable = event("TRANSACTION.SUCCESS", r#"{"transaction_id":"4","amount":{"total":1.5}}"#);
        assert!(matches!(unreadable.effect, Effect::Unreadable(_)));
    }
}
