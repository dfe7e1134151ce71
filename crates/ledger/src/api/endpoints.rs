//! `/v1/merchants/{merchant}/endpoints`: where a merchant's events go, beside the configuration's url.
//!
//! The secret is shown once, when it is made; values of headers never are.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State as With};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::calls::{ApiResult, Caller, QueryParams, SentBody, not_written};
use super::create::wrong;
use super::token::Scope;
use super::{Calls, Problem};
use crate::endpoints::change::{Changed, EndpointChange, Patch, What};
use crate::endpoints::settings::{self, Settings};
use crate::endpoints::{ENDPOINTS_MAX, configured, filter};
use crate::keys::Ring;
use crate::query;
use crate::query::list::{self, sealed};
use crate::query::views::{self, Page};
use crate::rows::{Endpoint, Value as Cell};
use config::model::ledger::Merchant;

/// An endpoint to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointBody {
    /// Where events go: an http or https URL.
    pub url: String,
    /// The event types that it takes, such as `payment.posted` or `payment.*`; empty for all but `order.created`.
    #[serde(default)]
    pub events: Vec<String>,
    /// The most events per second.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    pub rate: Option<u32>,
    /// The most attempts under way; 16 without it.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 64)]
    pub concurrency: Option<u32>,
    /// Whether its events wait.
    #[serde(default)]
    pub paused: bool,
    /// The secret that signs, `whsec_` and base64; one is made without it.
    #[serde(default)]
    pub secret: Option<String>,
    /// Further headers of each message.
    #[serde(default)]
    pub headers: BTreeMap<String, Option<String>>,
    /// The body: JSON, or its text, with placeholders such as `{{data.out_trade_no}}`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub template: Option<Value>,
}

/// New settings of an endpoint: what is absent stays as it is.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointPatch {
    /// Where events go.
    #[serde(default)]
    pub url: Option<String>,
    /// The event types that it takes from now on.
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// The most events per second; null for no bound.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<u32>)]
    pub rate: Option<Option<u32>>,
    /// The most attempts under way; null for 16.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<u32>)]
    pub concurrency: Option<Option<u32>>,
    /// Whether its events wait.
    #[serde(default)]
    pub paused: Option<bool>,
    /// The secret that signs.
    #[serde(default)]
    pub secret: Option<String>,
    /// All further headers.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, Option<String>>>,
    /// The body's template; null for the event itself.
    #[serde(default, deserialize_with = "sent")]
    #[schema(value_type = Option<Object>)]
    pub template: Option<Option<Value>>,
}

/// Tells null from absence.
fn sent<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The merchant, if it is configured and the caller's.
pub(super) fn merchant(calls: &Calls, scope: &Scope, name: &str) -> Result<Merchant, Problem> {
    let config = calls.state.config.load();
    let known = config.merchants.iter().find(|merchant| *merchant.name == *name);
    let is_own = scope.0.as_deref().is_none_or(|own| own == name);
    known.filter(|_| is_own).cloned().ok_or_else(|| Problem::unknown("merchant"))
}

fn ring(calls: &Calls) -> Result<std::sync::Arc<Ring>, Problem> {
    let standby = "Only the process that writes the books reads and changes endpoints.";
    calls.state.journal.ring().ok_or_else(|| Problem::unavailable(standby))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let keys = "{\"url\", \"events\", \"rate\", \"concurrency\", \"paused\", \"secret\", \"headers\", \"template\"}";
    let bad = |e| Problem::new(StatusCode::BAD_REQUEST, "bad_body", format!("Send {keys}, all but url optional: {e}."));
    serde_json::from_slice(body).map_err(bad)
}

