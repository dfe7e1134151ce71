//! Compressed answers, where the route says `compress = true` and the client accepts them (RFC 9110, sections 12.5.3
//! and 8.4).
//!
//! Compression comes last on the way to the client: after the decision on retry or rescue, so that no discarded answer
//! was begun. Among the codings that the client prefers equally, zstd comes before brotli and gzip: for answers made on
//! the fly it saves most for its time. These stay as they are: answers that are short, are not text, have a coding
//! already, are part of a range, or whose sender forbids it (`no-transform`) or signed the bytes (`Content-Digest` and
//! its kin). So do all answers to HTTP/1.0, which has no chunks for an unknown length. `text/event-stream` stays as it
//! is too: it gains little and any delay hurts it.
//!
//! An encoder lives for as long as the client takes to fetch its output. The account of [`memory`](mod@crate::memory)
//! therefore counts all encoders, and each client has a share. Without room the answer is sent as it is; that is
//! decided before its head is changed. The encoder itself is created for the first part of the body and dropped with
//! the last.
//!
//! A body whose length its server did not know is flushed after each part, so compression does not delay a slow stream.
//! A strong `ETag` becomes a weak one: the bytes differ, the meaning does not (section 8.8.1). An answer to HEAD and a
//! 304 describe the body that GET would bring, so they get the same headers: otherwise a cache would make its entry
//! strong again and join parts of different bytes to it. Not covered: decompression, answers that the gateway makes
//! itself, and hiding the length of a body in which a secret stands beside the client's own input (BREACH).

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, VARY,
};
use http::{Method, StatusCode, Version};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{ErrorType, OrErr, Result};

use self::encoder::Encoder;
use crate::memory::Held;

mod encoder;

/// Bodies known to be shorter would hardly shrink.
const SHORTEST: u64 = 512;
/// Headers that depend on the bytes of a body, besides `ETag`.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];
/// A failed compression.
const FAILED: ErrorType = ErrorType::new("Compression");

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// All of them, in order of preference.
    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }
}

/// An answer that is being compressed.
pub struct Compression {
    coding: Coding,
    /// Length of the body as its server sends it, if known.
    length: Option<u64>,
    state: CompressionState,
    /// Room for the encoder.
    _held: Held,
}

/// The progress of a compression.
enum CompressionState {
    /// No part has arrived.
    Waits,
    /// Never contended: Pingora requires the state to be `Sync`.
    Runs(Mutex<Encoder>),
    /// The end has been given out.
    Ended,
}

/// Decides about an answer and changes its head; `None` leaves the body as it is. `room` reserves a number of bytes for
/// an encoder, if they are free.
pub fn begin(
    asked: &RequestHeader,
    head: &mut ResponseHeader,
    room: impl FnOnce(u64) -> Option<Held>,
) -> Result<Option<Box<Compression>>> {
    if asked.method == Method::CONNECT || !is_open(head) {
        return Ok(None);
    }
    // Another client might get another answer.
    vary(head)?;
    let coding = best(&asked.headers).filter(|_| asked.version != Version::HTTP_10 && !forbids(&asked.headers));
    let Some(coding) = coding else { return Ok(None) };
    if head.status == StatusCode::NOT_MODIFIED {
        weaken(head)?;
        return Ok(None);
    }
    let length = length(&head.headers);
    let is_head = asked.method == Method::HEAD;
    let held = if is_head { None } else { room(encoder::cost(coding, length)) };
    if !is_head && held.is_none() {
        return Ok(None);
    }
    head.insert_header(CONTENT_ENCODING, HeaderValue::from_static(coding.name()))?;
    head.remove_header(&CONTENT_LENGTH);
    head.remove_header(&ACCEPT_RANGES);
    head.set_version(Version::HTTP_11);
    // For an HTTP/2 client Pingora removes it again.
    head.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    weaken(head)?;
    Ok(held.map(|held| Box::new(Compression { coding, length, state: CompressionState::Waits, _held: held })))
}

