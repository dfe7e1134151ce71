//! The signature base: the text that is signed (RFC 9421, section 2.5), from the request as received
//! and in the client's order.
//!
//! The target is used as it was sent, before any normalising, since that is what the client knows. Its authority is
//! that of the `Host`, in lower case and without the scheme's own port (section 2.2.3). The authority as written in the
//! `Host` is accepted too, since both name the same place. The scheme is the client's, which a trusted proxy may tell.
//! A component whose value has a line break or a byte beyond ASCII cannot be covered.

use std::borrow::Cow;
use std::fmt::Write;

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sfv::{KeyRef, ListSerializer, StringRef, key_ref, string_ref};

use super::field;
use super::input::{Component, Input, QUERY_PARAM};

/// The percent-encode set of `application/x-www-form-urlencoded`, with a space as `%20` (section 2.2.8).
const CODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');
/// The most parameters of a query of which one may be covered; the whole target is covered anyway.
const QUERY_PARAMS_MAX: usize = 256;

/// The parts of a request that can be signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a str,
    /// The client's scheme: `http` or `https`.
    pub scheme: &'a str,
    /// The authority, as sent.
    pub authority: &'a str,
    /// The target as sent: a path with its query, or a whole URI.
    pub target: &'a str,
    /// The fields of the head.
    pub headers: &'a HeaderMap,
}

impl<'a> Request<'a> {
    /// The authority in lower case, without the scheme's own port.
    pub(super) fn normal_authority(&self) -> Cow<'a, str> {
        let port = if self.scheme == "https" { ":443" } else { ":80" };
        let bare = self.authority.strip_suffix(port).unwrap_or(self.authority);
        if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(bare.to_ascii_lowercase())
        } else {
            Cow::Borrowed(bare)
        }
    }

    /// The authority as sent, where that differs.
    pub(super) fn other_authority(&self) -> Option<Cow<'a, str>> {
        (self.normal_authority() != self.authority).then_some(Cow::Borrowed(self.authority))
    }

    /// Path and query of the target; the path of a URI without one is `/`.
    fn path_and_query(&self) -> Option<(&'a str, Option<&'a str>)> {
        let rest = match self.target.split_once("://") {
            _ if self.target.starts_with('/') => self.target,
            Some((_, rest)) => &rest[rest.find(['/', '?']).unwrap_or(rest.len())..],
            None => return None,
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        Some((if path.is_empty() { "/" } else { path }, query))
    }
}

/// The base of a signature, for one spelling of the authority; `None` where a component is unknown or absent.
pub(super) fn base(request: &Request<'_>, authority: &str, input: &Input<'_>) -> Option<String> {
    let mut base = String::with_capacity(512);
    let mut line = String::new();
    let query = QueryParams::of(request, input)?;
    for component in &input.components {
        let value = match component {
            Component::Plain(name) => value(request, authority, name.as_str())?,
            Component::QueryParam(name) => query.value(name.as_str())?,
            Component::Unknown => return None,
        };
        if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            return None;
        }
        line.clear();
        let (name, parameter) = written(component)?;
        let mut item = sfv::ItemSerializer::with_buffer(&mut line).bare_item(name);
        if let Some((key, parameter)) = parameter {
            item = item.parameter(key, parameter);
        }
        let _ = item.finish();
        let _ = writeln!(base, "{line}: {value}");
    }
    base.push_str("\"@signature-params\": ");
    line.clear();
    parameters(&mut line, input)?;
    base.push_str(&line);
    Some(base)
}

/// The covered components and parameters, in strict form.
fn parameters(line: &mut String, input: &Input<'_>) -> Option<()> {
    let mut list = ListSerializer::with_buffer(line);
    let mut inner = list.inner_list();
    for component in &input.components {
        let (name, parameter) = written(component)?;
        let mut item = inner.bare_item(name);
        if let Some((key, parameter)) = parameter {
            item = item.parameter(key, parameter);
        }
        let _ = item.finish();
    }
    let mut outer = inner.finish();
    for (key, parameter) in &input.parameters {
        outer = outer.parameter(key, parameter);
    }
    let _ = outer.finish();
    Some(())
}

/// The name and the parameter of a component, as they are signed.
fn written<'c>(component: &'c Component<'_>) -> Option<(&'c StringRef, Option<(&'static KeyRef, &'c StringRef)>)> {
    match component {
        Component::Plain(name) => Some((name, None)),
        Component::QueryParam(name) => Some((string_ref(QUERY_PARAM), Some((key_ref("name"), name)))),
        Component::Unknown => None,
    }
}

/// The value of a component without parameters (sections 2.1 and 2.2).
fn value<'r>(request: &Request<'r>, authority: &str, name: &str) -> Option<Cow<'r, str>> {
    let written = |query: Option<&str>| query.map(|query| format!("?{query}")).unwrap_or_default();
    Some(match name {
        "@method" => Cow::Borrowed(request.method),
        "@target-uri" => {
            let (path, query) = request.path_and_query()?;
            Cow::Owned(format!("{}://{authority}{path}{}", request.scheme, written(query)))
        }
        "@authority" => Cow::Owned(authority.to_owned()),
        "@scheme" => Cow::Borrowed(request.scheme),
        "@request-target" => Cow::Borrowed(request.target),
        "@path" => Cow::Borrowed(request.path_and_query()?.0),
        // An absent query is signed like an empty one.
        "@query" => Cow::Owned(format!("?{}", request.path_and_query()?.1.unwrap_or_default())),
        _ if name.starts_with('@') || name.bytes().any(|byte| byte.is_ascii_uppercase()) => return None,
        _ => field(request.headers, name)?,
    })
}

/// The values of the covered query parameters, read in one pass over the query: a pass for each would let a stranger
/// make us read it 32 times.
struct QueryParams<'a> {
    /// Names and values, sorted by name.
    found: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> QueryParams<'a> {
    /// The covered parameters of a request; `None` where one of them occurs twice, or there are too many.
    fn of(request: &Request<'a>, input: &'a Input<'_>) -> Option<QueryParams<'a>> {
        let wanted = input.components.iter().filter_map(|component| match component {
            Component::QueryParam(name) => Some((name.as_str(), None)),
            _ => None,
        });
        let mut found: Vec<(&str, Option<&str>)> = wanted.collect();
        if found.is_empty() {
            return Some(QueryParams { found });
        }
        found.sort_unstable();
        let pairs = request.path_and_query()?.1?.split('&').filter(|pair| !pair.is_empty());
        for (nth, pair) in pairs.enumerate() {
            if nth == QUERY_PARAMS_MAX {
                return None;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = coded(name);
            let Ok(at) = found.binary_search_by(|(wanted, _)| (*wanted).cmp(&name)) else { continue };
            if found[at].1.replace(value).is_some() {
                return None;
            }
        }
        Some(QueryParams { found })
    }

    /// The value of a covered parameter, encoded anew (section 2.2.8).
    fn value(&self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.found.binary_search_by(|(wanted, _)| (*wanted).cmp(name)).ok()?;
        self.found[at].1.map(coded)
    }
}

/// A name or value of a query, decoded and encoded anew.
fn coded(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8_lossy();
    Cow::Owned(utf8_percent_encode(&text, CODED).to_string())
}
