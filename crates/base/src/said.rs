//! Values of a request by name, where a wrong reading would let a client through.
//!
//! A header, a cookie or a query parameter may occur several times, and servers differ in which one they read: the
//! first, the last, all. So no decision here rests on one of several. A condition holds if every line agrees. Of
//! several values none is the key of a limit: they count as none, so that a made-up one beside the real one is not a
//! fresh key. Names and values are compared as servers read them, since each spelling would be a key of its own, too.

use std::borrow::Cow;

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode;

/// Whether a header is there and all of its lines have this value.
pub fn every_line_is(headers: &HeaderMap, name: &HeaderName, value: &HeaderValue) -> bool {
    let mut lines = headers.get_all(name).iter();
    lines.next().is_some_and(|line| line == value) && lines.all(|line| line == value)
}

/// The value of a header with exactly one line.
pub fn only_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    only(headers.get_all(name).iter().map(|line| line.as_bytes())).map(Cow::Borrowed)
}

/// The value of a cookie that occurs once, decoded and without quotes.
pub fn only_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let value = only(pairs.filter_map(|pair| of(pair, name.as_bytes())))?;
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    Some(decoded(quoted.unwrap_or(value)))
}

/// The value of a query parameter that occurs once, decoded. Some servers split a query at semicolons as well.
pub fn only_query<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    let pairs = query.as_bytes().split(|byte| matches!(byte, b'&' | b';'));
    only(pairs.filter_map(|pair| of(pair, name.as_bytes()))).map(decoded)
}

/// The value of a cookie, as sent; of several the first.
pub fn first_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|b| *b == b';'));
    pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next()
}

/// The value of a query parameter, as sent; of several the first. For choices that are free to the
/// client, such as its server.
pub fn first_query<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v.as_bytes())
}

/// The authority of a request: that of an absolute target, else the `Host` header; empty where that is not text.
pub fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    std::str::from_utf8(authority_as_sent(uri, headers)).unwrap_or_default()
}

/// The same as bytes.
pub fn authority_as_sent<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a [u8] {
    let header = || headers.get(HOST).map(HeaderValue::as_bytes);
    uri.authority().map(|a| a.as_str().as_bytes()).or_else(header).unwrap_or_default()
}

/// The host of an authority: lower case, without port and user.
pub fn host(authority: &str) -> Cow<'_, str> {
    // Most authorities are only such a host; testing every byte without an early exit takes a few vector instructions.
    let special = |b: u8| matches!(b, b'@' | b'[' | b':' | b'A'..=b'Z');
    if !authority.bytes().fold(false, |any, b| any | special(b)) {
        return Cow::Borrowed(authority.strip_suffix('.').unwrap_or(authority));
    }
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => &authority[..v6.len() + 2],
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// The value of a pair with this name; one without `=` is empty.
fn of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (key, value) = match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &b""[..]),
    };
    (key == name || decoded(key).trim_ascii() == name).then(|| value.trim_ascii())
}

/// The only element, or `None` where there are none or several.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

/// Decodes `+` as a space and escapes as their bytes.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (HeaderName::from_static(name), line.parse().unwrap())).collect()
    }

    #[test]
    fn hosts_lose_case_port_user_and_final_dot() {
        for (authority, expected) in [
            ("A.Example:8080", "a.example"),
            ("a.example.", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("u@b", "b"),
            ("", ""),
        ] {
            assert_eq!(host(authority), expected, "{authority}");
        }
    }

    #[test]
    fn every_line_must_agree() {
        let name = HeaderName::from_static("x-tenant");
        for (lines, expected) in [
            (&["acme"][..], true),
            (&["acme", "acme"], true),
            (&["acme", "other"], false),
            (&["other", "acme"], false),
            (&["acme, acme"], false),
            (&[], false),
        ] {
            let said = every_line_is(&headers("x-tenant", lines), &name, &HeaderValue::from_static("acme"));
            assert_eq!(said, expected, "{lines:?}");
        }
    }

    #[test]
    fn one_value_counts_however_it_is_spelt_and_several_are_none() {
        let query = |query: &str| only_query(query, "token").map(|value| String::from_utf8(value.into()).unwrap());
        for (text, expected) in [
            ("token=a", Some("a")),
            ("x=1&token=a&y", Some("a")),
            ("%74oken=%61", Some("a")),
            ("token=a+b", Some("a b")),
            ("token=a%20b", Some("a b")),
            ("token=100%", Some("100%")),
            ("token", Some("")),
            ("token=", Some("")),
            ("tokens=a&xtoken=b&Token=c", None),
            ("", None),
            ("token=b1&token=a", None),
            ("token=a&token=a", None),
            ("token=b1&%74ok%65n=a", None),
            ("token=b1&+token=a", None),
            ("token=b1;token=a", None),
            ("token=b1&token", None),
        ] {
            assert_eq!(query(text).as_deref(), expected, "{text}");
        }
        for (lines, expected) in [
            (&["uid=a"][..], Some("a")),
            (&["x=1; uid=a; y"], Some("a")),
            (&["uid=\"a\""], Some("a")),
            (&["uid=%61"], Some("a")),
            (&["uid = a"], Some("a")),
            (&["uid=a=b"], Some("a=b")),
            (&["uid=\""], Some("\"")),
            (&["xuid=a; uidx=b"], None),
            (&["uid=b1; uid=a"], None),
            (&["uid=b1; uid =a"], None),
            (&["uid=b1", "uid=a"], None),
        ] {
            let headers = headers("cookie", lines);
            let said = only_cookie(&headers, "uid");
            assert_eq!(said.as_deref(), expected.map(str::as_bytes), "{lines:?}");
        }
        let name = HeaderName::from_static("x-token");
        for (lines, expected) in [(&["a"][..], Some("a")), (&["b1", "a"], None), (&["a", "a"], None), (&[], None)] {
            let headers = headers("x-token", lines);
            let said = only_header(&headers, &name);
            assert_eq!(said.as_deref(), expected.map(str::as_bytes), "{lines:?}");
        }
    }
}
