//! The limit before simulated servers: slots with a queue each, and clients that come whether or not they are served.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::{Adaptive, Permit};
use crate::random::Draws;
use base::units::Nanos;

/// How long a request is worked on, in seconds; by the time and chance.
type Service = Box<dyn Fn(f64, &mut Chance) -> f64>;

struct Chance(Draws);

impl Chance {
    /// From 0 to 1, never 0.
    fn even(&mut self) -> f64 {
        ((self.0.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -self.even().ln() * mean
    }
}

#[derive(PartialEq)]
struct At(f64);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &At) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &At) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// A server is done with a request.
    Done(usize, usize),
    /// The client, or the gateway for it, stops waiting.
    GivenUp(usize),
}

struct Server {
    slots: usize,
    busy: usize,
    queue: VecDeque<usize>,
}

struct Asked {
    at: f64,
    permit: Option<Permit>,
    over: bool,
}

/// What clients saw in a stretch of time.
#[derive(Default)]
struct Seen {
    offered: usize,
    refused: usize,
    latencies: Vec<f64>,
    seconds: f64,
}

impl Seen {
    fn goodput(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(((sorted.len() as f64 * q) as usize).min(sorted.len().max(1) - 1)).copied().unwrap_or(f64::NAN)
    }

    fn refused(&self) -> f64 {
        self.refused as f64 / self.offered.max(1) as f64
    }
}

enum Patience {
    Endless,
    /// The client leaves.
    Client(f64),
    /// The gateway's own time limit.
    Gateway(f64),
}

struct World {
    limit: Option<Arc<Adaptive>>,
    servers: Vec<Server>,
    service: Service,
    chance: Chance,
    patience: Patience,
    now: f64,
    events: BinaryHeap<Reverse<(At, u64, Event)>>,
    serial: u64,
    asked: Vec<Asked>,
    turn: usize,
}

fn nanos(seconds: f64) -> Nanos {
    Nanos((seconds * 1e9) as u64)
}

impl World {
    fn new(servers: &[usize], service: impl Fn(f64, &mut Chance) -> f64 + 'static) -> World {
        let server = |slots: &usize| Server { slots: *slots, busy: 0, queue: VecDeque::new() };
        World {
            limit: Some(Arc::new(Adaptive::new(Nanos(0)))),
            servers: servers.iter().map(server).collect(),
            service: Box::new(service),
            chance: Chance(Draws::new(7)),
            patience: Patience::Endless,
            now: 0.0,
            events: BinaryHeap::new(),
            serial: 0,
            asked: vec![],
            turn: 0,
        }
    }

    fn limit(&self) -> u32 {
        self.limit.as_ref().map_or(0, |limit| limit.limit())
    }

