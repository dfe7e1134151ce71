//! The ring of the consistent hash: Ketama with 160 points per unit of weight, point for point the ring of
//! `pingora-load-balancing`'s `KetamaHashing` (and of nginx's `hash … consistent`); a test compares them.
//!
//! It is built on `pingora-ketama`, which `KetamaHashing` wraps, because the wrapper's walk clones an `Arc` and looks
//! each address up in a map; this one reads a table. It is the only file of the pool that imports Pingora.
//!
//! Points that collide go to one of their owners, always the same for the same servers. Weights are used as written,
//! not reduced, since reducing would move keys when an unrelated server leaves. Only where they sum to more than 4,096
//! are all halved until they do not (each stays at least 1), which keeps a ring below 5 MiB for a fleet of any weights;
//! a change that crosses such a border moves more keys than its share. Which members are usable is not known here.

use std::net::SocketAddr;

use pingora_ketama::{Bucket, Continuum};

/// The most units of weight on a ring, beside the one that each member has.
const UNITS_MAX: u64 = 4_096;

/// Points on a circle, each owned by a member.
pub(super) struct Ring {
    continuum: Continuum,
    /// The owner of each point, as its index in the pool.
    owners: Box<[u32]>,
}

impl Ring {
    /// The ring of the members in their order; those of weight 0 own no point.
    pub(super) fn new(members: &[(SocketAddr, u16)]) -> Ring {
        let mut placed: Vec<(SocketAddr, u16, u32)> =
            (0u32..).zip(members).filter(|(_, m)| m.1 > 0).map(|(i, m)| (m.0, m.1, i)).collect();
        placed.sort_unstable();
        placed.dedup_by_key(|p| p.0);
        let mut shift = 0;
        while placed.iter().map(|p| u64::from(p.1 >> shift)).sum::<u64>() > UNITS_MAX {
            shift += 1;
        }
        let buckets: Vec<Bucket> = placed.iter().map(|p| Bucket::new(p.0, u32::from(p.1 >> shift).max(1))).collect();
        let continuum = Continuum::new(&buckets);
        let mut owners = Vec::new();
        let mut point = 0;
        while let Some(address) = continuum.get_addr(&mut point) {
            let place = placed.binary_search_by_key(address, |p| p.0).expect("a ring knows only its own members");
            owners.push(placed[place].2);
            if point == 0 {
                break;
            }
        }
        Ring { continuum, owners: owners.into_boxed_slice() }
    }

    /// The owners of the points from `key` on, once around; a member appears as often as it has points.
    pub(super) fn walk(&self, key: &[u8]) -> impl Iterator<Item = usize> + '_ {
        let start = if self.owners.is_empty() { 0 } else { self.continuum.node_idx(key) };
        let (before, after) = self.owners.split_at(start);
        after.iter().chain(before).map(|owner| *owner as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use pingora::lb::Backend;
    use pingora::lb::selection::consistent::KetamaHashing;
    use pingora::lb::selection::{BackendIter, BackendSelection};

    use super::*;

    fn members(weights: &[u16]) -> Vec<(SocketAddr, u16)> {
        (1u16..).zip(weights).map(|(i, w)| (SocketAddr::from(([10, 0, (i >> 8) as u8, i as u8], 8080)), *w)).collect()
    }

    fn owners(of: &[(SocketAddr, u16)], keys: u32) -> Vec<SocketAddr> {
        let ring = Ring::new(of);
        (0..keys).map(|key| of[ring.walk(format!("user-{key}").as_bytes()).next().unwrap()].0).collect()
    }

    #[test]
    fn it_is_the_ring_of_pingora_load_balancing() {
        let members = members(&[1, 3, 0, 2, 1]);
        let backends: BTreeSet<Backend> = members
            .iter()
            .filter(|m| m.1 > 0)
            .map(|m| Backend::new_with_weight(&m.0.to_string(), usize::from(m.1)).unwrap())
            .collect();
        let theirs = Arc::new(KetamaHashing::build(&backends));
        let ours = Ring::new(&members);
        for key in 0..2_000 {
            let key = format!("key {key}");
            let mut walk = theirs.iter(key.as_bytes());
            for owner in ours.walk(key.as_bytes()).take(20) {
                assert_eq!(walk.next().unwrap().addr.to_string(), members[owner].0.to_string());
            }
        }
    }

    #[test]
    fn removing_one_of_n_moves_hardly_more_than_its_share() {
        for n in [2usize, 4, 10, 50] {
            let all = members(&vec![1; n]);
            let before = owners(&all, 20_000);
            let mut fewer = all.clone();
            let gone = fewer.remove(n / 2).0;
            let after = owners(&fewer, 20_000);
            let moved = before.iter().zip(&after).filter(|(b, a)| b != a).count();
            let lost = before.iter().filter(|b| **b == gone).count();
            assert_eq!(moved, lost, "only keys of the server that left may move");
            assert!(moved as f64 / 20_000.0 <= 1.0 / n as f64 + 0.05, "{n} servers: {moved} of 20000 moved");
        }
    }

    #[test]
    fn keys_follow_the_weights() {
        let all = members(&[1, 2, 3]);
        let owners = owners(&all, 20_000);
        for (address, weight) in &all {
            let share = owners.iter().filter(|o| *o == address).count() as f64 / 20_000.0;
            let wanted = f64::from(*weight) / 6.0;
            assert!((share - wanted).abs() < 0.05, "weight {weight}: {share}");
        }
    }

    #[test]
    fn draining_moves_the_same_keys_as_removing() {
        let mut all = members(&[1, 1, 1, 1]);
        all[2].1 = 0;
        let drained = owners(&all, 5_000);
        all.remove(2);
        assert_eq!(drained, owners(&all, 5_000));
    }

    #[test]
    fn great_weights_do_not_make_a_great_ring() {
        let ring = Ring::new(&members(&[65_535, 1, 65_535]));
        assert!(ring.owners.len() <= 160 * 4_200, "{}", ring.owners.len());
        assert_eq!(Ring::new(&[]).walk(b"x").next(), None);
        assert_eq!(Ring::new(&members(&[0, 0])).walk(b"x").next(), None);
    }
}
