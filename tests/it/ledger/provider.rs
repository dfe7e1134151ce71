//! The payment providers against software that is not ours: its libraries sign, and what they sign is taken; one bit
//! less, and it is refused. Where a library verifies too, its verdict must be ours.
//!
//! The library is called directly: no process, no port. Not covered: v1a and generic HMAC have no library here to agree
//! with, and Alipay's verifies any hash and any charset it is told, so only its RSA2 verdicts are compared.

use std::sync::Arc;

use config::model::ledger::Channel;
use ledger::channel::Prepared;
use providers::configured::{Configured, KeyValue};
use providers::event::{Amount, Effect, Kind, Of, ProviderEvent};
use providers::receive::Received;
use providers::verify::VerifyError;
use providers::{alipay, hmac, standardwebhooks, stripe, wechatpay};
use serde_json::json;

use crate::support::signer::{self, Alipay, Callback, WechatPay};

const API_V3_KEY: &str = "0123456789abcdef0123456789abcdef";
const STRIPE: &str = "whsec_5f9c1d1bTheWholeTextIsTheKey";
const WEBHOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const MCHID: &str = "1900000109";
const SERIAL: &str = "PUB_KEY_ID_0114232134912410000000000000";

fn now_s() -> u64 {
    base::clock::wall_ms() / 1000
}

fn prepared(provider: Configured) -> Prepared {
    let (name, merchant) = (Arc::from("channel"), Arc::from("shop"));
    Prepared::new(Arc::new(Channel { name, provider, merchant, require_order: false, fee: None, query_after: vec![] }))
}

fn verify_at(provider: &Prepared, callback: &Callback, seconds: u64) -> Result<ProviderEvent, VerifyError> {
    let received = Received::new(callback.headers.clone(), callback.body.clone(), seconds * 1000);
    provider.verify(received, seconds * 1000).map(|verified| verified.event().clone())
}

fn verify(provider: &Prepared, callback: &Callback) -> Result<ProviderEvent, VerifyError> {
    verify_at(provider, callback, now_s())
}

/// Flips a bit of every `step`-th byte of the body, and of each of the headers, one at a time: none may be taken, by us
/// or by the library.
fn refuses_changes(
    provider: &Prepared,
    callback: &Callback,
    headers: &[&str],
    step: usize,
    library: impl Fn(&Callback) -> bool,
) {
    let seconds = now_s();
    let refused = |changed: &Callback, what: String| {
        let verdict = verify_at(provider, changed, seconds);
        assert!(matches!(verdict, Err(VerifyError::Forged(_) | VerifyError::Malformed(_))), "{what}: {verdict:?}");
    };
    for at in 0..callback.body.len() {
        let mut body = callback.body.to_vec();
        body[at] ^= 1;
        let changed = Callback { body: body.into(), ..callback.clone() };
        refused(&changed, format!("byte {at} of the body"));
        if at % step == 0 {
            assert!(!library(&changed), "the library takes a change of byte {at}");
        }
    }
    for name in headers {
        let value = callback.header(name);
        for at in 0..value.len() {
            let mut changed = value.as_bytes().to_vec();
            changed[at] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            if changed.contains(|c: char| c.is_control()) || same_hex(value, &changed) {
                continue;
            }
            refused(&callback.clone().with(name, &changed), format!("byte {at} of {name}: {changed}"));
        }
        refused(&callback.clone().without(name), format!("no {name}"));
    }
}

/// Whether two texts are the same hex, of another case.
fn same_hex(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// Random changes of a genuine message: never a panic, never taken but with the bytes that were signed.
fn survives_mutations(provider: &Prepared, callback: &Callback, is_same: impl Fn(&[u8]) -> bool) {
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..2_000 {
        let mut body = callback.body.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..body.len());
            match random.u8(0..4) {
                0 => body[at] ^= 1 << random.u8(0..8),
                1 => body.insert(at, body[at]),
                2 => body[at] = *random.choice(b"\"\\{}[]:,&=%+-.e0\0\xff").unwrap(),
                _ => body.truncate(at.max(1)),
            }
        }
        let is_same = is_same(&body);
        let verdict = verify(provider, &Callback { body: body.into(), ..callback.clone() });
        assert_eq!(verdict.is_ok(), is_same, "{verdict:?}");
    }
}