    fn push(&mut self, at: f64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((At(at), self.serial, event)));
    }

    /// Goes on for a while with so many requests a second.
    fn run(&mut self, seconds: f64, rate: f64) -> Seen {
        let end = self.now + seconds;
        let mut seen = Seen { seconds, ..Seen::default() };
        // An arrival that was drawn at another rate would be late.
        self.events.retain(|Reverse((_, _, event))| *event != Event::Arrival);
        let first = self.now + self.chance.exponential(1.0 / rate);
        self.push(first, Event::Arrival);
        while let Some(Reverse((At(at), _, event))) = self.events.pop() {
            if at >= end {
                self.push(at, event);
                break;
            }
            self.now = at;
            match event {
                Event::Arrival => {
                    let next = at + self.chance.exponential(1.0 / rate);
                    self.push(next, Event::Arrival);
                    self.arrive(&mut seen);
                }
                Event::Done(server, request) => self.done(server, request, &mut seen),
                Event::GivenUp(request) => self.given_up(request),
            }
        }
        self.now = end;
        seen
    }

    fn arrive(&mut self, seen: &mut Seen) {
        seen.offered += 1;
        let permit = self.limit.as_ref().map(|limit| limit.try_enter(nanos(self.now)));
        if let Some(None) = permit {
            seen.refused += 1;
            return;
        }
        let request = self.asked.len();
        self.asked.push(Asked { at: self.now, permit: permit.flatten(), over: false });
        if let Patience::Client(time) | Patience::Gateway(time) = self.patience {
            self.push(self.now + time, Event::GivenUp(request));
        }
        self.turn += 1;
        let server = self.turn % self.servers.len();
        self.servers[server].queue.push_back(request);
        self.work(server);
    }

    fn work(&mut self, server: usize) {
        while self.servers[server].busy < self.servers[server].slots {
            let Some(request) = self.servers[server].queue.pop_front() else { return };
            let time = (self.service)(self.now, &mut self.chance);
            self.servers[server].busy += 1;
            self.push(self.now + time, Event::Done(server, request));
        }
    }

    fn done(&mut self, server: usize, request: usize, seen: &mut Seen) {
        self.servers[server].busy -= 1;
        let asked = &mut self.asked[request];
        if !asked.over {
            asked.over = true;
            seen.latencies.push(self.now - asked.at);
            if let Some(permit) = asked.permit.take() {
                permit.answered(nanos(self.now));
            }
        }
        self.work(server);
    }

    /// The servers work on for nobody, as most do.
    fn given_up(&mut self, request: usize) {
        let asked = &mut self.asked[request];
        if std::mem::replace(&mut asked.over, true) {
            return;
        }
        match (asked.permit.take(), &self.patience) {
            (Some(permit), Patience::Client(_)) => permit.left(nanos(self.now)),
            (Some(permit), _) => permit.timed_out(nanos(self.now)),
            (None, _) => {}
        }
    }
}

fn tell(name: &str, world: &World, seen: &Seen) {
    println!(
        "{name:34} {:8.1}/s  p50 {:7.1} ms  p99 {:7.1} ms  refused {:5.1} %  limit {}",
        seen.goodput(),
        seen.quantile(0.5) * 1e3,
        seen.quantile(0.99) * 1e3,
        seen.refused() * 100.0,
        world.limit(),
    );
}

/// A fleet and what it does at half, all and three times what it can do.
fn table(name: &str, world: impl Fn() -> World, capacity: f64, slack: f64) {
    let mut fleet = world();
    fleet.run(10.0, capacity * 0.5);
    let quiet = fleet.run(30.0, capacity * 0.5);
    tell(&format!("{name} x0.5"), &fleet, &quiet);
    assert_eq!(quiet.refused, 0, "{name}: not saturated");
    fleet.run(10.0, capacity);
    let full = fleet.run(30.0, capacity);
    tell(&format!("{name} x1"), &fleet, &full);
    assert!(full.goodput() > 0.8 * capacity, "{name}");
    fleet.run(5.0, capacity * 3.0);
    let over = fleet.run(60.0, capacity * 3.0);
    tell(&format!("{name} x3"), &fleet, &over);
    let peak = full.goodput().max(over.goodput());
    assert!(over.goodput() >= 0.9 * peak, "{name}: {} of {peak}", over.goodput());
    assert!(over.quantile(0.99) <= slack * quiet.quantile(0.99), "{name}");
    fleet.run(5.0, capacity * 0.5);
    let after = fleet.run(20.0, capacity * 0.5);
    tell(&format!("{name} after"), &fleet, &after);
    assert!(after.refused() < 0.005, "{name}: the load has gone");
    let mut bare = world();
    bare.limit = None;
    bare.run(5.0, capacity * 3.0);
    let bare_seen = bare.run(60.0, capacity * 3.0);
    tell(&format!("{name} x3 without"), &bare, &bare_seen);
    let mut cold = world();
    cold.run(5.0, capacity * 3.0);
    let cold_seen = cold.run(20.0, capacity * 3.0);
    tell(&format!("{name} x3 from the start"), &cold, &cold_seen);
    assert!(cold_seen.quantile(0.99) <= slack * quiet.quantile(0.99), "{name}: from the start");
    assert!(cold_seen.goodput() >= 0.9 * peak, "{name}: from the start");
}

