//! Answers of servers: the same however they are cut, and one reading for the client that gets them.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use tollgate::proxy::lane::answer::{Framing, head};
use tollgate::proxy::lane::wire;

/// The body of an answer that comes in these parts; whether it is complete, and how many bytes it had with its framing.
fn body(mut framing: Framing, parts: [&[u8]; 2]) -> Option<(Vec<u8>, bool, usize)> {
    let (mut unread, mut body, mut taken) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        unread.extend_from_slice(part);
        let part = framing.part(&mut unread).ok()?;
        assert!(part.body <= part.taken && part.taken <= unread.len());
        body.extend_from_slice(&unread[..part.body]);
        unread.drain(..part.taken);
        taken += part.taken;
    }
    Some((body, framing.is_over(), taken))
}

fuzz_target!(|input: (u16, bool, &[u8])| {
    let (cut, get, bytes) = input;
    let method = if get { Method::GET } else { Method::HEAD };
    let Ok(Some((answer, length))) = head(bytes) else { return };
    for cut in [length - 1, usize::from(cut).min(length - 1)] {
        assert!(matches!(head(&bytes[..cut]), Ok(None)), "a head ends before its end");
    }
    let framing = || Framing::of(&answer, &method);
    let mut out = Vec::new();
    wire::answer(&mut out, &answer, Some(true));
    let mut headers = [httparse::EMPTY_HEADER; 300];
    let mut written = httparse::Response::new(&mut headers);
    assert_eq!(written.parse(&out), Ok(httparse::Status::Complete(out.len())), "the client reads it differently");
    assert_eq!(written.code, Some(answer.status.as_u16()));
    let (Ok(once), Ok(twice)) = (framing(), framing()) else { return };
    let rest = &bytes[length..];
    let (first, second) = rest.split_at(usize::from(cut).min(rest.len()));
    match (body(once, [rest, b""]), body(twice, [first, second])) {
        (Some(whole), Some(parts)) => assert_eq!(whole, parts),
        (None, None) => {}
        // A fault shows where it is, and what came before it may have been handed on.
        (whole, parts) => panic!("cut at {cut}: {whole:?} or {parts:?}"),
    }
});
