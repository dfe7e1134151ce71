//! Validation of the head of an HTTP/1.x request, on its raw bytes before any parser changes them.
//!
//! RFC 9112 lets a server be lenient in many places, and two servers that are lenient in different ways read one stream
//! as different requests. So only what every server reads alike is accepted: only CRLF ends lines, one space stands
//! between the parts of the request line, names are tokens up to their colon, there is one valid `Host`, and at most
//! one header frames the body, in its plainest form. Nothing is repaired.
//!
//! A line is validated once its CRLF is there, so the verdict does not depend on how the bytes were split into reads,
//! and each byte is looked at once or twice, however slowly they come. Of several faults the one in the first line is
//! reported; those that only the whole head shows (no `Host`, two framings) come last. Routes are not known here:
//! whether the host or method is served is decided later.

use std::ops::Range;

use super::Verdict;
use super::bytes::{self, Line, ODD, PATH, QUERY, SUBTLE, TOKEN, class};
use super::field::{self, Connection, Name};
use super::host;
use super::violation::Violation;
use base::path::is_ambiguous;

/// The longest method.
pub(super) const METHOD_MAX: usize = 32;
/// The length of a request line without its target: the method, two spaces, the version and CRLF.
const LINE_MAX: usize = METHOD_MAX + 12;

/// Headers for which a judge keeps room.
const KEPT: usize = 32;

/// The size limits of a head.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the whole head, the empty line included.
    pub head_max: usize,
    /// The number of headers.
    pub headers_max: usize,
    /// Bytes of the target.
    pub uri_max: usize,
}

/// The protocol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// A body of this many bytes.
    Length(u64),
    /// Chunks; see [`super::chunked`].
    Chunked,
}

/// A head that may be forwarded as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'b> {
    /// The number of its bytes, with the empty line.
    pub length: usize,
    /// The version.
    pub version: Version,
    /// The method.
    pub method: &'b [u8],
    /// The target, as sent.
    pub target: &'b [u8],
    /// The value of `Host`.
    pub host: &'b [u8],
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether it asks for a WebSocket. Bytes behind it are not a request until the answer has said so,
    /// and never are after a 101.
    pub upgrade: bool,
    /// Whether it has an `Upgrade` that does not ask for a WebSocket.
    pub other_upgrade: bool,
    /// Whether the client waits for `100 Continue`; HTTP/1.0 never does, whatever it says (RFC 9110, section 10.1.1).
    pub expects_continue: bool,
    /// Whether `Connection: close` is there: the client wants the connection to end with the answer.
    pub close: bool,
}

impl Head<'_> {
    /// The verdict for later stages.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            upgrade: self.upgrade,
            other_upgrade: self.other_upgrade,
            close: self.close,
            expects_continue: self.expects_continue,
            http10: self.version == Version::Http10,
        }
    }
}

/// A head that must not be forwarded, with its readable parts. Nothing behind it on the connection can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'b> {
    /// The rule that the head broke.
    pub fault: Violation,
    /// The method.
    pub method: Option<&'b [u8]>,
    /// The target as sent, valid or not; without control characters.
    pub target: Option<&'b [u8]>,
    /// The value of `Host`, if it is valid.
    pub host: Option<&'b [u8]>,
}

/// The verdict on the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged<'b> {
    /// More bytes are needed, and none is wrong yet.
    Partial,
    /// The head is whole and valid.
    Accepted(Head<'b>),
    /// The head cannot become valid.
    Refused(Refusal<'b>),
}

/// The validator of one head. It remembers its position, so each call costs only the new bytes.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    /// The start of the first line that is not validated yet.
    line: usize,
    /// How far that line has been searched for its end.
    looked: usize,
    /// Whether the empty line before the request line has been there.
    empty_line: bool,
    http10: bool,
    websocket: bool,
    upgrades: bool,
    expect: bool,
    chunked: bool,
    content_length: Option<u64>,
    headers: usize,
    connection: Connection,
    method: Option<Span>,
    target: Option<Span>,
    /// The authority of an absolute target.
    authority: Option<Span>,
    host: Option<Span>,
    fields: Vec<Field>,
}

/// Where a header stands in the head.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    line: u32,
    colon: u32,
    value: (u32, u32),
}

impl Field {
    /// Its name, as sent.
    pub fn name(self) -> Range<usize> {
        self.line as usize..self.colon as usize
    }

    /// Its value, without the whitespace around it.
    pub fn value(self) -> Range<usize> {
        self.value.0 as usize..self.value.1 as usize
    }
}

/// A part of the head, from its first byte to the one behind its last.
#[derive(Clone, Copy, Debug)]
struct Span(usize, usize);

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.0..self.1]
    }
}

