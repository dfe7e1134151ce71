//! The router: which route takes a request.
//!
//! Of all routes whose every condition holds the best one wins. Hosts rank first (exact, then the wildcard with the
//! longest suffix, then any), then paths (exact, then the longest prefix, then regexes in the order written, then no
//! path), then the number of conditions. A better host never shuts out a worse one: where no route below it matches,
//! the next host is tried. Ties cannot occur here: the check refuses them. A header's condition holds if every line of
//! the header has the value: of lines that differ the server may read another one.
//!
//! A lookup costs a hash of the host, one for each suffix of it, and for each host tried a hash of the path and one for
//! each segment that some prefix has. It does not depend on the number of routes; regexes are tried one by one. `allow`
//! and `deny` are not conditions: they are checked after the match and answer 403.

use ahash::AHashMap;
use http::{HeaderMap, Method};
use regex::Regex;

use crate::model::{HostPattern, PathPattern, Route, Scheme};
use base::said::every_line_is;

/// The parts of a request that routes look at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The host, lower case, without a port.
    pub host: &'a str,
    /// The path, normalised, without the query.
    pub path: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The client's scheme.
    pub scheme: Scheme,
}

/// All routes of a configuration. Numbers are indices into its `routes`.
#[derive(Debug, Default)]
pub struct Router {
    exact: AHashMap<Box<str>, Paths>,
    /// By suffix, with its dot: `.example.com`.
    suffix: AHashMap<Box<str>, Paths>,
    any: Paths,
    conditions: Vec<Conditions>,
}

/// The paths of one host, each with its routes, the one with the most conditions first.
#[derive(Debug, Default)]
struct Paths {
    exact: AHashMap<Box<str>, Vec<u32>>,
    prefixes: Prefixes,
    regexes: Vec<(Regex, Vec<u32>)>,
    any: Vec<u32>,
}

/// Prefixes by segment: `/a/b/` is the node `b` below the node `a`.
#[derive(Debug, Default)]
struct Prefixes {
    routes: Vec<u32>,
    below: AHashMap<Box<str>, Prefixes>,
}

#[derive(Debug)]
struct Conditions {
    methods: Vec<Method>,
    headers: Vec<(http::HeaderName, http::HeaderValue)>,
    scheme: Option<Scheme>,
}

impl Conditions {
    fn count(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len() + usize::from(self.scheme.is_some())
    }

    fn hold(&self, request: &Request<'_>) -> bool {
        let method = |m: &Method| m == request.method || (*m == Method::GET && *request.method == Method::HEAD);
        (self.methods.is_empty() || self.methods.iter().any(method))
            && self.scheme.is_none_or(|scheme| scheme == request.scheme)
            && self.headers.iter().all(|(name, value)| every_line_is(request.headers, name, value))
    }
}

impl Router {
    /// Builds the tables.
    pub fn new(routes: &[Route]) -> Router {
        let mut router = Router::default();
        for (index, route) in routes.iter().enumerate() {
            router.conditions.push(Conditions {
                methods: route.methods.clone(),
                headers: route.headers.clone(),
                scheme: route.scheme,
            });
            if route.hosts.is_empty() {
                router.any.add(route, index as u32);
            }
            for host in &route.hosts {
                let paths = match host {
                    HostPattern::Exact(host) => router.exact.entry(host.as_str().into()).or_default(),
                    HostPattern::Suffix(suffix) => router.suffix.entry(suffix.as_str().into()).or_default(),
                };
                paths.add(route, index as u32);
            }
        }
        let conditions = &router.conditions;
        let hosts = router.exact.values_mut().chain(router.suffix.values_mut()).chain([&mut router.any]);
        hosts.for_each(|paths| paths.sort(conditions));
        router
    }

    /// The route that takes the request.
    pub fn find(&self, request: &Request<'_>) -> Option<usize> {
        let exact = || self.exact.get(request.host);
        let dots = request.host.match_indices('.').filter(|_| !self.suffix.is_empty());
        let suffixes = dots.filter(|(at, _)| *at > 0).filter_map(|(at, _)| self.suffix.get(&request.host[at..]));
        let hosts = exact().into_iter().chain(suffixes).chain([&self.any]);
        hosts.filter_map(|paths| paths.find(request, &self.conditions)).next().map(|route| route as usize)
    }
}

