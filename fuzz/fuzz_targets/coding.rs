//! `Accept-Encoding`: a coding that is chosen was named, or any was.
#![no_main]

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tollgate::proxy::compress::{Coding, best};

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = HeaderValue::from_bytes(line) else { return };
        headers.append(ACCEPT_ENCODING, line);
    }
    let Some(coding) = best(&headers) else { return };
    let text = bytes.to_ascii_lowercase();
    let has = |word: &[u8]| text.windows(word.len()).any(|at| at == word);
    let named = match coding {
        Coding::Zstd => has(b"zstd"),
        Coding::Brotli => has(b"br"),
        Coding::Gzip => has(b"gzip"),
    };
    assert!(named || has(b"*"), "{coding:?} for {}", bytes.escape_ascii());
});
