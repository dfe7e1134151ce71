//! Keys of limits: the parts of a request as 64 bits.
//!
//! The hash is aHash under random keys that only the process knows: no client sees a hash, so none can find parts that
//! collide. Every part goes in with its length, so `ab`, `c` is another key than `a`, `bc`; a part that a request lacks
//! counts as empty. Where parts come from is not known here.

use std::hash::{BuildHasher, Hasher as _};
use std::net::IpAddr;

use ahash::{AHasher, RandomState};

use super::table::Key;

/// The hasher of a key.
#[derive(Clone, Debug)]
pub struct Hasher(AHasher);

impl Hasher {
    pub(super) fn new(hash: &RandomState) -> Hasher {
        Hasher(hash.build_hasher())
    }

    /// Adds the next part; empty for one that is missing.
    pub fn part(&mut self, part: &[u8]) {
        self.0.write_usize(part.len());
        self.0.write(part);
    }

    /// Adds a client's address as the next part: of IPv6 the first 64 bits, which belong to one client. An IPv4 address
    /// within IPv6 is the IPv4 address.
    pub fn address(&mut self, address: IpAddr) {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.part(&v4.octets()),
            IpAddr::V6(v6) => self.part(&v6.octets()[..8]),
        }
    }

    /// Adds a number as the next part.
    pub fn number(&mut self, number: u64) {
        self.part(&number.to_le_bytes());
    }

    /// The key.
    pub fn finish(self) -> Key {
        Key::of_hash(self.0.finish())
    }
}
