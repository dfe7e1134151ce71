//! **receive**: raw bytes, headers and the time of arrival. It parses nothing.

use bytes::Bytes;
use http::HeaderMap;
use uuid::Uuid;

/// A callback's body may have this many bytes.
pub const BODY_MAX: usize = 1 << 20;

/// A callback as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Drawn at receipt (UUIDv7): the evidence's name, to which its ciphertext is bound.
    pub id: Uuid,
    /// As sent.
    pub headers: HeaderMap,
    /// As sent.
    pub body: Bytes,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

impl Received {
    /// Takes what came in at `at_ms`.
    pub fn new(headers: HeaderMap, body: Bytes, at_ms: u64) -> Received {
        Received { id: Uuid::now_v7(), headers, body, at_ms }
    }

    /// A header's value, where it is there once and is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { value.to_str().ok() }
    }
}
