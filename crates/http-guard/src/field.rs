//! Headers that frame, route or describe the connection: their names, and what their values may say.
//!
//! A name is also compared by its letters and digits alone. Servers that pass headers on as variables (CGI, WSGI) make
//! `Content_Length` and `Content-Length` one, and then it frames or forges. Such names are refused, not dropped: a
//! header that is dropped silently takes long to find.

use super::bytes::is_token;
use super::violation::Violation;
use super::voice;

/// The headers that validation reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Upgrade`
    Upgrade,
    /// `Expect`
    Expect,
    /// Any other.
    Other,
}

impl Name {
    /// Recognises a name, in any case.
    #[inline]
    pub fn of(name: &[u8]) -> Name {
        let (known, text): (Name, &[u8]) = match (name.len(), name.first().map(|first| first | 0x20)) {
            (4, Some(b'h')) => (Name::Host, b"host"),
            (14, Some(b'c')) => (Name::ContentLength, b"content-length"),
            (17, Some(b't')) => (Name::TransferEncoding, b"transfer-encoding"),
            (10, Some(b'c')) => (Name::Connection, b"connection"),
            (7, Some(b'u')) => (Name::Upgrade, b"upgrade"),
            (6, Some(b'e')) => (Name::Expect, b"expect"),
            _ => return Name::Other,
        };
        if name.eq_ignore_ascii_case(text) { known } else { Name::Other }
    }
}

/// Whether a name that is [`Name::Other`] could be taken for a framing header, or for one that only the gateway may
/// send. `odd`: it has a byte that is neither letter, digit nor hyphen.
#[inline]
pub fn is_lookalike(name: &[u8], odd: bool) -> bool {
    // Without an odd byte only hyphens can differ, and the shortest name in question has fourteen bytes.
    let first = name.first().map_or(0, |first| first | 0x20);
    let suspect = odd || name.len() >= 14 && matches!(first, b'c' | b't' | b'-');
    suspect && looks_alike(name, odd)
}

#[cold]
fn looks_alike(name: &[u8], odd: bool) -> bool {
    let mut letters = [0; 24];
    let mut count = 0;
    let mut cut = false;
    for byte in name.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
        match letters.get_mut(count) {
            Some(place) => *place = byte.to_ascii_lowercase(),
            None => {
                cut = true;
                break;
            }
        }
        count += 1;
    }
    let letters = &letters[..count];
    // Also with one more letter in place of the hyphen.
    let spells = |first: &[u8], second: &[u8]| {
        let between = letters.strip_prefix(first).and_then(|rest| rest.strip_suffix(second));
        !cut && between.is_some_and(|between| between.len() <= 1)
    };
    // Also cut short and padded with punctuation, where a comparison may skip it.
    let filled = !letters.is_empty() && name.last().is_some_and(|last| !last.is_ascii_alphanumeric());
    let padded = |text: &[u8], length: usize| filled && name.len() >= length && text.starts_with(letters);
    let ours = [&b"xforwarded"[..], b"xtollgate", b"xrequestid"].iter().any(|ours| letters.starts_with(ours));
    let whole = !cut && [&b"host"[..], b"forwarded", b"connection", b"upgrade", b"expect"].contains(&letters);
    spells(b"content", b"length")
        || spells(b"transfer", b"encoding")
        || padded(b"contentlength", 14)
        || padded(b"transferencoding", 17)
        || odd && (ours || whole || voice::of_lookalike(name).is_some())
}

/// Whether a server that takes all signs for one reads the name as `like`, although it differs. Both are in lower case.
pub fn is_spelling_of(name: &[u8], like: &[u8]) -> bool {
    let sign = |byte: u8| !byte.is_ascii_alphanumeric();
    name.len() == like.len() && name != like && name.iter().zip(like).all(|(a, b)| a == b || sign(*a) && sign(*b))
}

/// Removes spaces at both ends. Tabs stay, and make a framing value invalid: no client sends them, and not
/// every server removes them.
#[inline]
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' '] = value {
        value = rest;
    }
    value
}

/// The number of a `Content-Length`: one to eighteen digits and nothing else.
pub fn content_length(value: &[u8]) -> Result<u64, Violation> {
    if value.is_empty() || value.len() > 18 {
        return Err(Violation::ContentLengthInvalid);
    }
    value.iter().try_fold(0, |length, digit| match digit {
        b'0'..=b'9' => Ok(length * 10 + u64::from(digit - b'0')),
        _ => Err(Violation::ContentLengthInvalid),
    })
}

/// Whether servers disagree on a body of the method's requests (RFC 9110, sections 9.3.1, 9.3.2 and 9.3.8). A server
/// that does not read it takes it for the next request. Methods are case-sensitive, but not every server follows that.
pub fn has_no_body(method: &[u8]) -> bool {
    [&b"GET"[..], b"HEAD", b"TRACE"].into_iter().any(|without| method.eq_ignore_ascii_case(without))
}

/// The most options in `Connection`; Pingora stops there too.
const OPTIONS_MAX: u8 = 9;

/// The options of all `Connection` headers of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The number of options so far.
    pub options: u8,
    /// `upgrade` is listed.
    pub upgrade: bool,
    /// `close` is listed.
    pub close: bool,
}

