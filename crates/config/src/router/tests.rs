//! The router against its rules, which are asked of every route in turn.

use http::HeaderValue;

use super::*;
use crate::load_source;
use crate::source::Source;

const HOSTS: &[&str] = &["a.test", "b.a.test", "*.test", "*.a.test"];
const PATHS: &[&str] = &["/a", "/a/b", "/*", "/a/*", "/a/b/*", "~^/a"];
const CONDITIONS: &[&str] =
    &["methods = [\"GET\"]", "methods = [\"POST\"]", "headers = { x = \"1\" }", "scheme = \"https\""];

/// Some of a list, each with a chance of one in three.
fn some<'a>(of: &[&'a str], random: &mut fastrand::Rng) -> Vec<&'a str> {
    of.iter().copied().filter(|_| random.u8(..3) == 0).collect()
}

/// Routes as a configuration has them; none where the check refuses them, as two that tie.
fn routes(random: &mut fastrand::Rng) -> Option<Vec<Route>> {
    let mut text = "[[listener]]\naddress = \"127.0.0.1:1\"\n".to_owned();
    for route in 0..random.usize(1..6) {
        text += &format!("[route.r{route}]\nrespond = {{}}\n");
        for (key, some) in [("hosts", some(HOSTS, random)), ("paths", some(PATHS, random))] {
            text += &if some.is_empty() { String::new() } else { format!("{key} = {some:?}\n") };
        }
        if random.bool() {
            text += CONDITIONS[random.usize(..CONDITIONS.len())];
            text += "\n";
        }
    }
    let source = Source::from_parts(".".into(), vec![("a.toml".to_owned(), text)]);
    load_source(source).ok().map(|loaded| loaded.config.routes)
}

/// How well a route fits a request, by host, path and number of conditions; nothing where it does not.
fn rank(route: &Route, conditions: &Conditions, request: &Request<'_>) -> Option<(usize, usize, usize)> {
    let host = match host_of(route, request.host) {
        Some(HostPattern::Exact(_)) => usize::MAX,
        Some(HostPattern::Suffix(suffix)) => suffix.len(),
        None => route.hosts.is_empty().then_some(0)?,
    };
    let path = match path_of(route, request.path) {
        Some(PathPattern::Exact(_)) => usize::MAX,
        Some(PathPattern::Prefix(prefix)) => 1 + prefix.len(),
        Some(PathPattern::Regex(_)) => 1,
        None => route.paths.is_empty().then_some(0)?,
    };
    conditions.hold(request).then(|| (host, path, conditions.count()))
}

#[test]
fn route_found_is_the_one_that_ranks_highest() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut x = HeaderMap::new();
    x.insert("x", HeaderValue::from_static("1"));
    let (mut found, mut loaded) = (0, 0);
    for _ in 0..3_000 {
        let Some(routes) = routes(&mut random) else { continue };
        loaded += 1;
        let router = Router::new(&routes);
        for _ in 0..20 {
            let request = Request {
                host: ["a.test", "b.a.test", "c.a.test", "d.test", "other"][random.usize(..5)],
                path: ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/c"][random.usize(..7)],
                method: [&Method::GET, &Method::HEAD, &Method::POST][random.usize(..3)],
                headers: if random.bool() { &x } else { &HeaderMap::new() },
                scheme: if random.bool() { Scheme::Http } else { Scheme::Https },
            };
            let ranked = routes.iter().zip(&router.conditions).enumerate();
            let best =
                ranked.filter_map(|(n, (route, conditions))| Some((rank(route, conditions, &request)?, n))).max();
            let best = best.map(|(_, route)| route);
            assert_eq!(router.find(&request), best, "{request:?} {routes:#?}");
            found += usize::from(best.is_some());
        }
    }
    assert!(loaded > 500 && found > 5_000, "{loaded} configurations, {found} requests");
}
