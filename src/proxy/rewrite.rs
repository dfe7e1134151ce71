//! Headers, host and path of a request for the server, and of its answer for the client.
//!
//! Towards the server, in this order: the client's forwarding headers are replaced (untrusted peer) or continued
//! (trusted one), other headers that speak for the gateway ([`voice`]) are removed, and the request id is set, once.
//! Then, at each attempt, the app's name is set, and the route's `remove`, `set` and `add` apply, so an operator has the
//! last word. Header names that a server might fold into the app's name (CGI does not distinguish `-` and `_`) are removed.
//! Towards the client: an answer without a body has no framing headers, and an HTTP/1.0 client gets neither chunks nor
//! informational answers, which it would take for the answer. The path is forwarded as it was routed (normalised), with
//! the route's prefixes; the query is never touched.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use pingora::{Error, InvalidHTTPHeader, OrErr, Result};

use super::ctx::Ctx;
use super::exchange::Exchange;
use super::identify::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::reject::X_REQUEST_ID;
use config::filter::headers::HeaderFields;
use config::model::{Action, Route, Scheme};
use http_guard::field::is_spelling_of;
use http_guard::voice::{self, Voice};

/// `keep-alive`
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// Headers that Tollgate and Pingora add.
const ADDED: usize = 5;
/// The app's name for the server; only the gateway may set it.
const X_TOLLGATE_APP: HeaderName = HeaderName::from_static("x-tollgate-app");

/// Joins the cookies that an HTTP/2 client sent in several fields, because other parties expect one (RFC 9113, section
/// 8.2.3).
pub fn join_cookies(head: &mut RequestHeader) -> Result<()> {
    if head.version != Version::HTTP_2 || head.headers.get_all(COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let all = head.headers.get_all(COOKIE).iter().map(|value| value.as_bytes()).collect::<Vec<_>>().join(&b"; "[..]);
    let all = HeaderValue::from_maybe_shared(Bytes::from(all)).or_err(InvalidHTTPHeader, "cookies")?;
    head.insert_header(COOKIE, all)
}

/// Sets what every server gets, once per request: the client, its scheme and host, and the request's id.
///
/// Pingora keeps a second map for the case of header names, and an insertion into it costs more than everything else
/// here. So the head drops that map: names that HTTP/1.1 peers usually see capitalised still are, others are lower
/// case, as HTTP/2 makes all of them.
pub fn identified(exchange: &mut impl Exchange, ctx: &Ctx) -> Result<()> {
    let peer = exchange.peer();
    let (address, text) = (peer.address, peer.text.clone());
    let head = exchange.asked_mut();
    let odd = (!head.raw_path_is_utf8()).then(|| head.raw_path().to_vec());
    let mut parts: Parts = std::mem::replace(head, empty()).into();
    parts.headers.reserve(ADDED);
    if let Some(authority) = parts.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).or_err(InvalidHTTPHeader, "an absolute target")?;
        parts.headers.insert(HOST, host);
    }
    if parts.version == Version::HTTP_10 {
        // An HTTP/1.0 client cannot read the answer that this asks for (RFC 9110, section 10.1.1).
        parts.headers.remove(EXPECT);
    }
    forwarding(&mut parts.headers, ctx, address, text)?;
    parts.headers.insert(X_REQUEST_ID, ctx.request_id.clone());
    *head = RequestHeader::from(parts);
    odd.map_or(Ok(()), |target| head.set_raw_path(&target))
}

/// Applies the route's rules to an attempt: path and headers.
pub fn request(sent: &RequestHeader, head: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let target = edit(sent, &mut RequestFields(head), ctx)?;
    target.map_or(Ok(()), |target| head.set_raw_path(&target))
}

/// Applies the route's rules to the headers of an attempt; returns the target for the server, if it differs from the
/// one sent.
pub fn edit<F>(sent: &RequestHeader, fields: &mut F, ctx: &Ctx) -> Result<Option<Vec<u8>>>
where
    F: HeaderFields<Error = Box<Error>>,
{
    if let Some(app) = ctx.snapshot.app(ctx.app) {
        let app = HeaderValue::from_bytes(app.as_bytes()).or_err(InvalidHTTPHeader, "the name of an app")?;
        fields.set(&X_TOLLGATE_APP, &app)?;
    }
    let Some(route) = ctx.route.map(|route| ctx.snapshot.route(route).0) else { return Ok(None) };
    route.filters.request_headers.apply(fields)?;
    Ok(target(sent, ctx, route))
}