/// Lists a merchant's endpoints, newest first; the configuration's comes last.
#[utoipa::path(get, path = "/v1/merchants/{merchant}/endpoints", params(("merchant" = String, Path),
    ("limit" = Option<i64>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page of the list", body = Page<views::Endpoint>)))]
pub async fn list(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    name: Result<Path<String>, PathRejection>,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    let Path(name) = name.map_err(|_| Problem::unknown("merchant"))?;
    let of = merchant(&calls, &scope, &name)?;
    list::only(&pairs, &["limit", "cursor"])?;
    let limit = list::limit(&pairs)?;
    let before: i64 = match list::get(&pairs, "cursor") {
        Some(cursor) => list::opened(cursor).and_then(|text| text.parse().ok()).ok_or_else(list::bad_cursor)?,
        None => i64::MAX,
    };
    let ring = ring(&calls)?;
    let rows = move |reader: &mut dyn crate::store::Reader| {
        let tail = " WHERE merchant = $1 AND seq < $2 AND deleted_at IS NULL ORDER BY seq DESC LIMIT $3";
        query::rows::<Endpoint>(reader, tail, &[Cell::Text(name), Cell::Int(before), Cell::Int(limit)])
    };
    let rows = calls.read(rows).await?;
    // A full page leaves the configuration's for the next one.
    let next = rows.last().filter(|_| rows.len() as i64 == limit).map(|row| sealed(&row.seq.to_string()));
    let opened = rows.into_iter().map(|row| {
        let settings = ring.unseal_settings(row.id, &row.settings).and_then(|bytes| Settings::from_bytes(&bytes));
        let settings = settings.ok_or_else(unreadable)?;
        Ok(shown(row, settings))
    });
    let mut data: Vec<views::Endpoint> = opened.collect::<Result<_, Problem>>()?;
    data.extend(next.is_none().then(|| of_configuration(&of)));
    Ok(Json(Page { data, next }).into_response())
}

fn unreadable() -> Problem {
    let detail = "The settings of an endpoint cannot be decrypted: the store was changed by hand.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

fn shown(endpoint: Endpoint, settings: Settings) -> views::Endpoint {
    views::Endpoint {
        id: endpoint.id.to_string(),
        merchant: endpoint.merchant,
        url: settings.url,
        events: filter::patterns(&endpoint.events).map(str::to_owned).collect(),
        rate: settings.rate,
        concurrency: settings.concurrency,
        paused: endpoint.paused != 0,
        headers: settings.headers.into_keys().map(|name| (name, None)).collect(),
        template: settings.template,
        configured: false,
        failing_since: endpoint.failing_since.map(views::time),
        created_at: Some(views::time(endpoint.created_at)),
        secret: None,
    }
}

fn of_configuration(merchant: &Merchant) -> views::Endpoint {
    views::Endpoint {
        id: configured(&merchant.name).to_string(),
        merchant: merchant.name.to_string(),
        url: merchant.url.clone(),
        events: vec![],
        rate: None,
        concurrency: None,
        paused: false,
        headers: BTreeMap::new(),
        template: None,
        configured: true,
        failing_since: None,
        created_at: None,
        secret: None,
    }
}

/// Makes an endpoint. It gets the events that are made from now on.
#[utoipa::path(post, path = "/v1/merchants/{merchant}/endpoints", params(("merchant" = String, Path)),
    request_body = EndpointBody,
    responses(
        (status = 201, description = "The endpoint, with its secret, which is not shown again", body = views::Endpoint),
        (status = 422, description = "A setting is wrong; `detail` names it.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn create(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    name: Result<Path<String>, PathRejection>,
    QueryParams(pairs): QueryParams,
    SentBody(body): SentBody,
) -> ApiResult {
    let Path(name) = name.map_err(|_| Problem::unknown("merchant"))?;
    let of = merchant(&calls, &scope, &name)?;
    list::only(&pairs, &[])?;
    let (settings, events, paused) = read::<EndpointBody>(&body)?.checked(&of).map_err(wrong)?;
    let what = What::Create(Box::new(settings), events, paused);
    let change = EndpointChange { merchant: name, what };
    let (endpoint, settings) = done(calls.state.journal.endpoint(change).await.map_err(not_written)?)?;
    let secret = Some(settings.secret.clone());
    Ok((StatusCode::CREATED, Json(views::Endpoint { secret, ..shown(endpoint, settings) })).into_response())
}

impl EndpointBody {
    fn checked(self, of: &Merchant) -> Result<(Settings, String, bool), String> {
        settings::url(&self.url, of.allow_private)?;
        let events = filter::joined(&self.events)?;
        self.rate.map_or(Ok(()), settings::rate)?;
        self.concurrency.map_or(Ok(()), settings::concurrency)?;
        self.secret.as_deref().map_or(Ok(()), settings::secret)?;
        let made = || settings::new_secret().ok_or("The system gives no random numbers: send a `secret`.");
        let settings = Settings {
            url: self.url,
            rate: self.rate,
            concurrency: self.concurrency,
            secret: self.secret.map_or_else(made, Ok)?,
            headers: settings::headers(self.headers)?,
            template: self.template.as_ref().map(settings::template).transpose()?,
        };
        Ok((settings, events, self.paused))
    }
}

/// The id of an endpoint that may be changed.
fn changeable(id: &str, merchant: &str) -> Result<Uuid, Problem> {
    let id = Uuid::try_parse(id).map_err(|_| Problem::unknown("endpoint"))?;
    if id != configured(merchant) {
        return Ok(id);
    }
    let detail = format!(
        "This endpoint is the configuration's: change `url` and `secret_file` of [ledger.merchant.{merchant}] and \
         reload. Its filter and bounds cannot be changed; make another endpoint for them."
    );
    Err(Problem::new(StatusCode::CONFLICT, "configured_endpoint", detail))
}

/// Changes an endpoint, from the next attempt on.
#[utoipa::path(patch, path = "/v1/merchants/{merchant}/endpoints/{id}",
    params(("merchant" = String, Path), ("id" = String, Path)), request_body = EndpointPatch,
    responses(
        (status = 200, description = "The endpoint", body = views::Endpoint),
        (status = 409, description = "It is the configuration's.", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "A setting is wrong; `detail` names it.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn change(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    QueryParams(pairs): QueryParams,
    SentBody(body): SentBody,
) -> ApiResult {
    let Path((name, id)) = path.map_err(|_| Problem::unknown("endpoint"))?;
    let of = merchant(&calls, &scope, &name)?;
    list::only(&pairs, &[])?;
    let id = changeable(&id, &name)?;
    let patch = read::<EndpointPatch>(&body)?.checked(&of).map_err(wrong)?;
    let change = EndpointChange { merchant: name, what: What::Patch(id, Box::new(patch)) };
    let (endpoint, settings) = done(calls.state.journal.endpoint(change).await.map_err(not_written)?)?;
    Ok(Json(shown(endpoint, settings)).into_response())
}

impl EndpointPatch {
    fn checked(self, of: &Merchant) -> Result<Patch, String> {
        self.url.as_deref().map_or(Ok(()), |url| settings::url(url, of.allow_private))?;
        self.rate.flatten().map_or(Ok(()), settings::rate)?;
        self.concurrency.flatten().map_or(Ok(()), settings::concurrency)?;
        self.secret.as_deref().map_or(Ok(()), settings::secret)?;
        let template = |template: Option<Value>| template.as_ref().map(settings::template).transpose();
        Ok(Patch {
            url: self.url,
            events: self.events.as_deref().map(filter::joined).transpose()?,
            rate: self.rate,
            concurrency: self.concurrency,
            paused: self.paused,
            secret: self.secret,
            headers: self.headers.map(settings::headers).transpose()?,
            template: self.template.map(template).transpose()?,
        })
    }
}

/// Ends an endpoint. What waits for it is dropped.
#[utoipa::path(delete, path = "/v1/merchants/{merchant}/endpoints/{id}",
    params(("merchant" = String, Path), ("id" = String, Path)),
    responses(
        (status = 204, description = "It is deleted."),
        (status = 409, description = "It is the configuration's.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn delete(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    let Path((name, id)) = path.map_err(|_| Problem::unknown("endpoint"))?;
    merchant(&calls, &scope, &name)?;
    list::only(&pairs, &[])?;
    let id = changeable(&id, &name)?;
    let change = EndpointChange { merchant: name, what: What::Delete(id) };
    done(calls.state.journal.endpoint(change).await.map_err(not_written)?)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn done(changed: Changed) -> Result<(Endpoint, Settings), Problem> {
    match changed {
        Changed::Done(endpoint, settings) => Ok((*endpoint, *settings)),
        Changed::Unknown => Err(Problem::unknown("endpoint")),
        Changed::Many => Err(wrong(format!("A merchant has at most {ENDPOINTS_MAX} endpoints."))),
        Changed::Unreadable => Err(unreadable()),
    }
}
