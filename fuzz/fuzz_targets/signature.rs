//! Signed requests (RFC 9421): what is accepted says what was signed, and what was signed well is accepted.
//!
//! The input is one or two requests, apart by a line `--`: `METHOD scheme authority target` and `body` or not, then
//! fields. The first one is signed here by a secret, over a text that this file makes by itself, and its signature takes
//! the place of `TAG` in both. So the second one is anybody's who saw the first and does not have the secret.
#![no_main]

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use ring::{digest, hmac};
use client_auth::digest::Digests;
use client_auth::keys::Found;
use client_auth::signature::{SignatureError, Request, Signed, Signer, Window, verify};
use http_guard::host;

const NOW: u64 = 1_800_000_000;
const SKEW: u64 = 300;
const SECRET: &[u8] = b"a secret of enough bytes";
const ME: Found = Found { app: 3, key: 1 };
/// Components up to which a signature is surely looked at.
const FEW: usize = 8;

/// One request of the input.
struct Asked {
    line: [String; 4],
    body: bool,
    headers: HeaderMap,
}

/// What the first one's signature covers, and how it is written.
struct Honest {
    components: Vec<String>,
    /// All of it behind the label.
    parameters: String,
    created: u64,
    nonce: String,
}

impl Asked {
    fn read(text: &str, tag: &str) -> Option<Asked> {
        let mut lines = text.lines();
        let mut words = lines.next()?.split(' ');
        let mut word = || words.next().map(str::to_owned);
        let line = [word()?, word()?, word()?, word()?];
        let body = word().is_some_and(|last| last == "body");
        http::Method::from_bytes(line[0].as_bytes()).ok()?;
        http::Uri::try_from(&line[3]).ok()?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.replace("TAG", tag);
            let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()).ok()?;
            headers.try_append(HeaderName::from_bytes(name.as_bytes()).ok()?, value).ok()?;
        }
        let https = matches!(&*line[1], "http" | "https");
        (https && host::is_valid(line[2].as_bytes())).then_some(Asked { line, body, headers })
    }

    fn verify(&self) -> Result<Signed, SignatureError> {
        let [method, scheme, authority, target] = &self.line;
        let request = Request { method, scheme, authority, target, headers: &self.headers };
        verify(&request, self.body, Window { now_s: NOW, skew_s: SKEW }, |keyid| match keyid {
            "k1" => Signer::One(ME, SECRET),
            "both" => Signer::Several,
            _ => Signer::Nobody,
        })
    }

    /// The authority's two spellings that may be signed: in lower case and without the scheme's port, and as sent.
    fn authorities(&self) -> [String; 2] {
        let [_, scheme, authority, _] = &self.line;
        let own = if scheme == "https" { ":443" } else { ":80" };
        let lower = authority.to_lowercase();
        [lower.strip_suffix(own).unwrap_or(&lower).to_owned(), authority.clone()]
    }

    /// The value of a component (sections 2.1 and 2.2); none where it cannot be signed.
    fn value(&self, component: &str, authority: &str) -> Option<String> {
        let [method, scheme, _, target] = &self.line;
        let rest = match target.find("://") {
            _ if target.starts_with('/') => target.clone(),
            None => return None,
            Some(at) => {
                let rest = &target[at + 3..];
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                if rest[end..].starts_with('/') { rest[end..].to_owned() } else { format!("/{}", &rest[end..]) }
            }
        };
        let (path, query) = rest.split_once('?').unwrap_or((&rest, ""));
        let value = match component {
            "@method" => method.clone(),
            "@scheme" => scheme.clone(),
            "@authority" => authority.to_owned(),
            "@target-uri" => format!("{scheme}://{authority}{rest}"),
            "@request-target" => target.clone(),
            "@path" => path.to_owned(),
            "@query" => format!("?{query}"),
            _ if component.starts_with('@') => return None,
            field => {
                let lines = self.headers.get_all(field);
                let lines = lines.iter().map(|line| line.to_str().ok().map(|line| line.trim_matches([' ', '\t'])));
                let lines = lines.collect::<Option<Vec<_>>>()?;
                if lines.is_empty() {
                    return None;
                }
                lines.join(", ")
            }
        };
        value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)).then_some(value)
    }

    /// What one of its spellings is signed as.
    fn base(&self, honest: &Honest, authority: &str) -> Option<String> {
        let mut base = String::new();
        for component in &honest.components {
            base += &format!("\"{component}\": {}\n", self.value(component, authority)?);
        }
        Some(format!("{base}\"@signature-params\": {}", honest.parameters))
    }
}

