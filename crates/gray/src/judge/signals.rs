//! The signals that a canary is judged by, and the weight of each of their e-values.
//!
//! A mean of e-values is an e-value, so weights that sum to 1 replace every correction for multiple testing. Errors
//! have half, since most faults are errors; a signal of weight w needs ln(1/w) more evidence than it would alone.
//!
//! A guard plays the same signals between two random halves of stable, both ways. The halves do not differ,
//! so if it finds a difference, the model is broken and not a canary. Feedback is left out: there is too
//! little of it to break anything.

use serde::{Deserialize, Serialize};

use super::evidence::{Process, Said};
use super::window::{EvidenceCell, EvidenceCounts};

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
/// First answer from 400 to 499 of a user, of a kind that stable does not often give.
pub(super) const REFUSALS: usize = 8;
/// First bad feedback of a user.
pub(super) const FEEDBACK: usize = 9;
/// The number of signals.
pub(super) const SIGNALS: usize = 10;

/// Of a user in an episode: the first failure, the first answer where that is above p95, the first answers above p99
/// and above the objective, and the first refusal of any kind.
pub(super) const EPISODE_ERRORS: usize = 10;
/// See [`EPISODE_ERRORS`].
pub(super) const EPISODE_P95: usize = 11;
/// See [`EPISODE_ERRORS`].
pub(super) const EPISODE_P99: usize = 12;
/// See [`EPISODE_ERRORS`].
pub(super) const EPISODE_SLO: usize = 13;
/// See [`EPISODE_ERRORS`].
pub(super) const EPISODE_REFUSALS: usize = 14;
/// The number of signals including those of the episodes.
pub(super) const COUNTED: usize = 15;

/// The weight of each signal; their sum is 1.
const WEIGHTS: [f64; SIGNALS] = [0.5, 0.02, 0.03, 0.04, 0.13, 0.06, 0.035, 0.035, 0.1, 0.05];

/// The names of the groups of signals.
const GROUPS: [&str; 4] = ["errors", "refusals", "latency", "feedback"];

/// E-values of the groups of signals, at most 1e15. The canary is worse where nine tenths of
/// [`SignalEvidence::combined`], or the running episode, reach 1/`false_alarm`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SignalEvidence {
    /// Users who failed.
    pub errors: f64,
    /// Users who were refused.
    pub refusals: f64,
    /// Users whose answers were slow, or who left.
    pub latency: f64,
    /// Users who gave bad feedback.
    pub feedback: f64,
}

impl SignalEvidence {
    /// What each group adds to the mean.
    fn parts(&self) -> [f64; GROUPS.len()] {
        let values = [self.errors, self.refusals, self.latency, self.feedback];
        std::array::from_fn(|group| SignalEvidence::weights()[group] * values[group])
    }

    /// The weighted mean, which decides.
    pub fn combined(&self) -> f64 {
        self.parts().iter().sum()
    }

    /// The group that adds most to the mean; ties go to errors, then refusals, latency, feedback.
    pub fn strongest(&self) -> &'static str {
        let parts = self.parts();
        let most = (0..GROUPS.len()).fold(0, |best, group| if parts[group] > parts[best] { group } else { best });
        GROUPS[most]
    }

    /// From what errors, refusals and latency add to the mean.
    pub(super) fn of_parts([errors, refusals, latency]: [f64; 3]) -> SignalEvidence {
        let [of_errors, of_refusals, of_latency, _] = SignalEvidence::weights();
        let (errors, refusals, latency) = (errors / of_errors, refusals / of_refusals, latency / of_latency);
        SignalEvidence { errors, refusals, latency, feedback: 0.0 }
    }

    fn weights() -> [f64; GROUPS.len()] {
        [WEIGHTS[ERRORS], WEIGHTS[REFUSALS], WEIGHTS[P50..=SLO].iter().sum(), WEIGHTS[FEEDBACK]]
    }
}

/// The e-processes of all signals of one comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Process>")]
pub(super) struct Comparison([Process; SIGNALS]);

impl From<Vec<Process>> for Comparison {
    /// What was kept; a list written before refusals existed gets a fresh process for them.
    fn from(mut kept: Vec<Process>) -> Comparison {
        if kept.len() == SIGNALS - 1 {
            kept.insert(REFUSALS, Process::default());
        }
        kept.try_into().map(Comparison).unwrap_or_default()
    }
}

