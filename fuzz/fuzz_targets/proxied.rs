//! The PROXY header: exactly its bytes are taken, and the address is the one that another reader finds in them.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use tollgate::proxy::downstream::listen::proxy_protocol::{address, read};

/// The longest of version 1 and of version 2.
const LONGEST: [usize; 2] = [107, 16 + 2048];

/// What is read of these bytes, and how many of them it took.
fn taken(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    let mut rest = bytes;
    // A slice is never waited for.
    let found = pin!(read(&mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(found) = found else { panic!("it waits") };
    found.ok().map(|found| (found, bytes.len() - rest.len()))
}

/// The address by another reader, which is told nothing of the first one.
fn again(header: &[u8]) -> Option<IpAddr> {
    if let Some(line) = header.strip_prefix(b"PROXY ") {
        let line = line.strip_suffix(b"\r\n").expect("it is a line");
        assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)), "a line has one end and is text");
        let mut words = std::str::from_utf8(line).expect("ASCII").split(' ');
        let family = words.next();
        if family == Some("UNKNOWN") {
            return None;
        }
        let mut address = || words.next().expect("a word").parse::<IpAddr>().expect("an address");
        let (from, to) = (address(), address());
        assert!(from.is_ipv4() == (family == Some("TCP4")) && from.is_ipv4() == to.is_ipv4());
        for port in words.by_ref().take(2) {
            port.parse::<u16>().expect("a port");
        }
        assert_eq!(words.next(), None);
        return Some(from);
    }
    assert_eq!(&header[..12], b"\r\n\r\n\0\r\nQUIT\n");
    let bytes = |at: usize, count: usize| &header[at..at + count];
    match (header[12], header[13] >> 4) {
        (0x21, 1) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes(16, 4)).unwrap()).into()),
        (0x21, 2) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes(16, 16)).unwrap()).into()),
        (0x20 | 0x21, _) => None,
        other => panic!("a version, command or family that is none: {other:?}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((found, length)) = taken(bytes) else { return };
    let header = &bytes[..length];
    assert!(length <= LONGEST[usize::from(!header.starts_with(b"PROXY "))]);
    assert_eq!(address(header).expect("it was read"), found);
    assert_eq!(again(header), found, "{}", header.escape_ascii());
    // What follows has no say, and nothing of it may lack.
    assert_eq!(taken(&[header, b"GET / HTTP/1.1\r\n"].concat()), Some((found, length)));
    assert_eq!(taken(&header[..length - 1]), None);
});
