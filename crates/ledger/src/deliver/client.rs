//! One try: a signed POST to a merchant, as Standard Webhooks 1.0.0 has it.
//!
//! Redirects are not followed, no proxy of the environment is used, and the system decides which certificates are good.
//! Where private addresses are not allowed, a name is refused when any of its addresses is private; the connection
//! goes to the addresses that were judged, so a name that changes its mind in between gains nothing. An address in the
//! URL itself is judged after the URL was parsed, so that odd spellings gain nothing either. A connection is kept for
//! less than the 5 s after which many servers close one, since a POST that meets the close is a failed try.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use ring::hmac;

use super::schedule::Answer;
use crate::rows::Outgoing;
use base::clock;
use base::net::is_private;
use base::webhook::{retry_after, signature, signing_key};
use config::model::ledger::Merchant;

/// Bytes of an answer's body that are read, so that its connection can be kept.
const BODY_MAX: usize = 64 * 1024;
/// How long a connection that is not used is kept.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for each host.
const KEPT: usize = 32;

/// Sends events. Merchants share it; connections are kept for each host.
#[derive(Clone, Debug)]
pub struct Client {
    /// Connects anywhere.
    open: reqwest::Client,
    /// Connects to public addresses only.
    guarded: reqwest::Client,
}

/// Where an event goes: what is the same for all of a merchant's.
#[derive(Debug)]
pub struct Address {
    /// Or why there is none.
    url: Result<Url, &'static str>,
    key: hmac::Key,
    allow_private: bool,
    timeout: Duration,
}

impl Address {
    /// A merchant's; a try may take so long.
    pub fn of(merchant: &Merchant, timeout: Duration) -> Address {
        let url = Url::parse(&merchant.url).map_err(|_| "its url cannot be used");
        let url = url.and_then(|url| match literal(&url).is_some_and(is_private) && !merchant.allow_private {
            true => Err(PRIVATE),
            false => Ok(url),
        });
        Address { url, key: signing_key(&merchant.secret.0), allow_private: merchant.allow_private, timeout }
    }
}

impl Client {
    /// Reads the system's certificates; says what is wrong with them, or with the machine.
    pub fn new() -> Result<Client, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&provider)).map_err(|e| e.to_string())?;
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .no_proxy()
                .redirect(Policy::none())
                .retry(reqwest::retry::never())
                .http1_only()
                .tcp_nodelay(true)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(KEPT)
                .user_agent(concat!("Tollgate/", env!("CARGO_PKG_VERSION")))
        };
        let open = builder().build().map_err(|e| e.to_string())?;
        let guarded = builder().dns_resolver(Public).build().map_err(|e| e.to_string())?;
        Ok(Client { open, guarded })
    }

    /// Sends an event once.
    pub async fn send(&self, event: &Outgoing, to: &Address) -> Answer {
        let url = match &to.url {
            Ok(url) => url.clone(),
            Err(why) => return Answer::Silence(why),
        };
        let client = if to.allow_private { &self.open } else { &self.guarded };
        let (id, timestamp) = (event.id.hyphenated().to_string(), clock::wall_ms() / 1_000);
        let request = client
            .post(url)
            .timeout(to.timeout)
            .header("content-type", "application/json")
            .header("webhook-signature", signature(&to.key, &id, timestamp, &event.body))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .body(event.body.clone());
        match request.send().await {
            Ok(mut answer) => {
                let status = answer.status().as_u16();
                let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let retry_after = after.and_then(|text| retry_after(text, clock::wall_ms()));
                let mut read = 0;
                // The status has decided: how the body ends only decides whether the connection is kept.
                while read <= BODY_MAX
                    && let Ok(Some(chunk)) = answer.chunk().await
                {
                    read += chunk.len();
                }
                Answer::Status { status, retry_after }
            }
            Err(e) => Answer::Silence(why(&e)),
        }
    }
}

const PRIVATE: &str = "its address is private, which allow_private = false forbids";

/// The address that stands in the URL itself, in the one spelling that parsing leaves.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Why no answer came. An error's own text may hold the URL.
fn why(error: &reqwest::Error) -> &'static str {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    if causes.any(|cause| cause.is::<IsPrivate>()) {
        PRIVATE
    } else if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "no connection: its name, its address or its certificate is wrong, or it does not listen"
    } else if error.is_builder() {
        "its url cannot be used"
    } else {
        "the connection broke before an answer came"
    }
}

/// A name leads to a private address.
#[derive(Debug, thiserror::Error)]
#[error("a private address")]
struct IsPrivate;

/// Resolves names as the system does, and refuses those that lead to a private address.
struct Public;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_private(address.ip())) {
                return Err(IsPrivate.into());
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
