//! Error answers of the gateway itself.
//!
//! A refusal is an `application/problem+json` document (RFC 9457) with a stable `type`. It never contains an upstream's
//! address. `detail` says what a client can do about it; the access log says what happened inside. A gRPC client gets
//! it as a gRPC status (`grpc`).

use std::pin::Pin;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use super::ctx::Ctx;
use super::exchange::Exchange;
use super::limit::Over;
use super::{forward, lane, observe, rewrite};
use crate::problem::Reason;
use base::problem::{PROBLEM_JSON, Problem};

pub use self::grpc::GRPC_STATUS;

mod grpc;

/// The problem document. `detail` replaces the reason's own text; for a limit the text names it and says when to try
/// again.
fn document(reason: Reason, request_id: &[u8], detail: Option<&str>, over: Option<&Over>) -> Vec<u8> {
    let detail = over.map_or_else(|| detail.unwrap_or(reason.detail()).to_owned(), Over::detail);
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut problem = Problem::new(status, reason.label(), detail);
    problem = problem.with("request_id", String::from_utf8_lossy(request_id));
    if let Some(over) = over {
        problem = problem.with("limit", &*over.limit);
    }
    problem.into_json().into_bytes()
}

/// Methods that are proxied, among the standard ones.
pub const PROXIED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");

/// Answers with a problem. With `close` the connection ends after it.
///
/// Boxed: a request that is not refused would carry the future's room through every hook.
pub fn answer<'a>(exchange: &'a mut impl Exchange, ctx: &'a mut Ctx, reason: Reason, close: bool) -> Answered<'a> {
    Box::pin(answer_with(exchange, ctx, reason, None, vec![], close))
}

/// An answer on its way.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// The same, with other text than the reason's own, and more fields.
pub async fn answer_with(
    exchange: &mut impl Exchange,
    ctx: &mut Ctx,
    reason: Reason,
    detail: Option<&str>,
    fields: Vec<(HeaderName, HeaderValue)>,
    close: bool,
) -> Result<()> {
    ctx.rejected = Some(reason);
    let over = ctx.limited.as_ref().and_then(|limited| limited.over()).filter(|_| reason.is_limit());
    let (mut head, body) = match grpc::is_spoken(exchange.asked()) {
        true => {
            let words = over.map_or_else(|| detail.unwrap_or(reason.detail()).to_owned(), Over::detail);
            (grpc::head(reason.status(), &words, reason.passes())?, vec![])
        }
        false => (problem(reason)?, document(reason, ctx.request_id.as_bytes(), detail, over)),
    };
    for (name, value) in fields {
        head.insert_header(name, value)?;
    }
    if let Some(over) = over {
        head.insert_header(header::RETRY_AFTER, over.retry_after)?;
    }
    if let Some(limited) = &ctx.limited {
        for (name, value) in limited.fields() {
            head.append_header(name, value)?;
        }
    }
    respond(exchange, ctx, head, body.into(), close).await?;
    if matches!(reason, Reason::BodyTooLarge | Reason::SignedBodyTooLarge) {
        linger(exchange).await;
    }
    Ok(())
}

/// Answers a request that could not be proxied, if its client has no answer yet and is still connected.
///
/// Returns the status; 0 if it sent none.
pub async fn failed(exchange: &mut impl Exchange, ctx: &mut Ctx, e: &Error) -> u16 {
    let gone = observe::is_clients(exchange, ctx, e)
        && matches!(
            e.etype(),
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error
        );
    let refused = exchange.peer().watch.refused().map(|refused| Box::new(refused.clone()));
    let begun = exchange.answered().is_some_and(|status| !rewrite::informational(status));
    if begun || gone && refused.is_none() {
        exchange.ends_connection();
        return 0;
    }
    let reason = refused.as_ref().map_or_else(|| forward::reason(ctx, e), |refused| refused.cause.reason());
    ctx.refused = refused;
    if let Err(e) = answer(exchange, ctx, reason, true).await {
        log::debug!("an error answer did not reach its client: {e}");
    }
    reason.status()
}

fn problem(reason: Reason) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(reason.status(), Some(8))?;
    head.insert_header(header::CONTENT_TYPE, PROBLEM_JSON)?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    if reason.passes() {
        head.insert_header(header::RETRY_AFTER, HeaderValue::from_static("1"))?;
    }
    if reason == Reason::MethodNotAllowed {
        head.insert_header(header::ALLOW, PROXIED)?;
    }
    Ok(head)
}

/// Reads for a while what the client still sends. Closing at once would reset the connection, and a client that is busy
/// sending might never see its answer.
async fn linger(exchange: &mut impl Exchange) {
    let rest = async {
        let mut seen = 0;
        while let Ok(Some(part)) = exchange.read_body().await {
            seen += part.len();
            if seen > LINGER_BYTES {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// Sends an answer of the gateway: adds length and request id, and omits the body where HTTP has none.
pub async fn respond<E: Exchange>(
    exchange: &mut E,
    ctx: &Ctx,
    mut head: ResponseHeader,
    body: bytes::Bytes,
    close: bool,
) -> Result<()> {
    let bodiless = matches!(head.status.as_u16(), 204 | 304);
    // A refusal in gRPC consists of trailers.
    if !bodiless && !head.headers.contains_key(GRPC_STATUS) {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    head.insert_header(X_REQUEST_ID, ctx.request_id.clone())?;
    if let Some((name, way)) = lane::shown(E::WAY) {
        head.insert_header(name, way)?;
    }
    if close {
        exchange.ends_connection();
    }
    let bodiless = bodiless || body.is_empty() || exchange.asked().method == http::Method::HEAD;
    exchange.send(head, body, bodiless).await
}

/// How much longer a client may send after its body was refused as too large.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 << 20;

/// The request's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_the_order_of_their_numbers() {
        for (i, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, i);
            let document: serde_json::Value = serde_json::from_slice(&document(reason, b"id", None, None)).unwrap();
            assert_eq!(document["status"], reason.status());
            assert_eq!(document["type"], format!("urn:tollgate:problem:{}", reason.label()));
        }
    }
}
