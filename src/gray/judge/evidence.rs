//! The evidence of one signal that the canary is worse: an e-process, a bet that only pays if it is.
//!
//! Inside a window and a stratum, given how many users were exposed on each arm and how many events there were in all,
//! a canary that does no harm gets at most a hypergeometric number of them. Hoeffding (1963, theorem 4) bounds
//! `E[r^K1] <= (1-s+s*r)^k` for odds ratios `r >= 1` and the canary's part `s` of the exposures, so `r^K1 / (1-s+s*r)^k`
//! is an e-value whatever the base rate is, and windows multiply (Ville: the chance that the product ever reaches `x` is
//! at most `1/x`, however often one looks). Sixteen odds ratios share the stake.
//!
//! A good start would bury a fault that comes late under its evidence for the canary. So only a part of the stake is bet
//! at the start; the rest is bet in small parts, window by window, on a schedule that has no end, and a larger part when
//! the share changes, which is when faults come. What is not bet yet counts as it is: the sum stays an e-process.
//!
//! Masses are plain numbers: one below 1e-308 becomes 0 (evidence for the canary), one above [`CAP`] stays there. Both
//! only lower the sum. A stratum with one arm only says nothing.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// Odds ratios that are bet on.
pub(super) const GRID: [f64; POINTS] =
    [1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 400.0];

/// How many.
pub(super) const POINTS: usize = 16;

/// The part of the stake that is bet at the start.
const START: f64 = 0.5;

/// Windows over which about half of the rest is bet.
const HORIZON: f64 = 1_000.0;

/// The part of the rest that is bet when the share changes.
const AT_CHANGE: f64 = 0.1;

/// No mass grows beyond it.
pub(super) const CAP: f64 = 1e15;

pub(super) static LN_GRID: LazyLock<[f64; POINTS]> = LazyLock::new(|| GRID.map(f64::ln));

/// What a window says about each odds ratio: logarithms, summed over strata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bet([f64; POINTS]);

impl Bet {
    /// Nothing was seen.
    pub(super) const NONE: Bet = Bet([0.0; POINTS]);

    /// Adds a stratum: users exposed and events on both sides; `n[1]` and `k[1]` are of the side that may be worse.
    pub(super) fn add(&mut self, n: [u32; 2], k: [u32; 2]) {
        let events = f64::from(k[0]) + f64::from(k[1]);
        if events == 0.0 || n[0] == 0 || n[1] == 0 {
            return;
        }
        let part = f64::from(n[1]) / (f64::from(n[0]) + f64::from(n[1]));
        for ((sum, r), ln_r) in self.0.iter_mut().zip(GRID).zip(LN_GRID.iter()) {
            *sum += f64::from(k[1]) * ln_r - events * (part * (r - 1.0)).ln_1p();
        }
    }
}

impl Bet {
    /// Pays out.
    pub(super) fn multiply(&self, masses: &mut [f64; POINTS]) {
        for (mass, log) in masses.iter_mut().zip(self.0) {
            *mass = (*mass * log.exp()).min(CAP);
        }
    }
}

/// One signal's e-process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Process {
    /// What each odds ratio's bet is worth.
    masses: [f64; POINTS],
    /// What is not bet yet.
    rest: f64,
    /// Windows that were played.
    windows: u64,
}

impl Default for Process {
    fn default() -> Process {
        Process { masses: [START / POINTS as f64; POINTS], rest: 1.0 - START, windows: 0 }
    }
}

impl Process {
    /// What the whole stake, 1 at the start, is worth.
    pub(super) fn e(&self) -> f64 {
        (self.masses.iter().sum::<f64>() + self.rest).min(CAP)
    }

    /// Plays a window in which both sides had exposures.
    pub(super) fn play(&mut self, bet: &Bet) {
        self.bet(1.0 / (self.windows as f64 + HORIZON + 1.0));
        self.windows += 1;
        if *bet == Bet::NONE {
            return;
        }
        bet.multiply(&mut self.masses);
    }

