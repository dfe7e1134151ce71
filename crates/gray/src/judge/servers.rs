//! What hits a server is not what hits users: chance puts users on an arm, and not servers.
//!
//! A canary of one server takes every hiccup of that server on all of its users at once, and stable's hiccups touch a
//! few of its own. Ten users who fail in one second on one server are one event, not ten. A server has a *burst* of a
//! kind (failures, answers above a threshold) in a window where more of its users meet it than chance would give, at
//! the rate that stable's users do. What users first meet in a burst waits. What they meet in a window without one
//! waits for the next window, since it may be the first or the last moment of a burst.
//!
//! A burst that is over within two seconds was a hiccup: one event, on the canary by the part of the servers that are
//! the canary's, or of the users where that is more. Beside it as many users count as would have met it without, as
//! stable's of the same window tell. One that lasts is none, and all of it counts by users. Meanwhile the canary's
//! users lose nothing, as stable answers for it; whoever got no answer counts at once. So does everybody at a server
//! that gave no good answer in this step: it is dead, and was never anything else. Chance before or after a hiccup must
//! not make it longer: the two seconds begin when chance is out of the question, and what comes later must be so, too.
//!
//! To leave out a server of the canary speaks for the canary, and one of stable against it. So a burst of stable must
//! be out of all chance, what comes just before and after it counts by users, and the canary's part of a window is one
//! of the users who are left. Where all of stable's servers have one, for they are larger than the canary's, the window
//! says nothing.

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

/// What comes so soon after another is a part of it.
const SOON: Duration = Duration::from_millis(800);
/// A server that was asked so long ago is not among those that could have a burst, and what waits there is over.
const RECENT: Duration = Duration::from_secs(10);
/// One that was asked so long ago is forgotten.
const GONE: Duration = Duration::from_secs(600);
/// What happened so long ago did not happen of late.
const LATELY: Duration = Duration::from_secs(3);

/// The part of a flow of users that a window tells.
const LEARN: f64 = 0.1;

/// Kinds of what users meet: a failure, an answer above each threshold, a refusal, by the number of the signal.
pub(super) const KINDS: usize = REFUSALS + 1;
/// What is believed of users before stable has told: so many, of whom this part met it in a window, by kind.
const PRIOR: (f64, [f64; KINDS]) = (200.0, [0.001, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.001, 0.01]);

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
    bursts: [Option<Burst>; KINDS],
    /// What its users meet at any time, where it is the canary's.
    own: [Own; KINDS],
    /// What users first met in them beyond what they meet at any time, until they are known for what they are.
    waiting: EvidenceCounts,
    /// What they first met in a window without one; when the last of them did, by kind; and how many do so at any time,
    /// by signal.
    single: EvidenceCounts,
    met: [Option<Nanos>; KINDS],
    usual: [u32; COUNTED],
    /// What counts with the next window.
    next: EvidenceCounts,
}

/// The servers of both arms.
#[derive(Debug)]
pub(super) struct Servers {
    known: AHashMap<(Arm, u32), Server>,
    /// Stable's users in a window, and those who met it, by kind.
    exposed: [f64; KINDS],
    bad: [f64; KINDS],
    /// Of the window before: the part of stable's users, by kind, who were there and at servers without a burst; by arm,
    /// the part of the users of whom an answer was timed.
    steady: [f64; KINDS],
    timed: [f64; 2],
    /// Users a second of each arm; and since when those of the open window are counted.
    flow: [f64; 2],
    opened: Nanos,
}

/// Where the canary is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Servers at which users had an event.
    pub servers: u32,
    /// Servers in all.
    pub of: u32,
}

/// What a window came to: events of users, and hiccups of servers, by signal. Of one window the canary's come with
/// stable's or after them: what is seen of one arm alone meanwhile speaks for the canary.
#[derive(Debug)]
pub(super) struct Heard {
    /// Events of the window before.
    pub(super) before: EvidenceCounts,
    /// Events of the window itself.
    pub(super) now: EvidenceCounts,
    /// Events that waited: what they are of was no hiccup.
    pub(super) late: EvidenceCounts,
    /// By signal, whether some wait on.
    pub(super) waits: [bool; COUNTED],
    pub(super) hiccups: EvidenceCounts,
    /// The canary's part of the servers.
    pub(super) servers: f64,
    /// Of the window before and of the window itself: by arm, the part of the users of whom an answer was timed; by
    /// signal, the part of stable's who are there and not left out.
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
    /// Drops what it says of latency, of the window before or of the window itself.
    pub(super) fn forget_times(&mut self, now: bool) {
        for signal in (0..COUNTED).filter(|signal| is_timed(*signal)) {
            let counts = if now { &mut self.now } else { &mut self.before };
            for counts in [counts, &mut self.late, &mut self.hiccups] {
                counts.clear(signal);
            }
        }
    }

