//! The number of connections of all listeners together, and memory for what they carry.
//!
//! The account of [`memory`](mod@crate::memory) counts a connection by its own memory (an HTTP/1.1 request adds at most
//! 192 KiB, bounded by `max_connections`), and an HTTP/2 stream by the memory that it takes if its client reads
//! nothing. A body or an encoder is counted where it is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::{Account, Held, Kind};
use crate::problem::Reason;

/// Memory of a connection, with its buffers.
const CONNECTION_BYTES: u64 = 16 << 10;
/// Memory of an HTTP/2 stream besides its head: state, and bytes read ahead of its client.
const STREAM_BYTES: u64 = 48 << 10;

/// The connections of a process.
#[derive(Debug)]
pub struct ConnectionRoom {
    max: usize,
    taken: AtomicUsize,
    memory: Arc<Account>,
}

impl ConnectionRoom {
    /// For `max` connections.
    pub fn new(max: usize, memory: Arc<Account>) -> ConnectionRoom {
        ConnectionRoom { max, taken: AtomicUsize::new(0), memory }
    }

    /// Admits a connection; an error if there are `max` already or no memory is left.
    pub fn enter(self: &Arc<Self>) -> Result<Inside, Reason> {
        // The guard exists before the check, so that the place is given back either way.
        let (place, before) = (ConnectionPlace(self.clone()), self.taken.fetch_add(1, Ordering::Relaxed));
        if before >= self.max {
            return Err(Reason::Full);
        }
        let held = self.memory.try_hold(Kind::Requests, CONNECTION_BYTES).ok_or(Reason::Overloaded)?;
        Ok(Inside { _place: place, _held: held })
    }

    /// Admits a stream whose head takes `head_bytes` bytes; `None` if no memory is left.
    pub fn stream(&self, head_bytes: u64) -> Option<StreamRoom> {
        let request = self.memory.try_hold_for_stream(Kind::Requests, STREAM_BYTES)?;
        Some(StreamRoom { _request: request, _head: self.memory.try_hold_for_stream(Kind::HeaderLists, head_bytes)? })
    }
}

#[derive(Debug)]
struct ConnectionPlace(Arc<ConnectionRoom>);

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The resources of a connection; given back by dropping.
#[derive(Debug)]
pub struct Inside {
    _place: ConnectionPlace,
    _held: Held,
}

/// The resources of an HTTP/2 stream; given back by dropping.
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
        let room = Arc::new(ConnectionRoom::new(2, Arc::new(Account::new(1 << 20))));
        let (one, two) = (room.enter(), room.enter());
        assert!(one.is_ok() && two.is_ok());
        assert!((0..3).all(|_| room.enter().is_err_and(|reason| reason == Reason::Full)));
        drop(one);
        assert!(room.enter().is_ok(), "those that were refused hold nothing");
    }

    #[test]
    fn memory_ends_before_the_places_do() {
        let memory = Arc::new(Account::new((CONNECTION_BYTES + STREAM_BYTES + 100) * 2));
        let room = Arc::new(ConnectionRoom::new(9, memory.clone()));
        let inside = room.enter();
        assert!(inside.is_ok());
        assert!(room.stream(200).is_none());
        let stream = room.stream(90);
        assert!(stream.is_some() && room.stream(0).is_none());
        let more = [(); 3].map(|()| room.enter());
        assert!(more[0].is_ok() && more[1].is_ok(), "streams shut no connection out");
        assert!(more[2].as_ref().is_err_and(|reason| *reason == Reason::Overloaded));
        assert!(memory.try_hold(Kind::Bodies, 20_000).is_some(), "what is carried has a part of its own");
        drop((inside, stream, more));
        assert_eq!((memory.held(Kind::Requests), memory.held(Kind::HeaderLists)), (0, 0));
    }
}