    /// Bets more of the rest, for the share changed.
    pub(super) fn change(&mut self) {
        self.bet(AT_CHANGE);
    }

    fn bet(&mut self, part: f64) {
        let stake = self.rest * part;
        self.rest -= stake;
        self.masses.iter_mut().for_each(|mass| *mass += stake / POINTS as f64);
    }

    /// Drops evidence against the canary and keeps evidence for it: no mass is above what was bet on it so far. The result
    /// lies below the process that would have gone on, so it keeps that one's guarantee, and is worth 1 at most.
    pub(super) fn acquit(&mut self) {
        self.rest = self.rest.clamp(0.0, 1.0 - START);
        let paid = (1.0 - self.rest) / POINTS as f64;
        self.masses.iter_mut().for_each(|mass| *mass = mass.clamp(0.0, paid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e_of(n: [u32; 2], k: [u32; 2]) -> [f64; POINTS] {
        let mut bet = Bet::NONE;
        bet.add(n, k);
        bet.0.map(f64::exp)
    }

    #[test]
    fn a_bet_is_worth_what_it_is_by_hand() {
        // One event of two, on the canary that has a quarter: r / (0.75 + 0.25 r)^2.
        let e = e_of([3, 1], [1, 1]);
        assert!((e[4] - 2.0 / 1.25_f64.powi(2)).abs() < 1e-12, "{e:?}");
        assert!((e[15] - 400.0 / 100.75_f64.powi(2)).abs() < 1e-12, "{e:?}");
        assert_eq!(e_of([3, 0], [1, 0]), [1.0; POINTS], "one arm says nothing");
        assert_eq!(e_of([30, 10], [0, 0]), [1.0; POINTS], "no event says nothing");
        let mut both = Bet::NONE;
        both.add([3, 1], [1, 1]);
        both.add([3, 1], [1, 1]);
        assert!((both.0[4].exp() - (2.0 / 1.25_f64.powi(2)).powi(2)).abs() < 1e-12, "strata multiply");
    }

    /// Logarithm of `n choose k`.
    fn ln_choose(n: u32, k: u32) -> f64 {
        (1..=k).map(|i| (f64::from(n - k + i) / f64::from(i)).ln()).sum()
    }

    #[test]
    fn a_harmless_canary_gains_nothing_in_the_mean() {
        // The exact mean over the hypergeometric number of events that the canary gets.
        let mut random = fastrand::Rng::with_seed(8);
        for _ in 0..2_000 {
            let n = [random.u32(1..400), random.u32(1..100)];
            let events = random.u32(1..=40.min(n[0] + n[1]));
            let mut mean = [0.0; POINTS];
            for k1 in events.saturating_sub(n[0])..=events.min(n[1]) {
                let chance = ln_choose(n[1], k1) + ln_choose(n[0], events - k1) - ln_choose(n[0] + n[1], events);
                let e = e_of(n, [events - k1, k1]);
                mean.iter_mut().zip(e).for_each(|(sum, e)| *sum += chance.exp() * e);
            }
            assert!(mean.iter().all(|mean| *mean <= 1.0 + 1e-9), "{n:?} {events} {mean:?}");
            assert!(mean[0] > 0.5, "the sum runs over all of them: {mean:?}");
        }
    }

    #[test]
    fn the_stake_is_one_and_only_moves() {
        let mut process = Process::default();
        assert_eq!(process.e(), 1.0);
        for window in 0..10_000 {
            process.play(&Bet::NONE);
            if window % 1_000 == 0 {
                process.change();
            }
        }
        assert!((process.e() - 1.0).abs() < 1e-9 && process.rest > 0.0, "{process:?}");
    }

    #[test]
    fn numbers_stay_finite_and_what_is_lost_is_lost() {
        let (mut bad, mut good) = (Bet::NONE, Bet::NONE);
        bad.add([950, 50], [0, 50]);
        good.add([950, 50], [900, 0]);
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
        let (mut against, mut for_it) = (Bet::NONE, Bet::NONE);
        against.add([950, 50], [0, 5]);
        for_it.add([950, 50], [200, 0]);
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
