//! What hits a server is not what hits users: chance puts users on an arm, and not servers.
//!
//! A canary of one server takes every hiccup of that server on all of its users at once, and stable's hiccups touch a few of
//! its own. Ten users who fail in one second on one server are one event, not ten. A server has a *burst* of a kind
//! (failures, answers above a threshold) in a window where more of its users meet it than chance would give, at the rate
//! that stable's users do. What users first meet in a burst waits. What they meet in a window without one waits for the
//! next window, since it may be the first or the last moment of a burst.
//!
//! A burst that is over within two seconds was a hiccup: one event, on the canary by the part of the servers that are the
//! canary's, or of the users where that is more. One that lasts is none, and all of it counts by users. Meanwhile the
//! canary's users lose nothing, as stable answers for it; whoever got no answer counts at once. So does everybody at a
//! server that gave no good answer in this step: it is dead, and was never anything else.
//!
//! Stable's servers may be larger than the canary's, so that what hits all of them is a burst on stable alone. So where a
//! quarter of stable's wait, what the others met in that window is not counted.

use std::time::Duration;

use ahash::AHashMap;

use super::evidence::Bet;
use super::signals::{
    COUNTED, EPISODE_ERRORS, EPISODE_P95, EPISODE_P99, EPISODE_REFUSALS, EPISODE_SLO, ERRORS, P50, P95, P99, REFUSALS,
    SLO,
};
use super::window::{Cell, Counts};
use crate::gray::seen::{Arm, Ending, Seen};
use crate::units::Nanos;

/// How long a hiccup lasts at most.
const HICCUP: Duration = Duration::from_secs(2);
/// What comes so soon after another is a part of it.
const SOON: Duration = Duration::from_millis(800);
/// A server that was asked so long ago is not among those that could have a burst, and what waits there is over.
const RECENT: Duration = Duration::from_secs(10);
/// One that was asked so long ago is forgotten.
const GONE: Duration = Duration::from_secs(600);
/// What happened so long ago did not happen of late.
const LATELY: Duration = Duration::from_secs(3);
/// The part of stable's servers that must wait where what hits them hits everybody.
const MANY: f64 = 0.25;
/// The chance that as many users, or more, are no burst.
const BY_CHANCE: f64 = 0.0005;

/// Kinds of what users meet: a failure, an answer above each threshold, a refusal, by the number of the signal.
pub(super) const KINDS: usize = REFUSALS + 1;
/// What is believed of users before stable has told: so many, of whom this part met it in a window, by kind.
const PRIOR: (f64, [f64; KINDS]) = (200.0, [0.001, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.001, 0.01]);

/// The signals of a kind: of life, and of the episode.
fn signals(kind: usize) -> impl Iterator<Item = usize> {
    let of_episode = match kind {
        ERRORS => Some(EPISODE_ERRORS),
        P95 => Some(EPISODE_P95),
        P99 => Some(EPISODE_P99),
        SLO => Some(EPISODE_SLO),
        REFUSALS => Some(EPISODE_REFUSALS),
        _ => None,
    };
    [kind].into_iter().chain(of_episode)
}

/// Whether a signal is one of latency.
pub(super) fn is_timed(signal: usize) -> bool {
    (P50..=SLO).contains(&signal) || (EPISODE_P95..=EPISODE_SLO).contains(&signal)
}

/// A server of an arm.
#[derive(Debug)]
struct Server {
    asked: Nanos,
    /// When a user had an event there last, and when he met a failure.
    hit: Option<Nanos>,
    failed: Option<Nanos>,
    /// The step in which it gave an answer last that was none of the kind: a failure, a refusal.
    good_in: Option<u16>,
    willing_in: Option<u16>,
    window: OfWindow,
    /// When a burst began, and when a user last met it in one, by kind.
    bursts: [Option<(Nanos, Nanos)>; KINDS],
    /// What users first met in them, until they are known for what they are.
    waiting: Counts,
    /// What they first met in a window without one, and when the last of them did, by kind.
    single: Counts,
    met: [Option<Nanos>; KINDS],
}

