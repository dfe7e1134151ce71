//! Validation of the framing of a chunked body, byte by byte while the bytes pass on unchanged.
//!
//! RFC 9112, section 7.1, without what the known attacks need. A size is one to fifteen hexadecimal digits, with
//! nothing before or between; CRLF ends its line and follows where a chunk's size says. An extension is well-formed
//! and short, without blanks around its signs and without control bytes, so that no server which skips it ends the
//! line elsewhere. It goes no further than here, as Pingora frames the body anew. Trailers are validated like
//! headers, and those that frame, route or authenticate are refused (RFC 9110, section 6.5.1). The lines between
//! chunks may not outweigh the chunks, so that a body of padded one-byte chunks comes to an end. The validator is
//! resumable at every byte and keeps no bytes but the start of a trailer's name. The meaning of the body, and its
//! length limit, are not checked here.

use std::ops::Range;

use self::extension::Extension;
use super::bytes::{ODD, TOKEN, class};
use super::field::{self, Name};
use super::violation::Violation;
use super::voice;

mod extension;

/// The most digits of a size: more would not fit sixty bits.
const DIGITS_MAX: u8 = 15;
/// The most bytes of a chunk's extension, from its first `;` on.
const EXTENSION_MAX: u16 = 256;
/// Bytes of lines that are free, and how many more come with each byte of the body. A one-byte chunk costs five.
const OVERHEAD_FREE: u64 = 16 << 10;
const OVERHEAD_PER_BYTE: u64 = 8;
/// The most trailers, and the most bytes of them.
const TRAILERS_MAX: u32 = 32;
const TRAILER_BYTES_MAX: u32 = 8 << 10;
/// Bytes of a trailer's name that are kept: more than the longest name that is searched for.
const NAME_KEPT: usize = 32;

/// The result for the bytes given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All of them belong to the body, and it goes on.
    More,
    /// The body ends with this many of them; the rest is the next request's.
    Done(usize),
    /// Some server could read them differently: none of them may pass.
    Refused(Violation),
}

/// What is expected next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer, or of the empty line.
    Line,
    Name,
    Value,
    ValueLf,
    LastLf,
    Done,
}

/// The validator of one body.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    at: At,
    digits: u8,
    /// Bytes of this chunk's extension so far.
    extension: u16,
    /// The size read so far, then what is left of the chunk.
    left: u64,
    length: u64,
    overhead: u64,
    trailers: u32,
    trailer_bytes: u32,
    name: [u8; NAME_KEPT],
    name_length: usize,
    odd: bool,
}

