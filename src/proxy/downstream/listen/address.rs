//! Connections counted by client address.
//!
//! An IPv6 client owns a whole /64, so that is the unit. The tables are used once for each connection, and only where a
//! limit is set.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// The unit that shares a limit: an IPv4 address, or the /64 of an IPv6 one.
pub fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

/// Open connections of a listener, by origin.
#[derive(Debug, Default)]
pub struct Places {
    hasher: RandomState,
    taken: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

impl Places {
    /// Takes a place for a connection; `None` if the address has `max` already.
    pub fn take(self: &Arc<Self>, address: IpAddr, max: u32) -> Option<Place> {
        let origin = origin(address);
        let mut taken = self.shard(origin).lock();
        let count = taken.entry(origin).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place { places: self.clone(), origin })
    }

    fn shard(&self, origin: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.taken[self.hasher.hash_one(origin) as usize % SHARDS]
    }
}

/// A connection's place; given back by dropping.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    origin: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.shard(self.origin).lock();
        if let Some(count) = taken.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_origin_and_given_back() {
        let places = Arc::new(Places::default());
        let take = |text: &str| places.take(text.parse().expect("an address"), 2);
        let (one, two) = (take("10.0.0.1"), take("::ffff:10.0.0.1"));
        assert!(one.is_some() && two.is_some() && take("10.0.0.1").is_none());
        assert!(take("10.0.0.2").is_some());
        drop(one);
        assert!(take("10.0.0.1").is_some());
        let (_one, _two) = (take("2001:db8::1"), take("2001:db8::2:3"));
        assert!(take("2001:db8::9").is_none() && take("2001:db8:0:1::9").is_some());
        drop(two);
        assert!(places.taken.iter().all(|shard| shard.lock().values().all(|count| *count > 0)));
    }
}
