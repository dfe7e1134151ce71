//! The windows of a connection's streams (RFC 9113, section 6.9), and which of them starve.
//!
//! A stream starves while the client lets nothing, or hardly anything, be sent on it. If many do at once, the gateway
//! holds many answers for a client that takes none.
//!
//! In the other direction a client may be prevented from sending: what it has sent waits here, mostly for a server.

use super::{DATA, HEADERS, Head, RST_STREAM};

/// Initial windows by default. The gateway's own are a byte larger, and never change.
const WINDOW: i64 = 65_535;
/// With less room, bytes of a stream wait to be taken: the codec opens a window once two thirds of it are left.
const ROOM_MIN: i64 = WINDOW / 2;
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// A window below this is as good as shut.
const SHUT: i64 = 1 << 10;
/// Added to a window when the gateway has ended its side: nothing is left to send.
const ENDED: i64 = i64::MAX / 2;
/// The codec refuses streams beyond those it serves, and they are removed here; streams that it has stopped answering
/// stay.
const OPEN_MAX: usize = 256;
/// How many streams reset by the client are remembered.
const RESET_KEPT: usize = 8;

/// A client's fault that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A frame on a stream that it has reset.
    StreamClosed,
    /// A window above 2^31-1.
    FlowControl,
    /// A head with far too many fields.
    TooManyFields,
    /// More streams than the codec would serve.
    TooManyStreams,
    /// The client resets most of its requests.
    TooManyResets,
    /// The client asks for much, and lets nothing be sent.
    Starves,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    id: u32,
    /// Bytes that may be sent on it.
    window: i64,
    /// A head of the answer went out: a body may follow.
    answering: bool,
    /// Its window was open once. A slow reader uses windows up; a client that never opens one is another matter.
    fed: bool,
    /// The client has ended its side.
    client_ended: bool,
    /// Bytes that the client may send on it, and bytes received.
    room: i64,
    received: u64,
}

/// The state of a body that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Bytes received, as windows count them.
    pub received: u64,
    /// Everything received was taken, and the connection's window is open.
    pub may_send: bool,
}

/// The open streams of a connection.
#[derive(Debug)]
pub struct Flow {
    initial: i64,
    window: i64,
    /// Bytes that the client may send on all streams together, and bytes of bodies received on them.
    room: i64,
    received: u64,
    /// In the order of their numbers.
    open: Vec<Stream>,
    /// How many of them have a window that is shut, and how many of these were never open.
    shut: usize,
    unfed: usize,
    last: u32,
    /// The last streams that the client has reset.
    reset: [u32; RESET_KEPT],
    /// How many streams the client began, and how many it reset.
    began: u32,
    resets: u32,
    /// Grows when the client opens a window.
    opened: u32,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            initial: WINDOW,
            window: WINDOW,
            room: WINDOW,
            received: 0,
            open: vec![],
            shut: 0,
            unfed: 0,
            last: 0,
            reset: [0; RESET_KEPT],
            began: 0,
            resets: 0,
            opened: 0,
        }
    }
}

impl Flow {
    /// Streams with a begun answer on which hardly anything may be sent, because of their own window or the
    /// connection's.
    pub fn starving(&self) -> usize {
        if self.window >= SHUT && self.shut == 0 {
            return 0;
        }
        self.open.iter().filter(|stream| self.starves(stream)).count()
    }

    /// Streams whose own windows were always shut.
    pub fn unfed(&self) -> usize {
        self.unfed
    }

    /// Changes when the client opens a window by more than a token amount.
    pub fn opened(&self) -> u32 {
        self.opened
    }

    /// Bytes that the client may send on all streams together. Bytes that wait here because it takes no answer are no
    /// excuse: they count as taken.
    pub fn room(&self) -> i64 {
        if self.room >= SHUT {
            return self.room;
        }
        let held = |stream: &Stream| if self.starves(stream) { WINDOW - stream.room } else { 0 };
        self.room + self.open.iter().map(held).sum::<i64>()
    }

    /// Bytes received of all bodies.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The state of a stream's body, with this room for all; `None` if the client sends no more of it.
    pub fn upload(&self, id: u32, room: i64) -> Option<Upload> {
        let stream = &self.open[self.find(id)?];
        let may_send = room >= SHUT && stream.room >= ROOM_MIN;
        Some(Upload { received: stream.received, may_send }).filter(|_| !stream.client_ended)
    }

    fn starves(&self, stream: &Stream) -> bool {
        stream.answering && !has_ended(stream.window) && stream.window.min(self.window) < SHUT
    }

    /// Notes received bytes of a DATA frame, padding included.
    pub(super) fn has(&mut self, id: u32, bytes: usize) {
        self.room -= bytes as i64;
        self.received += bytes as u64;
        if let Some(at) = self.find(id) {
            self.open[at].room -= bytes as i64;
            self.open[at].received += bytes as u64;
        }
    }