impl Connection {
    /// Adds one header's value.
    ///
    /// # Errors
    ///
    /// The list is malformed or too long, or names a header that does not belong to the connection by definition. A
    /// header named here is removed on the way (RFC 9110, section 7.6.1): credentials that were verified, cookies by
    /// which a release was chosen, headers that the gateway itself added. So this is a list of what is allowed; a list
    /// of what is dangerous would never be complete.
    pub fn add(&mut self, value: &[u8]) -> Result<(), Violation> {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty()) {
            self.options += 1;
            if self.options > OPTIONS_MAX {
                return Err(Violation::ConnectionTooLong);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !is_token(option) {
                return Err(Violation::ConnectionInvalid);
            } else if !HOP_BY_HOP.iter().any(|known| option.eq_ignore_ascii_case(known)) {
                return Err(Violation::ConnectionNominates);
            }
        }
        Ok(())
    }
}

/// The headers that `Connection` may name beside `close` and `upgrade`.
const HOP_BY_HOP: [&[u8]; 6] = [b"keep-alive", b"te", b"trailer", b"trailers", b"http2-settings", b"proxy-connection"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(Name::of(b"hOST"), Name::Host);
        assert_eq!(Name::of(b"Transfer-Encoding"), Name::TransferEncoding);
        assert_eq!(Name::of(b"content-length"), Name::ContentLength);
        assert_eq!(Name::of(b"content_length"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }

    #[test]
    fn lookalikes_are_told_from_neighbours() {
        let odd = |name: &str| name.bytes().any(|b| !b.is_ascii_alphanumeric() && b != b'-');
        for name in [
            "content_length",
            "Content.Length",
            "Content--Length",
            "-Content-Length",
            "Content-Length-",
            "ContentXLength",
            "transfer_encoding",
            "Transfer-Encoding_",
            "transfer+encoding",
            "TransferXEncoding",
            "x_forwarded_for",
            "X-Forwarded_Proto",
            "x_tollgate_app",
            "x_request_id",
            "forwarded_",
            "host_",
            "!host",
            "conn_ection",
            "x_real_ip",
            "True_Client-IP",
            "x.original.url",
            "Content-Leng..",
            "transfer-enc-----",
        ] {
            assert!(is_lookalike(name.as_bytes(), odd(name)), "{name}");
        }
        for name in [
            "content-encoding",
            "content-type",
            "content-length-range",
            "x-content-length",
            "transfer-encodings",
            "x_user_id",
            "x-forwarded-for",
            "x-tollgate-app",
            "x-real-ip",
            "x_host",
            "trailer",
            "content-security-policy",
            "user_agent",
            "$wssc",
        ] {
            assert!(!is_lookalike(name.as_bytes(), odd(name)), "{name}");
        }
    }

    #[test]
    fn spellings_differ_in_their_signs_alone() {
        assert!(is_spelling_of(b"x_auth_user", b"x-auth-user"));
        assert!(is_spelling_of(b"x-auth.user", b"x-auth-user"));
        assert!(is_spelling_of(b"x-auth-user", b"x_auth_user"));
        for name in ["x-auth-user", "x-auth-users", "xxauth-user", "x--auth-use"] {
            assert!(!is_spelling_of(name.as_bytes(), b"x-auth-user"), "{name}");
        }
    }

    #[test]
    fn lengths_are_digits() {
        assert_eq!(content_length(b"0"), Ok(0));
        assert_eq!(content_length(b"999999999999999999"), Ok(999_999_999_999_999_999));
        for value in ["", "1000000000000000000", "+1", "-1", "1,1", "1 1", "0x1", "1.0", "1e3", "\t1", "1;", "\u{661}"]
        {
            assert_eq!(content_length(value.as_bytes()), Err(Violation::ContentLengthInvalid), "{value}");
        }
    }

    #[test]
    fn a_connection_takes_nothing_of_ours_out() {
        let add = |values: &[&str]| {
            let mut all = Connection::default();
            values.iter().try_for_each(|value| all.add(value.as_bytes())).map(|()| all)
        };
        assert_eq!(add(&["keep-alive, Upgrade,"]), Ok(Connection { options: 2, upgrade: true, close: false }));
        assert_eq!(add(&["CLOSE", "TE, Trailers"]), Ok(Connection { options: 3, upgrade: false, close: true }));
        // Java's client says this by default, old ones the other.
        assert_eq!(add(&["Upgrade, HTTP2-Settings"]), Ok(Connection { options: 2, upgrade: true, close: false }));
        assert_eq!(add(&["Proxy-Connection"]), Ok(Connection { options: 1, upgrade: false, close: false }));
        assert_eq!(add(&["te,te,te,te,te", "te,te,te,te,te"]), Err(Violation::ConnectionTooLong));
        assert_eq!(add(&["a b"]), Err(Violation::ConnectionInvalid));
        assert_eq!(add(&[":authority"]), Err(Violation::ConnectionInvalid));
        for name in [
            "Host",
            "content-length",
            "TRANSFER-ENCODING",
            "X-Forwarded-For",
            "x-tollgate-app",
            "X-Request-ID",
            "Forwarded",
            "Authorization",
            "Cookie",
            "Proxy-Authorization",
            "Idempotency-Key",
            "Signature",
            "Signature-Input",
            "Content-Digest",
            "X-API-Key",
            "x-mine",
        ] {
            assert_eq!(add(&["close", name]), Err(Violation::ConnectionNominates), "{name}");
        }
    }
}
