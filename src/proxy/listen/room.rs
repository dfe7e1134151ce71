//! How many connections all listeners together may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections of a process.
#[derive(Debug)]
pub struct Room {
    max: usize,
    taken: AtomicUsize,
}

impl Room {
    /// For `max` connections.
    pub fn new(max: usize) -> Room {
        Room { max, taken: AtomicUsize::new(0) }
    }

    /// Takes a connection in; none where there are `max` already.
    pub fn enter(self: &Arc<Self>) -> Option<Inside> {
        // The guard is there before it is asked, so that a place is given back either way.
        let (inside, before) = (Inside(self.clone()), self.taken.fetch_add(1, Ordering::Relaxed));
        (before < self.max).then_some(inside)
    }
}

/// A connection's place; given back by dropping.
#[derive(Debug)]
pub struct Inside(Arc<Room>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_it_comes_back() {
        let room = Arc::new(Room::new(2));
        let (one, two) = (room.enter(), room.enter());
        assert!(one.is_some() && two.is_some());
        assert!((0..3).all(|_| room.enter().is_none()));
        drop(one);
        assert!(room.enter().is_some(), "those that were refused hold nothing");
    }
}
