//! The signals that a canary is judged by, and what each of their e-values counts for.
//!
//! The mean of e-values is an e-value: weights that sum to 1 replace every correction for many tests. Errors have half,
//! since most faults are errors; a signal of weight w needs ln(1/w) more evidence than it would alone.
//!
//! A guard plays the same signals between two random halves of stable, both ways. Nothing is different there, so if it
//! wins, the model is broken, not a canary. Feedback is left out: there is too little of it to break anything.

use serde::{Deserialize, Serialize};

use super::evidence::{Bet, Process};
use super::window::{Cell, Counts};

/// First failure of a user.
pub(super) const ERRORS: usize = 0;
/// First answer of a user above stable's p50, p75, p90, p95.
pub(super) const P50: usize = 1;
/// The last of those four.
pub(super) const P95: usize = 4;
/// First answer above stable's p99, p99.9 and the objective.
pub(super) const P99: usize = 5;
/// The last of those three.
pub(super) const SLO: usize = 7;
/// First bad feedback of a user.
pub(super) const FEEDBACK: usize = 8;
/// How many there are.
pub(super) const SIGNALS: usize = 9;

/// First failure of a user in an episode, and his first answers above p99 and the objective in it.
pub(super) const EPISODE_ERRORS: usize = 9;
/// See there.
pub(super) const EPISODE_P99: usize = 10;
/// See there.
pub(super) const EPISODE_SLO: usize = 11;
/// How many are counted, those of the episodes included.
pub(super) const COUNTED: usize = 12;

/// What each signal counts for; their sum is 1.
const WEIGHTS: [f64; SIGNALS] = [0.5, 0.04, 0.04, 0.06, 0.1, 0.08, 0.04, 0.04, 0.1];

/// E-values of the groups of signals, at most 1e15. The canary is worse where nine tenths of
/// [`Evidence::combined`], or the running episode, come to 1/`false_alarm`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// Users who failed.
    pub errors: f64,
    /// Users whose answers were slow, or who left.
    pub latency: f64,
    /// Users who said so.
    pub feedback: f64,
}

impl Evidence {
    /// The mean that decides.
    pub fn combined(&self) -> f64 {
        let [errors, latency, feedback] = Evidence::weights();
        errors * self.errors + latency * self.latency + feedback * self.feedback
    }

    /// The group that the mean owes the most to: `errors`, `latency` or `feedback`.
    pub fn strongest(&self) -> &'static str {
        let [errors, latency, feedback] = Evidence::weights();
        let parts = [("errors", errors * self.errors), ("latency", latency * self.latency)];
        let last = ("feedback", feedback * self.feedback);
        parts.into_iter().fold(last, |best, part| if part.1 >= best.1 { part } else { best }).0
    }

    /// Of what errors and latency add to the mean.
    pub(super) fn of_parts(errors: f64, latency: f64) -> Evidence {
        let [of_errors, of_latency, _] = Evidence::weights();
        Evidence { errors: errors / of_errors, latency: latency / of_latency, feedback: 0.0 }
    }

    fn weights() -> [f64; 3] {
        [WEIGHTS[ERRORS], WEIGHTS[P50..=SLO].iter().sum(), WEIGHTS[FEEDBACK]]
    }
}

/// The e-processes of all signals of one comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Comparison([Process; SIGNALS]);

impl Comparison {
    /// Plays a window, of which `bet` tells what it says of a signal.
    pub(super) fn play(&mut self, bet: impl Fn(usize) -> Bet) {
        for (signal, process) in self.0.iter_mut().enumerate() {
            process.play(&bet(signal));
        }
    }

    /// The share changed: faults come now.
    pub(super) fn change(&mut self) {
        self.0.iter_mut().for_each(Process::change);
    }

    /// Drops evidence against the second side.
    pub(super) fn acquit(&mut self) {
        self.0.iter_mut().for_each(Process::acquit);
    }

    /// The e-values by group.
    pub(super) fn evidence(&self) -> Evidence {
        let latency: f64 = (P50..=SLO).map(|signal| WEIGHTS[signal] * self.0[signal].e()).sum();
        let [_, weight, _] = Evidence::weights();
        Evidence { errors: self.0[ERRORS].e(), latency: latency / weight, feedback: self.0[FEEDBACK].e() }
    }
}

/// Nothing against nothing: stable's halves, both ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Guard([Comparison; 2]);

impl Guard {
    /// Plays a window. What hit a server hit users of both halves: that is left out.
    pub(super) fn play(&mut self, window: &Counts) {
        self.0[0].play(|signal| window.bet(signal, [Cell::StableEven, Cell::StableOdd], 0.5));
        self.0[1].play(|signal| window.bet(signal, [Cell::StableOdd, Cell::StableEven], 0.5));
    }

    /// Drops evidence against the model.
    pub(super) fn acquit(&mut self) {
        self.0.iter_mut().for_each(Comparison::acquit);
    }

    /// The e-value that the halves differ.
    pub(super) fn e(&self) -> f64 {
        let [errors, latency, feedback] = Evidence::weights();
        let one_way = |evidence: Evidence| (errors * evidence.errors + latency * evidence.latency) / (1.0 - feedback);
        self.0.iter().map(|comparison| one_way(comparison.evidence())).sum::<f64>() / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_one_and_a_fresh_judge_knows_nothing() {
        assert!((WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let fresh = Comparison::default().evidence();
        assert!((fresh.combined() - 1.0).abs() < 1e-12 && (Guard::default().e() - 1.0).abs() < 1e-12, "{fresh:?}");
    }

    #[test]
    fn the_strongest_group_is_the_one_that_decides() {
        let evidence = |errors, latency, feedback| Evidence { errors, latency, feedback };
        assert_eq!(evidence(1.0, 1.0, 1.0).strongest(), "errors");
        assert_eq!(evidence(900.0, 1_200.0, 2_000.0).strongest(), "latency");
        assert_eq!(evidence(900.0, 1_000.0, 9_000.0).strongest(), "feedback");
        assert!((evidence(900.0, 1_000.0, 9_000.0).combined() - 1_750.0).abs() < 1e-9);
    }
}
