//! Active health: probes every server of the upstreams that ask for it, and reports the results to the pool.
//!
//! [`Supervisor::sync`] gets all wanted targets at each new snapshot. A known target goes on undisturbed, with its
//! counts and timer, and takes over new settings without a restart (a configuration pushed ten times a second must not
//! prevent probes). A new one starts. A removed one stops, and leaves its server healthy, because nothing would mark it
//! so later. A target is identified by upstream and address; of two with the same ones the last counts, and the state
//! of a server that left and came back is a new target.
//!
//! A server starts healthy. Its first probe comes within a random part of the interval (at most 1 s), the next ones at
//! the interval give or take 10 %, so that probes do not run in step. A probe that takes longer than the interval
//! delays the next one. This module does not judge by traffic: `pool` does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use log::{info, warn};
use parking_lot::Mutex;
use pingora::connectors::http::Connector;
use pingora::upstreams::peer::HttpPeer;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::authorities;
use balance::State;
use base::units::Nanos;
use config::model::Health;

pub mod hysteresis;
mod probe;
#[cfg(test)]
mod tests;

use hysteresis::Hysteresis;
use probe::{Failure, Plan};

/// Maximum delay of a new target's first probe.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// Relative variation of an interval, either way.
const JITTER: f64 = 0.1;
/// The longest interval of a timer; longer ones are as good as never.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// One server to probe.
pub struct ProbeTarget {
    /// The upstream's name.
    pub upstream: Arc<str>,
    /// The server's address.
    pub address: SocketAddr,
    /// Gets the results.
    pub state: Arc<State>,
    /// How to probe.
    pub health: Health,
    /// How to connect for HTTP: as for requests.
    pub peer: HttpPeer,
}

/// A source of the time.
pub type Clock = Arc<dyn Fn() -> Nanos + Send + Sync>;

/// Runs one task for each target. Dropping it stops them all.
pub struct Supervisor {
    runtime: Handle,
    clock: Clock,
    running: Mutex<HashMap<(Arc<str>, SocketAddr), Running>>,
    /// Created for the first HTTP target: it reads the system's certificates.
    connector: Arc<OnceLock<Connector>>,
}

/// A task that probes; dropping its end of the channel stops it.
struct Running {
    state: Arc<State>,
    plan: watch::Sender<Plan>,
}

impl Supervisor {
    /// A supervisor that runs its tasks on this runtime.
    pub fn new(runtime: Handle, clock: Clock) -> Supervisor {
        Supervisor { runtime, clock, running: Mutex::default(), connector: Arc::default() }
    }

    /// Starts, updates and stops tasks so that exactly these targets run. It waits for nothing except, the first time,
    /// the system's certificates.
    pub fn sync(&self, targets: Vec<ProbeTarget>) {
        if targets.iter().any(|target| target.health.path.is_some()) {
            self.connector.get_or_init(connector);
        }
        let mut running = self.running.lock();
        let mut before = std::mem::take(&mut *running);
        for target in targets {
            let ProbeTarget { upstream, address, state, health, peer } = target;
            let key = (upstream, address);
            let plan = Plan { address, health, peer: Arc::new(peer) };
            match before.remove(&key).filter(|known| Arc::ptr_eq(&known.state, &state)) {
                Some(known) => {
                    known.plan.send_replace(plan);
                    running.insert(key, known);
                }
                None => {
                    let started = self.start(Arc::clone(&key.0), state, plan);
                    running.insert(key, started);
                }
            }
        }
    }

    /// Number of probed targets.
    pub fn len(&self) -> usize {
        self.running.lock().len()
    }

    /// Whether nothing is probed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn start(&self, upstream: Arc<str>, state: Arc<State>, plan: Plan) -> Running {
        let (sender, receiver) = watch::channel(plan);
        let watch = Watch {
            upstream,
            state: Arc::clone(&state),
            plans: receiver,
            clock: Arc::clone(&self.clock),
            connector: Arc::clone(&self.connector),
        };
        self.runtime.spawn(watch.run());
        Running { state, plan: sender }
    }
}

/// The task of one target.
struct Watch {
    upstream: Arc<str>,
    state: Arc<State>,
    plans: watch::Receiver<Plan>,
    clock: Clock,
    connector: Arc<OnceLock<Connector>>,
}

/// A connector that keeps no connection: each probe has its own.
fn connector() -> Connector {
    Connector::new(Some(authorities::options(1)))
}

impl Watch {
    async fn run(mut self) {
        let mut plan = self.plans.borrow_and_update().clone();
        let Health { unhealthy_after, healthy_after, interval, .. } = plan.health;
        let mut hysteresis = Hysteresis::new(self.state.healthy(), unhealthy_after, healthy_after);
        let mut next = Instant::now() + interval.min(FIRST_WITHIN).mul_f64(fastrand::f64());
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {
                    let started = Instant::now();
                    let connector = self.connector.get_or_init(connector);
                    let outcome = tokio::select! {
                        outcome = probe::probe(&plan, connector) => outcome,
                        () = stopped(&mut self.plans) => break,
                    };
                    self.take_in(&mut hysteresis, outcome);
                    next = started + jittered(plan.health.interval);
                }
                changed = self.plans.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
            let wanted = self.plans.borrow_and_update().clone();
            if wanted.health != plan.health {
                hysteresis.configure(wanted.health.unhealthy_after, wanted.health.healthy_after);
                next = next.min(Instant::now() + jittered(wanted.health.interval));
            }
            plan = wanted;
        }
        self.state.set_healthy(true, (self.clock)());
    }

    /// Takes in one outcome. The state is compared each time: a task that ended late may have changed it.
    fn take_in(&self, hysteresis: &mut Hysteresis, outcome: Result<(), Failure>) {
        let changed = hysteresis.observe(outcome.is_ok());
        if self.state.healthy() != hysteresis.healthy() {
            self.state.set_healthy(hysteresis.healthy(), (self.clock)());
        }
        let address = self.plans.borrow().address;
        match (changed, outcome) {
            (Some(_), Err(why)) => warn!("upstream {}: server {address} is unhealthy: {why}", self.upstream),
            (Some(_), Ok(())) => info!("upstream {}: server {address} is healthy again", self.upstream),
            (None, _) => {}
        }
    }
}

/// Returns once the supervisor no longer wants this target.
async fn stopped(plans: &mut watch::Receiver<Plan>) {
    while plans.changed().await.is_ok() {}
}

fn jittered(interval: Duration) -> Duration {
    interval.min(LONGEST).mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}
