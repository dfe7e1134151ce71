//! The diff of two configurations: routes, upstreams, servers, releases and their users, the ledger, and
//! the gateway's own addresses.
//!
//! Tables are the same where their names are: a renamed route is one removed and one added. Changes are reported by
//! key, as in the file, and defaults count like written values: a default made explicit changes nothing. A secret
//! is compared, never shown. How many users a release moves is reported for its first step; its progress is known
//! only to a running gateway.

mod caller;
mod ledger;
mod listener;
mod release;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::{fmt, mem};

use serde::Serialize;

pub use self::release::Moved;
use super::model::{Action, Admin, Config, Log, PathPattern, Reload, Route, Server, Servers, Upstream};
use balance::settings::Balance;

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Diff {
    /// Keys outside of routes, upstreams and listeners, such as `admin.address`.
    pub settings: Vec<&'static str>,
    /// `[[listener]]`, by address.
    pub listeners: Changes,
    /// `[upstream.*]`, by name; its servers are in `servers`.
    pub upstreams: Changes,
    /// Servers of upstreams that are fixed or become so.
    pub servers: Vec<ServerChange>,
    /// `[route.*]`, by name.
    pub routes: Changes,
    /// Whether the order of routes with regexes changed, which decides between them.
    pub regexes_reordered: bool,
    /// `[auth.*]`, by name.
    pub auths: Changes,
    /// `[app.*]`, by name.
    pub apps: Changes,
    /// `[limit.*]`, by name.
    pub limits: Changes,
    /// `[cohort.*]`, by name.
    pub cohorts: Changes,
    /// `[release.*]`, by name.
    pub releases: Changes,
    /// Releases that move users between the versions.
    pub arms: Vec<Moved>,
    /// `[notify.*]`, by name.
    pub notify: Changes,
    /// `[ledger.channel.*]`, by name.
    pub channels: Changes,
    /// `[ledger.merchant.*]`, by name.
    pub merchants: Changes,
}

/// The changes of the tables of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// New names.
    pub added: Vec<String>,
    /// Removed names.
    pub removed: Vec<String>,
    /// Names that stay, with the keys that changed.
    pub changed: Vec<Changed>,
}

/// A table that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// The keys whose meaning changed.
    pub keys: Vec<&'static str>,
}

/// A server that was added or removed, or whose weight changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerChange {
    /// The upstream's name.
    pub upstream: String,
    /// The server.
    pub address: SocketAddr,
    /// Its weight before; absent for a new server.
    pub old_weight: Option<u16>,
    /// Its weight now; absent for a removed server.
    pub new_weight: Option<u16>,
}

