//! The choice of a member: the five algorithms, and the fallbacks where their choice cannot be used.
//!
//! Sources: nginx's smooth round robin (`sequence`), Mitzenmacher's "The Power of Two Choices in Randomized Load
//! Balancing" (2001) for least_request, Finagle's Peak EWMA (`ewma`), Ketama (`ring`).
//!
//! Of two choices the first one drawn wins ties, so that weights hold while there is no load. A choice that cannot be
//! used (down, full, already tried, or rejected by its ramp) is replaced by a draw among all usable members, by weight
//! times ramp. So a dead server's share spreads over the others by their weights instead of onto its neighbour. Only
//! the ring goes on to its next point, and it ignores ramps, because a key must stay where it is.
//!
//! Usable are, in this order: servers not yet tried that are up; where none of those is up, not even a full one,
//! those that are down (panic); servers tried before that are up; and where no server at all is up, any. The
//! limit of requests in flight always holds, and weight 0 is never chosen. There is no queue: the caller has to
//! refuse when the fleet is full.

use std::mem::Discriminant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::random::Draws;
use super::ring::Ring;
use super::sequence::Sequence;
use super::state::{FULL, State};
use super::tried::Tried;
use super::weights::Weights;
use super::{Pick, Settings};
use crate::settings::Balance;
use base::units::{Nanos, nanoseconds};

/// The number of misses after which a walk on the ring checks whether any member fits.
const RING_PATIENCE: usize = 64;

/// A pool without its owner's data.
pub(super) struct Fleet {
    pub(super) settings: Settings,
    /// In the order of the members.
    pub(super) states: Box<[Arc<State>]>,
    pub(super) plan: Arc<Plan>,
    /// Turns taken so far; shared by all snapshots, so that a new one goes on where the old one was.
    pub(super) turns: Arc<Turns>,
    /// Held while a server is ejected.
    pub(super) ejecting: Arc<Mutex<()>>,
}

/// Turns of round robin taken so far.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Turns(AtomicU64);

/// The tables that depend on balance, addresses and weights alone; snapshots that agree in these share them.
pub(super) struct Plan {
    balance: Discriminant<Balance>,
    shape: Box<[(SocketAddr, u16)]>,
    weights: Weights,
    algorithm: Algorithm,
}

enum Algorithm {
    RoundRobin(Sequence),
    Random,
    LeastRequest,
    PeakEwma,
    Hash(Ring),
}

impl Plan {
    /// The plan for these members: `previous` where nothing changed.
    pub(super) fn new(balance: &Balance, shape: Box<[(SocketAddr, u16)]>, previous: Option<&Arc<Plan>>) -> Arc<Plan> {
        let kind = std::mem::discriminant(balance);
        if let Some(same) = previous.filter(|p| p.balance == kind && p.shape == shape) {
            return Arc::clone(same);
        }
        let weights = Weights::new(shape.iter().map(|m| m.1));
        let algorithm = match balance {
            Balance::RoundRobin => Algorithm::RoundRobin(Sequence::new(&shape.iter().map(|m| m.1).collect::<Vec<_>>())),
            Balance::Random => Algorithm::Random,
            Balance::LeastRequest => Algorithm::LeastRequest,
            Balance::PeakEwma => Algorithm::PeakEwma,
            Balance::Hash(_) => Algorithm::Hash(Ring::new(&shape)),
        };
        Arc::new(Plan { balance: kind, shape, weights, algorithm })
    }
}

impl Fleet {
    pub(super) fn weight(&self, index: usize) -> u64 {
        self.plan.weights.of(index)
    }

    pub(super) fn total_weight(&self) -> u64 {
        self.plan.weights.total()
    }

    /// The states of the members with a weight.
    pub(super) fn carrying(&self) -> impl Iterator<Item = &State> {
        self.states.iter().enumerate().filter(|(i, _)| self.weight(*i) > 0).map(|(_, state)| &**state)
    }

    /// Whether failures should make a server look slow.
    pub(super) fn by_latency(&self) -> bool {
        matches!(self.plan.algorithm, Algorithm::PeakEwma)
    }
}

/// The members that may be chosen.
#[derive(Clone, Copy)]
struct Tier {
    /// Includes members that were tried.
    again: bool,
    /// Includes members that are down.
    down: bool,
}

/// One search for a member.
pub(super) struct Search<'a> {
    fleet: &'a Fleet,
    key: &'a [u8],
    tried: &'a Tried,
    now: Nanos,
    draws: Draws,
    /// The member whose turn it is, for round robin.
    turn: Option<usize>,
    /// The length of a ramp, in nanoseconds.
    slow_start: Option<u64>,
    /// The number of requests in flight from which a member is full for this request.
    places: Option<u32>,
}

