//! A request's parts as one key of 64 bits.
//!
//! The hash is aHash under keys that are random and known to the process alone: nobody sees a hash, so nobody can find
//! parts that meet. Every part goes in with its length, so `ab`, `c` is another key than `a`, `bc`; a part that a request
//! does not have is an empty one. It does not know where parts come from.

use std::hash::{BuildHasher, Hasher as _};
use std::net::IpAddr;

use ahash::{AHasher, RandomState};

use super::table::Key;

/// A key in the making.
#[derive(Clone, Debug)]
pub struct Hasher(AHasher);

impl Hasher {
    pub(super) fn new(hash: &RandomState) -> Hasher {
        Hasher(hash.build_hasher())
    }

    /// The next part; empty for one that is missing.
    pub fn part(&mut self, part: &[u8]) {
        self.0.write_usize(part.len());
        self.0.write(part);
    }

    /// A client's address as the next part: of IPv6 the first 64 bits, which one client has to himself. An IPv4 address
    /// within IPv6 is the IPv4 address.
    pub fn address(&mut self, address: IpAddr) {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.part(&v4.octets()),
            IpAddr::V6(v6) => self.part(&v6.octets()[..8]),
        }
    }

    /// A number as the next part.
    pub fn number(&mut self, number: u64) {
        self.part(&number.to_le_bytes());
    }

    /// The key.
    pub fn finish(self) -> Key {
        Key::of_hash(self.0.finish())
    }
}
