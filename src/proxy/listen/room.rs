//! How many connections all listeners together may have, and room in memory for what they carry.
//!
//! A connection and an HTTP/2 stream are counted in the account of [`memory`](mod@crate::memory) by what they take where
//! their client and their server do what they like least; what a body or an encoder takes is counted where it is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::{Account, Held, Kind};

/// What a connection takes, with a request over HTTP/1.1 under way.
const CONNECTION_BYTES: u64 = 64 << 10;
/// What an HTTP/2 stream takes beside its head: state, and what is read ahead of its client.
const STREAM_BYTES: u64 = 48 << 10;

/// The connections of a process.
#[derive(Debug)]
pub struct Room {
    max: usize,
    taken: AtomicUsize,
    memory: Arc<Account>,
}

impl Room {
    /// For `max` connections.
    pub fn new(max: usize, memory: Arc<Account>) -> Room {
        Room { max, taken: AtomicUsize::new(0), memory }
    }

    /// Takes a connection in; none where there are `max` already, or no memory is left.
    pub fn enter(self: &Arc<Self>) -> Option<Inside> {
        // The guard is there before it is asked, so that a place is given back either way.
        let (place, before) = (Place(self.clone()), self.taken.fetch_add(1, Ordering::Relaxed));
        let held = if before < self.max { self.memory.try_hold(Kind::Requests, CONNECTION_BYTES) } else { None };
        held.map(|held| Inside { _place: place, _held: held })
    }

    /// Takes a stream in whose head takes so many bytes; none where no memory is left.
    pub fn stream(&self, head_bytes: u64) -> Option<StreamRoom> {
        let request = self.memory.try_hold(Kind::Requests, STREAM_BYTES)?;
        Some(StreamRoom { _request: request, _head: self.memory.try_hold(Kind::HeaderLists, head_bytes)? })
    }
}

#[derive(Debug)]
struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection holds; given back by dropping.
#[derive(Debug)]
pub struct Inside {
    _place: Place,
    _held: Held,
}

/// What an HTTP/2 stream holds; given back by dropping.
#[derive(Debug)]
pub struct StreamRoom {
    _request: Held,
    _head: Held,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_it_comes_back() {
        let room = Arc::new(Room::new(2, Arc::new(Account::new(1 << 20))));
        let (one, two) = (room.enter(), room.enter());
        assert!(one.is_some() && two.is_some());
        assert!((0..3).all(|_| room.enter().is_none()));
        drop(one);
        assert!(room.enter().is_some(), "those that were refused hold nothing");
    }

    #[test]
    fn memory_ends_before_the_places_do() {
        let memory = Arc::new(Account::new(CONNECTION_BYTES + STREAM_BYTES + 100));
        let room = Arc::new(Room::new(9, memory.clone()));
        let inside = room.enter();
        assert!(inside.is_some() && room.enter().is_none());
        assert!(room.stream(101).is_none());
        let stream = room.stream(100);
        assert!(stream.is_some() && room.stream(0).is_none());
        drop((inside, stream));
        assert_eq!((memory.held(Kind::Requests), memory.held(Kind::HeaderLists)), (0, 0));
    }
}