impl Diff {
    /// Compares two configurations.
    pub fn between(old: &Config, new: &Config) -> Diff {
        let listener =
            |config: &Config| config.listeners.iter().map(|it| (it.address.to_string(), it.clone())).collect();
        let (old_listeners, new_listeners): (Vec<_>, Vec<_>) = (listener(old), listener(new));
        let upstreams = |config: &Config| config.upstreams.iter().map(|it| (it.name.to_string(), it.clone())).collect();
        let (old_upstreams, new_upstreams): (Vec<_>, Vec<_>) = (upstreams(old), upstreams(new));
        let routes = |config: &Config| config.routes.iter().map(|it| (it.name.to_string(), it.clone())).collect();
        let (old_routes, new_routes): (Vec<_>, Vec<_>) = (routes(old), routes(new));
        Diff {
            settings: settings(old, new),
            listeners: changes(&old_listeners, &new_listeners, listener::listener_keys),
            servers: servers(&old_upstreams, &new_upstreams),
            upstreams: changes(&old_upstreams, &new_upstreams, upstream_keys),
            routes: changes(&old_routes, &new_routes, |one, other| route_keys((old, one), (new, other))),
            regexes_reordered: reordered(old, new),
            auths: caller::auths(old, new),
            apps: caller::apps(old, new),
            limits: caller::limits(old, new),
            cohorts: release::cohorts(old, new),
            releases: release::releases(old, new),
            arms: release::arms(old, new),
            notify: release::notify(old, new),
            channels: ledger::channels(old, new),
            merchants: ledger::merchants(old, new),
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Diff::default()
    }
}

/// The names of the pairs that are true. A caller destructures the new value with every field by its name, so that an
/// added field does not compile until it is compared here.
pub(crate) fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

fn changes<T>(old: &[(String, T)], new: &[(String, T)], keys: impl Fn(&T, &T) -> Vec<&'static str>) -> Changes {
    let before: HashMap<&str, &T> = old.iter().map(|(name, it)| (&**name, it)).collect();
    let after: HashMap<&str, &T> = new.iter().map(|(name, it)| (&**name, it)).collect();
    let only = |these: &[(String, T)], others: &HashMap<&str, &T>| {
        these.iter().map(|(name, _)| name).filter(|name| !others.contains_key(&***name)).cloned().collect()
    };
    let changed = new.iter().filter_map(|(name, now)| {
        let keys = keys(before.get(&**name)?, now);
        (!keys.is_empty()).then(|| Changed { name: name.clone(), keys })
    });
    Changes { added: only(new, &before), removed: only(old, &after), changed: changed.collect() }
}

fn settings(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = of_the_gateway(old, new);
    keys.extend(ledger::settings(old, new));
    keys
}

fn of_the_gateway(old: &Config, new: &Config) -> Vec<&'static str> {
    let address = |admin: &Admin| {
        let Admin { address, token: _, place: _ } = admin;
        *address
    };
    let token = |config: &Config| config.admin.as_ref().and_then(|admin| admin.token.clone());
    let Server { threads, state_dir, shutdown_grace, max_connections, memory_max, place: _ } = &new.server;
    let Log { access, sample } = &new.log;
    let Reload { watch, removal_max, history } = &new.reload;
    differing([
        ("server.threads", old.server.threads != *threads),
        ("server.state_dir", old.server.state_dir != *state_dir),
        ("server.shutdown_grace", old.server.shutdown_grace != *shutdown_grace),
        ("server.max_connections", old.server.max_connections != *max_connections),
        ("server.memory_max", old.server.memory_max != *memory_max),
        ("admin.address", old.admin.as_ref().map(address) != new.admin.as_ref().map(address)),
        ("admin.token_file", token(old) != token(new)),
        ("trusted.proxies", old.trusted != new.trusted),
        ("log.access", old.log.access != *access),
        ("log.sample_percent", old.log.sample != *sample),
        ("reload.watch", old.reload.watch != *watch),
        ("reload.removal_max_percent", old.reload.removal_max != *removal_max),
        ("reload.history", old.reload.history != *history),
    ])
}

fn upstream_keys(old: &Upstream, new: &Upstream) -> Vec<&'static str> {
    let dns = |upstream: &Upstream| match &upstream.servers {
        Servers::Dns { .. } => Some(upstream.servers.clone()),
        Servers::Static(_) => None,
    };
    let key = |balance: &Balance| match balance {
        Balance::Hash(key) => Some(key.clone()),
        Balance::RoundRobin | Balance::Random | Balance::LeastRequest | Balance::PeakEwma => None,
    };
    let Upstream {
        name: _,
        servers: _,
        balance,
        slow_start,
        max_requests_per_server,
        tls,
        http2,
        adaptive,
        health,
        outlier,
        timeout,
        retry,
        place: _,
    } = new;
    differing([
        ("dns", dns(old) != dns(new)),
        ("balance", mem::discriminant(&old.balance) != mem::discriminant(balance)),
        ("hash_key", key(&old.balance) != key(balance)),
        ("slow_start", old.slow_start != *slow_start),
        ("max_requests_per_server", old.max_requests_per_server != *max_requests_per_server),
        ("tls", old.tls != *tls),
        ("http2", old.http2 != *http2),
        ("adaptive", old.adaptive != *adaptive),
        ("health", old.health != *health),
        ("outlier", old.outlier != *outlier),
        ("timeout", old.timeout != *timeout),
        ("retry", old.retry != *retry),
    ])
}

fn servers(old: &[(String, Upstream)], new: &[(String, Upstream)]) -> Vec<ServerChange> {
    type Server<'u> = (&'u str, SocketAddr);
    let mut weights: BTreeMap<Server<'_>, (Option<u16>, Option<u16>)> = BTreeMap::new();
    let members = |upstream: &Upstream| match &upstream.servers {
        Servers::Static(members) => members.clone(),
        Servers::Dns { .. } => Vec::new(),
    };
    for (name, upstream) in old {
        for member in members(upstream) {
            weights.entry((name, member.address)).or_default().0 = Some(member.weight);
        }
    }
    for (name, upstream) in new {
        for member in members(upstream) {
            weights.entry((name, member.address)).or_default().1 = Some(member.weight);
        }
    }
    let moved = weights.into_iter().filter(|(_, (old, new))| old != new);
    let change = |((upstream, address), (old_weight, new_weight)): ((&str, _), _)| ServerChange {
        upstream: upstream.to_owned(),
        address,
        old_weight,
        new_weight,
    };
    moved.map(change).collect()
}

