//! The baseline: what stable would have failed, had it served the canary's requests.
//!
//! It is not a forecast: stable serves other users of the same kinds at the same time. Its failure rate is taken by
//! route, cohorts and app; servers have no counterpart there. A rate from few requests is shrunk towards the next wider
//! one (route, then all of stable), which weighs as much as two failures, so an empty group has the wider rate.
//! Stable's failure modes are taken by route, shrunk the same way.

use std::collections::BTreeMap;

use super::super::breakdown::{Cell, CellOutcome};
use super::super::sample::Arm;
use super::{Measure, Part, PlaceCounts, failure_modes};

/// The weight of the wider rate, in failures.
const DRAWN: f64 = 2.0;
/// Failure modes that are told apart; the rarest are counted together, as one that is never named.
const WAYS: usize = 16;

/// Requests of the canary that differ in their failure mode only.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) route: Option<u16>,
    pub(super) server: Option<u32>,
    pub(super) cohorts: u16,
    pub(super) app: Option<u32>,
    pub(super) requests: f64,
    /// Events by failure mode.
    pub(super) events: Vec<f64>,
    /// Events that stable would have had, by failure mode.
    pub(super) expected: Vec<f64>,
}

/// All spots.
#[derive(Clone, Debug)]
pub(super) struct Spots {
    spots: Vec<Spot>,
    ways: Vec<CellOutcome>,
}

/// Requests, and events by failure mode.
#[derive(Clone, Debug)]
struct Observed {
    requests: f64,
    events: Vec<f64>,
}

/// Route, cohorts and app: the dimensions that stable's requests share with the canary's.
type Group = (Option<u16>, u16, Option<u32>);

impl Spots {
    /// The canary's spots, with the events expected from stable's.
    pub(super) fn new(cells: &[Cell], measure: Measure) -> Spots {
        let ways = all_ways(cells, measure);
        let way = |cell: &Cell| {
            let found = ways.iter().position(|way| *way == measure.way(cell));
            found.unwrap_or(ways.len() - 1)
        };
        let count = |seen: &mut Observed, cell: &Cell| {
            seen.requests += cell.counts.requests as f64;
            seen.events[way(cell)] += measure.events(cell) as f64;
        };
        let none = || Observed { requests: 0.0, events: vec![0.0; ways.len()] };
        let mut canary: BTreeMap<_, Observed> = BTreeMap::new();
        let mut stable = Stable { all: none(), routes: BTreeMap::new(), groups: BTreeMap::new() };
        for cell in cells.iter().filter(|cell| cell.judged) {
            match cell.arm {
                Arm::Canary => {
                    let key = (cell.route, cell.server, cell.cohorts, cell.app);
                    count(canary.entry(key).or_insert_with(none), cell);
                }
                Arm::Stable => {
                    count(&mut stable.all, cell);
                    count(stable.routes.entry(cell.route).or_insert_with(none), cell);
                    let group = (cell.route, cell.cohorts, cell.app);
                    count(stable.groups.entry(group).or_insert_with(none), cell);
                }
            }
        }
        let spot = |((route, server, cohorts, app), seen): (_, Observed)| {
            let rate = stable.rate((route, cohorts, app));
            let expected = stable.ways(route).into_iter().map(|share| rate * share * seen.requests).collect();
            Spot { route, server, cohorts, app, requests: seen.requests, events: seen.events, expected }
        };
        Spots { spots: canary.into_iter().map(spot).collect(), ways }
    }

    pub(super) fn all(&self) -> &[Spot] {
        &self.spots
    }

    pub(super) fn ways(&self) -> &[CellOutcome] {
        &self.ways
    }

    pub(super) fn requests(&self) -> f64 {
        self.spots.iter().map(|spot| spot.requests).sum()
    }

    pub(super) fn events(&self) -> f64 {
        self.spots.iter().flat_map(|spot| &spot.events).sum()
    }

    pub(super) fn expected(&self) -> f64 {
        self.spots.iter().flat_map(|spot| &spot.expected).sum()
    }

