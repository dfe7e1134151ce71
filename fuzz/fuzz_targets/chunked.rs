//! Chunked bodies: one end, however they are cut, and the same one to the parser behind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use http_guard::chunked::{Chunked, Step};

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let mut whole = Chunked::default();
    let step = whole.feed(bytes);
    let cut = usize::from(cut).min(bytes.len());
    let mut two = Chunked::default();
    let parts = match two.feed(&bytes[..cut]) {
        Step::More => match two.feed(&bytes[cut..]) {
            Step::Done(taken) => Step::Done(cut + taken),
            other => other,
        },
        other => other,
    };
    assert_eq!(parts, step);
    let Step::Done(taken) = step else { return };
    let (mut at, mut length) = (0, 0);
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&bytes[at..]) else {
            panic!("a chunk's line is read differently");
        };
        at += line;
        if size == 0 {
            break;
        }
        length += size;
        at += size as usize + 2;
    }
    let mut trailers = [httparse::EMPTY_HEADER; 64];
    let Ok(httparse::Status::Complete((end, _))) = httparse::parse_headers(&bytes[at..], &mut trailers) else {
        panic!("the trailers are read differently");
    };
    assert_eq!((whole.length(), taken), (length, at + end));
});
