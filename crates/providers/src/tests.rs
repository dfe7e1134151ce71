//! What needs no foreign signer: the specifications' own vectors, windows to the millisecond, and mutated messages.
//!
//! RSA is signed by software that is not ours in `tests/it/ledger/provider.rs`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac as mac;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::configured::{Configured, KeyValue, Need, Shape, TextKind};
use crate::event::{Amount, Effect, Kind, Of, ProviderEvent};
use crate::receive::Received;
use crate::verify::VerifyError;
use base::secret::Secret;
use base::units::Currency;

const NOW_S: i64 = 1_700_000_000;

fn prepared(provider: &'static Provider, values: Values) -> Box<dyn Verify> {
    Configured { provider, values }.prepare(&Names { channel: "shop-1", merchant: "shop" })
}

fn files(files: &[&[u8]]) -> KeyValue {
    KeyValue::Files(files.iter().map(|file| secret(file)).collect())
}

fn text(text: &str) -> KeyValue {
    KeyValue::Text(text.to_owned())
}

fn secret(text: &[u8]) -> Secret {
    Secret(Arc::from(text))
}

fn received(headers: &[(&str, String)], body: &[u8]) -> Received {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    Received::new(map, Bytes::copy_from_slice(body), 0)
}

fn tag(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    mac::sign(&mac::Key::new(mac::HMAC_SHA256, key), &parts.concat()).as_ref().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

fn stripe_at(seconds: i64, body: &[u8]) -> Received {
    let time = seconds.to_string();
    let v1 = base::hex::encode(&tag(b"whsec_test", &[time.as_bytes(), b".", body]));
    received(&[("Stripe-Signature", format!("t={time},v1={},v1={v1},v0=x", "0".repeat(64)))], body)
}

fn stripe() -> Box<dyn Verify> {
    let secrets = files(&[b"whsec_old", b"whsec_test"]);
    prepared(&stripe::PROVIDER, Values::default().with(&stripe::SECRETS, secrets))
}

fn webhook_at(seconds: i64, body: &[u8]) -> Received {
    let time = seconds.to_string();
    let v1 = base64(&tag(b"0123456789abcdef01234567", &[b"msg_1.", time.as_bytes(), b".", body]));
    let signature = format!("v1a,AAAA v2,x nonsense v1,{v1}");
    let id = "msg_1".to_owned();
    received(&[("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)], body)
}

fn webhooks_with(key: &ConfigKey, keys: &[&[u8]]) -> Box<dyn Verify> {
    prepared(&standardwebhooks::PROVIDER, Values::default().with(key, files(keys)))
}

fn webhooks() -> Box<dyn Verify> {
    webhooks_with(&standardwebhooks::SECRETS, &[b"another-of-24-bytes-or-so", b"0123456789abcdef01234567"])
}

/// A generic sender's channel, with the usual fields but for these.
fn generic(others: &[(&ConfigKey, &str)]) -> Box<dyn Verify> {
    let values = Values::default()
        .with(&hmac::SECRETS, files(&[b"old", b"key"]))
        .with(&hmac::HEADER, text("x-signature"))
        .with(&hmac::PREFIX, text("sha256="));
    prepared(&hmac::PROVIDER, others.iter().fold(values, |values, (key, other)| values.with(key, text(other))))
}

fn signed(media: &str, body: &[u8]) -> Received {
    let signature = format!("sha256={}", base::hex::encode(&tag(b"key", &[body])));
    received(&[("content-type", media.to_owned()), ("X-Signature", signature)], body)
}

/// What a message means that came on time.
fn event(provider: &dyn Verify, received: Received) -> ProviderEvent {
    provider.verify(received, NOW_S as u64 * 1000).unwrap().event().clone()
}

#[test]
fn the_example_of_standard_webhooks_is_genuine() {
    let key = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let provider = webhooks_with(&standardwebhooks::SECRETS, &[&key.unwrap()]);
    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()),
        ("webhook-timestamp", "1614265330".to_owned()),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned()),
    ];
    let verified = provider.verify(received(&headers, br#"{"test": 2432232314}"#), 1_614_265_330_000).unwrap();
    assert_eq!((&verified.event().effect, verified.event().kind), (&Effect::Note, Kind::Other));
    assert_eq!(&*verified.event().account, "shop-1");
    let changed = provider.verify(received(&headers, br#"{"test": 2432232315}"#), 1_614_265_330_000);
    assert!(matches!(changed, Err(VerifyError::Forged(_))));
}

#[test]
fn windows_are_exact_and_come_after_the_signature() {
    let at = |provider: &dyn Verify, message: Received, skew_ms: i64| {
        provider.verify(message, (NOW_S * 1000 - skew_ms) as u64).map(|_| ())
    };
    let (stripe, webhooks) = (stripe(), webhooks());
    for (skew_ms, stripe_ok, webhook_ok) in [
        (0, true, true),
        (-300_000, true, true),
        (-300_001, false, false),
        (300_000, true, true),
        (300_001, true, false),
        (86_400_000, true, false),
    ] {
        let expected = |is_ok: bool| if is_ok { Ok(()) } else { Err(VerifyError::Expired { skew_ms }) };
        assert_eq!(at(&*stripe, stripe_at(NOW_S, b"{}"), skew_ms), expected(stripe_ok), "{skew_ms}");
        assert_eq!(at(&*webhooks, webhook_at(NOW_S, b"{}"), skew_ms), expected(webhook_ok), "{skew_ms}");
    }
    let forged = Received { body: Bytes::from_static(b"{ }"), ..stripe_at(NOW_S, b"{}") };
    assert!(matches!(at(&*stripe, forged, -1_000_000), Err(VerifyError::Forged(_))));
    let malformed = at(&*stripe, stripe_at(NOW_S, b"[]"), 0);
    assert!(matches!(malformed, Err(VerifyError::Malformed(_))), "{malformed:?}");
}

#[test]
fn a_message_without_its_signature_is_forged() {
    let bare = || received(&[("content-type", "application/json".to_owned())], b"{}");
    let rsa = files(&[&[0; 8]]);
    let alipay = Values::default()
        .with(&alipay::APP_ID, text("1"))
        .with(&alipay::SELLER_ID, text("2"))
        .with(&alipay::PUBLIC_KEYS, rsa);
    let serials = KeyValue::Serials(vec![("A".to_owned(), secret(&[0; 8]))]);
    let wechatpay = Values::default()
        .with(&wechatpay::MCHID, text("1"))
        .with(&wechatpay::API_V3_KEY, files(&[&[0; 32]]))
        .with(&wechatpay::PLATFORM_KEYS, serials);
    let (alipay, wechatpay) = (prepared(&alipay::PROVIDER, alipay), prepared(&wechatpay::PROVIDER, wechatpay));
    for provider in [stripe(), webhooks(), generic(&[]), alipay, wechatpay] {
        let refused = provider.verify(bare(), 0).map(|_| ());
        assert!(matches!(refused, Err(VerifyError::Forged(_))), "{provider:?}: {refused:?}");
    }
    let twice = received(&[("stripe-signature", "t=1".into()), ("stripe-signature", "t=1".into())], b"{}");
    assert!(matches!(stripe().verify(twice, 0), Err(VerifyError::Forged(_))));
}

#[test]
fn an_ed25519_signature_is_genuine_and_another_is_not() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let provider = webhooks_with(&standardwebhooks::PUBLIC_KEYS, &[&[0; 32], pair.public_key().as_ref()]);
    let message = |signature: &[u8]| {
        let headers = [
            ("webhook-id", "m".to_owned()),
            ("webhook-timestamp", NOW_S.to_string()),
            ("webhook-signature", format!("v1,AAAA v1a,{}", base64(signature))),
        ];
        received(&headers, b"{}")
    };
    let text = format!("m.{NOW_S}.{{}}");
    let signature = pair.sign(text.as_bytes());
    assert!(provider.verify(message(signature.as_ref()), NOW_S as u64 * 1000).is_ok());
    let other = pair.sign(format!("n.{NOW_S}.{{}}").as_bytes());
    assert!(matches!(provider.verify(message(other.as_ref()), NOW_S as u64 * 1000), Err(VerifyError::Forged(_))));
}

fn stripe_event(kind: &str, object: &str) -> ProviderEvent {
    let body = format!(r#"{{"id":"evt_1","type":"{kind}","created":1600000000,"data":{{"object":{object}}}}}"#);
    event(&*stripe(), stripe_at(NOW_S, body.as_bytes()))
}

#[test]
fn stripe_events_mean_what_the_table_says() {
    let intent = r#"{"id":"pi_1","amount":9,"amount_received":1099,"currency":"usd","metadata":{"out_trade_no":"O1"}}"#;
    let paid = stripe_event("payment_intent.succeeded", intent);
    assert_eq!(
        (paid.kind, paid.effect, &*paid.key, &*paid.account),
        (Kind::Payment, Effect::Book, "pi_1", "merchant:shop")
    );
    assert_eq!((paid.amount, paid.currency), (Some(Amount::Exact(1099)), Currency::parse("USD")));
    assert_eq!((paid.out_trade_no.as_deref(), paid.occurred_ms), (Some("O1"), Some(1_600_000_000_000)));
    let bare = stripe_event("payment_intent.succeeded", r#"{"id":"pi_1","amount_received":5,"currency":"jpy"}"#);
    assert_eq!(bare.out_trade_no.as_deref(), Some("pi_1"));

    let charge = |rest: &str| format!(r#"{{"id":"ch_1","amount":7,"amount_captured":6,"currency":"usd",{rest}}}"#);
    for (kind, rest, effect, amount) in [
        ("charge.succeeded", r#""payment_intent":null"#, Effect::Book, Some(7)),
        ("charge.succeeded", r#""payment_intent":null,"captured":true"#, Effect::Book, Some(7)),
        ("charge.succeeded", r#""payment_intent":null,"captured":false"#, Effect::Note, None),
        ("charge.captured", r#""payment_intent":null,"captured":true"#, Effect::Book, Some(6)),
        ("charge.succeeded", r#""payment_intent":"pi_1""#, Effect::Note, None),
        ("charge.succeeded", r#""payment_intent":{"id":"pi_1"}"#, Effect::Note, None),
        ("charge.refunded", r#""payment_intent":null"#, Effect::Note, None),
        ("checkout.session.completed", r#""payment_intent":null"#, Effect::Note, None),
    ] {
        let event = stripe_event(kind, &charge(rest));
        assert_eq!((&event.effect, event.amount), (&effect, amount.map(Amount::Exact)), "{kind} {rest}");
        assert_eq!(event.key, if effect == Effect::Book { "ch_1" } else { "evt_1" });
    }
}

#[test]
fn stripe_refunds_and_disputes_name_their_payment() {
    for (kind, status, expected) in [
        ("refund.created", "succeeded", Some(Kind::Refund)),
        ("refund.updated", "succeeded", Some(Kind::Refund)),
        ("charge.refund.updated", "succeeded", Some(Kind::Refund)),
        ("refund.created", "pending", None),
        ("refund.updated", "requires_action", None),
        ("refund.failed", "failed", Some(Kind::RefundReversal)),
        ("refund.updated", "canceled", Some(Kind::RefundReversal)),
        ("charge.refund.updated", "failed", Some(Kind::RefundReversal)),
        ("charge.dispute.funds_withdrawn", "needs_response", Some(Kind::Chargeback)),
        ("charge.dispute.funds_reinstated", "won", Some(Kind::ChargebackReversal)),
        ("charge.dispute.created", "needs_response", None),
    ] {
        let object = |of: &str| {
            format!(
                r#"{{"id":"re_1","status":"{status}","amount":7,"currency":"eur","metadata":{{"out_trade_no":"X"}},{of}}}"#
            )
        };
        let event = stripe_event(kind, &object(r#""payment_intent":"pi_1","charge":"ch_1""#));
        let Some(expected) = expected else {
            assert_eq!(
                (event.kind, event.effect, &*event.key),
                (Kind::Other, Effect::Note, "evt_1"),
                "{kind} {status}"
            );
            continue;
        };
        assert_eq!((event.kind, &event.effect, &*event.key), (expected, &Effect::Book, "re_1"), "{kind} {status}");
        assert_eq!((event.of, event.out_trade_no), (Some(Of::Number("pi_1".into())), None));
        let of_charge = stripe_event(kind, &object(r#""payment_intent":null,"charge":"ch_1""#));
        assert_eq!(of_charge.of, Some(Of::Number("ch_1".into())));
        let of_nothing = stripe_event(kind, &object(r#""payment_intent":null"#));
        assert!(matches!(of_nothing.effect, Effect::Unreadable(_)));
    }
}

#[test]
fn generic_fields_are_read_where_the_configuration_says() {
    let provider = generic(&[
        (&hmac::ID, "payment.id"),
        (&hmac::ORDER, "payment.order"),
        (&hmac::AMOUNT, "payment.money.value"),
        (&hmac::AMOUNT_UNIT, "major"),
        (&hmac::CURRENCY, "payment.money.code"),
        (&hmac::KIND, "event"),
    ]);
    let json = |amount: &str, code: &str| {
        let body = format!(
            r#"{{"event":"payment","payment":{{"id":77,"order":"O1","money":{{"value":{amount},"code":"{code}"}}}}}}"#
        );
        event(&*provider, signed("application/json", body.as_bytes()))
    };
    for (amount, code, minor) in [
        ("12.34", "CNY", Some(1234)),
        ("\"12.30\"", "cny", Some(1230)),
        ("90071992547409.91", "CNY", Some(9_007_199_254_740_991)),
        ("12", "JPY", Some(12)),
        ("1.234", "KWD", Some(1234)),
        ("12.345", "CNY", None),
        ("12.340000000000000001", "CNY", None),
        ("12.5", "JPY", None),
        ("-1", "CNY", None),
        ("null", "CNY", None),
        ("12", "XQQ", None),
    ] {
        let event = json(amount, code);
        assert_eq!((event.key.as_str(), event.account.as_str(), event.kind), ("77", "shop-1", Kind::Payment));
        match minor {
            Some(minor) => {
                assert_eq!((event.effect, event.amount), (Effect::Book, Some(Amount::Exact(minor))), "{amount} {code}");
            }
            None => assert!(matches!(event.effect, Effect::Unreadable(_)), "{amount} {code}: {event:?}"),
        }
    }
    assert_eq!(json("0.00", "CNY").effect, Effect::Note);
}

#[test]
fn a_generic_form_is_read_by_names() {
    let provider = generic(&[(&hmac::ID, "data.id")]);
    let form =
        |body: &str| provider.verify(signed("application/x-www-form-urlencoded; charset=utf-8", body.as_bytes()), 0);
    let fine =
        form("data.id=R1&out_trade_no=%E8%AE%A2%E5%8D%95+1&amount_minor=12&currency=cny&kind=refund&x=1&x=2").unwrap();
    let event = fine.event();
    assert_eq!((event.kind, &event.effect, &*event.key), (Kind::Refund, &Effect::Book, "R1"));
    assert_eq!(event.of, Some(Of::OutTradeNo("订单 1".into())));
    assert!(matches!(form("kind=refund&kind=payment"), Err(VerifyError::Malformed(_))));
    assert!(matches!(form("kind=%FF"), Err(VerifyError::Malformed(_))));
    let json_as_form = provider.verify(signed("application/json", b"kind=refund"), 0);
    assert!(matches!(json_as_form, Err(VerifyError::Malformed(_))));
}

#[test]
fn a_header_that_nobody_signs_makes_no_form_of_json() {
    let body = br#" {"id":"n1","kind":"note","memo":"x&id=evil&kind=payment&amount_minor=99999900&currency=USD&out_trade_no=O9&z="}"#;
    let provider = generic(&[]);
    for media in ["application/json", "application/x-www-form-urlencoded"] {
        let told = event(&*provider, signed(media, body));
        assert_eq!((told.effect, &*told.key, told.kind), (Effect::Note, "n1:note", Kind::Other), "{media}");
    }
    let configured = |format| generic(&[(&hmac::FORMAT, format)]);
    let form = b"{=1&kind=refund&id=R1&out_trade_no=A&amount_minor=1&currency=CNY";
    assert_eq!(event(&*configured("form"), signed("application/json", form)).kind, Kind::Refund);
    let json = configured("json").verify(signed("application/x-www-form-urlencoded", b"kind=refund"), 0);
    assert!(matches!(json, Err(VerifyError::Malformed(_))));
}

#[test]
fn a_generic_message_without_an_id_is_known_by_its_body() {
    let provider = generic(&[]);
    let body = br#"{"kind":"payment","amount_minor":1,"currency":"CNY"}"#;
    let paid = event(&*provider, signed("application/json", body));
    let digest = base::hex::encode(ring::digest::digest(&ring::digest::SHA256, body).as_ref());
    assert_eq!((&paid.key, &paid.number, paid.effect), (&digest, &Some(digest.clone()), Effect::Book));
    let refund = br#"{"kind":"chargeback","id":"1","amount_minor":1,"currency":"CNY"}"#;
    let refund = event(&*provider, signed("application/json", refund));
    assert!(matches!(refund.effect, Effect::Unreadable(_)), "nothing says of which payment it is");
    let long = format!(r#"{{"kind":"payment","id":"{}","amount_minor":1,"currency":"CNY"}}"#, "x".repeat(300));
    let long = event(&*provider, signed("application/json", long.as_bytes()));
    assert!(matches!(long.effect, Effect::Unreadable(_)));
    assert_eq!((long.number, long.key.len()), (None, 64));
    let note = event(&*provider, signed("application/json", br#"{"kind":"payment.created","id":"1"}"#));
    assert_eq!((note.effect, &*note.key, note.kind), (Effect::Note, "1:payment.created", Kind::Other));
}

/// Changes a few bytes: one flipped, removed, doubled or replaced by what parsers trip over.
fn mutate(random: &mut fastrand::Rng, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..body.len().max(1)).min(body.len().saturating_sub(1));
        match random.u8(0..5) {
            _ if body.is_empty() => body.push(random.u8(..)),
            0 => body[at] ^= 1 << random.u8(0..8),
            1 => drop(body.remove(at)),
            2 => body.insert(at, body[at]),
            3 => body[at] = *random.choice(b"\"\\{}[]:,&=%+-.e0\0\xff").unwrap(),
            _ => body.truncate(at),
        }
    }
    body
}

#[test]
fn mutated_messages_never_panic_and_verify_only_when_signed() {
    let stripe_body = br#"{"id":"evt_1","type":"refund.updated","created":1600000000,"data":{"object":{"id":"re_1","status":"succeeded","amount":7,"currency":"eur","payment_intent":{"id":"pi_1"},"metadata":{"out_trade_no":"X\u4e2d"}}}}"#;
    let webhook = br#"{"type":"payment","timestamp":"2018-06-08T10:34:56Z","data":{"id":"a","out_trade_no":"b","amount_minor":12.0e1,"currency":"CNY"}}"#;
    let form = "id=a&out_trade_no=%E8%AE%A2+1&amount_minor=12&currency=cny&kind=refund&charset=gbk&trade_no=1&refund_fee=1.5&trade_status=TRADE_SUCCESS&gmt_refund=2018-06-09+10:34:56.320&sign=AAAA&sign_type=RSA2";
    let (stripe, webhooks) = (stripe(), webhooks());
    let generic = generic(&[]);
    let now_ms = NOW_S as u64 * 1000;
    let mut random = fastrand::Rng::with_seed(4);
    for _ in 0..20_000 {
        let body = mutate(&mut random, stripe_body);
        let refused = stripe.verify(Received { body: body.clone().into(), ..stripe_at(NOW_S, stripe_body) }, now_ms);
        assert_eq!(refused.is_ok(), body == stripe_body);
        let genuine = stripe.verify(stripe_at(NOW_S, &body), now_ms).map(|_| ());
        assert!(matches!(genuine, Ok(()) | Err(VerifyError::Malformed(_))), "{genuine:?}");

        let body = mutate(&mut random, webhook);
        let genuine = webhooks.verify(webhook_at(NOW_S, &body), now_ms).map(|_| ());
        assert!(matches!(genuine, Ok(()) | Err(VerifyError::Malformed(_))), "{genuine:?}");

        let body = mutate(&mut random, form.as_bytes());
        let genuine = generic.verify(signed("application/x-www-form-urlencoded", &body), now_ms).map(|_| ());
        assert!(matches!(genuine, Ok(()) | Err(VerifyError::Malformed(_))), "{genuine:?}");
        alipay::mean(&body);

        let header = mutate(&mut random, stripe_at(NOW_S, b"{}").header("stripe-signature").unwrap().as_bytes());
        let Ok(header) = HeaderValue::from_bytes(&header) else { continue };
        let mut changed = stripe_at(NOW_S, b"{}");
        changed.headers.insert("stripe-signature", header);
        let _ = stripe.verify(changed, now_ms);
    }
}

#[test]
fn a_key_that_several_providers_have_is_written_alike() {
    for key in ALL.into_iter().flat_map(|provider| provider.keys) {
        let [first, ..] = &ConfigKey::owners(key.name).filter_map(|owner| owner.key(key.name)).collect::<Vec<_>>()[..]
        else {
            panic!("nobody has {}", key.name)
        };
        let shape = |key: &ConfigKey| std::mem::discriminant(&key.shape);
        assert_eq!(shape(first), shape(key), "{}", key.name);
        let is_default = matches!(key.need, Need::Default(_));
        assert!(
            ConfigKey::owners(key.name).count() == 1 || !is_default,
            "{}: its default would be everybody's",
            key.name
        );
        assert!(key.about.ends_with('.') && key.name.bytes().all(|b| b.is_ascii_lowercase() || b"_3".contains(&b)));
    }
}

#[test]
fn what_differs_between_two_channels_is_told_by_the_names_of_keys() {
    let of = |provider, values| Configured { provider, values };
    let one = Values::default().with(&stripe::SECRETS, files(&[b"a"]));
    let other = Values::default().with(&stripe::SECRETS, files(&[b"b"])).with(&stripe::ACCOUNT, text("acct_1"));
    let one = of(&stripe::PROVIDER, one);
    assert_eq!(one.changed(&of(&stripe::PROVIDER, other)), ["secret_files", "account"]);
    assert_eq!(one.changed(&one.clone()), [""; 0]);
    assert_eq!(one.changed(&of(&hmac::PROVIDER, Values::default())), ["provider"]);
    assert_eq!(
        format!("{one:?}"),
        r#"Configured { provider: stripe, values: Values({"secret_files": Files([Secret(..)])}) }"#
    );
    let header = |name: &str| of(&hmac::PROVIDER, Values::default().with(&hmac::HEADER, text(name)));
    assert_eq!(header("x-a").changed(&header("x-b")), ["header"]);
    let none = Values::default().with(&hmac::SECRETS, files(&[]));
    assert_eq!(none, Values::default(), "an empty list is an absent one");
}

#[test]
fn every_provider_is_found_by_its_name_and_has_keys_of_a_shape_that_can_be_read() {
    for provider in ALL {
        assert_eq!(Provider::named(provider.name).map(|found| found.name), Some(provider.name));
        for key in provider.keys {
            if let (Shape::Text(TextKind::OneOf { words, .. }), Need::Default(default)) = (&key.shape, key.need) {
                assert!(words.contains(&default), "{}", key.name);
            }
        }
        for name in provider.either.iter().flat_map(|either| either.keys) {
            assert!(provider.key(name).is_some(), "{name}");
        }
    }
    assert!(Provider::named("paypal").is_none());
}
