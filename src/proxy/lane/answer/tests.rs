//! Heads and bodies of servers, whole and cut at every byte.

use super::*;

fn read(bytes: &[u8]) -> Option<(ResponseHeader, usize)> {
    for cut in 0..bytes.len() {
        assert!(head(&bytes[..cut]).unwrap().is_none_or(|(_, length)| length <= cut), "cut at {cut}");
    }
    head(bytes).unwrap()
}

#[test]
fn heads_are_read_as_servers_mean_them() {
    let bytes = b"HTTP/1.1 200 OK\r\nA: 1\r\na:2 \r\nEmpty:\r\nSpaced : x\r\n\r\n";
    let (head, length) = read(&[bytes, &b"body"[..]].concat()).unwrap();
    assert_eq!((head.status.as_u16(), length, head.version), (200, bytes.len(), Version::HTTP_11));
    assert_eq!(head.headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((head.headers["empty"].as_bytes(), head.headers["spaced"].as_bytes()), (&b""[..], &b"x"[..]));
    let (head, _) = read(b"HTTP/1.0 299 Odd Words\r\nfolded: a\r\n \t b\r\nlatin: \xe9\r\n\r\n").unwrap();
    assert_eq!((head.get_reason_phrase(), head.version), (Some("Odd Words"), Version::HTTP_10));
    assert_eq!((head.headers["folded"].as_bytes(), head.headers["latin"].as_bytes()), (&b"a b"[..], &b"\xe9"[..]));
}

#[test]
fn heads_that_nobody_can_read_are_refused() {
    for wrong in [
        &b"HTTP/1.1 20 OK\r\n\r\n"[..],
        b"HTTP/1.1 099 X\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200\0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1)).as_bytes(),
    ] {
        assert!(head(wrong).is_err(), "{}", wrong.escape_ascii());
    }
}

fn framing(method: Method, lines: &str) -> Result<(Framing, ResponseHeader)> {
    let (head, _) = head(format!("HTTP/1.1 {lines}\r\n\r\n").as_bytes())?.expect("a whole head");
    Framing::of(&head, &method).map(|framing| (framing, head))
}

#[test]
fn bodies_end_where_the_head_says() {
    let of = |method, lines| framing(method, lines).unwrap().0;
    assert!(matches!(of(Method::GET, "200 OK\r\ncontent-length: 5"), Framing::Length(5)));
    assert!(matches!(of(Method::GET, "200 OK\r\ntransfer-encoding: Chunked"), Framing::Chunked(_)));
    assert!(matches!(of(Method::GET, "200 OK\r\ntransfer-encoding: gzip, chunked"), Framing::Chunked(_)));
    assert!(matches!(of(Method::GET, "200 OK\r\ntransfer-encoding: gzip"), Framing::UntilClose));
    assert!(matches!(of(Method::GET, "200 OK"), Framing::UntilClose));
    for (method, lines) in [
        (Method::HEAD, "200 OK\r\ncontent-length: 5"),
        (Method::GET, "204 No Content\r\ntransfer-encoding: chunked"),
        (Method::GET, "304 Not Modified\r\ncontent-length: 5"),
    ] {
        assert!(matches!(of(method, lines), Framing::Length(0)), "{lines}");
    }
    let (both, head) = framing(Method::GET, "200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked").unwrap();
    assert!(matches!(both, Framing::Chunked(_)) && !head.headers.contains_key(CONTENT_LENGTH));
    for twice in ["200 OK\r\ncontent-length: 5\r\ncontent-length: 5", "200 OK\r\ncontent-length: 5, 5"] {
        assert!(matches!(of(Method::GET, twice), Framing::Length(5)), "{twice}");
    }
    assert!(framing(Method::GET, "200 OK\r\ntransfer-encoding: chunked, gzip").is_err());
    for (said, told) in [("identity", "chunked"), ("gzip", "gzip, chunked"), ("gzip, CHUNKED", "gzip, chunked")] {
        let (_, mut head) = framing(Method::GET, &format!("200 OK\r\ntransfer-encoding: {said}")).unwrap();
        chunk(&mut head).unwrap();
        assert_eq!(head.headers[TRANSFER_ENCODING], told, "{said}");
    }
    for wrong in ["5, 6", "-1", "+5", "5x", "", "99999999999999999999"] {
        assert!(framing(Method::GET, &format!("200 OK\r\ncontent-length: {wrong}")).is_err(), "{wrong}");
    }
}

/// The body of a chunked answer that comes in these parts, and the bytes behind it.
fn unchunked(parts: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>)> {
    let (mut framing, mut unread, mut seen) = (Framing::Chunked(Chunks::default()), Vec::new(), Vec::new());
    for part in parts {
        unread.extend_from_slice(part);
        let Part { body, taken } = framing.part(&mut unread)?;
        seen.extend_from_slice(&unread[..body]);
        unread.drain(..taken);
    }
    assert!(framing.is_over(), "{}", seen.escape_ascii());
    Ok((seen, unread))
}

#[test]
fn chunks_are_read_however_they_come() {
    for body in [
        &b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n"[..],
        b"05 \r\nhello\r\n6\r\n world\r\n000\r\ntrailer: x\r\nother: y\r\n\r\n",
        b"b\r\nhello world\r\n0\r\n\r\n",
    ] {
        let more = [body, b"HTTP"].concat();
        assert_eq!(unchunked(&[&more]).unwrap(), (b"hello world".to_vec(), b"HTTP".to_vec()));
        for cut in 0..body.len() {
            assert_eq!(unchunked(&[&body[..cut], &body[cut..]]).unwrap().0, b"hello world", "cut at {cut}");
        }
        let single: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(unchunked(&single).unwrap().0, b"hello world");
    }
    for wrong in [&b"x\r\n"[..], b"5\r\nhelloX", b"-1\r\n", b"fffffffffffffffff\r\n"] {
        assert!(unchunked(&[wrong]).is_err(), "{}", wrong.escape_ascii());
    }
    let long = format!("0\r\n{}", "a: b\r\n".repeat(20_000));
    assert!(unchunked(&[long.as_bytes()]).is_err());
}

#[test]
fn a_server_says_whether_it_keeps_the_connection() {
    for (lines, kept) in [
        ("HTTP/1.1 200 OK", true),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close", false),
        ("HTTP/1.0 200 OK", false),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive", true),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked", false),
    ] {
        let (head, _) = head(format!("{lines}\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert_eq!(is_kept(&head), kept, "{lines}");
    }
}
