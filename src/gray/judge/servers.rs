//! What hits a server is not what hits users: chance puts users on an arm, and not servers.
//!
//! A canary of one server takes every hiccup of that server on all of its users at once, and stable's hiccups touch a few of
//! its own. Ten users who fail in one second on one server are one event, not ten. A server has a *burst* of a kind
//! (failures, answers above a threshold) in a window where more of its users meet it than chance would give, at the rate
//! that stable's users do. What users first meet in a burst waits.
//!
//! A burst that is over within two seconds was a hiccup: one event, on the canary by the part of the servers that are the
//! canary's, or of the users where that is more. One that lasts is none, and all of it counts by users. Meanwhile the
//! canary's users lose nothing, as stable answers for it; where it did not, nothing waits. Nor does it with a server that
//! gave no good answer in this step: it is dead, and was never anything else.
//!
//! Stable's servers may be larger than the canary's, so that what hits both is a burst on stable alone. So where one of
//! stable's waits, what the others met in that window is not counted.

use std::time::Duration;

use ahash::AHashMap;

use super::evidence::Bet;
use super::signals::{
    COUNTED, EPISODE_ERRORS, EPISODE_P95, EPISODE_P99, EPISODE_REFUSALS, EPISODE_SLO, ERRORS, P50, P95, P99, REFUSALS,
    SLO,
};
use super::window::{Cell, Counts};
use crate::gray::seen::{Arm, Seen};
use crate::units::Nanos;

/// How long a hiccup lasts at most.
const HICCUP: Duration = Duration::from_secs(2);
/// A server that was asked so long ago is not among those that could have a burst.
const RECENT: Duration = Duration::from_secs(10);
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

/// A server of an arm.
#[derive(Debug)]
struct Server {
    asked: Nanos,
    /// When a user had an event there last.
    hit: Option<Nanos>,
    /// The step in which it gave an answer last that was none of the kind: a failure, a refusal.
    good_in: Option<u16>,
    willing_in: Option<u16>,
    window: OfWindow,
    /// Since when a burst lasts, by kind.
    bursts: [Option<Nanos>; KINDS],
    /// What users first met in them, until they are known for what they are.
    waiting: Counts,
}

/// What a server's users met in the open window.
#[derive(Debug, Default)]
struct OfWindow {
    /// Users who asked it, and of them those whose answers were timed.
    active: u32,
    timed: u32,
    /// Users who met it, by kind.
    bad: [u32; KINDS],
    /// First events.
    counts: Counts,
    /// Somebody met a failure, and nobody answered for it.
    harmed: bool,
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
}

impl Heard {
    /// What it says of the canary in a signal, where `part` of the users were put on it.
    pub(super) fn bet(&self, signal: usize, part: f64) -> Bet {
        let sides = [Cell::Stable, Cell::Canary];
        self.users.bet(signal, sides, part).and(&self.hiccups.bet(signal, sides, part.max(self.servers)))
    }
}

impl Default for Servers {
    fn default() -> Servers {
        Servers { known: AHashMap::new(), exposed: [PRIOR.0; KINDS], bad: PRIOR.1.map(|part| PRIOR.0 * part) }
    }
}

impl Servers {
    /// A server was asked.
    pub(super) fn asked(&mut self, seen: &Seen, now: Nanos) {
        let server = self.known.entry((seen.arm, seen.server)).or_insert_with(|| Server {
            asked: now,
            hit: None,
            good_in: None,
            willing_in: None,
            window: OfWindow::default(),
            bursts: [None; KINDS],
            waiting: Counts::default(),
        });
        server.asked = now;
        if !seen.ending.is_failure() && seen.server != 0 {
            server.good_in = Some(seen.step);
            server.willing_in = if seen.is_refusal() { server.willing_in } else { Some(seen.step) };
        }
        server.window.harmed |= seen.ending.is_failure() && !seen.saved;
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
        self.of(seen).into_iter().for_each(|server| server.window.bad[kind] += 1);
    }

