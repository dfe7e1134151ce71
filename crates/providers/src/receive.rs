//! The **receive** stage, which takes raw bytes, headers and the time of arrival. It parses nothing.

use bytes::Bytes;
use http::HeaderMap;
use uuid::Uuid;

/// The most bytes of a callback's body.
pub const BODY_MAX: usize = 1 << 20;

/// A callback as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The evidence's id (UUIDv7), drawn at receipt; its ciphertext is bound to it.
    pub id: Uuid,
    /// The headers as sent.
    pub headers: HeaderMap,
    /// The body as sent.
    pub body: Bytes,
    /// The time of arrival, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Received {
    /// A callback that arrived at `at_ms`.
    pub fn new(headers: HeaderMap, body: Bytes, at_ms: u64) -> Received {
        Received { id: Uuid::now_v7(), headers, body, at_ms }
    }

    /// The value of a header that occurs once and is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { value.to_str().ok() }
    }
}
