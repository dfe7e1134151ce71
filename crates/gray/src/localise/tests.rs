//! Synthetic faults, and faults made by hand.
//!
//! The generator follows those of Squeeze and RiskLoc in spirit: a fault over one to three dimensions, on top of a
//! background that differs by route and by way to fail. A case is stopped when a judge would fire: at its twentieth
//! to sixtieth failure of the canary.

use super::super::breakdown::{Breakdown, Span};
use super::super::judge::Told;
use super::super::sample::{Arm, Ending, Sample};
use super::{Measure, Part, Place, find, scan};
use balance::attempt::AttemptFailure;
use base::units::Nanos;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, p: f64) -> bool {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 <= p
    }

    /// One of several, the first ones more often.
    fn skewed(&mut self, n: u64) -> u64 {
        self.below(n).min(self.below(n))
    }
}

/// Traffic: how many there are of each.
#[derive(Clone, Copy, Debug)]
struct Shape {
    routes: u64,
    servers: u64,
    apps: u64,
    cohorts: u64,
    /// Share of users on the canary.
    canary: f64,
    /// Share of requests that fail by themselves.
    noise: f64,
}

impl Shape {
    /// A request that has not failed.
    fn request(&self, dice: &mut Dice) -> Sample {
        let arm = if dice.chance(self.canary) { Arm::Canary } else { Arm::Stable };
        let server = dice.below(self.servers) + 1;
        let user = dice.next();
        Sample {
            // Stable's servers are others.
            server: if arm == Arm::Canary { server } else { server + 100 } as u32,
            route: dice.skewed(self.routes) as u16,
            cohorts: (0..self.cohorts).fold(0, |mask, bit| mask | u16::from(dice.chance(0.3)) << bit),
            app: dice.skewed(self.apps + 1) as u32,
            ..Sample::good(user, arm)
        }
    }

    /// Background: some routes fail more often than others, and in their own way.
    fn noise(&self, seen: &mut Sample, dice: &mut Dice) {
        if dice.chance(self.noise * [0.3, 1.0, 3.0][usize::from(seen.route % 3)]) {
            fail(
                seen,
                [Way::Status(503), Way::Timeout, Way::Status(500), Way::Mixed][usize::from(seen.route % 4)],
                dice,
            );
        }
    }
}

/// A judge fires at E = 1000; its mixtures cost about 1.5 nats.
const FIRES: f64 = 8.4;

/// How a fault shows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Status(u16),
    Timeout,
    Reset,
    Mixed,
}

fn fail(seen: &mut Sample, way: Way, dice: &mut Dice) {
    (seen.ending, seen.status) = match way {
        Way::Status(status) => (Ending::Failed(AttemptFailure::Status), status),
        Way::Timeout => (Ending::Failed(AttemptFailure::Timeout), 0),
        Way::Reset => (Ending::Failed(AttemptFailure::Reset), 0),
        Way::Mixed => (Ending::Failed(AttemptFailure::Status), [500, 502, 503, 504][dice.below(4) as usize]),
    };
}

/// Where requests fail, how, and how many of them.
#[derive(Debug)]
struct Fault {
    parts: Vec<Part>,
    way: Way,
    rate: f64,
}

impl Fault {
    fn random(shape: &Shape, dimensions: u64, dice: &mut Dice) -> Fault {
        let way = [Way::Status(500), Way::Timeout, Way::Reset, Way::Mixed][dice.below(4) as usize];
        let mut parts = vec![];
        while (parts.len() as u64) < dimensions {
            let part = match dice.below(4) {
                0 => Part::Route(dice.skewed(shape.routes) as u16),
                1 => Part::Server(dice.below(shape.servers) as u32 + 1),
                2 => Part::Cohort(dice.below(shape.cohorts) as u8),
                _ => Part::App(dice.skewed(shape.apps) as u32 + 1),
            };
            if !parts.iter().any(|old: &Part| old.excludes(part)) {
                parts.push(part);
            }
        }
        Fault { parts, way, rate: [0.05, 0.2, 1.0][dice.below(3) as usize] }
    }