impl Chunked {
    /// Validates the next bytes of the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Step {
        self.decode(bytes, |_| {})
    }

    /// The same, and says where in them the body itself stands, without its framing.
    pub fn decode(&mut self, bytes: &[u8], data: impl FnMut(Range<usize>)) -> Step {
        match self.taken(bytes, data) {
            Ok(None) => Step::More,
            Ok(Some(taken)) => Step::Done(taken),
            Err(fault) => Step::Refused(fault),
        }
    }

    /// Bytes of the body so far, without its framing.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn taken(&mut self, bytes: &[u8], mut data: impl FnMut(Range<usize>)) -> Result<Option<usize>, Violation> {
        let mut i = 0;
        while self.at != At::Done {
            if self.at == At::Data {
                let part = self.left.min((bytes.len() - i) as u64);
                data(i..i + part as usize);
                i += part as usize;
                self.left -= part;
                self.length = self.length.saturating_add(part);
                if self.left > 0 {
                    return Ok(None);
                }
                self.at = At::DataCr;
            }
            let Some(byte) = bytes.get(i) else { return Ok(None) };
            self.at = self.next(*byte)?;
            i += 1;
        }
        Ok(Some(i))
    }

    fn next(&mut self, byte: u8) -> Result<At, Violation> {
        match (self.at, byte) {
            (At::Size, _) => self.size(byte),
            (At::Extension(extension), _) => self.extension(extension, byte),
            (At::SizeLf, b'\n') => self.sized(),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::DataCr | At::DataLf, _) => Err(Violation::ChunkEnd),
            (At::Line, b'\r') => Ok(At::LastLf),
            (At::LastLf, b'\n') => Ok(At::Done),
            (At::SizeLf | At::LastLf | At::ValueLf, _) if byte != b'\n' => Err(Violation::BareCr),
            _ => self.trailer(byte),
        }
    }

    fn size(&mut self, byte: u8) -> Result<At, Violation> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => return Ok(At::SizeLf),
            b';' if self.digits > 0 => return self.extension(Extension::Whole, byte),
            b'\n' => return Err(Violation::BareLf),
            _ => return Err(Violation::ChunkSize),
        };
        if self.digits == DIGITS_MAX {
            return Err(Violation::ChunkSize);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(At::Size)
    }

    fn extension(&mut self, before: Extension, byte: u8) -> Result<At, Violation> {
        if byte == b'\r' && before.may_end() {
            return Ok(At::SizeLf);
        }
        self.extension += 1;
        if self.extension > EXTENSION_MAX {
            return Err(Violation::ChunkExtension);
        }
        before.next(byte).map(At::Extension)
    }

    fn sized(&mut self) -> Result<At, Violation> {
        let line = u64::from(std::mem::take(&mut self.digits)) + u64::from(std::mem::take(&mut self.extension));
        self.overhead += line + 4;
        if self.left == 0 {
            return Ok(At::Line);
        }
        if self.overhead > OVERHEAD_FREE.saturating_add(self.length.saturating_mul(OVERHEAD_PER_BYTE)) {
            return Err(Violation::ChunkOverhead);
        }
        Ok(At::Data)
    }

    /// A byte of the trailers, except for the empty line.
    fn trailer(&mut self, byte: u8) -> Result<At, Violation> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Violation::TrailersTooLarge);
        }
        let class = class(byte);
        match (self.at, byte) {
            (At::Line, _) => {
                self.trailers += 1;
                (self.name_length, self.odd) = (0, false);
                if self.trailers > TRAILERS_MAX {
                    return Err(Violation::TrailersTooLarge);
                }
                self.named(byte, class)
            }
            (At::Name, b':') if self.is_forbidden() => Err(Violation::ForbiddenTrailer),
            (At::Name, b':') => Ok(At::Value),
            (At::Name, _) => self.named(byte, class),
            (At::Value, b'\r') => Ok(At::ValueLf),
            (At::Value, b'\n') => Err(Violation::BareLf),
            (At::Value, _) if byte.is_ascii_control() && byte != b'\t' => Err(Violation::ControlByte),
            (At::Value, _) => Ok(At::Value),
            // Only the LF behind a value is left.
            _ => Ok(At::Line),
        }
    }

    fn named(&mut self, byte: u8, class: u8) -> Result<At, Violation> {
        if class & TOKEN == 0 {
            return Err(Violation::Trailer);
        }
        if let Some(place) = self.name.get_mut(self.name_length) {
            *place = byte.to_ascii_lowercase();
            self.name_length += 1;
        }
        self.odd |= class & ODD != 0;
        Ok(At::Name)
    }

    fn is_forbidden(&self) -> bool {
        let name = &self.name[..self.name_length];
        let known = Name::of(name) != Name::Other || field::is_lookalike(name, self.odd) || voice::of(name).is_some();
        known || FORBIDDEN.contains(&name) || FORBIDDEN_STARTS.iter().any(|start| name.starts_with(start))
    }
}

/// Names that may not be trailers, beside those of [`Name`].
const FORBIDDEN: [&[u8]; 18] = [
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-range",
    b"content-type",
    b"cookie",
    b"forwarded",
    b"keep-alive",
    b"max-forwards",
    b"pragma",
    b"range",
    b"set-cookie",
    b"te",
    b"trailer",
    b"traceparent",
    b"www-authenticate",
    b"x-api-key",
    b"x-request-id",
];

/// Prefixes of names that may not be trailers.
const FORBIDDEN_STARTS: [&[u8]; 5] = [b"if-", b"proxy-", b"x-forwarded-", b"x-http-method", b"x-tollgate-"];

#[cfg(test)]
mod tests;