impl Comparison {
    /// Plays a window; `said` returns what it says of a signal.
    pub(super) fn play(&mut self, said: impl Fn(usize) -> Said) {
        for (signal, process) in self.0.iter_mut().enumerate() {
            process.hear(&said(signal));
        }
    }

    /// The share changed, which is when faults come.
    pub(super) fn change(&mut self) {
        self.0.iter_mut().for_each(Process::change);
    }

    /// Drops evidence against the second side.
    pub(super) fn acquit(&mut self) {
        self.0.iter_mut().for_each(Process::acquit);
    }

    /// The e-values by group.
    pub(super) fn evidence(&self) -> SignalEvidence {
        let latency: f64 = (P50..=SLO).map(|signal| WEIGHTS[signal] * self.0[signal].e()).sum();
        let [.., weight, _] = SignalEvidence::weights();
        let of = |signal: usize| self.0[signal].e();
        SignalEvidence { errors: of(ERRORS), refusals: of(REFUSALS), latency: latency / weight, feedback: of(FEEDBACK) }
    }
}

/// Stable's halves against each other, both ways: the null hypothesis holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Guard([Comparison; 2]);

impl Guard {
    /// Plays a window. Bursts of servers are left out, since they hit users of both halves.
    pub(super) fn play(&mut self, [before, now]: [&EvidenceCounts; 2]) {
        for (half, sides) in
            [[EvidenceCell::StableEven, EvidenceCell::StableOdd], [EvidenceCell::StableOdd, EvidenceCell::StableEven]]
                .iter()
                .enumerate()
        {
            let bet = |counts: &EvidenceCounts, signal| counts.bet(signal, *sides, 0.5);
            self.0[half].play(|signal| Said { before: bet(before, signal), now: bet(now, signal), ..Said::NOTHING });
        }
    }

    /// Drops evidence against the model.
    pub(super) fn acquit(&mut self) {
        self.0.iter_mut().for_each(Comparison::acquit);
    }

    /// The e-value that the halves differ.
    pub(super) fn e(&self) -> f64 {
        let one_way = |evidence: SignalEvidence| {
            let [errors, refusals, latency, _] = evidence.parts();
            (errors + refusals + latency) / (1.0 - WEIGHTS[FEEDBACK])
        };
        self.0.iter().map(|comparison| one_way(comparison.evidence())).sum::<f64>() / 2.0
    }
}

/// The signals of a kind: that of the whole life, and that of the episode.
pub(super) fn of_kind(kind: usize) -> impl Iterator<Item = usize> {
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
        let evidence = |errors, refusals, latency, feedback| SignalEvidence { errors, refusals, latency, feedback };
        assert_eq!(evidence(1.0, 1.0, 1.0, 1.0).strongest(), "errors");
        assert_eq!(evidence(900.0, 1.0, 1_400.0, 2_000.0).strongest(), "latency");
        assert_eq!(evidence(900.0, 4_600.0, 1_000.0, 9_000.0).strongest(), "refusals");
        assert_eq!(evidence(900.0, 1.0, 1_000.0, 9_100.0).strongest(), "feedback");
        assert!((evidence(900.0, 1_000.0, 1_000.0, 9_000.0).combined() - 1_350.0).abs() < 1e-9);
    }

    #[test]
    fn what_an_older_build_kept_is_read() {
        let nine = serde_json::to_string(&vec![Process::default(); SIGNALS - 1]).unwrap();
        let mut told = Comparison::default();
        told.0[FEEDBACK].change();
        let kept = |processes: &[Process]| -> Comparison {
            serde_json::from_str(&serde_json::to_string(processes).unwrap()).unwrap()
        };
        assert_eq!(serde_json::from_str::<Comparison>(&nine).unwrap(), Comparison::default());
        assert_eq!(kept(&told.0), told);
        let mut older = told.0.to_vec();
        older.remove(REFUSALS);
        assert_eq!(kept(&older), told);
        assert_eq!(kept(&older[..3]), Comparison::default(), "nobody wrote that");
    }
}