    /// A user has his first event of a signal there.
    pub(super) fn event(&mut self, seen: &Seen, signal: usize) {
        if let Some(server) = self.of(seen) {
            server.window.counts.event(signal, Cell::of(seen.arm, seen.user));
            server.hit = Some(server.asked);
        }
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
            (server.bursts, server.waiting) = ([None; KINDS], Counts::default());
        }
    }

    /// An episode ends: whom it heard will tell again in the next one.
    pub(super) fn end_episode(&mut self) {
        for server in self.known.values_mut() {
            (EPISODE_ERRORS..COUNTED).for_each(|signal| server.waiting.clear(signal));
        }
    }

    /// Ends a window of a step: tells bursts from what users met.
    pub(super) fn close(&mut self, step: u16, now: Nanos) -> Heard {
        let rates: [f64; KINDS] = std::array::from_fn(|kind| self.bad[kind] / self.exposed[kind]);
        let (mut heard, mut single) = (Heard::default(), Counts::default());
        let mut recent = [0_u32; 2];
        let mut waits = [false; KINDS];
        for ((arm, _), server) in &mut self.known {
            recent[*arm as usize] += u32::from(now.since(server.asked) < RECENT);
            let window = std::mem::take(&mut server.window);
            let at_once = |kind| match kind {
                ERRORS => window.harmed || server.good_in != Some(step),
                REFUSALS => server.willing_in != Some(step),
                _ => false,
            };
            for (kind, rate) in rates.into_iter().enumerate().filter(|(kind, _)| window.exposed(*kind) > 0) {
                let (exposed, bad) = (window.exposed(kind), window.bad[kind]);
                let expected = rate * f64::from(exposed);
                if *arm == Arm::Stable {
                    // A hiccup is not what stable is like; where it is, so many windows tell.
                    self.exposed[kind] += f64::from(exposed);
                    self.bad[kind] += f64::from(bad).min(2.0 * expected + 3.0);
                }
                let is_burst = bad > 1 && chance_of(bad, expected) < BY_CHANCE;
                let since = is_burst.then(|| server.bursts[kind].unwrap_or(now));
                server.bursts[kind] = since;
                let lasts = since.is_some_and(|since| now.since(since) >= HICCUP || at_once(kind));
                waits[kind] |= is_burst && !lasts && *arm == Arm::Stable;
                for signal in signals(kind) {
                    let (counts, waiting) = (&window.counts, &mut server.waiting);
                    match (is_burst, lasts) {
                        (true, false) => waiting.add(signal, counts),
                        (true, true) => [counts, waiting].into_iter().for_each(|it| heard.users.add(signal, it)),
                        (false, _) => single.add(signal, counts),
                    }
                    if !is_burst && waiting.all(signal) > 0 {
                        heard.hiccups.event(signal, Cell::of(*arm, 0));
                    }
                    if lasts || !is_burst {
                        waiting.clear(signal);
                    }
                }
            }
        }
        for signal in (0..KINDS).filter(|kind| !waits[*kind]).flat_map(signals) {
            heard.users.add(signal, &single);
        }
        let all = recent[0] + recent[1];
        heard.servers = if all == 0 { 0.0 } else { f64::from(recent[1]) / f64::from(all) };
        heard
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
mod tests {
    use super::*;
    use crate::gray::judge::signals::ERRORS;
    use crate::gray::seen::Ending;

    /// A request; whoever fails gets another answer.
    fn seen(user: u64, arm: Arm, server: u32, ending: Ending) -> Seen {
        let (micros, status, route, cohorts, app, step) = (1, 200, 0, 0, 0, 1);
        let (saved, warm, judged) = (true, true, true);
        Seen { user, micros, server, status, route, cohorts, app, step, arm, ending, saved, warm, judged }
    }

    fn second(n: u64) -> Nanos {
        Nanos(n * 1_000_000_000)
    }

    /// Ten users of a server in a window, of whom so many fail.
    fn window(servers: &mut Servers, arm: Arm, server: u32, failing: u64, now: Nanos) {
        for user in 0..10 {
            let ending = if user < failing { Ending::Status } else { Ending::Good };
            let seen = seen(user, arm, server, ending);
            servers.asked(&seen, now);
            servers.active(&seen);
            if ending.is_failure() {
                servers.met(&seen, ERRORS);
                servers.event(&seen, ERRORS);
            }
        }
    }

    fn heard(servers: &mut Servers, now: Nanos) -> ([u32; 2], [u32; 2], f64) {
        let heard = servers.close(1, now);
        let of = |counts: &Counts| [Cell::Stable, Cell::Canary].map(|cell| counts.of(ERRORS, cell));
        (of(&heard.users), of(&heard.hiccups), heard.servers)
    }

    #[test]
    fn a_hiccup_of_a_server_is_one_event_and_one_that_lasts_is_none() {
        let mut servers = Servers::default();
        for server in 1..=3 {
            window(&mut servers, Arm::Stable, server, 0, second(1));
        }
        window(&mut servers, Arm::Canary, 9, 0, second(1));
        assert_eq!(heard(&mut servers, second(1)), ([0, 0], [0, 0], 0.25));
        window(&mut servers, Arm::Canary, 9, 8, second(2));
        window(&mut servers, Arm::Stable, 1, 1, second(2));
        assert_eq!(heard(&mut servers, second(2)), ([1, 0], [0, 0], 0.25), "one user who fails is himself");
        window(&mut servers, Arm::Canary, 9, 0, second(3));
        assert_eq!(heard(&mut servers, second(3)), ([0, 0], [0, 1], 0.25), "it was over");
        window(&mut servers, Arm::Canary, 9, 8, second(4));
        assert_eq!(heard(&mut servers, second(4)), ([0, 0], [0, 0], 0.25));
        for user in 0..4 {
            // Whoever fails again tells nothing new, but that it lasts.
            let again = seen(user, Arm::Canary, 9, Ending::Status);
            servers.asked(&again, second(5));
            servers.active(&again);
            servers.met(&again, ERRORS);
        }
        assert_eq!(heard(&mut servers, second(5)), ([0, 0], [0, 0], 0.25));
        assert_eq!(heard(&mut servers, second(6)), ([0, 0], [0, 0], 0.25), "nobody asked it");
        window(&mut servers, Arm::Canary, 9, 3, second(7));
        assert_eq!(heard(&mut servers, second(7)), ([0, 11], [0, 0], 0.25), "it lasts");
        window(&mut servers, Arm::Canary, 9, 8, second(8));
        servers.end_step();
        window(&mut servers, Arm::Canary, 9, 0, second(9));
        assert_eq!(heard(&mut servers, second(9)).1, [0, 0]);
    }

    #[test]
    fn beside_a_hiccup_of_stable_nobody_else_counts() {
        let mut servers = Servers::default();
        window(&mut servers, Arm::Stable, 1, 0, second(1));
        window(&mut servers, Arm::Canary, 9, 0, second(1));
        heard(&mut servers, second(1));
        window(&mut servers, Arm::Stable, 1, 5, second(2));
        window(&mut servers, Arm::Canary, 9, 1, second(2));
        assert_eq!(heard(&mut servers, second(2)), ([0, 0], [0, 0], 0.5));
        window(&mut servers, Arm::Stable, 1, 0, second(3));
        window(&mut servers, Arm::Canary, 9, 1, second(3));
        assert_eq!(heard(&mut servers, second(3)), ([0, 1], [1, 0], 0.5));
    }

    #[test]
    fn who_harms_is_not_waited_for() {
        let mut servers = Servers::default();
        window(&mut servers, Arm::Canary, 9, 0, second(1));
        heard(&mut servers, second(1));
        window(&mut servers, Arm::Canary, 9, 8, second(2));
        servers.asked(&Seen { saved: false, ..seen(1, Arm::Canary, 9, Ending::Status) }, second(2));
        assert_eq!(heard(&mut servers, second(2)).0, [0, 8]);
    }

    #[test]
    fn who_was_never_good_is_dead() {
        let mut servers = Servers::default();
        window(&mut servers, Arm::Canary, 9, 10, second(1));
        assert_eq!(heard(&mut servers, second(1)).0, [0, 10]);
    }

    #[test]
    fn where_many_fail_many_are_no_burst() {
        let mut servers = Servers::default();
        for n in 1..200 {
            for server in 1..=9 {
                window(&mut servers, Arm::Stable, server, u64::from(n % 2 == 0), second(n));
            }
            window(&mut servers, Arm::Canary, 9, 0, second(n));
            heard(&mut servers, second(n));
        }
        window(&mut servers, Arm::Canary, 9, 2, second(201));
        assert_eq!(heard(&mut servers, second(201)).0, [0, 2]);
        assert!(chance_of(2, 0.5) > 0.05 && chance_of(3, 0.05) < BY_CHANCE && chance_of(0, 9.0) == 1.0);
    }
}
