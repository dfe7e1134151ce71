//! Heads that real clients send and heads that attackers send, each cut at every byte.

mod oracle;
mod refused;

use super::*;

const LIMITS: Limits = Limits { head_max: 4096, headers_max: 20, uri_max: 256 };

/// What a verdict says, without borrowing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Partial,
    Accepted(usize, Framing),
    Refused(Violation),
}

fn said(judged: Judged<'_>) -> Said {
    match judged {
        Judged::Partial => Said::Partial,
        Judged::Accepted(head) => Said::Accepted(head.length, head.framing),
        Judged::Refused(refusal) => Said::Refused(refusal.fault),
    }
}

/// The verdict of all bytes at once, which must be that of any two parts and of single bytes.
fn verdict(bytes: &[u8]) -> Said {
    let whole = said(Judge::default().judge(bytes, &LIMITS));
    for cut in 0..bytes.len() {
        let mut judge = Judge::default();
        let first = said(judge.judge(&bytes[..cut], &LIMITS));
        let last = if first == Said::Partial { said(judge.judge(bytes, &LIMITS)) } else { first };
        assert_eq!(last, whole, "{} cut at {cut}", bytes.escape_ascii());
    }
    let mut judge = Judge::default();
    let mut steps = (0..=bytes.len()).map(|end| said(judge.judge(&bytes[..end], &LIMITS)));
    assert_eq!(steps.find(|step| *step != Said::Partial).unwrap_or(Said::Partial), whole, "{}", bytes.escape_ascii());
    whole
}

#[test]
fn headers_stand_where_the_judge_says() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Blank: \t \r\nX-Wide:\t a\tb  \r\nx-last:z\r\n\r\nGET";
    let mut judge = Judge::default();
    for again in 0..2 {
        for end in 0..=head.len() {
            judge.judge(&head[..end], &LIMITS);
            if end == head.len() - 3 {
                break;
            }
        }
        let fields = judge.fields().iter().map(|field| (&head[field.name()], &head[field.value()]));
        let expected: [(&[u8], &[u8]); 5] =
            [(b"Host", b"a"), (b"X-Empty", b""), (b"X-Blank", b""), (b"X-Wide", b"a\tb"), (b"x-last", b"z")];
        assert_eq!(fields.collect::<Vec<_>>(), expected, "round {again}");
        judge.reset();
        assert!(judge.fields().is_empty());
    }
}

const CHROME: &str = "GET /v1/orders/17?full=1&q=%7B%22a%22%3A1%7D HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) \
    AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\nAccept: text/html,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\nCookie: session=0123456789abcdef; theme=dark\r\n\r\n";

const WEBSOCKET: &str = "GET /live HTTP/1.1\r\nHost: shop.example:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// Heads of well-known clients, and the framing that they mean.
const ACCEPTED: [(&str, Framing); 37] = {
    use Framing::{Chunked, Length, None};
    [
        (CHROME, None),
        (WEBSOCKET, None),
        // curl
        ("GET / HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n", None),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\n",
            Length(5),
        ),
        ("PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\nExpect: 100-continue\r\n\r\n", Length(1_048_577)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Chunked),
        ("GET / HTTP/1.0\r\nHost: a\r\nUser-Agent: curl/8.14.1\r\n\r\n", None),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            None,
        ),
        ("GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nProxy-Connection: Keep-Alive\r\n\r\n", None),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", None),
        // Go
        (
            "POST /x HTTP/1.1\r\nHost: [::1]:9000\r\nUser-Agent: Go-http-client/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nAccept-Encoding: gzip\r\n\r\n",
            Chunked,
        ),
        ("POST /x HTTP/1.1\r\nHost: a\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\n\r\n", Length(0)),
        // Java sends this with every plain request, with and without a body.
        (
            "POST /x HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 2\r\nHost: a\r\nHTTP2-Settings: AAEAAEAA\r\nUpgrade: h2c\r\nUser-Agent: Java-http-client/21\r\n\r\n",
            Length(2),
        ),
        // Others
        (
            "GET /a HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: a\r\nUser-Agent: Python-urllib/3.13\r\nConnection: close\r\n\r\n",
            None,
        ),
        ("GET / HTTP/1.0\r\nHost: a\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n", Length(7)),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Length(0)),
        ("PROPFIND /dav/ HTTP/1.1\r\nHost: a\r\nDepth: 1\r\nContent-Length: 3\r\n\r\n", Length(3)),
        ("M-SEARCH /a HTTP/1.1\r\nHost: a\r\n\r\n", None),
        // Spellings
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nhOsT:a\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost:   a  \r\n\r\n", None),
        ("POST / HTTP/1.1\r\ncontent-LENGTH:5\r\nhost: a\r\n\r\n", Length(5)),
        ("POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:  Chunked \r\n\r\n", Chunked),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n", Length(999_999_999_999_999_999)),
        ("GET HTTPS://A.example:443 HTTP/1.1\r\nHost: A.example:443\r\n\r\n", None),
        ("GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET /%zz/%/a%0ab/.././/%2e HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET /a|b^c{d}[e]@f:g;h,i='(j)*+~$&! HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET /?a=|^{}[]\\`'?/@ HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \r\nY:\r\nZ:\t1\t\r\nA!#$%&'*+-.^_`|~9: 1\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Name: J\u{f6}rg \u{4e16}\u{754c}\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, TE\r\nTE: trailers\r\n\r\n", None),
        ("GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", None),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Request-ID: 7\r\n\r\n",
            None,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nx_user_id: 7\r\nX.Y: 1\r\n\r\n", None),
    ]
};

