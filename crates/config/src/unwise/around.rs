//! The search for requests that get around what a route requires, by another route to the same upstream.
//!
//! A route protects only the requests that it takes; servers often treat more requests alike. So for each route that
//! requires more than others to its upstream, requests just beside it are made, and the router itself finds the routes
//! that take them: a warning names one that really gets through. There is no warning where the author's intention is
//! clear: a route for that very path, or with its own conditions.

use std::collections::{BTreeMap, HashMap};

use http::{HeaderMap, Method};
use ipnet::IpNet;

use crate::filter::access::Access;
use crate::model::{Action, Config, HostPattern, PathPattern, Route, Scheme};
use crate::router::{Request, Router};
use base::finding::Finding;

/// The most requests tried for all routes together, and the most routes that they may be compared
/// with: some tenths of a second.
const TRIED: usize = 300_000;
const HELD_AGAINST: usize = 30_000_000;
/// A host that no route names (RFC 2606).
const ELSEWHERE: &str = "host.invalid";
/// Paths of which a regex may match some and leave others.
const PATHS: [&str; 3] = ["/", "/~", "/0/~"];

/// A request that gets around a route.
struct Way {
    /// The index of the route that takes it.
    by: usize,
    /// The request, in words.
    what: String,
    /// A remedy, beside the same requirements on that route.
    fix: String,
    /// Whether it is another request, or one that a server may or may not read like those that the route takes.
    sure: Sure,
}

struct Around<'c> {
    config: &'c Config,
    router: Router,
    /// Routes that name hosts, by upstream.
    named: Vec<Vec<usize>>,
    /// The schemes of requests: one where no route has a scheme.
    schemes: &'static [Scheme],
    /// Requests that may still be tried.
    left: usize,
}

/// A warning for each route that a request can get around.
pub(super) fn ways(config: &Config) -> Vec<Finding> {
    let mixed = mixed(config);
    let strict = |route: &Route| upstream(route).is_some_and(|index| mixed[index]) && asks(route);
    let suspects: Vec<usize> = (0..config.routes.len()).filter(|index| strict(&config.routes[*index])).collect();
    if suspects.is_empty() {
        return vec![];
    }
    let mut named = vec![vec![]; config.upstreams.len()];
    for (index, route) in config.routes.iter().enumerate().filter(|(_, route)| !route.hosts.is_empty()) {
        upstream(route).into_iter().for_each(|to| named[to].push(index));
    }
    let care = config.routes.iter().any(|route| route.scheme.is_some());
    let schemes: &[Scheme] = if care { &[Scheme::Http, Scheme::Https] } else { &[Scheme::Http] };
    let left = TRIED.min(HELD_AGAINST / crowd(config));
    let mut around = Around { config, router: Router::new(&config.routes), named, schemes, left };
    let mut found = vec![];
    // A route that takes all other requests gets one warning only, where it is only a guess.
    let mut guessed: BTreeMap<usize, (Finding, usize)> = BTreeMap::new();
    for strict in suspects {
        match around.way(strict) {
            None => {}
            Some(way) if way.sure == Sure::Yes => found.push(around.warning(strict, way)),
            Some(way) => guessed.entry(way.by).or_insert_with(|| (around.warning(strict, way), 0)).1 += 1,
        }
    }
    found.extend(guessed.into_values().map(|(mut first, count)| {
        if count > 1 {
            first.message.push_str(&format!(" and {} more", count - 1));
        }
        first
    }));
    if around.left == 0 {
        let message = "there are too many routes to try all requests beside them: some may get around `auth`, `allow`, \
                       `deny` or `limits` unsaid";
        found.push(config.server.place.warning(message, "fewer hosts and paths a route, or fewer routes an upstream"));
    }
    found
}

