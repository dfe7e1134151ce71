//! `POST /v1/orders` and `POST /v1/orders/{id}/refunds`: what merchants ask for, each once for its `Idempotency-Key`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, FromRequest, FromRequestParts, Request, State as With};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;
use uuid::Uuid;

use super::calls::{ApiResult, Caller, QueryParams, Segment, SentBody, not_written, uuid};
use super::token::Scope;
use super::{Calls, Problem};
use crate::book::orders::NewOrder;
use crate::book::refunds::NewRefund;
use crate::command::{self, Call, Command, Commanded};
use crate::outcalls::Unfinished;
use crate::query;
use crate::query::{list, views};
use crate::rows::{self, Cell, Evidence, IdempotencyKey};
use base::clock;
use base::problem::PROBLEM_JSON;
use base::units::Currency;
use config::model::ledger::{Channel, Ledger};
use providers::event::AMOUNT_MAX;
use providers::normalise::{NAME_MAX, is_name};

/// The most bytes of an idempotency key.
const KEY_MAX: usize = 255;
/// Says that an answer was given before.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An order to be created.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// The merchant; a merchant's token creates its own.
    pub merchant: String,
    /// The channel of the merchant by which it is paid.
    pub channel: String,
    /// The merchant's order number, unique within the channel.
    #[schema(min_length = 1, max_length = 256)]
    pub out_trade_no: String,
    /// The amount, in minor units of the currency.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub amount_minor: i64,
    /// ISO 4217 code, in upper case.
    pub currency: String,
}

/// A refund to be asked for.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundBody {
    /// The merchant's number of the refund, unique within the order.
    #[schema(min_length = 1, max_length = 256)]
    pub out_refund_no: String,
    /// The amount, in minor units of the order's currency.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    pub amount_minor: i64,
}

/// A call with its idempotency key, read but not decided.
pub struct Keyed {
    key: String,
    fingerprint: String,
    scope: Scope,
    body: Bytes,
}

impl Keyed {
    /// The merchant that calls; none for the platform.
    pub(super) fn merchant(&self) -> Option<&str> {
        self.scope.0.as_deref()
    }

    /// Reads the body; `example` shows what it should be.
    pub(super) fn read<T: DeserializeOwned>(&self, example: &str) -> Result<T, Problem> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "bad_body", format!("Send {example}: {e}.")))
    }
}

impl<S: Send + Sync> FromRequest<S> for Keyed {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Keyed, Problem> {
        let (mut parts, body) = request.into_parts();
        let Extension(scope): Caller = Extension::from_request_parts(&mut parts, state)
            .await
            .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The caller is not known."))?;
        let QueryParams(pairs) = QueryParams::from_request_parts(&mut parts, state).await?;
        list::only(&pairs, &[])?;
        let key = key(&parts.headers)?;
        let path = parts.uri.path().to_owned();
        let SentBody(body) = SentBody::from_request(Request::from_parts(parts, body), state).await?;
        let fingerprint = command::fingerprint("POST", &path, &body);
        Ok(Keyed { key: command::key_digest(scope.0.as_deref(), &key), fingerprint, scope, body })
    }
}

/// Reads the key of a call; quoted (a string of RFC 8941) or bare.
fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "idempotency_key", detail);
    let mut sent = headers.get_all("idempotency-key").iter();
    let missing =
        "Send an Idempotency-Key: a text of your own, such as a UUID, that stays the same when you try again.";
    let key = sent.next().ok_or_else(|| bad(missing))?;
    if sent.next().is_some() {
        return Err(bad("Send one Idempotency-Key."));
    }
    let key = key.to_str().ok().and_then(unquoted).filter(|key| (1..=KEY_MAX).contains(&key.len()));
    key.ok_or_else(|| bad("An Idempotency-Key has 1 to 255 printable characters of ASCII."))
}

