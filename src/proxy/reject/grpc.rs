//! A refusal as a gRPC status: an answer of trailers alone ("Trailers-Only", gRPC over HTTP/2).
//!
//! Logs and metrics keep the reason's HTTP status. The code follows gRPC's table for HTTP statuses
//! (`grpc/doc/http-grpc-status-mapping.md`, as in Envoy), except for exhausted limits and sizes: these are
//! `RESOURCE_EXHAUSTED`, as in `google.rpc.Code`, because trying again at once, as `UNAVAILABLE` suggests, does not
//! help. gRPC-Web is not covered: its trailers are in the body, and its clients understand HTTP statuses.
//!
//! Other clients would take such an answer for a success. So only gRPC requests get it: `POST` over HTTP/2, whatever
//! else has that media type, and caches may not store it.

use http::{HeaderName, HeaderValue, Method, Version, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

/// `grpc-status`; tells the gateway's own refusals from other answers with 200.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// When a client whose policy is to retry may do so (gRFC A6).
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Media type.
const GRPC: &[u8] = b"application/grpc";
/// Characters that `grpc-message` escapes, besides those that are not ASCII.
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

/// The answer's head: its HTTP status, the message, and whether a retry may succeed in a second.
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
