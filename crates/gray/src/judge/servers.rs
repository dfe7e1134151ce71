//! Hiccups of servers: how the judge tells what hits one server from what hits users. Chance assigns users
//! to an arm, and not servers.
//!
//! A canary of one server suffers every hiccup of that server on all of its users at once, while stable's hiccups touch
//! a few of its own. Ten users who fail in one second on one server are one event, not ten. A server has a *burst* of a
//! kind (failures, answers above a threshold) in a window where more of its users meet it than chance would give, at
//! the rate of stable's users. First events in a burst wait. First events in a window without one wait for the next
//! window, since it may be the first or the last moment of a burst.
//!
//! A burst that is over within two seconds was a hiccup. It is one event, for which the canary's share is that of the
//! servers, or of the users where that is more. Beside it count as many users as would have met the kind without the
//! hiccup, by stable's rate in the same window. A burst that lasts longer is not a hiccup, and all of it counts by
//! users. Meanwhile the canary's users lose nothing, as stable answers for it; a user who got no answer counts at once.
//! So does every user of a server that gave no good answer in this step: it is dead, and always was. Chance before or
//! after a hiccup must not prolong it: the two seconds begin when chance is excluded, and what comes later must exclude
//! chance, too.
//!
//! Leaving out a server of the canary favours the canary, and leaving out one of stable harms it. So a burst of stable
//! must be beyond all chance, the events just before and after it count by users, and the canary's share of a window is
//! one of the users who are left. Where all of stable's servers have a burst, the window says nothing, since those
//! bursts are larger than the canary's.

use std::time::Duration;

use ahash::AHashMap;

use super::evidence::Said;
use super::signals::{COUNTED, EPISODE_ERRORS, ERRORS, P50, REFUSALS, SLO, is_timed, of_kind};
use super::window::{EvidenceCell, EvidenceCounts};
use crate::sample::{Arm, Ending, Sample};
use base::units::Nanos;

mod burst;
mod closing;

use burst::{Burst, Flow, OfWindow, Own, ServerState, Sought, look};
use closing::{Closing, OfStable, Rates};

/// An event that follows another this soon is a part of its burst.
const SOON: Duration = Duration::from_millis(800);
/// A server not asked for this long is not among those that could have a burst, and what waits there is over.
const RECENT: Duration = Duration::from_secs(10);
/// A server not asked for this long is forgotten.
const GONE: Duration = Duration::from_secs(600);
/// Failures of stable's servers older than this are not recent.
const LATELY: Duration = Duration::from_secs(3);

/// The weight of one window in the moving average of users.
const LEARN: f64 = 0.1;

/// Kinds of what users meet, by the number of the signal: a failure, an answer above each threshold, a refusal.
pub(super) const KINDS: usize = REFUSALS + 1;
/// The prior before stable has data: this many users, of whom this share met each kind in a window.
const PRIOR: (f64, [f64; KINDS]) = (200.0, [0.001, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.001, 0.01]);

/// A server of an arm.
#[derive(Debug)]
struct Server {
    asked: Nanos,
    /// When a user last had an event there, and when one last met a failure.
    hit: Option<Nanos>,
    failed: Option<Nanos>,
    /// The step in which it last gave an answer that is not a failure, and one that is not a refusal either.
    good_in: Option<u16>,
    willing_in: Option<u16>,
    window: OfWindow,
    bursts: [Option<Burst>; KINDS],
    /// What its users meet at any time, where it is a server of the canary.
    own: [Own; KINDS],
    /// First events in its bursts beyond those of any time, until the burst is known for a hiccup or not.
    waiting: EvidenceCounts,
    /// First events in a window without a burst; by kind, the time of the last; by signal, the
    /// number of those of any time.
    single: EvidenceCounts,
    met: [Option<Nanos>; KINDS],
    usual: [u32; COUNTED],
    /// Events that count with the next window.
    next: EvidenceCounts,
}

