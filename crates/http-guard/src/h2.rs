//! Validation of the head of an HTTP/2 request, before it becomes one of HTTP/1.1 towards a server.
//!
//! The codec has parsed it and refused what breaks the frames, so there are no lines to forge. What remains is what the
//! codec accepts and an HTTP/1.1 server would read differently: connection headers (RFC 9113, section 8.2.2), two
//! authorities, names that HTTP/2 may have and a token may not, and the body of a `GET`. The rules are those of
//! [`super::head`] wherever both protocols have the same concept. Joining cookies is not done here.

use http::header::COOKIE;
use http::{HeaderMap, Method, Uri};

use super::bytes::{self, Line, ODD, TOKEN, class};
use super::field::{self, Name};
use super::head::{self, Limits};
use super::host;
use super::violation::Violation;

/// Heads up to this size may repeat anything. In a larger one this many bytes may be repeated: a codec's table encodes
/// a repeated line in one byte, so 29 bytes could become 64 KiB at a server.
const SMALL: usize = 8 << 10;
const REPEATED_MAX: usize = 4 << 10;
/// Shorter lines gain too little to count.
const REPEATED_FROM: usize = 32;

/// The size that a header counts for beside its name and value (RFC 9113, section 6.5.2).
const PER_HEADER: usize = 32;

/// A head as the codec has read it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `:method`
    pub method: &'a Method,
    /// `:scheme`, `:authority` and `:path`.
    pub uri: &'a Uri,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Whether the stream ended with the head, so that there is no body.
    pub ends: bool,
}

/// The facts of an accepted head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The authority of the request, from `:authority` or `Host`.
    pub host: &'a [u8],
    /// Bytes of the body, where the head says so. The codec checks the frames against it.
    pub content_length: Option<u64>,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// Validates a head.
///
/// # Errors
///
/// The first rule that it breaks.
pub fn judge<'a>(request: &Request<'a>, limits: &Limits) -> Result<Accepted<'a>, Violation> {
    if request.method.as_str().eq_ignore_ascii_case("CONNECT") {
        return Err(Violation::Connect);
    }
    if request.method.as_str().len() > head::METHOD_MAX {
        return Err(Violation::Method);
    }
    if request.headers.len() > limits.headers_max {
        return Err(Violation::TooManyHeaders);
    }
    target(request, limits)?;
    let host = authority(request.uri, request.headers)?;
    let mut size = request.method.as_str().len() + request.uri.path().len() + request.uri.query().map_or(0, str::len);
    let (mut content_length, mut expects_continue) = (None, false);
    for (name, value) in request.headers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        size += name.len() + value.len() + PER_HEADER;
        if size > limits.head_max {
            return Err(Violation::HeadTooLarge);
        }
        header(name, value)?;
        match Name::of(name) {
            Name::ContentLength if content_length.is_some() => return Err(Violation::ContentLengthTwice),
            Name::ContentLength => content_length = Some(field::content_length(value)?),
            Name::Expect if expects_continue || !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(Violation::Expect);
            }
            Name::Expect => expects_continue = true,
            _ => {}
        }
    }
    if size > SMALL && repeated(request.headers) > REPEATED_MAX {
        return Err(Violation::HeadTooLarge);
    }
    let promised = content_length.is_some_and(|length| length > 0);
    if request.ends && promised {
        return Err(Violation::ContentLengthInvalid);
    }
    if (promised || !request.ends) && field::has_no_body(request.method.as_str().as_bytes()) {
        return Err(Violation::UnexpectedBody);
    }
    Ok(Accepted { host, content_length, expects_continue: expects_continue && !request.ends })
}

/// Bytes of lines, and of the parts of a cookie, that repeat an earlier one.
fn repeated(headers: &HeaderMap) -> usize {
    let mut lines: Vec<(&str, &[u8])> = vec![];
    for (name, value) in headers {
        match *name == COOKIE {
            true => lines.extend(value.as_bytes().split(|b| *b == b';').map(|part| ("cookie", part.trim_ascii()))),
            false => lines.push((name.as_str(), value.as_bytes())),
        }
    }
    lines.retain(|(_, value)| value.len() >= REPEATED_FROM);
    lines.sort_unstable();
    lines.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[1].0.len() + pair[1].1.len()).sum()
}

