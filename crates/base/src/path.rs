//! The normal form of paths, in which routes and requests can be compared byte by byte.
//!
//! Unreserved characters are decoded, other escapes get upper-case hex, runs of slashes become one, and dot segments
//! are removed (also where the dots were escaped). `%2F` stays: decoding it would turn data into a separator. A stray
//! percent sign becomes `%25`: left as it is, it could form an escape with what follows, and the next reader another
//! path. Climbing above the root stays at the root. Case and a trailing slash are kept.
//!
//! A path that a server might read otherwise has no normal form: where `%2F`, `%5C`, `\` or `;` would make a dot
//! segment, the path [is ambiguous](is_ambiguous) and validation refuses it.

use std::borrow::Cow;

/// The normal form of a path without its query. It allocates only where something changes.
pub fn normalise_path(path: &str) -> Cow<'_, str> {
    if is_normal(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(without_dots(&decoded(path)))
}

/// A fast test that settles nearly every path: no escape, no empty segment, and no segment that begins with a dot.
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

/// Whether some server would find a dot segment here where another finds none, or an end where another goes on.
///
/// Servers that decode before they split take `%2F` for a slash, Windows servers take `\` and `%5C` for one, and Java
/// servers cut a segment at `;`. Where a segment is `.` or `..` to one of them but not by plain slashes alone, they
/// serve a path that the routes did not check. `%00` ends the path where strings end in NUL. One layer of escapes
/// counts: `%252F` is data to a server that decodes once, and so the path is forwarded.
pub fn is_ambiguous(path: &[u8]) -> bool {
    let mut segment = Segment { plain: true, dots: 0, more: false };
    let mut rest = path;
    while let [first, behind @ ..] = rest {
        let escaped = if *first == b'%' { escape(rest) } else { None };
        rest = if escaped.is_some() { &rest[3..] } else { behind };
        match escaped.unwrap_or(*first) {
            0 => return true,
            separator @ (b'/' | b'\\') => {
                let plain = separator == b'/' && escaped.is_none();
                if segment.is_dots() && !(plain && segment.plain) {
                    return true;
                }
                segment = Segment { plain, dots: 0, more: false };
            }
            b';' if segment.is_dots() => return true,
            b'.' => segment.dots += 1,
            _ => segment.more = true,
        }
    }
    segment.is_dots() && !segment.plain
}

/// A segment so far.
struct Segment {
    /// Whether it begins after a plain slash.
    plain: bool,
    dots: usize,
    /// Whether it has other characters than dots.
    more: bool,
}

impl Segment {
    fn is_dots(&self) -> bool {
        !self.more && matches!(self.dots, 1 | 2)
    }
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
    // A path without a leading slash (`*` of OPTIONS) has no segments.
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

/// `path` without the prefix `strip` (where it has it, at a segment boundary) and with the prefix `add`.
pub fn prefixed(path: &str, strip: Option<&str>, add: Option<&str>) -> String {
    let strip = strip.map(|s| s.trim_end_matches('/')).unwrap_or_default();
    let rest = path.strip_prefix(strip).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path);
    let rest = if rest.is_empty() { "/" } else { rest };
    match add.map(|a| a.trim_end_matches('/')) {
        Some(add) => format!("{add}{rest}"),
        None => rest.to_owned(),
    }
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
        ] {
            assert_eq!(normalise_path(written), normal, "{written}");
            assert!(!is_ambiguous(written.as_bytes()), "{written}");
        }
    }

    #[test]
    fn dot_segments_by_other_signs_than_slashes_are_ambiguous() {
        for path in [
            "/a/..%2Fb",
            "/a/..%2fb",
            "/a/%2e%2e%2fb",
            "/a/%2E.%2Fb",
            "/a%2F..",
            "/a%2F../b",
            "/a%2F..%2Fb",
            "/a%2f./b",
            "/a/.%2Fb",
            "/a//..%2Fb",
            "/a/%2F../b",
            "/%2F..",
            "/..%5Cb",
            "/a%5c..%5cb",
            "/a\\..\\b",
            "/a/..\\b",
            "\\..",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/%2e%2e;x/b",
            "/a/.;/b",
            "/a/..%3B/b",
            "/a/..%3bx",
            "/a/..;x%2F..",
            "/a;x%2F../b",
            "/a/..;",
            "/a%00",
            "/a%00.png/b",
        ] {
            assert!(is_ambiguous(path.as_bytes()), "{path}");
        }
        for path in [
            "/a%2Fb",
            "/bucket/key%2Fwith%2Fslashes",
            "/a%2F%2Fb",
            "/a%5Cb",
            "/a;v=1/b;w=..",
            "/a;..",
            "/;x/b",
            "/a/...%2Fb",
            "/a/..b%2Fc",
            "/a/b..%2Fc",
            "/a/.well-known%2Fx",
            "/a%2F.hidden",
            "/a%2Fb/../c",
            "/a;x/../b",
            "/a/..%252Fb",
            "/a/%252e%252e%252fb",
            "/a/..%%32Fb",
            "/a/..%2",
            "/a%0d%0ab",
            "*",
            "",
        ] {
            assert!(!is_ambiguous(path.as_bytes()), "{path}");
        }
    }

    /// What a server makes of a path that takes every sign for a slash and cuts parameters off.
    fn loosely(path: &str) -> Vec<String> {
        let mut text = path.to_owned();
        for (sign, meant) in
            [("%2F", "/"), ("%2f", "/"), ("%5C", "/"), ("%5c", "/"), ("\\", "/"), ("%3B", ";"), ("%3b", ";")]
        {
            text = text.replace(sign, meant);
        }
        let stem = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
        text.split('/').map(stem).collect()
    }

    #[test]
    fn what_is_not_ambiguous_climbs_nowhere_once_it_is_normal() {
        let pieces = ["/", ".", "..", "%2e", "%2F", "%5c", "\\", ";", "%3b", "a", "%25", "%", "2", "F", "%00"];
        let mut random = fastrand::Rng::with_seed(0x00d0_75e9);
        let (mut fine, mut refused) = (0, 0);
        for _ in 0..200_000 {
            let path: String = std::iter::once("/")
                .chain((0..random.usize(1..9)).map(|_| pieces[random.usize(..pieces.len())]))
                .collect();
            if is_ambiguous(path.as_bytes()) {
                refused += 1;
                continue;
            }
            fine += 1;
            let normal = normalise_path(&path);
            let climbs = loosely(&normal).iter().any(|segment| matches!(segment.as_str(), "." | ".."));
            assert!(!climbs && !normal.contains("%00"), "{path} became {normal}");
        }
        assert!(fine > 50_000 && refused > 50_000, "{fine} {refused}");
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

    #[test]
    fn prefixes_are_cut_at_segment_borders() {
        for (path, strip, add, expected) in [
            ("/api/x", Some("/api"), None, "/x"),
            ("/api", Some("/api"), None, "/"),
            ("/api/", Some("/api/"), None, "/"),
            ("/apix", Some("/api"), None, "/apix"),
            ("/api/x", Some("/api"), Some("/internal"), "/internal/x"),
            ("/x", None, Some("/internal/"), "/internal/x"),
            ("/x", None, None, "/x"),
        ] {
            assert_eq!(prefixed(path, strip, add), expected, "{path} {strip:?} {add:?}");
        }
    }
}
