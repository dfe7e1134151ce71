//! Where requests end in the bytes of an HTTP/1.x connection, and which bytes may go on.
//!
//! The verdicts are [`http_guard`]'s. This module puts them in order: a head, its body, and nothing until the request
//! has ended. A fault in a body that arrived together with its head is reported at the next look, so that the head goes
//! on and the refusal has a request to belong to.

use std::ops::Range;

use super::watch::{Cause, ClientWatch, RefusedRequest};
use crate::runtime::snapshot::listener::Bounds;
use base::clock;
use http_guard::chunked::{Chunked, Step};
use http_guard::head::{Field, Framing as Frame, Judge, Judged, Refusal};
use http_guard::violation::Violation;

/// The meaning of the next bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// A head.
    #[default]
    Head,
    /// A body.
    Body,
    /// The next request, whose turn has not come.
    Between,
    /// Bytes without meaning here.
    Raw,
}

/// The position in a connection's bytes.
#[derive(Debug, Default)]
pub struct Framing {
    phase: Phase,
    judge: Judge,
    /// Bytes still to come of a body with a length.
    left: u64,
    /// The framing of a chunked body.
    chunked: Option<Box<Chunked>>,
    /// A fault seen but not yet reported.
    fault: Option<Violation>,
}

impl Framing {
    /// For bytes with framing of their own.
    pub fn raw() -> Framing {
        Framing { phase: Phase::Raw, ..Framing::default() }
    }

    /// The meaning of the next bytes.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The request ended: a head follows.
    pub fn next(&mut self) {
        self.judge.reset();
        (self.phase, self.left, self.chunked, self.fault) = (Phase::Head, 0, None, None);
    }

    /// The headers of the head that was accepted last.
    pub fn fields(&self) -> &[Field] {
        self.judge.fields()
    }

    /// Nothing more may go on.
    pub fn end(&mut self) {
        self.phase = Phase::Between;
    }

    /// From now on all bytes pass.
    pub fn pass_all(&mut self) {
        self.phase = Phase::Raw;
    }

    /// How many of the bytes may go on; 0 while more are needed. They begin where the last ones that went on ended.
    pub fn clear(&mut self, bytes: &[u8], bounds: &Bounds, watch: &ClientWatch) -> Result<usize, Box<RefusedRequest>> {
        if let Some(fault) = self.fault {
            return Err(Box::new(RefusedRequest::bare(Cause::Violation(fault), false)));
        }
        let mut cleared = 0;
        if self.phase == Phase::Head {
            cleared = self.head(bytes, bounds, watch)?;
        }
        match self.phase {
            Phase::Head | Phase::Between => Ok(cleared),
            Phase::Raw => Ok(bytes.len()),
            Phase::Body => match self.body(&bytes[cleared..], |_| {}) {
                Ok(part) => Ok(cleared + part),
                Err(fault) if cleared > 0 => {
                    self.fault = Some(fault);
                    Ok(cleared)
                }
                Err(fault) => Err(Box::new(RefusedRequest::bare(Cause::Violation(fault), false))),
            },
        }
    }

    /// The length of the head with which the bytes begin; 0 while more are needed.
    pub fn head(&mut self, bytes: &[u8], bounds: &Bounds, watch: &ClientWatch) -> Result<usize, Box<RefusedRequest>> {
        match self.judge.judge(bytes, &bounds.limits()) {
            Judged::Partial => {
                watch.awaits_head(clock::now());
                Ok(0)
            }
            Judged::Refused(refusal) => Err(Box::new(refused(refusal))),
            Judged::Accepted(head) => {
                watch.has_head();
                watch.admits(head.verdict());
                self.begin(head.framing, watch);
                Ok(head.length)
            }
        }
    }

    /// How many of the bytes belong to the body, and where in them the body itself stands, without its framing.
    pub fn payload(&mut self, bytes: &[u8], data: impl FnMut(Range<usize>)) -> Result<usize, Box<RefusedRequest>> {
        self.body(bytes, data).map_err(|fault| Box::new(RefusedRequest::bare(Cause::Violation(fault), false)))
    }

    /// The most bytes that can belong to the body.
    pub fn left(&self) -> u64 {
        if self.chunked.is_some() { u64::MAX } else { self.left }
    }

    fn begin(&mut self, frame: Frame, watch: &ClientWatch) {
        match frame {
            Frame::None | Frame::Length(0) => self.phase = Phase::Between,
            Frame::Length(length) => (self.phase, self.left) = (Phase::Body, length),
            Frame::Chunked => (self.phase, self.chunked) = (Phase::Body, Some(Box::default())),
        }
        if self.phase == Phase::Body {
            watch.begins_body();
        }
    }

    fn body(&mut self, bytes: &[u8], mut data: impl FnMut(Range<usize>)) -> Result<usize, Violation> {
        let Some(chunked) = &mut self.chunked else {
            let part = self.left.min(bytes.len() as u64);
            data(0..part as usize);
            self.left -= part;
            if self.left == 0 {
                self.phase = Phase::Between;
            }
            return Ok(part as usize);
        };
        match chunked.decode(bytes, data) {
            Step::More => Ok(bytes.len()),
            Step::Done(end) => {
                (self.phase, self.chunked) = (Phase::Between, None);
                Ok(end)
            }
            Step::Refused(fault) => Err(fault),
        }
    }
}

fn refused(refusal: Refusal<'_>) -> RefusedRequest {
    let text = |bytes: Option<&[u8]>| Box::from(bytes.unwrap_or_default());
    RefusedRequest {
        cause: Cause::Violation(refusal.fault),
        method: String::from_utf8_lossy(refusal.method.unwrap_or_default()).into(),
        target: text(refusal.target),
        host: text(refusal.host),
        of_head: true,
    }
}
