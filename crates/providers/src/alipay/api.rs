//! Alipay's gateway: one address for every call, parameters signed by RSA2, and answers whose node is signed as it stands.
//!
//! An order is created by `alipay.trade.precreate`: its QR code needs no page of ours. A refund's `refund_fee` is the sum
//! of all of its trade, as in callbacks. `fund_change` other than `Y` proves nothing, so the refund is queried then.
//!
//! All parameters go into the form of the body, which the gateway takes as well as a query.

use std::borrow::Cow;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use serde_json::value::RawValue;

use super::{APP_ID, Alipay, yuan};
use crate::api::{
    Answer, Api, ApiRequest, AskedOrder, AskedRefund, Base, Call, Meaning, Moment, NOTIFY_URL, Outgoing, Pay, Refused,
    Trouble,
};
use crate::configured::{ConfigKey, Need, Shape, Values};
use crate::event::{Amount, Effect, Kind, Of, ProviderEvent, Requested};
use crate::json::{self, pick};
use crate::normalise::{self, Money, Note};
use crate::signing::{PRIVATE_FILE, RsaSigner};
use base::units::Currency;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How its channels are called.
pub const OUTGOING: Outgoing = Outgoing {
    needs: &[&PRIVATE_KEY, &NOTIFY_URL],
    same_for_ms: None,
    takes: |currency| currency == Currency::CNY,
    prepare: |values, _, base| Box::new(AlipayApi::new(values, base)),
};

/// Our key.
pub const PRIVATE_KEY: ConfigKey = ConfigKey {
    name: "private_key_file",
    about: "With api_url: file with our app's RSA private key (PEM or bare base64), which signs requests.",
    shape: Shape::File(PRIVATE_FILE),
    need: Need::Optional,
};

/// The gateway, as one of its apps calls it.
#[derive(Debug)]
struct AlipayApi {
    gateway: Base,
    app_id: String,
    notify_url: String,
    signer: Option<RsaSigner>,
    verifier: Alipay,
}

/// A node of an answer, verified.
struct Node<'a> {
    fields: [Option<&'a RawValue>; 15],
}

const FIELDS: [&[&str]; 15] = [
    &["code"],
    &["sub_code"],
    &["sub_msg"],
    &["out_trade_no"],
    &["trade_no"],
    &["qr_code"],
    &["trade_status"],
    &["total_amount"],
    &["send_pay_date"],
    &["fund_change"],
    &["refund_fee"],
    &["out_request_no"],
    &["refund_status"],
    &["refund_amount"],
    &["gmt_refund_pay"],
];

/// Codes of a refusal that another try, or another configuration, may mend.
const PASSING: [&str; 8] = [
    "ACQ.SYSTEM_ERROR",
    "aop.ACQ.SYSTEM_ERROR",
    "isp.unknow-error",
    "isv.invalid-app-id",
    "isv.invalid-signature",
    "isv.invalid-signature-type",
    "isv.app-call-limited",
    "isv.insufficient-isv-permissions",
];

impl AlipayApi {
    fn new(values: &Values, gateway: Base) -> AlipayApi {
        AlipayApi {
            gateway,
            app_id: values.text(&APP_ID).unwrap_or_default().to_owned(),
            notify_url: values.text(&NOTIFY_URL).unwrap_or_default().to_owned(),
            signer: values.files(&PRIVATE_KEY).first().map(RsaSigner::new),
            verifier: Alipay::new(values),
        }
    }