/// The servers of both arms.
#[derive(Debug)]
pub(super) struct Servers {
    known: AHashMap<(Arm, u32), Server>,
    /// Stable's users in a window, and those who met the kind, by kind.
    exposed: [f64; KINDS],
    bad: [f64; KINDS],
    /// Of the window before: by kind, the share of stable's users who were there and at servers without a burst; by
    /// arm, the share of the users with a timed answer.
    steady: [f64; KINDS],
    timed: [f64; 2],
    /// Users per second of each arm; and since when those of the open window are counted.
    flow: [f64; 2],
    opened: Nanos,
}

/// On how many servers the canary is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Servers on which users had an event.
    pub servers: u32,
    /// All servers.
    pub of: u32,
}

/// What a window yields: events of users, and hiccups of servers, by signal. The canary's events of one window come
/// with stable's or after them: events seen on stable alone meanwhile favour the canary.
#[derive(Debug)]
pub(super) struct Heard {
    /// Events of the window before.
    pub(super) before: EvidenceCounts,
    /// Events of the window itself.
    pub(super) now: EvidenceCounts,
    /// Events that waited, of bursts that were not hiccups.
    pub(super) late: EvidenceCounts,
    /// By signal, whether events still wait.
    pub(super) waits: [bool; COUNTED],
    pub(super) hiccups: EvidenceCounts,
    /// The canary's share of the servers.
    pub(super) servers: f64,
    /// Of the window before and of the window itself: by arm, the share of the users with a timed answer; by signal,
    /// the share of stable's users who are there and not left out.
    pub(super) timed: [[f64; 2]; 2],
    pub(super) steady: [[f64; COUNTED]; 2],
}

impl Default for Heard {
    fn default() -> Heard {
        Heard {
            before: EvidenceCounts::default(),
            now: EvidenceCounts::default(),
            late: EvidenceCounts::default(),
            waits: [false; COUNTED],
            hiccups: EvidenceCounts::default(),
            servers: 0.0,
            timed: [[1.0; 2]; 2],
            steady: [[1.0; COUNTED]; 2],
        }
    }
}

impl Heard {
    /// Drops the events of latency, of the window before or of the window itself.
    pub(super) fn forget_times(&mut self, now: bool) {
        for signal in (0..COUNTED).filter(|signal| is_timed(*signal)) {
            let counts = if now { &mut self.now } else { &mut self.before };
            for counts in [counts, &mut self.late, &mut self.hiccups] {
                counts.clear(signal);
            }
        }
    }

    /// What the window says of the canary in a signal, where the share `part` of the users was put on it.
    pub(super) fn said(&self, signal: usize, part: f64) -> Said {
        let bet = |it: &EvidenceCounts, part| it.bet(signal, [EvidenceCell::Stable, EvidenceCell::Canary], part);
        // The canary's share of the users who are counted; never less than its design share.
        let of = |at: usize, steady: f64| {
            let [stable, canary] = if is_timed(signal) { self.timed[at] } else { [1.0; 2] };
            let [stable, canary] = [(1.0 - part) * stable * steady, part * canary];
            if stable + canary > 0.0 { (canary / (stable + canary)).max(part) } else { part }
        };
        let hiccups = bet(&self.hiccups, part.max(self.servers));
        Said {
            before: bet(&self.before, of(0, self.steady[0][signal])).and(&hiccups),
            now: bet(&self.now, of(1, self.steady[1][signal])),
            late: bet(&self.late, of(0, 1.0)),
            waits: self.waits[signal],
        }
    }
}

impl Default for Servers {
    fn default() -> Servers {
        let bad = PRIOR.1.map(|part| PRIOR.0 * part);
        Servers {
            known: AHashMap::new(),
            exposed: [PRIOR.0; KINDS],
            bad,
            steady: [1.0; KINDS],
            timed: [1.0; 2],
            flow: [0.0; 2],
            opened: Nanos(0),
        }
    }
}

impl Servers {
    /// Notes that a server was asked, in a release at this step.
    pub(super) fn asked(&mut self, seen: &Sample, step: u16, now: Nanos) {
        let server = self.known.entry((seen.arm, seen.server)).or_insert_with(|| Server {
            asked: now,
            hit: None,
            failed: None,
            good_in: None,
            willing_in: None,
            window: OfWindow::default(),
            bursts: [None; KINDS],
            own: [Own::default(); KINDS],
            waiting: EvidenceCounts::default(),
            single: EvidenceCounts::default(),
            met: [None; KINDS],
            usual: [0; COUNTED],
            next: EvidenceCounts::default(),
        });
        server.asked = now;
        // An answer to a request that began before the step may have been good by then.
        if seen.ending == Ending::Good && seen.step == step {
            server.good_in = Some(step);
            server.willing_in = if seen.is_refusal() { server.willing_in } else { Some(step) };
        }
    }

