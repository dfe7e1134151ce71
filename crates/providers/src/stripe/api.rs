//! Stripe's API: forms, our secret key as the bearer's token, and answers that only TLS vouches for.
//!
//! An order is a PaymentIntent, whose client secret the payer's page needs. `Idempotency-Key`s are made of our ids, so a
//! call that is made again does nothing twice. What an answer says of a payment or a refund is read by the code that
//! reads the callbacks about it.

use std::borrow::Cow;

use http::{HeaderName, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;

use super::{StripeMessage, account, reference};
use crate::api::{
    Answer, Api, ApiRequest, AskedOrder, AskedRefund, Base, Call, Meaning, Moment, Outgoing, Pay, Refused, Trouble,
    segment,
};
use crate::configured::{ConfigKey, FileError, FileKind, Names, Need, Shape, Values};
use crate::event::{Effect, ProviderEvent};
use crate::json::{self, pick};
use crate::normalise::{self, Note};
use base::secret::{self, Secret};

/// How its channels are called.
pub const OUTGOING: Outgoing = Outgoing {
    needs: &[&API_KEY],
    // Its idempotency keys are kept for 24 hours at least.
    same_for_ms: Some(23 * 3_600_000),
    takes: |_| true,
    prepare: |values, names, base| Box::new(StripeApi::new(values, names, base)),
};

/// Our key.
pub const API_KEY: ConfigKey = ConfigKey {
    name: "api_key_file",
    about: "With api_url: file with our secret or restricted key, \"sk_…\" or \"rk_…\".",
    shape: Shape::File(FileKind::line(api_key)),
    need: Need::Optional,
};

fn api_key(bytes: &[u8]) -> Result<Vec<u8>, FileError> {
    let key = secret::line(bytes);
    let hint = "the secret key of the account, which begins with `sk_` or `rk_`";
    if key.starts_with(b"whsec_") {
        return Err(FileError::new("this is the signing secret of an endpoint, which calls nothing", hint));
    }
    if key.starts_with(b"pk_") {
        return Err(FileError::new("this is a publishable key, which may create nothing", hint));
    }
    if key.is_empty() || !key.iter().all(u8::is_ascii_graphic) {
        return Err(FileError::new("the key is not one word", hint));
    }
    Ok(key.to_vec())
}

/// The API, as one of its accounts calls it.
#[derive(Debug)]
struct StripeApi {
    base: Base,
    key: Option<Secret>,
    account: String,
}

impl StripeApi {
    fn new(values: &Values, names: &Names<'_>, base: Base) -> StripeApi {
        let key = values.files(&API_KEY).first().cloned();
        StripeApi { base, key, account: account(values, names.merchant) }
    }

    fn bearer(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        Some(format!("Bearer {}", std::str::from_utf8(&key.0).ok()?))
    }

    fn get(&self, path: &str) -> ApiRequest {
        ApiRequest::new(Method::GET, self.base.join(path).0, self.bearer(), FORM, vec![])
    }

    fn post(&self, path: &str, key: String, fields: &[(&str, &str)]) -> ApiRequest {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let body = pairs.join("&").into_bytes();
        let request = ApiRequest::new(Method::POST, self.base.join(path).0, self.bearer(), FORM, body);
        request.with(HeaderName::from_static("idempotency-key"), &key)
    }

    fn intent(&self, asked: &AskedOrder, body: &[u8]) -> Result<Meaning, Trouble> {
        let object = Object::of_order(asked, body)?;
        match object.status.as_deref() {
            Some("succeeded") => Ok(self.decided("payment_intent.succeeded", object, body)),
            Some("canceled") => {
                let key = normalise::note_key(object.id.as_deref(), "canceled", body);
                let (account, out_trade_no) = (Cow::Borrowed(&*self.account), object.out_trade_no);
                let note = Note { account, key, number: object.id, out_trade_no, occurred_ms: None }.event();
                Ok(Meaning::Decided(Box::new(ProviderEvent { effect: Effect::Close, ..note })))
            }
            Some(_) => Ok(Meaning::Open { number: object.id.map(Cow::into_owned) }),
            None => Err(Trouble::new("its answer has no status")),
        }
    }

    fn refund(&self, asked: &AskedRefund, body: &[u8]) -> Result<Meaning, Trouble> {
        let object = Object::of_refund(asked, body)?;
        match object.status.as_deref() {
            Some("succeeded" | "failed" | "canceled") => Ok(self.decided("refund.updated", object, body)),
            Some(_) => Ok(Meaning::Open { number: object.id.map(Cow::into_owned) }),
            None => Err(Trouble::new("its answer has no status")),
        }
    }

    /// An object, read as the event about it.
    fn decided(&self, kind: &str, object: Object<'_>, body: &[u8]) -> Meaning {
        let message = StripeMessage {
            id: None,
            kind: Some(kind.into()),
            // When the object was made is not when it was paid.
            created: None,
            object: object.id,
            status: object.status,
            payment_intent: object.payment_intent,
            charge: object.charge,
            out_trade_no: object.out_trade_no,
            out_refund_no: object.out_refund_no,
            currency: object.currency,
            amount: object.amount,
            received: object.received,
            captured: None,
            is_captured: true,
        };
        Meaning::Decided(Box::new(message.event(&self.account, body)))
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

/// The fields of a PaymentIntent or a refund.
struct Object<'a> {
    id: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    client_secret: Option<Cow<'a, str>>,
    payment_intent: Option<Cow<'a, str>>,
    charge: Option<Cow<'a, str>>,
    out_trade_no: Option<Cow<'a, str>>,
    out_refund_no: Option<Cow<'a, str>>,
    currency: Option<Cow<'a, str>>,
    amount: Option<&'a RawValue>,
    received: Option<&'a RawValue>,
}

const PATHS: [&[&str]; 10] = [
    &["id"],
    &["status"],
    &["client_secret"],
    &["payment_intent"],
    &["charge"],
    &["metadata", "out_trade_no"],
    &["metadata", "out_refund_no"],
    &["currency"],
    &["amount"],
    &["amount_received"],
];

impl<'a> Object<'a> {
    fn read(body: &'a [u8]) -> Result<Object<'a>, Trouble> {
        let found = pick(body, &PATHS).ok_or_else(|| Trouble::new("its answer is no JSON object"))?;
        let text = |at: usize| json::text(found[at]).filter(|text| !text.is_empty());
        let object = Object {
            id: text(0).filter(|id| normalise::is_name(id)),
            status: text(1),
            client_secret: text(2),
            payment_intent: reference(found[3]),
            charge: reference(found[4]),
            out_trade_no: text(5),
            out_refund_no: text(6),
            currency: text(7),
            amount: found[8],
            received: found[9],
        };
        if object.id.is_none() { Err(Trouble::new("its answer has no id")) } else { Ok(object) }
    }

    /// A PaymentIntent, if it is the order's. One that has lost its metadata is known by its id.
    fn of_order(asked: &AskedOrder, body: &'a [u8]) -> Result<Object<'a>, Trouble> {
        let object = Object::read(body)?;
        let is_it = asked.number.as_deref().is_none_or(|number| object.id.as_deref() == Some(number));
        match object.out_trade_no.as_deref().unwrap_or(&asked.out_trade_no) == asked.out_trade_no && is_it {
            true => Ok(Object { out_trade_no: Some(asked.out_trade_no.clone().into()), ..object }),
            false => Err(Trouble::new("its answer is about another order")),
        }
    }

    /// The same of a refund.
    fn of_refund(asked: &AskedRefund, body: &'a [u8]) -> Result<Object<'a>, Trouble> {
        let object = Object::read(body)?;
        let is_it = asked.number.as_deref().is_none_or(|number| object.id.as_deref() == Some(number));
        match object.out_refund_no.as_deref().unwrap_or(&asked.out_refund_no) == asked.out_refund_no && is_it {
            true => Ok(Object { out_refund_no: Some(asked.out_refund_no.clone().into()), ..object }),
            false => Err(Trouble::new("its answer is about another refund")),
        }
    }
}

impl Api for StripeApi {
    fn request(&self, call: &Call, _: Moment) -> ApiRequest {
        match call {
            Call::Create(order) => self.post(
                "/v1/payment_intents",
                format!("tollgate-order-{}", order.id),
                &[
                    ("amount", &order.amount_minor.to_string()),
                    ("currency", &order.currency.to_ascii_lowercase()),
                    ("automatic_payment_methods[enabled]", "true"),
                    ("metadata[out_trade_no]", &order.out_trade_no),
                ],
            ),
            Call::Query(order) => {
                self.get(&format!("/v1/payment_intents/{}", segment(order.number.as_deref().unwrap_or_default())))
            }
            Call::Refund(refund) => {
                let of = if refund.payment_no.starts_with("ch_") { "charge" } else { "payment_intent" };
                self.post(
                    "/v1/refunds",
                    format!("tollgate-refund-{}", refund.id),
                    &[
                        (of, &refund.payment_no),
                        ("amount", &refund.amount_minor.to_string()),
                        ("metadata[out_refund_no]", &refund.out_refund_no),
                    ],
                )
            }
            Call::QueryRefund(refund) => {
                self.get(&format!("/v1/refunds/{}", segment(refund.number.as_deref().unwrap_or_default())))
            }
        }
    }

    fn read(&self, call: &Call, answer: &Answer) -> Result<Meaning, Trouble> {
        let body = &answer.received.body;
        if !(200..300).contains(&answer.status) {
            let found =
                pick(body, &[&["error", "code"], &["error", "type"], &["error", "message"]]).unwrap_or_default();
            let (code, kind, message) = (json::text(found[0]), json::text(found[1]), json::text(found[2]));
            let code = code.or(kind).filter(|code| !code.is_empty());
            let is_final = matches!(answer.status, 400 | 402 | 404) && code.is_some();
            return match call {
                Call::Create(_) | Call::Refund(_) if is_final => {
                    Ok(Meaning::Refused(Refused::new(code.as_deref(), message.as_deref())))
                }
                _ => Err(Trouble::status(answer.status, code.as_deref())),
            };
        }
        match call {
            Call::Create(order) => {
                let object = Object::of_order(order, body)?;
                let secret = object.client_secret.ok_or_else(|| Trouble::new("its answer has no client_secret"))?;
                let number = object.id.map(Cow::into_owned);
                Ok(Meaning::Created { pay: Pay::ClientSecret(secret.into_owned()), number })
            }
            Call::Query(order) => self.intent(order, body),
            Call::Refund(refund) | Call::QueryRefund(refund) => self.refund(refund, body),
        }
    }
}
