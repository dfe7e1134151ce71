//! What is sealed of an endpoint: its address, which may hold a token, its secret, and the rest.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::template::Template;
use base::secret::BASE64;

/// The most events per second that an endpoint may ask for.
pub const RATE_MAX: u32 = 10_000;
/// The most attempts under way that an endpoint may ask for.
pub const CONCURRENCY_MAX: u32 = 64;
/// The most bytes of an address.
const URL_MAX: usize = 2_048;
/// The most headers, and the most bytes of a value.
const HEADERS_MAX: (usize, usize) = (16, 1_024);
/// Headers that belong to the connection or to the message.
const RESERVED: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The sealed settings of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where events go.
    pub url: String,
    /// The most events per second.
    pub rate: Option<u32>,
    /// The most attempts under way.
    pub concurrency: Option<u32>,
    /// `whsec_` and the secret that signs, in base64.
    pub secret: String,
    /// Further headers of each message, by name.
    pub headers: BTreeMap<String, String>,
    /// The text of the body's template; without one the event itself is sent.
    pub template: Option<String>,
}

impl Settings {
    /// The bytes to be sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and integers always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads unsealed bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Settings> {
        serde_json::from_slice(bytes).ok()
    }

    /// The secret as bytes.
    pub fn key(&self) -> Vec<u8> {
        secret_bytes(&self.secret).unwrap_or_default()
    }

    /// The headers as they are sent.
    pub fn header_map(&self) -> HeaderMap {
        let pair = |(name, value): (&String, &String)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        };
        self.headers.iter().filter_map(pair).collect()
    }
}

/// Checks an address. A private one is refused by name here, and by what its name leads to at each connection.
pub fn url(text: &str, allow_private: bool) -> Result<(), String> {
    let wrong = || format!("`url` is an http:// or https:// address of at most {URL_MAX} bytes.");
    if text.len() > URL_MAX {
        return Err(wrong());
    }
    let is_private = http_client::public::is_private_url(text).ok_or_else(wrong)?;
    if is_private && !allow_private {
        return Err(
            "`url` is a loopback or private address, which the merchant's allow_private = false forbids.".into()
        );
    }
    Ok(())
}

/// Checks a rate.
pub fn rate(rate: u32) -> Result<(), String> {
    let wrong = || format!("`rate` is a whole number of events per second, from 1 to {RATE_MAX}.");
    if (1..=RATE_MAX).contains(&rate) { Ok(()) } else { Err(wrong()) }
}

/// Checks a bound of attempts under way.
pub fn concurrency(attempts: u32) -> Result<(), String> {
    let wrong = || format!("`concurrency` is a number of attempts under way, from 1 to {CONCURRENCY_MAX}.");
    if (1..=CONCURRENCY_MAX).contains(&attempts) { Ok(()) } else { Err(wrong()) }
}

/// Checks headers; their names become lower case.
pub fn headers(headers: BTreeMap<String, Option<String>>) -> Result<BTreeMap<String, String>, String> {
    if headers.len() > HEADERS_MAX.0 {
        return Err(format!("`headers` has at most {} names.", HEADERS_MAX.0));
    }
    let mut checked = BTreeMap::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        if HeaderName::from_bytes(lower.as_bytes()).is_err() {
            return Err("`headers` has a name that is no header's.".to_owned());
        }
        if RESERVED.contains(&lower.as_str()) || lower.starts_with("webhook-") {
            return Err(format!("`headers` may not set `{lower}`: it belongs to the connection or to the message."));
        }
        let Some(value) = value else { return Err(format!("`headers` has no value for `{lower}`: send it again.")) };
        if value.len() > HEADERS_MAX.1 || HeaderValue::from_str(&value).is_err() {
            let most = HEADERS_MAX.1;
            return Err(format!(
                "The value of `{lower}` in `headers` has at most {most} bytes and no control characters."
            ));
        }
        if checked.insert(lower.clone(), value).is_some() {
            return Err(format!("`headers` names `{lower}` twice."));
        }
    }
    Ok(checked)
}

/// Checks a template, which is a text or the JSON itself, and returns its text.
pub fn template(template: &serde_json::Value) -> Result<String, String> {
    let text = match template {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Template::parse(&text)?.check()?;
    Ok(text)
}

/// Checks a secret.
pub fn secret(text: &str) -> Result<(), String> {
    let wrong = "`secret` is \"whsec_\" and 24 to 64 bytes in base64; leave it away to have one made.";
    secret_bytes(text).map(drop).ok_or_else(|| wrong.to_owned())
}

fn secret_bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(text.strip_prefix("whsec_")?).ok()?;
    (24..=64).contains(&bytes.len()).then_some(bytes)
}

/// A new secret; `None` if the system gives no random numbers.
pub fn new_secret() -> Option<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(format!("whsec_{}", BASE64_STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_needs_the_merchants_leave() {
        assert_eq!(url("https://shop.example/hooks?access_token=1", false), Ok(()));
        assert_eq!(url("http://127.0.0.1:80/", true), Ok(()));
        for private in
            ["http://127.0.0.1/", "http://[::1]/", "http://10.1.2.3/", "http://2130706433/", "http://169.254.169.254/"]
        {
            assert!(url(private, false).unwrap_err().contains("private"), "{private}");
        }
        for wrong in ["", "shop.example", "ftp://shop.example/", "http://"] {
            assert!(url(wrong, true).unwrap_err().contains("http"), "{wrong}");
        }
    }

    #[test]
    fn headers_of_the_connection_and_of_the_message_are_refused() {
        let one = |name: &str, value: &str| headers([(name.to_owned(), Some(value.to_owned()))].into());
        assert_eq!(one("Authorization", "Bearer x").unwrap()["authorization"], "Bearer x");
        for refused in
            ["Host", "content-length", "Connection", "transfer-encoding", "webhook-id", "Webhook-Anything", "a b", ""]
        {
            assert!(one(refused, "x").is_err(), "{refused}");
        }
        assert!(one("x-a", "a\r\nhost: evil").is_err() && one("x-a", &"x".repeat(1_025)).is_err());
        let two = [("X-A".to_owned(), Some("1".to_owned())), ("x-a".to_owned(), Some("2".to_owned()))];
        assert!(headers(two.into()).is_err());
    }

    #[test]
    fn secrets_are_those_of_standard_webhooks() {
        let made = new_secret().unwrap();
        assert_eq!(secret(&made), Ok(()));
        assert_ne!(new_secret().unwrap(), made);
        for wrong in ["", "whsec_", "whsec_AAAA", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "whsec_%%%"] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }
}