    /// The share of stable's users who meet the kind in a window.
    fn rate(&self, kind: usize) -> f64 {
        self.bad[kind] / self.exposed[kind]
    }

    /// The rates by which a server of an arm is tested, with this window: above one a burst is likely, above the other
    /// it lasts. For latency of the canary, the first is stable's observed rate without the prior, which is too high
    /// where stable is fast. A burst does not last where stable's users meet the kind as often in this window; and it
    /// is not likely where they do at servers without a burst of their own.
    fn rates(&self, arm: Arm, kind: usize) -> Rates {
        let rate = self.rate(kind);
        if arm == Arm::Stable {
            return Rates { likely: rate, lasting: rate };
        }
        let sum = |of: &dyn Fn(&Server) -> bool| {
            let stable = self.known.iter().filter(|((arm, _), server)| *arm == Arm::Stable && of(server));
            stable.fold((0.0, 0.0), |(exposed, bad), (_, Server { window, .. })| {
                (exposed + f64::from(window.exposed(kind)), bad + f64::from(window.bad(kind)))
            })
        };
        let (exposed, bad) = sum(&|_| true);
        let told = self.exposed[kind] - PRIOR.0 + exposed;
        let of_told = self.bad[kind] - PRIOR.0 * PRIOR.1[kind] + bad;
        let lasting = if exposed > 0.0 { rate.max(bad / exposed) } else { rate };
        let likely = match is_timed(kind) {
            true if told > 0.0 => (of_told / told).clamp(0.0, rate),
            true => rate,
            false => match sum(&|server| !server.window.is_apart(kind, rate, server.bursts[kind].as_ref())) {
                (quiet, bad) if quiet > 0.0 => rate.max(bad / quiet),
                _ => lasting,
            },
        };
        Rates { likely, lasting }
    }

    fn of(&mut self, seen: &Sample) -> Option<&mut Server> {
        self.known.get_mut(&(seen.arm, seen.server))
    }

    /// Counts a user who asks it in this window; `timed` counts one with a timed answer.
    pub(super) fn active(&mut self, seen: &Sample) {
        self.of(seen).into_iter().for_each(|server| server.window.active += 1);
    }

    /// See [`Servers::active`].
    pub(super) fn timed(&mut self, seen: &Sample) {
        self.of(seen).into_iter().for_each(|server| server.window.timed += 1);
    }

    /// Counts a user who meets something there for the first time in this window.
    pub(super) fn met(&mut self, seen: &Sample, kind: usize) {
        let rate = self.rate(kind);
        if let Some(server) = self.of(seen) {
            let (now, rate) = (server.asked, server.own[kind].or_more(rate));
            server.window.met(kind, rate, server.bursts[kind].as_ref(), now);
            if kind == ERRORS {
                server.failed = Some(now);
            }
        }
    }

    /// Counts a user's first event of a signal there.
    pub(super) fn event(&mut self, seen: &Sample, signal: usize) {
        if let Some(server) = self.of(seen) {
            let harms = seen.ending.is_failure() && !seen.saved && !is_timed(signal);
            let counts = if harms { &mut server.window.harm } else { &mut server.window.counts };
            counts.event(signal, EvidenceCell::of(seen.arm, seen.user));
            server.hit = Some(server.asked);
        }
    }

    /// Whether users failed recently at most of stable's servers.
    pub(super) fn most_of_stable_fail(&self, now: Nanos) -> bool {
        let recent =
            self.known.iter().filter(|((arm, _), server)| *arm == Arm::Stable && now.since(server.asked) < RECENT);
        let (all, failed) = recent.fold((0, 0), |(all, failed), (_, server)| {
            (all + 1, failed + u32::from(server.failed.is_some_and(|at| now.since(at) < LATELY)))
        });
        2 * failed > all
    }