#[test]
fn fixed_service_times() {
    table("8 x 50 ms", || World::new(&[8], |_, _| 0.05), 160.0, 3.0);
    table("2 x 10 ms", || World::new(&[2], |_, _| 0.01), 200.0, 3.0);
    table("4 servers of 4 x 20 ms", || World::new(&[4; 4], |_, _| 0.02), 800.0, 3.0);
    table("200 x 100 ms", || World::new(&[200], |_, _| 0.1), 2_000.0, 3.0);
}

#[test]
fn random_service_times() {
    table("8 x exp 50 ms", || World::new(&[8], |_, c| c.exponential(0.05)), 160.0, 3.0);
    table("4 servers of 4 x exp 20 ms", || World::new(&[4; 4], |_, c| c.exponential(0.02)), 800.0, 3.0);
    let modes = |_, c: &mut Chance| if c.even() < 0.1 { 0.1 } else { 0.001 };
    table("8 x 1 or 100 ms", move || World::new(&[8], modes), 8.0 / 0.0109, 3.0);
}

#[test]
fn servers_that_are_slow_by_nature_are_not_shed() {
    for (name, slower, at_most) in [("x2", 2.0, 0.0), ("x5", 5.0, 0.001), ("x20", 20.0, 0.05)] {
        let service = move |at, c: &mut Chance| 0.02 * if at > 60.0 { slower } else { 1.0 } * (0.5 + c.even());
        let mut world = World::new(&[2_000], service);
        world.run(60.0, 1_000.0);
        let after = world.run(60.0, 1_000.0);
        tell(&format!("a deploy, {name} slower"), &world, &after);
        assert!(after.refused() <= at_most, "{}", after.refused());
        let later = world.run(60.0, 1_000.0);
        assert_eq!(later.refused, 0);
    }
    let mut world = World::new(&[200], |_, c| 8.0 + 4.0 * c.even());
    let slow = world.run(300.0, 12.0);
    tell("200 x 10 s", &world, &slow);
    assert_eq!(slow.refused, 0);
}

#[test]
fn few_requests_are_not_shed() {
    for rate in [0.1, 1.0, 5.0] {
        let modes = |_, c: &mut Chance| if c.even() < 0.3 { 1.0 } else { 0.002 };
        let mut world = World::new(&[16], modes);
        let seen = world.run(1_000.0, rate);
        tell(&format!("{rate} a second, 2 ms or 1 s"), &world, &seen);
        assert_eq!(seen.refused, 0);
    }
}

#[test]
fn a_long_overload_does_not_raise_it() {
    for (name, exponential) in [("fixed", false), ("exponential", true)] {
        let service = move |_, c: &mut Chance| if exponential { c.exponential(0.02) } else { 0.02 };
        let mut world = World::new(&[16], service);
        world.run(20.0, 400.0);
        world.run(10.0, 2_400.0);
        for minute in 1..=10 {
            let seen = world.run(60.0, 2_400.0);
            if minute % 3 == 1 {
                tell(&format!("{name}, minute {minute} of x3"), &world, &seen);
            }
            assert!(seen.goodput() > 0.9 * 800.0, "{}", seen.goodput());
            assert!(seen.quantile(0.5) < 0.06, "{}", seen.quantile(0.5));
        }
    }
}