/// A request's head, as the rules change it.
struct RequestFields<'h>(&'h mut RequestHeader);

impl HeaderFields for RequestFields<'_> {
    type Error = Box<Error>;

    fn remove(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<()> {
        self.0.insert_header(name.clone(), value.clone())
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<()> {
        self.0.append_header(name.clone(), value.clone()).map(drop)
    }
}

/// Rewrites an answer for the client. It drops the map of header cases too, for the same reason.
pub fn response(head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let canonical = head.status.canonical_reason();
    let odd = head.get_reason_phrase().filter(|reason| Some(*reason) != canonical).map(str::to_owned);
    let none = ResponseHeader::from(http::Response::new(()).into_parts().0);
    let mut parts: http::response::Parts = std::mem::replace(head, none).into();
    if parts.version == Version::HTTP_10 {
        // The gateway sends its own version, not the server's (RFC 9112, section 2.3).
        parts.version = Version::HTTP_11;
    }
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        drop_hop_by_hop(&mut parts.headers);
    }
    if parts.status.is_informational() || parts.status == StatusCode::NO_CONTENT {
        // A client that believed these would wait for a body, which does not come (RFC 9110, section 8.6).
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(TRANSFER_ENCODING);
    }
    say_length_once(&mut parts.headers);
    parts.headers.insert(X_REQUEST_ID, ctx.request_id.clone());
    if let Some(limited) = ctx.limited.as_ref().filter(|_| !informational(parts.status)) {
        limited.tell(&mut parts.headers);
    }
    if let Some(route) = ctx.route.map(|route| ctx.snapshot.route(route).0) {
        let rules = &route.filters.response_headers;
        if informational(parts.status) {
            rules.apply_removals(&mut parts.headers);
        } else {
            let Ok(()) = rules.apply(&mut parts.headers);
        }
    }
    *head = ResponseHeader::from(parts);
    odd.map_or(Ok(()), |reason| head.set_reason_phrase(Some(&reason)))
}

/// Suppresses informational answers for an HTTP/1.0 client, which does not know them (RFC 9110, section 15.2).
pub fn spare_informational(session: &mut Session) {
    if session.req_header().version == Version::HTTP_10
        && let ServerSession::H1(session) = session.as_mut()
    {
        session.set_ignore_info_resp(true);
    }
}

/// Frames an answer without a length for an HTTP/1.0 client: by the connection's end (RFC 9112, section 6.1).
///
/// If the server speaks HTTP/2, Pingora would add chunked framing afterwards. So the head is written here; Pingora
/// sends no second one.
pub async fn frame_for_http10(session: &mut Session, head: &mut ResponseHeader) -> Result<()> {
    head.remove_header(&TRANSFER_ENCODING);
    let bodiless = session.req_header().method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
    if bodiless || head.headers.contains_key(CONTENT_LENGTH) {
        return Ok(());
    }
    session.set_keepalive(None);
    head.set_version(Version::HTTP_11);
    session.write_response_header(Box::new(head.clone()), false).await
}