impl Compression {
    /// Compresses a part of the body, and at its `end` the rest. A body of unknown length is flushed after each part.
    pub fn part(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let part = body.take().filter(|part| !part.is_empty());
        if part.is_none() && !end {
            return Ok(());
        }
        if matches!(self.state, CompressionState::Waits) {
            let encoder = Encoder::new(self.coding, self.length).or_err(FAILED, "it did not begin")?;
            self.state = CompressionState::Runs(Mutex::new(encoder));
        }
        let CompressionState::Runs(encoder) = &mut self.state else { return Ok(()) };
        let encoder = encoder.get_mut();
        if let Some(part) = &part {
            encoder.write(part).or_err(FAILED, "of a part")?;
        }
        match end {
            true => encoder.finish().or_err(FAILED, "of the end")?,
            false if self.length.is_none() => encoder.flush().or_err(FAILED, "of a part")?,
            false => {}
        }
        // An empty part would end a chunked body.
        *body = encoder.take().filter(|part| !part.is_empty());
        if end {
            self.state = CompressionState::Ended;
        }
        Ok(())
    }

    /// Whether all output has been given out.
    pub fn ended(&self) -> bool {
        matches!(self.state, CompressionState::Ended)
    }
}

/// Whether the answer could be compressed for any client. A 304 may leave out its type: then it counts as compressible.
fn is_open(head: &ResponseHeader) -> bool {
    let headers = &head.headers;
    let untold = head.status == StatusCode::NOT_MODIFIED;
    !head.status.is_informational()
        && !matches!(head.status.as_u16(), 204..=206)
        && length(headers).is_none_or(|length| length >= SHORTEST)
        && headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity")
        && !headers.contains_key(CONTENT_RANGE)
        && !DIGESTS.iter().any(|name| headers.contains_key(name))
        && !forbids(headers)
        && headers.get(CONTENT_TYPE).map_or(untold, |kind| is_text(kind.as_bytes()))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `Cache-Control: no-transform` (RFC 9111, sections 5.2.1.6 and 5.2.2.6).
fn forbids(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')).any(|option| {
        // An option may have a value, which does not matter here.
        let name = option.split(|b| *b == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"no-transform")
    })
}

/// Whether a media type is text, or something else that shrinks.
fn is_text(kind: &[u8]) -> bool {
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match kind.as_slice() {
        b"text/event-stream" => false,
        b"application/json" | b"application/javascript" | b"application/x-javascript" | b"application/xml" => true,
        b"application/wasm" | b"application/manifest+json" | b"application/x-ndjson" | b"application/graphql" => true,
        b"application/rtf" | b"application/yaml" | b"application/toml" | b"application/sql" => true,
        b"application/vnd.ms-fontobject" | b"application/x-font-ttf" | b"font/ttf" | b"font/otf" => true,
        b"image/svg+xml" | b"image/bmp" | b"image/x-icon" | b"image/vnd.microsoft.icon" => true,
        kind if kind.starts_with(b"application/grpc") => false,
        kind => kind.starts_with(b"text/") || kind.ends_with(b"+json") || kind.ends_with(b"+xml"),
    }
}

/// The supported coding that the client prefers; `None` if it accepts none of them or prefers no coding.
pub fn best(headers: &HeaderMap) -> Option<Coding> {
    let mut weights = [None; Coding::ALL.len()];
    let (mut others, mut identity) = (None, None);
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    for element in lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')) {
        let mut parts = element.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let Some(weight) = weight(parts) else { continue };
        match name.as_slice() {
            b"zstd" => weights[0] = Some(weight),
            b"br" => weights[1] = Some(weight),
            b"gzip" | b"x-gzip" => weights[2] = Some(weight),
            b"identity" => identity = Some(weight),
            b"*" => others = Some(weight),
            _ => {}
        }
    }
    let weighted =
        Coding::ALL.into_iter().zip(weights).map(|(coding, weight)| (coding, weight.or(others).unwrap_or(0)));
    // Of equal ones the first wins, so not `max_by_key`.
    let best = weighted.fold((Coding::Zstd, 0), |best, next| if next.1 > best.1 { next } else { best });
    (best.1 > 0 && best.1 >= identity.unwrap_or(0)).then_some(best.0)
}

