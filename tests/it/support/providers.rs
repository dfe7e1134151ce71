//! The five payment providers as they call: their messages, signed now with keys of this run.
//!
//! What a callback means is fixed by its fields; only signatures, nonces and the times within them differ from one
//! sending to the next. Every message carries what is personal ([`PLANTED`]), which nobody may find later. The RSA keys
//! are made by `openssl`, once a run: `ring` cannot.

use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{aead, hmac, signature};
use serde_json::{Value, json};

use super::client::{Answer, Request, post};

/// A channel, each of another provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    Alipay,
    Wechat,
    Card,
    Standard,
    Generic,
}

/// All of them.
pub const CHANNELS: [Channel; 5] =
    [Channel::Alipay, Channel::Wechat, Channel::Card, Channel::Standard, Channel::Generic];

/// Personal things: the first four stand in bodies, the last in a header.
pub const PLANTED: [&str; 5] =
    ["Zhang Weimin", "payer.planted@example.org", "4242424242424242", "+8613912345678", "note-planted-in-a-header"];

/// Ours, at Alipay.
pub const APP_ID: &str = "2021000000000001";
/// Ours, at Alipay.
pub const SELLER_ID: &str = "2088000000000001";
/// Ours, at WeChat Pay.
pub const MCHID: &str = "1900000001";
/// Names WeChat Pay's key.
pub const SERIAL: &str = "PUB_KEY_ID_0119000000012026010100000000000001";

impl Channel {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Alipay => "alipay",
            Channel::Wechat => "wechat",
            Channel::Card => "card",
            Channel::Standard => "standard",
            Channel::Generic => "generic",
        }
    }

    /// What its payers pay in; yen have no smaller unit.
    pub fn currency(self) -> &'static str {
        match self {
            Channel::Alipay | Channel::Wechat => "CNY",
            Channel::Card => "USD",
            Channel::Standard => "EUR",
            Channel::Generic => "JPY",
        }
    }

    /// Whether the provider would take this answer for a success.
    pub fn is_acknowledged(self, answer: &Answer) -> bool {
        let body = || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        answer.status == 200
            && match self {
                Channel::Alipay => answer.body == b"success",
                Channel::Wechat => body()["code"] == "SUCCESS",
                Channel::Card | Channel::Standard | Channel::Generic => body()["received"] == true,
            }
    }
}

/// What the provider and we know.
pub struct Keys {
    pub alipay: Rsa,
    pub wechat: Rsa,
    pub api_v3: String,
    pub stripe: String,
    pub standard: String,
    pub generic: String,
}

/// A provider's own key.
pub struct Rsa {
    pair: signature::RsaKeyPair,
    /// The half that we hold.
    pub public_pem: String,
}

impl Rsa {
    fn make() -> Rsa {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).arg(&path).output();
            let output = output.expect("openssl is missing; install it: sudo apt-get install openssl");
            assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]);
        let public = openssl(&["pkey", "-pubout", "-in"]);
        // PKCS#8, which only the PEM form is for sure.
        let pem = std::fs::read_to_string(&path).unwrap();
        let inner: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let pair = signature::RsaKeyPair::from_pkcs8(&BASE64_STANDARD.decode(inner).unwrap()).unwrap();
        Rsa { pair, public_pem: String::from_utf8(public).unwrap() }
    }

    fn sign(&self, text: &[u8]) -> String {
        let mut signature = vec![0; self.pair.public().modulus_len()];
        self.pair.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
        BASE64_STANDARD.encode(signature)
    }
}

/// The keys of this run.
pub fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        alipay: Rsa::make(),
        wechat: Rsa::make(),
        api_v3: hex(&random::<16>()),
        stripe: secret(),
        standard: secret(),
        generic: hex(&random::<24>()),
    })
}

/// `whsec_…`
pub fn secret() -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(random::<32>()))
}

/// Bytes that nobody knows.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

/// Lower-case digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA256
pub fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

/// The bytes of `whsec_…`, as Standard Webhooks takes them.
pub fn standard_key(secret: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(secret.trim_start_matches("whsec_")).unwrap()
}

