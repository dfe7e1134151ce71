//! Requests and answers of every provider, without a network.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::*;
use crate::configured::Configured;
use crate::event::{Amount, Effect, Kind};
use crate::signing::{PRIVATE_FILE, RsaSigner};
use crate::{Provider, alipay, stripe, wechatpay};
use base::secret::Secret;

const NOW: u64 = 1_795_232_280_000;

/// The private key that the examples publish, which signs as provider and as we.
fn key() -> Secret {
    let pem = include_bytes!("../../../../conf/secrets-example/alipay.key");
    Secret((PRIVATE_FILE.read)(pem).unwrap().into())
}

fn public() -> Vec<u8> {
    let pair = ring::signature::RsaKeyPair::from_pkcs8(&key().0).unwrap();
    pair.public_key().as_ref().to_vec()
}

fn api(provider: &'static Provider) -> Box<dyn Api> {
    let (own, theirs) = (key(), Secret(public().into()));
    let mut channel = Configured { provider, values: Values::default() };
    for key in provider.keys {
        let value = match (key.name, &key.shape) {
            ("api_url", _) => "http://127.0.0.1:1/base".into(),
            ("app_id", _) => "app".into(),
            ("mchid", _) => "1900000001".into(),
            ("private_key_file", _) => crate::configured::KeyValue::Files(vec![own.clone()]),
            ("api_key_file", _) => crate::configured::KeyValue::Files(vec![Secret(Arc::from(&b"sk_test_1"[..]))]),
            ("public_key_files", _) => crate::configured::KeyValue::Files(vec![theirs.clone()]),
            ("account", _) => continue,
            (_, Shape::Serials(_)) => crate::configured::KeyValue::Serials(vec![("S1".into(), theirs.clone())]),
            (_, Shape::Text(_)) => "x".into(),
            _ => continue,
        };
        channel.values.set(key, value);
    }
    channel.api(&Names { channel: "c", merchant: "shop" }).unwrap()
}

fn order() -> AskedOrder {
    let (out_trade_no, currency) = ("O-1".to_owned(), "CNY".to_owned());
    AskedOrder { id: "id".into(), out_trade_no, amount_minor: 1_005, currency, number: Some("pi_1".into()) }
}

fn refund() -> AskedRefund {
    AskedRefund {
        id: "id".into(),
        out_trade_no: "O-1".into(),
        payment_no: "T1".into(),
        paid_minor: 1_005,
        out_refund_no: "R-1".into(),
        amount_minor: 5,
        currency: "CNY".into(),
        number: None,
    }
}

fn at() -> Moment {
    Moment { now_ms: NOW, nonce: [0xab; 16] }
}

fn answered(status: u16, body: &str, headers: &[(&'static str, String)]) -> Answer {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect();
    Answer { status, received: Received::new(headers, Bytes::from(body.to_owned()), NOW) }
}

#[test]
fn a_signature_is_one_of_our_key_in_every_shape() {
    let text = include_str!("../../../../conf/secrets-example/alipay.key");
    let bare: String = text.lines().filter(|line| !line.starts_with("---")).collect();
    let signed = RsaSigner::new(&key()).sign(b"text");
    let verifier = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public());
    assert!(verifier.verify(b"text", &STANDARD.decode(&signed).unwrap()).is_ok());
    assert_eq!((PRIVATE_FILE.read)(bare.as_bytes()).unwrap(), key().0.to_vec());
    for (text, message) in [
        ("", "the file holds neither PEM nor a key in base64"),
        ("aGVsbG8=", "the RSA private key cannot be used: InvalidEncoding"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "the private key has a passphrase: write it without one",
        ),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "the file holds no private key but a section `PUBLIC KEY`",
        ),
    ] {
        assert_eq!((PRIVATE_FILE.read)(text.as_bytes()).unwrap_err().message, message);
    }
    assert_eq!(format!("{:?}", RsaSigner::new(&key())), "RsaSigner(..)");
}

