//! Load balancing in an upstream: which server takes a request, and which ones are left out for a while.
//!
//! A [`Pool`] is an immutable set of members with one algorithm. What is learnt about a server lives in its [`State`],
//! which passes to the next pool that has the same address, so that a reload resets nothing. The engine is pure: time
//! and randomness are arguments. A pick takes no lock, allocates nothing and looks nothing up by name.
//!
//! - [`settings`]: the configuration. `choose`: the algorithms, ties and fallbacks; `sequence`, `weights`,
//!   `ring` are their tables.
//! - `state`, `ewma`: what is known of a server. `lease`: a request's hold on one. `tried`: the servers that it was at.
//! - `outlier`: passive ejection. [`attempt`]: how an attempt at a server failed. [`budget`]: how many retries an
//!   upstream may add to its load. [`adaptive`]: how many requests it can have at once.
//!
//! Members keep the order in which they were given, and that order breaks ties. Not covered: probing (the gateway's
//! `health`), names (addresses come resolved), connections, queues.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::settings::{Balance, Outlier};
use base::units::Nanos;

pub mod adaptive;
pub mod attempt;
pub mod budget;
mod choose;
mod ewma;
mod lease;
mod outlier;
mod random;
mod ring;
mod sequence;
pub mod settings;
mod state;
#[cfg(test)]
mod tests;
mod tried;
mod weights;

use choose::{Fleet, Plan, Search};
pub use lease::{Lease, Member};
pub use outlier::Ejection;
pub use state::State;
pub use tried::Tried;

/// Lost races after which a pick tries all members in turn.
const RACES: usize = 8;

/// The settings of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How a member is picked.
    pub balance: Balance,
    /// How long a member that comes (back) takes to grow to its full share; not with `Balance::Hash`.
    pub slow_start: Option<Duration>,
    /// The most requests in flight of a member.
    pub max_in_flight: Option<u32>,
    /// Passive ejection.
    pub outlier: Outlier,
}

impl Settings {
    /// The places of a member for a request. Uploads leave the last quarter to whole requests, so that no client holds
    /// all places by sending slowly; where there is one place, it is for both.
    fn places(&self, uploading: bool) -> Option<u32> {
        self.max_in_flight.map(|max| if uploading { (max - max.div_ceil(4)).max(1) } else { max })
    }
}

/// The specification of a member.
#[derive(Clone, Debug)]
pub struct Spec<T> {
    /// Its address.
    pub address: SocketAddr,
    /// Its share relative to the others; 0 drains it.
    pub weight: u16,
    /// The owner's data of the member.
    pub attached: T,
}

/// What a pick needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    /// The key to hash, with `Balance::Hash`.
    pub key: &'a [u8],
    /// The members that this request was sent to before.
    pub tried: &'a Tried,
    /// The time.
    pub now: Nanos,
    /// 64 fresh random bits.
    pub random: u64,
    /// Whether the body comes at its client's pace; a quarter of a member's places is closed to such requests.
    pub uploading: bool,
}

/// No server can take the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// There are no servers, or all are drained.
    #[error("the upstream has no servers")]
    Empty,
    /// Every usable server has as many requests in flight as it may.
    #[error("every server of the upstream is at its limit of requests in flight")]
    Saturated,
}

/// A set of servers.
pub struct Pool<T> {
    members: Box<[Arc<Member<T>>]>,
    fleet: Arc<Fleet>,
}

impl<T> Pool<T> {
    /// A pool of these servers. Those that `previous` has too keep their state, whatever their weight was; the others
    /// start slowly, unless `previous` had no servers.
    pub fn new(settings: Settings, specs: Vec<Spec<T>>, previous: Option<&Pool<T>>, now: Nanos) -> Pool<T> {
        let before: HashMap<SocketAddr, &Arc<Member<T>>> =
            previous.into_iter().flat_map(|p| &p.members).map(|m| (m.address, m)).collect();
        let states = specs.iter().map(|spec| state_for(spec, &before, now)).collect::<Box<[Arc<State>]>>();
        if settings.outlier.consecutive_failures == 0 {
            states.iter().for_each(|state| state.pardon());
        }
        let shape = specs.iter().map(|spec| (spec.address, spec.weight)).collect();
        let plan = Plan::new(&settings.balance, shape, previous.map(|p| &p.fleet.plan));
        let turns = previous.map(|p| Arc::clone(&p.fleet.turns)).unwrap_or_default();
        let ejecting = previous.map(|p| Arc::clone(&p.fleet.ejecting)).unwrap_or_default();
        let fleet = Arc::new(Fleet { settings, states, plan, turns, ejecting });
        let members = specs
            .into_iter()
            .enumerate()
            .map(|(index, spec)| {
                let Spec { address, weight, attached } = spec;
                let state = Arc::clone(&fleet.states[index]);
                Arc::new(Member { address, weight, state, attached, fleet: Arc::clone(&fleet), index })
            })
            .collect();
        Pool { members, fleet }
    }

    /// Chooses a member and counts the request in.
    pub fn pick(&self, request: Pick<'_>) -> Result<Lease<T>, PickError> {
        if self.fleet.total_weight() == 0 {
            return Err(PickError::Empty);
        }
        let places = self.fleet.settings.places(request.uploading);
        let mut search = Search::new(&self.fleet, &request, places);
        for _ in 0..RACES {
            let (found, down) = search.find().ok_or(PickError::Saturated)?;
            if let Some(lease) = Lease::take(&self.members[found], down, request.now, places) {
                debug_assert!(lease.weight > 0, "a drained server was picked");
                return Ok(lease);
            }
        }
        let carrying = self.members.iter().filter(|m| m.weight > 0 && m.state.usable(request.now));
        carrying.filter_map(|m| Lease::take(m, false, request.now, places)).next().ok_or(PickError::Saturated)
    }

    /// All members, drained ones too, in the order given.
    pub fn members(&self) -> &[Arc<Member<T>>] {
        &self.members
    }

    /// Whether every server that has a weight is unhealthy or ejected, so that requests go to them nevertheless. It is
    /// computed from times on each call, so it cannot be out of date.
    pub fn is_panicking(&self, now: Nanos) -> bool {
        self.fleet.total_weight() > 0 && !self.fleet.carrying().any(|state| state.is_up(now))
    }

    /// The settings of the pool.
    pub fn settings(&self) -> &Settings {
        &self.fleet.settings
    }
}

/// The state of a server that stays, or a new one; it ramps up where it joins others or was drained before.
fn state_for<T>(spec: &Spec<T>, before: &HashMap<SocketAddr, &Arc<Member<T>>>, now: Nanos) -> Arc<State> {
    match before.get(&spec.address) {
        Some(member) => {
            if member.weight == 0 && spec.weight > 0 {
                member.state.start_ramp(now);
            }
            Arc::clone(&member.state)
        }
        None => {
            let state = State::new();
            if !before.is_empty() {
                state.start_ramp(now);
            }
            Arc::new(state)
        }
    }
}
