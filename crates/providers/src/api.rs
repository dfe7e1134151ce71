//! What a provider is asked, and what its answer means: requests that are signed as its own libraries sign them.
//!
//! Nothing here sends: a provider's [`Api`] makes a request and reads the answer. An answer whose signature is wrong, or
//! that is about something else than was asked, is [`Trouble`]: it is as if none had come. A payment or a refund that an
//! answer tells of has the meaning of the callback about it, with the same key of idempotence, so the books take the
//! one that comes first and count the other as a duplicate.

use http::{HeaderName, HeaderValue, Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::configured::{ConfigKey, Names, Need, Shape, TextError, TextKind, Values};
use crate::event::ProviderEvent;
use crate::receive::Received;
use base::units::Currency;

/// The way in which a provider's channels are called.
pub struct Outgoing {
    /// The keys that go with [`API_URL`]; each is needed with it.
    pub needs: &'static [&'static ConfigKey],
    /// Whether it takes orders in this currency.
    pub takes: fn(Currency) -> bool,
    /// The milliseconds for which a refund that is asked for again is known to be the same; none without end.
    pub same_for_ms: Option<i64>,
    /// Prepares the keys of a channel that has them all.
    pub prepare: fn(&Values, &Names<'_>, Base) -> Box<dyn Api>,
}

/// Where the provider is called.
pub const API_URL: ConfigKey = ConfigKey {
    name: "api_url",
    about: "Where the provider is called to create, query and refund payments: \"https://api.stripe.com\", \
            \"https://api.mch.weixin.qq.com\" or \"https://openapi.alipay.com/gateway.do\". Absent: it is never called.",
    shape: Shape::Text(ADDRESS),
    need: Need::Optional,
};

/// Where the provider sends the callbacks of what was created.
pub const NOTIFY_URL: ConfigKey = ConfigKey {
    name: "notify_url",
    about: "With api_url: where the provider sends its callbacks, the public address of /callbacks/NAME.",
    shape: Shape::Text(ADDRESS),
    need: Need::Optional,
};

const ADDRESS: TextKind =
    TextKind::Any { what: "an address", example: "\"https://api.example.com\"", read: |text| address(text) };

/// Reads an http address without a query; a slash at its end is cut.
fn address(text: &str) -> Result<String, TextError> {
    let own = |why| Err(TextError::Own(why, "such as \"https://api.example.com\""));
    let Ok(uri) = text.parse::<Uri>() else { return own("`{}` is not an address") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return own("`{}` is not an address of http:// or https://");
    }
    if uri.authority().is_none_or(|authority| authority.host().is_empty() || authority.as_str().contains('@')) {
        return own("`{}` names no host, or a user");
    }
    if uri.query().is_some() || text.contains('#') {
        return own("`{}` has a query or a fragment");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// An address that [`API_URL`] has read.
#[derive(Clone, Debug)]
pub struct Base(String);

impl Base {
    /// The address of these values.
    pub fn of(values: &Values) -> Option<Base> {
        values.text(&API_URL).map(|text| Base(text.to_owned()))
    }

    /// The whole of it.
    pub fn url(&self) -> &str {
        &self.0
    }

    /// An address below it, and its path with the query.
    pub fn join(&self, path: &str) -> (String, String) {
        let own = self.0.parse::<Uri>().map(|uri| uri.path().trim_end_matches('/').to_owned()).unwrap_or_default();
        (format!("{}{path}", self.0), format!("{own}{path}"))
    }

    /// The path with the query of an address of the same server; `None` if it is another's.
    pub fn path_of(&self, url: &str) -> Option<String> {
        let (own, other) = (self.0.parse::<Uri>().ok()?, url.parse::<Uri>().ok()?);
        let is_own = own.scheme() == other.scheme() && own.authority() == other.authority();
        is_own.then(|| other.path_and_query().map(|path| path.as_str().to_owned())).flatten()
    }
}

/// A text as a segment of a path.
pub fn segment(text: &str) -> String {
    const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, &ENCODED).to_string()
}

/// An order, as a provider is asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedOrder {
    /// Our id.
    pub id: String,
    /// The merchant's number.
    pub out_trade_no: String,
    /// The amount in minor units.
    pub amount_minor: i64,
    /// The currency of the amount, in upper case.
    pub currency: String,
    /// The provider's number of what was created, if it is known.
    pub number: Option<String>,
}

/// A refund, as a provider is asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedRefund {
    /// Our id.
    pub id: String,
    /// The merchant's number of the order.
    pub out_trade_no: String,
    /// The provider's number of the payment.
    pub payment_no: String,
    /// What was paid, in minor units.
    pub paid_minor: i64,
    /// The merchant's number of the refund.
    pub out_refund_no: String,
    /// The amount in minor units.
    pub amount_minor: i64,
    /// The currency of the amounts, in upper case.
    pub currency: String,
    /// The provider's number of the refund, if it is known.
    pub number: Option<String>,
}