#[test]
fn stripe_takes_what_stripes_library_signs_and_refuses_every_change() {
    let secrets = [b"whsec_new", STRIPE.as_bytes()].into();
    let provider = prepared(Configured::new(&stripe::PROVIDER, [(&stripe::SECRETS, secrets)]));
    let body = json!({"id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "created": 1_600_000_000,
        "data": {"object": {"id": "pi_1", "amount_received": 1099, "currency": "usd",
            "metadata": {"out_trade_no": "订单-1"}}}})
    .to_string();
    let settings = || json!({"secret": STRIPE});
    let library = |callback: &Callback| signer::is_genuine("stripe", settings(), callback);
    let callback = signer::stripe(STRIPE, now_s(), &body);
    let event = verify(&provider, &callback).unwrap();
    assert_eq!((event.kind, event.effect, &*event.key), (Kind::Payment, Effect::Book, "pi_1"));
    assert_eq!((event.amount, event.out_trade_no.as_deref()), (Some(Amount::Exact(1099)), Some("订单-1")));
    assert!(library(&callback));
    refuses_changes(&provider, &callback, &["stripe-signature"], 16, library);
    survives_mutations(&provider, &callback, |changed| changed == body.as_bytes());

    for (age, is_genuine) in [(0, true), (290, true), (310, false), (-3600, true)] {
        let callback = signer::stripe(STRIPE, now_s().saturating_add_signed(-age), &body);
        let verdict = verify(&provider, &callback);
        assert_eq!((verdict.is_ok(), library(&callback)), (is_genuine, is_genuine), "{age} s old: {verdict:?}");
        assert!(is_genuine || matches!(verdict, Err(VerifyError::Expired { skew_ms }) if skew_ms <= -310_000));
    }
    let other = signer::stripe("whsec_other", now_s(), &body);
    assert!(matches!(verify(&provider, &other), Err(VerifyError::Forged(_))));
    assert!(!library(&other));
}

fn webhook_provider() -> Prepared {
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &WEBHOOK["whsec_".len()..]).unwrap();
    let secrets = (&standardwebhooks::SECRETS, [&[1; 24], &*key].into());
    let public = (&standardwebhooks::PUBLIC_KEYS, [&[9; 32][..], &signer::ed25519()].into());
    prepared(Configured::new(&standardwebhooks::PROVIDER, [secrets, public]))
}

#[test]
fn standard_webhooks_takes_what_its_library_signs_and_refuses_every_change() {
    let provider = webhook_provider();
    let body = json!({"type": "payment.succeeded", "timestamp": "2018-06-08T02:34:56Z",
        "data": {"id": "p1", "out_trade_no": "订单-1", "amount_minor": "1200", "currency": "cny"}})
    .to_string();
    let library = |callback: &Callback| signer::is_genuine("standardwebhooks", json!({"secret": WEBHOOK}), callback);
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let callback = signer::webhook("v1", WEBHOOK, "msg_1", now_s(), &body);
    let event = verify(&provider, &callback).unwrap();
    assert_eq!((event.kind, event.effect, &*event.key), (Kind::Payment, Effect::Book, "p1"));
    assert_eq!((event.amount, event.occurred_ms), (Some(Amount::Exact(1200)), Some(1_528_425_296_000)));
    assert!(library(&callback));
    refuses_changes(&provider, &callback, &headers, 16, library);
    survives_mutations(&provider, &callback, |changed| changed == body.as_bytes());

    for (age, is_genuine) in [(0, true), (290, true), (-290, true), (310, false), (-310, false)] {
        let callback = signer::webhook("v1", WEBHOOK, "msg_1", now_s().saturating_add_signed(-age), &body);
        let verdict = verify(&provider, &callback);
        assert_eq!((verdict.is_ok(), library(&callback)), (is_genuine, is_genuine), "{age} s old: {verdict:?}");
        assert!(is_genuine || matches!(verdict, Err(VerifyError::Expired { .. })), "{verdict:?}");
    }
    let rotated = format!("v1,AAAA {} v2,x", callback.header("webhook-signature"));
    assert!(verify(&provider, &callback.with("webhook-signature", &rotated)).is_ok());
}

