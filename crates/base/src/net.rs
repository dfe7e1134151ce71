//! Special-purpose addresses: loopback, private and other ranges that no public host has.
//!
//! The ranges are those of the IANA special-purpose registries that the public internet does not route. A range
//! that mixes both, such as Teredo, counts as private. An IPv6 address that carries an IPv4 one (mapped,
//! compatible, translated, NAT64, 6to4) is judged by the one it carries. Names are not covered: the caller resolves
//! them and asks for each address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks of IPv4, each with the length of its prefix.
const V4: [([u8; 4], u32); 15] = [
    // This network.
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    // Carriers' NAT.
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // Link-local; clouds serve credentials there.
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    // Documentation.
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    // Benchmarks.
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Relays of 6to4.
    ([192, 88, 99, 0], 24),
    // Multicast.
    ([224, 0, 0, 0], 4),
    // Reserved, and broadcast.
    ([240, 0, 0, 0], 4),
];

/// Networks of IPv6: the first 48 bits, and the length of the prefix.
const V6: [([u16; 3], u32); 10] = [
    // Local-use NAT64.
    ([0x64, 0xff9b, 1], 48),
    // Discard-only.
    ([0x100, 0, 0], 48),
    // Teredo.
    ([0x2001, 0, 0], 32),
    // Documentation.
    ([0x2001, 0xdb8, 0], 32),
    ([0x3fff, 0, 0], 20),
    // Segment routing.
    ([0x5f00, 0, 0], 16),
    // Unique local.
    ([0xfc00, 0, 0], 7),
    // Link-local, and the former site-local.
    ([0xfe80, 0, 0], 10),
    ([0xfec0, 0, 0], 10),
    // Multicast.
    ([0xff00, 0, 0], 8),
];

/// Whether `ip` is loopback, private, link-local, multicast, reserved, for documentation, or not an address of a host.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4_is_private(v4),
        IpAddr::V6(v6) => v6_is_private(v6),
    }
}

fn v4_is_private(ip: Ipv4Addr) -> bool {
    let bits = ip.to_bits();
    V4.iter().any(|(network, length)| (bits ^ u32::from_be_bytes(*network)) >> (32 - length) == 0)
}

fn v6_is_private(ip: Ipv6Addr) -> bool {
    if let Some(v4) = carried(ip) {
        return v4_is_private(v4);
    }
    let bits = ip.to_bits() >> 80;
    let first = |network: &[u16; 3]| network.iter().fold(0, |bits, part| bits << 16 | u128::from(*part));
    V6.iter().any(|(network, length)| (bits ^ first(network)) >> (48 - length) == 0)
}

/// The IPv4 address that an IPv6 one carries. The unspecified and the loopback address carry 0.0.0.0 and 0.0.0.1.
fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        // Compatible; mapped; translated; NAT64.
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        (0x2002, ..) => v4(b, c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known_in_every_spelling() {
        for private in [
            "0.0.0.0",
            "0.255.1.2",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.7",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:0:192.168.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
            "3fff:fff::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn public_addresses_are_not_kept_back() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.1.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.1.1",
            "198.17.1.1",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00:1450::1",
            "3ffe::1",
            "fbff::1",
        ] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }
}
