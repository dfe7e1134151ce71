//! What a request and its answer look like on the other side: headers, host and path.
//!
//! Towards the server, in this order: the client's own forwarding headers are replaced (untrusted peer) or continued
//! (trusted one), the request id is set, then the route's `remove` and `set` apply, so an operator has the last word.
//! The path is forwarded as it was routed (normalised), with the route's prefixes; the query is never touched.

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderName};
use http::{HeaderMap, HeaderValue};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::ctx::Ctx;
use super::identify::{self, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::reject::X_REQUEST_ID;
use crate::config::model::{Route, Scheme};

/// The application's name towards the server; only the gateway may say it.
const X_TOLLGATE_APP: HeaderName = HeaderName::from_static("x-tollgate-app");

/// Rewrites a request on its way to the server.
pub fn request(session: &Session, head: &mut RequestHeader, ctx: &Ctx, peer: IpAddr) -> Result<()> {
    let Some(route) = ctx.route.map(|route| ctx.snapshot.route(route).0) else { return Ok(()) };
    forwarding(session, head, ctx, peer)?;
    head.insert_header(X_REQUEST_ID, ctx.request_id.clone())?;
    target(session, head, ctx, route)?;
    for name in &route.request_headers.remove {
        head.remove_header(name);
    }
    for (name, value) in &route.request_headers.set {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

/// Rewrites an answer on its way to the client.
pub fn response(head: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    head.insert_header(X_REQUEST_ID, ctx.request_id.clone())?;
    let Some(route) = ctx.route.map(|route| ctx.snapshot.route(route).0) else { return Ok(()) };
    for name in &route.response_headers.remove {
        head.remove_header(name);
    }
    for (name, value) in &route.response_headers.set {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

fn forwarding(session: &Session, head: &mut RequestHeader, ctx: &Ctx, peer: IpAddr) -> Result<()> {
    let sent = &session.req_header().headers;
    let (mut forwarded, mut foreign) = (false, false);
    for name in sent.keys() {
        let name = name.as_str().as_bytes();
        foreign |= name.starts_with(b"x-forwarded-") || name == b"x-tollgate-app";
        forwarded |= name == b"forwarded";
    }
    let scheme = match ctx.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    if foreign {
        head.remove_header(&X_TOLLGATE_APP);
        if !ctx.peer_trusted {
            let names = sent.keys().filter(|name| name.as_str().starts_with("x-forwarded-"));
            names.for_each(|name| drop(head.remove_header(name)));
        }
    }
    let chain = if foreign && ctx.peer_trusted { joined(sent, &X_FORWARDED_FOR) } else { vec![] };
    head.insert_header(X_FORWARDED_FOR, appended(chain, &address(peer))?)?;
    if !(foreign && ctx.peer_trusted && head.headers.contains_key(X_FORWARDED_PROTO)) {
        head.insert_header(X_FORWARDED_PROTO, HeaderValue::from_static(scheme))?;
    }
    if !(foreign && ctx.peer_trusted && head.headers.contains_key(X_FORWARDED_HOST))
        && let Some(host) = sent.get(HOST)
    {
        head.insert_header(X_FORWARDED_HOST, host.clone())?;
    }
    if forwarded {
        let chain = if ctx.peer_trusted { joined(sent, &FORWARDED) } else { vec![] };
        let element = match peer.to_canonical() {
            IpAddr::V4(v4) => format!("for={v4};proto={scheme}"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto={scheme}"),
        };
        head.insert_header(FORWARDED, appended(chain, &element)?)?;
    }
    Ok(())
}

fn address(peer: IpAddr) -> String {
    peer.to_canonical().to_string()
}

/// All values of a header, as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    headers.get_all(name).iter().map(|value| value.as_bytes()).collect::<Vec<_>>().join(&b", "[..])
}

fn appended(mut list: Vec<u8>, element: &str) -> Result<HeaderValue> {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    use pingora::OrErr;
    HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).or_err(pingora::InvalidHTTPHeader, "a forwarding header")
}

/// Sets the target where it differs from the one sent.
fn target(session: &Session, head: &mut RequestHeader, ctx: &Ctx, route: &Route) -> Result<()> {
    let sent = session.req_header();
    let absolute = sent.uri.authority().is_some();
    if absolute {
        let authority = identify::authority(&sent.uri, &sent.headers);
        head.insert_header(HOST, authority)?;
    }
    if ctx.path.is_none() && route.strip_prefix.is_none() && route.add_prefix.is_none() && !absolute {
        return Ok(());
    }
    let path = ctx.path.as_deref().unwrap_or(sent.uri.path());
    let mut target = prefixed(path, route.strip_prefix.as_deref(), route.add_prefix.as_deref());
    if let Some(query) = sent.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    head.set_raw_path(target.as_bytes())
}

/// `path` without the one prefix (where it has it, at a segment border) and with the other.
pub fn prefixed(path: &str, strip: Option<&str>, add: Option<&str>) -> String {
    let strip = strip.map(|s| s.trim_end_matches('/')).unwrap_or_default();
    let rest = path.strip_prefix(strip).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path);
    let rest = if rest.is_empty() { "/" } else { rest };
    match add.map(|a| a.trim_end_matches('/')) {
        Some(add) => format!("{add}{rest}"),
        None => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::prefixed;

    #[test]
    fn prefixes_are_cut_at_segment_borders() {
        for (path, strip, add, expected) in [
            ("/api/x", Some("/api"), None, "/x"),
            ("/api", Some("/api"), None, "/"),
            ("/api/", Some("/api/"), None, "/"),
            ("/apix", Some("/api"), None, "/apix"),
            ("/api/x", Some("/api"), Some("/internal"), "/internal/x"),
            ("/x", None, Some("/internal/"), "/internal/x"),
            ("/x", None, None, "/x"),
        ] {
            assert_eq!(prefixed(path, strip, add), expected, "{path} {strip:?} {add:?}");
        }
    }
}
