//! The frames of an HTTP/2 connection, read beside its codec: which streams are open, how much may be sent on them, and
//! how many fields a head has.
//!
//! The codec follows the protocol, but does not report which client makes it hold data. A client can shut its window
//! and ask for a hundred answers, refer to one entry of its table over and over, or reset what it asks for. So this
//! module inspects the bytes in both directions: frame heads, the few frames that change a window, and the number of
//! fields of a head, which its block shows without decoding. All of it is pure and bounded: a few words for each
//! stream, of which the codec allows a hundred.
//!
//! It hands on one new head at a time, so that the codec's next request is known to belong to that stream.
//!
//! It also ends what the codec lets pass: frames on a stream that the client has reset (RFC 9113, section 5.1), and
//! windows above 2^31-1 (section 6.9.1).

mod fields;
mod flow;

use std::ops::ControlFlow;

use self::fields::Fields;
pub use self::flow::{Flow, Upload, Wrong};

/// Length of the client's connection preface (RFC 9113, section 3.4).
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// `SETTINGS_INITIAL_WINDOW_SIZE`
const INITIAL_WINDOW: u16 = 4;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// A frame's head (RFC 9113, section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Bytes of its payload.
    pub length: u32,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
}

impl Head {
    fn of(bytes: [u8; 9]) -> Head {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Head { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream }
    }

