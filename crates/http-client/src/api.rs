//! Calls to the API of a payment provider: one request, one bounded answer, within a bounded time.
//!
//! The operator names the provider's address, so it may be private. An error says nothing of the address.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};

use crate::{builder_with, tls};

/// The most bytes of an answer.
const BODY_MAX: usize = 1 << 20;
/// Time for which an idle connection is kept.
const IDLE: Duration = Duration::from_secs(4);
const TOO_LARGE: &str = "its answer is larger than expected";

/// A client of providers' APIs; connections are kept per host.
#[derive(Clone, Debug)]
pub struct ApiClient(reqwest::Client);

/// A request.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The address.
    pub url: String,
    /// The headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl ApiClient {
    /// Reads the system's certificates; an error says what is wrong with the machine. A request that takes longer than
    /// `timeout` is given up.
    pub fn new(timeout: Duration) -> Result<ApiClient, String> {
        let client = builder_with(tls()?).pool_idle_timeout(IDLE).timeout(timeout).build();
        client.map(ApiClient).map_err(|e| e.to_string())
    }

    /// Sends a request once; an error says in our words why no whole answer came.
    pub async fn send(&self, request: Request) -> Result<Reply, &'static str> {
        let mut body = vec![];
        let (status, headers) = self.stream(request, BODY_MAX as u64, &mut |part| body.extend_from_slice(part)).await?;
        Ok(Reply { status, headers, body })
    }

    /// The same, with the answer's body in parts as they come, `most` bytes at most.
    pub async fn stream(
        &self,
        request: Request,
        most: u64,
        take: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(u16, HeaderMap), &'static str> {
        let Request { method, url, headers, body } = request;
        let mut call = self.0.request(method, url).headers(headers.into_iter().collect());
        if !body.is_empty() {
            call = call.body(body);
        }
        let mut answer: Response = call.send().await.map_err(|e| why(&e))?;
        let mut read = 0;
        while let Some(part) = answer.chunk().await.map_err(|e| why(&e))? {
            read += part.len() as u64;
            if read > most {
                return Err(TOO_LARGE);
            }
            take(&part);
        }
        Ok((answer.status().as_u16(), answer.headers().clone()))
    }
}

/// Why no answer came, in our words: an error's own text may hold the address.
fn why(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "no connection: its name, its address or its certificate is wrong, or it does not listen"
    } else {
        "the connection broke before a whole answer came"
    }
}