/// What a server's users met in the open window.
#[derive(Debug, Default)]
struct OfWindow {
    /// Users who asked it, and of them those whose answers were timed.
    active: u32,
    timed: u32,
    /// Users who met it, by kind, and when the first and the last one did.
    bad: [u32; KINDS],
    met: [Option<(Nanos, Nanos)>; KINDS],
    /// First events; those of users for whom nobody answered are apart.
    counts: Counts,
    harm: Counts,
}

impl OfWindow {
    /// Users who could have met it.
    fn exposed(&self, kind: usize) -> u32 {
        if (P50..=SLO).contains(&kind) { self.timed } else { self.active }
    }
}

/// The servers of both arms.
#[derive(Debug)]
pub(super) struct Servers {
    known: AHashMap<(Arm, u32), Server>,
    /// Stable's users in a window, and those who met it, by kind.
    exposed: [f64; KINDS],
    bad: [f64; KINDS],
}

/// Where the canary is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Servers at which users had an event.
    pub servers: u32,
    /// Servers in all.
    pub of: u32,
}

/// What a window came to: events of users, and hiccups of servers, by signal.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) users: Counts,
    pub(super) hiccups: Counts,
    /// The canary's part of the servers.
    pub(super) servers: f64,
    /// By arm, the part of the users whose answers may be timed; all where nothing is known.
    pub(super) warm: Option<[f64; 2]>,
}

impl Heard {
    /// Drops what it says of latency.
    pub(super) fn forget_times(&mut self) {
        for signal in (0..COUNTED).filter(|signal| is_timed(*signal)) {
            self.users.clear(signal);
            self.hiccups.clear(signal);
        }
    }

    /// What it says of the canary in a signal, where `part` of the users were put on it.
    pub(super) fn bet(&self, signal: usize, part: f64) -> Bet {
        let sides = [Cell::Stable, Cell::Canary];
        let part = match self.warm {
            // Of the users whose answers are timed.
            Some([stable, canary]) if is_timed(signal) => {
                part * canary / (part * canary + (1.0 - part) * stable).max(f64::MIN_POSITIVE)
            }
            _ => part,
        };
        self.users.bet(signal, sides, part).and(&self.hiccups.bet(signal, sides, part.max(self.servers)))
    }
}

impl Default for Servers {
    fn default() -> Servers {
        Servers { known: AHashMap::new(), exposed: [PRIOR.0; KINDS], bad: PRIOR.1.map(|part| PRIOR.0 * part) }
    }
}

impl Servers {
    /// A server was asked, in a release that is at this step.
    pub(super) fn asked(&mut self, seen: &Seen, step: u16, now: Nanos) {
        let server = self.known.entry((seen.arm, seen.server)).or_insert_with(|| Server {
            asked: now,
            hit: None,
            failed: None,
            good_in: None,
            willing_in: None,
            window: OfWindow::default(),
            bursts: [None; KINDS],
            waiting: Counts::default(),
            single: Counts::default(),
            met: [None; KINDS],
        });
        server.asked = now;
        // What began before the step may have been good then.
        if seen.ending == Ending::Good && seen.step == step {
            server.good_in = Some(step);
            server.willing_in = if seen.is_refusal() { server.willing_in } else { Some(step) };
        }
    }

    fn of(&mut self, seen: &Seen) -> Option<&mut Server> {
        self.known.get_mut(&(seen.arm, seen.server))
    }

    /// A user asks it in this window; later, that an answer is timed.
    pub(super) fn active(&mut self, seen: &Seen) {
        self.of(seen).into_iter().for_each(|server| server.window.active += 1);
    }

    /// See there.
    pub(super) fn timed(&mut self, seen: &Seen) {
        self.of(seen).into_iter().for_each(|server| server.window.timed += 1);
    }

