//! WeChat Pay's API, version 3: JSON, requests signed by our certificate's key, answers by the platform's.
//!
//! An order is created by `native`: its QR code needs no page of ours. An answer of success must be signed, within five
//! minutes; one of an error that has no signature at all is taken as its own libraries take it, since TLS vouches for it.
//! What an answer says of a payment or a refund has the fields of the callback about it, and is read by the same code.

use http::{HeaderName, Method};
use serde_json::json;

use super::{MCHID, PLATFORM_KEYS, Resource, WINDOW_MS, WechatPay, WechatPayMessage};
use crate::api::{
    Answer, Api, ApiRequest, Base, BillLink, Call, Meaning, Moment, NOTIFY_URL, Outgoing, Pay, Refused, Trouble,
    segment,
};
use crate::configured::{ACCOUNT, ConfigKey, Need, Shape, Values};
use crate::event::{Effect, ProviderEvent};
use crate::json::{self, pick};
use crate::keyed::window;
use crate::normalise::{self, NAME_MAX};
use crate::signing::{PRIVATE_FILE, RsaSigner};

/// How its channels are called.
pub const OUTGOING: Outgoing = Outgoing {
    needs: &[&PRIVATE_KEY, &NOTIFY_URL, &SERIAL, &APP_ID],
    same_for_ms: None,
    takes: |_| true,
    prepare: |values, _, base| Box::new(WechatPayApi::new(values, base)),
};

/// Our key.
pub const PRIVATE_KEY: ConfigKey = ConfigKey {
    name: "private_key_file",
    about: "With api_url: file with our RSA private key (PEM or bare base64), which signs requests.",
    shape: Shape::File(PRIVATE_FILE),
    need: Need::Optional,
};

/// The serial of our certificate.
pub const SERIAL: ConfigKey = ConfigKey {
    name: "serial",
    about: "With api_url: the serial of our certificate, whose private key signs requests.",
    shape: Shape::Text(ACCOUNT),
    need: Need::Optional,
};

/// Our app.
pub const APP_ID: ConfigKey = ConfigKey {
    name: "app_id",
    about: "With api_url: the app_id for which orders are created.",
    shape: Shape::Text(ACCOUNT),
    need: Need::Optional,
};

/// Codes of an error that another try, or another configuration, may mend.
const PASSING: [&str; 7] = [
    "SYSTEM_ERROR",
    "SIGN_ERROR",
    "NO_AUTH",
    "FREQUENCY_LIMITED",
    "FREQUENCY_LIMIT_EXCEED",
    "RATELIMIT_EXCEEDED",
    "BANK_ERROR",
];

/// The API, as one of its merchants calls it.
#[derive(Debug)]
struct WechatPayApi {
    base: Base,
    mchid: String,
    app_id: String,
    notify_url: String,
    serial: String,
    /// The platform key by which answers are asked to be signed.
    platform: String,
    signer: Option<RsaSigner>,
    verifier: WechatPay,
}

impl WechatPayApi {
    fn new(values: &Values, base: Base) -> WechatPayApi {
        let text = |key| values.text(key).unwrap_or_default().to_owned();
        WechatPayApi {
            base,
            mchid: text(&MCHID),
            app_id: text(&APP_ID),
            notify_url: text(&NOTIFY_URL),
            serial: text(&SERIAL),
            platform: values.serials(&PLATFORM_KEYS).first().map(|(serial, _)| serial.clone()).unwrap_or_default(),
            signer: values.files(&PRIVATE_KEY).first().map(RsaSigner::new),
            verifier: WechatPay::new(values),
        }
    }

