//! Callbacks as Alipay, WeChat Pay and Stripe send them: a third each, in turn, each with a number of its own.
//!
//! Which of them is sent when is fixed too: each twentieth sending repeats an earlier one, byte for byte. They are
//! signed by all cores at once. Not covered: what the providers send besides payments.

use std::path::Path;
use std::sync::Arc;

use base::clock;
use base::secret::Secret;
use base64::prelude::{BASE64_STANDARD, Engine};
use config::model::ledger::Channel;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use providers::configured::{Configured, KeyValue};
use providers::{alipay, stripe, wechatpay};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{aead, hmac, signature};
use serde_json::json;

pub const APP_ID: &str = "2021000000000001";
pub const SELLER_ID: &str = "2088000000000001";
pub const MCHID: &str = "1900000001";
pub const SERIAL: &str = "PUB_KEY_ID_0119000000012026010100000000000001";

/// Channel, and the body of its success.
pub const PROVIDERS: [(&str, &[u8]); 3] =
    [("alipay", b"success"), ("wechat", br#"{"code":"SUCCESS","message":"OK"}"#), ("card", br#"{"received":true}"#)];

/// Of so many sendings one is a repetition.
pub const REPEATS: usize = 20;
/// How far back it goes, where there is so much: what it repeats has been answered by then.
const BACK: usize = 381;

/// A callback, signed.
pub struct Message {
    /// Its place in [`PROVIDERS`].
    pub provider: usize,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Message {
    /// As it goes over the wire.
    pub fn request(&self) -> Vec<u8> {
        let mut head = format!("POST /callbacks/{} HTTP/1.1\r\nhost: 127.0.0.1\r\n", PROVIDERS[self.provider].0);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n{}", self.body.len(), self.body));
        head.into_bytes()
    }
}

/// The providers' keys.
pub struct Keys {
    alipay: signature::RsaKeyPair,
    wechat: signature::RsaKeyPair,
    api_v3: String,
    stripe: String,
    /// Numbers of this process begin so.
    run: String,
}

impl Keys {
    /// Of a folder.
    pub fn read(folder: &Path) -> Result<Keys, String> {
        let text = |name: &str| {
            let read = std::fs::read_to_string(folder.join(name));
            read.map(|text| text.trim_end().to_owned()).map_err(|e| format!("{name}: {e}"))
        };
        let pair = |name: &str| {
            let inner: String = text(name)?.lines().filter(|line| !line.starts_with("-----")).collect();
            let der = BASE64_STANDARD.decode(inner).map_err(|e| format!("{name}: {e}"))?;
            signature::RsaKeyPair::from_pkcs8(&der).map_err(|e| format!("{name}: {e}"))
        };
        Ok(Keys {
            alipay: pair("alipay.key")?,
            wechat: pair("wechat.key")?,
            api_v3: text("apiv3.key")?,
            stripe: text("stripe.whsec")?,
            run: clock::wall_ms().to_string(),
        })
    }

    /// The channels as a ledger would have them, in the order of [`PROVIDERS`].
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        let public = |pair: &signature::RsaKeyPair| Secret(Arc::from(pair.public().as_ref()));
        let alipay_keys = [
            (&alipay::APP_ID, APP_ID.into()),
            (&alipay::SELLER_ID, SELLER_ID.into()),
            (&alipay::PUBLIC_KEYS, KeyValue::Files(vec![public(&self.alipay)])),
        ];
        let wechat_keys = [
            (&wechatpay::MCHID, MCHID.into()),
            (&wechatpay::API_V3_KEY, [self.api_v3.as_bytes()].into()),
            (&wechatpay::PLATFORM_KEYS, KeyValue::Serials(vec![(SERIAL.into(), public(&self.wechat))])),
        ];
        let providers = [
            Configured::new(&alipay::PROVIDER, alipay_keys),
            Configured::new(&wechatpay::PROVIDER, wechat_keys),
            Configured::new(&stripe::PROVIDER, [(&stripe::SECRETS, [self.stripe.as_bytes()].into())]),
        ];
        let channel = |(provider, (name, _)): (Configured, (&str, _))| {
            let (name, merchant) = (Arc::from(name), Arc::from("shop"));
            Arc::new(Channel { name, provider, merchant, require_order: false, fee: None, query_after: vec![] })
        };
        providers.into_iter().zip(PROVIDERS).map(channel).collect()
    }

    /// The message of this number.
    pub fn sign(&self, number: usize) -> Message {
        match number % PROVIDERS.len() {
            0 => self.alipay(number),
            1 => self.wechat(number),
            _ => self.stripe(number),
        }
    }

    /// The messages of these numbers, by all cores.
    pub fn sign_all<T: Send>(&self, from: usize, count: usize, form: impl Fn(Message) -> T + Sync) -> Vec<T> {
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let part = count.div_ceil(threads).max(1);
        let form = &form;
        std::thread::scope(|scope| {
            let parts: Vec<_> = (from..from + count)
                .step_by(part)
                .map(|first| {
                    let end = (first + part).min(from + count);
                    scope.spawn(move || (first..end).map(|number| form(self.sign(number))).collect::<Vec<T>>())
                })
                .collect();
            parts.into_iter().flat_map(|part| part.join().expect("signing does not fail")).collect()
        })
    }

    fn out_trade_no(&self, number: usize) -> String {
        format!("o{}{number:08}", self.run)
    }

    fn alipay(&self, number: usize) -> Message {
        let (fen, trade_no) = (amount(number), format!("20261121220014{}{number:08}", self.run));
        let yuan = format!("{}.{:02}", fen / 100, fen % 100);
        let fields = [
            ("app_id", APP_ID.to_owned()),
            ("auth_app_id", APP_ID.to_owned()),
            ("buyer_id", "2088102116773037".to_owned()),
            ("buyer_logon_id", "pay***@example.org".to_owned()),
            ("buyer_pay_amount", yuan.clone()),
            ("charset", "utf-8".to_owned()),
            ("fund_bill_list", format!(r#"[{{"amount":"{yuan}","fundChannel":"ALIPAYACCOUNT"}}]"#)),
            ("gmt_create", "2026-11-21 11:04:03".to_owned()),
            ("gmt_payment", "2026-11-21 11:04:05".to_owned()),
            ("invoice_amount", yuan.clone()),
            ("notify_id", format!("n{trade_no}")),
            ("notify_time", "2026-11-21 11:04:06".to_owned()),
            ("notify_type", "trade_status_sync".to_owned()),
            ("out_trade_no", self.out_trade_no(number)),
            ("point_amount", "0.00".to_owned()),
            ("receipt_amount", yuan.clone()),
            ("seller_email", "shop@example.org".to_owned()),
            ("seller_id", SELLER_ID.to_owned()),
            ("subject", "a thing and another".to_owned()),
            ("total_amount", yuan),
            ("trade_no", trade_no),
            ("trade_status", "TRADE_SUCCESS".to_owned()),
            ("version", "1.0".to_owned()),
        ];
        let text: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let sign = rsa(&self.alipay, text.join("&").as_bytes());
        let all = fields.into_iter().chain([("sign", sign), ("sign_type", "RSA2".to_owned())]);
        let form = all.map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)));
        let headers = vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())];
        Message { provider: 0, headers, body: form.collect::<Vec<_>>().join("&") }
    }

    fn wechat(&self, number: usize) -> Message {
        let transaction = format!("4200{}{number:08}", self.run);
        let plain = json!({"mchid": MCHID, "appid": "wx0000000000000001",
            "out_trade_no": self.out_trade_no(number), "transaction_id": transaction, "trade_type": "JSAPI",
            "trade_state": "SUCCESS", "trade_state_desc": "paid", "bank_type": "OTHERS", "attach": "",
            "success_time": "2026-11-21T11:04:05+08:00", "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
            "amount": {"total": amount(number), "payer_total": amount(number), "currency": "CNY",
                "payer_currency": "CNY"}});
        let mut secret = plain.to_string().into_bytes();
        let (inner, nonce) = (hex(&random::<6>()), hex(&random::<16>()));
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, self.api_v3.as_bytes()).expect("32 bytes");
        let place = aead::Nonce::try_assume_unique_for_key(inner.as_bytes()).expect("12 bytes");
        let sealed =
            aead::LessSafeKey::new(key).seal_in_place_append_tag(place, aead::Aad::from("transaction"), &mut secret);
        sealed.expect("a short text");
        let body = json!({"id": format!("EV-{transaction}"), "create_time": "2026-11-21T11:04:06+08:00",
            "resource_type": "encrypt-resource", "event_type": "TRANSACTION.SUCCESS", "summary": "paid",
            "resource": {"original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "nonce": inner,
                "ciphertext": BASE64_STANDARD.encode(secret), "associated_data": "transaction"}})
        .to_string();
        let now = clock::wall_ms() / 1000;
        let signature = rsa(&self.wechat, format!("{now}\n{nonce}\n{body}\n").as_bytes());
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("wechatpay-timestamp", now.to_string()),
            ("wechatpay-nonce", nonce),
            ("wechatpay-serial", SERIAL.to_owned()),
            ("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048".to_owned()),
            ("wechatpay-signature", signature),
        ];
        Message { provider: 1, headers, body }
    }

    fn stripe(&self, number: usize) -> Message {
        let (now, id) = (clock::wall_ms() / 1000, format!("{}{number:08}", self.run));
        let body = json!({"id": format!("evt_{id}"), "object": "event", "api_version": "2025-09-30.clover",
            "type": "payment_intent.succeeded", "created": now, "livemode": true, "pending_webhooks": 1,
            "data": {"object": {"id": format!("pi_{id}"), "object": "payment_intent", "amount": amount(number),
                "amount_capturable": 0, "amount_received": amount(number), "capture_method": "automatic",
                "confirmation_method": "automatic", "created": now, "currency": "usd", "customer": null,
                "description": null, "latest_charge": format!("ch_{id}"), "livemode": true,
                "metadata": {"out_trade_no": self.out_trade_no(number)}, "payment_method_types": ["card"],
                "receipt_email": "payer@example.org", "status": "succeeded"}}})
        .to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.stripe.as_bytes());
        let signature = hex(hmac::sign(&key, format!("{now}.{body}").as_bytes()).as_ref());
        let headers = vec![
            ("content-type", "application/json; charset=utf-8".to_owned()),
            ("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)".to_owned()),
            ("stripe-signature", format!("t={now},v1={signature}")),
        ];
        Message { provider: 2, headers, body }
    }
}

/// Which message each sending is, of `count` messages.
pub fn sendings(count: usize) -> Vec<usize> {
    let mut sendings: Vec<usize> = vec![];
    let mut fresh = 0;
    while fresh < count {
        let place = sendings.len();
        if place % REPEATS == REPEATS - 1 {
            sendings.push(sendings[if place >= BACK { place - BACK } else { place - 1 }]);
        } else {
            sendings.push(fresh);
            fresh += 1;
        }
    }
    sendings
}

fn amount(number: usize) -> i64 {
    100 + (number as i64 * 7919) % 1_000_000
}

fn rsa(pair: &signature::RsaKeyPair, text: &[u8]) -> String {
    let mut signature = vec![0; pair.public().modulus_len()];
    let signed = pair.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature);
    signed.expect("an RSA key signs");
    BASE64_STANDARD.encode(signature)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system's random numbers");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