#[test]
fn what_clients_send_is_accepted() {
    for (head, framing) in ACCEPTED {
        assert_eq!(verdict(head.as_bytes()), Said::Accepted(head.len(), framing), "{head}");
        for behind in ["GET / HTTP/1.1\r\n", "\n", "\0", "\r\n\r\n"] {
            let both = format!("{head}{behind}");
            assert_eq!(verdict(both.as_bytes()), Said::Accepted(head.len(), framing), "{both}");
        }
        for cut in 0..head.len() {
            let judged = Judge::default().judge(&head.as_bytes()[..cut], &LIMITS);
            assert_eq!(judged, Judged::Partial, "{head} cut at {cut}");
        }
    }
}

fn accepted(head: &str) -> Head<'_> {
    match Judge::default().judge(head.as_bytes(), &LIMITS) {
        Judged::Accepted(head) => head,
        other => panic!("{head}: {other:?}"),
    }
}

#[test]
fn an_accepted_head_tells_what_the_connection_must_know() {
    let head = accepted(WEBSOCKET);
    assert_eq!((head.method, head.target, head.host), (&b"GET"[..], &b"/live"[..], &b"shop.example:8080"[..]));
    assert!(head.upgrade && !head.close && !head.expects_continue);
    let ten = accepted("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!((ten.version, ten.expects_continue), (Version::Http10, false));
    let eleven = accepted("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n");
    assert_eq!((eleven.version, eleven.expects_continue), (Version::Http11, true));
    assert!(!accepted("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").expects_continue);
    assert!(accepted("GET / HTTP/1.1\r\nHost: a\r\nConnection: te, Close\r\n\r\n").close);
    assert!(!accepted("GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n").upgrade);
    assert!(!accepted("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n").upgrade);
}

#[test]
fn a_refusal_tells_what_it_could_read() {
    let refusal = |head: &'static str| match Judge::default().judge(head.as_bytes(), &LIMITS) {
        Judged::Refused(refusal) => (refusal.method, refusal.target, refusal.host),
        other => panic!("{head}: {other:?}"),
    };
    let whole = refusal("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n");
    assert_eq!(whole, (Some(&b"GET"[..]), Some(&b"/x"[..]), Some(&b"a"[..])));
    assert_eq!(refusal("GET /\u{e9} HTTP/1.1\r\n"), (Some(&b"GET"[..]), Some("/\u{e9}".as_bytes()), None));
    assert_eq!(refusal("CONNECT a:1 HTTP/1.1\r\n"), (Some(&b"CONNECT"[..]), Some(&b"a:1"[..]), None));
    assert_eq!(refusal("\x16\x03\x01"), (None, None, None));
}

#[test]
fn limits_hold_to_the_byte_and_before_the_end() {
    let limits = Limits { head_max: 100, headers_max: 2, uri_max: 10 };
    let judge = |head: &str| said(Judge::default().judge(head.as_bytes(), &limits));
    let padded = |total: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(total - rest))
    };
    assert_eq!(judge(&padded(100)), Said::Accepted(100, Framing::None));
    assert_eq!(judge(&format!("{}body", padded(100))), Said::Accepted(100, Framing::None));
    assert_eq!(judge(&padded(101)), Said::Refused(Violation::HeadTooLarge));
    assert_eq!(judge(&padded(101)[..99]), Said::Partial);
    assert_eq!(judge(&padded(101)[..100]), Said::Refused(Violation::HeadTooLarge));
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
    assert!(matches!(judge(&target(10)), Said::Accepted(..)));
    assert_eq!(judge(&target(11)), Said::Refused(Violation::TargetTooLong));
    assert_eq!(judge(&target(70)[..53]), Said::Partial);
    assert_eq!(judge(&target(70)[..54]), Said::Refused(Violation::TargetTooLong));
    let many = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 1\r\n";
    assert_eq!(judge(many), Said::Refused(Violation::TooManyHeaders));
    assert!(matches!(judge("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n\r\n"), Said::Accepted(..)));
}