    /// A user meets something there for the first time in this window.
    pub(super) fn met(&mut self, seen: &Seen, kind: usize) {
        if let Some(server) = self.of(seen) {
            let now = server.asked;
            server.window.bad[kind] += 1;
            server.window.met[kind] = Some((server.window.met[kind].map_or(now, |(first, _)| first), now));
            if kind == ERRORS {
                server.failed = Some(now);
            }
        }
    }

    /// A user has his first event of a signal there.
    pub(super) fn event(&mut self, seen: &Seen, signal: usize) {
        if let Some(server) = self.of(seen) {
            let harms = seen.ending.is_failure() && !seen.saved;
            let counts = if harms { &mut server.window.harm } else { &mut server.window.counts };
            counts.event(signal, Cell::of(seen.arm, seen.user));
            server.hit = Some(server.asked);
        }
    }

    /// Whether users failed of late at most of the servers of stable.
    pub(super) fn most_of_stable_fail(&self, now: Nanos) -> bool {
        let recent =
            self.known.iter().filter(|((arm, _), server)| *arm == Arm::Stable && now.since(server.asked) < RECENT);
        let (all, failed) = recent.fold((0, 0), |(all, failed), (_, server)| {
            (all + 1, failed + u32::from(server.failed.is_some_and(|at| now.since(at) < LATELY)))
        });
        2 * failed > all
    }

    /// Servers of the canary that were asked of late, and how many of them users had an event at.
    pub(super) fn of_canary(&self, now: Nanos) -> Hit {
        let recent =
            self.known.iter().filter(|((arm, _), server)| *arm == Arm::Canary && now.since(server.asked) < RECENT);
        recent.fold(Hit::default(), |hit, (_, server)| Hit {
            of: hit.of + 1,
            servers: hit.servers + u32::from(server.hit.is_some_and(|at| now.since(at) < RECENT)),
        })
    }

    /// A step ends: what waits is of another share, and is let go of.
    pub(super) fn end_step(&mut self) {
        for server in self.known.values_mut() {
            (server.bursts, server.waiting, server.single) = ([None; KINDS], Counts::default(), Counts::default());
        }
    }

    /// An episode ends: whom it heard will tell again in the next one.
    pub(super) fn end_episode(&mut self) {
        for server in self.known.values_mut() {
            for signal in EPISODE_ERRORS..COUNTED {
                server.waiting.clear(signal);
                server.single.clear(signal);
            }
        }
    }

    /// Ends a window of a step: tells bursts from what users met.
    pub(super) fn close(&mut self, step: u16, now: Nanos) -> Heard {
        let rates: [f64; KINDS] = std::array::from_fn(|kind| self.bad[kind] / self.exposed[kind]);
        let (mut heard, mut single) = (Heard::default(), Counts::default());
        let good = Arm::ALL.map(|of| {
            self.known.iter().any(|((arm, number), server)| *arm == of && *number != 0 && server.good_in == Some(step))
        });
        let mut recent = [0_u32; 2];
        let (mut asked, mut waits) = ([0_u32; KINDS], [0_u32; KINDS]);
        for ((arm, number), server) in &mut self.known {
            recent[*arm as usize] += u32::from(now.since(server.asked) < RECENT);
            let window = std::mem::take(&mut server.window);
            // Where there is no place at any server, there is one again soon.
            let is_good = server.good_in == Some(step) || *number == 0 && good[*arm as usize];
            for (kind, rate) in rates.into_iter().enumerate() {
                let (exposed, bad) = (window.exposed(kind), window.bad[kind]);
                if *arm == Arm::Stable {
                    // A hiccup is not what stable is like; where it is, so many windows tell.
                    self.exposed[kind] += f64::from(exposed);
                    self.bad[kind] += f64::from(bad).min(2.0 * rate * f64::from(exposed) + 3.0);
                }
                let at_once = match kind {
                    ERRORS => !is_good,
                    REFUSALS => server.willing_in != Some(step),
                    _ => false,
                };
                let state = server.look(kind, &window, rate, at_once, now);
                server.settle(kind, state, &window, &mut heard, &mut single, *arm);
                if *arm == Arm::Stable {
                    asked[kind] += u32::from(exposed > 0);
                    waits[kind] += u32::from(state == State::Waits && exposed > 0);
                }
                signals(kind).for_each(|signal| heard.users.add(signal, &window.harm));
            }
        }
        self.known.retain(|_, server| now.since(server.asked) < GONE);
        (0..KINDS).flat_map(signals).for_each(|signal| heard.users.add(signal, &single));
        let many = |kind: &usize| waits[*kind] > 0 && f64::from(waits[*kind]) >= MANY * f64::from(asked[*kind]);
        for signal in (0..KINDS).filter(many).flat_map(signals) {
            self.known.values_mut().for_each(|server| server.single.clear(signal));
        }
        let all = recent[0] + recent[1];
        heard.servers = if all == 0 { 0.0 } else { f64::from(recent[1]) / f64::from(all) };
        heard
    }
}