    /// The gateway lets the client send more, on a stream or on all (0).
    pub(super) fn gives(&mut self, id: u32, by: u32) {
        match id {
            0 => self.room += i64::from(by),
            _ => self.find(id).into_iter().for_each(|at| self.open[at].room += i64::from(by)),
        }
    }

    /// A frame begins. Returns whether it opens a stream.
    pub(super) fn begins(&mut self, head: Head) -> Result<bool, Wrong> {
        if matches!(head.kind, DATA | HEADERS) && self.reset.contains(&head.stream) && head.stream != 0 {
            return Err(Wrong::StreamClosed);
        }
        if head.kind == HEADERS && head.stream > self.last {
            self.last = head.stream;
            self.began = self.began.saturating_add(1);
            if self.open.len() >= OPEN_MAX {
                return Err(Wrong::TooManyStreams);
            }
            let fed = self.initial >= SHUT;
            self.shut += usize::from(!fed);
            self.unfed += usize::from(!fed);
            let (id, window) = (head.stream, self.initial);
            let (answering, client_ended) = (false, false);
            self.open.push(Stream { id, window, answering, fed, client_ended, room: WINDOW, received: 0 });
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether the client has reset at least `max` streams before they were answered, and more than half of all.
    pub fn resets_most(&self, max: u32) -> bool {
        self.resets >= max && self.resets > self.began / 2
    }

    pub(super) fn came(&mut self, head: Head) {
        if head.kind == RST_STREAM
            && let Some(at) = self.find(head.stream)
        {
            // A stream whose answer is complete has cost no more than intended.
            self.resets = self.resets.saturating_add(u32::from(!has_ended(self.open[at].window)));
            self.remove(at);
            self.reset.rotate_right(1);
            self.reset[0] = head.stream;
        }
        if head.ends()
            && let Some(at) = self.find(head.stream)
        {
            self.open[at].client_ended = true;
            if has_ended(self.open[at].window) {
                self.remove(at);
            }
        }
    }

    pub(super) fn went(&mut self, head: Head) {
        match head.kind {
            DATA => {
                self.window -= i64::from(head.length);
                self.change(head.stream, -i64::from(head.length));
            }
            HEADERS => self.find(head.stream).into_iter().for_each(|at| self.open[at].answering = true),
            RST_STREAM => self.find(head.stream).into_iter().for_each(|at| self.remove(at)),
            _ => {}
        }
        if head.ends()
            && let Some(at) = self.find(head.stream)
        {
            match self.open[at].client_ended {
                true => self.remove(at),
                false => {
                    self.change(head.stream, ENDED);
                }
            }
        }
    }

    pub(super) fn opens(&mut self, stream: u32, by: u32) -> Result<(), Wrong> {
        let by = i64::from(by);
        let window = match stream {
            0 => {
                self.window += by;
                Some(self.window)
            }
            _ => self.change(stream, by).filter(|window| !has_ended(*window)),
        };
        self.opened = self.opened.wrapping_add(u32::from(by >= SHUT && window.is_some()));
        if window.is_some_and(|window| window > WINDOW_MAX) { Err(Wrong::FlowControl) } else { Ok(()) }
    }

    /// The client's initial window changes.
    pub(super) fn begins_with(&mut self, value: u32) -> Result<(), Wrong> {
        // It changes the windows of all streams alike (section 6.9.2).
        let by = i64::from(value) - self.initial;
        self.initial = i64::from(value);
        for stream in &mut self.open {
            stream.window += by;
            stream.fed |= stream.window >= SHUT;
        }
        self.shut = self.open.iter().filter(|stream| stream.window < SHUT).count();
        self.unfed = self.open.iter().filter(|stream| !stream.fed).count();
        if by > 0 {
            self.opened = self.opened.wrapping_add(1);
        }
        let beyond = self.open.iter().any(|stream| stream.window > WINDOW_MAX && !has_ended(stream.window));
        if beyond { Err(Wrong::FlowControl) } else { Ok(()) }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    /// Changes a stream's window; returns its new value.
    fn change(&mut self, id: u32, by: i64) -> Option<i64> {
        let at = self.find(id)?;
        let before = self.open[at].window;
        let after = before.saturating_add(by);
        self.open[at].window = after;
        self.shut = self.shut + usize::from(after < SHUT) - usize::from(before < SHUT);
        if after >= SHUT && !self.open[at].fed {
            self.open[at].fed = true;
            self.unfed -= 1;
        }
        Some(after)
    }

    fn remove(&mut self, at: usize) {
        let gone = self.open.remove(at);
        self.shut -= usize::from(gone.window < SHUT);
        self.unfed -= usize::from(!gone.fed);
    }
}

fn has_ended(window: i64) -> bool {
    window > ENDED / 2
}
