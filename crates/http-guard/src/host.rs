//! Authorities, as `Host`, `:authority` and absolute targets write them.
//!
//! An authority is a name, an IPv4 or a bracketed IPv6 address, with or without a port. The rules are stricter
//! than RFC 3986: no user, no escapes, no `sub-delims` (a comma or a quote in a name is data for a log or page,
//! never a host that exists), no empty label but the root's, no IPv6 zone, no empty port. What some server
//! splits differently is refused.

use std::net::Ipv6Addr;

use super::bytes::{HOST, class};

/// The longest DNS name, with the root's dot.
const NAME_MAX: usize = 254;

/// A valid authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host as written; an IPv6 address in its brackets.
    pub host: &'a [u8],
    /// The port, if there is one.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Splits an authority; `None` where it is not valid.
    pub fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let (host, rest) = text.split_at(if text.first() == Some(&b'[') { v6_end(text)? } else { name_end(text)? });
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        Some(Authority { host, port })
    }
}

/// Whether the text is a valid authority.
pub fn is_valid(text: &[u8]) -> bool {
    Authority::parse(text).is_some()
}

/// The end of the name or IPv4 address at the start.
fn name_end(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|byte| class(*byte) & HOST == 0).unwrap_or(text.len());
    let name = &text[..end];
    let empty_label = name.first().is_none_or(|first| *first == b'.') || name.windows(2).any(|pair| pair == b"..");
    (!empty_label && end <= NAME_MAX).then_some(end)
}

/// The end of the bracketed address at the start.
fn v6_end(text: &[u8]) -> Option<usize> {
    let close = text.iter().take(48).position(|byte| *byte == b']')?;
    std::str::from_utf8(&text[1..close]).ok()?.parse::<Ipv6Addr>().ok()?;
    Some(close + 1)
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let number = digits
        .iter()
        .try_fold(0u32, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))?;
    u16::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_with_a_port_or_none() {
        for (text, host, port) in [
            ("a.example", "a.example", None),
            ("A.Example.:8080", "A.Example.", Some(8080)),
            ("localhost:0", "localhost", Some(0)),
            ("my_service:65535", "my_service", Some(65535)),
            ("10.0.0.1:00080", "10.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
            ("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]", Some(1)),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ] {
            let found = Authority::parse(text.as_bytes());
            assert_eq!(found, Some(Authority { host: host.as_bytes(), port }), "{text}");
        }
    }

    #[test]
    fn whatever_can_be_cut_differently_is_refused() {
        for text in [
            "",
            ":80",
            ".",
            "..",
            ".a",
            "a..b",
            "a:",
            "a:65536",
            "a:123456",
            "a:+1",
            "a:1:2",
            "a:8a",
            "u@a",
            "u:p@a",
            "a b",
            "a,b",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "a%2eb",
            "a;b",
            "a'b",
            "a\"b",
            "a<b",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[::1]:",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "[1.2.3.4]",
            "caf\u{e9}.example",
            "a\tb",
            "a ",
            " a",
            "[::1]]",
            "http://a",
        ] {
            assert!(!is_valid(text.as_bytes()), "{text}");
        }
        assert!(is_valid(&[b'a'; 254]));
        assert!(!is_valid(&[b'a'; 255]));
    }
}
