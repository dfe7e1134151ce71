//! The sources of a release's user key: which there are, how each is written, and where a request has its value.
//!
//! The configuration reads `user` with [`UserSource::parse`]. Its findings quote [`EXAMPLES`], and its schema has
//! [`PATTERN`]. [`assignment`](crate::assignment) takes the first source that has a value in a request
//! ([`UserSource::key`]).
//!
//! The text of a source ([`Display`](fmt::Display)) is hashed into the definition of a release. If it changes, running
//! releases start anew.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::HeaderName;

use crate::assignment::RequestView;
use base::said::first_cookie;

/// An example of each kind, for findings.
pub const EXAMPLES: &str = "\"header:x-user-id\", \"cookie:uid\", \"app\", \"claim\" or \"ip\"";

/// A regular expression that fits every kind, for the schema.
pub const PATTERN: &str = "^(app|claim|ip|(header|cookie):.+)$";

/// A source of the user key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UserSource {
    /// `header:NAME`
    Header(HeaderName),
    /// `cookie:NAME`, as sent
    Cookie(String),
    /// `app`: the name of the calling app
    App,
    /// `claim`: the token's `user_claim`
    Claim,
    /// `ip`: the client's address, as text
    Ip,
}

/// Why a text is no source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserSourceError<'t> {
    /// There is no such kind.
    Kind,
    /// This is not the name of a header.
    HeaderName(&'t str),
    /// This is not the name of a cookie.
    CookieName(&'t str),
}

impl UserSource {
    /// Reads a source as it is written in the configuration.
    pub fn parse(text: &str) -> Result<UserSource, UserSourceError<'_>> {
        // Names of cookies and of headers are both tokens of HTTP.
        let token = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
        match (text, text.split_once(':')) {
            ("app", _) => Ok(UserSource::App),
            ("claim", _) => Ok(UserSource::Claim),
            ("ip", _) => Ok(UserSource::Ip),
            (_, Some(("header", name))) => token(name).map(UserSource::Header).ok_or(UserSourceError::HeaderName(name)),
            (_, Some(("cookie", name))) => {
                token(name).map(|_| UserSource::Cookie(name.to_owned())).ok_or(UserSourceError::CookieName(name))
            }
            _ => Err(UserSourceError::Kind),
        }
    }

    /// The user key that a request has by this source; an empty one counts as missing.
    pub fn key<'a>(&self, asked: &RequestView<'a>) -> Option<UserKey<'a>> {
        let sent = |text: Option<&'a [u8]>| text.filter(|text| !text.is_empty()).map(UserKey::Sent);
        match self {
            UserSource::Header(name) => sent(asked.headers.get(name).map(|value| value.as_bytes())),
            UserSource::Cookie(name) => sent(first_cookie(asked.headers, name)),
            UserSource::App => sent(asked.app.map(str::as_bytes)),
            UserSource::Claim => sent(asked.claim.map(str::as_bytes)),
            UserSource::Ip => asked.client.map(address),
        }
    }
}

/// As in the configuration.
impl fmt::Display for UserSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserSource::Header(name) => write!(f, "header:{name}"),
            UserSource::Cookie(name) => write!(f, "cookie:{name}"),
            UserSource::App => f.write_str("app"),
            UserSource::Claim => f.write_str("claim"),
            UserSource::Ip => f.write_str("ip"),
        }
    }
}

/// A user key: bytes of the request, or the text of an address.
pub enum UserKey<'a> {
    /// Bytes of the request.
    Sent(&'a [u8]),
    /// The text of an address, and its length.
    Address([u8; 48], usize),
}

impl UserKey<'_> {
    /// The key.
    pub fn bytes(&self) -> &[u8] {
        match self {
            UserKey::Sent(bytes) => bytes,
            UserKey::Address(text, length) => &text[..*length],
        }
    }
}