impl Paths {
    fn add(&mut self, route: &Route, index: u32) {
        if route.paths.is_empty() {
            self.any.push(index);
        }
        for path in &route.paths {
            match path {
                PathPattern::Exact(path) => self.exact.entry(path.as_str().into()).or_default().push(index),
                PathPattern::Prefix(prefix) => self.prefixes.at(prefix).push(index),
                PathPattern::Regex(regex) => {
                    match self.regexes.iter_mut().find(|(r, _)| r.as_str() == regex.as_str()) {
                        Some((_, routes)) => routes.push(index),
                        None => self.regexes.push((regex.clone(), vec![index])),
                    }
                }
            }
        }
    }

    fn sort(&mut self, conditions: &[Conditions]) {
        let most_first = |routes: &mut Vec<u32>| {
            routes.sort_by_key(|route| std::cmp::Reverse(conditions[*route as usize].count()));
        };
        self.exact.values_mut().for_each(most_first);
        self.prefixes.each(&most_first);
        self.regexes.iter_mut().for_each(|(_, routes)| most_first(routes));
        most_first(&mut self.any);
    }

    fn find(&self, request: &Request<'_>, conditions: &[Conditions]) -> Option<u32> {
        let first = |routes: &[u32]| routes.iter().copied().find(|route| conditions[*route as usize].hold(request));
        let exact = if self.exact.is_empty() { None } else { self.exact.get(request.path) };
        exact
            .and_then(|routes| first(routes))
            .or_else(|| self.prefixes.find(request.path.strip_prefix('/')?, &first))
            .or_else(|| {
                self.regexes
                    .iter()
                    .filter(|(regex, _)| regex.is_match(request.path))
                    .find_map(|(_, routes)| first(routes))
            })
            .or_else(|| first(&self.any))
    }
}

impl Prefixes {
    /// The node of a prefix such as `/a/b/`.
    fn at(&mut self, prefix: &str) -> &mut Vec<u32> {
        let mut node = self;
        for segment in prefix.split('/').skip(1).filter(|segment| !segment.is_empty()) {
            node = node.below.entry(segment.into()).or_default();
        }
        &mut node.routes
    }

    fn each(&mut self, act: &impl Fn(&mut Vec<u32>)) {
        act(&mut self.routes);
        self.below.values_mut().for_each(|node| node.each(act));
    }

    /// The deepest node that contains `rest` and whose routes take the request. Recursion is as deep as the longest
    /// configured prefix, whatever the request is.
    fn find(&self, rest: &str, first: &impl Fn(&[u32]) -> Option<u32>) -> Option<u32> {
        let deeper = || {
            let (segment, rest) = rest.split_once('/')?;
            self.below.get(segment)?.find(rest, first)
        };
        if self.below.is_empty() { None } else { deeper() }.or_else(|| first(&self.routes))
    }
}

/// The host of a route by which it takes a request for this host: exact before the longest suffix;
/// `None` where it takes any.
pub fn host_of<'a>(route: &'a Route, host: &str) -> Option<&'a HostPattern> {
    let exact = route.hosts.iter().find(|pattern| matches!(pattern, HostPattern::Exact(name) if name == host));
    exact.or_else(|| {
        let fits = |pattern: &&HostPattern| matches!(pattern, HostPattern::Suffix(s) if host.len() > s.len() && host.ends_with(s.as_str()));
        route.hosts.iter().filter(fits).max_by_key(|pattern| match pattern {
            HostPattern::Exact(name) | HostPattern::Suffix(name) => name.len(),
        })
    })
}

/// The path of a route by which it takes a request for this path: exact, then the longest prefix, then a regex;
/// `None` where it takes any.
pub fn path_of<'a>(route: &'a Route, path: &str) -> Option<&'a PathPattern> {
    let rank = |pattern: &PathPattern| match pattern {
        PathPattern::Exact(exact) if exact == path => Some((2, 0)),
        PathPattern::Prefix(prefix) if path.starts_with(prefix.as_str()) => Some((1, prefix.len())),
        PathPattern::Regex(regex) if regex.is_match(path) => Some((0, 0)),
        _ => None,
    };
    route
        .paths
        .iter()
        .filter_map(|pattern| Some((rank(pattern)?, pattern)))
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, p)| p)
}

#[cfg(test)]
mod tests;
