//! `request_headers` and `response_headers`: first headers are removed, then set.
//!
//! Headers that frame a message or belong to one connection are the gateway's own: with a rule that set or removed one,
//! client and server could disagree on where a message ends. `host` may be set for the request, but never removed.

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

/// Header rules: first remove, then set.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderRulesForm {
    /// Headers that are set, replacing what is there.
    #[serde(default)]
    pub set: Headers,
    /// Headers that are removed.
    #[serde(default)]
    pub remove: Vec<Word<HeaderName>>,
}

/// The rules for the headers of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderRules {
    /// Headers to set, replacing what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers to remove.
    pub remove: Vec<HeaderName>,
}

/// The headers of a message that rules apply to.
pub trait HeaderFields {
    /// Why a header cannot be set.
    type Error;
    /// Removes every line of a header.
    fn remove(&mut self, name: &HeaderName);
    /// Sets a header in place of what is there.
    fn set(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Self::Error>;
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
        HeaderRules { set: to_set(check, &rules.set), remove }
    }

    pub(super) fn changed(&self, key: &'static str, old: &HeaderRules) -> Vec<&'static str> {
        differing([(key, self != old)])
    }

    pub(super) fn explain(&self, message: &str) -> Option<String> {
        let HeaderRules { set, remove } = self;
        let named = |verb: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{verb} {}", names.join(", ")));
        let removed = named("removed", remove.iter().map(HeaderName::as_str).collect());
        let set = named("set", set.iter().map(|(name, _)| name.as_str()).collect());
        let done: Vec<String> = [removed, set].into_iter().flatten().collect();
        (!done.is_empty()).then(|| format!("headers of {message}: {}", done.join("; ")))
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Names that a server must not find in another spelling.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.set.iter().map(|(name, _)| name).chain(&self.remove)
    }

    /// Applies the rules to a message.
    pub fn apply<F: HeaderFields>(&self, fields: &mut F) -> Result<(), F::Error> {
        self.remove.iter().for_each(|name| fields.remove(name));
        self.set.iter().try_for_each(|(name, value)| fields.set(name, value))
    }
}

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

/// The headers to set in a message.
pub(crate) fn to_set(check: &mut Check<'_, '_>, headers: &Headers) -> Vec<(HeaderName, HeaderValue)> {
    for (name, _) in &headers.0 {
        if OURS.contains(&name.value.0.as_str()) {
            let message = format!("`{}` may not be set", name.value.0);
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
    fn what_is_removed_may_be_set_anew() {
        let (name, other) = (HeaderName::from_static("x-a"), HeaderName::from_static("x-b"));
        let mut fields = HeaderMap::new();
        fields.append(&name, HeaderValue::from_static("1"));
        fields.append(&name, HeaderValue::from_static("2"));
        fields.append(&other, HeaderValue::from_static("3"));
        let set = vec![(name.clone(), HeaderValue::from_static("new"))];
        let rules = HeaderRules { set, remove: vec![name.clone(), other] };
        rules.apply(&mut fields).unwrap();
        assert_eq!((fields.len(), &fields[&name]), (1, &HeaderValue::from_static("new")));
        assert_eq!(rules.explain("the request").as_deref(), Some("headers of the request: removed x-a, x-b; set x-a"));
        assert_eq!(HeaderRules::default().explain("the request"), None);
    }
}
