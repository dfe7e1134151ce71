//! `request_headers` and `response_headers`: first headers are removed, then set, then added.
//!
//! Headers that frame a message or belong to one connection are the gateway's own: with a rule that set or removed one,
//! client and server could disagree on where a message ends. `host` may be set, but not removed. What a message has once
//! may be set, but not added.

use std::convert::Infallible;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::check::{Check, twice};
use crate::diff::differing;
use crate::file::Sub;
use crate::file::located::Pairs;
use crate::file::scalar::{Text, Word};

/// A table of header names and values.
pub type Headers = Pairs<Text<HeaderName>, Text<HeaderValue>>;

/// Header rules: first remove, then set, then add.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderRulesForm {
    /// Headers that are set, replacing what is there.
    #[serde(default)]
    pub set: Headers,
    /// Headers that are added to what is there, each as a line of its own; one line for a name.
    #[serde(default)]
    pub add: Headers,
    /// Headers that are removed.
    #[serde(default)]
    pub remove: Vec<Word<HeaderName>>,
}

/// The rules for the headers of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderRules {
    /// Headers to set, replacing what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers to add to what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Headers to remove.
    pub remove: Vec<HeaderName>,
}

/// The headers of a message that rules apply to.
pub trait HeaderFields {
    /// Why a header cannot be set or added.
    type Error;
    /// Removes every line of a header.
    fn remove(&mut self, name: &HeaderName);
    /// Sets a header in place of what is there.
    fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Self::Error>;
    /// Adds a line of a header after those that are there.
    fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Self::Error>;
}

impl HeaderFields for HeaderMap {
    type Error = Infallible;

    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Infallible> {
        self.insert(name, value.clone());
        Ok(())
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Infallible> {
        self.append(name, value.clone());
        Ok(())
    }
}

impl HeaderRules {
    pub(super) fn check(check: &mut Check<'_, '_>, rules: &Sub<HeaderRulesForm>) -> HeaderRules {
        let Some(rules) = rules.as_ref().map(|at| &at.value.0) else {
            return HeaderRules::default();
        };
        for name in &rules.remove {
            if OURS.contains(&name.value.0.as_str()) || name.value.0 == "host" {
                let message = format!("`{}` may not be removed", name.value.0);
                check.findings.at(&name.span, message, "the gateway keeps what frames and addresses a message");
            }
        }
        let remove = rules.remove.iter().map(|name| name.value.0.clone()).collect();
        for (name, _) in rules.add.0.iter().filter(|(name, _)| SINGLE.contains(&name.value.0.as_str())) {
            let message = format!("`{}` may not be added", name.value.0);
            check.findings.at(&name.span, message, "a message has one such line: use `set`");
        }
        HeaderRules { set: to_write(check, &rules.set, "set"), add: to_write(check, &rules.add, "added"), remove }
    }

    pub(super) fn changed(&self, key: &'static str, old: &HeaderRules) -> Vec<&'static str> {
        differing([(key, self != old)])
    }

    pub(super) fn explain(&self, message: &str) -> Option<String> {
        let HeaderRules { set, add, remove } = self;
        let line = |verb: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")));
        let removed = line("removed", remove.iter().map(HeaderName::as_str).collect());
        let set = line("set", set.iter().map(|(name, _)| name.as_str()).collect());
        let added = line("added", add.iter().map(|(name, _)| name.as_str()).collect());
        let done: Vec<String> = [removed, set, added].into_iter().flatten().collect();
        (!done.is_empty()).then(|| format!("headers of {message}: {}", done.join("; ")))
    }

    /// Names that a server must not find in another spelling. Of what is added the client may send lines of its own, so
    /// another spelling gains it nothing.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let HeaderRules { set, add: _, remove } = self;
        set.iter().map(|(name, _)| name).chain(remove)
    }

    /// Applies the rules to a message.
    pub fn apply<F: HeaderFields>(&self, fields: &mut F) -> Result<(), F::Error> {
        let HeaderRules { set, add, remove: _ } = self;
        self.apply_removals(fields);
        set.iter().try_for_each(|(name, value)| fields.set(name, value))?;
        add.iter().try_for_each(|(name, value)| fields.add(name, value))
    }

    /// Applies to an informational response what applies to it: it may name less, but what the rules write is of the
    /// final response.
    pub fn apply_removals<F: HeaderFields>(&self, fields: &mut F) {
        self.remove.iter().for_each(|name| fields.remove(name));
    }
}

/// Headers of which a message has one line (RFC 9110, section 5.3; for `cookie` RFC 9113, section 8.2.3; the last two
/// are the gateway's).
const SINGLE: [&str; 14] = [
    "authorization",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "host",
    "last-modified",
    "location",
    "retry-after",
    "user-agent",
    "x-request-id",
    "x-tollgate-app",
];

/// Headers of one connection, and those that give the length of a body.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// The headers to write into a message; `done` is what the rules call it, such as `set`.
pub(crate) fn to_write(check: &mut Check<'_, '_>, headers: &Headers, done: &str) -> Vec<(HeaderName, HeaderValue)> {
    for (name, _) in &headers.0 {
        if OURS.contains(&name.value.0.as_str()) {
            let message = format!("`{}` may not be {done}", name.value.0);
            check.findings.at(&name.span, message, "the gateway itself says how a message is framed");
        }
    }
    pairs(check, headers)
}

/// Names and values; a name that is written twice in different cases is a finding.
pub(crate) fn pairs(check: &mut Check<'_, '_>, headers: &Headers) -> Vec<(HeaderName, HeaderValue)> {
    for (again, first) in twice(headers.0.iter().map(|(name, _)| (&name.value.0, &name.span))) {
        check.collision(again, "this header is written twice: names ignore case", first);
    }
    headers.0.iter().map(|(name, value)| (name.value.0.clone(), value.value.0.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_removed_then_set_then_added() {
        let (name, other) = (HeaderName::from_static("x-a"), HeaderName::from_static("x-b"));
        let mut fields = HeaderMap::new();
        fields.append(&name, HeaderValue::from_static("1"));
        fields.append(&name, HeaderValue::from_static("2"));
        fields.append(&other, HeaderValue::from_static("3"));
        let set = vec![(name.clone(), HeaderValue::from_static("new"))];
        let add = vec![(name.clone(), HeaderValue::from_static("more"))];
        let rules = HeaderRules { set, add, remove: vec![name.clone(), other] };
        rules.apply(&mut fields).unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), [&name]);
        assert_eq!(fields.get_all(&name).iter().collect::<Vec<_>>(), ["new", "more"]);
        let explained = "headers of the request: removed x-a, x-b; set x-a; added x-a";
        assert_eq!(rules.explain("the request").as_deref(), Some(explained));
        assert_eq!(HeaderRules::default().explain("the request"), None);
    }
}
