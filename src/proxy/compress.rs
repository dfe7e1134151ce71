//! Compressed answers, where the route says `compress = true` and the client takes them (RFC 9110, sections 12.5.3 and
//! 8.4).
//!
//! It happens last, on the way to the client: after a rescue or retry was decided, so that an answer that is thrown away
//! was never begun. Of the codings that the client likes best zstd comes before brotli and gzip: for answers made on the
//! spot it gives most for the time. Left as they are: answers that are short, have no text in them, are coded already,
//! are part of a range, or whose sender forbids it (`no-transform`) or signed the bytes (`Content-Digest` and its kin);
//! all of them for HTTP/1.0, which has no chunks to send an unknown length in. `text/event-stream` stays as it is too:
//! it is worth little and any delay hurts it.
//!
//! A body whose length its server did not know is flushed with each part, so a slow stream is as slow as it was. A strong
//! `ETag` becomes a weak one: the bytes are others, the meaning is not (section 8.8.1). Not covered: decompression, and
//! answers that the gateway makes itself.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, VARY,
};
use http::{Method, Version};
use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{ErrorType, OrErr, Result};

use self::encoder::Encoder;

mod encoder;

/// Bodies known to be shorter would hardly shrink.
const SHORTEST: u64 = 512;
/// What names the bytes of a body, beside `ETag`.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];
/// A compression failed.
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
    /// All of them, the one to take first first.
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
    /// Never contended: Pingora only wants what it holds to be `Sync`.
    encoder: Mutex<Encoder>,
    /// Its length was not known.
    streams: bool,
}

/// Decides about an answer and changes its head; `None` leaves the body as it is.
pub fn begin(asked: &RequestHeader, head: &mut ResponseHeader) -> Result<Option<Box<Compression>>> {
    if !is_open(asked, head) {
        return Ok(None);
    }
    // Another client might get another answer.
    vary(head)?;
    let Some(coding) = best(&asked.headers).filter(|_| asked.version != Version::HTTP_10) else { return Ok(None) };
    let length = length(&head.headers);
    let encoder = Encoder::new(coding, length).or_err(FAILED, "it did not begin")?;
    head.insert_header(CONTENT_ENCODING, HeaderValue::from_static(coding.name()))?;
    head.remove_header(&CONTENT_LENGTH);
    head.remove_header(&ACCEPT_RANGES);
    head.set_version(Version::HTTP_11);
    // Pingora drops it again where the client speaks HTTP/2.
    head.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    weaken(head)?;
    Ok(Some(Box::new(Compression { encoder: Mutex::new(encoder), streams: length.is_none() })))
}

impl Compression {
    /// Compresses a part of the body, and at its `end` what is left. The first byte of a stream follows its cause.
    pub fn part(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let encoder = self.encoder.get_mut();
        if let Some(part) = body.as_ref().filter(|part| !part.is_empty()) {
            encoder.write(part).or_err(FAILED, "of a part")?;
        }
        match end {
            true => encoder.finish().or_err(FAILED, "of the end")?,
            false if self.streams => encoder.flush().or_err(FAILED, "of a part")?,
            false => {}
        }
        // An empty part would end a chunked body.
        *body = encoder.take().filter(|part| !part.is_empty());
        Ok(())
    }
}

/// Whether the answer could be compressed for somebody.
fn is_open(asked: &RequestHeader, head: &ResponseHeader) -> bool {
    let headers = &head.headers;
    asked.method != Method::HEAD
        && asked.method != Method::CONNECT
        && !head.status.is_informational()
        && !matches!(head.status.as_u16(), 204..=206 | 304)
        && length(headers).is_none_or(|length| length >= SHORTEST)
        && headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity")
        && !headers.contains_key(CONTENT_RANGE)
        && !DIGESTS.iter().any(|name| headers.contains_key(name))
        && !forbids(headers)
        && !forbids(&asked.headers)
        && headers.get(CONTENT_TYPE).is_some_and(|kind| is_text(kind.as_bytes()))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `Cache-Control: no-transform` (RFC 9111, sections 5.2.1.6 and 5.2.2.6).
fn forbids(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    lines.flat_map(|line| line.as_bytes().split(|b| *b == b',')).any(|option| {
        // An option may have a value, which says nothing here.
        let name = option.split(|b| *b == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"no-transform")
    })
}

/// Whether a media type is one of text, or of something else that shrinks.
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

/// The coding that the client likes best of ours; `None` where it likes none, or would rather have none.
fn best(headers: &HeaderMap) -> Option<Coding> {
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
    // Of equal ones the first is taken, so not `max_by_key`.
    let best = weighted.fold((Coding::Zstd, 0), |best, next| if next.1 > best.1 { next } else { best });
    (best.1 > 0 && best.1 >= identity.unwrap_or(0)).then_some(best.0)
}

/// `q`, in thousandths; 1,000 without one, `None` for one that is no weight.
fn weight<'p>(parameters: impl Iterator<Item = &'p [u8]>) -> Option<u16> {
    for parameter in parameters {
        let Some(value) = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q=")) else { continue };
        let value: f32 = std::str::from_utf8(value).ok()?.parse().ok()?;
        return (0.0..=1.0).contains(&value).then_some((value * 1e3).round() as u16);
    }
    Some(1_000)
}

/// Adds `Vary: Accept-Encoding` where it does not stand yet.
fn vary(head: &mut ResponseHeader) -> Result<()> {
    let named = head.headers.get_all(VARY).iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let mut named = named.map(<[u8]>::trim_ascii);
    if named.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")) {
        return Ok(());
    }
    head.append_header(VARY, HeaderValue::from_static("Accept-Encoding")).map(drop)
}

/// A strong `ETag` promises the same bytes; what is none at all is dropped.
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
    use super::*;

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
            assert!(begin(&asked("gzip"), &mut head).unwrap().is_none(), "{headers:?}");
            assert_eq!(head.headers, before, "{headers:?}");
        }
        for status in [204, 205, 206, 304, 101] {
            let mut head = answer(&[]);
            head.set_status(status).unwrap();
            assert!(begin(&asked("gzip"), &mut head).unwrap().is_none(), "{status}");
        }
        let mut old = asked("gzip");
        old.set_version(Version::HTTP_10);
        assert!(begin(&old, &mut answer(&[])).unwrap().is_none());
    }

    #[test]
    fn the_head_tells_what_was_done() {
        let mut head =
            answer(&[("content-length", "4096"), ("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "Origin")]);
        assert!(begin(&asked("br"), &mut head).unwrap().is_some());
        let get = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get("content-encoding"), Some("br"));
        assert_eq!((get("content-length"), get("accept-ranges")), (None, None));
        assert_eq!(get("etag"), Some("W/\"a\""));
        let vary: Vec<_> = head.headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["Origin", "Accept-Encoding"]);

        let mut head = answer(&[("vary", "accept-encoding"), ("etag", "odd")]);
        assert!(begin(&asked("zstd"), &mut head).unwrap().is_some());
        assert_eq!((head.headers.get_all(VARY).iter().count(), head.headers.get(ETAG)), (1, None));

        let mut head = answer(&[]);
        assert!(begin(&asked("deflate"), &mut head).unwrap().is_none());
        assert_eq!(head.headers[VARY], "Accept-Encoding", "the next client may take another");
    }
}