    fn holds(&self, seen: &Sample) -> bool {
        seen.arm == Arm::Canary
            && self.parts.iter().all(|part| match *part {
                Part::Route(route) => seen.route == route,
                Part::Server(server) => seen.server == server,
                Part::Cohort(bit) => seen.cohorts >> bit & 1 == 1,
                Part::App(app) => seen.app == app,
                _ => false,
            })
    }

    /// Whether a place says just this: where, and how it fails if it says so.
    fn is(&self, place: &Place) -> bool {
        let mut location: Vec<Part> = place.parts.iter().copied().filter(|part| part.is_location()).collect();
        let mut truth = self.parts.clone();
        location.sort();
        truth.sort();
        let how = place.parts.iter().find(|part| !part.is_location());
        let right = match (self.way, how) {
            (_, None) => true,
            (Way::Status(status), Some(Part::Status(said))) => status == *said,
            (Way::Status(_) | Way::Mixed, Some(part)) => *part == Part::Class(5),
            (Way::Timeout, Some(part)) => *part == Part::Failure(AttemptFailure::Timeout),
            (Way::Reset, Some(part)) => *part == Part::Failure(AttemptFailure::Reset),
        };
        location == truth && right
    }
}

/// Counts traffic until the canary has failed so often and a judge would fire; none where it takes too long for a report
/// to be about this fault.
fn play(shape: &Shape, fault: &Fault, failures: u64, dice: &mut Dice) -> Option<Breakdown> {
    let mut cells = Breakdown::new(Nanos(0));
    let mut arms = [(0_u64, 0_u64); 2];
    loop {
        let mut seen = shape.request(dice);
        shape.noise(&mut seen, dice);
        if fault.holds(&seen) && dice.chance(fault.rate) {
            fail(&mut seen, fault.way, dice);
        }
        let bad = u64::from(seen.ending.is_failure());
        let arm = &mut arms[seen.arm as usize];
        *arm = (arm.0 + 1, arm.1 + bad);
        observe(&mut cells, &seen);
        let [(n0, k0), (n1, k1)] = arms;
        if bad == 1 && k1 >= failures {
            let e = (k0 + k1) as f64 * n1 as f64 / (n0 + n1) as f64;
            if super::llr(k1 as f64, e, (k0 + k1) as f64) >= FIRES {
                return Some(cells);
            }
        }
        if k1 > 2 * failures {
            return None;
        }
    }
}

/// Of so many faults over so many dimensions: of how many the first place is right, and of how many one of three.
fn score(dimensions: u64, cases: u64, dice: &mut Dice) -> (u64, u64) {
    let (mut first, mut three, mut done) = (0, 0, 0);
    while done < cases {
        let shape = Shape {
            routes: 3 + dice.below(6),
            servers: 2 + dice.below(6),
            apps: 2 + dice.below(9),
            cohorts: 1 + dice.below(3),
            canary: [0.05, 0.2, 0.5][dice.below(3) as usize],
            noise: [0.0, 0.0005, 0.002][dice.below(3) as usize],
        };
        let fault = Fault::random(&shape, dimensions, dice);
        let Some(cells) = play(&shape, &fault, 20 + dice.below(41), dice) else { continue };
        done += 1;
        let (_, places) = find(&cells, Measure::Failures);
        let at = places.iter().position(|place| fault.is(place));
        first += u64::from(at == Some(0));
        three += u64::from(at.is_some_and(|at| at < 3));
    }
    (first, three)
}

#[test]
fn faults_of_one_to_three_dimensions_are_found() {
    let mut dice = Dice(2026);
    for dimensions in 1..=3 {
        let (first, three) = score(dimensions, 300, &mut dice);
        println!("{dimensions} dimensions: the first place is right in {first} of 300, one of three in {three}");
        assert!(first >= 285, "{dimensions} dimensions: {first} of 300");
        assert!(three >= 297, "{dimensions} dimensions: {three} of 300");
    }
}

