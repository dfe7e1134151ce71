//! The check for routes that no request can reach, because other routes take all of theirs.
//!
//! Among routes of one host pattern a prefix outranks every regex, and a route with a path outranks one without. So a
//! regex, or no path at all, under `/*` never gets a request where the conditions of the other route hold whenever its
//! own do. There is no finding where that is not certain: of a regex only a start of plain letters is evaluated, and a
//! route with several hosts, paths or both schemes is unreachable only where each of them is.

use std::collections::{BTreeSet, HashMap};

use http::{HeaderName, HeaderValue, Method};

use super::Check;
use crate::model::{HostPattern, PathPattern, Route, Scheme};
use crate::source_map::Span;

type HostSet<'r> = Option<&'r HostPattern>;
type Header<'r> = Option<&'r (HeaderName, HeaderValue)>;
type Near<'r> = (HostSet<'r>, bool, Header<'r>);

/// The patterns that can take all requests of another pattern.
struct Takers<'r> {
    routes: &'r [Route],
    /// Prefixes and regexes by host, by whether they match every path, and by the first header required: without these
    /// keys, thousands of routes would be compared in pairs.
    by: HashMap<Near<'r>, Vec<(usize, &'r PathPattern)>>,
    /// The order in which a host's regexes are tried.
    order: HashMap<(HostSet<'r>, &'r str), usize>,
}

impl Check<'_, '_> {
    /// Adds a finding for every route that never gets a request; `spans` are those of the routes.
    pub(super) fn unreachable(&mut self, routes: &[Route], spans: &[&Span]) {
        let takers = Takers::new(routes);
        for (index, route) in routes.iter().enumerate() {
            let Some(by) = takers.all_of(route).filter(|by| !by.is_empty()) else { continue };
            let places: Vec<_> = by.iter().map(|by| self.places.place(spans[*by])).collect();
            let names: Vec<String> = by.iter().map(|by| format!("`{}`", routes[*by].name)).collect();
            let at: Vec<String> = places.iter().map(|place| format!("{}:{}", place.file, place.line)).collect();
            let (noun, takes) = if by.len() == 1 { ("route", "takes") } else { ("routes", "take") };
            let message =
                format!("no request can reach route `{}`: {noun} {} {takes} all of them", route.name, names.join(", "));
            let hint = format!(
                "see {}; of one host an exact path wins over a prefix, a prefix over a regex, and any path over none: give \
                 this route such a path, or remove it",
                at.join(", ")
            );
            self.findings.at(spans[index], message, hint);
        }
    }
}