#[test]
fn standard_webhooks_takes_an_ed25519_signature_and_refuses_every_change() {
    let provider = webhook_provider();
    let callback = signer::webhook("v1a", "", "msg_1", now_s(), r#"{"type":"refund","data":{"id":"r1"}}"#);
    let event = verify(&provider, &callback).unwrap();
    assert_eq!((event.kind, &*event.key), (Kind::Refund, "r1"));
    assert!(matches!(event.effect, Effect::Unreadable(_)));
    refuses_changes(&provider, &callback, &["webhook-id", "webhook-timestamp", "webhook-signature"], 1, |_| false);
    let old = signer::webhook("v1a", "", "msg_1", now_s() - 310, "{}");
    assert!(matches!(verify(&provider, &old), Err(VerifyError::Expired { .. })));
}

fn wechatpay_provider() -> Prepared {
    let platform_keys = KeyValue::Serials(vec![
        ("5157F09EFDC096DE15EBE81A47057A7232F1B8E1".into(), signer::public("second").rsa),
        (SERIAL.into(), signer::public("first").rsa),
    ]);
    let values = [
        (&wechatpay::MCHID, MCHID.into()),
        (&wechatpay::API_V3_KEY, [API_V3_KEY.as_bytes()].into()),
        (&wechatpay::PLATFORM_KEYS, platform_keys),
    ];
    prepared(Configured::new(&wechatpay::PROVIDER, values))
}

fn wechatpay_payment() -> WechatPay<'static> {
    WechatPay {
        key: "first",
        serial: SERIAL,
        api_v3_key: API_V3_KEY,
        time: now_s(),
        id: "EV-2018022511223320873",
        event_type: "TRANSACTION.SUCCESS",
        associated_data: Some("transaction"),
        resource: json!({"mchid": MCHID, "appid": "wx1", "transaction_id": "4200000001", "out_trade_no": "订单-1",
            "trade_state": "SUCCESS", "success_time": "2018-06-08T10:34:56+08:00",
            "amount": {"total": 8888, "payer_total": 8888, "currency": "CNY"}}),
    }
}

fn wechatpay_library(callback: &Callback) -> bool {
    let settings = json!({"key": "first", "serial": SERIAL, "mchid": MCHID, "api_v3_key": API_V3_KEY});
    signer::is_genuine("wechatpay", settings, callback)
}

#[test]
fn wechatpay_takes_what_its_library_signs_and_refuses_every_change() {
    let provider = wechatpay_provider();
    let callback = signer::wechatpay(&wechatpay_payment());
    let event = verify(&provider, &callback).unwrap();
    assert_eq!((event.kind, event.effect, &*event.key), (Kind::Payment, Effect::Book, "4200000001"));
    assert_eq!((event.amount, event.out_trade_no.as_deref()), (Some(Amount::Exact(8888)), Some("订单-1")));
    assert_eq!((&*event.account, event.occurred_ms), (MCHID, Some(1_528_425_296_000)));
    assert!(wechatpay_library(&callback));
    let headers = ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-serial", "wechatpay-signature"];
    refuses_changes(&provider, &callback, &headers, 32, wechatpay_library);
    survives_mutations(&provider, &callback, |changed| changed == callback.body);

    // What the library would refuse: it asks for a type, and for the serial's own case.
    assert!(verify(&provider, &callback.clone().without("wechatpay-signature-type")).is_ok());
    assert!(verify(&provider, &callback.clone().with("wechatpay-serial", &SERIAL.to_lowercase())).is_ok());
    let sm2 = callback.clone().with("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3");
    assert!(matches!(verify(&provider, &sm2), Err(VerifyError::Forged(_))));
    let probe = format!("WECHATPAY/SIGNTEST/{}", callback.header("wechatpay-signature"));
    assert_eq!(verify(&provider, &callback.with("wechatpay-signature", &probe)), Err(VerifyError::Probe));
}