#[test]
fn requests_are_made_as_documented() {
    let request = api(&alipay::PROVIDER).request(&Call::Create(order()), at());
    let body = String::from_utf8(request.body).unwrap();
    assert_eq!((request.method, &*request.url), (Method::POST, "http://127.0.0.1:1/base"));
    assert!(
        body.contains("timestamp=2026%2D11%2D21%2011%3A38%3A00")
            && body.contains("%22total%5Famount%22%3A%2210%2E05%22")
    );

    let wechat = api(&wechatpay::PROVIDER);
    let request = wechat.request(&Call::Query(order()), at());
    assert_eq!(request.url, "http://127.0.0.1:1/base/v3/pay/transactions/out-trade-no/O-1?mchid=1900000001");
    let authorization = request.headers.iter().find(|(name, _)| name == "authorization").unwrap();
    let (nonce, sent) = ("ab".repeat(16), authorization.1.to_str().unwrap());
    let text = format!("GET\n/base/v3/pay/transactions/out-trade-no/O-1?mchid=1900000001\n1795232280\n{nonce}\n\n");
    let signature = RsaSigner::new(&key()).sign(text.as_bytes());
    assert_eq!(
        sent,
        format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"1900000001\",nonce_str=\"{nonce}\",timestamp=\"1795232280\",\
             serial_no=\"x\",signature=\"{signature}\""
        )
    );
    assert!(!format!("{:?} {:?}", request, request.headers).contains("signature"), "nothing of it is shown");

    let stripe = api(&stripe::PROVIDER);
    let request = stripe.request(&Call::Refund(AskedRefund { payment_no: "ch_1".into(), ..refund() }), at());
    assert_eq!(request.body, b"charge=ch%5F1&amount=5&metadata%5Bout%5Frefund%5Fno%5D=R%2D1");
    assert_eq!(stripe.request(&Call::Query(order()), at()).url, "http://127.0.0.1:1/base/v1/payment_intents/pi_1");
}

#[test]
fn an_answer_of_alipay_counts_only_with_its_signature() {
    let alipay = api(&alipay::PROVIDER);
    let read = |call: &Call, node: &str, signs: &str| {
        let name = if matches!(call, Call::Query(_)) { "query" } else { "refund" };
        let sign = RsaSigner::new(&key()).sign(signs.as_bytes());
        let body = format!("{{\"alipay_trade_{name}_response\":{node},\"sign\":\"{sign}\"}}");
        alipay.read(call, &answered(200, &body, &[]))
    };
    let paid = r#"{"code":"10000","out_trade_no":"O-1","trade_no":"T1","trade_status":"TRADE_SUCCESS","total_amount":"10.05"}"#;
    let query = Call::Query(order());
    let Ok(Meaning::Decided(event)) = read(&query, paid, paid) else { panic!("it is paid") };
    assert_eq!((event.kind, &event.effect, &*event.key), (Kind::Payment, &Effect::Book, "T1"));
    assert_eq!((event.amount, &*event.account), (Some(Amount::Exact(1_005)), "app"));
    assert!(read(&query, paid, "another").is_err());
    assert!(read(&query, &paid.replace("O-1", "O-2"), &paid.replace("O-1", "O-2")).is_err());
    let ours = paid.replace("\"code\"", "\"refund_fee\":\"0.05\",\"fund_change\":\"Y\",\"code\"");
    let Ok(Meaning::Decided(event)) = read(&Call::Refund(refund()), &ours, &ours) else { panic!("it is refunded") };
    assert_eq!((event.kind, &*event.key, event.amount), (Kind::Refund, "T1/R-1", Some(Amount::Cumulative(5))));
    let again = ours.replace("\"Y\"", "\"N\"");
    assert_eq!(read(&Call::Refund(refund()), &again, &again), Ok(Meaning::Ask));
    let busy = r#"{"code":"20000","sub_code":"isp.unknow-error"}"#;
    assert_eq!(read(&query, busy, busy), Err(Trouble::new("it answered 200 isp.unknow-error")));
    let refused = r#"{"code":"40004","sub_code":"ACQ.SELLER_BALANCE_NOT_ENOUGH","sub_msg":"余额不足"}"#;
    assert!(matches!(read(&Call::Refund(refund()), refused, refused), Ok(Meaning::Refused(_))));
    assert!(read(&Call::Refund(refund()), refused, "unsigned").is_err());
}

