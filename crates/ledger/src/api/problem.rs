//! The API's errors, as problem documents (RFC 9457). One that is temporary says when to try again.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::query::list::QueryError;
use base::problem;

/// The reason for which a call failed.
#[derive(Clone, Debug)]
pub struct Problem(problem::Problem, StatusCode);

impl Problem {
    /// A problem with this status; `label` is the end of its type.
    pub fn new(status: StatusCode, label: &str, detail: impl Into<String>) -> Problem {
        Problem(problem::Problem::new(status, label, detail), status)
    }

    /// 503: not now.
    pub fn unavailable(detail: &str) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 422: the query reads too many rows.
    pub fn too_broad() -> Problem {
        let detail = "Too many rows would have to be read for this. Name an `out_trade_no` or a `channel_txn_no`, or bound it \
                      by `from` and `to`, or ask by `merchant` and leave the other filters away; for all of the books \
                      there is `tollgate ledger export`.";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_broad", detail)
    }

    /// 404: there is none, or it is not this caller's.
    pub fn unknown(what: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", format!("There is no such {what}."))
    }
}

impl From<QueryError> for Problem {
    fn from(bad: QueryError) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_query", bad.0)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem(problem, status) = self;
        let mut answer = problem.into_response().into_response();
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        let members = [
            ("type", Type::String, "`urn:tollgate:problem:not_found`"),
            ("title", Type::String, "The status in words."),
            ("status", Type::Integer, "The HTTP status."),
            ("detail", Type::String, "What is wrong, and what to do."),
        ];
        let object = ObjectBuilder::new().description(Some("Why a call was not done."));
        let object = members.into_iter().fold(object, |object, (name, kind, description)| {
            let member = ObjectBuilder::new().schema_type(kind).description(Some(description));
            object.property(name, member).required(name)
        });
        object.into()
    }
}

impl ToSchema for Problem {}