    /// What it says of the canary in a signal, where `part` of the users were put on it.
    pub(super) fn said(&self, signal: usize, part: f64) -> Said {
        let bet = |it: &EvidenceCounts, part| it.bet(signal, [EvidenceCell::Stable, EvidenceCell::Canary], part);
        // The canary's part of those users who are counted; never less than it was designed with.
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
    /// A server was asked, in a release that is at this step.
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
        // What began before the step may have been good then.
        if seen.ending == Ending::Good && seen.step == step {
            server.good_in = Some(step);
            server.willing_in = if seen.is_refusal() { server.willing_in } else { Some(step) };
        }
    }

    /// The part of stable's users who meet it in a window.
    fn rate(&self, kind: usize) -> f64 {
        self.bad[kind] / self.exposed[kind]
    }

    /// The same as a server of an arm is asked by it, with this window: that more meet it there, and that they do so
    /// for longer. Of latency the canary's are likely to have a burst above what stable told alone: what is believed of
    /// stable is too much where it is fast. None lasts that stable's users meet as often in this window; and none is
    /// likely that they meet as often at servers without a burst of their own.
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

    /// A user asks it in this window; later, that an answer is timed.
    pub(super) fn active(&mut self, seen: &Sample) {
        self.of(seen).into_iter().for_each(|server| server.window.active += 1);
    }

    /// See there.
    pub(super) fn timed(&mut self, seen: &Sample) {
        self.of(seen).into_iter().for_each(|server| server.window.timed += 1);
    }

    /// A user meets something there for the first time in this window.
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

    /// A user has his first event of a signal there.
    pub(super) fn event(&mut self, seen: &Sample, signal: usize) {
        if let Some(server) = self.of(seen) {
            let harms = seen.ending.is_failure() && !seen.saved && !is_timed(signal);
            let counts = if harms { &mut server.window.harm } else { &mut server.window.counts };
            counts.event(signal, EvidenceCell::of(seen.arm, seen.user));
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
            (server.bursts, server.waiting, server.single) =
                ([None; KINDS], EvidenceCounts::default(), EvidenceCounts::default());
            (server.next, server.met) = (EvidenceCounts::default(), [None; KINDS]);
        }
        (self.steady, self.timed, self.flow) = ([1.0; KINDS], [1.0; 2], [0.0; 2]);
    }

    /// An episode ends: whom it heard will tell again in the next one.
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

    /// The part of stable's users who are heard of, beside those of the canary, in a window with so many of each arm.
    /// Whoever waits for a server that stands still is heard of when it answers: until then the other arm's would stand
    /// alone, and then its own.
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
        // Of an arm of whom nobody was ever heard of it is not known whether he is missing.
        if stable.users + stable.usual == 0.0 {
            return 0.0;
        }
        // Where they are seldom, or the first, they are no more than usual.
        let usual = if canary.usual == 0.0 { canary.users } else { canary.usual.max(1.0) };
        let canary = Flow { usual, ..canary };
        if stable.is_less() || canary.is_more() { (stable.part() / canary.part()).min(1.0) } else { 1.0 }
    }

    /// Ends a window of a step: tells bursts from what users met.
    pub(super) fn close(&mut self, step: u16, now: Nanos) -> Heard {
        let rates = Arm::ALL.map(|arm| std::array::from_fn(|kind| self.rates(arm, kind)));
        let mut closing = Closing::of(&mut self.known);
        let beside = closing.look(step, &rates, now);
        let of_stable = closing.of_stable();
        for (kind, stable) in rates[Arm::Stable as usize].iter().enumerate() {
            let [exposed, bad] = closing.taught(kind, stable.lasting);
            // Of a threshold that is not known yet nobody can be above.
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

/// A burst of answers above a threshold is one of answers above all that more of stable's users exceed: whoever waits
/// for a server that stands still exceeds them all.
fn spread(states: &mut [ServerState; KINDS], rates: &[Rates; KINDS]) {
    let own = *states;
    for kind in P50..=SLO {
        let rarer = (P50..=SLO).filter(|rarer| rates[*rarer].lasting <= rates[kind].lasting).map(|rarer| own[rarer]);
        states[kind] = rarer.max().unwrap_or(own[kind]);
    }
}

impl Server {
    /// How it stands, by kind.
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

    /// Counts what users first met there: a window later, when it is clear what it is, and what is not clear then still
    /// later. Failures and refusals of stable count at once: those of the canary may, too. `beside` says how the canary
    /// stands.
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

    /// What waits was a hiccup: one event. Or it was none, and counts by users.
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
