//! One table of heads that must not get through, each with the rule that it breaks.

use super::*;

/// Request lines, the empty line before them, and control bytes.
const LINES: [(&str, Violation); 56] = [
    ("\n", Violation::BareLf),
    ("\r\n\r\n", Violation::EmptyLines),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::EmptyLines),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::BareLf),
    ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::BareCr),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::Method),
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", Violation::BareLf),
    ("GET / HTTP/1.1\rHost: a\r\n\r\n", Violation::BareCr),
    ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Violation::BareCr),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", Violation::BareLf),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", Violation::BareLf),
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", Violation::BareCr),
    ("GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n", Violation::BareCr),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Violation::ControlByte),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n", Violation::ControlByte),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x0bb\r\n\r\n", Violation::ControlByte),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", Violation::ControlByte),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x1b[0mb\r\n\r\n", Violation::ControlByte),
    ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Violation::ControlByte),
    ("\x16\x03\x01\x02", Violation::ControlByte),
    ("GET\r\n", Violation::RequestLine),
    ("GET /\r\n", Violation::RequestLine),
    ("GET / \r\n", Violation::RequestLine),
    ("GET HTTP/1.1\r\n", Violation::RequestLine),
    ("GET  HTTP/1.1\r\n", Violation::RequestLine),
    ("GET  / HTTP/1.1\r\n", Violation::RequestLine),
    ("GET /  HTTP/1.1\r\n", Violation::RequestLine),
    ("GET / HTTP/1.1 \r\n", Violation::RequestLine),
    ("GET / HTTP/1.1\t\r\n", Violation::RequestLine),
    ("GET\t/\tHTTP/1.1\r\n", Violation::Method),
    ("GET /\tHTTP/1.1\r\n", Violation::RequestLine),
    ("GET / http/1.1\r\n", Violation::RequestLine),
    ("GET / HTTP/1\r\n", Violation::RequestLine),
    ("GET / HTTP/11\r\n", Violation::RequestLine),
    ("GET / HTTP/1.10\r\n", Violation::RequestLine),
    ("GET / HTTP/01.1\r\n", Violation::RequestLine),
    ("GET / HTTPS/1.1\r\n", Violation::RequestLine),
    ("GET / HTTP/1.1 HTTP/1.1\r\n", Violation::TargetByte),
    ("GET / HTTP/1.1,1\r\n", Violation::RequestLine),
    ("GET / HTTP/1,1\r\n", Violation::RequestLine),
    ("GET / HTTP/0.9\r\n", Violation::Version),
    ("GET / HTTP/1.2\r\n", Violation::Version),
    ("GET / HTTP/1.9\r\n", Violation::Version),
    ("GET / HTTP/2.0\r\n", Violation::Version),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Violation::Version),
    ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", Violation::Connect),
    ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::Connect),
    ("connect a:1 HTTP/1.0\r\nHost: a\r\n\r\n", Violation::Connect),
    ("G(T / HTTP/1.1\r\n", Violation::Method),
    ("G\u{e9}T / HTTP/1.1\r\n", Violation::Method),
    ("\"GET\" / HTTP/1.1\r\n", Violation::Method),
    ("GET:/ / HTTP/1.1\r\n", Violation::Method),
    (" / HTTP/1.1\r\n", Violation::Method),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", Violation::Method),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG", Violation::Method),
    ("\r\nABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJK\n", Violation::Method),
];

