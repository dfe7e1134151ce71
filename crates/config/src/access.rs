//! Access to a route: whether it may serve a request, as the proxy decides and `tollgate explain` prints.
//!
//! `deny` wins over `allow`. A header is refused if a server could take its name for one that the route sets, removes
//! or reads the caller's key from: no other name may become one of these on the way. A route to the ledger serves
//! callbacks and nothing else.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::model::{Action, AuthKind, Config, Route};
use http_guard::field::is_spelling_of;

/// The prefix of a callback's path at the ledger.
const CALLBACKS: &str = "/callbacks/";

/// Why a route may not serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A header is spelt like one of the route's own.
    LookalikeName,
    /// `allow` and `deny` keep the client out.
    KeptOut,
    /// The route leads to the ledger, and the path is not that of a callback.
    NotACallback,
}

/// The facts of a request that decide, once its route is known.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its normalised path.
    pub path: &'a str,
    /// The client's address; unknown to `explain` unless it is given.
    pub client: Option<IpAddr>,
}

/// Why this route may not serve the request, if so. `guarded` are the route's [`guarded`] names.
pub fn refusal(route: &Route, guarded: &[HeaderName], shown: &Shown<'_>) -> Option<Refusal> {
    if !guarded.is_empty() && has_lookalike(shown.headers, guarded) {
        return Some(Refusal::LookalikeName);
    }
    if shown.client.is_some_and(|client| route.filters.access.keeps_out(client)) {
        return Some(Refusal::KeptOut);
    }
    (route.action == Action::Ledger && !is_callback(&route.filters.prefix.forwarded(shown.path)))
        .then_some(Refusal::NotACallback)
}

/// Names of headers that a route sets, removes or authenticates by.
pub fn guarded(config: &Config, route: &Route) -> Vec<HeaderName> {
    let auths = route.auths.iter().filter_map(|auth| match &config.auths.get(*auth)?.kind {
        AuthKind::ApiKey { header } => Some(header),
        AuthKind::Hmac { .. } | AuthKind::Jwt { .. } => None,
    });
    let names = route.filters.request_headers.names().chain(auths);
    names.filter(|name| name.as_str().bytes().any(|byte| !byte.is_ascii_alphanumeric())).cloned().collect()
}

/// Whether a server that takes all signs for one reads a header as one of these names.
fn has_lookalike(headers: &HeaderMap, guarded: &[HeaderName]) -> bool {
    let is_one = |name: &HeaderName| {
        guarded.iter().any(|guarded| is_spelling_of(name.as_str().as_bytes(), guarded.as_str().as_bytes()))
    };
    headers.keys().any(is_one)
}

/// Whether an address is in one of the networks; an IPv4 address that came over an IPv6 socket counts as IPv4.
pub fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    !networks.is_empty() && networks.iter().any(|network| network.contains(&address.to_canonical()))
}

/// Whether a path is that of a callback: `/callbacks/` and the name of a channel, which has no other spelling. Nothing
/// else that the ledger serves may be reachable through the gateway.
fn is_callback(path: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    path.strip_prefix(CALLBACKS).is_some_and(|channel| !channel.is_empty() && channel.bytes().all(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_callback_is_one() {
        for path in ["/callbacks/card", "/callbacks/a-b_9", "/callbacks/-"] {
            assert!(is_callback(path), "{path}");
        }
        for path in [
            "",
            "/",
            "/callbacks",
            "/callbacks/",
            "/callbacks/Card",
            "/callbacks/card/",
            "/callbacks/a/b",
            "/callbacks/a.b",
            "/callbacks/..",
            "/callbacks/%2E%2E",
            "/callbacks/a%2Fb",
            "//callbacks/card",
            "/callbacks//card",
            "/v1/orders",
            "/x/callbacks/card",
            "/callbacks/card?x",
            "/callbacks/kärte",
            "callbacks/card",
        ] {
            assert!(!is_callback(path), "{path}");
        }
    }
}
