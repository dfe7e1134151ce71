//! Every answer the gateway makes up when something is wrong, in one table.
//!
//! A refusal is an `application/problem+json` document (RFC 9457) with a stable `type`. It never tells an upstream's
//! address. What a client may do about it is in `detail`; what happened inside is in the access log. A gRPC client gets it
//! in its own terms (`grpc`).

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use super::ctx::Ctx;
use super::limit::Over;

pub use self::grpc::GRPC_STATUS;

mod grpc;

/// Why the gateway answered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request breaks HTTP.
    BadRequest,
    /// The caller did not prove who it is.
    Unauthorized,
    /// The app waits for the platform's approval.
    AppPending,
    /// The app was suspended.
    AppSuspended,
    /// `allow` and `deny` keep this client out.
    Forbidden,
    /// No route matches.
    NoRoute,
    /// The route leads to the ledger, and the path to no callback.
    NotACallback,
    /// The method is never proxied.
    MethodNotAllowed,
    /// The head did not come in time.
    HeadTimeout,
    /// The body came too slowly.
    BodyTooSlow,
    /// The body is longer than `body_max`.
    BodyTooLarge,
    /// The body is longer than a signed one may be.
    SignedBodyTooLarge,
    /// The target is longer than `uri_max`.
    UriTooLong,
    /// The request expects more than `100 Continue`.
    ExpectationFailed,
    /// The TLS name does not cover the host that is asked for.
    Misdirected,
    /// The head is larger than `head_max`, or has more headers than `headers_max`.
    HeadTooLarge,
    /// The address has as many connections as it may have. Closed without an answer.
    TooManyConnections,
    /// The client opens no window for the answers to what it asks for. The stream is reset without an answer.
    WindowShut,
    /// All listeners together have as many connections as they may have. Closed without an answer.
    Full,
    /// The PROXY header is missing or from somebody untrusted. Closed without an answer.
    UntrustedProxy,
    /// A rate is used up.
    LimitedRate,
    /// Too many requests are in flight.
    LimitedConcurrency,
    /// Nothing inside should lead here.
    Internal,
    /// The protocol's version is none that is spoken here.
    VersionNotSupported,
    /// The upstream takes no more requests at once than its adaptive limit.
    Overloaded,
    /// No connection to a server, or it broke.
    BadGateway,
    /// The upstream has no server that takes requests.
    NoServer,
    /// Every server has `max_requests_per_server` requests in flight.
    Saturated,
    /// A server did not answer in time.
    GatewayTimeout,
    /// The ledger was not reached, broke off, or did not answer in time.
    LedgerUnavailable,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 30] = [
        Reason::BadRequest,
        Reason::Unauthorized,
        Reason::AppPending,
        Reason::AppSuspended,
        Reason::Forbidden,
        Reason::NoRoute,
        Reason::NotACallback,
        Reason::MethodNotAllowed,
        Reason::HeadTimeout,
        Reason::BodyTooSlow,
        Reason::BodyTooLarge,
        Reason::SignedBodyTooLarge,
        Reason::UriTooLong,
        Reason::ExpectationFailed,
        Reason::Misdirected,
        Reason::HeadTooLarge,
        Reason::TooManyConnections,
        Reason::WindowShut,
        Reason::Full,
        Reason::UntrustedProxy,
        Reason::LimitedRate,
        Reason::LimitedConcurrency,
        Reason::Internal,
        Reason::VersionNotSupported,
        Reason::Overloaded,
        Reason::BadGateway,
        Reason::NoServer,
        Reason::Saturated,
        Reason::GatewayTimeout,
        Reason::LedgerUnavailable,
    ];

    /// Label in metrics, `error` in the access log, and last part of the problem's `type`.
    pub fn label(self) -> &'static str {
        self.row().1
    }

    /// Status of the answer.
    pub fn status(self) -> u16 {
        self.row().0
    }

    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Reason::BadRequest => (400, "bad_request", "The request is not valid HTTP."),
            Reason::Unauthorized => (401, "unauthorized", "The request does not prove who sends it."),
            Reason::AppPending => (403, "app_pending", "This application is not approved yet."),
            Reason::AppSuspended => (403, "app_suspended", "This application was suspended."),
            Reason::Forbidden => (403, "forbidden", "This client address may not use this route."),
            Reason::NoRoute => (404, "no_route", "No route matches this request."),
            Reason::NotACallback => (404, "no_callback", "This is no path of a payment callback."),
            Reason::MethodNotAllowed => (405, "method_not_allowed", "This method is not proxied."),
            Reason::HeadTimeout => (408, "head_timeout", "The head of the request did not come in time."),
            Reason::BodyTooSlow => (408, "body_too_slow", "The body of the request came too slowly."),
            Reason::BodyTooLarge => (413, "body_too_large", "The request body is longer than this route takes."),
            Reason::SignedBodyTooLarge => {
                (413, "signed_body_too_large", "A signed request has at most 64 KiB of body.")
            }
            Reason::UriTooLong => (414, "uri_too_long", "The request target is longer than this gateway takes."),
            Reason::Misdirected => (421, "misdirected", "Ask again on a new connection, made for this host."),
            Reason::ExpectationFailed => {
                (417, "expectation_failed", "The only expectation that is met here is `100-continue`.")
            }
            Reason::HeadTooLarge => {
                (431, "head_too_large", "The head of the request is larger than this gateway takes.")
            }
            Reason::TooManyConnections => (429, "too_many_connections", "This address has too many connections."),
            Reason::WindowShut => (429, "window_shut", "No answer can be sent before the client opens its windows."),
            Reason::Full => (503, "max_connections", "This gateway has too many connections."),
            Reason::UntrustedProxy => (400, "untrusted_proxy", "The PROXY header is missing or not believed."),
            Reason::LimitedRate => (429, "rate_limited", "Too many requests. Try again later."),
            Reason::LimitedConcurrency => (429, "concurrency_limited", "Too many requests at once. Try again soon."),
            Reason::VersionNotSupported => (505, "version_not_supported", "This version of HTTP is not spoken here."),
            Reason::Overloaded => (503, "overloaded", "The servers behind the gateway are busy. Try again soon."),
            Reason::Internal => (500, "internal", "The gateway failed."),
            Reason::BadGateway => {
                (502, "bad_gateway", "The server behind the gateway could not be reached or broke off.")
            }
            Reason::NoServer => (503, "no_server", "No server behind the gateway takes requests now."),
            Reason::Saturated => (503, "saturated", "Every server behind the gateway is busy. Try again soon."),
            Reason::GatewayTimeout => (504, "gateway_timeout", "The server behind the gateway did not answer in time."),
            Reason::LedgerUnavailable => {
                (503, "ledger_unavailable", "The callback could not be recorded. Send it again soon.")
            }
        }
    }

    /// Whether it may pass in a second.
    fn passes(self) -> bool {
        matches!(self, Reason::NoServer | Reason::Saturated | Reason::Overloaded | Reason::LedgerUnavailable)
    }

    /// Whether a limit refused the request.
    pub fn is_limit(self) -> bool {
        matches!(self, Reason::LimitedRate | Reason::LimitedConcurrency)
    }

    /// The problem document; `detail` replaces the reason's own words, and of a limit it names which, and when to try
    /// again.
    pub fn document(self, request_id: &[u8], detail: Option<&str>, over: Option<&Over>) -> Vec<u8> {
        let (status, label, words) = self.row();
        let detail = detail.unwrap_or(words);
        let title = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default();
        let detail = over.map_or_else(|| detail.to_owned(), Over::detail);
        let mut document = serde_json::json!({
            "type": format!("urn:tollgate:problem:{label}"),
            "title": title,
            "status": status,
            "detail": detail,
            "request_id": String::from_utf8_lossy(request_id),
        });
        if let Some(over) = over {
            document["limit"] = (*over.limit).into();
        }
        document.to_string().into_bytes()
    }
}