/// Routes are compared by the name of their upstream: its index moves when another one comes or goes.
fn route_keys((before, old): (&Config, &Route), (after, new): (&Config, &Route)) -> Vec<&'static str> {
    let upstream = |config: &Config, route: &Route| match route.action {
        Action::Upstream(index) => config.upstreams.get(index).map(|upstream| upstream.name.clone()),
        _ => None,
    };
    let answer = |route: &Route| Some(route.action.clone()).filter(|action| !matches!(action, Action::Upstream(_)));
    let redirect = |route: &Route| answer(route).filter(|action| matches!(action, Action::Redirect { .. }));
    let respond = |route: &Route| answer(route).filter(|action| matches!(action, Action::Respond { .. }));
    let Route { name: _, hosts, paths, methods, headers, scheme, action, filters, auths, limits, place: _ } = new;
    let mut keys = differing([
        ("hosts", old.hosts != *hosts),
        ("paths", spellings(&old.paths) != spellings(paths)),
        ("methods", old.methods != *methods),
        ("headers", old.headers != *headers),
        ("scheme", old.scheme != *scheme),
        ("upstream", upstream(before, old) != upstream(after, new)),
        ("redirect", redirect(old) != redirect(new)),
        ("respond", respond(old) != respond(new)),
        ("ledger", (old.action == Action::Ledger) != (*action == Action::Ledger)),
        ("auth", caller::auth_names(before, &old.auths) != caller::auth_names(after, auths)),
        ("limits", caller::limit_names(before, &old.limits) != caller::limit_names(after, limits)),
    ]);
    keys.extend(filters.changed(&old.filters));
    keys
}

fn spellings(paths: &[PathPattern]) -> Vec<(u8, &str)> {
    paths.iter().map(PathPattern::spelling).collect()
}

fn reordered(old: &Config, new: &Config) -> bool {
    fn names(config: &Config) -> Vec<&str> {
        let with_regex = |route: &&Route| route.paths.iter().any(|path| matches!(path, PathPattern::Regex(_)));
        config.routes.iter().filter(with_regex).map(|route| &*route.name).collect()
    }
    let (mut before, mut after) = (names(old), names(new));
    let kept: std::collections::HashSet<&str> = before.iter().copied().filter(|name| after.contains(name)).collect();
    before.retain(|name| kept.contains(name));
    after.retain(|name| kept.contains(name));
    before != after
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no difference");
        }
        let mut lines: Vec<String> = self.settings.iter().map(|key| format!("~ {key}")).collect();
        for (kind, changes) in [("listener", &self.listeners), ("upstream", &self.upstreams)] {
            changes.lines(kind, &mut lines);
        }
        lines.extend(self.servers.iter().map(ServerChange::to_string));
        self.routes.lines("route", &mut lines);
        if self.regexes_reordered {
            lines.push("~ the order of routes with regexes".to_owned());
        }
        self.auths.lines("auth", &mut lines);
        self.apps.lines("app", &mut lines);
        self.limits.lines("limit", &mut lines);
        self.cohorts.lines("cohort", &mut lines);
        release::lines(&self.releases, &self.arms, &mut lines);
        self.notify.lines("notify", &mut lines);
        self.channels.lines("channel", &mut lines);
        self.merchants.lines("merchant", &mut lines);
        f.write_str(&lines.join("\n"))
    }
}

impl Changes {
    fn lines(&self, kind: &str, lines: &mut Vec<String>) {
        lines.extend(self.added.iter().map(|name| format!("+ {kind} {name}")));
        lines.extend(self.removed.iter().map(|name| format!("- {kind} {name}")));
        lines.extend(self.changed.iter().map(|table| format!("~ {kind} {}: {}", table.name, table.keys.join(", "))));
    }
}

impl fmt::Display for ServerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { upstream, address, .. } = self;
        match (self.old_weight, self.new_weight) {
            (Some(old), Some(new)) => write!(f, "~ server {address} of {upstream}: weight {old} -> {new}"),
            (None, weight) => write!(f, "+ server {address} of {upstream}: weight {}", weight.unwrap_or(1)),
            (Some(_), None) => write!(f, "- server {address} of {upstream}"),
        }
    }
}