#[test]
fn an_answer_of_wechat_pay_counts_only_with_its_signature_and_in_time() {
    let wechat = api(&wechatpay::PROVIDER);
    let signed = |status: u16, body: &str, time: u64| {
        let text = format!("{time}\nn\n{body}\n");
        answered(
            status,
            body,
            &[
                ("wechatpay-timestamp", time.to_string()),
                ("wechatpay-nonce", "n".to_owned()),
                ("wechatpay-serial", "s1".to_owned()),
                ("wechatpay-signature", RsaSigner::new(&key()).sign(text.as_bytes())),
            ],
        )
    };
    let (now, query) = (NOW / 1_000, Call::Query(order()));
    let paid = r#"{"out_trade_no":"O-1","transaction_id":"T1","trade_state":"SUCCESS","amount":{"total":1005}}"#;
    let Ok(Meaning::Decided(event)) = wechat.read(&query, &signed(200, paid, now)) else { panic!("it is paid") };
    assert_eq!((event.kind, &*event.key, event.amount), (Kind::Payment, "T1", Some(Amount::Exact(1_005))));
    for bad in [signed(200, paid, now - 300), answered(200, paid, &[]), signed(200, &paid.replace("O-1", "O-2"), now)] {
        assert!(wechat.read(&query, &bad).is_err());
    }
    let closed =
        r#"{"refund_id":"F1","out_refund_no":"R-1","transaction_id":"T1","status":"CLOSED","amount":{"refund":5}}"#;
    let Ok(Meaning::Decided(event)) = wechat.read(&Call::Refund(refund()), &signed(200, closed, now)) else {
        panic!("it has failed")
    };
    assert_eq!(event.effect, Effect::Fail);
    let busy = r#"{"code":"FREQUENCY_LIMITED","message":"x"}"#;
    assert!(wechat.read(&Call::Refund(refund()), &answered(429, busy, &[])).is_err());
    let missing = r#"{"code":"ORDER_NOT_EXIST","message":"x"}"#;
    assert_eq!(wechat.read(&query, &answered(404, missing, &[])), Ok(Meaning::Open { number: None }));

    let bill = r#"{"hash_type":"SHA1","hash_value":"AB","download_url":"http://HOST/bill?token=1"}"#;
    let link = |host: &str| wechat.bill_link(&signed(200, &bill.replace("HOST", host), now), at());
    assert_eq!(
        link("127.0.0.1:1").map(|link| (link.request.url, link.sha1)).ok(),
        Some(("http://127.0.0.1:1/bill?token=1".into(), "ab".into()))
    );
    for host in ["127.0.0.1", "127.0.0.1:1@evil.example", "evil.example"] {
        assert!(link(host).is_err(), "{host}");
    }
}

#[test]
fn an_answer_of_stripe_is_read_as_its_event() {
    let stripe = api(&stripe::PROVIDER);
    let read = |call: &Call, status: u16, body: &str| stripe.read(call, &answered(status, body, &[]));
    let paid = r#"{"id":"pi_1","status":"succeeded","amount":9,"amount_received":1005,"currency":"usd","metadata":{}}"#;
    let Ok(Meaning::Decided(event)) = read(&Call::Query(order()), 200, paid) else { panic!("it is paid") };
    assert_eq!((event.kind, &*event.key, event.amount), (Kind::Payment, "pi_1", Some(Amount::Exact(1_005))));
    assert_eq!((event.out_trade_no.as_deref(), &*event.account), (Some("O-1"), "merchant:shop"));
    assert!(read(&Call::Query(order()), 200, &paid.replace("pi_1", "pi_2")).is_err());
    assert!(read(&Call::Query(order()), 200, &paid.replace("{}", "{\"out_trade_no\":\"O-2\"}")).is_err());
    let canceled = paid.replace("succeeded", "canceled");
    let Ok(Meaning::Decided(event)) = read(&Call::Query(order()), 200, &canceled) else { panic!("it is closed") };
    assert_eq!(event.effect, Effect::Close);
    let error = |kind: &str| format!("{{\"error\":{{\"type\":\"{kind}\",\"message\":\"m\"}}}}");
    for (status, kind, is_final) in [
        (402, "card_error", true),
        (400, "invalid_request_error", true),
        (401, "invalid_request_error", false),
        (409, "idempotency_error", false),
        (429, "rate_limit", false),
        (500, "api_error", false),
    ] {
        let meaning = read(&Call::Refund(refund()), status, &error(kind));
        assert_eq!(matches!(meaning, Ok(Meaning::Refused(_))), is_final, "{status}");
        assert_eq!(meaning.is_err(), !is_final, "{status}");
    }
}

#[test]
fn an_address_is_one_of_http_without_more() {
    for (text, read) in
        [("https://api.stripe.com/", Some("https://api.stripe.com")), ("http://h:1/a.do", Some("http://h:1/a.do"))]
    {
        assert_eq!(address(text).ok().as_deref(), read);
    }
    for text in ["", "api.stripe.com", "ftp://h", "https://", "https://u:p@h", "https://h/?a=1", "https://h/#a", "/a"] {
        assert!(address(text).is_err(), "{text}");
    }
}
