//! The registry of series, which keeps them alive across configurations and prints them.
//!
//! A series is found again by its name after a reload, so a counter never falls while its route stays. Series that left
//! the configuration are still exposed, so that their last counts are scraped, until [`RETIRED_MAX`] newer ones have
//! left: routes that come and go with every push cannot fill the memory.

use std::collections::VecDeque;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;
use prometheus::proto::{
    Bucket, Counter as CounterValue, Gauge as GaugeValue, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

use super::access_log::AccessLog;
use super::names;
use super::series::{ArmTotals, BUCKETS, Outcome, RetryReason, RouteSeries, ServerSeries, UpstreamSeries};
use crate::memory::{Account, Kind};
use crate::problem::Reason;
use base::metric::{self, Name};
use base::shard::{Counter, Gauge};
use base::units::Revision;
use gray::controller::view::Gauges;

/// How many series are exposed after their name left the configuration.
pub const RETIRED_MAX: usize = 1_000;

/// Series by name; a name has left if nothing else holds its series.
#[derive(Debug)]
struct Kept<K, V> {
    by_name: AHashMap<K, Arc<V>>,
    retired: VecDeque<K>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { by_name: AHashMap::default(), retired: VecDeque::new() }
    }
}

impl<K: Hash + Eq + Clone, V: Default> Kept<K, V> {
    fn get(&mut self, name: K) -> Arc<V> {
        self.by_name.entry(name).or_default().clone()
    }

    fn sweep(&mut self) {
        let held = |series: &Arc<V>| Arc::strong_count(series) > 1;
        self.retired.retain(|name| self.by_name.get(name).is_some_and(|series| !held(series)));
        let known: ahash::AHashSet<&K> = self.retired.iter().collect();
        let mut left: Vec<K> = Vec::new();
        for (name, series) in &self.by_name {
            if !held(series) && !known.contains(name) {
                left.push(name.clone());
            }
        }
        drop(known);
        self.retired.extend(left);
        while self.retired.len() > RETIRED_MAX {
            if let Some(name) = self.retired.pop_front() {
                self.by_name.remove(&name);
            }
        }
    }
}

/// The result of an offered configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is served.
    Applied,
    /// It is served already.
    Unchanged,
    /// It has findings.
    Refused,
}

impl Reload {
    const ALL: [Reload; 3] = [Reload::Applied, Reload::Unchanged, Reload::Refused];

    fn label(self) -> &'static str {
        match self {
            Reload::Applied => "applied",
            Reload::Unchanged => "unchanged",
            Reload::Refused => "refused",
        }
    }
}

/// Present values of the gauges.
#[derive(Debug, Default)]
pub struct Now {
    /// The revision that is served.
    pub revision: Revision,
    /// Upstream, server and whether it takes requests.
    pub servers: Vec<(Arc<str>, SocketAddr, bool)>,
    /// Upstream and whether it panics.
    pub upstreams: Vec<(Arc<str>, bool)>,
    /// The releases.
    pub releases: Vec<Gauges>,
}

/// Servers by number, from 1.
#[derive(Debug)]
struct Numbers<K> {
    by_name: AHashMap<K, u32>,
    names: Vec<K>,
}

impl<K: Clone + Eq + std::hash::Hash> Numbers<K> {
    fn of(&mut self, name: K) -> u32 {
        *self.by_name.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() as u32
        })
    }

    fn name(&self, number: u32) -> Option<K> {
        self.names.get(number.checked_sub(1)? as usize).cloned()
    }
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Numbers { by_name: AHashMap::default(), names: Vec::new() }
    }
}