impl Judge {
    /// Validates all bytes received so far. They begin with the head and only grow from call to call of one judge;
    /// bytes behind the head are ignored.
    pub fn judge<'b>(&mut self, bytes: &'b [u8], limits: &Limits) -> Judged<'b> {
        match self.lines(bytes, limits) {
            Ok(None) => Judged::Partial,
            Ok(Some(head)) => Judged::Accepted(head),
            Err(fault) => {
                let part = |span: Option<Span>| span.map(|span| span.of(bytes));
                let (method, target, host) = (part(self.method), part(self.target), part(self.host));
                Judged::Refused(Refusal { fault, method, target, host })
            }
        }
    }

    /// The headers of the head, in their order, once it is accepted.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Begins another head, with the room of this one.
    pub fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        // Longer heads are rare, and a connection may be idle for long.
        fields.shrink_to(KEPT);
        *self = Judge { fields, ..Judge::default() };
    }

    fn lines<'b>(&mut self, bytes: &'b [u8], limits: &Limits) -> Result<Option<Head<'b>>, Violation> {
        loop {
            let begun = self.target.is_some();
            // A line that does not begin with a method is refused before its end.
            if !begun && bytes.get(self.line..=self.line + METHOD_MAX).is_some_and(bytes::is_token) {
                return Err(Violation::Method);
            }
            let max = limits.head_max.min(if begun {
                usize::MAX
            } else {
                self.line.saturating_add(limits.uri_max).saturating_add(LINE_MAX)
            });
            let end = match bytes::line(&bytes[..bytes.len().min(max)], self.looked) {
                Line::Ends(end) => end,
                Line::Broken(fault) => return Err(fault),
                Line::Open(_) if bytes.len() >= max => {
                    return Err(if max == limits.head_max {
                        Violation::HeadTooLarge
                    } else {
                        Violation::TargetTooLong
                    });
                }
                Line::Open(at) => {
                    self.looked = at;
                    return Ok(None);
                }
            };
            let line = Span(self.line, end);
            self.line = end + 2;
            self.looked = self.line;
            if line.0 == line.1 {
                if begun {
                    return self.whole(bytes).map(Some);
                }
                if std::mem::replace(&mut self.empty_line, true) {
                    return Err(Violation::EmptyLines);
                }
            } else if begun {
                self.headers += 1;
                if self.headers > limits.headers_max {
                    return Err(Violation::TooManyHeaders);
                }
                self.header(bytes, line)?;
            } else {
                self.request_line(bytes, line, limits)?;
            }
        }
    }

    /// RFC 9112, section 3: `method SP request-target SP HTTP-version`.
    fn request_line(&mut self, bytes: &[u8], line: Span, limits: &Limits) -> Result<(), Violation> {
        let text = line.of(bytes);
        let method = text.iter().position(|byte| class(*byte) & TOKEN == 0).ok_or(Violation::RequestLine)?;
        if text[method] != b' ' || method == 0 || method > METHOD_MAX {
            return Err(Violation::Method);
        }
        self.method = Some(Span(line.0, line.0 + method));
        let rest = &text[method + 1..];
        let (target, version) = match rest.len().checked_sub(9) {
            Some(target) if rest[target] == b' ' => (target, &rest[target + 1..]),
            _ => return Err(Violation::RequestLine),
        };
        let begin = line.0 + method + 1;
        self.target = Some(Span(begin, begin + target));
        self.http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(Violation::Version),
            _ => return Err(Violation::RequestLine),
        };
        let (method, target) = (&text[..method], &rest[..target]);
        if method.eq_ignore_ascii_case(b"CONNECT") {
            return Err(Violation::Connect);
        }
        if target.len() > limits.uri_max {
            return Err(Violation::TargetTooLong);
        }
        self.authority = authority(method, target)?.map(|Span(from, to)| Span(begin + from, begin + to));
        Ok(())
    }

    /// RFC 9112, section 5: `field-name ":" OWS field-value OWS`.
    fn header(&mut self, bytes: &[u8], line: Span) -> Result<(), Violation> {
        let text = line.of(bytes);
        let (mut colon, mut seen) = (0, 0);
        for byte in text {
            let class = class(*byte);
            if class & TOKEN == 0 {
                break;
            }
            seen |= class;
            colon += 1;
        }
        if colon == 0 || text.get(colon) != Some(&b':') {
            return Err(match text[0] {
                b' ' | b'\t' => Violation::ObsFold,
                _ if text.contains(&b':') => Violation::HeaderName,
                _ => Violation::ColonMissing,
            });
        }
        let (name, value) = (&text[..colon], &text[colon + 1..]);
        let trimmed = value.trim_ascii();
        let begin = line.1 - value.trim_ascii_start().len();
        // A head is far shorter than four gigabytes.
        self.fields.push(Field {
            line: line.0 as u32,
            colon: (line.0 + colon) as u32,
            value: (begin as u32, (begin + trimmed.len()) as u32),
        });
        match Name::of(name) {
            Name::Other if field::is_lookalike(name, seen & ODD != 0) => Err(Violation::LookalikeName),
            Name::Other => Ok(()),
            known => self.known(known, bytes, Span(line.1 - value.len(), line.1)),
        }
    }

    fn known(&mut self, name: Name, bytes: &[u8], raw: Span) -> Result<(), Violation> {
        let value = field::trim(raw.of(bytes));
        let twice = |before: bool, fault| if before { Err(fault) } else { Ok(()) };
        match name {
            Name::Host => {
                twice(self.host.is_some(), Violation::HostTwice)?;
                if !host::is_valid(value) {
                    return Err(Violation::HostInvalid);
                }
                let begin = raw.0 + raw.of(bytes).iter().take_while(|byte| **byte == b' ').count();
                self.host = Some(Span(begin, begin + value.len()));
            }
            Name::ContentLength => {
                twice(self.content_length.is_some(), Violation::ContentLengthTwice)?;
                self.content_length = Some(field::content_length(value)?);
            }
            Name::TransferEncoding => {
                twice(self.chunked, Violation::TransferEncodingTwice)?;
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncodingInvalid);
                }
                self.chunked = true;
            }
            Name::Connection => self.connection.add(value)?,
            Name::Upgrade => {
                twice(std::mem::replace(&mut self.upgrades, true), Violation::UpgradeTwice)?;
                self.websocket = value.eq_ignore_ascii_case(b"websocket");
            }
            Name::Expect => {
                twice(std::mem::replace(&mut self.expect, true), Violation::Expect)?;
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Violation::Expect);
                }
            }
            Name::Other => {}
        }
        Ok(())
    }

    /// The checks that need the whole head.
    fn whole<'b>(&self, bytes: &'b [u8]) -> Result<Head<'b>, Violation> {
        let part = |span: Option<Span>| span.map_or(&[][..], |span| span.of(bytes));
        let (method, target, host) = (part(self.method), part(self.target), part(self.host));
        if self.host.is_none() {
            return Err(Violation::HostMissing);
        }
        if self.authority.is_some_and(|authority| authority.of(bytes) != host) {
            return Err(Violation::HostMismatch);
        }
        let framing = match (self.content_length, self.chunked) {
            (Some(_), true) => return Err(Violation::TwoFramings),
            (None, true) if self.http10 => return Err(Violation::TransferEncodingVersion),
            (None, true) => Framing::Chunked,
            (Some(length), false) => Framing::Length(length),
            (None, false) => Framing::None,
        };
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        if has_body && field::has_no_body(method) {
            return Err(Violation::UnexpectedBody);
        }
        let upgrade = self.websocket && !self.http10;
        if upgrade && (has_body || method != b"GET" || !self.connection.upgrade) {
            return Err(Violation::UpgradeInvalid);
        }
        Ok(Head {
            length: self.line,
            version: if self.http10 { Version::Http10 } else { Version::Http11 },
            method,
            target,
            host,
            framing,
            upgrade,
            other_upgrade: self.upgrades && !upgrade,
            expects_continue: self.expect && has_body && !self.http10,
            close: self.connection.close,
        })
    }
}