    /// The canary's servers that were asked recently, and at how many of them users had an event.
    pub(super) fn of_canary(&self, now: Nanos) -> Hit {
        let recent =
            self.known.iter().filter(|((arm, _), server)| *arm == Arm::Canary && now.since(server.asked) < RECENT);
        recent.fold(Hit::default(), |hit, (_, server)| Hit {
            of: hit.of + 1,
            servers: hit.servers + u32::from(server.hit.is_some_and(|at| now.since(at) < RECENT)),
        })
    }

    /// Ends a step: waiting events are of another share, and are dropped.
    pub(super) fn end_step(&mut self) {
        for server in self.known.values_mut() {
            (server.bursts, server.waiting, server.single) =
                ([None; KINDS], EvidenceCounts::default(), EvidenceCounts::default());
            (server.next, server.met) = (EvidenceCounts::default(), [None; KINDS]);
        }
        (self.steady, self.timed, self.flow) = ([1.0; KINDS], [1.0; 2], [0.0; 2]);
    }

    /// Ends an episode: its users will count again in the next one.
    pub(super) fn end_episode(&mut self) {
        for server in self.known.values_mut() {
            for signal in EPISODE_ERRORS..COUNTED {
                let OfWindow { counts, harm, .. } = &mut server.window;
                for counts in [&mut server.waiting, &mut server.single, &mut server.next, counts, harm] {
                    counts.clear(signal);
                }
            }
        }
    }

    /// The share of stable's users who are seen, relative to the canary's, in a window with these numbers of each.
    /// Users who wait for a stalled server are seen when it answers: until then the other arm's users would stand
    /// alone, and then their own.
    fn present(&mut self, users: [u32; 2], now: Nanos) -> f64 {
        let seconds = now.since(self.opened).as_secs_f64().max(0.001);
        let users = users.map(f64::from);
        let [stable, canary] = [0, 1].map(|arm| Flow { users: users[arm], usual: self.flow[arm] * seconds });
        for (flow, users) in self.flow.iter_mut().zip(users).filter(|_| users != [0.0; 2]) {
            *flow += (users / seconds - *flow) * if *flow == 0.0 { 1.0 } else { LEARN };
        }
        if canary.users == 0.0 {
            return 1.0;
        }
        // Of an arm without users so far it is not known whether any are missing.
        if stable.users + stable.usual == 0.0 {
            return 0.0;
        }
        // Where the canary's users are rare, or the first, they are not more than usual.
        let usual = if canary.usual == 0.0 { canary.users } else { canary.usual.max(1.0) };
        let canary = Flow { usual, ..canary };
        if stable.is_less() || canary.is_more() { (stable.part() / canary.part()).min(1.0) } else { 1.0 }
    }

    /// Ends a window of a step: separates bursts from what users met.
    pub(super) fn close(&mut self, step: u16, now: Nanos) -> Heard {
        let rates = Arm::ALL.map(|arm| std::array::from_fn(|kind| self.rates(arm, kind)));
        let mut closing = Closing::of(&mut self.known);
        let beside = closing.look(step, &rates, now);
        let of_stable = closing.of_stable();
        for (kind, stable) in rates[Arm::Stable as usize].iter().enumerate() {
            let [exposed, bad] = closing.taught(kind, stable.lasting);
            // No user can be above a threshold that is not known yet.
            if self.bad[kind] > PRIOR.0 * PRIOR.1[kind] || bad > 0.0 || !is_timed(kind) {
                self.exposed[kind] += exposed;
                self.bad[kind] += bad;
            }
        }
        let (active, now_timed) = (closing.active(), closing.timed());
        let timed = [std::mem::replace(&mut self.timed, now_timed), now_timed];
        let mut heard = Heard { servers: closing.part_of_canary(now), timed, ..Heard::default() };
        closing.settle(&of_stable, &beside, &mut heard);
        self.known.retain(|_, server| now.since(server.asked) < GONE);
        let present = self.present(active, now);
        for kind in 0..KINDS {
            let steady = present * of_stable.steady(kind);
            let before = std::mem::replace(&mut self.steady[kind], steady);
            for signal in of_kind(kind) {
                (heard.steady[0][signal], heard.steady[1][signal]) = (before, steady);
            }
        }
        self.opened = now;
        heard
    }
}

