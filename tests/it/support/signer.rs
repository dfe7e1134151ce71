//! Callbacks signed by software that is not ours: the providers' own libraries, in one Python process for all tests.
//!
//! Keys are made by the signer at its start and end with it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, LazyLock};

use base::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::python::environment;

/// A callback as a provider sends it.
#[derive(Clone, Debug)]
pub struct Callback {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Callback {
    /// The same with another header.
    pub fn with(mut self, name: &str, value: &str) -> Callback {
        self.headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// The same without a header.
    pub fn without(mut self, name: &str) -> Callback {
        self.headers.remove(name);
        self
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// A key of the signer: `first` or `second`.
#[derive(Clone, Debug)]
pub struct Public {
    /// As a provider hands it out.
    pub pem: String,
    /// As the configuration keeps it.
    pub rsa: Secret,
}

/// A notification of Alipay.
#[derive(Clone, Debug)]
pub struct Alipay<'a> {
    /// `first` or `second`.
    pub key: &'a str,
    /// `utf-8` or `gbk`.
    pub charset: &'a str,
    /// `RSA2` or `RSA`.
    pub sign_type: &'a str,
    /// Whether `sign_type` is signed too.
    pub signs_type: bool,
    /// In the order sent.
    pub fields: &'a [(&'a str, &'a str)],
}

/// A notification of WeChat Pay.
#[derive(Clone, Debug)]
pub struct WechatPay<'a> {
    /// `first` or `second`.
    pub key: &'a str,
    /// The key's.
    pub serial: &'a str,
    /// 32 characters.
    pub api_v3_key: &'a str,
    /// In seconds since 1970.
    pub time: u64,
    /// The notification's own.
    pub id: &'a str,
    /// `TRANSACTION.SUCCESS` …
    pub event_type: &'a str,
    /// Left out where there is none.
    pub associated_data: Option<&'a str>,
    /// What is encrypted.
    pub resource: Value,
}

/// The process.
pub struct Signer {
    child: Child,
    pipe: (ChildStdin, BufReader<ChildStdout>),
    hello: Value,
}

static SIGNER: LazyLock<Arc<Mutex<Signer>>> = LazyLock::new(|| Arc::new(Mutex::new(Signer::start())));

/// A key the signer made.
pub fn public(name: &str) -> Public {
    let signer = SIGNER.lock();
    let key = &signer.hello["rsa"][name];
    let rsa = Secret(Arc::from(STANDARD.decode(key["pkcs1"].as_str().unwrap()).unwrap()));
    Public { pem: key["pem"].as_str().unwrap().to_owned(), rsa }
}

/// The signer's ed25519 key.
pub fn ed25519() -> [u8; 32] {
    STANDARD.decode(SIGNER.lock().hello["ed25519"].as_str().unwrap()).unwrap().try_into().unwrap()
}

/// Signed by `stripe`.
pub fn stripe(secret: &str, time: u64, body: &str) -> Callback {
    sign(json!({"provider": "stripe", "secret": secret, "time": time, "body": body}))
}

/// Signed by `standardwebhooks`, or, for `v1a`, by `cryptography`.
pub fn webhook(version: &str, secret: &str, id: &str, time: u64, body: &str) -> Callback {
    let request = json!({"provider": "standardwebhooks", "version": version, "secret": secret});
    sign(with(request, json!({"id": id, "time": time, "body": body})))
}

/// Encrypted by `cryptography`, signed by `wechatpayv3`.
pub fn wechatpay(message: &WechatPay<'_>) -> Callback {
    sign(with(
        json!({
            "provider": "wechatpay",
            "key": message.key,
            "serial": message.serial,
            "api_v3_key": message.api_v3_key,
            "time": message.time,
            "nonce": "593BEC0C930BF1AFEB40B4A08C8FB242",
        }),
        json!({
            "id": message.id,
            "create_time": "2018-06-08T10:34:56+08:00",
            "event_type": message.event_type,
            "associated_data": message.associated_data,
            "resource_nonce": "fdasflkja484",
            "resource": message.resource,
        }),
    ))
}

/// Signed by `alipay-sdk-python`.
pub fn alipay(message: &Alipay<'_>) -> Callback {
    let fields: serde_json::Map<String, Value> =
        message.fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    sign(json!({
        "provider": "alipay",
        "key": message.key,
        "charset": message.charset,
        "sign_type": message.sign_type,
        "signs_type": message.signs_type,
        "fields": fields,
    }))
}

/// Whether the provider's library takes a callback; `settings` are those the callback was signed with.
pub fn is_genuine(provider: &str, settings: Value, callback: &Callback) -> bool {
    let headers: serde_json::Map<String, Value> = (callback.headers.iter())
        .map(|(name, value)| (name.as_str().to_owned(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    let request =
        json!({"act": "verify", "provider": provider, "headers": headers, "body": STANDARD.encode(&callback.body)});
    let answer = SIGNER.lock().ask(&with(request, settings));
    answer["ok"].as_bool().expect("an answer of the signer")
}

fn with(mut one: Value, other: Value) -> Value {
    let (Some(one_map), Value::Object(other)) = (one.as_object_mut(), other) else { panic!("two objects") };
    one_map.extend(other);
    one
}

fn sign(request: Value) -> Callback {
    let answer = SIGNER.lock().ask(&with(request, json!({"act": "sign"})));
    let headers = answer["headers"].as_object().expect("headers").iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value.as_str().unwrap()).unwrap())
    });
    let body = STANDARD.decode(answer["body"].as_str().expect("a body")).unwrap();
    Callback { headers: headers.collect(), body: body.into() }
}

impl Signer {
    fn start() -> Signer {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(environment("signers"))
            .arg(root.join("tests/signers/sign.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the signer starts");
        let pipe = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut signer = Signer { child, pipe, hello: Value::Null };
        signer.hello = signer.hear();
        signer
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.pipe.0, "{request}").expect("the signer listens");
        self.hear()
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.pipe.1.read_line(&mut line).expect("the signer answers");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the signer ended: {:?}", self.child.try_wait()))
    }
}
