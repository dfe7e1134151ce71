//! Chunked bodies: one end, however they are cut, and the same one to the parser behind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use http_guard::chunked::{Chunked, Step};

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let (mut whole, mut body) = (Chunked::default(), Vec::new());
    let step = whole.decode(bytes, |data| body.extend_from_slice(&bytes[data]));
    let cut = usize::from(cut).min(bytes.len());
    let (mut two, mut again, (first, second)) = (Chunked::default(), Vec::new(), bytes.split_at(cut));
    let parts = match two.decode(first, |data| again.extend_from_slice(&first[data])) {
        Step::More => match two.decode(second, |data| again.extend_from_slice(&second[data])) {
            Step::Done(taken) => Step::Done(cut + taken),
            other => other,
        },
        other => other,
    };
    assert_eq!(parts, step);
    let Step::Done(taken) = step else { return };
    assert_eq!(body, again);
    let (mut at, mut theirs) = (0, Vec::new());
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(&bytes[at..]) else {
            panic!("a chunk's line is read differently");
        };
        at += line;
        if size == 0 {
            break;
        }
        theirs.extend_from_slice(&bytes[at..at + size as usize]);
        at += size as usize + 2;
    }
    let mut trailers = [httparse::EMPTY_HEADER; 64];
    let Ok(httparse::Status::Complete((end, _))) = httparse::parse_headers(&bytes[at..], &mut trailers) else {
        panic!("the trailers are read differently");
    };
    assert_eq!((whole.length(), taken), (body.len() as u64, at + end));
    assert_eq!(body, theirs);
});