/// The most routes that one request may be compared with: those of one host and path.
fn crowd(config: &Config) -> usize {
    let mut crowds: HashMap<_, usize> = HashMap::new();
    for route in &config.routes {
        for host in route.host_patterns() {
            for path in route.path_patterns() {
                *crowds.entry((host, path.map(PathPattern::spelling))).or_default() += 1;
            }
        }
    }
    crowds.into_values().max().unwrap_or(1)
}

/// Whether routes to an upstream have different requirements.
fn mixed(config: &Config) -> Vec<bool> {
    let mut first: Vec<Option<&Route>> = vec![None; config.upstreams.len()];
    let mut mixed = vec![false; config.upstreams.len()];
    let demands = |route: &Route| (route.auths.clone(), route.limits.clone(), route.filters.access.clone());
    for route in &config.routes {
        let Some(index) = upstream(route) else { continue };
        let first = first[index].get_or_insert(route);
        mixed[index] = mixed[index] || demands(first) != demands(route);
    }
    mixed
}

fn upstream(route: &Route) -> Option<usize> {
    match route.action {
        Action::Upstream(index) => Some(index),
        _ => None,
    }
}

fn asks(route: &Route) -> bool {
    !(route.auths.is_empty() && route.limits.is_empty() && route.filters.access.is_open())
}