/// `q`, in thousandths; 1,000 without one, `None` if it is invalid.
fn weight<'p>(parameters: impl Iterator<Item = &'p [u8]>) -> Option<u16> {
    for parameter in parameters {
        let Some(value) = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q=")) else { continue };
        let value: f32 = std::str::from_utf8(value).ok()?.parse().ok()?;
        return (0.0..=1.0).contains(&value).then_some((value * 1e3).round() as u16);
    }
    Some(1_000)
}

/// Adds `Vary: Accept-Encoding` unless it is present.
fn vary(head: &mut ResponseHeader) -> Result<()> {
    let named = head.headers.get_all(VARY).iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let mut named = named.map(<[u8]>::trim_ascii);
    if named.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")) {
        return Ok(());
    }
    head.append_header(VARY, HeaderValue::from_static("Accept-Encoding")).map(drop)
}

/// Makes a strong `ETag`, which promises the same bytes, weak; drops an invalid one.
fn weaken(head: &mut ResponseHeader) -> Result<()> {
    let Some(tag) = head.headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else { return Ok(()) };
    let weak = tag.as_bytes().starts_with(b"\"").then(|| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()));
    match weak {
        Some(Ok(weak)) => head.insert_header(ETAG, weak),
        _ => {
            head.remove_header(&ETAG);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::{Account, Kind};

    fn asked(accepts: &str) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        head.insert_header(ACCEPT_ENCODING, accepts).unwrap();
        head
    }

    fn answer(headers: &[(&str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header(CONTENT_TYPE, "text/html; charset=utf-8").unwrap();
        headers.iter().for_each(|(n, v)| head.insert_header((*n).to_owned(), *v).unwrap());
        head
    }

    fn begun(asked: &RequestHeader, head: &mut ResponseHeader) -> bool {
        let account = Arc::new(Account::new(1 << 30));
        begin(asked, head, |bytes| account.try_hold(Kind::Encoders, bytes)).unwrap().is_some()
    }

    #[test]
    fn the_client_chooses_and_we_break_ties() {
        for (accepts, coding) in [
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip", Some(Coding::Gzip)),
            ("X-GZIP", Some(Coding::Gzip)),
            ("gzip;q=1.0, br;q=0.8", Some(Coding::Gzip)),
            ("br ; q=0.5,gzip;Q=0.5", Some(Coding::Brotli)),
            ("zstd;q=0, *", Some(Coding::Brotli)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0, gzip;q=0.001", Some(Coding::Gzip)),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=2", None),
            ("gzip;q=x", None),
            ("deflate, compress", None),
            ("", None),
        ] {
            assert_eq!(best(&asked(accepts).headers), coding, "{accepts}");
        }
        assert_eq!(best(&HeaderMap::new()), None, "without a word nothing is coded");
    }

    #[test]
    fn what_is_left_alone() {
        for headers in [
            &[("content-type", "image/png")][..],
            &[("content-type", "text/event-stream")],
            &[("content-type", "application/grpc+json")],
            &[("content-type", "application/octet-stream")],
            &[("content-encoding", "br")],
            &[("content-length", "511")],
            &[("cache-control", "public, No-Transform")],
            &[("content-range", "bytes 0-1/2")],
            &[("content-digest", "sha-256=:YQ==:")],
        ] {
            let mut head = answer(headers);
            let before = head.headers.clone();
            assert!(!begun(&asked("gzip"), &mut head), "{headers:?}");
            assert_eq!(head.headers, before, "{headers:?}");
        }
        for status in [204, 205, 206, 101] {
            let mut head = answer(&[]);
            head.set_status(status).unwrap();
            assert!(!begun(&asked("gzip"), &mut head), "{status}");
            assert_eq!(head.headers.get(VARY), None, "{status}");
        }
        let mut old = asked("gzip");
        old.set_version(Version::HTTP_10);
        assert!(!begun(&old, &mut answer(&[])));
    }

    #[test]
    fn the_head_tells_what_was_done() {
        let mut head =
            answer(&[("content-length", "4096"), ("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "Origin")]);
        assert!(begun(&asked("br"), &mut head));
        let get = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get("content-encoding"), Some("br"));
        assert_eq!((get("content-length"), get("accept-ranges")), (None, None));
        assert_eq!(get("etag"), Some("W/\"a\""));
        let vary: Vec<_> = head.headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["Origin", "Accept-Encoding"]);

        let mut head = answer(&[("vary", "accept-encoding"), ("etag", "odd")]);
        assert!(begun(&asked("zstd"), &mut head));
        assert_eq!((head.headers.get_all(VARY).iter().count(), head.headers.get(ETAG)), (1, None));

        let mut head = answer(&[]);
        assert!(!begun(&asked("deflate"), &mut head));
        assert_eq!(head.headers[VARY], "Accept-Encoding", "the next client may take another");

        let mut head = answer(&[]);
        let mut original = asked("br");
        original.insert_header(CACHE_CONTROL, "no-transform").unwrap();
        assert!(!begun(&original, &mut head));
        assert_eq!(head.headers[VARY], "Accept-Encoding", "the next client may want no original");
    }

    #[test]
    fn without_room_it_is_sent_as_it_is() {
        let mut head = answer(&[("content-length", "4096"), ("etag", "\"a\""), ("accept-ranges", "bytes")]);
        let mut expected = head.headers.clone();
        expected.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        assert!(begin(&asked("br"), &mut head, |_| None).unwrap().is_none());
        assert_eq!(head.headers, expected);
    }

    #[test]
    fn what_has_no_body_tells_of_the_one_that_get_would_bring() {
        let mut asked_head = asked("br");
        asked_head.set_method(Method::HEAD);
        let mut head = answer(&[("content-length", "4096"), ("etag", "\"a\"")]);
        assert!(!begun(&asked_head, &mut head), "there is nothing to code");
        let told = |head: &ResponseHeader, name: &str| Some(head.headers.get(name)?.to_str().unwrap().to_owned());
        assert_eq!(told(&head, "etag").as_deref(), Some("W/\"a\""));
        assert_eq!(told(&head, "content-encoding").as_deref(), Some("br"));
        assert_eq!((told(&head, "vary").as_deref(), told(&head, "content-length")), (Some("Accept-Encoding"), None));

        let unchanged = |accepts: &str, kind: Option<&str>| {
            let mut head = ResponseHeader::build(304, None).unwrap();
            head.insert_header(ETAG, "\"a\"").unwrap();
            kind.iter().for_each(|kind| head.insert_header(CONTENT_TYPE, *kind).unwrap());
            assert!(!begun(&asked(accepts), &mut head));
            assert_eq!(head.headers.get(CONTENT_ENCODING), None);
            (told(&head, "etag").unwrap(), told(&head, "vary").is_some())
        };
        assert_eq!(unchanged("br", Some("text/css")), ("W/\"a\"".to_owned(), true));
        assert_eq!(unchanged("br", None), ("W/\"a\"".to_owned(), true), "it need not tell its type");
        assert_eq!(unchanged("", None), ("\"a\"".to_owned(), true));
        assert_eq!(unchanged("br", Some("image/png")), ("\"a\"".to_owned(), false));
    }

    #[test]
    fn an_encoder_lives_from_the_first_part_to_the_last() {
        let account = Arc::new(Account::new(1 << 30));
        let room = |bytes| account.try_hold(Kind::Encoders, bytes);
        let mut compression = begin(&asked("zstd"), &mut answer(&[]), room).unwrap().unwrap();
        assert!(matches!(compression.state, CompressionState::Waits) && account.held(Kind::Encoders) > 0);
        let mut body = Some(Bytes::new());
        compression.part(&mut body, false).unwrap();
        assert!(matches!(compression.state, CompressionState::Waits) && body.is_none(), "an empty part is none");
        body = Some(Bytes::from_static(b"some text"));
        compression.part(&mut body, false).unwrap();
        let first = body.take().expect("a stream is not held back");
        compression.part(&mut body, true).unwrap();
        let whole = [first, body.expect("an end")].concat();
        assert_eq!(zstd::stream::decode_all(&*whole).unwrap(), b"some text");
        assert!(compression.ended());
        drop(compression);
        assert_eq!(account.held(Kind::Encoders), 0);
    }
}
