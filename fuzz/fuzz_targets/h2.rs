//! Heads of HTTP/2: what is accepted can be written as HTTP/1.1 without becoming something else.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;
use http_guard::h2::{self, Request};
use http_guard::head::{Judge, Judged, Limits};

const LIMITS: Limits = Limits { head_max: 4096, headers_max: 16, uri_max: 256 };

fuzz_target!(|input: (&[u8], &[u8], Vec<(&[u8], &[u8])>, bool)| {
    let (method, uri, fields, ends) = input;
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(uri)) else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let (Ok(name), Ok(value)) = (HeaderName::from_lowercase(name), HeaderValue::from_bytes(value)) else { return };
        headers.append(name, value);
    }
    let request = Request { method: &method, uri: &uri, headers: &headers, ends };
    let Ok(accepted) = h2::judge(&request, &LIMITS) else { return };
    let mut text = format!("{method} {} HTTP/1.1\r\nHost: ", uri.path_and_query().unwrap()).into_bytes();
    text.extend_from_slice(accepted.host);
    text.extend_from_slice(b"\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| *name != http::header::HOST) {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let roomy = Limits { head_max: 1 << 20, headers_max: 17, uri_max: 256 };
    match Judge::default().judge(&text, &roomy) {
        Judged::Accepted(head) => assert_eq!((head.length, head.host), (text.len(), accepted.host)),
        other => panic!("{other:?}: {}", text.escape_ascii()),
    }
});
