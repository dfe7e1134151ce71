//! Webhooks of Standard Webhooks 1.0.0: a signed POST, and its result.
//!
//! The source is `spec/standard-webhooks.md` of standard-webhooks/standard-webhooks. The caller decides when a message
//! is sent again: an event of the ledger waits for days, a report for minutes. A connection is kept for less than the 5
//! s after which many servers close one, since a POST that meets the close is a failed attempt.

mod signature;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;
use ring::hmac;

use crate::public::{self, PublicResolver};
use crate::{builder_with, tls};
use base::clock;

pub use self::signature::{signature, signing_key};

/// Bytes of an answer's body that are read, so that its connection can be kept.
const BODY_MAX: usize = 64 * 1024;
/// Bytes of an answer's body that are kept.
pub const KEPT_BODY: usize = 1_024;
/// Time for which an idle connection is kept.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for each host.
const KEPT: usize = 32;
const PRIVATE: &str = "its address is private, which allow_private = false forbids";
const UNUSABLE: &str = "its url cannot be used";

/// Sends messages. Endpoints share it; connections are kept per host.
#[derive(Clone, Debug)]
pub struct Sender {
    /// A client that connects anywhere.
    open: reqwest::Client,
    /// A client that connects to public addresses only.
    guarded: reqwest::Client,
}

/// The receiver of messages, with its settings.
#[derive(Debug)]
pub struct Endpoint {
    /// The URL, or why it cannot be used.
    url: Result<Url, &'static str>,
    /// The key that signs; without one, messages are not signed.
    key: Option<hmac::Key>,
    /// Further headers of each message.
    headers: HeaderMap,
    allow_private: bool,
    timeout: Duration,
}

impl Endpoint {
    /// A receiver; an attempt may take `timeout`, and `secret` signs.
    pub fn new(url: &str, secret: Option<&[u8]>, allow_private: bool, timeout: Duration) -> Endpoint {
        let url = Url::parse(url).map_err(|_| UNUSABLE);
        let url = url.and_then(|url| match public::names_private(&url) && !allow_private {
            true => Err(PRIVATE),
            false => Ok(url),
        });
        Endpoint { url, key: secret.map(signing_key), headers: HeaderMap::new(), allow_private, timeout }
    }

    /// The same receiver, with further headers of each message.
    pub fn with_headers(self, headers: HeaderMap) -> Endpoint {
        Endpoint { headers, ..self }
    }
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered.
    Status {
        /// The HTTP status of the answer.
        status: u16,
        /// The wait that `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// No answer came; the reason, in words without an address.
    Silence(&'static str),
}

impl Answer {
    /// Whether the receiver accepted the message.
    pub fn delivers(self) -> bool {
        matches!(self, Answer::Status { status: 200..=299, .. })
    }

    /// The result in words.
    pub fn text(self) -> String {
        match self {
            Answer::Status { status, .. } => format!("it answered {status}"),
            Answer::Silence(why) => why.to_owned(),
        }
    }
}

/// A wait that is up to 20 % shorter or longer, so that messages that failed together do not come back together.
/// `random` is from 0 to 1.
pub fn jittered(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(0.8 + 0.4 * random)
}

impl Sender {
    /// Reads the system's certificates; an error says what is wrong with the machine.
    pub fn new() -> Result<Sender, String> {
        let tls = tls()?;
        let build = |guarded: bool| {
            let builder = builder_with(tls.clone()).pool_idle_timeout(IDLE).pool_max_idle_per_host(KEPT);
            let builder = if guarded { builder.dns_resolver(Arc::new(PublicResolver)) } else { builder };
            builder.build().map_err(|e| e.to_string())
        };
        Ok(Sender { open: build(false)?, guarded: build(true)? })
    }

    /// Sends a message once. With an `id`, which names the message in every attempt and has no full stop, it gets the
    /// headers of Standard Webhooks.
    pub async fn send(&self, to: &Endpoint, id: Option<&str>, body: String) -> Answer {
        self.exchange(to, id, body).await.0
    }

    /// Like [`Sender::send`]; also returns the beginning of the answer's body.
    pub async fn exchange(&self, to: &Endpoint, id: Option<&str>, body: String) -> (Answer, Vec<u8>) {
        let url = match &to.url {
            Ok(url) => url.clone(),
            Err(why) => return (Answer::Silence(why), vec![]),
        };
        let client = if to.allow_private { &self.open } else { &self.guarded };
        let request = client.post(url).timeout(to.timeout).headers(to.headers.clone());
        let mut request = request.header("content-type", "application/json");
        if let Some(id) = id {
            let timestamp = clock::wall_ms() / 1_000;
            request = request.header("webhook-id", id).header("webhook-timestamp", timestamp);
            if let Some(key) = &to.key {
                request = request.header("webhook-signature", signature(key, id, timestamp, &body));
            }
        }
        match request.body(body).send().await {
            Ok(answer) => heard(answer).await,
            Err(e) => (Answer::Silence(why(&e)), vec![]),
        }
    }
}

async fn heard(mut answer: reqwest::Response) -> (Answer, Vec<u8>) {
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after = after.and_then(|text| signature::retry_after(text, clock::wall_ms()));
    let (mut read, mut kept) = (0, vec![]);
    // The status decides the result; the end of the body decides only whether the connection is kept.
    while read <= BODY_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        read += chunk.len();
        kept.extend_from_slice(chunk.get(..KEPT_BODY - kept.len()).unwrap_or(&chunk));
    }
    (Answer::Status { status, retry_after }, kept)
}

/// Why no answer came, in our words: an error's own text may hold the URL.
fn why(error: &reqwest::Error) -> &'static str {
    if public::refused(error) {
        PRIVATE
    } else if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "no connection: its name, its address or its certificate is wrong, or it does not listen"
    } else if error.is_builder() {
        UNUSABLE
    } else {
        "the connection broke before an answer came"
    }
}
