//! What passes on an HTTP/2 connection, read beside its codec: which streams are open, what may be sent on them, and how
//! much a head unfolds to.
//!
//! The codec keeps the protocol; it does not tell who lets it hold things. A client can shut its window and ask for a
//! hundred answers, point at one entry of its table over and over, or reset what it asks for. So the frames are looked at
//! as their bytes go by, in both directions: their heads, the few that change a window, and how many fields a head has,
//! which its block tells without being decoded. All of it is pure and bounded: a few words a stream, of which the codec
//! allows a hundred.
//!
//! It also ends what the codec lets pass: frames on a stream that the client has reset (RFC 9113, section 5.1), and
//! windows beyond 2^31-1 (section 6.9.1).

mod fields;
mod flow;

use self::fields::Fields;
pub use self::flow::{Flow, Wrong};

/// What opens a client's side (RFC 9113, section 3.4).
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
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// A frame's head (RFC 9113, section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Bytes that follow it.
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

/// Cuts one direction's bytes into frames, however they come.
#[derive(Debug, Default)]
struct Cutter {
    head: [u8; 9],
    have: usize,
    frame: Head,
    /// Bytes of the payload to come.
    left: u32,
}

/// A part of what passes.
enum Part<'b> {
    /// A frame begins.
    Begins(Head),
    /// Bytes of its payload.
    Payload(Head, &'b [u8]),
    /// Its last byte has passed.
    Ends(Head),
}

impl Cutter {
    fn cut(&mut self, mut bytes: &[u8], mut each: impl FnMut(Part<'_>) -> Result<(), Wrong>) -> Result<(), Wrong> {
        while !bytes.is_empty() {
            if self.have < self.head.len() {
                let part = bytes.len().min(self.head.len() - self.have);
                self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
                self.have += part;
                bytes = &bytes[part..];
                if self.have < self.head.len() {
                    return Ok(());
                }
                self.frame = Head::of(self.head);
                self.left = self.frame.length;
                each(Part::Begins(self.frame))?;
            } else {
                let part = bytes.len().min(self.left as usize);
                self.left -= part as u32;
                each(Part::Payload(self.frame, &bytes[..part]))?;
                bytes = &bytes[part..];
            }
            if self.left == 0 {
                self.have = 0;
                each(Part::Ends(self.frame))?;
            }
        }
        Ok(())
    }
}

/// Both directions of a connection.
#[derive(Debug, Default)]
pub struct Frames {
    /// What is open, and what may be sent.
    pub flow: Flow,
    preface: usize,
    from_client: Cutter,
    to_client: Cutter,
    /// The start of a short payload that changes something.
    kept: [u8; 6],
    kept_length: usize,
    /// What a SETTINGS frame says of the initial window; the last word counts.
    initial: Option<u32>,
    fields: Fields,
    /// Of a frame that has a block: bytes before it, and of padding behind it.
    before: u32,
    padding: u32,
    block_left: u32,
}

impl Frames {
    /// Bytes came from the client. A head may have `fields_max` fields.
    ///
    /// # Errors
    ///
    /// What the client did wrong; the connection is to end.
    pub fn came(&mut self, bytes: &[u8], fields_max: usize) -> Result<(), Wrong> {
        let preface = (PREFACE - self.preface).min(bytes.len());
        self.preface += preface;
        let Frames { flow, from_client, kept, kept_length, initial, fields, before, padding, block_left, .. } = self;
        from_client.cut(&bytes[preface..], |part| match part {
            Part::Begins(head) => {
                *kept_length = 0;
                (*before, *padding, *block_left) = (u32::from(head.flags & PADDED != 0), 0, head.length);
                if head.kind == CONTINUATION {
                    *before = 0;
                } else if head.kind == HEADERS {
                    *before += if head.flags & PRIORITY != 0 { 5 } else { 0 };
                    fields.begin();
                }
                flow.begins(head)
            }
            Part::Payload(head, bytes) if matches!(head.kind, HEADERS | CONTINUATION) => {
                let mut bytes = bytes;
                while *before > 0 && !bytes.is_empty() {
                    if *block_left == head.length && head.kind == HEADERS && head.flags & PADDED != 0 {
                        *padding = u32::from(bytes[0]);
                    }
                    (*before, *block_left) = (*before - 1, *block_left - 1);
                    bytes = &bytes[1..];
                }
                let part = bytes.len().min(block_left.saturating_sub(*padding) as usize);
                *block_left -= bytes.len() as u32;
                fields.count(&bytes[..part]);
                if fields.counted() > fields_max { Err(Wrong::TooManyFields) } else { Ok(()) }
            }
            Part::Payload(head, bytes) => {
                for byte in bytes {
                    if let Some(place) = kept.get_mut(*kept_length) {
                        *place = *byte;
                        *kept_length += 1;
                    }
                    if head.kind == SETTINGS && *kept_length == kept.len() {
                        *kept_length = 0;
                        if u16::from_be_bytes([kept[0], kept[1]]) == INITIAL_WINDOW {
                            *initial = Some(be32(&kept[2..]));
                        }
                    } else if head.kind != SETTINGS && *kept_length == kept.len() {
                        break;
                    }
                }
                Ok(())
            }
            Part::Ends(head) if head.kind == SETTINGS => initial.take().map_or(Ok(()), |value| flow.begins_with(value)),
            Part::Ends(head) if head.kind == WINDOW_UPDATE => flow.opens(head.stream, be32(&kept[..4]) & 0x7fff_ffff),
            Part::Ends(head) => {
                flow.came(head);
                Ok(())
            }
        })
    }

    /// Bytes went to the client.
    pub fn went(&mut self, bytes: &[u8]) {
        let flow = &mut self.flow;
        // Our own frames break no rule.
        let _ = self.to_client.cut(bytes, |part| {
            if let Part::Ends(head) = part {
                flow.went(head);
            }
            Ok(())
        });
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests;
