//! Bodies whole and cut at every byte, those that attackers send, and another reader of the same bytes.

use super::*;

/// One feed, and one byte at a time: the verdict must be the same.
fn verdict(body: &[u8]) -> Step {
    let whole = Chunked::default().feed(body);
    for cut in 0..=body.len() {
        let mut two = Chunked::default();
        let step = match two.feed(&body[..cut]) {
            Step::More => match two.feed(&body[cut..]) {
                Step::Done(taken) => Step::Done(cut + taken),
                other => other,
            },
            other => other,
        };
        assert_eq!(step, whole, "{:?} cut at {cut}", body.escape_ascii().to_string());
    }
    whole
}

#[test]
fn bodies_end_where_they_say() {
    for body in [
        &b"0\r\n\r\n"[..],
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        b"A\r\n0123456789\r\n0\r\n\r\n",
        b"a\r\n0\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
        b"000000000000005\r\nhello\r\n0\r\n\r\n",
        b"2\r\n\r\n\r\n0\r\n\r\n",
        b"00\r\n\r\n",
        b"000a\r\n0123456789\r\n000000000000000\r\n\r\n",
        b"5;a\r\nhello\r\n0\r\n\r\n",
        b"5;a=b;c;d=\"e; \\\"f\\\\\xc3\xa9\"\r\nhello\r\n0;z=\"\"\r\nx: y\r\n\r\n",
        b"5;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\nhello\r\n00;x\r\n\r\n",
        b"5\r\nhello\r\n0\r\nx-checksum: abc\r\n\r\n",
        b"5\r\nhello\r\n0\r\nDigest: \tabc \xe9\r\nx-b:\r\n\r\n",
    ] {
        assert_eq!(verdict(body), Step::Done(body.len()), "{}", body.escape_ascii());
        let followed = [body, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(verdict(&followed), Step::Done(body.len()), "{}", body.escape_ascii());
        for cut in 0..body.len() {
            assert_eq!(Chunked::default().feed(&body[..cut]), Step::More, "{} at {cut}", body.escape_ascii());
        }
    }
    let mut chunked = Chunked::default();
    assert_eq!(chunked.feed(b"5\r\nhello\r\n3\r\nab"), Step::More);
    assert_eq!(chunked.length(), 7);
    assert_eq!(chunked.feed(b"c\r\n0\r\n\r\nGET"), Step::Done(8));
    assert_eq!(chunked.feed(b"GET"), Step::Done(0));
}

#[test]
fn the_body_itself_is_told_from_its_framing() {
    let body = b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nx: y\r\n\r\n";
    for cut in 0..=body.len() {
        let (mut chunked, mut seen) = (Chunked::default(), Vec::new());
        for part in [&body[..cut], &body[cut..]] {
            chunked.decode(part, |data| seen.extend_from_slice(&part[data]));
        }
        assert_eq!(seen, b"hello world", "cut at {cut}");
    }
}

#[test]
fn what_servers_read_differently_is_refused() {
    for (body, fault) in [
        (&b"\r\n"[..], Violation::ChunkSize),
        (b"g\r\n", Violation::ChunkSize),
        (b"0x5\r\nhello\r\n", Violation::ChunkSize),
        (b"+5\r\n", Violation::ChunkSize),
        (b"-5\r\n", Violation::ChunkSize),
        (b" 5\r\n", Violation::ChunkSize),
        (b"5 \r\nhello\r\n", Violation::ChunkSize),
        (b"5\t\r\nhello\r\n", Violation::ChunkSize),
        (b"5_0\r\n", Violation::ChunkSize),
        (b"0000000000000005\r\nhello\r\n", Violation::ChunkSize),
        (b"fffffffffffffffff\r\n", Violation::ChunkSize),
        (b"10000000000000005\r\nhello\r\n", Violation::ChunkSize),
        (b"5\0\r\n", Violation::ChunkSize),
        (b"\xef\xbc\x95\r\n", Violation::ChunkSize),
        (b"5\nhello\r\n", Violation::BareLf),
        (b"\n5\r\nhello\r\n", Violation::BareLf),
        (b"5\rXhello\r\n", Violation::BareCr),
        (b"5\r\r\nhello\r\n", Violation::BareCr),
        (b"5\r\nhelloXY0\r\n\r\n", Violation::ChunkEnd),
        (b"5\r\nhello\n0\r\n\r\n", Violation::ChunkEnd),
        (b"5\r\nhello\rX", Violation::ChunkEnd),
        (b"5\r\nhello0\r\n\r\n", Violation::ChunkEnd),
        (b"4\r\nhello\r\n", Violation::ChunkEnd),
        (b"5\r\nhello\r\n\r\n", Violation::ChunkSize),
        (b"0000000000000000\r\n\r\n", Violation::ChunkSize),
        (b"0\n\r\n", Violation::BareLf),
        (b"0\r\n\n", Violation::Trailer),
        (b"0\r\n\rX", Violation::BareCr),
        (b"0\r\n\r\r\n", Violation::BareCr),
        (b"0\r\n a: b\r\n\r\n", Violation::Trailer),
        (b"0\r\na: b\r\n c\r\n\r\n", Violation::Trailer),
        (b"0\r\n: b\r\n\r\n", Violation::Trailer),
        (b"0\r\na : b\r\n\r\n", Violation::Trailer),
        (b"0\r\nab\r\n\r\n", Violation::Trailer),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", Violation::Trailer),
        (b"0\r\na: b\n\r\n", Violation::BareLf),
        (b"0\r\na: b\rc\r\n\r\n", Violation::BareCr),
        (b"0\r\na: \0\r\n\r\n", Violation::ControlByte),
    ] {
        assert_eq!(verdict(body), Step::Refused(fault), "{}", body.escape_ascii());
    }
}

#[test]
fn extensions_are_well_formed_or_refused() {
    for (body, fault) in [
        (&b"5;\r\nhello\r\n"[..], Violation::ChunkExtension),
        (b"5;;a\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a;\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;=b\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a=\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a=b=c\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a=\"b\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a=\"b\\\"\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a=\"b\"c\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a=b\"c\"\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;\"a\"\r\nhello\r\n", Violation::ChunkExtension),
        (b"5; a\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a =b\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a= b\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a \r\nhello\r\n", Violation::ChunkExtension),
        (b"5 ;a\r\nhello\r\n", Violation::ChunkSize),
        (b"5;a=\"\t\"\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a=\"\0\"\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;a=\"\r\n\"\r\nhello\r\n", Violation::ChunkExtension),
        (b"5;\xe9\r\nhello\r\n", Violation::ChunkExtension),
        (b";a\r\n", Violation::ChunkSize),
        (b"5;a\rX", Violation::BareCr),
        (b"5;\nxx\r\n", Violation::BareLf),
        (b"5;a\nxx\r\n", Violation::BareLf),
        (b"5;a=\"\n\"\r\n", Violation::BareLf),
        (b"0;\r\n\r\n", Violation::ChunkExtension),
    ] {
        assert_eq!(verdict(body), Step::Refused(fault), "{}", body.escape_ascii());
    }
}

#[test]
fn trailers_neither_frame_nor_forge_nor_go_on_for_ever() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "connection",
        "Upgrade",
        "expect",
        "content_length",
        "Cookie",
        "authorization",
        "X-Forwarded-For",
        "x-tollgate-app",
        "x_tollgate_app",
        "If-Match",
        "TE",
        "proxy-authorization",
        "x-request-id",
        "x-real-ip",
        "CF-Connecting-IP",
        "X-Original-URL",
    ] {
        let body = format!("0\r\n{name}: 1\r\n\r\n");
        assert_eq!(verdict(body.as_bytes()), Step::Refused(Violation::ForbiddenTrailer), "{name}");
    }
    let many = format!("0\r\n{}\r\n", "a: 1\r\n".repeat(33));
    assert_eq!(verdict(many.as_bytes()), Step::Refused(Violation::TrailersTooLarge));
    let long = format!("0\r\na: {}\r\n\r\n", "x".repeat(9000));
    assert_eq!(Chunked::default().feed(long.as_bytes()), Step::Refused(Violation::TrailersTooLarge));
    let named = format!("0\r\n{}: 1\r\n\r\n", "x".repeat(100));
    assert_eq!(verdict(named.as_bytes()), Step::Done(named.len()));
}