    /// The body of a call: its parameters in the order in which they are signed, and the signature.
    fn form(&self, method: &str, biz_content: &str, notifies: bool, now_ms: u64) -> Vec<u8> {
        let timestamp = normalise::in_china(now_ms);
        let mut parameters = vec![
            ("app_id", &*self.app_id),
            ("biz_content", biz_content),
            ("charset", "utf-8"),
            ("format", "JSON"),
            ("method", method),
        ];
        if notifies {
            parameters.push(("notify_url", &self.notify_url));
        }
        parameters.extend([("sign_type", "RSA2"), ("timestamp", &*timestamp), ("version", "1.0")]);
        let text: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let sign = self.signer.as_ref().map(|key| key.sign(text.join("&").as_bytes())).unwrap_or_default();
        parameters.push(("sign", &sign));
        let encoded = |(name, value): (&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        parameters.into_iter().map(encoded).collect::<Vec<_>>().join("&").into_bytes()
    }

    /// The node of an answer, once its signature is verified.
    fn verified<'a>(&self, method: &str, answer: &'a Answer) -> Result<Node<'a>, Trouble> {
        if answer.status != 200 {
            return Err(Trouble::status(answer.status, None));
        }
        let name = format!("{}_response", method.replace('.', "_"));
        let found = pick(&answer.received.body, &[&[&*name], &["error_response"], &["sign"]]);
        let [node, error, sign] = found.ok_or_else(|| Trouble::new("its answer is no JSON object"))?;
        let node = node.or(error).ok_or_else(|| Trouble::new("its answer is about another call"))?;
        let signature = json::text(sign).and_then(|sign| STANDARD.decode(&*sign).ok());
        let is_signed = signature.is_some_and(|signature| self.verifier.is_signed(node.get().as_bytes(), &signature));
        let fields =
            pick(node.get().as_bytes(), &FIELDS).ok_or_else(|| Trouble::new("its answer is no JSON object"))?;
        let node = Node { fields };
        match (is_signed, sign) {
            (true, _) => Ok(node),
            // What it cannot attribute to an app it does not sign. It decides nothing.
            (false, None) if node.code() != "10000" => Err(Trouble::status(200, node.text(1).as_deref())),
            (false, _) => Err(Trouble::new("its answer is not signed by one of public_key_files")),
        }
    }

    fn order(&self, asked: &AskedOrder, node: &Node<'_>, body: &[u8]) -> Result<Meaning, Trouble> {
        if node.text(3).as_deref() != Some(&*asked.out_trade_no) {
            return Err(Trouble::new("its answer is about another order"));
        }
        let number = node.text(4);
        let is_paid = match node.text(6).as_deref() {
            Some("TRADE_SUCCESS" | "TRADE_FINISHED") => true,
            // Closed after it was paid: all of it was refunded.
            Some("TRADE_CLOSED") => node.text(8).is_some(),
            Some("WAIT_BUYER_PAY") => return Ok(Meaning::Open { number: number.map(Cow::into_owned) }),
            _ => return Err(Trouble::new("its answer has an unknown trade_status")),
        };
        let (account, out_trade_no) = (Cow::Borrowed(&*self.app_id), node.text(3));
        let event = if is_paid {
            let amount = yuan(node.text(7).as_deref()).map(Amount::Exact);
            let occurred_ms = normalise::china(node.text(8).as_deref());
            let (kind, currency) = (Kind::Payment, Ok(Some(Currency::CNY)));
            Money { kind, account, number, within: None, out_trade_no, of: None, amount, currency, occurred_ms }
                .event(body)
        } else {
            let about = number.as_deref().or(out_trade_no.as_deref());
            let key = normalise::note_key(about, "TRADE_CLOSED", body);
            let note = Note { account, key, number, out_trade_no, occurred_ms: None }.event();
            ProviderEvent { effect: Effect::Close, ..note }
        };
        Ok(Meaning::Decided(Box::new(event)))
    }

    /// The refund that an answer says is done.
    fn refund(&self, asked: &AskedRefund, amount: Amount, node: &Node<'_>, body: &[u8]) -> Result<Meaning, Trouble> {
        if node.text(3).as_deref() != Some(&*asked.out_trade_no) {
            return Err(Trouble::new("its answer is about another order"));
        }
        let trade_no = node.text(4).ok_or_else(|| Trouble::new("its answer has no trade_no"))?;
        let event = Money {
            kind: Kind::Refund,
            account: Cow::Borrowed(&*self.app_id),
            number: Some(Cow::Borrowed(&*asked.out_refund_no)),
            within: Some(&trade_no),
            out_trade_no: node.text(3),
            of: Some(Of::Number(trade_no.to_string())),
            amount: Ok(amount),
            currency: Ok(Some(Currency::CNY)),
            occurred_ms: normalise::china(node.text(14).as_deref()),
        }
        .event(body);
        let request = Some(Requested::OutRefundNo(asked.out_refund_no.clone()));
        Ok(Meaning::Decided(Box::new(ProviderEvent { request, ..event })))
    }
}

