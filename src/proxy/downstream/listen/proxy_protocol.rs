//! The PROXY header before a connection's own bytes, which names the client behind the proxy.
//!
//! Versions 1 and 2 of HAProxy's PROXY protocol. Exactly the header is read, byte for byte, so that the following bytes
//! are the client's and TLS begins in the right place. A proxy's own connections (`LOCAL`, `UNKNOWN`, a UNIX socket)
//! keep their source address. Anything but such a header ends the connection: the port speaks nothing else.

use std::io;
use std::net::IpAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Length of the bytes that tell the versions apart, and that the shortest header has.
const START: usize = 12;
const V2_SIGNATURE: &[u8; START] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;
/// The longest header of version 1, and the longest accepted of version 2 (addresses and a few options).
const V1_MAX: usize = 107;
const V2_MAX: usize = V2_FIXED + 2048;

/// Reads the header: the client's address, or `None` if the proxy speaks for itself.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut header = vec![0; START];
    stream.read_exact(&mut header).await?;
    if header == V2_SIGNATURE {
        header.resize(V2_FIXED, 0);
        stream.read_exact(&mut header[START..]).await?;
        let length = V2_FIXED + usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > V2_MAX {
            return Err(invalid("the PROXY header is too long"));
        }
        header.resize(length, 0);
        stream.read_exact(&mut header[V2_FIXED..]).await?;
    } else {
        // One byte at a time: what follows the line belongs to the client.
        while !header.ends_with(b"\r\n") {
            if header.len() == V1_MAX || !header.starts_with(b"PROXY ") {
                return Err(invalid("the connection does not begin with a PROXY header"));
            }
            header.push(stream.read_u8().await?);
        }
        // The parser ends a line at its first CR, and takes some bare LFs for its end: here a line has one end only.
        if !header[..header.len() - 2].iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(invalid("the PROXY header has a byte that is not printable ASCII"));
        }
    }
    address(&header)
}

/// The client's address in a complete header.
pub fn address(header: &[u8]) -> io::Result<Option<IpAddr>> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(tcp) => Some(tcp.source_address.into()),
            v1::Addresses::Tcp6(tcp) => Some(tcp.source_address.into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(v4) => Some(v4.source_address.into()),
            v2::Addresses::IPv6(v6) => Some(v6.source_address.into()),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        }),
        HeaderResult::V1(Err(e)) => Err(invalid(&format!("the PROXY header cannot be read: {e}"))),
        HeaderResult::V2(Err(e)) => Err(invalid(&format!("the PROXY header cannot be read: {e}"))),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = V2_SIGNATURE.to_vec();
        header.extend_from_slice(&[command, family]);
        header.extend_from_slice(&(body.len() as u16).to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    #[tokio::test]
    async fn exactly_the_header_is_read() {
        let tcp4 = v2(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0, 80, 1, 187]);
        let tcp6 = v2(0x21, 0x21, &[[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 11], &[7], &[0; 16], &[0, 1, 0, 2]].concat());
        let with_options = v2(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0, 80, 1, 187, 4, 0, 1, 0]);
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec(), Some("192.0.2.1")),
            (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ::2 1 2\r\n".to_vec(), None),
            (tcp4, Some("192.0.2.1")),
            (tcp6, Some("2001:db8::7")),
            (with_options, Some("192.0.2.1")),
            (v2(0x20, 0x00, &[]), None),
        ] {
            let bytes = [&header[..], b"GET / HTTP/1.1"].concat();
            let mut stream = &bytes[..];
            let found = read(&mut stream).await.expect("a header");
            assert_eq!(found, expected.map(|text| text.parse().expect("an address")), "{header:?}");
            assert_eq!(stream, b"GET / HTTP/1.1");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = [&b"PROXY TCP4 "[..], &[b'1'; 200], b"\r\n"].concat();
        let endless = [&V2_SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff], &[0; 70_000]].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 x y 1 2\r\n",
            b"PROXY TCP4 192.0.2.1",
            // Found by fuzzing: the parser took the first CR for the end.
            b"PROXY UNKNOWN \n\rPROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            b"PROXY UNKNOWN \xff\r\n",
            &long,
            &endless,
            b"",
        ] {
            assert!(read(&mut { bytes }).await.is_err(), "{bytes:?}");
        }
    }
}