#[test]
fn small_chunks_pass_and_padded_ones_come_to_an_end() {
    let mut chunked = Chunked::default();
    for _ in 0..100_000 {
        assert_eq!(chunked.feed(b"1\r\nx\r\n"), Step::More);
    }
    let mut padded = Chunked::default();
    let refused = (0..100_000).find(|_| padded.feed(b"000000000000001\r\nx\r\n") != Step::More);
    assert!(refused.is_some_and(|at| at < 2000), "{refused:?}");
    let longest = format!("1;{}\r\nx\r\n", "a".repeat(255));
    let mut extended = Chunked::default();
    let refused = (0..100_000).find(|_| extended.feed(longest.as_bytes()) != Step::More);
    assert!(refused.is_some_and(|at| (50..80).contains(&at)), "{refused:?}");
    let longer = format!("1;{}\r\nx\r\n", "a".repeat(256));
    assert_eq!(Chunked::default().feed(longer.as_bytes()), Step::Refused(Violation::ChunkExtension));
    // The bound is a chunk's, not the body's.
    let mut chunked = Chunked::default();
    assert_eq!(chunked.feed(longest.as_bytes()), Step::More);
    assert_eq!(chunked.feed(longest.as_bytes()), Step::More);
}

/// What `httparse` (Pingora's) makes of a body: its bytes, and where it ends.
fn read_by_httparse(bytes: &[u8]) -> Option<(u64, usize)> {
    let (mut at, mut length) = (0, 0);
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(bytes.get(at..)?) else {
            return None;
        };
        at += line;
        if size == 0 {
            break;
        }
        length += size;
        at += usize::try_from(size).ok()?;
        at = bytes.get(at..)?.starts_with(b"\r\n").then_some(at + 2)?;
    }
    let mut trailers = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(&bytes[at..], &mut trailers) {
        Ok(httparse::Status::Complete((end, _))) => Some((length, at + end)),
        _ => None,
    }
}

