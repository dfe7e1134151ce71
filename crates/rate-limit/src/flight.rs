//! Counts of requests in flight, by key.
//!
//! The lower half of a word holds the count, and the upper half the number of times that the place was given away,
//! so that a count of 0 of one key is never taken for that of the next. An entry is given away only at 0, so a count
//! is exact: a swap that the limit allows raises it, and dropping the [`Hold`] lowers it, whatever ended the
//! request. A hold knows its place, not its key: a place with a count above 0 stays with its key. How many are
//! allowed is not known here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::table::{Full, Key, Kind, Table};

const COUNT: u64 = 0xffff_ffff;

/// The counts of all keys.
#[derive(Debug)]
pub(super) struct Flights(Table);

/// A request that is counted until this is dropped.
#[derive(Debug)]
pub struct Hold {
    flights: Arc<Flights>,
    place: usize,
}

/// The key has as many requests in flight as it may, or so many keys have some that no place is left to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

struct Counts;

impl Kind for Counts {
    fn rank(&self, word: u64) -> Option<u64> {
        (word & COUNT == 0).then_some(0)
    }

    fn first(&self, before: u64, wanted: u64) -> u64 {
        ((before >> 32).wrapping_add(1) << 32) | wanted
    }
}

impl Flights {
    /// Counts in 2^`bits` sets.
    pub(super) fn new(bits: u32) -> Flights {
        Flights(Table::new(bits))
    }

    pub(super) fn memory(&self) -> usize {
        self.0.memory()
    }

    pub(super) fn touch(&self, key: Key) {
        self.0.touch(key);
    }

    /// Requests of a key in flight.
    pub(super) fn count(&self, key: Key) -> u32 {
        self.0.look(key).map_or(0, |word| (word & COUNT) as u32)
    }

    /// Counts a request in, unless `limit` are in flight; returns the count with it.
    pub(super) fn enter(self: &Arc<Flights>, key: Key, limit: u32) -> Result<(Hold, u32), NoRoom> {
        let mut count = 0;
        let place = self.0.change(key, &Counts, |word| {
            let word = word.unwrap_or(0);
            count = (word & COUNT) as u32 + 1;
            (count <= limit).then_some(word + 1)
        });
        match place {
            Ok(Some(place)) => Ok((Hold { flights: Arc::clone(self), place }, count)),
            Ok(None) | Err(Full) => Err(NoRoom),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let before = self.flights.0.word(self.place).fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT > 0, "a request left that never entered");
    }
}
