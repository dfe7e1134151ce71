//! One spelling for every path, so that what a route says and what a request asks for can be compared byte by byte.
//!
//! Unreserved characters are decoded, other escapes get upper-case hex, runs of slashes become one, and dot segments go
//! (also where the dots were escaped). `%2F` stays: decoding it would make a separator of data. A stray percent sign
//! becomes `%25`: left as it is, it could make an escape of what follows, and the next reader another path. Climbing
//! above the root stays at the root. Neither case nor a trailing slash is touched.

use std::borrow::Cow;

/// The normal form of a path without its query. It allocates only where it has to change something.
pub fn normalise_path(path: &str) -> Cow<'_, str> {
    if is_normal(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(without_dots(&decoded(path)))
}

/// One look that settles nearly every path: no escape, no empty segment, and no segment that begins with a dot.
fn is_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in path {
        match byte {
            b'%' => return false,
            b'/' | b'.' if after_slash => return false,
            _ => after_slash = byte == b'/',
        }
    }
    true
}

fn decoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match escape(rest.as_bytes()) {
            Some(byte) if is_unreserved(byte) => out.push(char::from(byte)),
            Some(byte) => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
            None => {
                out.push_str("%25");
                rest = &rest[1..];
                continue;
            }
        }
        rest = &rest[3..];
    }
    out.push_str(rest);
    out
}

/// The byte that `%XY` at the start stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|&digit| char::from(digit).to_digit(16));
    Some((digit(1)? * 16 + digit(2)?) as u8)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Merges slashes and removes `.` and `..` segments; a path that ends in one ends in a slash.
fn without_dots(path: &str) -> String {
    // What does not begin with a slash (`*` of OPTIONS) has no segments.
    let Some(segments) = path.strip_prefix('/') else {
        return path.to_owned();
    };
    let mut out = String::with_capacity(path.len());
    let mut last = "";
    for segment in segments.split('/') {
        match segment {
            "" | "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
        last = segment;
    }
    if out.is_empty() || matches!(last, "" | "." | "..") {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_has_one_normal_form() {
        for (written, normal) in [
            ("/", "/"),
            ("/orders", "/orders"),
            ("/orders/", "/orders/"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../a", "/a"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/%2e/a", "/a"),
            ("/%61%7e%2D", "/a~-"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2F..%2fb", "/a%2F..%2Fb"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/%", "/%25"),
            ("/%4", "/%254"),
            ("/%zz/%é", "/%25zz/%25é"),
            ("/%%34%31", "/%2541"),
            ("/%25%32%65", "/%252e"),
            ("/.hidden", "/.hidden"),
            ("/a/...", "/a/..."),
            ("/a.b/c..d", "/a.b/c..d"),
            ("*", "*"),
            ("", ""),
            ("/a/%2e%2e%2fb", "/a/..%2Fb"),
        ] {
            assert_eq!(normalise_path(written), normal, "{written}");
        }
    }

    #[test]
    fn normalising_twice_changes_nothing_but_double_escapes() {
        for path in ["/a//b/../c", "/%61/%2e/x%2fy", "/.well-known/x", "/x/..//..", "/%2fa%"] {
            let once = normalise_path(path).into_owned();
            assert_eq!(normalise_path(&once), once, "{path}");
        }
    }

    #[test]
    fn the_usual_path_is_borrowed() {
        assert!(matches!(normalise_path("/v1/orders/17.json"), Cow::Borrowed(_)));
    }
}