    /// The part of a spot that fails in the modes of `parts`.
    pub(super) fn tally(&self, spot: &Spot, parts: &[Part]) -> PlaceCounts {
        let mut tally = PlaceCounts { requests: spot.requests, ..PlaceCounts::default() };
        for (way, _) in self.ways.iter().enumerate().filter(|(_, way)| failure_modes::is_in(**way, parts)) {
            tally.events += spot.events[way];
            tally.expected += spot.expected[way];
        }
        tally
    }

    /// The spots with only the events of the failure modes of `parts`, which are then all alike.
    pub(super) fn only(&self, parts: &[Part]) -> Spots {
        let only = |spot: &Spot| {
            let tally = self.tally(spot, parts);
            Spot { events: vec![tally.events], expected: vec![tally.expected], ..spot.clone() }
        };
        Spots { spots: self.spots.iter().map(only).collect(), ways: vec![CellOutcome::Fine] }
    }

    /// Takes out a place: its requests, or only its events where it has a failure mode.
    pub(super) fn take_out(&mut self, parts: &[Part]) {
        if parts.iter().all(|part| part.is_location()) {
            return self.spots.retain(|spot| !spot.is_in(parts));
        }
        for spot in self.spots.iter_mut().filter(|spot| spot.is_in(parts)) {
            for (at, _) in self.ways.iter().enumerate().filter(|(_, way)| failure_modes::is_in(**way, parts)) {
                spot.events[at] = 0.0;
                spot.expected[at] = 0.0;
            }
        }
    }
}

impl Spot {
    /// Whether the spot lies in the locations of `parts`; failure modes are ignored.
    pub(super) fn is_in(&self, parts: &[Part]) -> bool {
        parts.iter().all(|part| match *part {
            Part::Route(route) => self.route == Some(route),
            Part::Server(server) => self.server == Some(server),
            Part::Cohort(bit) => self.cohorts >> bit & 1 == 1,
            Part::App(app) => self.app == Some(app),
            Part::Status(_) | Part::Class(_) | Part::Failure(_) => true,
        })
    }
}

/// The failure modes of all events, the commonest first; the last one stands for the rest.
fn all_ways(cells: &[Cell], measure: Measure) -> Vec<CellOutcome> {
    let mut counts: BTreeMap<CellOutcome, u64> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.judged && measure.events(cell) > 0) {
        *counts.entry(measure.way(cell)).or_default() += measure.events(cell);
    }
    let mut ways: Vec<(CellOutcome, u64)> = counts.into_iter().collect();
    ways.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    ways.truncate(WAYS);
    let mut ways: Vec<CellOutcome> =
        ways.into_iter().map(|(way, _)| way).filter(|way| *way != CellOutcome::Fine).collect();
    ways.push(CellOutcome::Fine);
    ways
}

/// Stable's counts.
struct Stable {
    all: Observed,
    routes: BTreeMap<Option<u16>, Observed>,
    groups: BTreeMap<Group, Observed>,
}

impl Stable {
    /// Stable's failure rate in a group.
    fn rate(&self, group: Group) -> f64 {
        if self.all.requests == 0.0 {
            return 0.0;
        }
        let all = (self.all.failed() + 0.5) / (self.all.requests + 1.0);
        let drawn = |seen: Option<&Observed>, wider: f64| match seen {
            Some(seen) => (seen.failed() + DRAWN) / (seen.requests + DRAWN / wider),
            None => wider,
        };
        drawn(self.groups.get(&group), drawn(self.routes.get(&group.0), all))
    }

    /// The distribution of its failures on a route over the modes; it sums to 1.
    fn ways(&self, route: Option<u16>) -> Vec<f64> {
        let count = self.all.events.len() as f64;
        let all = self.all.events.iter().map(|events| (events + 1.0 / count) / (self.all.failed() + 1.0));
        match self.routes.get(&route) {
            Some(seen) => {
                let draw = |(all, events): (f64, &f64)| (events + DRAWN * all) / (seen.failed() + DRAWN);
                all.zip(&seen.events).map(draw).collect()
            }
            None => all.collect(),
        }
    }
}

impl Observed {
    fn failed(&self) -> f64 {
        self.events.iter().sum()
    }
}