fn unquoted(text: &str) -> Option<String> {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('"') else {
        return text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ').then(|| text.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let (mut key, mut escaped) = (String::with_capacity(inner.len()), false);
    for letter in inner.chars() {
        match letter {
            '\\' | '"' if escaped => escaped = false,
            _ if escaped => return None,
            '\\' => {
                escaped = true;
                continue;
            }
            '"' => return None,
            ' '..='~' => {}
            _ => return None,
        }
        key.push(letter);
    }
    (!escaped).then_some(key)
}

pub(super) fn wrong(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", detail)
}

fn named(field: &str, text: &str) -> Result<(), Problem> {
    let detail = || format!("`{field}` has 1 to {NAME_MAX} bytes and no control characters.");
    if is_name(text) { Ok(()) } else { Err(wrong(detail())) }
}

pub(super) fn amount(amount: i64) -> Result<(), Problem> {
    let detail = "`amount_minor` is a whole number of minor units, from 1 to 2^53 - 1.";
    if (1..=AMOUNT_MAX).contains(&amount) { Ok(()) } else { Err(wrong(detail.to_owned())) }
}

/// Reads a currency, in upper case.
pub(super) fn currency(code: &str) -> Result<Currency, Problem> {
    let currency = Currency::parse(code).filter(|currency| currency.code() == code);
    currency.ok_or_else(|| wrong("`currency` is a code of ISO 4217, such as \"CNY\".".to_owned()))
}

/// Creates an order, or adopts the one that its payment has opened.
#[utoipa::path(post, path = "/v1/orders", request_body = OrderBody,
    params(("Idempotency-Key" = String, Header, description = "The same for every try of this call")),
    responses(
        (status = 201, description = "The order", body = views::Order),
        (status = 409, description = "The channel has such an order, or a call with this key runs.", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "It cannot be created so, the provider refuses it, or the key was used for another call.", content_type = "application/problem+json", body = Problem),
        (status = 503, description = "It is recorded, and its provider gave no answer: send it again with the same key.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn order(With(calls): With<Calls>, keyed: Keyed) -> ApiResult {
    let example = "{\"merchant\", \"channel\", \"out_trade_no\", \"amount_minor\", \"currency\"}";
    let asked: OrderBody = keyed.read(example)?;
    match asked.checked(&calls.state.config.load(), keyed.merchant()) {
        Ok(order) => decided(&calls, keyed, Call::Order(order)).await,
        Err(problem) => before_or(&calls, keyed, problem).await,
    }
}

impl OrderBody {
    /// Checks it against the configuration.
    fn checked(self, config: &Ledger, caller: Option<&str>) -> Result<NewOrder, Problem> {
        named("out_trade_no", &self.out_trade_no)?;
        amount(self.amount_minor)?;
        let currency = currency(&self.currency)?;
        let is_own = caller.is_none_or(|own| own == self.merchant);
        let channel = config.channels.iter().find(|channel| *channel.name == self.channel);
        let channel = channel.filter(|channel| is_own && *channel.merchant == self.merchant);
        let none = || wrong(format!("The merchant {} has no channel {}.", self.merchant, self.channel));
        let channel = Arc::new(channel.ok_or_else(none)?.clone());
        let outgoing = channel.provider.provider.outgoing.as_ref().filter(|_| channel.is_called());
        if outgoing.is_some_and(|outgoing| !(outgoing.takes)(currency)) {
            return Err(wrong(format!("The provider of the channel {} takes no {currency}.", self.channel)));
        }
        Ok(NewOrder { channel, out_trade_no: self.out_trade_no, amount_minor: self.amount_minor, currency })
    }
}

/// Asks for a refund of a paid order.
#[utoipa::path(post, path = "/v1/orders/{id}/refunds", request_body = RefundBody,
    params(("id" = String, Path), ("Idempotency-Key" = String, Header, description = "The same for every try of this call")),
    responses(
        (status = 201, description = "The refund", body = views::Refund),
        (status = 409, description = "The order has such a refund, or a call with this key runs.", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "It cannot be refunded so, or the key was used for another call.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn refund(With(calls): With<Calls>, id: Segment, keyed: Keyed) -> ApiResult {
    let order = uuid(id, "order")?;
    let RefundBody { out_refund_no, amount_minor } = keyed.read("{\"out_refund_no\", \"amount_minor\"}")?;
    named("out_refund_no", &out_refund_no)?;
    amount(amount_minor)?;
    let query_after = query_after(&calls, order).await?;
    decided(&calls, keyed, Call::Refund(NewRefund { order, out_refund_no, amount_minor, query_after })).await
}

/// The milliseconds after which the provider of an order is asked about a refund; none if it is never called.
async fn query_after(calls: &Calls, order: Uuid) -> Result<Option<i64>, Problem> {
    let config = calls.state.config.load_full();
    if !config.channels.iter().any(Channel::is_called) {
        return Ok(None);
    }
    let order = calls.read(move |reader| query::one::<rows::Order>(reader, order, None)).await?;
    let channel = order.and_then(|order| config.channels.iter().find(|channel| *channel.name == order.channel));
    let wait = channel.filter(|channel| channel.is_called()).and_then(|channel| channel.query_after.first());
    Ok(wait.map(|wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
}

/// The first answer to a call that the configuration of now does not allow, if it was answered before; else why not.
pub(super) async fn before_or(calls: &Calls, keyed: Keyed, problem: Problem) -> ApiResult {
    let key = keyed.key;
    let known = calls.read(move |reader| query::rows::<IdempotencyKey>(reader, " WHERE \"key\" = $1", &[key.put()]));
    match known.await?.pop() {
        Some(IdempotencyKey { fingerprint, status: Some(status), answer_id: Some(answer), .. })
            if fingerprint == keyed.fingerprint =>
        {
            again(calls, u16::try_from(status).unwrap_or_default(), answer).await
        }
        _ => Err(problem),
    }
}

/// Gives a first answer again.
async fn again(calls: &Calls, status: u16, id: Uuid) -> ApiResult {
    let ring = calls.state.journal.ring().ok_or_else(|| Problem::unavailable("This process does not write."))?;
    let found = calls.read(move |reader| query::one::<Evidence>(reader, id, None)).await?;
    let body = found.and_then(|kept| ring.unseal(kept.key_id, "evidence", "body", id, &kept.body));
    let Some(body) = body else {
        let detail = "It was answered before, and the answer cannot be read any more: ask for the object.";
        return Err(Problem::new(StatusCode::GONE, "answer_erased", detail));
    };
    let mut again = answer(status, body);
    again.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    Ok(again)
}

/// Lets the writer decide a call, and answers it.
pub(super) async fn decided(calls: &Calls, keyed: Keyed, call: Call) -> ApiResult {
    let ring = calls.state.journal.ring().ok_or_else(|| Problem::unavailable("This process does not write."))?;
    let internal = |why: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", why);
    let sealing = ring.today(clock::wall_ms()).map_err(|e| internal(e.to_string()))?;
    let Keyed { key, fingerprint, scope, .. } = keyed;
    let command = Command { merchant: scope.0, key, fingerprint, call, sealing };
    let key = command.key.clone();
    let commanded = match calls.state.journal.command(command).await.map_err(not_written)? {
        Commanded::Calls(subject) => calls.state.journal.call(subject, key).await.map_err(unfinished)?,
        commanded => commanded,
    };
    match commanded {
        Commanded::Answer { status, body } => Ok(answer(status, body)),
        Commanded::Before { status, answer } => again(calls, status, answer).await,
        Commanded::Other => {
            let detail = "The Idempotency-Key was used for another call: send a new one.";
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail))
        }
        Commanded::Running | Commanded::Calls(_) => Err(running()),
    }
}

fn running() -> Problem {
    let detail = "The first call with this Idempotency-Key still runs: try again soon.";
    Problem::new(StatusCode::CONFLICT, "idempotency_key_running", detail)
}

/// The answer to a call whose provider was not reached. What it made is in the books.
fn unfinished(why: Unfinished) -> Problem {
    match why {
        Unfinished::Running => running(),
        Unfinished::NotWritten(why) => not_written(why),
        Unfinished::NoAnswer(why) => {
            let detail = format!(
                "It is recorded and pending, but its provider gave no usable answer ({why}). Send the same call with the \
                 same Idempotency-Key again: nothing is done twice."
            );
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable", detail)
        }
    }
}

fn answer(status: u16, body: Vec<u8>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    let kind = if status.is_success() { json } else { PROBLEM_JSON };
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::unquoted;

    #[test]
    fn quoted_and_bare_keys_are_one() {
        let key = |text: &str| unquoted(text);
        assert_eq!(key("8e03978e"), Some("8e03978e".to_owned()));
        assert_eq!(key("\"8e03978e\""), key("8e03978e"));
        assert_eq!(key("\"a\\\"b\\\\c\""), Some("a\"b\\c".to_owned()));
        for wrong in ["\"", "\"a", "\"a\\\"", "\"a\\b\"", "\"a\"b\"", "ä", "\"ä\""] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }
}
