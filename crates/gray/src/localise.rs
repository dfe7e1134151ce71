//! Localisation of a canary's fault: in which route, server, cohort or app it lies, and how requests fail.
//!
//! A Kulldorff scan (M. Kulldorff, "A spatial scan statistic", 1997) over the cells of `super::breakdown`. For a place
//! x with c of the canary's C failures, of which e were expected there: `llr(x) = c ln(c/e) + (C-c) ln((C-c)/(C-e))`, 0
//! where c <= e. The place is compared with the canary as a whole, so e is what would be there if the fault were the
//! same everywhere: stable's failures there (`baseline`), and of the rest the share that x has of the canary's
//! requests. So a canary that fails everywhere alike has no place, however much noisier one of its routes is than the
//! others. A failure mode has no requests of its own; each gets a fixed share of that rest (`failure_modes`).
//!
//! The `BEAM` best places are extended by one condition at a time. A condition is worth it only where the llr grows
//! by more than ln(number of values) + 2. The best place is picked, the failures that it explains are taken out, and
//! the rest is scanned again, until two thirds of the excess are explained; a place that explains less than a tenth
//! does not count. Where the best is only a failure mode, it is scanned by itself: several places may share it, such
//! as two bad servers of five. If the rest that no place explains is larger than what the places explain together,
//! the whole canary comes first.
//!
//! Ties go to the place that compares lower. Events are counted by user, requests as they are. The scan does not see a
//! place of the canary without traffic, nor "everywhere but here".

mod baseline;
mod failure_modes;

use std::collections::BTreeMap;

use self::baseline::{Spot, Spots};
use super::breakdown::{Breakdown, Cell, Span};
use super::sample::Arm;
use balance::attempt::AttemptFailure;

/// Places that are extended in each round.
const BEAM: usize = 5;
/// Conditions a place may have.
const PARTS: usize = 4;
/// Places that are returned.
const PLACES: usize = 5;
/// The share of the excess that is enough.
const ENOUGH: f64 = 0.67;
/// The share of the excess that a place must explain.
const WORTH: f64 = 0.1;
/// Events of the canary that are enough to scan the recent span alone, if they are also ...
const EVENTS: u64 = 30;
/// ... this surely more than stable's, in nats: enough for a verdict of the judge.
const SURE: f64 = 8.4;

/// A condition of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Index into the release's routes.
    Route(u16),
    /// Number of a server.
    Server(u32),
    /// Bit of a cohort.
    Cohort(u8),
    /// Number of an app.
    App(u32),
    /// An answer with this status.
    Status(u16),
    /// An answer of this class: 5 for 5xx.
    Class(u8),
    /// Connect, reset or timeout.
    Failure(AttemptFailure),
}

impl Part {
    /// The name of its dimension.
    pub fn dimension(self) -> &'static str {
        match self {
            Part::Route(_) => "route",
            Part::Server(_) => "server",
            Part::Cohort(_) => "cohort",
            Part::App(_) => "app",
            Part::Status(_) | Part::Class(_) => "status",
            Part::Failure(_) => "ending",
        }
    }

    /// Whether it is a location; the others are failure modes.
    pub fn is_location(self) -> bool {
        matches!(self, Part::Route(_) | Part::Server(_) | Part::Cohort(_) | Part::App(_))
    }

    /// Whether a place may have only one of the two.
    fn excludes(self, other: Part) -> bool {
        match (self.is_location(), other.is_location()) {
            (true, true) => std::mem::discriminant(&self) == std::mem::discriminant(&other),
            (is, other) => !is && !other,
        }
    }
}

/// A place, and how much of the fault is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Its conditions, at most one of a dimension; empty for the whole canary.
    pub parts: Vec<Part>,
    /// Log likelihood ratio against "everywhere alike", in nats.
    pub llr: f64,
    /// The share of the excess over stable that is there, 0 to 1.
    pub explains: f64,
    /// Events there.
    pub bad: u64,
    /// All events of the canary.
    pub of: u64,
    /// Requests there.
    pub requests: u64,
}

/// The events to localise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Users who met a failure.
    Failures,
    /// Users who were refused.
    Refusals,
    /// Answers that were their users' first slow ones.
    Slow,
}

/// Ranked places, from the recent span where that is enough, else from the span that tells more about the
/// canary; empty without an event.
pub fn find(cells: &Breakdown, measure: Measure) -> (Span, Vec<Place>) {
    let [recent, total] = [Span::Recent, Span::Total].map(|span| cells.cells(span));
    let (recent_excess, total_excess) = (excess(&recent, measure), excess(&total, measure));
    let canary = recent.iter().filter(|cell| cell.judged && cell.arm == Arm::Canary);
    let enough = recent_excess >= SURE && canary.map(|cell| measure.events(cell)).sum::<u64>() >= EVENTS;
    match enough || recent_excess > 0.0 && recent_excess >= total_excess {
        true => (Span::Recent, scan(&recent, measure)),
        false => (Span::Total, scan(&total, measure)),
    }
}

/// How surely the canary has more events than stable: a log likelihood ratio. Without a control it is the number of
/// events, up to [`EVENTS`].
fn excess(cells: &[Cell], measure: Measure) -> f64 {
    let sum = |arm: Arm| {
        let of_arm = cells.iter().filter(|cell| cell.judged && cell.arm == arm);
        of_arm.fold((0, 0), |(n, k), cell| (n + cell.counts.requests, k + measure.events(cell)))
    };
    let ((n0, k0), (n1, k1)) = (sum(Arm::Stable), sum(Arm::Canary));
    if n0 == 0 {
        return k1.min(EVENTS) as f64;
    }
    llr(k1 as f64, (k0 + k1) as f64 * n1 as f64 / (n0 + n1) as f64, (k0 + k1) as f64)
}