impl Around<'_> {
    fn way(&mut self, strict: usize) -> Option<Way> {
        let config = self.config;
        let route = &config.routes[strict];
        let headers: HeaderMap = route.headers.iter().cloned().collect();
        let schemes = self.schemes.iter().filter(|scheme| route.scheme.is_none_or(|own| own == **scheme));
        for host in route.host_patterns() {
            for path in route.path_patterns() {
                for scheme in schemes.clone() {
                    let way = self.beside(strict, (host, path), (&headers, *scheme));
                    if way.is_some() || self.left == 0 {
                        return way;
                    }
                }
            }
        }
        None
    }

    /// Tries requests beside one pair of host and path, the surest first.
    fn beside(
        &mut self,
        strict: usize,
        (host, path): (Option<&HostPattern>, Option<&PathPattern>),
        (headers, scheme): (&HeaderMap, Scheme),
    ) -> Option<Way> {
        let config = self.config;
        let route = &config.routes[strict];
        let own = host.map_or_else(|| ELSEWHERE.to_owned(), sample);
        let method = route.methods.first().unwrap_or(&Method::GET);
        let usual = Request { host: &own, path: "/", method, headers, scheme };
        let usual = match path {
            None => usual,
            Some(PathPattern::Exact(path) | PathPattern::Prefix(path)) => Request { path, ..usual },
            Some(PathPattern::Regex(regex)) => {
                let missed = PATHS.into_iter().find(|path| !regex.is_match(path));
                let what = format!("a path that `~{regex}` does not match");
                let way = |by| Way { by, what, fix: String::new(), sure: Sure::Guess };
                let way = missed.and_then(|path| self.taken(strict, &Request { path, ..usual }, Sure::Guess)).map(way);
                if way.is_some() {
                    return way;
                }
                Request { path: PATHS.into_iter().find(|path| regex.is_match(path))?, ..usual }
            }
        };
        self.bare(strict, path, &usual)
            .or_else(|| self.other_conditions(strict, &usual))
            .or_else(|| self.other_hosts(strict, (host, path), &usual))
            .or_else(|| self.respelt(strict, &usual))
    }

    /// Tries `/a`, which `/a/*` does not take.
    fn bare(&mut self, strict: usize, path: Option<&PathPattern>, usual: &Request<'_>) -> Option<Way> {
        let Some(PathPattern::Prefix(prefix)) = path else { return None };
        let bare = prefix.strip_suffix('/').filter(|bare| !bare.is_empty())?;
        let by = self.taken(strict, &Request { path: bare, ..*usual }, Sure::Yes)?;
        let is_it = |path: &PathPattern| matches!(path, PathPattern::Exact(path) if path == bare);
        if self.config.routes[by].paths.iter().any(is_it) {
            return None;
        }
        Some(Way {
            by,
            what: format!("`{bare}`, which `{prefix}*` does not take,"),
            fix: format!("add \"{bare}\" to `paths` of route `{}`, or ", self.config.routes[strict].name),
            sure: Sure::Yes,
        })
    }

    /// Tries another method, another scheme, or a request without a header.
    fn other_conditions(&mut self, strict: usize, usual: &Request<'_>) -> Option<Way> {
        let config = self.config;
        let route = &config.routes[strict];
        let drop = |key: &str| format!("take `{key}` out of route `{}`, or ", route.name);
        if !route.methods.is_empty() {
            let unlisted = Method::from_bytes(b"FOO").unwrap_or_default();
            if let Some(by) = self.taken(strict, &Request { method: &unlisted, ..*usual }, Sure::Yes) {
                let fix = format!("list in route `{}` the methods that it may take, or ", config.routes[by].name);
                return Some(Way {
                    by,
                    what: "a request with another method, such as FOO,".to_owned(),
                    fix,
                    sure: Sure::Yes,
                });
            }
        }
        for (name, _) in &route.headers {
            let mut headers = usual.headers.clone();
            headers.remove(name);
            if let Some(by) = self.taken(strict, &Request { headers: &headers, ..*usual }, Sure::Yes) {
                return Some(Way {
                    by,
                    what: format!("a request without header `{name}`"),
                    fix: drop("headers"),
                    sure: Sure::Yes,
                });
            }
        }
        let (other, word) = match route.scheme? {
            Scheme::Http => (Scheme::Https, "https"),
            Scheme::Https => (Scheme::Http, "http"),
        };
        let by = self.taken(strict, &Request { scheme: other, ..*usual }, Sure::Yes)?;
        Some(Way { by, what: format!("a request by {word}"), fix: drop("scheme"), sure: Sure::Yes })
    }

    /// Tries a host that the route does not name, or one of another route that takes this very path.
    fn other_hosts(
        &mut self,
        strict: usize,
        (host, path): (Option<&HostPattern>, Option<&PathPattern>),
        usual: &Request<'_>,
    ) -> Option<Way> {
        let config = self.config;
        if host.is_some()
            && let Some(by) = self.taken(strict, &Request { host: ELSEWHERE, ..*usual }, Sure::Yes)
        {
            let fix = format!("name in route `{}` the hosts that it may take, or ", config.routes[by].name);
            return Some(Way { by, what: "a request for another host".to_owned(), fix, sure: Sure::Yes });
        }
        let wide = match host {
            None => "",
            Some(HostPattern::Suffix(suffix)) => suffix,
            Some(HostPattern::Exact(_)) => return None,
        };
        let path = path.map(PathPattern::spelling);
        let to = upstream(&config.routes[strict])?;
        for index in 0..self.named[to].len() {
            let other = self.named[to][index];
            // A route for this very path of its host is an intended exception.
            if config.routes[other].path_patterns().any(|own| own.map(PathPattern::spelling) == path) {
                continue;
            }
            for named in config.routes[other].hosts.iter().map(sample).filter(|named| named.ends_with(wide)) {
                if self.taken(strict, &Request { host: &named, ..*usual }, Sure::Yes) == Some(other) {
                    let fix = format!("name `{named}` in `hosts` of route `{}`, or ", config.routes[strict].name);
                    return Some(Way {
                        by: other,
                        what: format!("a request for host `{named}`"),
                        fix,
                        sure: Sure::Yes,
                    });
                }
            }
            if self.left == 0 {
                break;
            }
        }
        None
    }

    /// Tries `/ADMIN/`, which many servers take for `/admin/`.
    fn respelt(&mut self, strict: usize, usual: &Request<'_>) -> Option<Way> {
        let end = usual.path.trim_end_matches('/').len();
        let start = usual.path[..end].rfind('/')? + 1;
        let segment = &usual.path[start..end];
        let upper = segment.to_ascii_uppercase();
        let other = if upper == segment { segment.to_ascii_lowercase() } else { upper };
        if other == segment || segment.contains('%') {
            return None;
        }
        let path = format!("{}{other}{}", &usual.path[..start], &usual.path[end..]);
        let by = self.taken(strict, &Request { path: &path, ..*usual }, Sure::Guess)?;
        let what = format!("`{path}`, which a server may take for `{}`,", usual.path);
        let loose = &self.config.routes[by].name;
        let fix = format!("give route `{loose}` narrower `paths` or an upstream of its own, or ");
        Some(Way { by, what, fix, sure: Sure::Guess })
    }

    /// The route that takes a request to the same upstream without the requirements of `strict`.
    fn taken(&mut self, strict: usize, request: &Request<'_>, sure: Sure) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let by = self.router.find(request).filter(|by| *by != strict)?;
        let (strict, loose) = (&self.config.routes[strict], &self.config.routes[by]);
        let lacks = Lacks::of(strict, loose);
        let counts = !lacks.auths.is_empty() || lacks.keeps_out || lacks.limits && sure == Sure::Yes;
        (upstream(strict) == upstream(loose) && counts).then_some(by)
    }

    fn warning(&self, strict: usize, way: Way) -> Finding {
        let Way { by, what, fix, .. } = way;
        let (strict, loose) = (&self.config.routes[strict], &self.config.routes[by]);
        let upstream = upstream(strict).map_or("", |index| &self.config.upstreams[index].name);
        let (name, other, place) = (&strict.name, &loose.name, &loose.place);
        let lacks = Lacks::of(strict, loose);
        let mut differs = vec![];
        if !lacks.auths.is_empty() {
            let auths: Vec<String> =
                lacks.auths.iter().map(|index| format!("`{}`", self.config.auths[*index].name)).collect();
            differs.push(format!("does not ask for auth {}", auths.join(", ")));
        }
        if lacks.keeps_out {
            differs.push("lets in other addresses".to_owned());
        }
        if lacks.limits {
            differs.push("has no limits".to_owned());
        }
        let differs = differs.join(" and ");
        strict.place.warning(
            format!("{what} reaches upstream `{upstream}` by route `{other}`, which {differs}, unlike route `{name}`"),
            format!("{fix}ask for the same in route `{other}` at {}:{}", place.file, place.line),
        )
    }
}