/// A question to a provider. Asking again is harmless: each names what it is about by numbers that stay the same.
///
/// Its JSON is kept with the answer that it got, so that the answer can be read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Creates what the payer pays.
    Create(AskedOrder),
    /// Asks whether it is paid.
    Query(AskedOrder),
    /// Asks for a refund.
    Refund(AskedRefund),
    /// Asks what became of a refund.
    QueryRefund(AskedRefund),
}

impl Call {
    /// The question that tells what became of it.
    pub fn query(self) -> Call {
        match self {
            Call::Create(order) | Call::Query(order) => Call::Query(order),
            Call::Refund(refund) | Call::QueryRefund(refund) => Call::QueryRefund(refund),
        }
    }

    /// Its name in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Create(_) => "create",
            Call::Query(_) => "query",
            Call::Refund(_) => "refund",
            Call::QueryRefund(_) => "query_refund",
        }
    }
}

/// When a request is made, and its nonce.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Random bytes.
    pub nonce: [u8; 16],
}

/// A request that is ready to be sent.
pub struct ApiRequest {
    /// The method.
    pub method: Method,
    /// The address.
    pub url: String,
    /// The headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

/// Without headers and body, which may hold secrets.
impl std::fmt::Debug for ApiRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

impl ApiRequest {
    /// A request with a body of this type, and a header that authorises it.
    pub fn new(method: Method, url: String, authorization: Option<String>, kind: &'static str, body: Vec<u8>) -> Self {
        let mut headers = vec![(http::header::ACCEPT, HeaderValue::from_static("application/json"))];
        if !body.is_empty() {
            headers.push((http::header::CONTENT_TYPE, HeaderValue::from_static(kind)));
        }
        if let Some(Ok(mut value)) = authorization.map(HeaderValue::try_from) {
            value.set_sensitive(true);
            headers.push((http::header::AUTHORIZATION, value));
        }
        ApiRequest { method, url, headers, body }
    }

    /// The same with one more header.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers and body.
    pub received: Received,
}

/// What a payer needs in order to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pay {
    /// An address to open.
    Url(String),
    /// The text of a QR code.
    Qr(String),
    /// A secret for the provider's own form.
    ClientSecret(String),
}

impl Pay {
    /// The name of its field, and the text.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Pay::Url(text) => ("url", text),
            Pay::Qr(text) => ("qr", text),
            Pay::ClientSecret(text) => ("client_secret", text),
        }
    }
}

/// The meaning of a verified answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// It was created.
    Created {
        /// What the payer needs.
        pay: Pay,
        /// The provider's number, if it gave one.
        number: Option<String>,
    },
    /// It is decided: what a callback would have said.
    Decided(Box<ProviderEvent>),
    /// It is not decided.
    Open {
        /// The provider's number, if it gave one.
        number: Option<String>,
    },
    /// What was asked for has been done before: the query of it says what became of it.
    Ask,
    /// The provider does not do it, and will not.
    Refused(Refused),
}

/// A provider's refusal, in its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its code.
    pub code: String,
    /// Its message; for the merchant, not for logs.
    pub message: String,
}

impl Refused {
    /// A refusal in words of which control characters and what exceeds 256 characters are cut.
    pub fn new(code: Option<&str>, message: Option<&str>) -> Refused {
        let cut = |text: Option<&str>| -> String {
            text.unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(256).collect()
        };
        Refused { code: cut(code), message: cut(message) }
    }
}

/// An answer that decides nothing: not verified, not readable, or not final. The words are ours, with a provider's code
/// at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble(pub String);

impl Trouble {
    /// In these words.
    pub fn new(words: impl Into<String>) -> Trouble {
        Trouble(words.into())
    }

    /// A status that is temporary, or the fault of our configuration; its code is shown where it is one word.
    pub fn status(status: u16, code: Option<&str>) -> Trouble {
        let is_word = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_graphic());
        match code.filter(is_word) {
            Some(code) => Trouble(format!("it answered {status} {code}")),
            None => Trouble(format!("it answered {status}")),
        }
    }
}

/// A bill that may be downloaded.
#[derive(Debug)]
pub struct BillLink {
    /// The request that gets its bytes.
    pub request: ApiRequest,
    /// The SHA-1 of its bytes, in hex.
    pub sha1: String,
}

/// A provider's API, with a channel's keys prepared.
pub trait Api: Send + Sync + std::fmt::Debug {
    /// The request of a call.
    fn request(&self, call: &Call, at: Moment) -> ApiRequest;

    /// Verifies an answer to a call and gives its meaning.
    fn read(&self, call: &Call, answer: &Answer) -> Result<Meaning, Trouble>;

    /// The request for the bill of a day, `2026-11-21`; `None` where there is no such bill.
    fn bill(&self, _date: &str, _at: Moment) -> Option<ApiRequest> {
        None
    }

    /// Verifies the answer to [`Api::bill`], and makes the request for the bill itself.
    fn bill_link(&self, _answer: &Answer, _at: Moment) -> Result<BillLink, Trouble> {
        Err(Trouble::new("there is no such bill"))
    }
}

#[cfg(test)]
mod tests;
