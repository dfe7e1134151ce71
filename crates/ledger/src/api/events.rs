//! `/v1/events`: what merchants are told, each attempt to tell them, and what is told again.

use axum::Json;
use axum::extract::{Extension, State as With};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::calls::{ApiResult, Caller, QueryParams, Segment, SentBody, json, not_written, uuid};
use super::create::wrong;
use super::{Calls, Problem, endpoints};
use crate::journal::{Redelivery, Standing};
use crate::query::deliveries::{self, AgainQuery, Sent};
use crate::query::list::{self, moment};
use crate::query::{self, views};
use crate::rows::Outgoing;
use crate::stored_enum::{EventState, StoredEnum};

/// Lists events.
#[utoipa::path(get, path = "/v1/events", responses((status = 200, description = "A page of the list",
    body = views::Page<views::Event>)))]
pub async fn list(With(calls): With<Calls>, Extension(scope): Caller, QueryParams(pairs): QueryParams) -> ApiResult {
    let asked = list::EVENTS.asked(&pairs)?;
    let page = calls.read(move |reader| deliveries::events(reader, asked, scope.0.as_deref())).await?;
    Ok(Json(page).into_response())
}

/// Lists the attempts to send an event, to all its addresses.
#[utoipa::path(get, path = "/v1/events/{id}/attempts", params(("id" = String, Path)),
    responses((status = 200, description = "A page of the list, newest first", body = views::Page<views::Attempt>)))]
pub async fn attempts(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    let asked = deliveries::AttemptsQuery::read(&pairs)?;
    let id = uuid(id, "event")?;
    let read = move |reader: &mut dyn crate::store::Reader| {
        let event = query::one::<Outgoing>(reader, id, scope.0.as_deref())?;
        event.map(|event| deliveries::attempts(reader, event.seq, &asked)).transpose()
    };
    let (rows, next) = calls.read(read).await?.ok_or_else(|| Problem::unknown("event"))?;
    let ring = calls.state.journal.ring();
    // Only the process that writes the books has the keys.
    let open = |key: Uuid, body: &[u8]| ring.as_ref()?.unseal(key, "attempts", "body", id, body);
    let data = rows.into_iter().map(|row| {
        let body = row.body.as_ref().and_then(|(key, body)| open(*key, body));
        views::Attempt::of(row, body)
    });
    Ok(Json(views::Page { data: data.collect::<Vec<_>>(), next }).into_response())
}

/// Sends an event again to all its addresses: at once, with the same id.
#[utoipa::path(post, path = "/v1/events/{id}/redeliver", params(("id" = String, Path)),
    responses((status = 200, description = "The event, pending again", body = views::Event)))]
pub async fn redeliver(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    list::only(&pairs, &[])?;
    let id = uuid(id, "event")?;
    let own = scope.0.clone();
    let what = calls.read(move |reader| deliveries::all_of(reader, id, own.as_deref())).await?;
    calls.state.journal.redeliver(what.ok_or_else(|| Problem::unknown("event"))?).await.map_err(not_written)?;
    let event = calls.read(move |reader| deliveries::event(reader, id, scope.0.as_deref())).await?;
    json(event, "event")
}

/// What is to be sent again.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeliverBody {
    /// The merchant; a merchant's token sends its own again.
    pub merchant: String,
    /// Events made at this time or later.
    #[schema(format = DateTime)]
    pub from: String,
    /// Events made before this time.
    #[schema(format = DateTime)]
    pub to: String,
    /// Only to this endpoint; without it, to all that an event went to.
    #[serde(default)]
    #[schema(format = "uuid")]
    pub endpoint: Option<String>,
    /// Only what is `pending`, `delivered` or `dead` at an address; without it, everything.
    #[serde(default)]
    pub state: Option<String>,
    /// Only events of this type, such as `payment.posted`, or of this kind of transaction.
    #[serde(default)]
    pub kind: Option<String>,
}

/// How many events are sent again.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Count {
    /// The number of events.
    pub count: u64,
}

/// Sends events again, by time and filter. The answer comes once all of them are pending on the disk.
#[utoipa::path(post, path = "/v1/events/redeliver", request_body = RedeliverBody,
    responses(
        (status = 202, description = "They are pending again", body = Count),
        (status = 422, description = "A time or a word is wrong.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn redeliver_many(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    QueryParams(pairs): QueryParams,
    SentBody(body): SentBody,
) -> ApiResult {
    list::only(&pairs, &[])?;
    let asked: RedeliverBody = serde_json::from_slice(&body).map_err(|e| {
        let detail = format!("Send {{\"merchant\", \"from\", \"to\", \"endpoint\"?, \"state\"?, \"kind\"?}}: {e}.");
        Problem::new(StatusCode::BAD_REQUEST, "bad_body", detail)
    })?;
    endpoints::merchant(&calls, &scope, &asked.merchant)?;
    if calls.state.journal.standing() != Standing::Active {
        return Err(Problem::unavailable("This process does not write the books."));
    }
    let none = || wrong("The merchant has no such `endpoint`.".to_owned());
    let asked = checked(asked, none)?;
    if let Some(id) = asked.endpoint {
        let merchant = asked.merchant.clone();
        let known = calls.read(move |reader| deliveries::is_endpoint(reader, id, &merchant)).await?;
        known.then_some(()).ok_or_else(none)?;
    }
    // A caller that goes away leaves nothing half done.
    let job = tokio::spawn(async move { again(&calls, asked).await });
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The call failed.");
    let count = job.await.map_err(failed)??;
    Ok((StatusCode::ACCEPTED, Json(Count { count })).into_response())
}

fn checked(body: RedeliverBody, no_endpoint: impl Fn() -> Problem) -> Result<AgainQuery, Problem> {
    let time = |name, text: &str| moment(name, text).map(|at| at.at_or_after).map_err(|e| wrong(e.0));
    let (from, to) = (time("from", &body.from)?, time("to", &body.to)?);
    if to <= from {
        return Err(wrong("`to` is after `from`.".to_owned()));
    }
    let state = body.state.as_deref().map(|word| {
        let wrong = || wrong("`state` is one of pending, delivered, dead.".to_owned());
        EventState::from_word(word).ok_or_else(wrong)
    });
    let RedeliverBody { merchant, endpoint, kind, .. } = body;
    let endpoint = endpoint.map(|id| Uuid::try_parse(&id).map_err(|_| no_endpoint())).transpose()?;
    Ok(AgainQuery { merchant, from, to, endpoint, state: state.transpose()?, kind })
}

/// Puts back page after page, so that callbacks are committed between them.
async fn again(calls: &Calls, asked: AgainQuery) -> Result<u64, Problem> {
    let (mut asked, mut count) = (deliveries::Again::new(asked), 0);
    loop {
        let (page, next) = calls
            .read(move |reader| {
                let page = asked.next(reader)?;
                Ok((page, asked))
            })
            .await?;
        asked = next;
        let Some(Sent { events, what }) = page else { return Ok(count) };
        if what != Redelivery::default() {
            calls.state.journal.redeliver(what).await.map_err(not_written)?;
            count += events;
        }
    }
}