#[test]
fn wechatpay_takes_either_platform_key_within_its_window() {
    let provider = wechatpay_provider();
    let certificate =
        WechatPay { key: "second", serial: "5157f09efdc096de15ebe81a47057a7232f1b8e1", ..wechatpay_payment() };
    assert!(verify(&provider, &signer::wechatpay(&certificate)).is_ok());
    let swapped = WechatPay { key: "second", ..wechatpay_payment() };
    assert!(matches!(verify(&provider, &signer::wechatpay(&swapped)), Err(VerifyError::Forged(_))));
    let plain = WechatPay { associated_data: None, ..wechatpay_payment() };
    assert!(verify(&provider, &signer::wechatpay(&plain)).is_ok());
    let time = now_s();
    let callback = signer::wechatpay(&WechatPay { time, ..wechatpay_payment() });
    for (now, expected) in [
        (time + 299, None),
        (time + 300, Some(-300_000)),
        (time - 299, None),
        (time - 300, Some(300_000)),
        (time + 86_400, Some(-86_400_000)),
    ] {
        let expected = expected.map(|skew_ms| VerifyError::Expired { skew_ms });
        assert_eq!(verify_at(&provider, &callback, now).err(), expected);
    }
    let other_key = "another-api-v3-key-of-32-bytes!!";
    let undecryptable = WechatPay { api_v3_key: other_key, ..wechatpay_payment() };
    assert!(matches!(verify(&provider, &signer::wechatpay(&undecryptable)), Err(VerifyError::Forged(_))));
}

#[test]
fn wechatpay_tells_refunds_and_what_is_anothers() {
    let provider = wechatpay_provider();
    let refund = WechatPay {
        event_type: "REFUND.SUCCESS",
        associated_data: Some("refund"),
        resource: json!({"mchid": MCHID, "transaction_id": "4200000001", "out_trade_no": "O1", "refund_id": "5000001",
            "out_refund_no": "R1", "refund_status": "SUCCESS", "success_time": "2018-06-08T10:34:56+08:00",
            "amount": {"total": 8888, "refund": 100, "payer_total": 8888, "payer_refund": 100}}),
        ..wechatpay_payment()
    };
    let event = verify(&provider, &signer::wechatpay(&refund)).unwrap();
    assert_eq!((event.kind, event.effect, &*event.key), (Kind::Refund, Effect::Book, "5000001"));
    assert_eq!((event.amount, event.currency), (Some(Amount::Exact(100)), None));
    assert_eq!(event.of, Some(Of::Number("4200000001".into())));
    let mut foreign = wechatpay_payment();
    foreign.resource["mchid"] = json!("1900000999");
    let event = verify(&provider, &signer::wechatpay(&foreign)).unwrap();
    assert_eq!((event.effect, &*event.account), (Effect::Foreign("mchid"), "1900000999"));
}

const TRADE: &[(&str, &str)] = &[
    ("app_id", "2014072300007148"),
    ("seller_id", "2088101106499364"),
    ("notify_id", "ac05099524730693a8b330c5ecf72da9786"),
    ("trade_no", "2013112011001004330000121536"),
    ("out_trade_no", "6823789339978248"),
    ("trade_status", "TRADE_SUCCESS"),
    ("total_amount", "88.88"),
    ("gmt_payment", "2018-06-08 10:34:56"),
    ("notify_time", "2018-06-08 10:34:57"),
    ("subject", "红茶 100% 春+秋 & 冬=季"),
    ("body", ""),
    ("passback_params", "a%3D1%26b%2525+c"),
];

