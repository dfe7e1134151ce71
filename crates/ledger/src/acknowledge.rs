//! The **acknowledge** stage, which answers the provider.
//!
//! A success takes a [`Durable`] receipt, which only the journal makes. Each provider reads its own words. A refusal
//! never says why a signature did not verify, so that an attacker cannot probe for a valid one.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::journal::{Durable, Receipt};
use base::problem::Problem;
use config::model::ledger::Provider;

/// The form of answer that a provider reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `success` and `failure`.
    Alipay,
    /// `{"code", "message"}`.
    WechatPay,
    /// `{"received":true}` and problem documents.
    Plain,
}

impl Dialect {
    /// The form for a channel's provider.
    pub fn of(provider: &Provider) -> Dialect {
        match provider {
            Provider::Alipay { .. } => Dialect::Alipay,
            Provider::WechatPay { .. } => Dialect::WechatPay,
            Provider::Stripe { .. } | Provider::StandardWebhooks { .. } | Provider::Hmac(_) => Dialect::Plain,
        }
    }
}

/// The answer for a callback in the books: the provider need not send again.
pub fn acknowledge(dialect: Dialect, _receipt: &Durable<Receipt>) -> Response {
    match dialect {
        Dialect::Alipay => text("success"),
        Dialect::WechatPay => json_answer(StatusCode::OK, r#"{"code":"SUCCESS","message":"OK"}"#.to_owned()),
        Dialect::Plain => json_answer(StatusCode::OK, r#"{"received":true}"#.to_owned()),
    }
}

/// Why a callback is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It fails verification, or its window: 401.
    Unverified,
    /// It cannot be parsed: 400, with what is wrong.
    Malformed(&'static str),
    /// There is no such channel: 404.
    Unknown,
    /// The method is not POST: 405.
    Method,
    /// Its body is too large: 413.
    TooLarge,
    /// Its body did not come in time: 408.
    TooSlow,
    /// It cannot be recorded now: 503.
    Unavailable,
}

impl Rejection {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Rejection::Unverified => (
                StatusCode::UNAUTHORIZED,
                "unverified",
                "The signature does not verify, or the message is outside of its time window.",
            ),
            Rejection::Malformed(what) => (StatusCode::BAD_REQUEST, "malformed", what),
            Rejection::Unknown => (StatusCode::NOT_FOUND, "unknown_channel", "There is no such channel."),
            Rejection::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "A callback is a POST."),
            Rejection::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", "A callback may have a body of 1 MiB."),
            Rejection::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow", "The body did not come in time."),
            Rejection::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Nothing was kept. Come again in a moment.")
            }
        }
    }
}

/// The answer for a callback that is not in the books.
pub fn refuse(dialect: Dialect, why: Rejection) -> Response {
    let (status, label, detail) = why.parts();
    let mut answer = match dialect {
        Dialect::Alipay => {
            let mut answer = text("failure");
            *answer.status_mut() = status;
            answer
        }
        Dialect::WechatPay => json_answer(status, json!({"code": "FAIL", "message": detail}).to_string()),
        Dialect::Plain => Problem::new(status, label, detail).into_response().into_response(),
    };
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

fn text(body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/plain")], body).into_response()
}

fn json_answer(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
