//! The run form of a configuration: immutable, with every name resolved and every handle bound.
//!
//! A request loads one snapshot and keeps it to its end, so it sees one complete configuration. State that must outlive
//! a snapshot (a server's health and load, retry budgets, counters) is behind `Arc`s that the next snapshot takes over
//! by name. A snapshot opens nothing and starts nothing: `app` and `reload` do.

pub mod callers;
pub mod ledger;
pub mod limit;
pub mod listener;
mod peer;
pub mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

pub use limit::Limits;
use listener::{Listener, Shown};
pub use upstream::{Server, Upstream};

use self::callers::Callers;
use crate::telemetry::Registry;
use crate::telemetry::series::RouteSeries;
use base::units::{Nanos, Revision};
use config::access::{guarded, holds};
use config::model::{self, Action, Config, Route, Servers};
use config::router::Router;
use gray::assignment::Assignment;
use gray::shared_state::SharedState;

/// A release of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfRoute {
    /// Index into `Snapshot::plans`.
    pub plan: u32,
    /// Number of the route within the release.
    pub route: u16,
}

/// A running configuration.
pub struct Snapshot {
    /// Its number.
    pub revision: Revision,
    /// Its model.
    pub config: Arc<Config>,
    /// Finds routes; its numbers index `config.routes`.
    pub router: Router,
    /// One series for each route.
    series: Vec<Arc<RouteSeries>>,
    /// Names whose lookalikes must not reach a server, one list for each route.
    guarded: Vec<Vec<HeaderName>>,
    /// By the numbers of `config.listeners`.
    listeners: Vec<Listener>,
    /// Apps and their keys.
    pub callers: Callers,
    /// By the numbers of `config.releases`.
    pub plans: Vec<Assignment>,
    /// Releases by the numbers of `config.routes`; empty without any release.
    by_route: Vec<Vec<OfRoute>>,
    /// By the numbers of `config.routes`: whether all servers that a request may come to speak HTTP/1.1.
    http1: Vec<bool>,
    /// Counters.
    pub registry: Arc<Registry>,
    /// By the numbers of `config.upstreams`; then the ledger, if a route leads to it.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The limits of routes and apps.
    pub limits: Limits,
}

impl Snapshot {
    /// Builds the run form; `lives` are the releases' states, in their order. Whatever `previous` has too keeps its
    /// state.
    pub fn new(
        config: Arc<Config>,
        revision: Revision,
        previous: Option<&Snapshot>,
        lives: Vec<Arc<SharedState>>,
        registry: &Arc<Registry>,
        now: Nanos,
    ) -> Snapshot {
        let series = config.routes.iter().map(|route| registry.route(&route.name)).collect();
        let before = |name: &str| previous?.upstreams.iter().find(|upstream| &*upstream.name == name);
        let listeners = config.listeners.iter().map(|listener| {
            let before = previous.and_then(|previous| previous.found(listener.address));
            Listener::new(listener, before)
        });
        let internal = ledger::upstream(&config);
        let all = config.upstreams.iter().chain(&internal);
        let upstreams = all.map(|u| Arc::new(Upstream::new(u, before(&u.name), registry, now))).collect();
        let plans = config
            .releases
            .iter()
            .zip(lives)
            .map(|(release, live)| Assignment::new(release, config.cohorts.len(), live));
        let mut snapshot = Snapshot {
            revision,
            http1: Vec::new(),
            router: Router::new(&config.routes),
            series,
            listeners: listeners.collect(),
            callers: Callers::new(&config, previous.map(|before| (&before.callers, &*before.config)), registry),
            plans: plans.collect(),
            guarded: config.routes.iter().map(|route| guarded(&config, route)).collect(),
            by_route: by_route(&config),
            registry: registry.clone(),
            upstreams,
            limits: Limits::new(&config, previous.map(|p| &p.limits), registry),
            config,
        };
        snapshot.http1 = (0..snapshot.config.routes.len()).map(|route| snapshot.all_speak_http1(route)).collect();
        snapshot
    }

    fn all_speak_http1(&self, route: usize) -> bool {
        let canaries = self.releases_of(route).iter().map(|of| self.plans[of.plan as usize].canary);
        let mut upstreams = self.forwards_to(route).into_iter().chain(canaries);
        upstreams.all(|upstream| self.upstreams.get(upstream).is_none_or(|upstream| !upstream.http2))
    }

    /// Whether all servers that a request of this route may come to speak HTTP/1.1.
    pub fn is_http1(&self, route: usize) -> bool {
        self.http1[route]
    }

    /// Name of an app.
    pub fn app(&self, app: Option<u32>) -> Option<&str> {
        self.config.apps.get(app? as usize).map(|app| &*app.name)
    }

    /// The releases of a route.
    pub fn releases_of(&self, route: usize) -> &[OfRoute] {
        self.by_route.get(route).map_or(&[], Vec::as_slice)
    }

    /// A route and its series.
    pub fn route(&self, index: usize) -> (&Route, &RouteSeries) {
        (&self.config.routes[index], &self.series[index])
    }

    /// Headers by which a route speaks to its servers or identifies callers, if they have lookalike spellings.
    pub fn guarded(&self, route: usize) -> &[HeaderName] {
        &self.guarded[route]
    }

    /// Number of the upstream that a route forwards to; `None` for a route that answers without a server.
    pub fn forwards_to(&self, route: usize) -> Option<usize> {
        match self.config.routes[route].action {
            Action::Upstream(upstream) => Some(upstream),
            Action::Ledger => Some(self.config.upstreams.len()),
            Action::Redirect { .. } | Action::Respond { .. } => None,
        }
    }

    /// Whether `X-Forwarded-*` from this peer is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        holds(&self.config.trusted, peer)
    }

    /// The run form of a listener.
    pub fn listener(&self, address: SocketAddr) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.address == address)
    }

    /// Whether a client would still be admitted with what it showed, at a time in seconds since 1970.
    pub fn lets_in(&self, shown: &Shown, now_s: u64) -> bool {
        let listener = self.listener(shown.address);
        shown.holds(listener.and_then(|listener| listener.tls.as_deref()), now_s)
    }

    fn found(&self, address: SocketAddr) -> Option<(&model::Listener, &Listener)> {
        let pairs = self.config.listeners.iter().zip(&self.listeners);
        pairs.into_iter().find(|(model, _)| model.address == address)
    }

    /// Upstreams whose servers come from DNS: name, port and interval of look-ups.
    pub fn resolved(&self) -> impl Iterator<Item = (&Arc<Upstream>, &Arc<str>, u16, Duration)> {
        self.upstreams.iter().zip(&self.config.upstreams).filter_map(|(upstream, model)| match &model.servers {
            Servers::Dns { name, port, refresh } => Some((upstream, name, *port, *refresh)),
            Servers::Static(_) => None,
        })
    }
}

fn by_route(config: &Config) -> Vec<Vec<OfRoute>> {
    if config.releases.is_empty() {
        return Vec::new();
    }
    let mut by_route = vec![Vec::new(); config.routes.len()];
    for (plan, release) in config.releases.iter().enumerate() {
        for (n, route) in release.routes.iter().enumerate() {
            by_route[*route].push(OfRoute { plan: plan as u32, route: n as u16 });
        }
    }
    by_route
}