/// Whether the final answer is still to come.
pub fn informational(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// A length that the server says several times, always alike, goes to the client once (RFC 9112, section 6.3).
fn say_length_once(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let (first, second) = (lines.next(), lines.next());
    let Some(first) = first.filter(|first| second.is_some() || first.as_bytes().contains(&b',')) else { return };
    let length = first.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
    let length = HeaderValue::from_bytes(length);
    if let Ok(length) = length {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// Removes headers about the server's own connection (RFC 9110, section 7.6.1).
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    headers.remove(KEEP_ALIVE);
    let lines = headers.get_all(CONNECTION).iter().filter(|line| *line != "keep-alive");
    let options = lines.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let names = options.filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok());
    let named: Vec<HeaderName> = names.filter(|name| *name != TRANSFER_ENCODING && *name != CONTENT_LENGTH).collect();
    headers.remove(CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

/// The head of no request.
pub fn empty() -> RequestHeader {
    RequestHeader::from(http::Request::new(()).into_parts().0)
}

fn forwarding(headers: &mut HeaderMap, ctx: &Ctx, peer: IpAddr, text: HeaderValue) -> Result<()> {
    let (mut forwarded, mut foreign, mut forged, mut spoken) = (false, false, false, false);
    for name in headers.keys() {
        let name = name.as_str().as_bytes();
        foreign |= name.starts_with(b"x-forwarded-");
        forged |= is_the_app(name);
        forwarded |= name == b"forwarded";
        spoken |= voice::of(name).is_some();
    }
    let scheme = match ctx.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    if forged {
        drop_all(headers, is_the_app);
    }
    if spoken {
        drop_all(headers, |name| match voice::of(name) {
            Some(Voice::OfClient) => !ctx.peer_trusted,
            Some(Voice::OfRequest) => true,
            None => false,
        });
    }
    let trusted = foreign && ctx.peer_trusted;
    if foreign && !trusted {
        drop_all(headers, |name| name.starts_with(b"x-forwarded-"));
    }
    let chain = if trusted { appended(joined(headers, &X_FORWARDED_FOR), text.as_bytes())? } else { text };
    headers.insert(X_FORWARDED_FOR, chain);
    if !(trusted && headers.contains_key(X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !(trusted && headers.contains_key(X_FORWARDED_HOST))
        && let Some(host) = headers.get(HOST).cloned()
    {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if forwarded {
        let chain = if ctx.peer_trusted { joined(headers, &FORWARDED) } else { vec![] };
        let element = match peer {
            IpAddr::V4(v4) => format!("for={v4};proto={scheme}"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto={scheme}"),
        };
        headers.insert(FORWARDED, appended(chain, element.as_bytes())?);
    }
    Ok(())
}

/// Removes the headers that `is_one` selects.
fn drop_all(headers: &mut HeaderMap, is_one: impl Fn(&[u8]) -> bool) {
    let names = headers.keys().filter(|name| is_one(name.as_str().as_bytes())).cloned();
    names.collect::<Vec<_>>().iter().for_each(|name| drop(headers.remove(name)));
}

/// Whether a header is the app's name, or would be to a server that takes all signs for the same.
fn is_the_app(name: &[u8]) -> bool {
    let app = b"x-tollgate-app";
    name == app || is_spelling_of(name, app)
}

/// All values of a header, as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    headers.get_all(name).iter().map(|value| value.as_bytes()).collect::<Vec<_>>().join(&b", "[..])
}

fn appended(mut list: Vec<u8>, element: &[u8]) -> Result<HeaderValue> {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element);
    HeaderValue::from_maybe_shared(Bytes::from(list)).or_err(InvalidHTTPHeader, "a forwarding header")
}

/// The target for the server, if it differs from the one sent.
fn target(sent: &RequestHeader, ctx: &Ctx, route: &Route) -> Option<Vec<u8>> {
    let absolute = sent.uri.authority().is_some();
    // The ledger gets exactly the bytes that were judged.
    let as_sent = ctx.path.is_none() && !absolute && route.action != Action::Ledger;
    if as_sent && route.filters.prefix.is_empty() {
        return None;
    }
    let mut target = path(sent, ctx, route);
    if let Some(query) = sent.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    Some(target.into_bytes())
}

/// The path for the server: as it was routed, with the route's prefixes.
pub fn path(sent: &RequestHeader, ctx: &Ctx, route: &Route) -> String {
    let path = ctx.path.as_deref().unwrap_or(sent.uri.path());
    route.filters.prefix.forwarded(path)
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;

    use super::join_cookies;

    #[test]
    fn cookies_of_http_2_become_one_field() {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for crumb in ["a=1", "b=2; c=3", "d=4"] {
            head.append_header("cookie", crumb).unwrap();
        }
        join_cookies(&mut head).unwrap();
        assert_eq!(head.headers.get_all("cookie").iter().count(), 3, "HTTP/1.1 keeps what it was sent");
        head.set_version(http::Version::HTTP_2);
        join_cookies(&mut head).unwrap();
        assert_eq!(head.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }
}