    /// The `Authorization` of a request.
    fn authorization(&self, method: &Method, path: &str, body: &str, at: Moment) -> String {
        let (time, nonce) = (at.now_ms / 1_000, base::hex::encode(&at.nonce));
        let text = format!("{method}\n{path}\n{time}\n{nonce}\n{body}\n");
        let signature = self.signer.as_ref().map(|key| key.sign(text.as_bytes())).unwrap_or_default();
        format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"{}\",nonce_str=\"{nonce}\",timestamp=\"{time}\",serial_no=\"{}\",\
             signature=\"{signature}\"",
            self.mchid, self.serial
        )
    }

    fn signed(&self, method: Method, (url, path): (String, String), body: String, at: Moment) -> ApiRequest {
        let authorization = self.authorization(&method, &path, &body, at);
        let request = ApiRequest::new(method, url, Some(authorization), "application/json", body.into_bytes());
        request.with(HeaderName::from_static("wechatpay-serial"), &self.platform)
    }

    /// Verifies who sent an answer, and when.
    fn verified(&self, answer: &Answer) -> Result<(), Trouble> {
        let is_error = !(200..300).contains(&answer.status);
        if is_error && !answer.received.headers.contains_key("wechatpay-signature") {
            return Ok(());
        }
        let why = "its answer is not signed by one of platform_keys";
        let at_ms = self.verifier.sender(&answer.received).map_err(|_| Trouble::new(why))?;
        window(at_ms, answer.received.at_ms, |skew_ms| skew_ms.abs() < WINDOW_MS)
            .map_err(|_| Trouble::new("its answer was signed five minutes or more away from this clock"))
    }

    /// What an error means.
    fn refusal(&self, call: &Call, answer: &Answer) -> Result<Meaning, Trouble> {
        let found = pick(&answer.received.body, &[&["code"], &["message"]]).unwrap_or_default();
        let (code, message) = (json::text(found[0]), json::text(found[1]));
        let code = code.as_deref().unwrap_or_default();
        let is_final = matches!(answer.status, 400 | 403 | 404) && !code.is_empty() && !PASSING.contains(&code);
        match call {
            Call::Create(_) if code == "ORDERPAID" => Ok(Meaning::Ask),
            Call::Query(_) | Call::QueryRefund(_) if answer.status == 404 => Ok(Meaning::Open { number: None }),
            Call::Create(_) | Call::Refund(_) if is_final => {
                Ok(Meaning::Refused(Refused::new(Some(code), message.as_deref())))
            }
            _ => Err(Trouble::status(answer.status, Some(code).filter(|code| !code.is_empty()))),
        }
    }

    /// A payment or a refund, read as the callback about it.
    fn decided(&self, event_type: &str, resource: Resource, body: &[u8]) -> Meaning {
        let message = WechatPayMessage { id: None, event_type: Some(event_type.into()), create_time: None, resource };
        Meaning::Decided(Box::new(message.event(body, &self.mchid)))
    }

    fn order(&self, out_trade_no: &str, resource: Resource, body: &[u8]) -> Result<Meaning, Trouble> {
        if resource.out_trade_no.as_deref() != Some(out_trade_no) {
            return Err(Trouble::new("its answer is about another order"));
        }
        match resource.state.as_deref() {
            // REFUND: it was paid, and something of it was given back.
            Some("SUCCESS" | "REFUND") => {
                let resource = Resource { state: Some("SUCCESS".to_owned()), ..resource };
                Ok(self.decided("TRANSACTION.SUCCESS", resource, body))
            }
            Some("CLOSED" | "REVOKED") => {
                let about = resource.transaction_id.as_deref().unwrap_or(out_trade_no);
                let key = normalise::note_key(Some(about), "TRADE_CLOSED", body);
                let note = normalise::Note {
                    account: (&*self.mchid).into(),
                    key,
                    number: resource.transaction_id.map(Into::into),
                    out_trade_no: Some(out_trade_no.into()),
                    occurred_ms: None,
                };
                Ok(Meaning::Decided(Box::new(ProviderEvent { effect: Effect::Close, ..note.event() })))
            }
            Some("NOTPAY" | "USERPAYING" | "ACCEPT" | "PAYERROR") => {
                Ok(Meaning::Open { number: resource.transaction_id })
            }
            _ => Err(Trouble::new("its answer has an unknown trade_state")),
        }
    }

    fn refund(&self, out_refund_no: &str, body: &[u8]) -> Result<Meaning, Trouble> {
        let no_object = || Trouble::new("its answer is no JSON object");
        let [status] = pick(body, &[&["status"]]).ok_or_else(no_object)?;
        let status = json::text(status).unwrap_or_default();
        let resource = Resource::read(body).ok_or_else(no_object)?;
        if resource.out_refund_no.as_deref() != Some(out_refund_no) {
            return Err(Trouble::new("its answer is about another refund"));
        }
        match &*status {
            "SUCCESS" | "CLOSED" | "ABNORMAL" => {
                let event_type = format!("REFUND.{status}");
                let resource = Resource { refund_status: Some(status.into_owned()), ..resource };
                Ok(self.decided(&event_type, resource, body))
            }
            "PROCESSING" => {
                let number = resource.refund_id.filter(|number| number.len() <= NAME_MAX);
                Ok(Meaning::Open { number })
            }
            _ => Err(Trouble::new("its answer has an unknown status")),
        }
    }
}