#[test]
fn mutations_that_pass_are_read_alike() {
    let bodies = [
        &b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n"[..],
        b"a\r\n0123456789\r\n1F\r\n0\r\n\r\n5;x\r\n0\r\n\r\n0\r\n\r\n0123456789\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n",
        b"1\r\nx\r\n1\r\ny\r\n0\r\n\r\n",
        b"01;a=b;c=\"d;e\\\"f\"\r\nx\r\n002;y\r\n\r\n\r\n000;z\r\nX: 1\r\n\r\n",
    ];
    let pieces = [
        "\r\n",
        "\n",
        "\r",
        "0",
        "0\r\n",
        "0\r\n\r\n",
        ";a=b",
        ";a=\"b\"",
        "=",
        "\"",
        "\\",
        "; \"x\n\"",
        " ",
        "\t",
        "1",
        "ff",
        "\0",
        "X: 1\r\n",
        "Host: a\r\n",
    ];
    let mut random = fastrand::Rng::with_seed(0xc4_0b2e);
    let mut done = 0;
    for _ in 0..60_000 {
        let mut body = bodies[random.usize(..bodies.len())].to_vec();
        for _ in 0..random.usize(0..3) {
            let at = random.usize(..body.len());
            let end = (at + random.usize(..4)).min(body.len());
            let piece = if random.bool() { "" } else { pieces[random.usize(..pieces.len())] };
            body.splice(at..end, piece.bytes());
        }
        let mut whole = Chunked::default();
        let step = whole.feed(&body);
        let mut bytewise = Chunked::default();
        let mut steps = body.iter().map(|byte| bytewise.feed(&[*byte])).enumerate();
        let first = steps.find(|(_, step)| *step != Step::More);
        match (step, first) {
            (Step::Done(taken), Some((last, Step::Done(1)))) => {
                assert_eq!(last + 1, taken, "{}", body.escape_ascii());
                assert_eq!(read_by_httparse(&body), Some((whole.length(), taken)), "{}", body.escape_ascii());
                done += 1;
            }
            (Step::Refused(fault), Some((_, Step::Refused(bytewise)))) => assert_eq!(fault, bytewise),
            (Step::More, None) => {}
            other => panic!("{other:?}: {}", body.escape_ascii()),
        }
    }
    assert!(done > 10_000, "{done}");
}