impl Honest {
    /// Of a `Signature-Input` in one strict form; none of any other.
    fn read(headers: &HeaderMap) -> Option<Honest> {
        let mut lines = headers.get_all("signature-input").iter();
        let text = lines.next().filter(|_| lines.next().is_none())?.to_str().ok()?;
        let parameters = text.strip_prefix("s=")?;
        let (components, rest) = parameters.strip_prefix("(\"")?.split_once("\");created=")?;
        let (created, nonce) = rest.split_once(";keyid=\"k1\";nonce=\"")?;
        let nonce = nonce.strip_suffix('"')?;
        let created = created.parse::<u64>().ok().filter(|at| at.to_string() == created)?;
        let components: Vec<String> = components.split("\" \"").map(str::to_owned).collect();
        let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || b"-@0123456789".contains(&byte));
        let differ = components.iter().collect::<BTreeSet<_>>().len() == components.len();
        let plain = components.iter().all(|component| word(component)) && word(nonce) && nonce.len() <= 256;
        let parameters = parameters.to_owned();
        (differ && plain).then_some(Honest { components, parameters, created, nonce: nonce.to_owned() })
    }

    /// Whether it covers what it must, and is of this time.
    fn suffices(&self, body: bool) -> bool {
        let covers = |name: &str| self.components.iter().any(|component| component == name);
        let enough = covers("@method") && covers("@target-uri") && (!body || covers("content-digest"));
        enough && self.created.abs_diff(NOW) <= SKEW && !self.nonce.is_empty()
    }

    /// Whether there is no reason to refuse it.
    fn is_plain(&self, body: bool) -> bool {
        self.suffices(body) && self.components.len() <= FEW
    }
}

/// A digest that fits is the body's.
fn digests(headers: &HeaderMap, body: &[u8]) {
    let Some(mut digests) = Digests::of(headers) else { return };
    digests.update(body);
    if digests.fit() {
        let lines: String = headers.get_all("content-digest").iter().filter_map(|line| line.to_str().ok()).collect();
        // Padding may lack, and the last digit has bits to spare (RFC 8941, section 4.2.7).
        let of = |by, digits| BASE64.encode(digest::digest(by, body))[..digits].to_owned();
        let known = [of(&digest::SHA256, 42), of(&digest::SHA512, 85)];
        assert!(known.iter().any(|known| lines.contains(known)), "{lines}");
    }
}

fuzz_target!(|text: &str| {
    let (first, second) = text.split_once("\n--\n").unwrap_or((text, ""));
    let tag_of = |base: &str| BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), base.as_bytes()));
    let Some(unsigned) = Asked::read(first, "") else { return };
    digests(&unsigned.headers, b"{}");
    // Whoever does not have the secret is never believed, whatever else is said.
    assert!(unsigned.verify().is_err(), "nobody signed it");
    let Some(honest) = Honest::read(&unsigned.headers) else { return };
    let Some(base) = unsigned.base(&honest, &unsigned.authorities()[0]) else { return };
    // Nothing can be a part of what it is the signature of.
    let tag = tag_of(&base);
    let Some(asked) = Asked::read(first, &tag) else { return };
    let verdict = asked.verify();
    if asked.headers.get_all("signature").iter().eq([format!("s=:{tag}:").as_str()]) {
        let unmoved = asked.base(&honest, &asked.authorities()[0]).as_ref() == Some(&base);
        assert!(verdict.is_err() || unmoved, "something else was signed");
        assert!(verdict.is_ok() || !unmoved || !honest.is_plain(asked.body), "{verdict:?}");
    }
    for asked in [Some(asked), Asked::read(second, &tag)].into_iter().flatten() {
        let Ok(signed) = asked.verify() else { continue };
        assert_eq!((signed.by, &*signed.nonce, signed.created), (ME, honest.nonce.as_bytes(), honest.created));
        assert!(honest.suffices(asked.body) && (signed.covers_body || !asked.body));
        let mut readings = asked.authorities().map(|authority| asked.base(&honest, &authority)).into_iter().flatten();
        assert!(readings.any(|reading| reading == base), "another request was signed");
    }
});