/// Methods that are proxied, of those that everybody knows.
pub const PROXIED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");

/// Media type of a problem document.
pub const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Answers with a problem. With `close` the connection ends after it.
pub async fn answer(session: &mut Session, ctx: &mut Ctx, reason: Reason, close: bool) -> Result<()> {
    answer_with(session, ctx, reason, None, vec![], close).await
}

/// The same, with other words than the reason's own, and more fields.
pub async fn answer_with(
    session: &mut Session,
    ctx: &mut Ctx,
    reason: Reason,
    detail: Option<&str>,
    fields: Vec<(HeaderName, HeaderValue)>,
    close: bool,
) -> Result<()> {
    ctx.rejected = Some(reason);
    let over = ctx.limited.as_ref().and_then(|limited| limited.over()).filter(|_| reason.is_limit());
    let (mut head, body) = match grpc::is_spoken(session.req_header()) {
        true => {
            let words = over.map_or_else(|| detail.unwrap_or(reason.row().2).to_owned(), Over::detail);
            (grpc::head(reason.status(), &words, reason.passes())?, vec![])
        }
        false => (problem(reason)?, reason.document(ctx.request_id.as_bytes(), detail, over)),
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
    respond(session, ctx, head, body.into(), close).await?;
    if matches!(reason, Reason::BodyTooLarge | Reason::SignedBodyTooLarge) {
        linger(session).await;
    }
    Ok(())
}

fn problem(reason: Reason) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(reason.status(), Some(8))?;
    head.insert_header(header::CONTENT_TYPE, PROBLEM)?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    if reason.passes() {
        head.insert_header(header::RETRY_AFTER, HeaderValue::from_static("1"))?;
    }
    if reason == Reason::MethodNotAllowed {
        head.insert_header(header::ALLOW, PROXIED)?;
    }
    Ok(head)
}

/// Reads on for a while what the client still sends. Closing at once would reset the connection, and a client that is
/// busy sending might never see its answer.
async fn linger(session: &mut Session) {
    let rest = async {
        let mut seen = 0;
        while let Ok(Some(part)) = session.as_mut().read_request_body().await {
            seen += part.len();
            if seen > LINGER_BYTES {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// Sends an answer that the gateway made: adds length and request id, spares the body where HTTP has none.
pub async fn respond(
    session: &mut Session,
    ctx: &Ctx,
    mut head: ResponseHeader,
    body: bytes::Bytes,
    close: bool,
) -> Result<()> {
    if head.headers.contains_key(GRPC_STATUS)
        && let ServerSession::H2(stream) = session.as_mut()
    {
        // Trailers are what ends a stream; Pingora's own way would end it by an empty part of a body.
        head.insert_header(X_REQUEST_ID, ctx.request_id.clone())?;
        return stream.write_response_header(Box::new(head), true);
    }
    let bodiless = matches!(head.status.as_u16(), 204 | 304);
    if !bodiless {
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
    }
    head.insert_header(X_REQUEST_ID, ctx.request_id.clone())?;
    if close {
        session.set_keepalive(None);
    }
    let empty = bodiless || body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), empty).await?;
    if !empty {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// How much longer a client may send whose body is too large.
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
            let document: serde_json::Value = serde_json::from_slice(&reason.document(b"id", None, None)).unwrap();
            assert_eq!(document["status"], reason.status());
            assert_eq!(document["type"], format!("urn:tollgate:problem:{}", reason.label()));
        }
    }
}