fn alipay_provider() -> Prepared {
    alipay_with_keys(&["second", "first"])
}

fn alipay_with_keys(keys: &[&str]) -> Prepared {
    let values = [
        (&alipay::APP_ID, "2014072300007148".into()),
        (&alipay::SELLER_ID, "2088101106499364".into()),
        (&alipay::PUBLIC_KEYS, KeyValue::Files(keys.iter().map(|key| signer::public(key).rsa).collect())),
    ];
    prepared(Configured::new(&alipay::PROVIDER, values))
}

fn alipay(charset: &'static str, signs_type: bool) -> Alipay<'static> {
    Alipay { key: "first", charset, sign_type: "RSA2", signs_type, fields: TRADE }
}

/// The bytes a form means, in the order of their names.
fn meaning(body: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let parsed = providers::form::parse(body)?;
    let mut parsed: Vec<_> = parsed.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    parsed.sort();
    Some(parsed)
}

#[test]
fn alipay_takes_what_its_library_signs_in_either_charset_and_form() {
    let provider = alipay_provider();
    for (charset, signs_type) in [("utf-8", false), ("utf-8", true), ("gbk", false), ("gbk", true)] {
        let callback = signer::alipay(&alipay(charset, signs_type));
        let event = verify(&provider, &callback).unwrap();
        assert_eq!((event.kind, event.effect, &*event.key), (Kind::Payment, Effect::Book, TRADE[3].1), "{charset}");
        assert_eq!((event.amount, event.account.as_str()), (Some(Amount::Exact(8888)), TRADE[0].1));
        assert_eq!((event.out_trade_no.as_deref(), event.occurred_ms), (Some(TRADE[4].1), Some(1_528_425_296_000)));

        let settings = || json!({"key": "first", "charset": charset, "signs_type": signs_type});
        let library = |callback: &Callback| signer::is_genuine("alipay", settings(), callback);
        assert!(library(&callback));
        let genuine = meaning(&callback.body);
        let signed_bytes = std::str::from_utf8(&callback.body).unwrap().find("&sign_type=").unwrap();
        let seconds = now_s();
        for at in 0..callback.body.len() {
            let mut body = callback.body.to_vec();
            body[at] ^= 1;
            let changed = Callback { body: body.into(), ..callback.clone() };
            // An unsigned sign_type may go, a `%2B` may be written another way: then the same bytes are signed.
            let is_same = meaning(&changed.body) == genuine;
            let verdict = verify_at(&provider, &changed, seconds);
            assert_eq!(verdict.is_ok(), is_same, "{charset} byte {at}: {verdict:?}");
            // Beyond, it is laxer: it takes base64 with spare bits, and looks at no sign_type that is not signed.
            if at % 16 == 0 && at < signed_bytes {
                assert_eq!(library(&changed), is_same, "the library on byte {at} in {charset}");
            }
        }
        survives_mutations(&provider, &callback, |changed| meaning(changed) == genuine);
    }
}

#[test]
fn alipay_refuses_sha1_another_key_and_a_name_that_is_there_twice() {
    let provider = alipay_provider();
    assert!(signer::public("second").pem.starts_with("-----BEGIN PUBLIC KEY-----"));
    assert!(verify(&provider, &signer::alipay(&Alipay { key: "second", ..alipay("gbk", false) })).is_ok());
    for signs_type in [false, true] {
        let sha1 = signer::alipay(&Alipay { sign_type: "RSA", ..alipay("utf-8", signs_type) });
        assert!(matches!(verify(&provider, &sha1), Err(VerifyError::Forged(_))));
        let body = String::from_utf8(sha1.body.to_vec()).unwrap().replace("sign_type=RSA", "sign_type=RSA2");
        let disguised = Callback { body: body.into(), ..sha1 };
        assert!(matches!(verify(&provider, &disguised), Err(VerifyError::Forged(_))));
    }
    let callback = signer::alipay(&alipay("utf-8", false));
    let twice = Callback { body: [&callback.body[..], b"&total_amount=88.88"].concat().into(), ..callback.clone() };
    assert!(matches!(verify(&provider, &twice), Err(VerifyError::Malformed(_))));
    assert!(matches!(verify(&alipay_with_keys(&["second"]), &callback), Err(VerifyError::Forged(_))));
}

/// A notification with some fields changed, or left out where the text is empty.
fn alipay_with(changes: &[(&str, &str)]) -> ProviderEvent {
    let kept = TRADE.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let fields: Vec<_> = kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())).copied().collect();
    verify(&alipay_provider(), &signer::alipay(&Alipay { fields: &fields, ..alipay("gbk", false) })).unwrap()
}

