//! Raw heads of HTTP/1.x: one reading, however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use http_guard::head::{Framing, Judge, Judged, Limits};

const LIMITS: Limits = Limits { head_max: 2048, headers_max: 24, uri_max: 256 };

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let mut judge = Judge::default();
    let whole = judge.judge(bytes, &LIMITS);
    let mut two = Judge::default();
    let cut = usize::from(cut).min(bytes.len());
    let first = two.judge(&bytes[..cut], &LIMITS);
    match (first, two.judge(bytes, &LIMITS)) {
        (Judged::Partial, last) => assert_eq!(last, whole),
        (Judged::Accepted(head), _) => assert_eq!(Judged::Accepted(head), whole),
        (Judged::Refused(refusal), _) => {
            assert!(matches!(whole, Judged::Refused(other) if other.fault == refusal.fault));
        }
    }
    let Judged::Accepted(head) = whole else { return };
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(head.length)));
    assert_eq!(request.method.map(str::as_bytes), Some(head.method));
    assert_eq!(request.path.map(str::as_bytes), Some(head.target));
    let fields = judge.fields().iter().map(|field| (&bytes[field.name()], &bytes[field.value()]));
    let theirs = request.headers.iter().map(|header| (header.name.as_bytes(), header.value.trim_ascii()));
    assert!(fields.eq(theirs), "a header is read differently");
    let named = |name: &str| request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
    assert_eq!(named("host").len(), 1);
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    match head.framing {
        Framing::None => assert!(lengths.is_empty() && codings.is_empty()),
        Framing::Length(length) => {
            assert!(lengths.len() == 1 && codings.is_empty());
            assert_eq!(std::str::from_utf8(lengths[0].value).unwrap().parse(), Ok(length));
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1);
            assert!(codings[0].value.eq_ignore_ascii_case(b"chunked"));
        }
    }
    http::Uri::try_from(head.target).expect("an accepted target is one to the proxy too");
});
