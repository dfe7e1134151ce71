//! Authorities, and whether another reader takes them apart the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::proxy::admit::host::Authority;
use tollgate::proxy::identify;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (one, other) = input;
    let Some(found) = Authority::parse(one) else { return };
    let text = std::str::from_utf8(one).expect("a host is ASCII");
    let read = http::uri::Authority::try_from(one).expect("another reader knows it too");
    assert_eq!((read.host().as_bytes(), read.port_u16()), (found.host, found.port));
    let routed = identify::host(text);
    assert!(!routed.is_empty());
    let again = Authority::parse(routed.as_bytes()).expect("what is routed on is a host");
    assert!(found.same_host(&again));
    assert!(found.same(&found, 80));
    if let Some(other) = Authority::parse(other) {
        assert_eq!(found.same_host(&other), other.same_host(&found));
    }
});
