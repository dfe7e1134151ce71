//! Errors are problem documents (RFC 9457). What cannot be done now says when to try again.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::query::list::Bad;

/// Why a call was not done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:tollgate:problem:not_found`
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    #[schema(value_type = String)]
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
}

impl Problem {
    /// Of this status; `label` is the end of its type.
    pub fn new(status: StatusCode, label: &str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:tollgate:problem:{label}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    /// Not now.
    pub fn unavailable(detail: &str) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// It reads too much.
    pub fn too_broad() -> Problem {
        let detail = "Too many rows would have to be read for this. Name an `out_trade_no` or a `channel_txn_no`, or bound it \
                      by `from` and `to`, or ask by `merchant` and leave the other filters away; for all of the books \
                      there is `tollgate ledger export`.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_broad", detail)
    }

    /// There is none, or none of this caller's.
    pub fn unknown(what: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", format!("There is no such {what}."))
    }
}

impl From<Bad> for Problem {
    fn from(bad: Bad) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_query", bad.0)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut answer = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = answer.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        answer
    }
}