impl Api for WechatPayApi {
    fn request(&self, call: &Call, at: Moment) -> ApiRequest {
        match call {
            Call::Create(order) => {
                let body = json!({
                    "appid": self.app_id,
                    "mchid": self.mchid,
                    "description": order.out_trade_no,
                    "out_trade_no": order.out_trade_no,
                    "notify_url": self.notify_url,
                    "amount": { "total": order.amount_minor, "currency": order.currency },
                });
                self.signed(Method::POST, self.base.join("/v3/pay/transactions/native"), body.to_string(), at)
            }
            Call::Query(order) => {
                let number = segment(&order.out_trade_no);
                let path = format!("/v3/pay/transactions/out-trade-no/{number}?mchid={}", self.mchid);
                self.signed(Method::GET, self.base.join(&path), String::new(), at)
            }
            Call::Refund(refund) => {
                let amount = json!({
                    "refund": refund.amount_minor,
                    "total": refund.paid_minor,
                    "currency": refund.currency,
                });
                let body = json!({
                    "transaction_id": refund.payment_no,
                    "out_refund_no": refund.out_refund_no,
                    "notify_url": self.notify_url,
                    "amount": amount,
                });
                self.signed(Method::POST, self.base.join("/v3/refund/domestic/refunds"), body.to_string(), at)
            }
            Call::QueryRefund(refund) => {
                let path = format!("/v3/refund/domestic/refunds/{}", segment(&refund.out_refund_no));
                self.signed(Method::GET, self.base.join(&path), String::new(), at)
            }
        }
    }

    fn read(&self, call: &Call, answer: &Answer) -> Result<Meaning, Trouble> {
        self.verified(answer)?;
        let body = &answer.received.body;
        if !(200..300).contains(&answer.status) {
            return self.refusal(call, answer);
        }
        let no_object = || Trouble::new("its answer is no JSON object");
        match call {
            Call::Create(_) => {
                let [code] = pick(body, &[&["code_url"]]).ok_or_else(no_object)?;
                let code = json::text(code).filter(|code| !code.is_empty());
                let code = code.ok_or_else(|| Trouble::new("its answer has no code_url"))?;
                Ok(Meaning::Created { pay: Pay::Qr(code.into_owned()), number: None })
            }
            Call::Query(order) => self.order(&order.out_trade_no, Resource::read(body).ok_or_else(no_object)?, body),
            Call::Refund(refund) | Call::QueryRefund(refund) => self.refund(&refund.out_refund_no, body),
        }
    }

    fn bill(&self, date: &str, at: Moment) -> Option<ApiRequest> {
        let path = format!("/v3/bill/tradebill?bill_date={}", segment(date));
        Some(self.signed(Method::GET, self.base.join(&path), String::new(), at))
    }

    fn bill_link(&self, answer: &Answer, at: Moment) -> Result<BillLink, Trouble> {
        self.verified(answer)?;
        let found = pick(&answer.received.body, &[&["download_url"], &["hash_type"], &["hash_value"], &["code"]]);
        let [url, kind, hash, code] = found.ok_or_else(|| Trouble::new("its answer is no JSON object"))?;
        if answer.status != 200 {
            return Err(Trouble::status(answer.status, json::text(code).as_deref()));
        }
        if json::text(kind).as_deref() != Some("SHA1") {
            return Err(Trouble::new("its bill has no SHA1"));
        }
        let sha1 = json::text(hash).map(|hash| hash.to_ascii_lowercase());
        let sha1 = sha1.ok_or_else(|| Trouble::new("its bill has no SHA1"))?;
        let url = json::text(url).unwrap_or_default().into_owned();
        let path =
            self.base.path_of(&url).ok_or_else(|| Trouble::new("its bill lies on another server than api_url"))?;
        Ok(BillLink { request: self.signed(Method::GET, (url, path), String::new(), at), sha1 })
    }
}
