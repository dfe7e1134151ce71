//! A refusal in the terms of gRPC: an answer of trailers alone ("Trailers-Only", gRPC over HTTP/2).
//!
//! Logs and metrics keep the reason's status. The code is that of gRPC's table for statuses of HTTP
//! (`grpc/doc/http-grpc-status-mapping.md`, which Envoy follows too), but for what was used up or too large: there it is
//! `RESOURCE_EXHAUSTED`, as in `google.rpc.Code`, since trying again at once, as `UNAVAILABLE` invites to, does not help.
//! gRPC-Web is not covered: its trailers stand in the body, and its clients understand statuses of HTTP.
//!
//! Such an answer is a success to whoever does not speak gRPC. So it is given to nobody who cannot: gRPC is `POST` over
//! HTTP/2, whatever else says that media type, and no cache may keep it.

use http::{HeaderName, HeaderValue, Method, Version, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

/// `grpc-status`; tells an answer of ours from others that are 200.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// When a client whose policy is to retry may do it (gRFC A6).
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Media type.
const GRPC: &[u8] = b"application/grpc";
/// What `grpc-message` escapes, beside what is not ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Whether the client speaks gRPC.
pub(super) fn is_spoken(asked: &RequestHeader) -> bool {
    if asked.version != Version::HTTP_2 || asked.method != Method::POST {
        return false;
    }
    let kind = asked.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let named = kind.get(..GRPC.len()).is_some_and(|name| name.eq_ignore_ascii_case(GRPC));
    named && matches!(kind.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}

/// The answer's head: what it would be in HTTP, why, and whether it may pass in a second.
pub(super) fn head(status: u16, words: &str, passes: bool) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(200, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    head.insert_header(GRPC_STATUS, HeaderValue::from(code(status)))?;
    head.insert_header(GRPC_MESSAGE, percent_encode(words.as_bytes(), ESCAPED).to_string())?;
    if passes {
        head.insert_header(GRPC_PUSHBACK, HeaderValue::from_static("1000"))?;
    }
    Ok(head)
}

fn code(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        413 | 414 | 429 | 431 => 8,
        502..=504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, version: Version, kind: &'static str) -> RequestHeader {
        let mut asked = RequestHeader::build(method, b"/", None).unwrap();
        asked.set_version(version);
        asked.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(kind)).unwrap();
        asked
    }

    #[test]
    fn it_is_told_from_what_looks_like_it() {
        for (kind, is) in [
            ("application/grpc", true),
            ("Application/gRPC+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("application", false),
        ] {
            assert_eq!(is_spoken(&asked("POST", Version::HTTP_2, kind)), is, "{kind}");
        }
        assert!(!is_spoken(&asked("GET", Version::HTTP_2, "application/grpc")));
        assert!(!is_spoken(&asked("POST", Version::HTTP_11, "application/grpc")));
    }

    #[test]
    fn statuses_become_codes_and_words_are_escaped() {
        let codes = [400, 401, 403, 404, 405, 429, 431, 500, 503, 504].map(code);
        assert_eq!(codes, [13, 16, 7, 12, 2, 8, 8, 2, 14, 14]);
        let head = head(503, "50 % of \u{fc}", true).unwrap();
        assert_eq!(head.headers["cache-control"], "no-store");
        assert_eq!(head.headers["grpc-message"], "50 %25 of %C3%BC");
        assert_eq!(
            (&head.headers["grpc-status"], &head.headers["grpc-retry-pushback-ms"]),
            (&"14".parse().unwrap(), &"1000".parse().unwrap())
        );
    }
}
