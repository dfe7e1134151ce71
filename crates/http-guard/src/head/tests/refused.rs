//! One table of heads that must not get through, each with the rule that it breaks.

use super::*;

/// Request lines, the empty line before them, and control bytes.
const LINES: [(&str, Fault); 56] = [
    ("\n", Fault::BareLf),
    ("\r\n\r\n", Fault::EmptyLines),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::EmptyLines),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::BareLf),
    ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::BareCr),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Method),
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", Fault::BareLf),
    ("GET / HTTP/1.1\rHost: a\r\n\r\n", Fault::BareCr),
    ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Fault::BareCr),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", Fault::BareLf),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", Fault::BareLf),
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", Fault::BareCr),
    ("GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n", Fault::BareCr),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", Fault::ControlByte),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n", Fault::ControlByte),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x0bb\r\n\r\n", Fault::ControlByte),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", Fault::ControlByte),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x1b[0mb\r\n\r\n", Fault::ControlByte),
    ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Fault::ControlByte),
    ("\x16\x03\x01\x02", Fault::ControlByte),
    ("GET\r\n", Fault::RequestLine),
    ("GET /\r\n", Fault::RequestLine),
    ("GET / \r\n", Fault::RequestLine),
    ("GET HTTP/1.1\r\n", Fault::RequestLine),
    ("GET  HTTP/1.1\r\n", Fault::RequestLine),
    ("GET  / HTTP/1.1\r\n", Fault::RequestLine),
    ("GET /  HTTP/1.1\r\n", Fault::RequestLine),
    ("GET / HTTP/1.1 \r\n", Fault::RequestLine),
    ("GET / HTTP/1.1\t\r\n", Fault::RequestLine),
    ("GET\t/\tHTTP/1.1\r\n", Fault::Method),
    ("GET /\tHTTP/1.1\r\n", Fault::RequestLine),
    ("GET / http/1.1\r\n", Fault::RequestLine),
    ("GET / HTTP/1\r\n", Fault::RequestLine),
    ("GET / HTTP/11\r\n", Fault::RequestLine),
    ("GET / HTTP/1.10\r\n", Fault::RequestLine),
    ("GET / HTTP/01.1\r\n", Fault::RequestLine),
    ("GET / HTTPS/1.1\r\n", Fault::RequestLine),
    ("GET / HTTP/1.1 HTTP/1.1\r\n", Fault::TargetByte),
    ("GET / HTTP/1.1,1\r\n", Fault::RequestLine),
    ("GET / HTTP/1,1\r\n", Fault::RequestLine),
    ("GET / HTTP/0.9\r\n", Fault::Version),
    ("GET / HTTP/1.2\r\n", Fault::Version),
    ("GET / HTTP/1.9\r\n", Fault::Version),
    ("GET / HTTP/2.0\r\n", Fault::Version),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::Version),
    ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", Fault::Connect),
    ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Connect),
    ("connect a:1 HTTP/1.0\r\nHost: a\r\n\r\n", Fault::Connect),
    ("G(T / HTTP/1.1\r\n", Fault::Method),
    ("G\u{e9}T / HTTP/1.1\r\n", Fault::Method),
    ("\"GET\" / HTTP/1.1\r\n", Fault::Method),
    ("GET:/ / HTTP/1.1\r\n", Fault::Method),
    (" / HTTP/1.1\r\n", Fault::Method),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", Fault::Method),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG", Fault::Method),
    ("\r\nABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJK\n", Fault::Method),
];

/// Targets of a `GET` whose `Host` is `a`.
const TARGETS: [(&str, Fault); 49] = [
    ("/a b", Fault::TargetByte),
    ("/a#b", Fault::TargetByte),
    ("/#", Fault::TargetByte),
    ("/a\\b", Fault::TargetByte),
    ("/a\"b", Fault::TargetByte),
    ("/a<b", Fault::TargetByte),
    ("/a>b", Fault::TargetByte),
    ("/a`b", Fault::TargetByte),
    ("/\u{e9}", Fault::TargetByte),
    ("/\u{212a}", Fault::TargetByte),
    ("/a\tb", Fault::TargetByte),
    ("/?a b", Fault::TargetByte),
    ("/?a#b", Fault::TargetByte),
    ("/?a\"b", Fault::TargetByte),
    ("/?a<b", Fault::TargetByte),
    ("/?a>b", Fault::TargetByte),
    ("/?\u{e9}", Fault::TargetByte),
    ("\\", Fault::TargetByte),
    ("#", Fault::TargetByte),
    ("*", Fault::TargetForm),
    ("a", Fault::TargetForm),
    ("a:80", Fault::TargetForm),
    ("?a", Fault::TargetForm),
    (".", Fault::TargetForm),
    ("@a/", Fault::TargetForm),
    ("http:/a/", Fault::TargetForm),
    ("http:a/", Fault::TargetForm),
    ("http://", Fault::TargetForm),
    ("http:///x", Fault::TargetForm),
    ("http://u@a/", Fault::TargetForm),
    ("http://a:/", Fault::TargetForm),
    ("http://a\\b/", Fault::TargetForm),
    ("http://a#b", Fault::TargetForm),
    ("://a/", Fault::TargetForm),
    ("ftp://a/", Fault::TargetForm),
    ("ws://a/", Fault::TargetForm),
    ("/a/..%2Fb", Fault::Path),
    ("/a/%2e%2E%2fb", Fault::Path),
    ("/a%5C../b", Fault::Path),
    ("/a/..;/b", Fault::Path),
    ("/a/..;x=1?/b", Fault::Path),
    ("/a/..%3b/b", Fault::Path),
    ("/a%00", Fault::Path),
    ("http://a/b/..%2Fc", Fault::Path),
    ("a/..%2Fb", Fault::Path),
    ("http://b/", Fault::HostMismatch),
    ("http://A/", Fault::HostMismatch),
    ("http://a:80/", Fault::HostMismatch),
    ("http://a./", Fault::HostMismatch),
];