/// A burst of answers above a threshold is one above every threshold that more of stable's users exceed: a user who
/// waits for a stalled server exceeds them all.
fn spread(states: &mut [ServerState; KINDS], rates: &[Rates; KINDS]) {
    let own = *states;
    for kind in P50..=SLO {
        let rarer = (P50..=SLO).filter(|rarer| rates[*rarer].lasting <= rates[kind].lasting).map(|rarer| own[rarer]);
        states[kind] = rarer.max().unwrap_or(own[kind]);
    }
}

impl Server {
    /// The state of the server, by kind.
    fn look(
        &mut self,
        arm: Arm,
        is_good: bool,
        step: u16,
        window: &OfWindow,
        rates: &[Rates; KINDS],
        now: Nanos,
    ) -> [ServerState; KINDS] {
        let mut states = std::array::from_fn(|kind| {
            let at_once = match kind {
                ERRORS => !is_good,
                REFUSALS => self.willing_in != Some(step),
                _ => false,
            };
            let (Rates { likely, lasting }, own) = (rates[kind], &mut self.own[kind]);
            let sought = Sought { arm, kind, likely, rate: own.or_more(lasting), at_once };
            let state = look(&mut self.bursts[kind], sought, window, (self.asked, now));
            if state == ServerState::Usual && arm == Arm::Canary && !is_timed(kind) {
                own.learn(window.exposed(kind), window.bad(kind));
            }
            state
        });
        if arm == Arm::Canary {
            spread(&mut states, rates);
        }
        states
    }

    /// Counts the first events there: a window later, when it is clear what they are, or later still. Failures and
    /// refusals of stable count at once: those of the canary may, too. `beside` is the state of the canary.
    fn settle(
        &mut self,
        (arm, kind): (Arm, usize),
        (state, beside): (ServerState, ServerState),
        of_stable: &OfStable,
        window: &OfWindow,
        heard: &mut Heard,
    ) {
        let on_canary = arm == Arm::Canary;
        let met = window.met[kind];
        let soon = |before: Nanos| met.is_some_and(|met| met.first.since(before) < SOON);
        let was_part = state != ServerState::Usual && self.met[kind].is_some_and(soon);
        for signal in of_kind(kind) {
            let usual = of_stable.usual(kind, signal, window);
            heard.before.add(signal, &self.next);
            self.next.clear(signal);
            if was_part {
                let excess = self.single.take_beyond(signal, self.usual[signal]);
                self.waiting.add(signal, &excess);
            }
            heard.before.add(signal, &self.single);
            self.single.clear(signal);
            self.usual[signal] = usual;
            match state {
                ServerState::Waits if on_canary => {
                    self.next.add(signal, &window.counts);
                    let excess = self.next.take_beyond(signal, usual);
                    self.waiting.add(signal, &excess);
                    heard.waits[signal] = true;
                }
                ServerState::Waits => self.waiting.add(signal, &window.counts),
                ServerState::Usual if on_canary => self.single.add(signal, &window.counts),
                ServerState::Lasts if on_canary => self.next.add(signal, &window.counts),
                ServerState::Usual | ServerState::Lasts if is_timed(kind) => self.next.add(signal, &window.counts),
                ServerState::Usual | ServerState::Lasts | ServerState::AtOnce => heard.now.add(signal, &window.counts),
            }
            if state != ServerState::Waits {
                let alone = on_canary || beside == ServerState::Usual;
                self.end_wait(arm, signal, state == ServerState::Usual && alone, heard);
            }
        }
        self.met[kind] = met.map(|met| met.last).filter(|_| on_canary && state == ServerState::Usual);
    }

    /// Ends a wait: a hiccup is one event; anything else counts by users.
    fn end_wait(&mut self, arm: Arm, signal: usize, was_hiccup: bool, heard: &mut Heard) {
        if was_hiccup && self.waiting.all(signal) > 0 {
            heard.hiccups.event(signal, EvidenceCell::of(arm, 0));
        } else {
            heard.late.add(signal, &self.waiting);
        }
        self.waiting.clear(signal);
    }
}

#[cfg(test)]
mod tests;
