//! The calls that read the books.
//!
//! Rows that are foreign to a caller are unknown to it: 404. Only the platform may read the integrity: 403.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, FromRequest, FromRequestParts, Path, Query, Request, State as With};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;

use super::token::Scope;
use super::{Calls, Problem};
use crate::anchor;
use crate::journal::{CommitError, Standing};
use crate::outcalls;
use crate::query::list::{self, List, Pairs};
use crate::query::views::{self, View};
use crate::query::{self, accounts};
use crate::rows;
use crate::store::Reader;
use base::clock;

pub(super) type ApiResult = Result<Response, Problem>;
/// The most bytes of a body.
pub(super) const BODY_MAX: usize = 64 << 10;

pub(super) type Caller = Extension<Scope>;

/// The query's parameters, in order.
pub struct QueryParams(pub(super) Pairs);

impl<S: Sync> FromRequestParts<S> for QueryParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<QueryParams, Problem> {
        let Query(pairs) = Query::<Pairs>::try_from_uri(&parts.uri)
            .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "bad_query", e.body_text()))?;
        Ok(QueryParams(pairs))
    }
}

/// The body of a call, within [`BODY_MAX`].
pub struct SentBody(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for SentBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<SentBody, Problem> {
        Bytes::from_request(request, state).await.map(SentBody).map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let detail = format!("A body has at most {BODY_MAX} bytes.");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
            }
            _ => Problem::new(StatusCode::BAD_REQUEST, "bad_body", "The body ended early or broke HTTP."),
        })
    }
}

/// A segment of the path; one that is not text names nothing.
pub(super) type Segment = Result<Path<String>, PathRejection>;

pub(super) fn text(segment: Segment, what: &str) -> Result<String, Problem> {
    let segment = segment.map_err(|_| Problem::unknown(what))?.0;
    if segment.contains('\0') { Err(Problem::unknown(what)) } else { Ok(segment) }
}

pub(super) fn uuid(segment: Segment, what: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(&text(segment, what)?).map_err(|_| Problem::unknown(what))
}

pub(super) fn json<T: Serialize>(found: Option<T>, what: &str) -> ApiResult {
    found.map(|found| Json(found).into_response()).ok_or_else(|| Problem::unknown(what))
}

pub(super) async fn listed<V: View + Send + 'static>(
    calls: &Calls,
    list: &List,
    pairs: &Pairs,
    scope: Scope,
) -> ApiResult {
    let asked = list.asked(pairs)?;
    let page = calls.read(move |reader| query::list::<V>(reader, asked, scope.0.as_deref())).await?;
    Ok(Json(page).into_response())
}

/// Whether the process is alive.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "The process is alive.", body = String)))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether this process writes the books.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "This process writes the books.", body = String),
    (status = 503, description = "Another process writes the books, or the store failed.", content_type = "application/problem+json",
        body = Problem),
))]
pub async fn readyz(With(calls): With<Calls>) -> ApiResult {
    match calls.state.journal.standing() {
        Standing::Active => Ok("ok\n".into_response()),
        Standing::Standby => Err(Problem::unavailable("Another process has the books; this one stands by.")),
        Standing::Failed => Err(Problem::unavailable("The store failed; this process writes nothing more.")),
    }
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Prometheus text format 0.0.4", body = String)))]
pub async fn metrics(With(calls): With<Calls>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], calls.state.series.expose()).into_response()
}

/// Lists orders.
#[utoipa::path(get, path = "/v1/orders", responses((status = 200, description = "A page of the list",
    body = views::Page<views::Order>)))]
pub async fn orders(With(calls): With<Calls>, Extension(scope): Caller, QueryParams(pairs): QueryParams) -> ApiResult {
    listed::<views::Order>(&calls, &list::ORDERS, &pairs, scope).await
}

/// An order.
#[utoipa::path(get, path = "/v1/orders/{id}", params(("id" = String, Path)),
    responses((status = 200, description = "The order", body = views::Order)))]
pub async fn order(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    list::only(&pairs, &[])?;
    let id = uuid(id, "order")?;
    let ring = calls.state.journal.ring();
    let read = move |reader: &mut dyn Reader| {
        let Some(order) = query::one::<rows::Order>(reader, id, scope.0.as_deref())? else { return Ok(None) };
        let pay = ring.map(|ring| outcalls::ask::pay(reader, &order, &ring)).transpose()?.flatten();
        Ok(Some(views::Order { pay, ..views::Order::of(order) }))
    };
    json(calls.read(read).await?, "order")
}

/// Lists requested refunds.
#[utoipa::path(get, path = "/v1/refunds", responses((status = 200, description = "A page of the list",
    body = views::Page<views::Refund>)))]
pub async fn refunds(With(calls): With<Calls>, Extension(scope): Caller, QueryParams(pairs): QueryParams) -> ApiResult {
    listed::<views::Refund>(&calls, &list::REFUNDS, &pairs, scope).await
}

/// A requested refund.
#[utoipa::path(get, path = "/v1/refunds/{id}", params(("id" = String, Path)),
    responses((status = 200, description = "The refund", body = views::Refund)))]