/// Targets of a `GET` whose `Host` is `a`.
const TARGETS: [(&str, Violation); 49] = [
    ("/a b", Violation::TargetByte),
    ("/a#b", Violation::TargetByte),
    ("/#", Violation::TargetByte),
    ("/a\\b", Violation::TargetByte),
    ("/a\"b", Violation::TargetByte),
    ("/a<b", Violation::TargetByte),
    ("/a>b", Violation::TargetByte),
    ("/a`b", Violation::TargetByte),
    ("/\u{e9}", Violation::TargetByte),
    ("/\u{212a}", Violation::TargetByte),
    ("/a\tb", Violation::TargetByte),
    ("/?a b", Violation::TargetByte),
    ("/?a#b", Violation::TargetByte),
    ("/?a\"b", Violation::TargetByte),
    ("/?a<b", Violation::TargetByte),
    ("/?a>b", Violation::TargetByte),
    ("/?\u{e9}", Violation::TargetByte),
    ("\\", Violation::TargetByte),
    ("#", Violation::TargetByte),
    ("*", Violation::TargetForm),
    ("a", Violation::TargetForm),
    ("a:80", Violation::TargetForm),
    ("?a", Violation::TargetForm),
    (".", Violation::TargetForm),
    ("@a/", Violation::TargetForm),
    ("http:/a/", Violation::TargetForm),
    ("http:a/", Violation::TargetForm),
    ("http://", Violation::TargetForm),
    ("http:///x", Violation::TargetForm),
    ("http://u@a/", Violation::TargetForm),
    ("http://a:/", Violation::TargetForm),
    ("http://a\\b/", Violation::TargetForm),
    ("http://a#b", Violation::TargetForm),
    ("://a/", Violation::TargetForm),
    ("ftp://a/", Violation::TargetForm),
    ("ws://a/", Violation::TargetForm),
    ("/a/..%2Fb", Violation::Path),
    ("/a/%2e%2E%2fb", Violation::Path),
    ("/a%5C../b", Violation::Path),
    ("/a/..;/b", Violation::Path),
    ("/a/..;x=1?/b", Violation::Path),
    ("/a/..%3b/b", Violation::Path),
    ("/a%00", Violation::Path),
    ("http://a/b/..%2Fc", Violation::Path),
    ("a/..%2Fb", Violation::Path),
    ("http://b/", Violation::HostMismatch),
    ("http://A/", Violation::HostMismatch),
    ("http://a:80/", Violation::HostMismatch),
    ("http://a./", Violation::HostMismatch),
];

