//! Tests of whole pools: what a request sees. The parts' own tests stand beside the parts.

mod balance;
mod chaos;
mod eject;
mod keep;
mod threads;

use super::*;
use base::units::Share;

const SECOND: Duration = Duration::from_secs(1);

/// So many seconds after the start; tests begin at 1,000 s so that they can look back.
fn at(seconds: f64) -> Nanos {
    Nanos(((1_000.0 + seconds) * 1e9) as u64)
}

/// The server whose name is `name`.
fn address(name: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 0], 1_000 + name as u16))
}

fn settings(balance: Balance) -> Settings {
    let max_ejected = Share::percent(50.0).unwrap();
    let outlier = Outlier { consecutive_failures: 5, eject_for: 10 * SECOND, max_ejected };
    Settings { balance, slow_start: None, max_in_flight: None, outlier }
}

/// Specs of servers 0, 1, 2 … with these weights; each one has its name attached.
fn specs(weights: &[u16]) -> Vec<Spec<usize>> {
    let named = weights.iter().enumerate();
    named.map(|(name, weight)| Spec { address: address(name), weight: *weight, attached: name }).collect()
}

fn pool(settings: Settings, weights: &[u16]) -> Pool<usize> {
    Pool::new(settings, specs(weights), None, at(0.0))
}

fn all_balances() -> [Balance; 5] {
    use crate::settings::HashKey;
    [Balance::RoundRobin, Balance::Random, Balance::LeastRequest, Balance::PeakEwma, Balance::Hash(HashKey::Ip)]
}

/// A client that picks with a seed of its own; each request has a key of its own.
struct Client {
    draws: random::Draws,
    now: Nanos,
}

impl Client {
    fn new(seed: u64) -> Client {
        Client { draws: random::Draws::new(seed), now: at(0.0) }
    }

    fn at(&mut self, seconds: f64) -> &mut Client {
        self.now = at(seconds);
        self
    }

    fn pick(&mut self, pool: &Pool<usize>) -> Result<Lease<usize>, PickError> {
        self.retry(pool, &Tried::new())
    }

    fn retry(&mut self, pool: &Pool<usize>, tried: &Tried) -> Result<Lease<usize>, PickError> {
        let key = self.draws.bits().to_le_bytes();
        let lease = pool.pick(Pick { key: &key, tried, now: self.now, random: self.draws.bits(), uploading: false });
        check_invariants(pool, &lease);
        lease
    }

    /// Names picked one after the other, each request done before the next one.
    fn names(&mut self, pool: &Pool<usize>, requests: usize) -> Vec<usize> {
        (0..requests).map(|_| self.pick(pool).unwrap().attached).collect()
    }

    /// How often each server was picked.
    fn counts(&mut self, pool: &Pool<usize>, requests: usize) -> Vec<usize> {
        let mut counts = vec![0; pool.members().len()];
        self.names(pool, requests).into_iter().for_each(|name| counts[name] += 1);
        counts
    }
}

/// What holds after each pick, whatever the pool.
fn check_invariants(pool: &Pool<usize>, lease: &Result<Lease<usize>, PickError>) {
    match lease {
        Ok(lease) => {
            assert!(lease.weight > 0, "a drained server was picked");
            assert!(lease.state.in_flight() > 0);
        }
        Err(PickError::Empty) => assert!(pool.members().iter().all(|m| m.weight == 0)),
        Err(PickError::Saturated) => assert!(pool.settings().max_in_flight.is_some()),
    }
    if let (Ok(lease), Some(limit)) = (lease, pool.settings().max_in_flight) {
        assert!(lease.state.in_flight() <= limit);
    }
}

/// Lets the named server fail so many times, one request after the other.
fn fail(pool: &Pool<usize>, name: usize, times: usize, now: Nanos) -> Vec<Ejection> {
    let failed = (0..times).filter_map(|_| lease_of(pool, name, now).failed(now));
    failed.collect()
}

/// A lease on that very server, whatever its state.
fn lease_of(pool: &Pool<usize>, name: usize, now: Nanos) -> Lease<usize> {
    Lease::take(&pool.members()[name], true, now, None).unwrap()
}

fn roughly(counts: &[usize], shares: &[f64], tolerance: f64) {
    let total: usize = counts.iter().sum();
    let whole: f64 = shares.iter().sum();
    for (i, (count, share)) in counts.iter().zip(shares).enumerate() {
        let (is, should) = (*count as f64 / total as f64, share / whole);
        assert!((is - should).abs() < tolerance, "server {i} has {is}, not {should}: {counts:?}");
    }
}