#[test]
fn steps_are_followed_within_seconds() {
    let service = |at, _: &mut Chance| if (60.0..120.0).contains(&at) { 0.1 } else { 0.05 };
    let mut world = World::new(&[16], service);
    world.run(20.0, 160.0);
    for (name, until, rate, capacity, latency) in [
        ("x3 begins", 40.0, 960.0, 320.0, 0.05),
        ("gone again", 60.0, 160.0, 320.0, 0.05),
        ("half as quick", 90.0, 480.0, 160.0, 0.1),
        ("x6", 120.0, 960.0, 160.0, 0.1),
        ("as quick as before", 150.0, 960.0, 320.0, 0.05),
        ("gone", 180.0, 160.0, 320.0, 0.05),
    ] {
        let first = world.run(4.0, rate);
        tell(&format!("{name}, first 4 s"), &world, &first);
        let then = world.run(until - world.now, rate);
        tell(&format!("{name}, then"), &world, &then);
        assert!(then.goodput() > 0.9 * rate.min(capacity), "{name}: {}", then.goodput());
        assert!(then.quantile(0.99) < 3.0 * latency, "{name}: {}", then.quantile(0.99));
    }
}

#[test]
fn clients_and_time_limits_that_cut_requests_are_heard() {
    for (name, patience) in [("impatient clients", Patience::Client(0.6)), ("time limits", Patience::Gateway(0.6))] {
        let mut world = World::new(&[8], |_, _| 0.05);
        world.patience = patience;
        world.run(10.0, 480.0);
        let seen = world.run(30.0, 480.0);
        tell(name, &world, &seen);
        assert!(seen.goodput() > 0.9 * 160.0, "{name}");
        assert!(seen.quantile(0.99) < 0.15, "{name}");
    }
}

#[test]
fn servers_that_hang_for_a_while_are_found_again() {
    // Whoever comes between 20 and 25 s waits until then.
    let service = |at: f64, c: &mut Chance| if (20.0..25.0).contains(&at) { 25.0 - at } else { c.exponential(0.05) };
    let mut world = World::new(&[16], service);
    world.run(20.0, 160.0);
    let hung = world.run(6.0, 160.0);
    tell("hung", &world, &hung);
    world.run(4.0, 160.0);
    let after = world.run(30.0, 160.0);
    tell("after", &world, &after);
    assert_eq!(after.refused, 0);
}

#[test]
fn places_are_given_back_whatever_happens() {
    let limit = Arc::new(Adaptive::new(Nanos(0)));
    let most = limit.limit() as usize;
    let mut held: Vec<Permit> = (0..most).map(|_| limit.try_enter(Nanos(1)).unwrap()).collect();
    assert!(limit.try_enter(Nanos(2)).is_none(), "the limit is one");
    held.pop().unwrap().answered(Nanos(3));
    held.pop().unwrap().timed_out(Nanos(3));
    held.pop().unwrap().left(Nanos(3));
    assert_eq!(limit.in_flight() as usize, most - 3);
    drop(held);
    assert_eq!(limit.in_flight(), 0);
}

#[test]
fn threads_never_exceed_it() {
    let limit = Arc::new(Adaptive::new(Nanos(0)));
    let clock = std::sync::atomic::AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut held = VecDeque::new();
                for _ in 0..20_000 {
                    let now = clock.fetch_add(10_000, std::sync::atomic::Ordering::Relaxed);
                    held.extend(limit.try_enter(Nanos(now)));
                    if held.len() > 50 {
                        held.pop_front().into_iter().for_each(|permit: Permit| permit.answered(Nanos(now)));
                    }
                }
            });
        }
    });
    assert_eq!(limit.in_flight(), 0);
    assert!((2..=65_536).contains(&limit.limit()));
}

#[test]
fn an_upload_is_counted_once_it_is_whole() {
    let now = Nanos(1_000_000_000);
    let limit = Arc::new(Adaptive::new(now));
    assert!(limit.admits(now) && limit.in_flight() == 0, "it may begin, and holds no place");
    let held: Vec<_> = std::iter::from_fn(|| limit.try_enter(now)).collect();
    assert!(!limit.admits(now) && held.len() as u32 == limit.limit());
    let whole = limit.enter(now);
    assert_eq!(limit.in_flight(), limit.limit() + 1, "the server has it already");
    drop((whole, held));
    assert_eq!(limit.in_flight(), 0);
}
