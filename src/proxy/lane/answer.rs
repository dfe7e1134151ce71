//! The head of a server's answer, and where its body ends (RFC 9112, sections 4 to 7).
//!
//! A server is trusted more than a client: what is ambiguous but harmless is read as Pingora's codec reads it. What
//! goes on to the client is framed anew, so it has one reading.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, InvalidHTTPHeader, OrErr, Result};

/// The most headers of an answer.
const HEADERS_MAX: usize = 256;
/// The most bytes of its head.
pub const HEAD_MAX: usize = 1 << 20;
/// The most bytes of a line with a chunk's size, with its extension, and of all trailers.
const SIZE_LINE_MAX: usize = 8 << 10;
const TRAILERS_MAX: usize = 64 << 10;
/// Headers that stages add.
const ADDED: usize = 4;

/// Reads a head: it and the number of its bytes; `None` if more are needed.
pub fn head(bytes: &[u8]) -> Result<Option<(ResponseHeader, usize)>> {
    let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let mut parser = httparse::ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let parsed = parser.parse_response_with_uninit_headers(&mut response, bytes, &mut room);
    let httparse::Status::Complete(length) = parsed.or_err(InvalidHTTPHeader, "the head of an answer")? else {
        return Ok(None);
    };
    let status = StatusCode::from_u16(response.code.unwrap_or_default()).or_err(InvalidHTTPHeader, "a status")?;
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    parts.version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers.reserve(response.headers.len() + ADDED);
    let shared = Bytes::copy_from_slice(&bytes[..length]);
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).or_err(InvalidHTTPHeader, "a header's name")?;
        parts.headers.append(name, value(&shared, bytes, field.value)?);
    }
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        // The coding counts (RFC 9112, section 6.3).
        parts.headers.remove(CONTENT_LENGTH);
    }
    let mut head = ResponseHeader::from(parts);
    if response.reason != status.canonical_reason() {
        head.set_reason_phrase(response.reason)?;
    }
    Ok(Some((head, length)))
}

/// A value, which lies in `bytes`, of which `shared` is a copy. Lines that were folded into one become one (RFC 9112,
/// section 5.2).
fn value(shared: &Bytes, bytes: &[u8], value: &[u8]) -> Result<HeaderValue> {
    let begin = value.as_ptr().addr() - bytes.as_ptr().addr();
    if let Ok(value) = HeaderValue::from_maybe_shared(shared.slice(begin..begin + value.len())) {
        return Ok(value);
    }
    let mut unfolded = Vec::with_capacity(value.len());
    for line in value.split(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        let line = if unfolded.is_empty() { line } else { line.trim_ascii_start() };
        if !unfolded.is_empty() && !line.is_empty() {
            unfolded.push(b' ');
        }
        unfolded.extend_from_slice(line.trim_ascii_end());
    }
    HeaderValue::from_maybe_shared(Bytes::from(unfolded)).or_err(InvalidHTTPHeader, "a header's value")
}

/// Where the body of an answer ends.
#[derive(Debug)]
pub enum Framing {
    /// After this many more bytes.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunks),
    /// With the connection.
    UntilClose,
}

/// A part of a body, as it stands at the front of the bytes given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the body itself.
    pub body: usize,
    /// Bytes that are done with, framing included.
    pub taken: usize,
}

impl Framing {
    /// How the body of an answer to `method` is framed.
    pub fn of(head: &ResponseHeader, method: &Method) -> Result<Framing> {
        let bodiless = *method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
        let length = length(&head.headers)?;
        if is_chunked_within(&head.headers) {
            return Error::e_explain(InvalidHTTPHeader, "chunks that are coded again");
        }
        Ok(match length {
            _ if bodiless => Framing::Length(0),
            _ if is_chunked(&head.headers) => Framing::Chunked(Chunks::default()),
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }

    /// Whether the body is complete.
    pub fn is_over(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.at == At::End,
            Framing::UntilClose => false,
        }
    }

    /// Whether the body ends in order if the connection ends now.
    pub fn may_end(&self) -> bool {
        matches!(self, Framing::UntilClose)
    }

    /// The number of bytes that are certainly still to come.
    pub fn left(&self) -> u64 {
        if let Framing::Length(left) = self { *left } else { 0 }
    }

    /// Takes the next part from the front of these bytes, and moves its body there.
    pub fn part(&mut self, bytes: &mut [u8]) -> Result<Part> {
        match self {
            Framing::Length(left) => {
                let part = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= part as u64;
                Ok(Part { body: part, taken: part })
            }
            Framing::Chunked(chunks) => chunks.part(bytes),
            Framing::UntilClose => Ok(Part { body: bytes.len(), taken: bytes.len() }),
        }
    }
}

/// The length of the body, if the head says one. It may say it several times, but alike.
fn length(headers: &HeaderMap) -> Result<Option<u64>> {
    let mut said = None;
    let lines = headers.get_all(CONTENT_LENGTH).iter();
    for length in lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
        let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(length).ok().filter(|_| digits).and_then(|length| length.parse().ok());
        if length.is_none() || said.is_some_and(|said| Some(said) != length) {
            return Error::e_explain(InvalidHTTPHeader, "the length of an answer");
        }
        said = length;
    }
    Ok(said)
}