impl Node<'_> {
    fn text(&self, at: usize) -> Option<Cow<'_, str>> {
        json::scalar(self.fields[at]).filter(|text| !text.is_empty())
    }

    fn code(&self) -> Cow<'_, str> {
        self.text(0).unwrap_or_default()
    }
}

impl Api for AlipayApi {
    fn request(&self, call: &Call, at: Moment) -> ApiRequest {
        let content = match call {
            Call::Create(order) => json!({
                "out_trade_no": order.out_trade_no,
                "total_amount": in_yuan(order.amount_minor),
                "subject": order.out_trade_no,
            }),
            Call::Query(order) => json!({ "out_trade_no": order.out_trade_no }),
            Call::Refund(refund) => json!({
                "out_trade_no": refund.out_trade_no,
                "trade_no": refund.payment_no,
                "out_request_no": refund.out_refund_no,
                "refund_amount": in_yuan(refund.amount_minor),
            }),
            Call::QueryRefund(refund) => json!({
                "out_trade_no": refund.out_trade_no,
                "trade_no": refund.payment_no,
                "out_request_no": refund.out_refund_no,
                "query_options": ["gmt_refund_pay"],
            }),
        };
        let body = self.form(method(call), &content.to_string(), matches!(call, Call::Create(_)), at.now_ms);
        let kind = "application/x-www-form-urlencoded;charset=utf-8";
        ApiRequest::new(Method::POST, self.gateway.url().to_owned(), None, kind, body)
    }

    fn read(&self, call: &Call, answer: &Answer) -> Result<Meaning, Trouble> {
        let body = &answer.received.body;
        let node = self.verified(method(call), answer)?;
        let (code, sub_code) = (node.code(), node.text(1).unwrap_or_default());
        match (call, &*code, &*sub_code) {
            (Call::Create(order), "10000", _) => match node.text(5) {
                Some(qr) if node.text(3).as_deref() == Some(&*order.out_trade_no) => {
                    Ok(Meaning::Created { pay: Pay::Qr(qr.into_owned()), number: None })
                }
                Some(_) => Err(Trouble::new("its answer is about another order")),
                None => Err(Trouble::new("its answer has no qr_code")),
            },
            (Call::Query(order), "10000", _) => self.order(order, &node, body),
            (Call::Refund(refund), "10000", _) => match (node.text(9).as_deref(), yuan(node.text(10).as_deref())) {
                (Some("Y"), Ok(sum @ 1..)) => self.refund(refund, Amount::Cumulative(sum), &node, body),
                (Some("Y"), _) => Err(Trouble::new("its answer has no readable refund_fee")),
                _ => Ok(Meaning::Ask),
            },
            (Call::QueryRefund(refund), "10000", _) => {
                let is_it = node.text(11).as_deref() == Some(&*refund.out_refund_no);
                match (node.text(12).as_deref(), yuan(node.text(13).as_deref())) {
                    (Some("REFUND_SUCCESS"), Ok(amount @ 1..)) if is_it => {
                        self.refund(refund, Amount::Exact(amount), &node, body)
                    }
                    (Some("REFUND_SUCCESS"), _) => Err(Trouble::new("its answer is about another refund")),
                    _ => Ok(Meaning::Open { number: None }),
                }
            }
            // Nobody has scanned the code yet.
            (Call::Query(_), _, "ACQ.TRADE_NOT_EXIST") => Ok(Meaning::Open { number: None }),
            (Call::Create(_), _, "ACQ.TRADE_HAS_SUCCESS") => Ok(Meaning::Ask),
            (Call::Create(_) | Call::Refund(_), "40002" | "40004", sub_code) if !PASSING.contains(&sub_code) => {
                let message = node.text(2);
                Ok(Meaning::Refused(Refused::new(Some(sub_code), message.as_deref())))
            }
            (_, _, sub_code) => Err(Trouble::status(answer.status, Some(sub_code).filter(|code| !code.is_empty()))),
        }
    }
}

fn method(call: &Call) -> &'static str {
    match call {
        Call::Create(_) => "alipay.trade.precreate",
        Call::Query(_) => "alipay.trade.query",
        Call::Refund(_) => "alipay.trade.refund",
        Call::QueryRefund(_) => "alipay.trade.fastpay.refund.query",
    }
}

/// An amount in yuan with two decimals.
fn in_yuan(minor: i64) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}