/// Header lines behind `Host: a` of a `POST`.
const HEADERS: [(&str, Fault); 118] = [
    // Names
    (" X: 1", Fault::ObsFold),
    ("\tX: 1", Fault::ObsFold),
    ("X: 1\r\n Y: 2", Fault::ObsFold),
    ("X: 1\r\n\t2", Fault::ObsFold),
    ("X: 1\r\n ", Fault::ObsFold),
    ("X", Fault::ColonMissing),
    ("GET / HTTP/1.1", Fault::ColonMissing),
    (": 1", Fault::HeaderName),
    (":authority: a", Fault::HeaderName),
    ("X : 1", Fault::HeaderName),
    ("X\t: 1", Fault::HeaderName),
    ("X Y: 1", Fault::HeaderName),
    ("X(Y): 1", Fault::HeaderName),
    ("X\"Y: 1", Fault::HeaderName),
    ("X/Y: 1", Fault::HeaderName),
    ("[X]: 1", Fault::HeaderName),
    ("{X}: 1", Fault::HeaderName),
    ("X@Y: 1", Fault::HeaderName),
    ("X;Y: 1", Fault::HeaderName),
    ("X=Y: 1", Fault::HeaderName),
    ("X\\: 1", Fault::HeaderName),
    ("X\u{e9}: 1", Fault::HeaderName),
    ("\u{feff}X: 1", Fault::HeaderName),
    ("Content\u{ad}-Length: 1", Fault::HeaderName),
    ("Content-Length : 1", Fault::HeaderName),
    ("Transfer-Encoding : chunked", Fault::HeaderName),
    ("Transfer-Encoding\t: chunked", Fault::HeaderName),
    (" Transfer-Encoding: chunked", Fault::ObsFold),
    ("X: y\r\n Transfer-Encoding: chunked", Fault::ObsFold),
    ("X: y\nTransfer-Encoding: chunked", Fault::BareLf),
    ("X: y\rTransfer-Encoding: chunked", Fault::BareCr),
    ("Transfer-Encoding\r: chunked", Fault::BareCr),
    ("Transfer\0-Encoding: chunked", Fault::ControlByte),
    ("Transfer-Encoding:\x0bchunked", Fault::ControlByte),
    ("Transfer-Encoding:\0chunked", Fault::ControlByte),
    ("Tran\u{17f}fer-Encoding: chunked", Fault::HeaderName),
    ("Transfer_Encoding: chunked", Fault::LookalikeName),
    ("Transfer-Encoding-: chunked", Fault::LookalikeName),
    ("-Transfer-Encoding: chunked", Fault::LookalikeName),
    ("Transfer--Encoding: chunked", Fault::LookalikeName),
    ("Transfer.Encoding: chunked", Fault::LookalikeName),
    ("'Transfer-Encoding: chunked", Fault::LookalikeName),
    ("Content_Length: 1", Fault::LookalikeName),
    ("Content.Length: 1", Fault::LookalikeName),
    ("Content-Length!: 1", Fault::LookalikeName),
    ("X_Forwarded_For: 1.2.3.4", Fault::LookalikeName),
    ("X_Tollgate_App: me", Fault::LookalikeName),
    // Host
    ("Host: a", Fault::HostTwice),
    ("host: b", Fault::HostTwice),
    ("Host:", Fault::HostTwice),
    // Content-Length
    ("Content-Length: ", Fault::ContentLengthInvalid),
    ("Content-Length: +5", Fault::ContentLengthInvalid),
    ("Content-Length: -5", Fault::ContentLengthInvalid),
    ("Content-Length: 5, 5", Fault::ContentLengthInvalid),
    ("Content-Length: 5,5", Fault::ContentLengthInvalid),
    ("Content-Length: 5 5", Fault::ContentLengthInvalid),
    ("Content-Length: 5;", Fault::ContentLengthInvalid),
    ("Content-Length: 0x5", Fault::ContentLengthInvalid),
    ("Content-Length: 5.0", Fault::ContentLengthInvalid),
    ("Content-Length: 1e1", Fault::ContentLengthInvalid),
    ("Content-Length: 1_0", Fault::ContentLengthInvalid),
    ("Content-Length: \"5\"", Fault::ContentLengthInvalid),
    ("Content-Length: 5\t", Fault::ContentLengthInvalid),
    ("Content-Length:\t5", Fault::ContentLengthInvalid),
    ("Content-Length: \u{661}", Fault::ContentLengthInvalid),
    ("Content-Length: chunked", Fault::ContentLengthInvalid),
    ("Content-Length: 1000000000000000000", Fault::ContentLengthInvalid),
    ("Content-Length: 18446744073709551616", Fault::ContentLengthInvalid),
    ("Content-Length: 5\r\nContent-Length: 5", Fault::ContentLengthTwice),
    ("Content-Length: 5\r\ncontent-length: 6", Fault::ContentLengthTwice),
    ("Content-Length: 0\r\nX: 1\r\nContent-Length: 5", Fault::ContentLengthTwice),
    ("Content-Length: 5\r\n Content-Length: 6", Fault::ObsFold),
    // Transfer-Encoding
    ("Transfer-Encoding:", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: identity", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: gzip", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: gzip, chunked", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked, gzip", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked, chunked", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked,", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: ,chunked", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked;", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked;q=1", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: \"chunked\"", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: 'chunked'", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: xchunked", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunkedx", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunk", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding:\tchunked", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked\t", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chun\u{212a}ed", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked\u{a0}", Fault::TransferEncodingInvalid),
    ("Transfer-Encoding: chunked\r\n , x", Fault::ObsFold),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Fault::TransferEncodingTwice),
    ("Transfer-Encoding: chunked\r\nTransfer-encoding: identity", Fault::TransferEncodingTwice),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", Fault::TwoFramings),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", Fault::TwoFramings),
    ("Transfer-Encoding: chunked\r\nContent-Length: 0", Fault::TwoFramings),
    // Connection, Upgrade, Expect
    ("Connection: a b", Fault::ConnectionInvalid),
    ("Connection: close, :path", Fault::ConnectionInvalid),
    ("Connection: te,te,te,te,te\r\nConnection: te,te,te,te,te", Fault::ConnectionTooLong),
    ("Connection: close, Content-Length", Fault::ConnectionNominates),
    ("Connection: x-forwarded-for", Fault::ConnectionNominates),
    ("Connection: authorization, cookie", Fault::ConnectionNominates),
    ("Connection: keep-alive, Cookie", Fault::ConnectionNominates),
    ("Connection: Idempotency-Key", Fault::ConnectionNominates),
    ("Connection: signature", Fault::ConnectionNominates),
    ("Connection: x-mine", Fault::ConnectionNominates),
    ("Connection: close\r\nConnection: x-api-key", Fault::ConnectionNominates),
    ("X_Real_IP: 1.2.3.4", Fault::LookalikeName),
    ("X-Real_IP: 1.2.3.4", Fault::LookalikeName),
    ("CF.Connecting.IP: 1.2.3.4", Fault::LookalikeName),
    ("x_original_url: /admin", Fault::LookalikeName),
    ("X_HTTP_Method_Override: DELETE", Fault::LookalikeName),
    ("Upgrade: h2c\r\nUpgrade: websocket", Fault::UpgradeTwice),
    ("Expect: y 100-continue", Fault::Expect),
    ("Expect: 100-continue\r\nExpect: 100-continue", Fault::Expect),
    ("Expect: 100-continue, 200-ok", Fault::Expect),
    ("Expect: foo", Fault::Expect),
];