/// Ranked places of these cells; empty where the canary has no event.
pub fn scan(cells: &[Cell], measure: Measure) -> Vec<Place> {
    let spots = Spots::new(cells, measure);
    let (of, requests) = (spots.events() as u64, spots.requests() as u64);
    if of == 0 {
        return vec![];
    }
    let (mut places, explained) = places(spots, of);
    if explained < 0.5 {
        places.insert(0, Place { parts: vec![], llr: 0.0, explains: 1.0 - explained, bad: of, of, requests });
    }
    places
}

/// Places picked one after the other, of `of` events in all, and the share of the excess that they explain together.
fn places(mut spots: Spots, of: u64) -> (Vec<Place>, f64) {
    let excess = spots.events() - spots.expected();
    let mut places: Vec<Place> = vec![];
    let mut explained = 0.0;
    while places.len() < PLACES && explained < ENOUGH {
        let Some(found) = best(&spots) else { break };
        let explains = (found.tally.events - found.tally.expected) / excess;
        if explains < WORTH {
            break;
        }
        explained += explains;
        let place = Place {
            llr: found.llr,
            explains: explains.min(1.0),
            bad: found.tally.events as u64,
            of,
            requests: found.tally.requests as u64,
            parts: found.parts.clone(),
        };
        match within(&spots, &place) {
            Some(inside) => places.extend(inside),
            None => places.push(place),
        }
        spots.take_out(&found.parts);
    }
    (places, explained)
}

/// The places that together make up a failure mode, if any: each alone explains less than the mode does.
fn within(spots: &Spots, place: &Place) -> Option<Vec<Place>> {
    if place.parts.iter().any(|part| part.is_location()) {
        return None;
    }
    let (mut inside, explained) = places(spots.only(&place.parts), place.of);
    for one in &mut inside {
        one.parts.extend(&place.parts);
        one.explains *= place.explains;
    }
    (explained >= ENOUGH).then_some(inside)
}

/// A place during the search.
#[derive(Clone, Debug)]
struct Candidate {
    parts: Vec<Part>,
    tally: PlaceCounts,
    llr: f64,
}

/// The counts of a place.
#[derive(Clone, Copy, Debug, Default)]
struct PlaceCounts {
    requests: f64,
    events: f64,
    expected: f64,
}

/// The place that explains best for its length; `None` where the canary as a whole does.
fn best(spots: &Spots) -> Option<Candidate> {
    let mut beam = longer(spots, &Candidate { parts: vec![], tally: PlaceCounts::default(), llr: 0.0 });
    let price = (beam.len().max(1) as f64).ln() + 2.0;
    let worth = |candidate: &Candidate| candidate.llr - price * candidate.parts.len() as f64;
    let mut best: Option<Candidate> = None;
    for _ in 1..=PARTS {
        // The same place is reached through each of its conditions.
        beam.sort_by(|a, b| a.parts.cmp(&b.parts));
        beam.dedup_by(|a, b| a.parts == b.parts);
        beam.sort_by(|a, b| b.llr.total_cmp(&a.llr).then_with(|| a.parts.cmp(&b.parts)));
        beam.truncate(BEAM);
        let Some(first) = beam.first() else { break };
        if worth(first) > best.as_ref().map_or(0.0, worth) {
            best = Some(first.clone());
        }
        beam = beam.iter().flat_map(|candidate| longer(spots, candidate)).collect();
    }
    best
}

/// All places with one more condition.
fn longer(spots: &Spots, shorter: &Candidate) -> Vec<Candidate> {
    let mut tallies: BTreeMap<Part, PlaceCounts> = BTreeMap::new();
    for spot in spots.all().iter().filter(|spot| spot.is_in(&shorter.parts)) {
        each_part(spots, spot, &shorter.parts, |part, tally| {
            let sum = tallies.entry(part).or_default();
            sum.requests += tally.requests;
            sum.events += tally.events;
            sum.expected += tally.expected;
        });
    }
    let (all, requests) = (spots.events(), spots.requests());
    let rest = (all - spots.expected()).max(0.0);
    let free = tallies.into_iter().filter(|(part, _)| !shorter.parts.iter().any(|old| old.excludes(*part)));
    free.map(|(part, tally)| {
        let mut parts = shorter.parts.clone();
        parts.push(part);
        parts.sort();
        let alike = tally.expected + rest * tally.requests / requests * failure_modes::share(&parts);
        Candidate { llr: llr(tally.events, alike, all), parts, tally }
    })
    .collect()
}

/// Calls `each` with every condition that a spot meets, and with the part of the spot that meets both it and `parts`.
fn each_part(spots: &Spots, spot: &Spot, parts: &[Part], mut each: impl FnMut(Part, PlaceCounts)) {
    let tally = spots.tally(spot, parts);
    let locations = [spot.route.map(Part::Route), spot.server.map(Part::Server), spot.app.map(Part::App)];
    locations.into_iter().flatten().for_each(|part| each(part, tally));
    (0..16).filter(|bit| spot.cohorts >> bit & 1 == 1).for_each(|bit| each(Part::Cohort(bit), tally));
    for (way, outcome) in spots.ways().iter().enumerate() {
        let tally = PlaceCounts { requests: spot.requests, events: spot.events[way], expected: spot.expected[way] };
        failure_modes::parts(*outcome).into_iter().flatten().for_each(|part| each(part, tally));
    }
}

/// The log likelihood ratio of `c` of `all` events where `e` were expected.
fn llr(c: f64, e: f64, all: f64) -> f64 {
    let part = |c: f64, e: f64| if c > 0.0 { c * (c / e.max(1e-9)).ln() } else { 0.0 };
    if c > e { part(c, e) + part(all - c, all - e) } else { 0.0 }
}

#[cfg(test)]
mod tests;