/// How a server stands, in what is of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its users meet no more than others.
    Usual,
    /// It has a burst that may be a hiccup.
    Waits,
    /// It has one that is none.
    Lasts,
}

impl Server {
    /// Looks at a window.
    fn look(&mut self, kind: usize, window: &OfWindow, rate: f64, at_once: bool, now: Nanos) -> State {
        let (exposed, bad) = (window.exposed(kind), window.bad[kind]);
        let burst = self.bursts[kind];
        let Some((first, last)) = window.met[kind] else {
            let is_over = window.active > 0 || now.since(self.asked) >= RECENT;
            self.bursts[kind] = burst.filter(|_| !is_over);
            return if self.bursts[kind].is_some() { State::Waits } else { State::Usual };
        };
        let more = bad > 1 && chance_of(bad, rate * f64::from(exposed)) < BY_CHANCE;
        // Where it is asked seldom, as one that is ejected is, all of its users are few.
        let all = bad == exposed && burst.is_some();
        match burst {
            Some((began, _)) if more || all => {
                self.bursts[kind] = Some((began, last));
                if at_once || last.since(began) > HICCUP { State::Lasts } else { State::Waits }
            }
            None if more => {
                let began = self.met[kind].filter(|met| first.since(*met) < SOON).unwrap_or(first);
                self.bursts[kind] = Some((began, last));
                if at_once { State::Lasts } else { State::Waits }
            }
            // Its last moment, in a window that is mostly quiet.
            Some((_, before)) if first.since(before) < SOON => State::Waits,
            _ => {
                self.bursts[kind] = None;
                State::Usual
            }
        }
    }

    /// Counts what users first met there.
    fn settle(
        &mut self,
        kind: usize,
        state: State,
        window: &OfWindow,
        heard: &mut Heard,
        single: &mut Counts,
        arm: Arm,
    ) {
        let belongs = self.bursts[kind].is_some_and(|(began, _)| self.met[kind].is_some_and(|met| began <= met));
        for signal in signals(kind) {
            if belongs {
                self.waiting.add(signal, &self.single);
            } else {
                single.add(signal, &self.single);
            }
            self.single.clear(signal);
            match state {
                State::Waits => self.waiting.add(signal, &window.counts),
                State::Lasts => [&window.counts, &self.waiting].into_iter().for_each(|it| heard.users.add(signal, it)),
                State::Usual => self.single.add(signal, &window.counts),
            }
            if state == State::Usual && self.waiting.all(signal) > 0 {
                heard.hiccups.event(signal, Cell::of(arm, 0));
            }
            if state != State::Waits {
                self.waiting.clear(signal);
            }
        }
        self.met[kind] = window.met[kind].map(|(_, last)| last).filter(|_| state == State::Usual);
    }
}

/// The chance of so many events or more where `expected` come in the mean (Poisson).
fn chance_of(events: u32, expected: f64) -> f64 {
    let mut term = (-expected).exp();
    let mut below = 0.0;
    for n in 0..events {
        below += term;
        term *= expected / f64::from(n + 1);
    }
    (1.0 - below).max(0.0)
}

#[cfg(test)]
mod tests;