impl<'a> Search<'a> {
    /// Begins a search. At least one member must have a weight.
    pub(super) fn new(fleet: &'a Fleet, request: &Pick<'a>, places: Option<u32>) -> Search<'a> {
        debug_assert!(fleet.total_weight() > 0);
        let turn = match &fleet.plan.algorithm {
            Algorithm::RoundRobin(sequence) => {
                Some(sequence.at(fleet.turns.0.fetch_add(1, Relaxed), &fleet.plan.weights))
            }
            _ => None,
        };
        let draws = Draws::new(request.random);
        let slow_start = fleet.settings.slow_start.map(nanoseconds);
        Search { fleet, key: request.key, tried: request.tried, now: request.now, draws, turn, slow_start, places }
    }

    /// The member to use, and whether a member that is down was allowed.
    pub(super) fn find(&mut self) -> Option<(usize, bool)> {
        match self.choose(Tier { again: false, down: false }) {
            Some(found) => Some((found, false)),
            None => self.find_at_need(),
        }
    }

    #[cold]
    fn find_at_need(&mut self) -> Option<(usize, bool)> {
        let up = |i: &usize| self.fleet.weight(*i) > 0 && self.fleet.states[*i].usable(self.now);
        let any_up = self.indices().any(|i| up(&i));
        let untried_up = self.indices().any(|i| up(&i) && !self.was_tried(i));
        let tiers = [
            (!untried_up, Tier { again: false, down: true }),
            (any_up, Tier { again: true, down: false }),
            (!any_up, Tier { again: true, down: true }),
        ];
        let open = tiers.into_iter().filter(|(open, _)| *open);
        open.map(|(_, tier)| tier).find_map(|tier| self.choose(tier).map(|found| (found, tier.down)))
    }

    fn choose(&mut self, tier: Tier) -> Option<usize> {
        let fleet = self.fleet;
        match &fleet.plan.algorithm {
            Algorithm::RoundRobin(_) => {
                let turn = self.turn.filter(|turn| self.admits(*turn, tier));
                turn.or_else(|| self.draw_among(tier, None))
            }
            Algorithm::Random => self.draw(tier),
            Algorithm::LeastRequest => self.better_of_two(tier, |first, second| {
                let load = |i: usize| u64::from(fleet.states[i].in_flight());
                load(second) * fleet.weight(first) < load(first) * fleet.weight(second)
            }),
            Algorithm::PeakEwma => {
                let now = self.now;
                let cost = |i: usize| {
                    let hot = &fleet.states[i].hot;
                    hot.latency.cost(fleet.states[i].in_flight(), now) / fleet.weight(i) as f64
                };
                self.better_of_two(tier, |first, second| cost(second) < cost(first))
            }
            Algorithm::Hash(ring) => self.walk(ring, tier),
        }
    }

    fn draw(&mut self, tier: Tier) -> Option<usize> {
        let drawn = self.fleet.plan.weights.draw(&mut self.draws);
        if self.admits(drawn, tier) { Some(drawn) } else { self.draw_among(tier, None) }
    }

    fn better_of_two(&mut self, tier: Tier, second_wins: impl Fn(usize, usize) -> bool) -> Option<usize> {
        let first = self.draw(tier)?;
        let Some(drawn) = self.fleet.plan.weights.draw_other(first, &mut self.draws) else {
            return Some(first);
        };
        let second = if self.admits(drawn, tier) {
            Some(drawn)
        } else {
            // A member that its ramp rejected does not come back for being the only other one, and idle.
            self.draw_among(tier, Some(first)).filter(|second| *second != drawn)
        };
        Some(second.filter(|second| second_wins(first, *second)).unwrap_or(first))
    }

    fn walk(&self, ring: &Ring, tier: Tier) -> Option<usize> {
        let mut misses = 0;
        for owner in ring.walk(self.key) {
            if self.fits(owner, tier) {
                return Some(owner);
            }
            misses += 1;
            if misses == RING_PATIENCE && !self.indices().any(|i| self.fits(i, tier)) {
                return None;
            }
        }
        None
    }

    /// Draws among all members that fit, by weight times ramp. Where they change during the
    /// draw, the last one that fits.
    fn draw_among(&mut self, tier: Tier, except: Option<usize>) -> Option<usize> {
        let fleet = self.fleet;
        let share = |search: &Self, i: usize| {
            if Some(i) != except && search.fits(i, tier) { fleet.weight(i) * search.ramp(i) } else { 0 }
        };
        let total: u64 = self.indices().map(|i| share(self, i)).sum();
        let mut point = self.draws.below(total);
        let mut last = None;
        for i in self.indices() {
            let part = share(self, i);
            if part > 0 {
                last = Some(i);
            }
            if point < part {
                break;
            }
            point -= part;
        }
        last
    }

    /// Whether the member fits and its ramp admits this request.
    fn admits(&mut self, index: usize, tier: Tier) -> bool {
        if !self.fits(index, tier) {
            return false;
        }
        let ramp = self.ramp(index);
        ramp == FULL || self.draws.below(FULL) < ramp
    }

    fn ramp(&self, index: usize) -> u64 {
        self.slow_start.map_or(FULL, |slow_start| self.fleet.states[index].ramp(slow_start, self.now))
    }

    fn fits(&self, index: usize, tier: Tier) -> bool {
        let state = &self.fleet.states[index];
        (tier.down || state.usable(self.now))
            && state.has_room(self.places)
            && (tier.again || !self.was_tried(index))
            && self.fleet.weight(index) > 0
    }

    fn was_tried(&self, index: usize) -> bool {
        !self.tried.is_empty() && self.tried.holds(self.fleet.states[index].id)
    }

    fn indices(&self) -> std::ops::Range<usize> {
        0..self.fleet.states.len()
    }
}