fn target(request: &Request<'_>, limits: &Limits) -> Result<(), Violation> {
    if !matches!(request.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Violation::TargetForm);
    }
    let target = request.uri.path_and_query().map(|target| target.as_str()).ok_or(Violation::Path)?;
    if target.len() > limits.uri_max {
        return Err(Violation::TargetTooLong);
    }
    match target.as_bytes() {
        target @ [b'/', ..] => head::path(target),
        b"*" if request.method == Method::OPTIONS => Ok(()),
        _ => Err(Violation::Path),
    }
}

/// RFC 9113, section 8.3.1: `:authority` or `Host`, which must agree where both are there.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a [u8], Violation> {
    let mut hosts = headers.get_all(http::header::HOST).iter().map(|host| host.as_bytes());
    let written = hosts.next();
    if hosts.next().is_some() {
        return Err(Violation::HostTwice);
    }
    let pseudo = uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = pseudo.or(written).ok_or(Violation::HostMissing)?;
    if !host::is_valid(host) {
        return Err(Violation::HostInvalid);
    }
    if written.is_some_and(|written| written != host) {
        return Err(Violation::HostMismatch);
    }
    Ok(host)
}

fn header(name: &[u8], value: &[u8]) -> Result<(), Violation> {
    let seen = name.iter().try_fold(0, |seen, byte| match class(*byte) {
        class if class & TOKEN == 0 => Err(Violation::HeaderName),
        class => Ok(seen | class),
    })?;
    // As in a line of HTTP/1.1, a value has no control character but HTAB, and so no line end either.
    match bytes::line(value, 0) {
        Line::Open(end) if end == value.len() => {}
        Line::Broken(fault) => return Err(fault),
        _ => return Err(Violation::BareCr),
    }
    match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err(Violation::ConnectionHeader)
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => Err(Violation::Te),
        _ if Name::of(name) == Name::Other && field::is_lookalike(name, seen & ODD != 0) => {
            Err(Violation::LookalikeName)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head_max: 1024, headers_max: 8, uri_max: 64 };

    fn verdict(
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        ends: bool,
    ) -> Result<(Vec<u8>, Option<u64>), Violation> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let request = Request { method: &parts.method, uri: &parts.uri, headers: &parts.headers, ends };
        judge(&request, &LIMITS).map(|accepted| (accepted.host.to_vec(), accepted.content_length))
    }

    #[test]
    fn what_clients_send_is_accepted() {
        for (method, uri, headers, ends) in [
            ("GET", "https://a.example/x?y=1", &[("user-agent", "curl/8.14.1"), ("accept", "*/*")][..], true),
            ("POST", "http://a.example:8080/s.S/M", &[("te", "trailers"), ("content-type", "application/grpc")], false),
            ("OPTIONS", "*", &[("host", "a.example")], true),
            ("PUT", "/x", &[("host", "a.example"), ("content-length", "5"), ("expect", "100-continue")], false),
            ("GET", "https://a.example/", &[("host", "a.example"), ("content-length", "0")], true),
            ("GET", "https://a.example/", &[("cookie", "a=1"), ("cookie", "b=2"), ("x_user_id", "7")], true),
        ] {
            assert!(verdict(method, uri, headers, ends).is_ok(), "{method} {uri} {headers:?}");
        }
        let (host, length) = verdict("POST", "https://a.example/", &[("content-length", "17")], false).unwrap();
        assert_eq!((&host[..], length), (&b"a.example"[..], Some(17)));
    }

    #[test]
    fn what_http11_would_read_differently_is_refused() {
        let at = "https://a.example/";
        for (method, uri, headers, ends, fault) in [
            ("CONNECT", "a.example:443", &[][..], true, Violation::Connect),
            ("connect", at, &[], true, Violation::Connect),
            ("POST", at, &[("connection", "close")], false, Violation::ConnectionHeader),
            ("POST", at, &[("keep-alive", "5")], false, Violation::ConnectionHeader),
            ("POST", at, &[("proxy-connection", "close")], false, Violation::ConnectionHeader),
            ("POST", at, &[("transfer-encoding", "chunked")], false, Violation::ConnectionHeader),
            ("GET", at, &[("upgrade", "websocket")], true, Violation::ConnectionHeader),
            ("POST", at, &[("te", "trailers, gzip")], false, Violation::Te),
            ("POST", at, &[("content-length", "1"), ("content-length", "1")], false, Violation::ContentLengthTwice),
            ("POST", at, &[("content-length", "+1")], false, Violation::ContentLengthInvalid),
            ("POST", at, &[("content-length", " 1")], false, Violation::ContentLengthInvalid),
            ("POST", at, &[("content-length", "1")], true, Violation::ContentLengthInvalid),
            ("POST", at, &[("content_length", "1")], false, Violation::LookalikeName),
            ("POST", at, &[("x_tollgate_app", "me")], false, Violation::LookalikeName),
            ("GET", at, &[("content-length", "1")], false, Violation::UnexpectedBody),
            ("HEAD", at, &[], false, Violation::UnexpectedBody),
            ("GET", at, &[("host", "b.example")], true, Violation::HostMismatch),
            ("GET", at, &[("host", "a.example"), ("host", "a.example")], true, Violation::HostTwice),
            ("GET", "/", &[], true, Violation::HostMissing),
            ("GET", "/", &[("host", "a,b")], true, Violation::HostInvalid),
            ("GET", "https://u@a.example/", &[], true, Violation::HostInvalid),
            ("GET", "ftp://a.example/", &[], true, Violation::TargetForm),
            ("GET", "https://a.example/a\\b", &[], true, Violation::TargetByte),
            ("GET", "*", &[("host", "a.example")], true, Violation::Path),
            ("GET", "https://a.example/public/..%2Fadmin", &[], true, Violation::Path),
            ("GET", "https://a.example/public/..;/admin?x", &[], true, Violation::Path),
            ("GET", "https://a.example/a%00", &[], true, Violation::Path),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG", at, &[], true, Violation::Method),
            ("POST", at, &[("expect", "y 100-continue")], false, Violation::Expect),
        ] {
            assert_eq!(verdict(method, uri, headers, ends), Err(fault), "{method} {uri} {headers:?}");
        }
        let long = "x".repeat(80);
        assert_eq!(verdict("GET", &format!("{at}{long}"), &[], true), Err(Violation::TargetTooLong));
        let big = "x".repeat(1000);
        assert_eq!(verdict("GET", at, &[("a", &big)], true), Err(Violation::HeadTooLarge));
        assert_eq!(verdict("GET", at, &[("a", "1"); 9], true), Err(Violation::TooManyHeaders));
    }

    #[test]
    fn a_large_head_does_not_consist_of_one_line() {
        let judged = |lines: &[(&str, String)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            let uri = Uri::from_static("https://a.example/");
            let request = Request { method: &Method::GET, uri: &uri, headers: &headers, ends: true };
            judge(&request, &Limits { head_max: 64 << 10, headers_max: 100, uri_max: 64 }).map(drop)
        };
        let line = |n: usize| ("x-a", format!("{n}").repeat(2_000));
        assert_eq!(judged(&[line(1), line(2), line(3), line(4), line(5), line(1), line(2)]), Ok(()));
        assert_eq!(judged(&[line(1), line(2), line(3), line(1), line(2), line(1)]), Err(Violation::HeadTooLarge));
        assert_eq!(judged(&[line(1), line(1), line(1)]), Ok(()), "it is no large head");
        let crumbs = |crumb: String| ("cookie", vec![crumb; 10].join("; "));
        assert_eq!(judged(&[crumbs("a".repeat(2_000))]), Err(Violation::HeadTooLarge));
        let own = (0..10).map(|n| format!("{n}=").repeat(1_000)).collect::<Vec<_>>().join("; ");
        assert_eq!(judged(&[("cookie", own)]), Ok(()));
    }

    #[test]
    fn a_name_that_only_http2_allows_is_no_token() {
        let quoted = http::HeaderName::from_lowercase(b"a\"b");
        let mut headers = HeaderMap::new();
        headers.insert(quoted.expect("the table of HTTP/2 has the quote"), http::HeaderValue::from_static("1"));
        let uri = Uri::from_static("https://a.example/");
        let request = Request { method: &Method::GET, uri: &uri, headers: &headers, ends: true };
        assert_eq!(judge(&request, &LIMITS), Err(Violation::HeaderName));
    }
}