/// All series of the process.
#[derive(Default)]
pub struct Registry {
    routes: Mutex<Kept<Arc<str>, RouteSeries>>,
    upstreams: Mutex<Kept<Arc<str>, UpstreamSeries>>,
    servers: Mutex<Kept<(Arc<str>, SocketAddr), ServerSeries>>,
    limits: Mutex<Kept<Arc<str>, Counter>>,
    numbers: Mutex<Numbers<(Arc<str>, SocketAddr)>>,
    apps: Mutex<Numbers<Arc<str>>>,
    connections: Mutex<Vec<(SocketAddr, Arc<Gauge>)>>,
    rejected: [Counter; Reason::ALL.len()],
    reloads: [Counter; Reload::ALL.len()],
    /// Dropped access-log lines.
    pub log_dropped: Arc<Counter>,
    /// Requests that the last resort has ended.
    pub stuck: Arc<Counter>,
    /// The access log, once it exists.
    pub access_log: std::sync::OnceLock<Arc<AccessLog>>,
    /// The account of memory, once there is a bound.
    pub memory: std::sync::OnceLock<Arc<Account>>,
    /// The ledger's series, if it is embedded.
    pub ledger: std::sync::OnceLock<prometheus::Registry>,
    /// Requests without a route (so far): none matched.
    pub unrouted: RouteSeries,
}

impl Registry {
    /// The series of a route.
    pub fn route(&self, name: &Arc<str>) -> Arc<RouteSeries> {
        self.routes.lock().get(name.clone())
    }

    /// The series of an upstream.
    pub fn upstream(&self, name: &Arc<str>) -> Arc<UpstreamSeries> {
        self.upstreams.lock().get(name.clone())
    }

    /// The series of a server of an upstream.
    pub fn server(&self, upstream: &Arc<str>, server: SocketAddr) -> Arc<ServerSeries> {
        self.servers.lock().get((upstream.clone(), server))
    }

    /// The requests that a limit refused.
    pub fn limit(&self, name: &Arc<str>) -> Arc<Counter> {
        self.limits.lock().get(name.clone())
    }

    /// The number of a server of an upstream: constant as long as the process lives, never 0.
    pub fn server_number(&self, upstream: &Arc<str>, server: SocketAddr) -> u32 {
        self.numbers.lock().of((upstream.clone(), server))
    }

    /// The number of an app: constant as long as the process lives, never 0.
    pub fn app_number(&self, app: &Arc<str>) -> u32 {
        self.apps.lock().of(app.clone())
    }

    /// The app with a number.
    pub fn app_of(&self, number: u32) -> Option<Arc<str>> {
        self.apps.lock().name(number)
    }

    /// The server with a number.
    pub fn server_of(&self, number: u32) -> Option<(Arc<str>, SocketAddr)> {
        self.numbers.lock().name(number)
    }