/// RFC 9112, section 3.2: the form of a target, and the span of its authority if there is one.
fn authority(method: &[u8], target: &[u8]) -> Result<Option<Span>, Violation> {
    match target {
        [] | [b' ', ..] | [.., b' '] => Err(Violation::RequestLine),
        [b'/', ..] => path(target).map(|()| None),
        b"*" if method == b"OPTIONS" => Ok(None),
        _ => {
            let begins = |with: &[u8]| target.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
            let begin = [&b"http://"[..], b"https://"].into_iter().find(|scheme| begins(scheme)).map(<[u8]>::len);
            let begin = begin.ok_or_else(|| path(target).err().unwrap_or(Violation::TargetForm))?;
            let rest = &target[begin..];
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            if !host::is_valid(&rest[..end]) {
                return Err(Violation::TargetForm);
            }
            path(&rest[end..]).map(|()| Some(Span(begin, begin + end)))
        }
    }
}

/// Whether path and query consist of bytes that they may have, and the path has one reading.
///
/// # Errors
///
/// The rule that they break.
pub fn path(target: &[u8]) -> Result<(), Violation> {
    let (mut end, mut seen) = (0, 0);
    for byte in target {
        let class = class(*byte);
        if class & PATH == 0 {
            break;
        }
        seen |= class;
        end += 1;
    }
    match &target[end..] {
        [] => {}
        [b'?', query @ ..] if bytes::all(query, QUERY) => {}
        _ => return Err(Violation::TargetByte),
    }
    if seen & SUBTLE != 0 && is_ambiguous(&target[..end]) { Err(Violation::Path) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
