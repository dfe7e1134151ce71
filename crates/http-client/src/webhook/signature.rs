//! The signature of a webhook, and the wait that its receiver asks for.
//!
//! The signature follows Standard Webhooks (standard-webhooks/standard-webhooks, `spec/standard-webhooks.md`).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

/// The key that signs, from the bytes of the secret.
pub fn signing_key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// The `webhook-signature`: base64 of HMAC-SHA256 over id, time and body. `timestamp` is in seconds since 1970. The id
/// must have no full stop, since full stops join the parts.
pub fn signature(key: &hmac::Key, id: &str, timestamp: u64, body: &str) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body.as_bytes());
    format!("v1,{}", STANDARD.encode(context.sign()))
}

/// The wait that `Retry-After` asks for (RFC 9110, section 10.2.3): seconds, or a date. `now_ms` is wall-clock time in
/// milliseconds since 1970.
pub fn retry_after(text: &str, now_ms: u64) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_millisecond();
    Some(Duration::from_millis(u64::try_from(date).ok()?.saturating_sub(now_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |text| retry_after(text, 1_795_232_280_000);
        assert_eq!(after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(after("Sat, 21 Nov 2026 03:38:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Sat, 21 Nov 2020 03:38:30 GMT"), Some(Duration::ZERO), "long ago");
        assert_eq!(after("soon"), None);
    }
}