/// Header lines behind `Host: a` of a `POST`.
const HEADERS: [(&str, Violation); 118] = [
    // Names
    (" X: 1", Violation::ObsFold),
    ("\tX: 1", Violation::ObsFold),
    ("X: 1\r\n Y: 2", Violation::ObsFold),
    ("X: 1\r\n\t2", Violation::ObsFold),
    ("X: 1\r\n ", Violation::ObsFold),
    ("X", Violation::ColonMissing),
    ("GET / HTTP/1.1", Violation::ColonMissing),
    (": 1", Violation::HeaderName),
    (":authority: a", Violation::HeaderName),
    ("X : 1", Violation::HeaderName),
    ("X\t: 1", Violation::HeaderName),
    ("X Y: 1", Violation::HeaderName),
    ("X(Y): 1", Violation::HeaderName),
    ("X\"Y: 1", Violation::HeaderName),
    ("X/Y: 1", Violation::HeaderName),
    ("[X]: 1", Violation::HeaderName),
    ("{X}: 1", Violation::HeaderName),
    ("X@Y: 1", Violation::HeaderName),
    ("X;Y: 1", Violation::HeaderName),
    ("X=Y: 1", Violation::HeaderName),
    ("X\\: 1", Violation::HeaderName),
    ("X\u{e9}: 1", Violation::HeaderName),
    ("\u{feff}X: 1", Violation::HeaderName),
    ("Content\u{ad}-Length: 1", Violation::HeaderName),
    ("Content-Length : 1", Violation::HeaderName),
    ("Transfer-Encoding : chunked", Violation::HeaderName),
    ("Transfer-Encoding\t: chunked", Violation::HeaderName),
    (" Transfer-Encoding: chunked", Violation::ObsFold),
    ("X: y\r\n Transfer-Encoding: chunked", Violation::ObsFold),
    ("X: y\nTransfer-Encoding: chunked", Violation::BareLf),
    ("X: y\rTransfer-Encoding: chunked", Violation::BareCr),
    ("Transfer-Encoding\r: chunked", Violation::BareCr),
    ("Transfer\0-Encoding: chunked", Violation::ControlByte),
    ("Transfer-Encoding:\x0bchunked", Violation::ControlByte),
    ("Transfer-Encoding:\0chunked", Violation::ControlByte),
    ("Tran\u{17f}fer-Encoding: chunked", Violation::HeaderName),
    ("Transfer_Encoding: chunked", Violation::LookalikeName),
    ("Transfer-Encoding-: chunked", Violation::LookalikeName),
    ("-Transfer-Encoding: chunked", Violation::LookalikeName),
    ("Transfer--Encoding: chunked", Violation::LookalikeName),
    ("Transfer.Encoding: chunked", Violation::LookalikeName),
    ("'Transfer-Encoding: chunked", Violation::LookalikeName),
    ("Content_Length: 1", Violation::LookalikeName),
    ("Content.Length: 1", Violation::LookalikeName),
    ("Content-Length!: 1", Violation::LookalikeName),
    ("X_Forwarded_For: 1.2.3.4", Violation::LookalikeName),
    ("X_Tollgate_App: me", Violation::LookalikeName),
    // Host
    ("Host: a", Violation::HostTwice),
    ("host: b", Violation::HostTwice),
    ("Host:", Violation::HostTwice),
    // Content-Length
    ("Content-Length: ", Violation::ContentLengthInvalid),
    ("Content-Length: +5", Violation::ContentLengthInvalid),
    ("Content-Length: -5", Violation::ContentLengthInvalid),
    ("Content-Length: 5, 5", Violation::ContentLengthInvalid),
    ("Content-Length: 5,5", Violation::ContentLengthInvalid),
    ("Content-Length: 5 5", Violation::ContentLengthInvalid),
    ("Content-Length: 5;", Violation::ContentLengthInvalid),
    ("Content-Length: 0x5", Violation::ContentLengthInvalid),
    ("Content-Length: 5.0", Violation::ContentLengthInvalid),
    ("Content-Length: 1e1", Violation::ContentLengthInvalid),
    ("Content-Length: 1_0", Violation::ContentLengthInvalid),
    ("Content-Length: \"5\"", Violation::ContentLengthInvalid),
    ("Content-Length: 5\t", Violation::ContentLengthInvalid),
    ("Content-Length:\t5", Violation::ContentLengthInvalid),
    ("Content-Length: \u{661}", Violation::ContentLengthInvalid),
    ("Content-Length: chunked", Violation::ContentLengthInvalid),
    ("Content-Length: 1000000000000000000", Violation::ContentLengthInvalid),
    ("Content-Length: 18446744073709551616", Violation::ContentLengthInvalid),
    ("Content-Length: 5\r\nContent-Length: 5", Violation::ContentLengthTwice),
    ("Content-Length: 5\r\ncontent-length: 6", Violation::ContentLengthTwice),
    ("Content-Length: 0\r\nX: 1\r\nContent-Length: 5", Violation::ContentLengthTwice),
    ("Content-Length: 5\r\n Content-Length: 6", Violation::ObsFold),
    // Transfer-Encoding
    ("Transfer-Encoding:", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: identity", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: gzip", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: gzip, chunked", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked, gzip", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked, chunked", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked,", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: ,chunked", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked;", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked;q=1", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: \"chunked\"", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: 'chunked'", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: xchunked", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunkedx", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunk", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding:\tchunked", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked\t", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chun\u{212a}ed", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked\u{a0}", Violation::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked\r\n , x", Violation::ObsFold),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Violation::TransferEncodingTwice),
    ("Transfer-Encoding: chunked\r\nTransfer-encoding: identity", Violation::TransferEncodingTwice),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", Violation::TwoFramings),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", Violation::TwoFramings),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0", Violation::TwoFramings),
    // Connection, Upgrade, Expect
    ("Connection: a b", Violation::ConnectionInvalid),
    ("Connection: close, :path", Violation::ConnectionInvalid),
    ("Connection: te,te,te,te,te\r\nConnection: te,te,te,te,te", Violation::ConnectionTooLong),
    ("Connection: close, Content-Length", Violation::ConnectionNominates),
    ("Connection: x-forwarded-for", Violation::ConnectionNominates),
    ("Connection: authorization, cookie", Violation::ConnectionNominates),
    ("Connection: keep-alive, Cookie", Violation::ConnectionNominates),
    ("Connection: Idempotency-Key", Violation::ConnectionNominates),
    ("Connection: signature", Violation::ConnectionNominates),
    ("Connection: x-mine", Violation::ConnectionNominates),
    ("Connection: close\r\nConnection: x-api-key", Violation::ConnectionNominates),
    ("X_Real_IP: 1.2.3.4", Violation::LookalikeName),
    ("X-Real_IP: 1.2.3.4", Violation::LookalikeName),
    ("CF.Connecting.IP: 1.2.3.4", Violation::LookalikeName),
    ("x_original_url: /admin", Violation::LookalikeName),
    ("X_HTTP_Method_Override: DELETE", Violation::LookalikeName),
    ("Upgrade: h2c\r\nUpgrade: websocket", Violation::UpgradeTwice),
    ("Expect: y 100-continue", Violation::Expect),
    ("Expect: 100-continue\r\nExpect: 100-continue", Violation::Expect),
    ("Expect: 100-continue, 200-ok", Violation::Expect),
    ("Expect: foo", Violation::Expect),
];

