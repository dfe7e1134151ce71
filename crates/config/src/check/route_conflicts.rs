//! The check for routes that one request could match equally well.
//!
//! Two routes tie where they share a host pattern and a path pattern, have the same number of conditions, and the
//! conditions can hold together. Rank settles every other difference: exact before wildcard, longer before shorter,
//! more conditions before fewer, and regexes in the order written. `allow` and `deny` are not conditions: they refuse a
//! request that was already routed. Of two routes that tie the later one gets the finding, once.

use std::collections::{HashMap, HashSet};

use http::{HeaderName, Method};

use super::Check;
use crate::findings::LIMIT;
use crate::model::{HostPattern, PathPattern, Route};
use crate::source_map::Span;

/// What two routes must have in common for one request to match both with the same rank.
#[derive(PartialEq, Eq, Hash)]
struct Patterns<'r> {
    host: Option<&'r HostPattern>,
    path: Path<'r>,
    conditions: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Path<'r> {
    Any,
    Exact(&'r str),
    Prefix(&'r str),
    Regex(&'r str),
}

impl Check<'_, '_> {
    /// Adds a finding for every route that ties with an earlier one; `spans` are those of the routes.
    pub(super) fn ambiguous(&mut self, routes: &[Route], spans: &[&Span]) {
        let mut groups: HashMap<Patterns<'_>, Vec<usize>> = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            for patterns in patterns(route) {
                groups.entry(patterns).or_default().push(index);
            }
        }
        let mut ties = HashSet::new();
        for group in groups.into_values().filter(|group| group.len() > 1) {
            for alike in split(routes, group) {
                for (at, &first) in alike.iter().enumerate() {
                    let later = alike[at + 1..].iter().filter(|&&later| later != first);
                    ties.extend(
                        later.filter(|&&later| together(&routes[first], &routes[later])).map(|&later| (later, first)),
                    );
                    if ties.len() > LIMIT {
                        break;
                    }
                }
            }
        }
        let mut ties: Vec<_> = ties.into_iter().collect();
        ties.sort_unstable();
        for (later, first) in ties {
            let place = self.places.place(spans[first]);
            let message = format!(
                "route `{}` ties with route `{}`: one request could match both equally well",
                routes[later].name, routes[first].name
            );
            let hint = format!(
                "the other one is at {}:{}; give one of them another host, path or condition",
                place.file, place.line
            );
            self.findings.at(spans[later], message, hint);
        }
    }
}

/// Every pair of host and path that a route matches.
fn patterns(route: &Route) -> impl Iterator<Item = Patterns<'_>> {
    let hosts: Vec<_> = if route.hosts.is_empty() { vec![None] } else { route.hosts.iter().map(Some).collect() };
    let conditions = usize::from(!route.methods.is_empty()) + route.headers.len() + usize::from(route.scheme.is_some());
    hosts.into_iter().flat_map(move |host| {
        let any = route.paths.is_empty().then_some(Path::Any);
        let paths = any.into_iter().chain(route.paths.iter().map(path));
        paths.map(move |path| Patterns { host, path, conditions })
    })
}

fn path(pattern: &PathPattern) -> Path<'_> {
    match pattern {
        PathPattern::Exact(path) => Path::Exact(path),
        PathPattern::Prefix(path) => Path::Prefix(path),
        PathPattern::Regex(regex) => Path::Regex(regex.as_str()),
    }
}

/// Splits a group by the headers that all of its routes require: those with different values exclude each other.
/// Without it, thousands of tenants on one path would be compared in pairs.
fn split(routes: &[Route], group: Vec<usize>) -> Vec<Vec<usize>> {
    let names = |route: &Route| route.headers.iter().map(|(name, _)| name.clone()).collect::<HashSet<HeaderName>>();
    let mut common = names(&routes[group[0]]);
    for &index in &group {
        common.retain(|name| routes[index].headers.iter().any(|(other, _)| other == name));
    }
    let mut parts: HashMap<Vec<_>, Vec<usize>> = HashMap::new();
    for index in group {
        let mut asked: Vec<_> = routes[index].headers.iter().filter(|(name, _)| common.contains(name)).collect();
        asked.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
        parts.entry(asked).or_default().push(index);
    }
    parts.into_values().collect()
}

/// Whether one request can meet the conditions of both.
fn together(one: &Route, other: &Route) -> bool {
    let schemes = one.scheme.is_none() || other.scheme.is_none() || one.scheme == other.scheme;
    let clash =
        |(name, value): &(HeaderName, _)| other.headers.iter().any(|(theirs, asked)| theirs == name && asked != value);
    schemes && !one.headers.iter().any(clash) && methods_meet(&one.methods, &other.methods)
}

fn methods_meet(one: &[Method], other: &[Method]) -> bool {
    let takes = |methods: &[Method], method: &Method| {
        methods.contains(method) || *method == Method::HEAD && methods.contains(&Method::GET)
    };
    let any = one.is_empty() || other.is_empty();
    any || one.iter().any(|method| takes(other, method)) || other.iter().any(|method| takes(one, method))
}
