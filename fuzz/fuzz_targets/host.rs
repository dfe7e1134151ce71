//! Authorities, and whether another reader takes them apart the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use http_guard::host::Authority;
use base::said;

fuzz_target!(|bytes: &[u8]| {
    let Some(found) = Authority::parse(bytes) else { return };
    let text = std::str::from_utf8(bytes).expect("a host is ASCII");
    let read = http::uri::Authority::try_from(bytes).expect("another reader knows it too");
    assert_eq!((read.host().as_bytes(), read.port_u16()), (found.host, found.port));
    // It is routed on its name alone, which is a host again, in one spelling.
    let routed = said::host(text);
    let again = Authority::parse(routed.as_bytes()).expect("what is routed on is a host");
    assert_eq!((again.host, again.port), (routed.as_bytes(), None));
    assert_eq!(said::host(&routed), routed);
    assert_eq!(said::host(&text.to_ascii_uppercase()), routed);
});