/// A payment, or one of its refunds, as its provider tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Callback {
    pub channel: Channel,
    /// None: the payment itself.
    pub refund: Option<Refund>,
    /// The provider's number of the payment.
    pub payment: String,
    pub out_trade_no: String,
    /// What was paid.
    pub total: i64,
}

/// A refund.
#[derive(Clone, Debug, PartialEq)]
pub struct Refund {
    /// The provider's number of it.
    pub number: String,
    pub amount: i64,
    /// With all refunds before it.
    pub cumulative: i64,
}

impl Callback {
    /// A payment of the generic channel, whose message carries no time; `p{name}` of the order `o{name}`.
    pub fn generic(name: &str) -> Callback {
        let (payment, out_trade_no) = (format!("p{name}"), format!("o{name}"));
        Callback { channel: Channel::Generic, refund: None, payment, out_trade_no, total: 1_000 }
    }

    /// `payment` or `refund`
    pub fn kind(&self) -> &'static str {
        if self.refund.is_some() { "refund" } else { "payment" }
    }

    /// `channel_txn_no`
    pub fn number(&self) -> &str {
        self.refund.as_ref().map_or(&self.payment, |refund| &refund.number)
    }

    /// By itself.
    pub fn amount(&self) -> i64 {
        self.refund.as_ref().map_or(self.total, |refund| refund.amount)
    }

    /// Signed now.
    pub fn request(&self) -> Request {
        let request = match self.channel {
            Channel::Alipay => self.alipay(),
            Channel::Wechat => self.wechat(),
            Channel::Card => self.stripe(),
            Channel::Standard => self.standard(),
            Channel::Generic => {
                let body = json!({"id": self.number(), "out_trade_no": self.out_trade_no, "kind": self.kind(),
                    "amount_minor": self.amount(), "currency": self.channel.currency(), "payer": payer()});
                let body = body.to_string();
                let signature = hex(&mac(keys().generic.as_bytes(), body.as_bytes()));
                self.post(body).header("content-type", "application/json").header("x-signature", signature)
            }
        };
        request.header("x-note", PLANTED[4])
    }

    fn post(&self, body: impl Into<Vec<u8>>) -> Request {
        post(&format!("/callbacks/{}", self.channel.name()), body)
    }

    fn alipay(&self) -> Request {
        let yuan = |fen: i64| format!("{}.{:02}", fen / 100, fen % 100);
        let mut fields = vec![
            ("app_id", APP_ID.to_owned()),
            ("buyer_logon_id", PLANTED[1].to_owned()),
            ("buyer_name", PLANTED[0].to_owned()),
            ("charset", "utf-8".to_owned()),
            ("gmt_payment", "2026-01-02 11:04:05".to_owned()),
            ("notify_id", format!("n{}", self.number())),
            ("notify_time", "2026-01-02 11:04:06".to_owned()),
            ("notify_type", "trade_status_sync".to_owned()),
            ("out_trade_no", self.out_trade_no.clone()),
            ("passback_params", format!("{} {}", PLANTED[2], PLANTED[3])),
            ("seller_id", SELLER_ID.to_owned()),
            ("total_amount", yuan(self.total)),
            ("trade_no", self.payment.clone()),
            ("version", "1.0".to_owned()),
        ];
        let mut status = "TRADE_SUCCESS";
        if let Some(refund) = &self.refund {
            fields.push(("gmt_refund", "2026-01-03 11:04:05.123".to_owned()));
            fields.push(("out_biz_no", refund.number.clone()));
            fields.push(("refund_fee", yuan(refund.cumulative)));
            if refund.cumulative == self.total {
                status = "TRADE_CLOSED";
            }
        }
        fields.push(("trade_status", status.to_owned()));
        fields.sort_unstable();
        let text: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        fields.push(("sign", keys().alipay.sign(text.join("&").as_bytes())));
        fields.push(("sign_type", "RSA2".to_owned()));
        let form: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        self.post(form.join("&")).header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
    }

    fn wechat(&self) -> Request {
        let (kind, plain) = match &self.refund {
            None => (
                "TRANSACTION.SUCCESS",
                json!({"mchid": MCHID, "appid": "wx0000000000000001", "out_trade_no": self.out_trade_no,
                    "transaction_id": self.payment, "trade_type": "JSAPI", "trade_state": "SUCCESS",
                    "success_time": "2026-01-02T11:04:05+08:00", "payer": payer(),
                    "amount": {"total": self.total, "payer_total": self.total, "currency": "CNY"}}),
            ),
            Some(refund) => (
                "REFUND.SUCCESS",
                json!({"mchid": MCHID, "out_trade_no": self.out_trade_no, "transaction_id": self.payment,
                    "out_refund_no": format!("o{}", refund.number), "refund_id": refund.number,
                    "refund_status": "SUCCESS", "success_time": "2026-01-03T11:04:05+08:00",
                    "user_received_account": PLANTED[2],
                    "amount": {"total": self.total, "refund": refund.amount, "payer_total": self.total,
                        "payer_refund": refund.amount}}),
            ),
        };
        let nonce = hex(&random::<6>());
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, keys().api_v3.as_bytes()).unwrap();
        let mut secret = plain.to_string().into_bytes();
        let place = aead::Nonce::try_assume_unique_for_key(nonce.as_bytes()).unwrap();
        aead::LessSafeKey::new(key)
            .seal_in_place_append_tag(place, aead::Aad::from("transaction"), &mut secret)
            .unwrap();
        let body = json!({"id": format!("n{}", self.number()), "create_time": "2026-01-02T11:04:06+08:00",
            "resource_type": "encrypt-resource", "event_type": kind, "summary": "paid",
            "resource": {"original_type": "transaction", "algorithm": "AEAD_AES_256_GCM", "nonce": nonce,
                "ciphertext": BASE64_STANDARD.encode(secret), "associated_data": "transaction"}});
        let (body, now, nonce) = (body.to_string(), seconds(), hex(&random::<16>()));
        self.post(body.clone())
            .header("content-type", "application/json")
            .header("wechatpay-timestamp", now)
            .header("wechatpay-nonce", &nonce)
            .header("wechatpay-serial", SERIAL)
            .header("wechatpay-signature-type", "WECHATPAY2-SHA256-RSA2048")
            .header("wechatpay-signature", keys().wechat.sign(format!("{now}\n{nonce}\n{body}\n").as_bytes()))
    }

    fn stripe(&self) -> Request {
        let now = seconds();
        let (kind, object) = match &self.refund {
            None => (
                "payment_intent.succeeded",
                json!({"id": self.payment, "object": "payment_intent", "amount": self.total,
                    "amount_received": self.total, "currency": "usd", "status": "succeeded",
                    "metadata": {"out_trade_no": self.out_trade_no}, "shipping": payer()}),
            ),
            Some(refund) => (
                "refund.created",
                json!({"id": refund.number, "object": "refund", "amount": refund.amount, "currency": "usd",
                    "payment_intent": self.payment, "charge": format!("ch_{}", self.payment),
                    "status": "succeeded", "metadata": {}, "destination": payer()}),
            ),
        };
        let body = json!({"id": format!("evt_{}", self.number()), "object": "event", "type": kind, "created": now,
            "data": {"object": object}});
        let body = body.to_string();
        let signature = hex(&mac(keys().stripe.as_bytes(), format!("{now}.{body}").as_bytes()));
        self.post(body)
            .header("content-type", "application/json")
            .header("stripe-signature", format!("t={now},v1={signature}"))
    }

    fn standard(&self) -> Request {
        let body = json!({"type": format!("{}.succeeded", self.kind()), "timestamp": "2026-01-02T03:04:05Z",
            "data": {"id": self.number(), "out_trade_no": self.out_trade_no, "amount_minor": self.amount(),
                "currency": self.channel.currency(), "payer": payer()}});
        let (body, now, id) = (body.to_string(), seconds(), format!("msg_{}", self.number()));
        let signature = mac(&standard_key(&keys().standard), format!("{id}.{now}.{body}").as_bytes());
        self.post(body)
            .header("content-type", "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(signature)))
    }
}

fn payer() -> Value {
    json!({"name": PLANTED[0], "email": PLANTED[1], "card": PLANTED[2], "phone": PLANTED[3], "openid": PLANTED[1]})
}

/// Since 1970.
pub fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