fn seen(arm: Arm, server: u32, status: u16) -> Sample {
    let ending = if status >= 500 { Ending::Failed(AttemptFailure::Status) } else { Ending::Good };
    Sample { server, status, ending, ..Sample::good(1, arm) }
}

/// Counts a request of a user who tells all that there is to tell.
fn observe(cells: &mut Breakdown, seen: &Sample) {
    let told = Told { failure: seen.ending.is_failure(), refusal: seen.is_refusal(), slow: seen.micros > 5_000 };
    cells.observe(seen, told);
}

fn cells(all: impl IntoIterator<Item = Sample>) -> Breakdown {
    let mut cells = Breakdown::new(Nanos(0));
    all.into_iter().for_each(|seen| observe(&mut cells, &seen));
    cells
}

/// What a thousand requests of stable look like.
fn stable() -> impl Iterator<Item = Sample> {
    (0..1_000).map(|_| seen(Arm::Stable, 9, 200))
}

fn failures(all: impl IntoIterator<Item = Sample>) -> Vec<Place> {
    find(&cells(all), Measure::Failures).1
}

#[test]
fn one_bad_server_of_two_is_named() {
    let canary = (0..60).map(|i| seen(Arm::Canary, 1 + i % 2, if i % 2 == 1 { 500 } else { 200 }));
    let places = failures(stable().chain(canary));
    assert_eq!(places.len(), 1, "{places:?}");
    assert_eq!(places[0].parts, [Part::Server(2), Part::Status(500)]);
    assert!(places[0].explains > 0.99, "{places:?}");
    assert_eq!((places[0].bad, places[0].of, places[0].requests), (30, 30, 30));
}

#[test]
fn one_route_that_refuses_is_named() {
    let refused =
        |n: u64, status| Sample { route: (n % 3) as u16, ending: Ending::Good, ..seen(Arm::Canary, 1, status) };
    let canary = (0..60).map(|n| refused(n, if n % 3 == 1 { 404 } else { 200 }));
    let places = find(&cells(stable().chain(canary)), Measure::Refusals).1;
    assert_eq!(places[0].parts, [Part::Route(1), Part::Status(404)], "{places:?}");
    assert_eq!((places[0].bad, places[0].requests), (20, 20));
}

#[test]
fn a_canary_that_fails_everywhere_has_no_place() {
    for servers in 1..=4 {
        let canary = (0..80).map(|i| seen(Arm::Canary, 1 + i % servers, 500));
        // Not even where stable has a noisy route and a quiet one.
        let canary = canary.enumerate().map(|(i, one)| Sample { route: (i % 3 / 2) as u16, ..one });
        let noisy = (0..500).map(|i| seen(Arm::Stable, 9, if i % 10 == 0 { 502 } else { 200 }));
        let places = failures(stable().chain(noisy.map(|one| Sample { route: 1, ..one })).chain(canary));
        assert_eq!(places.len(), 1, "{places:?}");
        assert_eq!(places[0].parts, [Part::Status(500)], "{servers} servers: how, but not where");
        assert_eq!(places[0].bad, 80);
    }
}

#[test]
fn a_whole_fault_in_many_ways_is_the_whole_canary() {
    let way = |i: u32| match i % 5 {
        0 => (Ending::Failed(AttemptFailure::Connect), 0),
        1 => (Ending::Failed(AttemptFailure::Reset), 0),
        2 => (Ending::Failed(AttemptFailure::Timeout), 0),
        3 => (Ending::Failed(AttemptFailure::Status), 429),
        _ => (Ending::Failed(AttemptFailure::Status), 500),
    };
    let canary = (0..60).map(|i| Sample { ending: way(i).0, status: way(i).1, ..seen(Arm::Canary, 1 + i % 2, 0) });
    let places = failures(stable().chain(canary));
    assert_eq!(places[0].parts, [], "{places:?}");
    assert_eq!((places[0].explains, places[0].bad), (1.0, 60));
}

#[test]
fn two_bad_servers_of_five_are_both_named() {
    let canary = (0..100).map(|i| seen(Arm::Canary, 1 + i % 5, if i % 5 < 2 { 503 } else { 200 }));
    let mut servers: Vec<Part> = failures(stable().chain(canary)).iter().map(|place| place.parts[0]).collect();
    servers.sort();
    assert_eq!(servers, [Part::Server(1), Part::Server(2)]);
}