/// Whole heads: what only their end shows.
const WHOLE: [(&str, Violation); 26] = [
    ("GET / HTTP/1.1\r\n\r\n", Violation::HostMissing),
    ("GET / HTTP/1.0\r\n\r\n", Violation::HostMissing),
    ("GET / HTTP/1.1\r\nX: 1\r\n\r\n", Violation::HostMissing),
    ("GET http://a/ HTTP/1.1\r\n\r\n", Violation::HostMissing),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Violation::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Violation::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Violation::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Violation::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Violation::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: a/x\r\n\r\n", Violation::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Violation::HostInvalid),
    ("GET / HTTP/1.1\r\nHost:\ta\r\n\r\n", Violation::HostInvalid),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Violation::ObsFold),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Violation::HeaderName),
    ("GET / HTTP/1.1\r\nHost_: b\r\nHost: a\r\n\r\n", Violation::LookalikeName),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Violation::UnexpectedBody),
    ("get / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Violation::UnexpectedBody),
    ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::UnexpectedBody),
    ("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Violation::UnexpectedBody),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::TransferEncodingVersion),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", Violation::TwoFramings),
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", Violation::UpgradeInvalid),
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n", Violation::UpgradeInvalid),
    ("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", Violation::UpgradeInvalid),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nContent-Length: 9\r\n\r\n",
        Violation::UpgradeInvalid,
    ),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", Violation::ObsFold),
];

#[test]
fn what_servers_read_differently_is_refused() {
    let targets = TARGETS.map(|(target, fault)| (format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), fault));
    let headers = HEADERS.map(|(lines, fault)| (format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"), fault));
    let plain = LINES.into_iter().chain(WHOLE).map(|(head, fault)| (head.to_owned(), fault));
    let mut count = 0;
    for (head, fault) in plain.chain(targets).chain(headers) {
        assert_eq!(verdict(head.as_bytes()), Said::Refused(fault), "{head:?}");
        count += 1;
    }
    assert!(count > 200, "{count}");
}

#[test]
fn every_byte_is_judged_in_every_place() {
    for byte in 0..=255u8 {
        let at = |head: &str| {
            let bytes: Vec<u8> = head.bytes().map(|b| if b == b'*' { byte } else { b }).collect();
            matches!(verdict(&bytes), Said::Accepted(..))
        };
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let path = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%|^{}[]?".contains(&byte);
        let query = byte.is_ascii_graphic() && !b"\"#<>".contains(&byte);
        let host = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        assert_eq!(at("G*T / HTTP/1.1\r\nHost: a\r\n\r\n"), token, "method {byte}");
        assert_eq!(at("GET /a*b HTTP/1.1\r\nHost: a\r\n\r\n"), path, "path {byte}");
        assert_eq!(at("GET /?a*b HTTP/1.1\r\nHost: a\r\n\r\n"), query, "query {byte}");
        assert_eq!(at("GET / HTTP/1.1\r\nHost: a*b\r\n\r\n"), host, "host {byte}");
        assert_eq!(at("GET / HTTP/1.1\r\nHost: a\r\nX*Y: a\r\n\r\n"), token || byte == b':', "name {byte}");
        assert_eq!(
            at("GET / HTTP/1.1\r\nHost: a\r\nX: a*b\r\n\r\n"),
            byte == b'\t' || !byte.is_ascii_control(),
            "value {byte}"
        );
        assert_eq!(at("GET / HTTP/1*1\r\nHost: a\r\n\r\n"), byte == b'.', "version {byte}");
        assert_eq!(at("GET / HTTP/1.*\r\nHost: a\r\n\r\n"), matches!(byte, b'0' | b'1'), "version {byte}");
        assert_eq!(
            at("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: *\r\n\r\n"),
            byte.is_ascii_digit(),
            "length {byte}"
        );
        assert_eq!(
            at("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked*\r\n\r\n"),
            byte == b' ',
            "coding {byte}"
        );
    }
}