/// Whether the last coding of the body is `chunked`.
fn is_chunked(headers: &HeaderMap) -> bool {
    codings(headers).next_back().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"))
}

/// The codings of the body.
fn codings(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &[u8]> {
    let lines = headers.get_all(TRANSFER_ENCODING).iter().map(|line| line.as_bytes());
    lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether a coding other than `chunked` follows it: where such a body ends nobody knows (RFC 9112, section 6.1).
fn is_chunked_within(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        && codings(headers)
            .skip_while(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
            .any(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
}

/// Says that the body is framed by chunks, behind the codings that the server says.
pub fn chunk(head: &mut ResponseHeader) -> Result<()> {
    if head.headers.get(TRANSFER_ENCODING).is_some_and(|only| only == "chunked")
        && head.headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_none()
    {
        return Ok(());
    }
    let others = |coding: &&[u8]| ![&b"chunked"[..], b"identity"].iter().any(|name| coding.eq_ignore_ascii_case(name));
    let mut codings: Vec<&[u8]> = codings(&head.headers).filter(others).collect();
    codings.push(b"chunked");
    let codings = HeaderValue::from_maybe_shared(Bytes::from(codings.join(&b", "[..])));
    head.insert_header(TRANSFER_ENCODING, codings.or_err(InvalidHTTPHeader, "the coding of an answer")?)
}

/// Whether the server keeps the connection open after this answer.
pub fn is_kept(head: &ResponseHeader) -> bool {
    let http10 = head.version == Version::HTTP_10;
    let (mut close, mut keep) = (false, false);
    for line in head.headers.get_all(CONNECTION) {
        for option in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            close |= option.eq_ignore_ascii_case(b"close");
            keep |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    // Chunks are unknown to HTTP/1.0: such a message may be faulty (RFC 9112, section 6.1).
    !close && (!http10 || keep && !head.headers.contains_key(TRANSFER_ENCODING))
}

/// The framing of a chunked body.
#[derive(Debug, Default)]
pub struct Chunks {
    at: At,
    /// Bytes of trailers so far.
    trailers: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The line with a size.
    #[default]
    Size,
    /// This many bytes of a chunk.
    Data(u64),
    /// The end of a chunk's line.
    DataEnd,
    /// Trailers, or the empty line behind them.
    Trailers,
    /// Nothing.
    End,
}

impl Chunks {
    fn part(&mut self, bytes: &mut [u8]) -> Result<Part> {
        let wrong = |what| Error::e_explain(InvalidHTTPHeader, what);
        let Part { mut body, mut taken } = Part::default();
        loop {
            let rest = &bytes[taken..];
            match self.at {
                At::Size => match httparse::parse_chunk_size(rest) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        taken += line;
                        self.at = if size == 0 { At::Trailers } else { At::Data(size) };
                    }
                    Ok(httparse::Status::Partial) if rest.len() < SIZE_LINE_MAX => break,
                    _ => return wrong("the size of a chunk"),
                },
                At::Data(left) => {
                    let part = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    bytes.copy_within(taken..taken + part, body);
                    (body, taken) = (body + part, taken + part);
                    let left = left - part as u64;
                    self.at = if left == 0 { At::DataEnd } else { At::Data(left) };
                    if left > 0 {
                        break;
                    }
                }
                At::DataEnd => match rest {
                    [] | [b'\r'] => break,
                    [b'\r', b'\n', ..] => (taken, self.at) = (taken + 2, At::Size),
                    _ => return wrong("the end of a chunk"),
                },
                At::Trailers => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        if self.trailers + rest.len() > TRAILERS_MAX || rest.len() >= SIZE_LINE_MAX {
                            return wrong("trailers");
                        }
                        break;
                    };
                    let last = matches!(&rest[..end], [] | [b'\r']);
                    (taken, self.trailers) = (taken + end + 1, self.trailers + end + 1);
                    if self.trailers > TRAILERS_MAX {
                        return wrong("trailers");
                    }
                    if last {
                        self.at = At::End;
                    }
                }
                At::End => break,
            }
        }
        Ok(Part { body, taken })
    }
}

#[cfg(test)]
mod tests;
