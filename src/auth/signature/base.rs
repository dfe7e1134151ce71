//! The text that is signed (RFC 9421, section 2.5), made from the request as it came and in the order the client chose.
//!
//! The target is used as it was sent, before any normalising: it is what the client knows. Its authority is that of the
//! `Host`, in lower case and without the scheme's own port (section 2.2.3); a client that signs it as it stands in the
//! `Host` is understood too, since both name the same place. The scheme is how the client came, which a trusted proxy
//! may say. Whatever would need a line break or a byte beyond ASCII cannot be covered.

use std::borrow::Cow;
use std::fmt::Write;

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sfv::ListSerializer;

use super::field;
use super::input::{Component, Input};

/// The percent-encode set of `application/x-www-form-urlencoded`, with a space as `%20` (section 2.2.8).
const QUERY_PARAM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// What of a request can be signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a str,
    /// How the client came: `http` or `https`.
    pub scheme: &'a str,
    /// The authority, as sent.
    pub authority: &'a str,
    /// The target as sent: a path with its query, or a whole URI.
    pub target: &'a str,
    /// Fields of the head.
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

    /// The authority as sent, where that is another text.
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

/// The base of a signature, for one spelling of the authority; `None` where a component is not known or not there.
pub(super) fn base(request: &Request<'_>, authority: &str, input: &Input<'_>) -> Option<String> {
    let mut base = String::with_capacity(512);
    let mut line = String::new();
    for component in &input.components {
        let value = value(request, authority, component)?;
        if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            return None;
        }
        line.clear();
        let mut list = sfv::ItemSerializer::with_buffer(&mut line).bare_item(&*component.name);
        for (key, parameter) in &component.parameters {
            list = list.parameter(key, parameter);
        }
        let _ = list.finish();
        let _ = writeln!(base, "{line}: {value}");
    }
    base.push_str("\"@signature-params\": ");
    line.clear();
    parameters(&mut line, input);
    base.push_str(&line);
    Some(base)
}

/// The covered components and parameters, in strict form.
fn parameters(line: &mut String, input: &Input<'_>) {
    let mut list = ListSerializer::with_buffer(line);
    let mut inner = list.inner_list();
    for component in &input.components {
        let mut item = inner.bare_item(&*component.name);
        for (key, parameter) in &component.parameters {
            item = item.parameter(key, parameter);
        }
        let _ = item.finish();
    }
    let mut outer = inner.finish();
    for (key, parameter) in &input.parameters {
        outer = outer.parameter(key, parameter);
    }
    let _ = outer.finish();
}

/// The value of a component (sections 2.1 and 2.2).
fn value<'r>(request: &Request<'r>, authority: &str, component: &Component<'_>) -> Option<Cow<'r, str>> {
    let name = component.name.as_str();
    if name == "@query-param" {
        return query_param(request, component).map(Cow::Owned);
    }
    if !component.parameters.is_empty() {
        return None;
    }
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

/// The value of a query's parameter that stands there once, encoded anew (section 2.2.8).
fn query_param(request: &Request<'_>, component: &Component<'_>) -> Option<String> {
    let [(key, sfv::BareItemFromInput::String(wanted))] = component.parameters.as_slice() else { return None };
    if key.as_str() != "name" {
        return None;
    }
    let coded = |text: &str| {
        let spaced = text.replace('+', " ");
        let text = percent_decode_str(&spaced).decode_utf8_lossy().into_owned();
        utf8_percent_encode(&text, QUERY_PARAM).to_string()
    };
    let pairs = request.path_and_query()?.1?.split('&').filter(|pair| !pair.is_empty());
    let mut values = pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (coded(name) == wanted.as_str()).then(|| coded(value))
    });
    let only = values.next()?;
    values.next().is_none().then_some(only)
}