pub async fn refund(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    list::only(&pairs, &[])?;
    let id = uuid(id, "refund")?;
    let found = calls.read(move |reader| query::one::<rows::Refund>(reader, id, scope.0.as_deref())).await?;
    json(found.map(views::Refund::of), "refund")
}

/// The one account that a merchant sees.
fn own(scope: &Scope) -> Option<String> {
    scope.0.as_deref().map(accounts::of_merchant)
}

fn account_id(id: Segment, scope: &Scope) -> Result<String, Problem> {
    let id = text(id, "account")?;
    if own(scope).is_some_and(|own| own != id) { Err(Problem::unknown("account")) } else { Ok(id) }
}

/// Lists accounts with their balances, by id.
#[utoipa::path(get, path = "/v1/accounts", responses((status = 200, description = "A page of the list",
    body = views::Page<views::Account>)))]
pub async fn accounts(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    let asked = accounts::AccountsQuery::read(&pairs)?;
    let page = calls.read(move |reader| accounts::list(reader, &asked, own(&scope).as_deref())).await?;
    Ok(Json(page).into_response())
}

/// An account with its balances, now or at a time.
#[utoipa::path(get, path = "/v1/accounts/{id}", params(("id" = String, Path), ("as_of" = Option<String>, Query,
    format = DateTime, description = "Only entries with `recorded_at` up to and including this time")),
    responses((status = 200, description = "The account", body = views::Account)))]
pub async fn account(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    list::only(&pairs, &["as_of"])?;
    let as_of = list::get(&pairs, "as_of").map(|at| list::moment("as_of", at)).transpose()?;
    let id = account_id(id, &scope)?;
    let read = move |reader: &mut dyn Reader| match as_of {
        Some(at) => query::snapshot(reader, |reader| accounts::as_of(reader, &id, at.at_or_before)),
        None => accounts::one(reader, &id),
    };
    json(calls.read(read).await?, "account")
}

/// Lists an account's entries.
#[utoipa::path(get, path = "/v1/accounts/{id}/entries", params(("id" = String, Path)),
    responses((status = 200, description = "A page of the list", body = views::Page<views::Entry>)))]
pub async fn entries(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    let asked = list::ENTRIES.asked(&pairs)?;
    let id = account_id(id, &scope)?;
    json(calls.read(move |reader| query::entries(reader, &id, asked)).await?, "account")
}

/// Lists transactions.
#[utoipa::path(get, path = "/v1/transactions", responses((status = 200, description = "A page of the list",
    body = views::Page<views::Transaction>)))]
pub async fn transactions(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    listed::<views::Transaction>(&calls, &list::TRANSACTIONS, &pairs, scope).await
}

/// A transaction with its entries.
#[utoipa::path(get, path = "/v1/transactions/{id}", params(("id" = String, Path)),
    responses((status = 200, description = "The transaction", body = views::TransactionDetail)))]
pub async fn transaction(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    list::only(&pairs, &[])?;
    let id = uuid(id, "transaction")?;
    let read = move |reader: &mut dyn Reader| {
        query::snapshot(reader, |reader| query::transaction(reader, id, scope.0.as_deref()))
    };
    json(calls.read(read).await?, "transaction")
}

/// The error for a write that did not happen.
pub(super) fn not_written(why: CommitError) -> Problem {
    Problem::unavailable(match why {
        CommitError::Standby => "Another process has the books; ask that one.",
        CommitError::Overloaded => "The writer is busy.",
        CommitError::Failed | CommitError::Refused => "It could not be written.",
    })
}

/// Lists anomalies, which a person must look at.
#[utoipa::path(get, path = "/v1/anomalies", responses((status = 200, description = "A page of the list",
    body = views::Page<views::Anomaly>)))]
pub async fn anomalies(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    listed::<views::Anomaly>(&calls, &list::ANOMALIES, &pairs, scope).await
}

/// How far the books can be trusted: the chain, its anchor, the last verification, and all sums.
#[utoipa::path(get, path = "/v1/integrity", responses((status = 200, description = "The integrity of the books",
    body = views::Integrity)))]
pub async fn integrity(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    list::only(&pairs, &[])?;
    if scope.0.is_some() {
        return Err(Problem::new(StatusCode::FORBIDDEN, "platform_only", "Only the platform's token may read this."));
    }
    let path = anchor::path(&calls.state.config.load().state_dir);
    let verified = calls.state.integrity.load_full();
    let read = move |reader: &mut dyn Reader| {
        // The anchor first, so that it is not ahead of the head.
        let anchored = anchor::read(&path).unwrap_or_else(|e| {
            log::warn!("the ledger's anchor cannot be read: {e}");
            None
        });
        let ((sequence, head), sums) =
            query::snapshot(reader, |reader| Ok((query::head(reader)?, accounts::sums(reader)?)))?;
        Ok(views::Integrity {
            sequence,
            head: base::hex::encode(&head),
            anchored: anchored.map(|anchor| views::Anchored {
                sequence: anchor.sequence,
                head: anchor.head,
                at: anchor.at,
            }),
            verified: verified.map(|checked| views::Verified {
                sequence: checked.sequence,
                at: clock::rfc3339(checked.at_ms),
                ok: checked.ok,
            }),
            sums,
        })
    };
    Ok(Json(calls.read(read).await?).into_response())
}