#[test]
fn alipay_tells_refunds_closed_orders_and_what_is_anothers() {
    let refunded = [("refund_fee", "10.00"), ("gmt_refund", "2018-06-09 10:34:56.320"), ("out_biz_no", "R1")];
    for status in ["TRADE_SUCCESS", "TRADE_CLOSED"] {
        let event = alipay_with(&[&refunded[..], &[("trade_status", status)]].concat());
        assert_eq!((event.kind, event.effect), (Kind::Refund, Effect::Book));
        assert_eq!((event.key, event.number.as_deref()), (format!("{}/R1", TRADE[3].1), Some("R1")));
        assert_eq!(event.amount, Some(Amount::Cumulative(1000)));
        assert_eq!(event.of, Some(Of::Number(TRADE[3].1.into())));
    }
    assert_eq!(alipay_with(&[("trade_status", "TRADE_CLOSED")]).effect, Effect::Close);
    assert_eq!(alipay_with(&[("trade_status", "WAIT_BUYER_PAY")]).effect, Effect::Note);
    assert_eq!(alipay_with(&[("app_id", "1")]).effect, Effect::Foreign("app_id"));
    assert_eq!(alipay_with(&[("seller_id", "1")]).effect, Effect::Foreign("seller_id"));
    assert_eq!(alipay_with(&[("seller_id", "")]).effect, Effect::Book);
    assert!(matches!(alipay_with(&[("total_amount", "88.888")]).effect, Effect::Unreadable(_)));
}

#[test]
fn a_generic_sender_is_verified_in_hex_and_in_base64() {
    let body = br#"{"kind":"payment","id":"1","out_trade_no":"O1","amount_minor":7,"currency":"CNY"}"#;
    for (encoding, prefix) in [("hex", "sha256="), ("base64", "")] {
        let values = [
            (&hmac::SECRETS, [&b"other"[..], b"whsec_any"].into()),
            (&hmac::HEADER, "x-signature".into()),
            (&hmac::ENCODING, encoding.into()),
            (&hmac::PREFIX, prefix.into()),
        ];
        // Stripe's library signs `t.body` in hex: with a body that begins so, it signs ours.
        let (text, hex) = stripe_hex("whsec_any", std::str::from_utf8(body).unwrap());
        let signature = if encoding == "hex" { format!("{prefix}{hex}") } else { recoded(&hex) };
        let callback = Callback { headers: Default::default(), body: text.into() }.with("x-signature", &signature);
        let verdict = verify(&prepared(Configured::new(&hmac::PROVIDER, values)), &callback);
        // Genuine, but `1.{…}` is no JSON: so the signature was right.
        assert!(matches!(verdict, Err(VerifyError::Malformed(_))), "{verdict:?}");
    }
}

fn stripe_hex(secret: &str, body: &str) -> (String, String) {
    let callback = signer::stripe(secret, 1, body);
    let (_, hex) = callback.header("stripe-signature").split_once("v1=").unwrap();
    (format!("1.{body}"), hex.to_owned())
}

fn recoded(hex: &str) -> String {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}
