//! The stage `identify`: the client's address, the requested host, the scheme, and the request's id.
//!
//! `X-Forwarded-*` is believed only from `trusted.proxies`. The client is then the rightmost address of the chain that
//! is not itself trusted: strangers wrote everything to the left of it. If a trusted proxy sends something other than
//! an address (`unknown`, an address with a zone), the client is [`UNKNOWN`]: with the proxy's address it would be
//! admitted wherever `allow` names the proxy's network. Without a chain the client is the peer.

use std::net::{IpAddr, Ipv4Addr};

use http::HeaderValue;
use http::header::{HeaderMap, HeaderName, UPGRADE};
use pingora::http::RequestHeader;

use super::ahead;
use super::ctx::{Ctx, LoggedRequest};
use super::downstream::connection::Peer;
use super::exchange::Exchange;
use crate::runtime::snapshot::Snapshot;
use config::model::Scheme;

/// `x-forwarded-for`
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-forwarded-host`
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The address of a client that a trusted proxy does not name: it is in no network except the one of all addresses, has
/// one key for limits, and is refused where some addresses are denied.
pub const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Maximum length of a request id that is kept.
const REQUEST_ID_MAX: usize = 128;

/// The client's address, given that `peer` is trusted.
pub fn client(snapshot: &Snapshot, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let mut client = peer;
    let values = headers.get_all(X_FORWARDED_FOR).iter().collect::<Vec<_>>();
    let entries = values.iter().rev().flat_map(|value| value.as_bytes().rsplit(|b| *b == b','));
    // A list may have empty elements (RFC 9110, section 5.6.1).
    for entry in entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
        let Some(address) = address(entry) else { return UNKNOWN };
        client = address;
        if !snapshot.trusts(address) {
            break;
        }
    }
    client
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let parsed = text.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()));
    parsed.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()).map(|a| a.to_canonical())
}

/// The scheme by which the client came to the trusted proxy.
pub fn forwarded_scheme(headers: &HeaderMap) -> Option<Scheme> {
    let proto = headers.get(X_FORWARDED_PROTO)?.to_str().ok()?;
    match proto.rsplit(',').next()?.trim() {
        p if p.eq_ignore_ascii_case("https") || p.eq_ignore_ascii_case("wss") => Some(Scheme::Https),
        p if p.eq_ignore_ascii_case("http") || p.eq_ignore_ascii_case("ws") => Some(Scheme::Http),
        _ => None,
    }
}

/// The request's id: the received one if it is short and printable, otherwise a new random one.
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    let kept = headers.get(super::reject::X_REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        !bytes.is_empty() && bytes.len() <= REQUEST_ID_MAX && bytes.iter().all(u8::is_ascii_graphic)
    });
    kept.cloned().unwrap_or_else(|| new_request_id(fastrand::u128(..)))
}

/// 32 hexadecimal digits.
fn new_request_id(random: u128) -> HeaderValue {
    let mut id = [0; 32];
    for (i, digit) in id.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(random >> (4 * i)) as usize & 15];
    }
    HeaderValue::from_bytes(&id).expect("hexadecimal digits are a valid header value")
}

/// Applies the client's connection options as admission has read them: Pingora reads fewer.
pub fn obey_connection(exchange: &mut impl Exchange) {
    let verdict = exchange.peer().watch.verdict();
    if verdict.close {
        exchange.ends_connection();
    }
    if verdict.other_upgrade {
        exchange.asked_mut().remove_header(&UPGRADE);
    }
}

/// Notes that the request is under way.
pub fn begins(exchange: &impl Exchange, ctx: &mut Ctx) {
    let from = exchange.peer();
    from.watch.busy();
    from.watch.may_be_still(Some(ahead::WAIT));
    ctx.watch = Some(from.watch.clone());
    ctx.asked = from.http2.then(|| Box::new(LoggedRequest::of(exchange.asked())));
}

/// Determines the client's address and scheme, and gives the request its id.
pub fn who(asked: &RequestHeader, from: &Peer, ctx: &mut Ctx) {
    let peer = from.address;
    let headers = &asked.headers;
    ctx.request_id = request_id(headers);
    ctx.peer_trusted = ctx.snapshot.trusts(peer);
    ctx.client = if ctx.peer_trusted { client(&ctx.snapshot, headers, peer) } else { peer };
    if ctx.peer_trusted {
        ctx.scheme = forwarded_scheme(headers).unwrap_or(from.scheme);
    } else {
        ctx.scheme = from.scheme;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_when_printable_and_short() {
        let mut headers = HeaderMap::new();
        assert_eq!(request_id(&headers).len(), 32);
        assert_ne!(request_id(&headers), request_id(&headers));
        headers.insert("x-request-id", HeaderValue::from_static("mine-1"));
        assert_eq!(request_id(&headers), "mine-1");
        headers.insert("x-request-id", HeaderValue::from_static("two words"));
        assert_eq!(request_id(&headers).len(), 32);
    }

    #[test]
    fn entries_of_a_chain_may_have_ports_and_brackets() {
        for (entry, expected) in [
            (" 10.0.0.1 ", Some("10.0.0.1")),
            ("10.0.0.1:99", Some("10.0.0.1")),
            ("[2001:db8::1]:9", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("unknown", None),
        ] {
            assert_eq!(address(entry.as_bytes()), expected.map(|e| e.parse().unwrap()), "{entry}");
        }
    }
}