#[test]
fn an_app_that_fails_on_stable_too_is_not_blamed() {
    let junk =
        |arm, server| (0..400).map(move |i| Sample { app: 7, ..seen(arm, server, if i % 2 == 0 { 500 } else { 200 }) });
    let broken = (0..200).map(|i| Sample { app: 3, ..seen(Arm::Canary, 1, if i % 4 == 0 { 500 } else { 200 }) });
    let fine = (0..400).map(|_| Sample { app: 3, ..seen(Arm::Stable, 9, 200) });
    let places = failures(junk(Arm::Stable, 9).chain(junk(Arm::Canary, 1)).chain(broken).chain(fine));
    assert_eq!(places[0].parts[0], Part::App(3), "{places:?}");
    assert!(places.iter().all(|place| !place.parts.contains(&Part::App(7))), "{places:?}");
}

#[test]
fn users_who_may_not_be_compared_name_no_place() {
    let included = (0..50).map(|_| Sample { judged: false, ..seen(Arm::Canary, 2, 500) });
    assert_eq!(failures(stable().chain(included)), []);
}

#[test]
fn slow_answers_have_a_place_too() {
    let canary =
        (0..60).map(|i| Sample { micros: if i % 3 == 0 { 9_000 } else { 900 }, ..seen(Arm::Canary, i % 3 + 1, 200) });
    let cells = cells(stable().chain(canary));
    assert_eq!(find(&cells, Measure::Failures).1, []);
    let (_, places) = find(&cells, Measure::Slow);
    assert_eq!((places[0].parts.as_slice(), places[0].bad), ([Part::Server(1)].as_slice(), 20));
}

#[test]
fn a_late_fault_is_looked_for_where_it_is_recent() {
    let mut cells = Breakdown::new(Nanos(0));
    let mut at = |second: u64, all: &mut dyn Iterator<Item = Sample>| {
        all.for_each(|seen| observe(&mut cells, &seen));
        cells.advance(Nanos(second * 1_000_000_000));
        find(&cells, Measure::Failures)
    };
    // An old fault of server 1 that is mended, then hours without one, then one of server 2.
    let (_, early) =
        at(30, &mut stable().chain((0..40).map(|i| seen(Arm::Canary, i % 2 + 1, [500, 200][i as usize % 2]))));
    assert_eq!(early[0].parts[0], Part::Server(1));
    for second in (60..600).step_by(30) {
        at(second, &mut stable().chain((0..40).map(|i| seen(Arm::Canary, i % 2 + 1, 200))));
    }
    let (span, late) =
        at(601, &mut stable().chain((0..60).map(|i| seen(Arm::Canary, i % 2 + 1, [200, 503][i as usize % 2]))));
    assert_eq!(span, Span::Recent);
    assert_eq!(late[0].parts, [Part::Server(2), Part::Status(503)]);
    assert_eq!(late.len(), 1, "the old fault is not told again: {late:?}");
}

#[test]
fn without_a_control_the_canary_alone_shows_where() {
    let canary = (0..400).map(|i| seen(Arm::Canary, 1 + i % 4, if i % 4 == 3 { 500 } else { 200 }));
    let places = failures(canary);
    assert_eq!(places[0].parts, [Part::Server(4), Part::Status(500)]);
}

#[test]
fn a_rate_without_requests_is_the_wider_one() {
    // Route 1 has no stable traffic: stable's rate of 10 % is expected there too, so nothing is in excess.
    let rate = |arm, route, server| {
        (0..300).map(move |i| Sample { route, ..seen(arm, server, if i % 10 == 0 { 500 } else { 200 }) })
    };
    let places =
        scan(&cells(rate(Arm::Stable, 0, 9).chain(rate(Arm::Canary, 1, 1))).cells(Span::Total), Measure::Failures);
    assert_eq!(places[0].parts, [], "{places:?}");
}