/// The text of an address; for IPv6 the text of its /64, which belongs to one client.
fn address<'a>(client: IpAddr) -> UserKey<'a> {
    use std::io::Write;
    let mut text = [0; 48];
    let mut rest = &mut text[..];
    // The longest text has 23 characters.
    let _ = match client.to_canonical() {
        IpAddr::V4(address) => write!(rest, "{address}"),
        IpAddr::V6(address) => write!(rest, "{}/64", Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    };
    let length = 48 - rest.len();
    UserKey::Address(text, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn key(source: &str, asked: &RequestView<'_>) -> Option<String> {
        let key = UserSource::parse(source).unwrap().key(asked)?;
        Some(String::from_utf8(key.bytes().to_vec()).unwrap())
    }

    #[test]
    fn each_kind_has_an_example_and_is_shown_as_it_is_written() {
        let all = [
            UserSource::Header("x-user-id".parse().unwrap()),
            UserSource::Cookie("uid".into()),
            UserSource::App,
            UserSource::Claim,
            UserSource::Ip,
        ];
        let examples: Vec<&str> = EXAMPLES.split('"').skip(1).step_by(2).collect();
        assert_eq!(all.each_ref().map(UserSource::to_string)[..], examples);
        assert_eq!(examples.into_iter().map(|text| UserSource::parse(text).unwrap()).collect::<Vec<_>>(), all);
        // A header's name has no case, a cookie's has.
        assert_eq!(UserSource::parse("header:X-User-Id").unwrap(), all[0]);
        assert_eq!(UserSource::parse("cookie:UID").unwrap().to_string(), "cookie:UID");
    }

    #[test]
    fn what_is_no_source_says_why() {
        for text in ["", "IP", "app:", "ip:x", "other:x", "header", "Header:x"] {
            assert_eq!(UserSource::parse(text), Err(UserSourceError::Kind), "{text}");
        }
        assert_eq!(UserSource::parse("header:a b"), Err(UserSourceError::HeaderName("a b")));
        assert_eq!(UserSource::parse("header:"), Err(UserSourceError::HeaderName("")));
        assert_eq!(UserSource::parse("cookie:a;b"), Err(UserSourceError::CookieName("a;b")));
    }

    #[test]
    fn each_kind_finds_its_value_in_a_request() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", "h-1".parse().unwrap());
        headers.insert("cookie", "a=1; uid=c-7; uid=c-8".parse().unwrap());
        let client = Some([10, 0, 0, 200].into());
        let asked = RequestView { client, app: Some("shop"), claim: Some("ada"), ..RequestView::of(&headers) };
        let found = ["header:x-user-id", "cookie:uid", "app", "claim", "ip"].map(|source| key(source, &asked));
        assert_eq!(found.map(Option::unwrap), ["h-1", "c-7", "shop", "ada", "10.0.0.200"]);
    }

    #[test]
    fn an_empty_value_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", "".parse().unwrap());
        headers.insert("cookie", "uid=".parse().unwrap());
        let asked = RequestView { app: Some(""), claim: Some(""), ..RequestView::of(&headers) };
        for source in ["header:x-user-id", "header:x-other", "cookie:uid", "cookie:other", "app", "claim", "ip"] {
            assert_eq!(key(source, &asked), None, "{source}");
        }
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let none = HeaderMap::new();
        let key = |client: &str| {
            let client = Some(client.parse().unwrap());
            key("ip", &RequestView { client, ..RequestView::of(&none) }).unwrap()
        };
        assert_eq!(key("2001:db8:1:2::1"), "2001:db8:1:2::/64");
        assert_eq!(key("2001:db8:1:2:ffff:ffff:ffff:ffff"), "2001:db8:1:2::/64");
        assert_eq!(key("2001:db8:aaaa:bbbb::"), "2001:db8:aaaa:bbbb::/64");
        assert_eq!((key("192.0.2.7"), key("::ffff:192.0.2.7")), ("192.0.2.7".into(), "192.0.2.7".into()));
    }
}
