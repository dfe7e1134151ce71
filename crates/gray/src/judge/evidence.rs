//! The evidence of one signal that the canary is worse: an e-process, a bet that pays only if it is.
//!
//! A hash draws a user's arm once. Under the null hypothesis that the canary does no harm, a user with a first bad
//! event would have had it on either arm. So, given all that happened before, that user is on the canary with the
//! **design share** of their step, `p`, whatever the base rate is, and however unequally often users come, in whatever
//! clusters. Then `r / (1-p+p*r)` for each event on the canary, and `1 / (1-p+p*r)` for each on stable, is an e-value
//! for odds ratios `r >= 1`, and events multiply (Ville: the chance that the product ever reaches `x` is at most `1/x`,
//! however often one looks). Sixteen odds ratios share the stake. The share that is *seen* in a window must not stand
//! for `p`: users who come every second show their arm again and again.
//!
//! A good start would bury a fault that comes late under its evidence for the canary. So only a part of the stake
//! is bet at the start. The rest is bet in small parts, window by window, on a schedule without an end, and in a
//! larger part when the share changes, which is when faults come. The part not bet yet counts at its face value, so
//! the sum stays an e-process.
//!
//! A stake that is bet in a window sees both arms from that window on. An event that is counted late, since its nature
//! was not clear, is played only for the stakes that were bet before it happened ([`Said`]).
//!
//! Masses are plain numbers: one below 1e-308 becomes 0 (evidence for the canary), one above [`CAP`] stays
//! there. Both only lower the sum.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The odds ratios that are bet on.
pub(super) const GRID: [f64; POINTS] =
    [1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 400.0];

/// The number of odds ratios.
pub(super) const POINTS: usize = 16;

/// The part of the stake that is bet at the start.
const START: f64 = 0.5;

/// The number of windows over which about half of the rest is bet.
const HORIZON: f64 = 1_000.0;

/// The part of the rest that is bet when the share changes.
const AT_CHANGE: f64 = 0.1;

/// The bound of every mass.
pub(super) const CAP: f64 = 1e15;

pub(super) static LN_GRID: LazyLock<[f64; POINTS]> = LazyLock::new(|| GRID.map(f64::ln));

/// The log e-value of some events, for each odds ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bet([f64; POINTS]);

impl Bet {
    /// No event.
    pub(super) const NOTHING: Bet = Bet([0.0; POINTS]);

    /// For events on both sides; `events[1]` are of the side that may be worse, whose design share is `part`.
    pub fn of(part: f64, events: [u32; 2]) -> Bet {
        let [k0, k1] = events.map(f64::from);
        let mut logs = [0.0; POINTS];
        if k0 + k1 > 0.0 {
            for ((log, r), ln_r) in logs.iter_mut().zip(GRID).zip(LN_GRID.iter()) {
                *log = k1 * ln_r - (k0 + k1) * (part * (r - 1.0)).ln_1p();
            }
        }
        Bet(logs)
    }

    /// The product of both.
    pub(super) fn and(mut self, other: &Bet) -> Bet {
        self.0.iter_mut().zip(other.0).for_each(|(log, other)| *log += other);
        self
    }

    /// Multiplies the masses by what the bet paid.
    pub(super) fn multiply(&self, masses: &mut [f64; POINTS]) {
        // A lost stake stays lost, whatever it would be multiplied by.
        for (mass, log) in masses.iter_mut().zip(self.0).filter(|(mass, _)| **mass > 0.0) {
            *mass = (*mass * log.exp()).min(CAP);
        }
    }
}

/// What a window says about one signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Said {
    /// Of the windows before.
    pub(super) before: Bet,
    /// Of the window itself.
    pub(super) now: Bet,
    /// Of events that waited until now.
    pub(super) late: Bet,
    /// Whether events still wait.
    pub(super) waits: bool,
}

impl Said {
    /// No events.
    pub(super) const NOTHING: Said = Said { before: Bet::NOTHING, now: Bet::NOTHING, late: Bet::NOTHING, waits: false };
}

/// The e-process of one signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// The worth of each odds ratio's bet.
    masses: [f64; POINTS],
    /// The same for stakes that were bet since the first waiting event.
    #[serde(default)]
    young: [f64; POINTS],
    /// The stake that is not bet yet.
    rest: f64,
    /// The number of windows played.
    windows: u64,
}

impl Default for Process {
    fn default() -> Process {
        let masses = [START / POINTS as f64; POINTS];
        Process { masses, young: [0.0; POINTS], rest: 1.0 - START, windows: 0 }
    }
}

impl Process {
    /// The worth of the whole stake, which was 1 at the start.
    pub fn e(&self) -> f64 {
        (self.masses.iter().chain(&self.young).sum::<f64>() + self.rest).min(CAP)
    }

