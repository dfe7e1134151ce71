//! One access-log line, formatted by hand.
//!
//! A line is one JSON object with the fields that docs/operations.md lists, without empty ones. It is written straight
//! into the thread's buffer: no allocation, no intermediate value. Bytes that are not UTF-8 (a client may send any)
//! become U+FFFD. Control characters are escaped, so that a line is always one line. So are characters that move text
//! on a terminal: those of C1, and the marks that turn the direction of writing.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use base::units::Revision;

/// The content of a line. Empty strings and zero options are left out.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When the answer ended, in milliseconds since 1970.
    pub wall_ms: u64,
    /// `x-request-id`
    pub request_id: &'a [u8],
    /// The client's address.
    pub client: IpAddr,
    /// Request method.
    pub method: &'a str,
    /// Requested host.
    pub host: &'a [u8],
    /// Path as sent, without the query.
    pub path: &'a [u8],
    /// Status of the answer; 0 when none was sent.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// Time from head to end.
    pub duration: Duration,
    /// Time from the last attempt's start to the head of its answer.
    pub upstream: Option<Duration>,
    /// Route.
    pub route: &'a str,
    /// Calling app; empty if the route asks for none.
    pub app: &'a str,
    /// Arm; empty without a release.
    pub arm: &'a str,
    /// Number of the user's bucket of 10,000.
    pub bucket: Option<u16>,
    /// Release; empty without one.
    pub release: &'a str,
    /// Whether stable answered for a failed canary.
    pub rescued: bool,
    /// Attempts at servers.
    pub attempts: u32,
    /// Upstream.
    pub upstream_name: &'a str,
    /// Server of the last attempt.
    pub server: &'a str,
    /// Revision that served the request.
    pub revision: Revision,
    /// `user-agent`
    pub user_agent: &'a [u8],
    /// What went wrong.
    pub error: &'a str,
}

impl Line<'static> {
    /// A line with only the client's address.
    pub fn blank(client: IpAddr) -> Line<'static> {
        Line {
            wall_ms: 0,
            request_id: b"",
            client,
            method: "",
            host: b"",
            path: b"",
            status: 0,
            bytes: 0,
            duration: Duration::ZERO,
            upstream: None,
            route: "",
            app: "",
            arm: "",
            bucket: None,
            release: "",
            rescued: false,
            attempts: 0,
            upstream_name: "",
            server: "",
            revision: Revision(0),
            user_agent: b"",
            error: "",
        }
    }
}

impl Line<'_> {
    /// Appends the line, with its newline.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        time(out, self.wall_ms);
        out.push(b'"');
        text(out, ",\"request_id\":\"", self.request_id);
        out.extend_from_slice(b",\"client\":\"");
        address(out, self.client);
        out.push(b'"');
        text(out, ",\"method\":\"", self.method.as_bytes());
        text(out, ",\"host\":\"", self.host);
        text(out, ",\"path\":\"", self.path);
        number(out, ",\"status\":", u64::from(self.status));
        out.extend_from_slice(b",\"bytes\":");
        digits(out, self.bytes);
        millis(out, ",\"duration_ms\":", self.duration);
        if let Some(upstream) = self.upstream {
            millis(out, ",\"upstream_ms\":", upstream);
        }
        text(out, ",\"route\":\"", self.route.as_bytes());
        text(out, ",\"app\":\"", self.app.as_bytes());
        text(out, ",\"arm\":\"", self.arm.as_bytes());
        if let Some(bucket) = self.bucket {
            out.extend_from_slice(b",\"bucket\":");
            digits(out, u64::from(bucket));
        }
        text(out, ",\"release\":\"", self.release.as_bytes());
        if self.rescued {
            out.extend_from_slice(b",\"rescued\":true");
        }
        number(out, ",\"attempts\":", u64::from(self.attempts));
        text(out, ",\"upstream\":\"", self.upstream_name.as_bytes());
        text(out, ",\"server\":\"", self.server.as_bytes());
        number(out, ",\"revision\":", self.revision.0);
        text(out, ",\"user_agent\":\"", self.user_agent);
        text(out, ",\"error\":\"", self.error.as_bytes());
        out.extend_from_slice(b"}\n");
    }
}

