//! The buffers of a request, kept for the thread's next one.
//!
//! A connection without a request holds none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Bytes of a server's answer per read, and of a client's body.
pub const READ: usize = 16 << 10;
/// The same where a body is known to be long.
pub const READ_LONG: usize = 64 << 10;
/// The same at first where one client may have many requests.
pub const READ_SHORT: usize = 4 << 10;
/// Sets of buffers that a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Buffers>> = const { RefCell::new(Vec::new()) };
    /// Those that hold little.
    static SHORT: RefCell<Vec<Buffers>> = const { RefCell::new(Vec::new()) };
}

/// The buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Bytes for the client.
    pub to_client: Outgoing,
    /// Bytes for the server.
    pub to_server: Outgoing,
    /// Bytes of the server.
    pub answer: Incoming,
    /// Bytes of the client's body.
    pub body: Incoming,
}

/// The buffers of one request; dropping gives them back.
#[derive(Debug)]
pub struct Workspace {
    buffers: Buffers,
    short: bool,
}

impl Workspace {
    /// Buffers that are empty. `short`: they hold little until more is put into them.
    pub fn take(short: bool) -> Workspace {
        let spare = if short { &SHORT } else { &SPARE };
        Workspace { buffers: spare.with_borrow_mut(Vec::pop).unwrap_or_default(), short }
    }
}

impl Deref for Workspace {
    type Target = Buffers;

    fn deref(&self) -> &Buffers {
        &self.buffers
    }
}

impl DerefMut for Workspace {
    fn deref_mut(&mut self) -> &mut Buffers {
        &mut self.buffers
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let mut buffers = std::mem::take(&mut self.buffers);
        let (spare, most) = if self.short { (&SHORT, READ_SHORT) } else { (&SPARE, READ_LONG) };
        buffers.to_client.reset(most);
        buffers.to_server.reset(most);
        buffers.answer.reset(most);
        buffers.body.reset(most);
        // A task may be dropped while its thread ends.
        let _ = spare.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(buffers);
            }
        });
    }
}

/// Bytes on their way out: heads, the framing of a body, and short parts of one.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// All of them.
    pub bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    /// What was not sent yet.
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Notes that `count` bytes were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.clear();
        }
    }

    /// Drops what is there.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    fn reset(&mut self, most: usize) {
        self.clear();
        if self.bytes.capacity() > most {
            self.bytes = Vec::new();
        }
    }
}

/// Bytes that came in and were not handled yet.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Incoming {
    /// What was not handled yet.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// The same, to be changed in place.
    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.to]
    }

    /// Notes that `count` bytes were handled.
    pub fn read(&mut self, count: usize) {
        self.from += count;
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            self.holds(READ_LONG);
        }
    }

    /// Room for more bytes, until `size` of them are there.
    pub fn room(&mut self, size: usize) -> &mut [u8] {
        if self.bytes.len() < size {
            // Cleared once for all requests that will use it.
            self.bytes.resize(size, 0);
        }
        let more = size.saturating_sub(self.to - self.from);
        if self.bytes.len() - self.to < more {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        &mut self.bytes[self.to..self.to + more]
    }

    /// Gives the buffer back if it is empty and larger than this.
    pub fn holds(&mut self, most: usize) {
        if self.from == self.to && self.bytes.len() > most {
            self.bytes = Vec::new();
        }
    }

    /// Notes that `count` bytes came into that room.
    pub fn came(&mut self, count: usize) {
        self.to += count;
    }

    /// Drops what is there.
    pub fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    fn reset(&mut self, most: usize) {
        self.clear();
        self.holds(most);
    }
}