    /// Plays a window without events that wait or come late.
    pub fn play(&mut self, bet: &Bet) {
        self.hear(&Said { now: *bet, ..Said::NOTHING });
    }

    /// Plays a window.
    pub(super) fn hear(&mut self, said: &Said) {
        said.before.and(&said.late).multiply(&mut self.masses);
        said.before.multiply(&mut self.young);
        let stake = self.take(1.0 / (self.windows as f64 + HORIZON + 1.0));
        self.windows += 1;
        self.young.iter_mut().for_each(|mass| *mass += stake);
        said.now.multiply(&mut self.masses);
        said.now.multiply(&mut self.young);
        if !said.waits {
            self.grow_up();
        }
    }

    /// The share changed, so no event waits any more: bets more of the rest, since faults come now.
    pub(super) fn change(&mut self) {
        let stake = self.take(AT_CHANGE);
        self.masses.iter_mut().for_each(|mass| *mass += stake);
        self.grow_up();
    }

    /// Takes a part of the rest; returns the stake of each odds ratio.
    fn take(&mut self, part: f64) -> f64 {
        let stake = self.rest * part;
        self.rest -= stake;
        stake / POINTS as f64
    }

    /// No event waits: from now on both are one.
    fn grow_up(&mut self) {
        self.masses.iter_mut().zip(&mut self.young).for_each(|(mass, young)| *mass += std::mem::take(young));
    }

    /// Drops evidence against the canary and keeps evidence for it: no mass exceeds what was bet on it so
    /// far. The result lies below the process that would have gone on, so it keeps the guarantee of that
    /// one, and is worth at most 1.
    pub(super) fn acquit(&mut self) {
        self.rest = self.rest.clamp(0.0, 1.0 - START);
        let paid = (1.0 - self.rest) / POINTS as f64;
        for (mass, young) in self.masses.iter_mut().zip(&mut self.young) {
            (*mass, *young) = (mass.clamp(0.0, paid), young.clamp(0.0, paid));
            let most = (paid / (*mass + *young).max(paid)).min(1.0);
            (*mass, *young) = (*mass * most, *young * most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bet_is_worth_what_it_is_by_hand() {
        // One event of two, on the canary that has a quarter: r / (0.75 + 0.25 r)^2.
        let e = Bet::of(0.25, [1, 1]).0.map(f64::exp);
        assert!((e[4] - 2.0 / 1.25_f64.powi(2)).abs() < 1e-12, "{e:?}");
        assert!((e[15] - 400.0 / 100.75_f64.powi(2)).abs() < 1e-12, "{e:?}");
        assert_eq!(Bet::of(0.25, [0, 0]).0, [0.0; POINTS], "no event says nothing");
    }

    #[test]
    fn a_harmless_canary_gains_nothing_in_the_mean() {
        // The exact mean over which arm an event falls on.
        for part in [0.0001, 0.01, 0.05, 0.25, 0.5, 0.99] {
            let [stable, canary] = [[1, 0], [0, 1]].map(|events| Bet::of(part, events).0.map(f64::exp));
            for (stable, canary) in stable.into_iter().zip(canary) {
                assert!(((1.0 - part) * stable + part * canary - 1.0).abs() < 1e-12, "{part}");
            }
        }
    }

    #[test]
    fn the_stake_is_one_and_only_moves() {
        let mut process = Process::default();
        assert_eq!(process.e(), 1.0);
        for window in 0..10_000 {
            process.play(&Bet::of(0.5, [0, 0]));
            if window % 1_000 == 0 {
                process.change();
            }
        }
        assert!((process.e() - 1.0).abs() < 1e-9 && process.rest > 0.0, "{process:?}");
    }

    #[test]
    fn numbers_stay_finite_and_what_is_lost_is_lost() {
        let (bad, good) = (Bet::of(0.05, [0, 50]), Bet::of(0.05, [900, 0]));
        let mut process = Process::default();
        for _ in 0..1_000 {
            process.play(&bad);
        }
        assert_eq!(process.e(), CAP);
        for _ in 0..100 {
            process.play(&good);
        }
        assert!(process.e() < 1.0 && process.e() >= process.rest, "{process:?}");
    }

    #[test]
    fn an_acquittal_drops_what_speaks_against_the_canary_only() {
        let (against, for_it) = (Bet::of(0.05, [0, 5]), Bet::of(0.05, [200, 0]));
        let mut bad = Process::default();
        bad.play(&against);
        bad.acquit();
        assert!(bad.e() <= 1.0 + 1e-9 && bad.e() > 0.9, "{bad:?}");
        let mut good = Process::default();
        good.play(&for_it);
        let before = good.clone();
        good.acquit();
        assert_eq!(good, before);
    }
}
