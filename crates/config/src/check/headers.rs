//! Which headers a rule may touch.
//!
//! What frames a message or belongs to one connection is the gateway's own: a rule that set or removed it could part
//! client and server over where a message ends. `host` may be set for the request, but never removed.

use http::{HeaderName, HeaderValue};

use super::{Check, twice};
use crate::file::Sub;
use crate::file::route::{Headers, Rules};
use crate::model::HeaderRules;

/// Headers of one connection, and those that say how long a body is.
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

impl Check<'_, '_> {
    /// `request_headers`, `response_headers`.
    pub(super) fn header_rules(&mut self, rules: &Sub<Rules>) -> HeaderRules {
        let Some(rules) = rules.as_ref().map(|at| &at.value.0) else {
            return HeaderRules::default();
        };
        for name in &rules.remove {
            if OURS.contains(&name.value.0.as_str()) || name.value.0 == "host" {
                let message = format!("`{}` may not be removed", name.value.0);
                self.findings.at(&name.span, message, "the gateway keeps what frames and addresses a message");
            }
        }
        let remove = rules.remove.iter().map(|name| name.value.0.clone()).collect();
        HeaderRules { set: self.headers_to_set(&rules.set), remove }
    }

    /// Headers that are put into a message.
    pub(super) fn headers_to_set(&mut self, headers: &Headers) -> Vec<(HeaderName, HeaderValue)> {
        for (name, _) in &headers.0 {
            if OURS.contains(&name.value.0.as_str()) {
                let message = format!("`{}` may not be set", name.value.0);
                self.findings.at(&name.span, message, "the gateway itself says how a message is framed");
            }
        }
        self.header_pairs(headers)
    }

    /// Names and values; a name that is written twice in different cases is a finding.
    pub(super) fn header_pairs(&mut self, headers: &Headers) -> Vec<(HeaderName, HeaderValue)> {
        for (again, first) in twice(headers.0.iter().map(|(name, _)| (&name.value.0, &name.span))) {
            self.collision(again, "this header is written twice: names ignore case", first);
        }
        headers.0.iter().map(|(name, value)| (name.value.0.clone(), value.value.0.clone())).collect()
    }
}
