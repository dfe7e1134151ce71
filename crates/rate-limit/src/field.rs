//! The rate limit headers for the client: `RateLimit-Policy` and `RateLimit`.
//!
//! Source: draft-ietf-httpapi-ratelimit-headers-11 (May 2026), sections 3 and 4; strings as RFC 9651, section 3.3.3.
//! Both fields are lists, and a list may be spread over several fields of the same name, so each limit writes its own.
//!
//! A rate is `"NAME";q=200;w=2`: `w` is the time in which a spent burst comes back in whole seconds, rounded up, and
//! `q` is what the rate allows in that time. Where the burst's time is whole seconds, `q` is the burst. Of it
//! `"NAME";r=150;t=1` is left: `r` requests at once, and within `t` seconds (rounded up, so never 0) no more than
//! these. Where `r` is 0 that is the moment to try again, and the value of `Retry-After`. Requests in flight are a
//! quota without a time, `"NAME";q=50;qu="concurrent-requests"`. A limit that has both states them as two policies, the
//! second of which is called `NAME.concurrency`: a client could not tell them apart otherwise. There is no `pk`: it
//! would disclose who else shares a limit, and no client needs it to wait.

use std::fmt::Write;
use std::time::Duration;

use super::{Left, Over, Rule};

/// How long a client waits after too many requests in flight: it is unknown when one of them ends.
const GUESS: Duration = Duration::from_secs(1);

/// The value of `RateLimit-Policy` for a limit.
pub fn policy(name: &str, rule: &Rule) -> String {
    let mut text = String::new();
    if let Some(rate) = rule.rate() {
        let (quota, seconds) = rate.window();
        quote(&mut text, name, "");
        let _ = write!(text, ";q={quota};w={seconds}");
    }
    if let Some(limit) = rule.concurrency() {
        separate(&mut text);
        quote(&mut text, name, suffix(rule.rate().is_some()));
        let _ = write!(text, ";q={limit};qu=\"concurrent-requests\"");
    }
    text
}

/// Appends a limit's part of the value of `RateLimit`.
pub fn standing(text: &mut String, name: &str, left: Option<Left>, free: Option<u32>) {
    if let Some(left) = left {
        separate(text);
        quote(text, name, "");
        let _ = write!(text, ";r={};t={}", left.tokens, seconds(left.next));
    }
    if let Some(free) = free {
        separate(text);
        quote(text, name, suffix(left.is_some()));
        let _ = write!(text, ";r={free}");
    }
}

/// The value of `Retry-After`: whole seconds, rounded up, never 0.
pub fn retry_after(over: Over) -> u64 {
    match over {
        Over::Rate(wait) => seconds(wait),
        Over::Concurrency => seconds(GUESS),
    }
}

fn seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

fn suffix(has_rate: bool) -> &'static str {
    if has_rate { ".concurrency" } else { "" }
}

fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push_str(", ");
    }
}

/// A string of structured fields: printable ASCII, quotes and backslashes escaped. Any other
/// character of a name becomes `_`.
fn quote(text: &mut String, name: &str, suffix: &str) {
    text.push('"');
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            _ => text.push('_'),
        }
    }
    text.push_str(suffix);
    text.push('"');
}

#[cfg(test)]
mod tests {
    use ahash::RandomState;

    use super::super::{Limiter, Rate};
    use super::*;

    fn said(rate: Option<(u32, u64, u32)>, concurrency: Option<u32>) -> String {
        let rate = rate.map(|(count, per, burst)| Rate::new(count, Duration::from_secs(per), burst).unwrap());
        policy("per_app", &Limiter::new(RandomState::new()).rule("per_app", "app", rate, concurrency))
    }

    #[test]
    fn a_policy_says_burst_and_time() {
        assert_eq!(said(Some((100, 1, 200)), None), "\"per_app\";q=200;w=2");
        assert_eq!(said(Some((10, 60, 10)), None), "\"per_app\";q=10;w=60");
        assert_eq!(said(Some((1, 3600, 1)), None), "\"per_app\";q=1;w=3600");
        assert_eq!(said(Some((100, 1, 10)), None), "\"per_app\";q=100;w=1", "not 10 a second");
        assert_eq!(said(Some((7, 1, 10)), None), "\"per_app\";q=14;w=2");
        assert_eq!(said(None, Some(50)), "\"per_app\";q=50;qu=\"concurrent-requests\"");
        let both = "\"per_app\";q=200;w=2, \"per_app.concurrency\";q=50;qu=\"concurrent-requests\"";
        assert_eq!(said(Some((100, 1, 200)), Some(50)), both);
    }

    #[test]
    fn what_is_left_is_in_whole_seconds_rounded_up() {
        let told = |tokens, millis, free| {
            let mut text = String::new();
            standing(&mut text, "a", Some(Left { tokens, next: Duration::from_millis(millis) }), free);
            text
        };
        assert_eq!(told(150, 10, None), "\"a\";r=150;t=1");
        assert_eq!(told(0, 36_000, None), "\"a\";r=0;t=36");
        assert_eq!(told(0, 36_001, Some(3)), "\"a\";r=0;t=37, \"a.concurrency\";r=3");
        assert_eq!(retry_after(Over::Rate(Duration::from_nanos(1))), 1);
        assert_eq!(retry_after(Over::Rate(Duration::ZERO)), 1, "never 0");
        assert_eq!(retry_after(Over::Concurrency), 1);
    }

    #[test]
    fn a_name_is_a_string_of_structured_fields() {
        let mut text = String::new();
        quote(&mut text, "a\"b\\c é", "");
        assert_eq!(text, r#""a\"b\\c _""#);
    }
}