    fn ends(self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// Splits the bytes of one direction into frames, in whatever pieces they arrive.
#[derive(Debug, Default)]
struct Cutter {
    head: [u8; 9],
    have: usize,
    frame: Head,
    /// Bytes of the payload still to come.
    left: u32,
}

/// A part of the bytes.
enum Part<'b> {
    /// A frame begins.
    Begins(Head),
    /// Bytes of its payload.
    Payload(Head, &'b [u8]),
    /// Its last byte has passed.
    Ends(Head),
}

impl Cutter {
    /// Returns how many bytes it took: all of them, unless `each` stopped it after a part.
    fn cut(
        &mut self,
        all: &[u8],
        mut each: impl FnMut(Part<'_>) -> Result<ControlFlow<()>, Wrong>,
    ) -> Result<usize, Wrong> {
        let mut bytes = all;
        while !bytes.is_empty() {
            if self.have < self.head.len() {
                let part = bytes.len().min(self.head.len() - self.have);
                self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
                self.have += part;
                bytes = &bytes[part..];
                if self.have < self.head.len() {
                    break;
                }
                self.frame = Head::of(self.head);
                self.left = self.frame.length;
                let _ = each(Part::Begins(self.frame))?;
            } else {
                let part = bytes.len().min(self.left as usize);
                self.left -= part as u32;
                let _ = each(Part::Payload(self.frame, &bytes[..part]))?;
                bytes = &bytes[part..];
            }
            if self.left == 0 {
                self.have = 0;
                if each(Part::Ends(self.frame))?.is_break() {
                    break;
                }
            }
        }
        Ok(all.len() - bytes.len())
    }
}

/// Both directions of a connection.
#[derive(Debug, Default)]
pub struct Frames {
    /// The open streams and their windows.
    pub flow: Flow,
    preface: usize,
    from_client: Cutter,
    to_client: Cutter,
    short: Short,
    /// The same for frames to the client.
    ours: Short,
    /// A SETTINGS frame's value for the initial window; the last one counts.
    initial: Option<u32>,
    block: Block,
    /// The current block opens a stream.
    opening: bool,
    opened: Option<u32>,
}

impl Frames {
    /// Inspects bytes from the client. A head may have `fields_max` fields. Returns how many bytes may be handed on:
    /// they end with the first head of a new stream, and the rest must be passed in again.
    ///
    /// # Errors
    ///
    /// The rule that the client broke; the connection must end.
    pub fn came(&mut self, bytes: &[u8], fields_max: usize) -> Result<usize, Wrong> {
        let preface = (PREFACE - self.preface).min(bytes.len());
        self.preface += preface;
        self.opened = None;
        let Frames { flow, from_client, short, initial, block, opening, opened, .. } = self;
        let cut = from_client.cut(&bytes[preface..], |part| match part {
            Part::Begins(head) => {
                short.begin();
                block.begin(head);
                let begins = flow.begins(head)?;
                if head.kind == HEADERS {
                    *opening = begins;
                }
                Ok(ControlFlow::Continue(()))
            }
            Part::Payload(head, bytes) => {
                match head.kind {
                    HEADERS | CONTINUATION => block.count(head, bytes, fields_max)?,
                    DATA => flow.has(head.stream, bytes.len()),
                    SETTINGS => short.each_setting(bytes, |kind, value| {
                        if kind == INITIAL_WINDOW {
                            *initial = Some(value);
                        }
                    }),
                    _ => short.keep(bytes),
                }
                Ok(ControlFlow::Continue(()))
            }
            Part::Ends(head) => {
                match head.kind {
                    SETTINGS => initial.take().map_or(Ok(()), |value| flow.begins_with(value))?,
                    WINDOW_UPDATE => flow.opens(head.stream, short.increment())?,
                    _ => flow.came(head),
                }
                let whole = matches!(head.kind, HEADERS | CONTINUATION) && head.flags & END_HEADERS != 0;
                if whole && std::mem::take(opening) {
                    *opened = Some(head.stream);
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            }
        })?;
        Ok(preface + cut)
    }

    /// The stream whose head ended the bytes handed on last.
    pub fn opened(&self) -> Option<u32> {
        self.opened
    }

    /// Inspects bytes to the client.
    pub fn went(&mut self, bytes: &[u8]) {
        let Frames { flow, to_client, ours, .. } = self;
        // The gateway's own frames break no rule.
        let _ = to_client.cut(bytes, |part| {
            match part {
                Part::Begins(_) => ours.begin(),
                Part::Payload(head, bytes) if head.kind == WINDOW_UPDATE => ours.keep(bytes),
                Part::Payload(..) => {}
                Part::Ends(head) if head.kind == WINDOW_UPDATE => flow.gives(head.stream, ours.increment()),
                Part::Ends(head) => flow.went(head),
            }
            Ok(ControlFlow::Continue(()))
        });
    }
}

/// The first bytes of a short payload that changes something.
#[derive(Debug, Default)]
struct Short {
    bytes: [u8; 6],
    length: usize,
}

impl Short {
    fn begin(&mut self) {
        self.length = 0;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let part = bytes.len().min(self.bytes.len() - self.length);
        self.bytes[self.length..self.length + part].copy_from_slice(&bytes[..part]);
        self.length += part;
    }

    /// Splits the payload of SETTINGS (RFC 9113, section 6.5.1).
    fn each_setting(&mut self, mut bytes: &[u8], mut each: impl FnMut(u16, u32)) {
        while !bytes.is_empty() {
            let part = bytes.len().min(self.bytes.len() - self.length);
            self.keep(&bytes[..part]);
            bytes = &bytes[part..];
            if self.length == self.bytes.len() {
                self.length = 0;
                let [a, b, value @ ..] = self.bytes;
                each(u16::from_be_bytes([a, b]), u32::from_be_bytes(value));
            }
        }
    }

    /// What a WINDOW_UPDATE adds (section 6.9).
    fn increment(&self) -> u32 {
        let [a, b, c, d, ..] = self.bytes;
        u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff
    }
}

/// The block of a head, whose fields are counted.
#[derive(Debug, Default)]
struct Block {
    fields: Fields,
    /// Bytes of the frame before its part of the block, of padding after it, and those still to come.
    before: u32,
    padding: u32,
    left: u32,
}

impl Block {
    fn begin(&mut self, head: Head) {
        (self.before, self.padding, self.left) = (0, 0, head.length);
        if head.kind == HEADERS {
            let priority = if head.flags & PRIORITY != 0 { 5 } else { 0 };
            self.before = u32::from(head.flags & PADDED != 0) + priority;
            self.fields.begin();
        }
    }

    fn count(&mut self, head: Head, mut bytes: &[u8], fields_max: usize) -> Result<(), Wrong> {
        while self.before > 0 && !bytes.is_empty() {
            if self.left == head.length && head.kind == HEADERS && head.flags & PADDED != 0 {
                self.padding = u32::from(bytes[0]);
            }
            (self.before, self.left) = (self.before - 1, self.left - 1);
            bytes = &bytes[1..];
        }
        let part = bytes.len().min(self.left.saturating_sub(self.padding) as usize);
        self.left -= bytes.len() as u32;
        self.fields.count(&bytes[..part]);
        if self.fields.counted() > fields_max { Err(Wrong::TooManyFields) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
