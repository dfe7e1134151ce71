//! The **acknowledge** stage, which answers the provider.
//!
//! A success takes a [`Durable`] receipt, which only the journal makes. Each provider reads its own words. A refusal
//! never says why a signature did not verify, so that an attacker cannot probe for a valid one.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::journal::{Durable, Receipt};
use base::problem::Problem;
use providers::Dialect;

base::refusals! {
    /// Why a callback is refused.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Rejection {
        /// The message cannot be parsed; the detail says what is wrong.
        Malformed = (400, "malformed", "The message cannot be parsed."),
        /// The signature does not verify, or the message is outside of its time window.
        Unverified = (
            401,
            "unverified",
            "The signature does not verify, or the message is outside of its time window."
        ),
        /// There is no such channel.
        Unknown = (404, "unknown_channel", "There is no such channel."),
        /// The request is not a POST.
        Method = (405, "method_not_allowed", "A callback is a POST."),
        /// The body did not come in time.
        TooSlow = (408, "too_slow", "The body did not come in time."),
        /// The body is longer than 1 MiB.
        TooLarge = (413, "too_large", "A callback may have a body of 1 MiB."),
        /// Nothing was recorded; `Retry-After` says when to send it again.
        Unavailable = (503, "unavailable", "Nothing was kept. Come again in a moment."),
    }
}

/// A refusal and its sentence for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    why: Rejection,
    detail: &'static str,
}

impl From<Rejection> for Refused {
    fn from(why: Rejection) -> Refused {
        Refused { why, detail: why.row().detail }
    }
}

impl Refused {
    /// A message that cannot be parsed, and why.
    pub fn malformed(detail: &'static str) -> Refused {
        Refused { why: Rejection::Malformed, detail }
    }
}

/// The answer for a callback in the books: the provider need not send again.
pub fn acknowledge(dialect: Dialect, _receipt: &Durable<Receipt>) -> Response {
    match dialect {
        Dialect::Words(success, _) => text(success),
        Dialect::CodeAndMessage(success, _) => {
            json_answer(StatusCode::OK, json!({"code": success, "message": "OK"}).to_string())
        }
        Dialect::Plain => json_answer(StatusCode::OK, r#"{"received":true}"#.to_owned()),
    }
}

/// The answer for a callback that is not in the books.
pub fn refuse(dialect: Dialect, refused: impl Into<Refused>) -> Response {
    let Refused { why, detail } = refused.into();
    let status = StatusCode::from_u16(why.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = match dialect {
        Dialect::Words(_, failure) => {
            let mut answer = text(failure);
            *answer.status_mut() = status;
            answer
        }
        Dialect::CodeAndMessage(_, failure) => {
            json_answer(status, json!({"code": failure, "message": detail}).to_string())
        }
        Dialect::Plain => Problem::new(status, why.row().word, detail).into_response().into_response(),
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
