//! Requests to public addresses only, so that a URL from outside cannot reach internal systems (SSRF).
//!
//! A name is refused if any of its addresses is private. The connection goes to the addresses that were checked, so a
//! name that changes its addresses in between gains nothing. An address in the URL itself is checked after the URL is
//! parsed, so odd spellings gain nothing either.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};

use base::net::is_private;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Whether the URL itself holds a private address.
pub fn names_private(url: &Url) -> bool {
    literal(url).is_some_and(is_private)
}

/// Whether an http or https URL is a private address by itself; `None` if the text is no such URL.
pub fn is_private_url(text: &str) -> Option<bool> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    let host = url.host_str().unwrap_or_default();
    // RFC 6761: it never leads elsewhere.
    Some(names_private(&url) || host == "localhost" || host.ends_with(".localhost"))
}

/// Whether a request failed because its name leads to a private address.
pub fn refused(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.any(|cause| cause.is::<PrivateAddressError>())
}

/// The address in the URL itself, in the one spelling that parsing leaves.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// A name resolves to a private address.
#[derive(Debug, thiserror::Error)]
#[error("a private address")]
struct PrivateAddressError;

/// Resolves names as the system does, and refuses those with a private address.
#[derive(Debug)]
pub struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_private(address.ip())) {
                return Err(PrivateAddressError.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_url_is_seen_in_every_spelling() {
        for spelling in [
            "http://127.0.0.1/",
            "http://127.0.0.1./",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]:9100/",
            "http://user@%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
        ] {
            let address = literal(&Url::parse(spelling).unwrap());
            assert!(address.is_some_and(is_private), "{spelling}: {address:?}");
        }
        assert_eq!(literal(&Url::parse("https://shop.example/").unwrap()), None);
        assert!(!literal(&Url::parse("https://8.8.8.8/").unwrap()).is_some_and(is_private));
    }
}
