//! Words of the network: addresses, networks, host names.
//!
//! Names are lower-cased where they are read, so later code need not compare cases. Names are never resolved here, and
//! a non-ASCII name must be given in its `xn--` form, as on the wire.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use schemars::{Schema, json_schema};

use super::scalar::{FromText, not_a, shown};
use crate::model::HostPattern;

impl FromText for SocketAddr {
    const WHAT: &'static str = "an address";
    const EXAMPLE: &'static str = "\"127.0.0.1:8080\" or \"[::1]:8080\": an IP address and a port";
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| not_a::<Self>(text))
    }
}

/// A network; a bare IP address is the network of just that address.
impl FromText for IpNet {
    const WHAT: &'static str = "a network";
    const EXAMPLE: &'static str = "\"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"";
    fn from_text(text: &str) -> Result<Self, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network| network.trunc()).map_err(|_| not_a::<Self>(text))
    }
}

/// A host name or an IP address, lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub String);

impl FromText for HostName {
    const WHAT: &'static str = "a host name";
    const EXAMPLE: &'static str = "\"orders.internal\"";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let valid = is_name(&lower) || lower.parse::<IpAddr>().is_ok();
        if valid { Ok(HostName(lower)) } else { Err(refused(text).unwrap_or_else(|| not_a::<Self>(text))) }
    }
}

/// An entry of `hosts`: a pattern, or `*` for every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(pub Option<HostPattern>);

impl FromText for Host {
    const WHAT: &'static str = "a host";
    const EXAMPLE: &'static str = "\"api.example.com\", \"*.example.com\" or \"*\"";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if lower == "*" {
            return Ok(Host(None));
        }
        if let Some(suffix) = lower.strip_prefix('*') {
            let named = suffix.strip_prefix('.').is_some_and(is_name);
            return if named { Ok(Host(Some(HostPattern::Suffix(suffix.to_owned())))) } else { Err(wildcard(text)) };
        }
        let literal = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let valid = match literal {
            Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_name(&lower),
        };
        if valid {
            Ok(Host(Some(HostPattern::Exact(lower))))
        } else {
            Err(refused(text).unwrap_or_else(|| not_a::<Self>(text)))
        }
    }
}

fn wildcard(text: &str) -> String {
    format!(
        "`{}`: `*` may only be the whole first label\nsuch as \"*.example.com\", or \"*\" for every host",
        shown(text)
    )
}

/// The message for a usual mistake with host names.
fn refused(text: &str) -> Option<String> {
    let text = shown(text);
    if text.contains('*') {
        return Some(wildcard(&text));
    }
    if text.contains("://") || text.contains('/') {
        return Some(format!("`{text}` is a URL, not a host\nonly the name, such as \"api.example.com\""));
    }
    if text.contains(':') && text.parse::<IpAddr>().is_err() {
        return Some(format!("`{text}` has a port\nonly the name: hosts are compared without the port"));
    }
    if !text.is_ascii() {
        return Some(format!("`{text}` is not ASCII\nthe name as it travels, which begins with `xn--`"));
    }
    None
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        inner && !label.is_empty() && label.len() <= 63
    };
    name.len() <= 253 && name.split('.').all(label)
}