    /// The open connections of a listener.
    pub fn connections(&self, listener: SocketAddr) -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::default());
        self.connections.lock().push((listener, gauge.clone()));
        gauge
    }

    /// Counts a refused request.
    pub fn rejected(&self, reason: Reason) {
        self.rejected[reason as usize].add(1);
    }

    /// Counts an offered configuration.
    pub fn reloaded(&self, result: Reload) {
        self.reloads[result as usize].add(1);
    }

    /// Drops series whose names left long ago. Call it after a swap.
    pub fn sweep(&self) {
        self.routes.lock().sweep();
        self.upstreams.lock().sweep();
        self.servers.lock().sweep();
        self.limits.lock().sweep();
    }

    /// Prometheus text format 0.0.4.
    pub fn expose(&self, now: &Now) -> String {
        let mut families = vec![];
        self.expose_routes(&mut families);
        self.expose_upstreams(&mut families, now);
        expose_releases(&mut families, &now.releases);
        let connections = self.connections.lock().iter().map(|(l, g)| gauge([l.to_string()], g.value())).collect();
        push(&mut families, &names::CONNECTIONS, connections);
        let rejected = Reason::ALL.iter().map(|r| counter([r.label()], self.rejected[*r as usize].sum())).collect();
        push(&mut families, &names::REJECTED, rejected);
        push(&mut families, &names::LIMITED, self.limited());
        push(&mut families, &names::CONFIG_REVISION, vec![gauge([now.revision.to_string()], 1)]);
        let reloads = Reload::ALL.iter().map(|r| counter([r.label()], self.reloads[*r as usize].sum())).collect();
        push(&mut families, &names::CONFIG_RELOADS, reloads);
        let held = |memory: &Arc<Account>| Kind::ALL.map(|kind| gauge([kind.label().to_owned()], memory.held(kind)));
        push(&mut families, &names::MEMORY, self.memory.get().into_iter().flat_map(held).collect());
        for (name, count) in [(&names::STUCK, &self.stuck), (&names::LOG_DROPPED, &self.log_dropped)] {
            let mut counter = counter([""; 0], count.sum());
            counter.exists = true;
            push(&mut families, name, vec![counter]);
        }
        families.extend(self.ledger.get().iter().flat_map(|ledger| ledger.gather()));

        let mut text = Vec::new();
        // Encoding into memory cannot fail; an encoder that refuses a family would leave the rest readable.
        let _ = TextEncoder::new().encode(&families, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    fn limited(&self) -> Vec<Sample> {
        let mut limits: Vec<_> = self.limits.lock().by_name.iter().map(|(n, s)| (n.clone(), s.sum())).collect();
        limits.sort();
        limits.iter().map(|(name, refused)| counter([&**name], *refused)).collect()
    }

    fn expose_routes(&self, families: &mut Vec<MetricFamily>) {
        let (mut requests, mut durations) = (vec![], vec![]);
        let mut one = |route: &str, series: &RouteSeries| {
            for (arm, series) in series.used() {
                let totals = series.totals();
                for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(totals.classes) {
                    requests.push(counter([route, arm.label(), class], count));
                }
                durations.push(histogram([route, arm.label()], &totals));
            }
        };
        one("", &self.unrouted);
        let mut routes: Vec<_> = self.routes.lock().by_name.iter().map(|(n, s)| (n.clone(), s.clone())).collect();
        routes.sort_by(|a, b| a.0.cmp(&b.0));
        routes.iter().for_each(|(name, series)| one(name, series));
        push(families, &names::REQUESTS, requests);
        push(families, &names::DURATION, durations);
    }

    fn expose_upstreams(&self, families: &mut Vec<MetricFamily>, now: &Now) {
        let mut servers: Vec<_> = self.servers.lock().by_name.iter().map(|(n, s)| (n.clone(), s.clone())).collect();
        servers.sort_by(|a, b| a.0.cmp(&b.0));
        let attempts = servers.iter().flat_map(|((upstream, server), series)| {
            Outcome::ALL.map(|o| counter([upstream, &*server.to_string(), o.label()], series.total(o)))
        });
        push(families, &names::UPSTREAM_REQUESTS, attempts.collect());
        let healthy = now.servers.iter().map(|(u, s, up)| gauge([u.to_string(), s.to_string()], u64::from(*up)));
        push(families, &names::UPSTREAM_HEALTHY, healthy.collect());
        let panics = now.upstreams.iter().map(|(u, panics)| gauge([u.to_string()], u64::from(*panics)));
        push(families, &names::UPSTREAM_PANIC, panics.collect());
        let mut upstreams: Vec<_> = self.upstreams.lock().by_name.iter().map(|(n, s)| (n.clone(), s.clone())).collect();
        upstreams.sort_by(|a, b| a.0.cmp(&b.0));
        let retries =
            upstreams.iter().flat_map(|(name, s)| RetryReason::ALL.map(|r| counter([&**name, r.label()], s.total(r))));
        push(families, &names::RETRIES, retries.collect());
    }
}

fn expose_releases(families: &mut Vec<MetricFamily>, releases: &[Gauges]) {
    let each = |samples: &dyn Fn(&Gauges) -> Vec<Sample>| releases.iter().flat_map(samples).collect();
    let rescues = |r: &Gauges| r.rescues.iter().map(|(outcome, n)| counter([&*r.name, outcome], *n)).collect();
    push(families, &names::RESCUES, each(&rescues));
    push(families, &names::RELEASE_UNKEYED, each(&|r| vec![counter([&*r.name], r.unkeyed)]));
    push(families, &names::RELEASE_PERCENT, each(&|r| vec![level([&*r.name], r.percent)]));
    let evidence = |r: &Gauges| r.evidence.iter().map(|(signal, e)| level([&*r.name, signal], *e)).collect();
    push(families, &names::RELEASE_EVIDENCE, each(&evidence));
    let states = |r: &Gauges| r.states.iter().map(|(s, is)| level([&*r.name, s], f64::from(*is))).collect();
    push(families, &names::RELEASE_STATE, each(&states));
}

/// A sample and its label values; `exists` is false while a counter was never used.
struct Sample {
    labels: Vec<String>,
    metric: Metric,
    exists: bool,
}

fn counter<const N: usize>(labels: [impl AsRef<str>; N], value: u64) -> Sample {
    let (mut metric, mut counter) = (Metric::default(), CounterValue::default());
    counter.set_value(value as f64);
    metric.set_counter(counter);
    Sample { labels: labels.map(|l| l.as_ref().to_owned()).into(), metric, exists: value > 0 }
}

fn gauge<const N: usize>(labels: [String; N], value: u64) -> Sample {
    level(labels, value as f64)
}

fn level<const N: usize>(labels: [impl AsRef<str>; N], value: f64) -> Sample {
    let (mut metric, mut gauge) = (Metric::default(), GaugeValue::default());
    gauge.set_value(value);
    metric.set_gauge(gauge);
    Sample { labels: labels.map(|l| l.as_ref().to_owned()).into(), metric, exists: true }
}

fn histogram<const N: usize>(labels: [&str; N], totals: &ArmTotals) -> Sample {
    let (mut metric, mut histogram) = (Metric::default(), Histogram::default());
    let mut cumulative = 0;
    let buckets = BUCKETS.iter().zip(totals.buckets).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(totals.count);
    histogram.set_sample_sum(totals.seconds);
    metric.set_histogram(histogram);
    Sample { labels: labels.map(str::to_owned).into(), metric, exists: totals.count > 0 }
}

fn push(families: &mut Vec<MetricFamily>, name: &Name, samples: Vec<Sample>) {
    let metrics = samples.into_iter().filter(|sample| sample.exists).map(|mut sample| {
        debug_assert_eq!(sample.labels.len(), name.labels.len());
        let pairs = name.labels.iter().zip(sample.labels).map(|(label, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*label).to_owned());
            pair.set_value(value);
            pair
        });
        sample.metric.set_label(pairs.collect());
        sample.metric
    });
    let metrics: Vec<_> = metrics.collect();
    if metrics.is_empty() {
        return;
    }
    let mut family = MetricFamily::default();
    family.set_name(name.name.to_owned());
    family.set_help(name.help.to_owned());
    family.set_field_type(match name.kind {
        metric::Kind::Counter => MetricType::COUNTER,
        metric::Kind::Gauge => MetricType::GAUGE,
        metric::Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(metrics);
    families.push(family);
}

#[cfg(test)]
mod tests {
    use super::super::series::Arm;
    use super::*;

    #[test]
    fn a_series_outlives_a_reload_and_is_let_go_when_many_left() {
        let registry = Registry::default();
        registry.route(&"a".into()).arm(Arm::None).answered(200, std::time::Duration::from_millis(3));
        registry.sweep();
        let text = registry.expose(&Now::default());
        assert!(text.contains(r#"tollgate_requests_total{route="a",arm="none",status_class="2xx"} 1"#), "{text}");
        assert!(
            text.contains(r#"tollgate_request_duration_seconds_bucket{route="a",arm="none",le="0.005"} 1"#),
            "{text}"
        );
        assert!(text.contains("tollgate_log_dropped_total 0"), "{text}");
        for i in 0..RETIRED_MAX + 1 {
            registry.route(&format!("r{i}").into());
            registry.sweep();
        }
        assert!(!registry.expose(&Now::default()).contains(r#"route="a""#));
        assert!(registry.routes.lock().by_name.len() <= RETIRED_MAX);
    }
}
