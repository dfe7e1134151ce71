//! Words of HTTP: paths, methods, headers, redirect targets.
//!
//! Paths are normalised where they are read, exactly as those of requests are. Regexes stay text here: `check` compiles
//! them once it knows that there are not too many. It also checks which headers a rule may change.

use http::{HeaderName, HeaderValue, Method};
use schemars::{Schema, json_schema};

use super::scalar::{FromText, not_a, shown};
use crate::findings::suggest;
use crate::model::Piece;
use balance::settings::HashKey;
use base::path::{is_ambiguous, normalise_path};

/// An entry of `paths`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoutePath {
    /// `/orders`
    Exact(String),
    /// `/orders/*`, kept as `/orders/`
    Prefix(String),
    /// `~^/v[0-9]+/`, without the `~`
    Regex(String),
}

impl FromText for RoutePath {
    const WHAT: &'static str = "a path";
    const EXAMPLE: &'static str = "\"/orders\", \"/orders/*\" or \"~^/v[0-9]+/orders\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^[/~]" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        if let Some(regex) = text.strip_prefix('~') {
            return Ok(RoutePath::Regex(regex.to_owned()));
        }
        let (path, prefix) = match text.strip_suffix("/*") {
            Some(start) => (format!("{start}/"), true),
            None => (text.to_owned(), false),
        };
        if path.contains('*') {
            return Err(format!(
                "`{}`: `*` may only stand at the end, after a `/`\n\"/orders/*\", or a regex such as \"~^/orders\"",
                shown(text)
            ));
        }
        check_path::<Self>(&path)?;
        let path = normalise_path(&path).into_owned();
        Ok(if prefix { RoutePath::Prefix(path) } else { RoutePath::Exact(path) })
    }
}

/// The start of a path: `strip_prefix`, `add_prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStart(pub String);

impl FromText for PathStart {
    const WHAT: &'static str = "the start of a path";
    const EXAMPLE: &'static str = "\"/api\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^/" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        check_path::<Self>(text)?;
        Ok(PathStart(normalise_path(text).into_owned()))
    }
}

fn check_path<T: FromText>(path: &str) -> Result<(), String> {
    let text = shown(path);
    if !path.starts_with('/') {
        return Err(format!("`{text}` does not begin with `/`\nsuch as {}", T::EXAMPLE));
    }
    if path.contains(['?', '#']) {
        return Err(format!("`{text}` has a query or a fragment\nonly the path: paths are compared without the query"));
    }
    if let Some(bad) = path.chars().find(|letter| !letter.is_ascii_graphic()) {
        let escaped: String = bad.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        return Err(format!("`{text}` holds a character that never travels in a path\nwrite it as `{escaped}`"));
    }
    if is_ambiguous(path.as_bytes()) {
        return Err(format!(
            "`{text}` has a dot segment that only some servers see, and no request gets in with one\n\
             write the path without dots, `%00` and `\\`"
        ));
    }
    Ok(())
}

/// The target of a probe: a path, with or without a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePath(pub String);

impl FromText for ProbePath {
    const WHAT: &'static str = "a path";
    const EXAMPLE: &'static str = "\"/health\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^/" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let valid = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if valid { Ok(ProbePath(text.to_owned())) } else { Err(not_a::<Self>(text)) }
    }
}

impl FromText for Method {
    const WHAT: &'static str = "a method";
    const EXAMPLE: &'static str = "\"GET\" or \"POST\"";
    fn from_text(text: &str) -> Result<Self, String> {
        if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let upper = shown(&text.to_ascii_uppercase());
            return Err(format!("`{}` is not a method: methods are upper-case\nwrite \"{upper}\"", shown(text)));
        }
        Method::from_bytes(text.as_bytes()).map_err(|_| not_a::<Self>(text))
    }
}

impl FromText for HeaderName {
    const WHAT: &'static str = "a header name";
    const EXAMPLE: &'static str = "\"x-tenant\"";
    fn from_text(text: &str) -> Result<Self, String> {
        HeaderName::from_bytes(text.as_bytes()).map_err(|_| not_a::<Self>(text))
    }
}

impl FromText for HeaderValue {
    const WHAT: &'static str = "a header value";
    const EXAMPLE: &'static str = "\"acme\"; no control characters";
    fn from_text(text: &str) -> Result<Self, String> {
        // Blanks around a value do not survive the wire, so a rule with them could never match.
        let trimmed = text.trim_matches([' ', '\t']) == text;
        let value = HeaderValue::from_bytes(text.as_bytes()).ok().filter(|_| trimmed);
        value.ok_or_else(|| not_a::<Self>(text))
    }
}

/// The name of a cookie, case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(pub String);

impl FromText for CookieName {
    const WHAT: &'static str = "a cookie name";
    const EXAMPLE: &'static str = "\"uid\"";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        // Names of cookies and of headers are both tokens of HTTP.
        let name = HeaderName::from_bytes(text.as_bytes());
        name.map(|_| CookieName(text.to_owned())).map_err(|_| not_a::<Self>(text))
    }
}

impl FromText for HashKey {
    const WHAT: &'static str = "a hash key";
    const EXAMPLE: &'static str = "\"header:x-user-id\", \"cookie:uid\", \"query:user\", \"path\" or \"ip\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^(ip|path|(header|cookie|query):.+)$" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
        match (kind, name) {
            ("ip", None) => Ok(HashKey::Ip),
            ("path", None) => Ok(HashKey::Path),
            ("header", Some(name)) => HeaderName::from_text(name).map(HashKey::Header),
            ("cookie", Some(name)) => CookieName::from_text(name).map(|name| HashKey::Cookie(name.0)),
            ("query", Some(name)) if !name.is_empty() => Ok(HashKey::Query(name.to_owned())),
            _ => Err(not_a::<Self>(text)),
        }
    }
}

/// `redirect.to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub Vec<Piece>);

impl FromText for Target {
    const WHAT: &'static str = "a redirect target";
    const EXAMPLE: &'static str = "\"https://{host}{path}{query}\"";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(|letter| !letter.is_ascii_graphic()) {
            return Err(not_a::<Self>(text));
        }
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let unmatched = || format!("`{}` has an unmatched brace\nsuch as {}", shown(text), Self::EXAMPLE);
            let (literal, variable) = rest.split_at(at);
            if !literal.is_empty() {
                pieces.push(Piece::Text(literal.to_owned()));
            }
            let (name, after) =
                variable.strip_prefix('{').and_then(|open| open.split_once('}')).ok_or_else(unmatched)?;
            pieces.push(variable_named(name)?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Target(pieces))
    }
}

fn variable_named(name: &str) -> Result<Piece, String> {
    match name {
        "scheme" => Ok(Piece::Scheme),
        "host" => Ok(Piece::Host),
        "path" => Ok(Piece::Path),
        "query" => Ok(Piece::Query),
        _ => {
            let hint = suggest(name, &["scheme", "host", "path", "query"], "allowed in braces");
            Err(format!("`{{{}}}` is not a variable of a redirect\n{hint}", shown(name)))
        }
    }
}
