//! Heads as bytes of HTTP/1.1 (RFC 9112).

use std::io::Write;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::date::get_cached_date;

use config::filter::headers::HeaderFields;

/// What an attempt changes in the head that the client sent.
#[derive(Debug, Default)]
pub struct Edits {
    removed: Vec<HeaderName>,
    added: Vec<(HeaderName, HeaderValue)>,
}

impl Edits {
    fn removes(&self, name: &HeaderName) -> bool {
        self.removed.iter().any(|removed| removed == name)
    }
}

impl HeaderFields for Edits {
    /// Nothing fails.
    type Error = Box<pingora::Error>;

    fn remove(&mut self, name: &HeaderName) {
        self.added.retain(|(added, _)| added != name);
        self.removed.push(name.clone());
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Self::Error> {
        self.remove(name);
        self.add(name, value)
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Self::Error> {
        self.added.push((name.clone(), value.clone()));
        Ok(())
    }
}

/// Writes the head of a request for a server. Headers about the client's connection stay behind (RFC 9110, section
/// 7.6.1).
pub fn request(out: &mut Vec<u8>, asked: &RequestHeader, target: Option<&[u8]>, edits: &Edits, chunked: bool) {
    out.extend_from_slice(asked.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.unwrap_or_else(|| asked.raw_path()));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let options = asked.headers.contains_key(header::CONNECTION);
    for (name, value) in &asked.headers {
        if is_of_the_connection(name) || options && is_named(&asked.headers, name) || edits.removes(name) {
            continue;
        }
        field(out, name, value);
    }
    for (name, value) in &edits.added {
        field(out, name, value);
    }
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a header is about the client's connection by definition.
fn is_of_the_connection(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::TRANSFER_ENCODING
        | header::TE
        | header::TRAILER
        | header::UPGRADE
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings"),
    }
}

/// Whether `Connection` names a header. Admission lets it name few: the others go anyway.
fn is_named(headers: &HeaderMap, name: &HeaderName) -> bool {
    matches!(name.as_str(), "close" | "trailers")
        && headers.get_all(header::CONNECTION).iter().any(|line| {
            let mut options = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            options.any(|option| option.eq_ignore_ascii_case(name.as_str().as_bytes()))
        })
}

/// Writes the head of an answer for a client. A final one says whether the connection goes on.
pub fn answer(out: &mut Vec<u8>, head: &ResponseHeader, goes_on: Option<bool>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.get_reason_phrase().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let Some(goes_on) = goes_on else {
        head.headers.iter().for_each(|(name, value)| field(out, name, value));
        out.extend_from_slice(b"\r\n");
        return;
    };
    for (name, value) in &head.headers {
        if !matches!(*name, header::DATE | header::CONNECTION) {
            field(out, name, value);
        }
    }
    field(out, &header::DATE, &get_cached_date());
    out.extend_from_slice(if goes_on { b"Connection: keep-alive\r\n\r\n" } else { b"Connection: close\r\n\r\n" });
}

/// Writes the size of a chunk, and the end of its line.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{size:x}\r\n");
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(titled(name).as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A name as it goes out: those that HTTP/1.1 peers usually see capitalised still are, as with Pingora's codec.
fn titled(name: &HeaderName) -> &str {
    match *name {
        header::ACCEPT_RANGES => "Accept-Ranges",
        header::AGE => "Age",
        header::CACHE_CONTROL => "Cache-Control",
        header::CONNECTION => "Connection",
        header::CONTENT_TYPE => "Content-Type",
        header::CONTENT_ENCODING => "Content-Encoding",
        header::CONTENT_LENGTH => "Content-Length",
        header::DATE => "Date",
        header::TRANSFER_ENCODING => "Transfer-Encoding",
        header::HOST => "Host",
        header::SERVER => "Server",
        header::SET_COOKIE => "Set-Cookie",
        _ => name.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_leaves_what_is_about_its_connection() {
        let mut asked = RequestHeader::build_no_case("GET", b"/p?q", None).unwrap();
        for (name, value) in [
            ("host", "a"),
            ("connection", "keep-alive, Trailers"),
            ("keep-alive", "timeout=5"),
            ("trailers", "x"),
            ("close", "kept: nobody names it"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("x-b", "3"),
        ] {
            asked.append_header(name, value).unwrap();
        }
        let (mut edits, x_b) = (Edits::default(), HeaderName::from_static("x-b"));
        edits.add(&x_b, &HeaderValue::from_static("gone")).unwrap();
        edits.set(&x_b, &HeaderValue::from_static("4")).unwrap();
        edits.add(&x_b, &HeaderValue::from_static("5")).unwrap();
        let mut out = Vec::new();
        request(&mut out, &asked, Some(b"/other"), &edits, true);
        let expected = "GET /other HTTP/1.1\r\nHost: a\r\nclose: kept: nobody names it\r\nx-a: 1\r\nx-b: 4\r\nx-b: 5\r\n\
            Transfer-Encoding: chunked\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_answer_gets_the_date_and_the_connection_of_the_gateway() {
        let mut head = ResponseHeader::build_no_case(200, None).unwrap();
        for (name, value) in [("date", "long ago"), ("connection", "x"), ("x-a", "1")] {
            head.append_header(name, value).unwrap();
        }
        let mut out = Vec::new();
        answer(&mut out, &head, Some(false));
        let date = get_cached_date();
        let expected =
            format!("HTTP/1.1 200 OK\r\nx-a: 1\r\nDate: {}\r\nConnection: close\r\n\r\n", date.to_str().unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        let mut early = ResponseHeader::build_no_case(103, None).unwrap();
        early.append_header("link", "</a>").unwrap();
        answer(&mut out, &early, None);
        assert_eq!(out, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    }
}