/// Whole heads: what only their end shows.
const WHOLE: [(&str, Fault); 26] = [
    ("GET / HTTP/1.1\r\n\r\n", Fault::HostMissing),
    ("GET / HTTP/1.0\r\n\r\n", Fault::HostMissing),
    ("GET / HTTP/1.1\r\nX: 1\r\n\r\n", Fault::HostMissing),
    ("GET http://a/ HTTP/1.1\r\n\r\n", Fault::HostMissing),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Fault::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Fault::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Fault::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Fault::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Fault::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: a/x\r\n\r\n", Fault::HostInvalid),
    ("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Fault::HostInvalid),
    ("GET / HTTP/1.1\r\nHost:\ta\r\n\r\n", Fault::HostInvalid),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Fault::ObsFold),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Fault::HeaderName),
    ("GET / HTTP/1.1\r\nHost_: b\r\nHost: a\r\n\r\n", Fault::LookalikeName),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Fault::UnexpectedBody),
    ("get / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Fault::UnexpectedBody),
    ("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::UnexpectedBody),
    ("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Fault::UnexpectedBody),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncodingVersion),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", Fault::TwoFramings),
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", Fault::UpgradeInvalid),
    ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n", Fault::UpgradeInvalid),
    ("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", Fault::UpgradeInvalid),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nContent-Length: 9\r\n\r\n",
        Fault::UpgradeInvalid,
    ),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", Fault::ObsFold),
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