impl<'r> Takers<'r> {
    fn new(routes: &'r [Route]) -> Takers<'r> {
        let mut takers = Takers { routes, by: HashMap::new(), order: HashMap::new() };
        for (index, route) in routes.iter().enumerate() {
            for host in route.host_patterns() {
                for path in &route.paths {
                    if let PathPattern::Regex(regex) = path {
                        let last = takers.order.len();
                        takers.order.entry((host, regex.as_str())).or_insert(last);
                    }
                    if !matches!(path, PathPattern::Exact(_)) {
                        let key = (host, takes_all(path), route.headers.first());
                        takers.by.entry(key).or_default().push((index, path));
                    }
                }
            }
        }
        takers
    }

    /// The routes that take every request of this one; `None` where a request is left.
    fn all_of(&self, route: &Route) -> Option<BTreeSet<usize>> {
        let mut all = BTreeSet::new();
        for host in route.host_patterns() {
            for path in route.path_patterns() {
                for scheme in [Scheme::Http, Scheme::Https] {
                    if route.scheme.is_none_or(|own| own == scheme) {
                        all.insert(self.of(route, host, path, scheme)?);
                    }
                }
            }
        }
        Some(all)
    }

    fn of(&self, route: &Route, host: HostSet<'_>, path: Option<&PathPattern>, scheme: Scheme) -> Option<usize> {
        if matches!(path, Some(PathPattern::Exact(_) | PathPattern::Prefix(_))) {
            return None;
        }
        let kinds: &[bool] = if path.is_some() { &[true, false] } else { &[true] };
        let headers = || std::iter::once(None).chain(route.headers.iter().map(Some));
        let keys = kinds.iter().flat_map(|all| headers().map(|header| (host, *all, header)));
        let near = keys.filter_map(|key| self.by.get(&key)).flatten();
        let takes = |(taker, pattern): &&(usize, &PathPattern)| {
            let taker = &self.routes[*taker];
            !std::ptr::eq(taker, route) && self.outranks(host, pattern, path) && holds_whenever(taker, route, scheme)
        };
        near.filter(takes).map(|(taker, _)| *taker).min()
    }

    /// Whether `taker` is tried before `path` on one host, and matches all that `path` matches.
    fn outranks(&self, host: HostSet<'_>, taker: &PathPattern, path: Option<&PathPattern>) -> bool {
        let asked = path.map(|path| path.spelling().1);
        // Every path begins with a slash.
        let begins = asked.map_or("/", |regex| beginning(regex).0);
        match taker {
            PathPattern::Exact(_) => false,
            PathPattern::Prefix(prefix) => takes_all(taker) || begins.starts_with(&**prefix),
            PathPattern::Regex(regex) => {
                let (literal, whole) = beginning(regex.as_str());
                let before =
                    asked.is_none_or(|asked| self.order.get(&(host, regex.as_str())) < self.order.get(&(host, asked)));
                before && (takes_all(taker) || whole && begins.starts_with(literal))
            }
        }
    }
}

/// Whether the conditions of one route hold for all requests of the other one with this scheme.
fn holds_whenever(one: &Route, other: &Route, scheme: Scheme) -> bool {
    let takes =
        |method: &Method| one.methods.contains(method) || *method == Method::HEAD && one.methods.contains(&Method::GET);
    let methods = one.methods.is_empty() || !other.methods.is_empty() && other.methods.iter().all(takes);
    methods
        && one.scheme.is_none_or(|own| own == scheme)
        && one.headers.iter().all(|header| other.headers.contains(header))
}

/// Whether a pattern matches every path.
fn takes_all(path: &PathPattern) -> bool {
    match path {
        PathPattern::Exact(_) => false,
        PathPattern::Prefix(prefix) => prefix == "/",
        PathPattern::Regex(regex) => beginning(regex.as_str()) == ("/", true),
    }
}

/// The plain letters with which every match of a regex begins, and whether the regex matches every such path.
fn beginning(regex: &str) -> (&str, bool) {
    let (anchored, rest) = regex.strip_prefix('^').map_or((false, regex), |rest| (true, rest));
    let all = |rest: &str| matches!(rest, "" | ".*" | ".*$");
    // Every path begins with a slash.
    if all(rest.strip_prefix('/').unwrap_or(rest)) {
        return ("/", true);
    }
    if !anchored || rest.contains('|') {
        return ("", false);
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '-' | '_' | '~');
    let end = rest.find(|letter| !plain(letter)).unwrap_or(rest.len());
    let (letters, tail) = rest.split_at(end);
    // A sign after a letter may say how often the letter occurs.
    let repeated = tail.starts_with(['?', '*', '+', '{']);
    (if repeated { &letters[..letters.len().saturating_sub(1)] } else { letters }, !repeated && all(tail))
}

#[cfg(test)]
mod tests {
    use super::beginning;

    #[test]
    fn a_beginning_is_read_off_where_it_is_sure() {
        for (regex, expected) in [
            ("^/v[0-9]+/x", ("/v", false)),
            ("^/api/.*", ("/api/", true)),
            ("^/api", ("/api", true)),
            ("^/api/?", ("/api", false)),
            ("^/a{2}", ("/", false)),
            ("^/a|b", ("", false)),
            ("/a", ("", false)),
            ("(?i)^/a", ("", false)),
            ("^", ("/", true)),
            ("", ("/", true)),
            (".*", ("/", true)),
            ("^/.*$", ("/", true)),
            ("^/$", ("/", false)),
        ] {
            assert_eq!(beginning(regex), expected, "{regex}");
        }
    }
}
