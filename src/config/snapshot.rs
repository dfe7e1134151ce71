//! The run form of a configuration: immutable, with every name resolved and every handle bound.
//!
//! A request loads one snapshot and keeps it to its end, so it sees one configuration, whole. What must outlive a
//! snapshot (a server's health and load, retry budgets, counters) lives behind `Arc`s that the next snapshot takes
//! over by name. A snapshot opens nothing and starts nothing: `app` and `swap` do.

mod peer;
pub mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use upstream::{Server, Upstream};

use super::model::{Config, Route, Servers};
use crate::proxy::route::Router;
use crate::telemetry::Registry;
use crate::telemetry::series::RouteSeries;
use crate::units::{Nanos, Revision};

/// A configuration that runs.
pub struct Snapshot {
    /// Its number.
    pub revision: Revision,
    /// What it was made from.
    pub config: Arc<Config>,
    /// Finds routes; its numbers index `config.routes`.
    pub router: Router,
    /// A series a route.
    series: Vec<Arc<RouteSeries>>,
    /// By the numbers of `config.upstreams`.
    pub upstreams: Vec<Arc<Upstream>>,
}

impl Snapshot {
    /// Makes the run form. What stays from `previous` keeps its state.
    pub fn new(
        config: Arc<Config>,
        revision: Revision,
        previous: Option<&Snapshot>,
        registry: &Arc<Registry>,
        now: Nanos,
    ) -> Snapshot {
        let series = config.routes.iter().map(|route| registry.route(&route.name)).collect();
        let before = |name: &str| previous?.upstreams.iter().find(|upstream| &*upstream.name == name);
        let upstreams = config.upstreams.iter().map(|u| Arc::new(Upstream::new(u, before(&u.name), registry, now)));
        Snapshot { revision, router: Router::new(&config.routes), series, upstreams: upstreams.collect(), config }
    }

    /// A route and what it counts.
    pub fn route(&self, index: usize) -> (&Route, &RouteSeries) {
        (&self.config.routes[index], &self.series[index])
    }

    /// Whether `X-Forwarded-*` from this peer is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        holds(&self.config.trusted, peer)
    }

    /// How long a client's connection at a listener may be without a request.
    pub fn idle_timeout(&self, listener: SocketAddr) -> Duration {
        let listener = self.config.listeners.iter().find(|l| l.address == listener);
        listener.map_or(Duration::from_secs(60), |l| l.idle_timeout)
    }

    /// Upstreams whose servers come from DNS: name, port and time between look-ups.
    pub fn resolved(&self) -> impl Iterator<Item = (&Arc<Upstream>, &Arc<str>, u16, Duration)> {
        self.upstreams.iter().zip(&self.config.upstreams).filter_map(|(upstream, model)| match &model.servers {
            Servers::Dns { name, port, refresh } => Some((upstream, name, *port, *refresh)),
            Servers::Static(_) => None,
        })
    }
}

/// Whether an address is in one of the networks; an IPv4 address that came over an IPv6 socket counts as IPv4.
pub fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    !networks.is_empty() && networks.iter().any(|network| network.contains(&address.to_canonical()))
}