/// Whether a request is certainly another one, or one that a server may read like the original. For the latter, missing
/// limits are not worth a warning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sure {
    Yes,
    Guess,
}

/// Requirements of a route that another one lacks.
struct Lacks {
    /// Proofs, by the numbers of `Config::auths`.
    auths: Vec<usize>,
    /// Whether `allow` or `deny` keep a client out that the other route lets in.
    keeps_out: bool,
    /// Whether limits are missing; a route with others is limited, too.
    limits: bool,
}

impl Lacks {
    fn of(strict: &Route, loose: &Route) -> Lacks {
        let within = |net: &IpNet, nets: &[IpNet]| nets.iter().any(|wide| wide.contains(net));
        let meets = |net: &IpNet, nets: &[IpNet]| nets.iter().any(|other| other.contains(net) || net.contains(other));
        let Access { allow, deny } = &strict.filters.access;
        let other = &loose.filters.access;
        let allowed = |net: &IpNet| within(net, allow) || within(net, &other.deny);
        let others = !allow.is_empty() && (other.allow.is_empty() || !other.allow.iter().all(allowed));
        let kept_out = |net: &IpNet| within(net, &other.deny) || !other.allow.is_empty() && !meets(net, &other.allow);
        Lacks {
            auths: strict.auths.iter().filter(|auth| !loose.auths.contains(auth)).copied().collect(),
            keeps_out: others || !deny.iter().all(kept_out),
            limits: !strict.limits.is_empty() && loose.limits.is_empty(),
        }
    }
}

/// A host that matches the pattern.
fn sample(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Suffix(suffix) => format!("host{suffix}"),
    }
}
