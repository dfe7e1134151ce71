//! The windows of a connection's streams (RFC 9113, section 6.9), and which of them starve.
//!
//! A stream starves while the client lets nothing more be sent on it, or hardly anything. Where many do at once, the
//! gateway holds many answers for somebody who takes none.

use super::{DATA, HEADERS, Head, RST_STREAM};

/// Windows before anybody says otherwise.
const WINDOW: i64 = 65_535;
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// A window below this is as good as shut.
const SHUT: i64 = 1 << 10;
/// What a window grows by when we have ended our side: nothing is left to be sent on it.
const ENDED: i64 = i64::MAX / 2;
/// `SETTINGS_INITIAL_WINDOW_SIZE`
const INITIAL_WINDOW: u16 = 4;
/// Streams that the client has reset, of which is remembered that it did.
const RESET_KEPT: usize = 8;

/// What a client did that ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A frame on a stream that it has reset.
    StreamClosed,
    /// A window above 2^31-1.
    FlowControl,
    /// A head of absurdly many fields.
    TooManyFields,
    /// It resets most of what it asks for.
    TooManyResets,
    /// It asks for much, and lets nothing be sent.
    Starves,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    id: u32,
    /// What may be sent on it.
    window: i64,
    /// Its window was open once. Who reads slowly uses windows up; who never opens one is another matter.
    fed: bool,
    /// The client has ended its side.
    client_ended: bool,
}

/// What is open on a connection.
#[derive(Debug)]
pub struct Flow {
    initial: i64,
    window: i64,
    /// In the order of their numbers.
    open: Vec<Stream>,
    /// How many of them have a window that is shut, and how many of these were never fed.
    shut: usize,
    unfed: usize,
    last: u32,
    /// The last ones that the client has reset.
    reset: [u32; RESET_KEPT],
    /// How many streams it began, and how many it has reset.
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
    /// Streams on which hardly anything may be sent, whoever's window it is.
    pub fn starving(&self) -> usize {
        if self.window < SHUT { self.open.len() } else { self.shut }
    }

    /// Streams whose own windows were shut all the time.
    pub fn unfed(&self) -> usize {
        self.unfed
    }

    /// Changes when the client opens a window by more than a token.
    pub fn opened(&self) -> u32 {
        self.opened
    }

    pub(super) fn begins(&mut self, head: Head) -> Result<(), Wrong> {
        if matches!(head.kind, DATA | HEADERS) && self.reset.contains(&head.stream) && head.stream != 0 {
            return Err(Wrong::StreamClosed);
        }
        if head.kind == HEADERS && head.stream > self.last {
            self.last = head.stream;
            self.began = self.began.saturating_add(1);
            let fed = self.initial >= SHUT;
            self.shut += usize::from(!fed);
            self.unfed += usize::from(!fed);
            self.open.push(Stream { id: head.stream, window: self.initial, fed, client_ended: false });
        }
        if head.kind == RST_STREAM && head.stream <= self.last {
            self.resets = self.resets.saturating_add(1);
        }
        Ok(())
    }

    /// Whether the client has reset more than `max` streams, and more than half of all.
    pub fn resets_most(&self, max: u32) -> bool {
        self.resets >= max && self.resets > self.began / 2
    }

    pub(super) fn came(&mut self, head: Head) {
        if head.kind == RST_STREAM && self.forget(head.stream) {
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
            RST_STREAM => {
                self.forget(head.stream);
            }
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

    pub(super) fn setting(&mut self, name: u16, value: u32) -> Result<(), Wrong> {
        if name != INITIAL_WINDOW {
            return Ok(());
        }
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

    /// Changes a stream's window; what it is then.
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

    fn forget(&mut self, id: u32) -> bool {
        let at = self.find(id);
        at.into_iter().for_each(|at| self.remove(at));
        at.is_some()
    }
}

fn has_ended(window: i64) -> bool {
    window > ENDED / 2
}
