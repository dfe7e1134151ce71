//! The end of a window: what the users of each server met, compared with the other servers.

use ahash::AHashMap;

use super::super::signals::{is_timed, of_kind};
use super::burst::{OfWindow, ServerState};
use super::{Heard, KINDS, RECENT, Server};
use crate::judge::signals::{COUNTED, P50, SLO};
use crate::sample::Arm;
use base::units::Nanos;

/// A server, and what its users met in the window.
struct One<'a> {
    arm: Arm,
    number: u32,
    server: &'a mut Server,
    window: OfWindow,
    states: [ServerState; KINDS],
}

impl One<'_> {
    /// Whether a hiccup of this kind may be going on there.
    fn waits(&self, kind: usize) -> bool {
        self.states[kind] == ServerState::Waits
    }

    /// Whether its window shows what users meet at any time. A user who waits for a stalled server is above all
    /// thresholds, though not for every one beyond all chance.
    fn teaches(&self, kind: usize) -> bool {
        let is_slow = || (P50..=SLO).any(|kind| self.waits(kind));
        !(self.waits(kind) || is_timed(kind) && is_slow())
    }
}

/// The shares of users who meet a kind in a window above which a burst is likely, and above which it lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) likely: f64,
    pub(super) lasting: f64,
}

/// Stable's users of a window, by kind.
#[derive(Debug, Default)]
pub(super) struct OfStable {
    asked: [u32; KINDS],
    /// Of them, those who are not left out.
    steady: [u32; KINDS],
    /// Users at servers without a hiccup, and by signal how many of them met it for the first time.
    quiet: [u32; KINDS],
    first: [u32; COUNTED],
}

impl OfStable {
    /// The share of users who are not left out; 1 where stable had no users.
    pub(super) fn steady(&self, kind: usize) -> f64 {
        if self.asked[kind] == 0 { 1.0 } else { f64::from(self.steady[kind]) / f64::from(self.asked[kind]) }
    }

    /// How many of a server's users would have met it first without its hiccup, besides those who count at once.
    pub(super) fn usual(&self, kind: usize, signal: usize, window: &OfWindow) -> u32 {
        let all = f64::from(self.first[signal]) * f64::from(window.exposed(kind)) / f64::from(self.quiet[kind].max(1));
        (all as u32).saturating_sub(window.harm.all(signal))
    }

    fn add(&mut self, one: &One<'_>) {
        for kind in 0..KINDS {
            let (exposed, waits) = (one.window.exposed(kind), one.waits(kind));
            let any = of_kind(kind).any(|signal| one.window.counts.all(signal) > 0);
            self.asked[kind] += exposed;
            self.steady[kind] += if waits && any { 0 } else { exposed };
            if !waits {
                self.quiet[kind] += exposed;
                for signal in of_kind(kind) {
                    self.first[signal] += one.window.counts.all(signal) + one.window.harm.all(signal);
                }
            }
        }
    }
}

/// All servers at the end of a window, the canary's first: its bursts decide how stable's count.
pub(super) struct Closing<'a>(Vec<One<'a>>);

impl<'a> Closing<'a> {
    /// Takes what their users met.
    pub(super) fn of(known: &'a mut AHashMap<(Arm, u32), Server>) -> Closing<'a> {
        let of = |((arm, number), server): (&(Arm, u32), &'a mut Server)| {
            let window = std::mem::take(&mut server.window);
            One { arm: *arm, number: *number, server, window, states: [ServerState::Usual; KINDS] }
        };
        let mut all: Vec<One<'_>> = known.iter_mut().map(of).collect();
        all.sort_unstable_by_key(|one| one.arm == Arm::Stable);
        Closing(all)
    }

    fn on(&self, arm: Arm) -> impl Iterator<Item = &One<'a>> {
        self.0.iter().filter(move |one| one.arm == arm)
    }

    /// Users who asked, by arm.
    pub(super) fn active(&self) -> [u32; 2] {
        Arm::ALL.map(|arm| self.on(arm).map(|one| one.window.active).sum())
    }

    /// By arm, the share of the users with a timed answer: a user who fails says nothing of latency. 1
    /// where the arm had no users.
    pub(super) fn timed(&self) -> [f64; 2] {
        Arm::ALL.map(|arm| {
            let users = |of: fn(&OfWindow) -> u32| f64::from(self.on(arm).map(|one| of(&one.window)).sum::<u32>());
            let active = users(|window| window.active);
            if active > 0.0 { (users(|window| window.timed) / active).min(1.0) } else { 1.0 }
        })
    }

    /// The canary's share of the servers that were asked recently.
    pub(super) fn part_of_canary(&self, now: Nanos) -> f64 {
        let [stable, canary] =
            Arm::ALL.map(|arm| self.on(arm).filter(|one| now.since(one.server.asked) < RECENT).count() as f64);
        if stable + canary == 0.0 { 0.0 } else { canary / (stable + canary) }
    }

    /// Looks for bursts, at the rates of stable and of the canary; returns the canary's worst state, by kind.
    pub(super) fn look(&mut self, step: u16, rates: &[[Rates; KINDS]; 2], now: Nanos) -> [ServerState; KINDS] {
        let good = Arm::ALL.map(|arm| self.on(arm).any(|one| one.number != 0 && one.server.good_in == Some(step)));
        let mut canary = [ServerState::Usual; KINDS];
        for one in &mut self.0 {
            // Number 0 stands for no server: where every server is full, one has a place again soon.
            let is_good = one.server.good_in == Some(step) || one.number == 0 && good[one.arm as usize];
            one.states = one.server.look(one.arm, is_good, step, &one.window, &rates[one.arm as usize], now);
            for (state, beside) in one.states.iter_mut().zip(&mut canary) {
                match one.arm {
                    Arm::Canary => *beside = (*beside).max(*state),
                    // A fault that lasts on the canary is not excused on stable either.
                    Arm::Stable if *state == ServerState::Waits && *beside >= ServerState::Lasts => {
                        *state = ServerState::Lasts
                    }
                    Arm::Stable => {}
                }
            }
        }
        canary
    }

    /// Stable's users.
    pub(super) fn of_stable(&self) -> OfStable {
        let mut all = OfStable::default();
        self.on(Arm::Stable).for_each(|one| all.add(one));
        all
    }

    /// Stable's users who show how often a kind is met at any time, and those of them who met it: at each server at
    /// most twice the expected number, plus three.
    pub(super) fn taught(&self, kind: usize, rate: f64) -> [f64; 2] {
        self.on(Arm::Stable).filter(|one| one.teaches(kind)).fold([0.0; 2], |[exposed, bad], one| {
            let (users, met) = (f64::from(one.window.exposed(kind)), f64::from(one.window.bad(kind)));
            [exposed + users, bad + met.min(2.0 * rate * users + 3.0)]
        })
    }

    /// Counts what users met, or lets it wait.
    pub(super) fn settle(self, of_stable: &OfStable, canary: &[ServerState; KINDS], heard: &mut Heard) {
        for One { arm, server, window, states, .. } in self.0 {
            for (kind, state) in states.into_iter().enumerate() {
                server.settle((arm, kind), (state, canary[kind]), of_stable, &window, heard);
                of_kind(kind).for_each(|signal| heard.now.add(signal, &window.harm));
            }
        }
    }
}
