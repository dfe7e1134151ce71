//! Problem documents (RFC 9457): the bodies of all error answers of an HTTP interface.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

/// The media type of problem documents.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A problem document.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem of this status; `label` is the end of its type. `detail` says what is wrong, and what to do.
    pub fn new(status: StatusCode, label: &str, detail: impl Into<String>) -> Problem {
        let problem = Problem { status, members: Map::new() };
        problem
            .with("type", format!("urn:tollgate:problem:{label}"))
            .with("title", status.canonical_reason().unwrap_or_default())
            .with("status", status.as_u16())
            .with("detail", detail.into())
    }

    /// Adds a member.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The document as JSON.
    pub fn into_json(self) -> String {
        Value::Object(self.members).to_string()
    }

    /// The document as an answer. A 503 says when to try again.
    pub fn into_response(self) -> Response<String> {
        let status = self.status;
        let mut answer = Response::new(self.into_json());
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_their_order_and_503_says_when_to_ask_again() {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not now.").with("limit", "all");
        let answer = problem.into_response();
        assert_eq!((answer.status().as_u16(), &answer.headers()[RETRY_AFTER]), (503, &HeaderValue::from_static("1")));
        assert_eq!(
            answer.body(),
            r#"{"type":"urn:tollgate:problem:unavailable","title":"Service Unavailable","status":503,"detail":"Not now.","limit":"all"}"#
        );
    }
}