/// RFC 3339 with milliseconds; each thread formats the part up to the second once a second.
fn time(out: &mut Vec<u8>, wall_ms: u64) {
    thread_local! {
        static SECOND: RefCell<(u64, Vec<u8>)> = const { RefCell::new((u64::MAX, Vec::new())) };
    }
    SECOND.with_borrow_mut(|(second, head)| {
        if *second != wall_ms / 1000 {
            *second = wall_ms / 1000;
            *head = base::clock::rfc3339(wall_ms).into_bytes();
            head.truncate(head.len().saturating_sub("000Z".len()));
        }
        out.extend_from_slice(head);
    });
    let ms = (wall_ms % 1000) as u16;
    out.extend_from_slice(&[b'0' + (ms / 100) as u8, b'0' + (ms / 10 % 10) as u8, b'0' + (ms % 10) as u8, b'Z']);
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (i, octet) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                digits(out, u64::from(octet));
            }
        }
        IpAddr::V6(_) => {
            use std::io::Write;
            let _ = write!(out, "{address}");
        }
    }
}

#[inline(always)]
fn digits(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline(always)]
fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    if value != 0 {
        out.extend_from_slice(key.as_bytes());
        digits(out, value);
    }
}

/// Milliseconds with three decimals.
#[inline(always)]
fn millis(out: &mut Vec<u8>, key: &str, duration: Duration) {
    let micros = duration.as_micros() as u64;
    out.extend_from_slice(key.as_bytes());
    digits(out, micros / 1000);
    let rest = (micros % 1000) as u16;
    out.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}

/// `key` is everything up to the value's first byte. If it is known at compile time, its copy is a few stores.
#[inline(always)]
fn text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(key.as_bytes());
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        escaped(out, value);
    }
    out.push(b'"');
}

/// Whether no byte needs escaping. It checks every byte without an early exit, which makes it a few vector
/// instructions.
fn is_plain(value: &[u8]) -> bool {
    let odd = |b: &u8| u8::from(*b < 0x20) | u8::from(*b >= 0x7f) | u8::from(*b == b'"') | u8::from(*b == b'\\');
    value.iter().fold(0, |any, b| any | odd(b)) == 0
}

/// Whether a character is invisible but has an effect: controls, ends of lines and paragraphs, and marks of direction.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                c if is_unseen(c) => {
                    out.extend_from_slice(b"\\u");
                    let digit = |shift: u32| b"0123456789abcdef"[(u32::from(c) >> shift & 15) as usize];
                    out.extend_from_slice(&[12, 8, 4, 0].map(digit));
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            wall_ms: 1_795_232_280_007,
            request_id: b"abc",
            client: [127, 0, 0, 1].into(),
            method: "GET",
            host: b"a.example",
            path: b"/x",
            status: 200,
            bytes: 0,
            duration: Duration::from_micros(1_204),
            upstream: None,
            route: "r",
            app: "",
            arm: "",
            bucket: None,
            release: "",
            rescued: false,
            attempts: 1,
            upstream_name: "u",
            server: "127.0.0.1:1",
            revision: Revision(3),
            user_agent: b"",
            error: "",
        }
    }

    #[test]
    fn a_line_is_one_json_object_without_empty_fields() {
        let mut out = Vec::new();
        line().write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"time":"2026-11-21T03:38:00.007Z","request_id":"abc","client":"127.0.0.1","method":"GET","#,
                r#""host":"a.example","path":"/x","status":200,"bytes":0,"duration_ms":1.204,"route":"r","attempts":1,"#,
                r#""upstream":"u","server":"127.0.0.1:1","revision":3}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_release_is_told_in_four_fields() {
        let mut out = Vec::new();
        Line { arm: "canary", bucket: Some(42), release: "v2", rescued: true, ..line() }.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(r#""route":"r","arm":"canary","bucket":42,"release":"v2","rescued":true,"attempts":1"#),
            "{text}"
        );
    }

    #[test]
    fn hostile_bytes_stay_inside_their_string() {
        let mut out = Vec::new();
        Line { user_agent: b"a\"b\\c\nd\x00\xff\xc3\xa9\x7f", ..line() }.write(&mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["user_agent"], "a\"b\\c\nd\0\u{fffd}é\u{7f}");
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
    }

    #[test]
    fn what_acts_on_a_terminal_is_told_not_done() {
        let mut out = Vec::new();
        let agent = "a\u{9b}31m\u{85}\u{202e}b\u{2066}\u{200f}\u{61c}\u{2028}\u{e9}\u{a0}\u{200d}";
        Line { user_agent: agent.as_bytes(), ..line() }.write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r"a\u009b31m\u0085\u202eb\u2066\u200f\u061c\u2028"), "{text}");
        assert!(text.contains("\u{e9}\u{a0}\u{200d}"), "letters and joiners stay: {text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["user_agent"], agent);
    }
}
