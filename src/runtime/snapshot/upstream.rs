//! The run form of an upstream: its pool of servers, its limits, and the counters of both.
//!
//! The pool of a fixed list never changes within a snapshot. That of a DNS name is replaced whenever the name's
//! addresses change; servers that stay keep their state either way.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;

use super::peer;
use crate::telemetry::Registry;
use crate::telemetry::series::{ServerSeries, UpstreamSeries};
use balance::adaptive::Adaptive;
use balance::budget::Budget;
use balance::settings::Balance;
use balance::{Pool, Settings, Spec};
use base::units::Nanos;
use config::model::{self, Health, Retry, Servers, Timeouts};

/// The state of a server in its pool.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// How to connect; cloned for each attempt.
    pub peer: HttpPeer,
    /// Its address, for the log.
    pub name: Box<str>,
    /// Its counters.
    pub series: Arc<ServerSeries>,
    /// Its number for the judge, never 0.
    pub number: u32,
}

/// A running upstream.
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// Its algorithm.
    pub balance: Balance,
    /// Time limits.
    pub timeout: Timeouts,
    /// Whether requests share connections to its servers, as HTTP/2 streams.
    pub http2: bool,
    /// Whether its servers are reached over TLS.
    pub tls: bool,
    /// Retries.
    pub retry: Retry,
    /// Active probes.
    pub health: Option<Health>,
    /// Its counters.
    pub series: Arc<UpstreamSeries>,
    /// Retries that it may still make.
    pub budget: Budget,
    /// Its adaptive limit of requests in flight, if it has one; the next snapshot takes it over.
    pub adaptive: Option<Arc<Adaptive>>,
    pool: ArcSwap<Pool<Server>>,
    template: HttpPeer,
    settings: Settings,
    registry: Arc<Registry>,
}

impl Upstream {
    /// Whether its servers speak HTTP/1.1 without TLS.
    pub fn is_plain(&self) -> bool {
        !self.tls && !self.http2
    }

    /// Whether its requests in flight are bounded.
    pub fn is_bounded(&self) -> bool {
        self.adaptive.is_some() || self.pool().settings().max_in_flight.is_some()
    }

    pub(super) fn new(
        model: &model::Upstream,
        previous: Option<&Arc<Upstream>>,
        registry: &Arc<Registry>,
        now: Nanos,
    ) -> Upstream {
        let template = peer::template(model);
        let settings = Settings {
            balance: model.balance.clone(),
            slow_start: model.slow_start,
            max_in_flight: model.max_requests_per_server,
            outlier: model.outlier.clone(),
        };
        let before = previous.map(|p| p.pool.load_full());
        let members: Vec<(SocketAddr, u16)> = match &model.servers {
            Servers::Static(members) => members.iter().map(|m| (m.address, m.weight)).collect(),
            Servers::Dns { port, .. } => before
                .iter()
                .flat_map(|p| p.members())
                .map(|m| (m.address, 1))
                .filter(|m| m.0.port() == *port)
                .collect(),
        };
        let specs = specs(&members, &template, &model.name, registry);
        Upstream {
            name: model.name.clone(),
            balance: model.balance.clone(),
            timeout: model.timeout.clone(),
            http2: model.http2,
            tls: model.tls.is_some(),
            retry: model.retry.clone(),
            health: model.health.clone(),
            series: registry.upstream(&model.name),
            budget: Budget::new(model.retry.budget, previous.map(|p| &p.budget)),
            adaptive: model.adaptive.then(|| adaptive(previous, now)),
            pool: ArcSwap::from_pointee(Pool::new(settings.clone(), specs, before.as_deref(), now)),
            template,
            settings,
            registry: registry.clone(),
        }
    }

    /// The present servers.
    pub fn pool(&self) -> arc_swap::Guard<Arc<Pool<Server>>> {
        self.pool.load()
    }

    /// Takes over the present addresses of a DNS name; says whether they changed.
    pub fn resolve(&self, mut addresses: Vec<SocketAddr>, now: Nanos) -> bool {
        addresses.sort();
        addresses.dedup();
        let before = self.pool.load_full();
        let mut known: Vec<SocketAddr> = before.members().iter().map(|m| m.address).collect();
        known.sort();
        if known == addresses {
            return false;
        }
        let members: Vec<_> = addresses.into_iter().map(|address| (address, 1)).collect();
        let specs = specs(&members, &self.template, &self.name, &self.registry);
        self.pool.store(Arc::new(Pool::new(self.settings.clone(), specs, Some(&before), now)));
        true
    }
}

fn adaptive(previous: Option<&Arc<Upstream>>, now: Nanos) -> Arc<Adaptive> {
    previous.and_then(|p| p.adaptive.clone()).unwrap_or_else(|| Arc::new(Adaptive::new(now)))
}

fn specs(
    members: &[(SocketAddr, u16)],
    template: &HttpPeer,
    upstream: &Arc<str>,
    registry: &Registry,
) -> Vec<Spec<Server>> {
    let spec = |(address, weight): &(SocketAddr, u16)| Spec {
        address: *address,
        weight: *weight,
        attached: Server {
            address: *address,
            peer: peer::at(template, *address),
            name: address.to_string().into(),
            series: registry.server(upstream, *address),
            number: registry.server_number(upstream, *address),
        },
    };
    members.iter().map(spec).collect()
}
