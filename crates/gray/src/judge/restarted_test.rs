//! The restarted test: the same test again and again, over users who start anew every half minute.
//!
//! The release-long test counts a user's first bad event once. Where the same users stay and now and then meet an
//! error, that evidence runs out of users, and a canary that then fails for all of them would go unnoticed. So a small
//! part of the false-alarm probability is spent on episodes: in each, a user's first bad event of the episode counts,
//! and the evidence starts at 1. Episodes are not multiplied with each other, since users who often fail do so in all
//! of them. Each is an e-process by itself, and the n-th needs n(n+1) times more than the first would, so that all
//! together stay below their part (the sum of 1/n(n+1) is 1). A fault of some size reaches that within a few users.
//!
//! The test covers failures, refusals of any kind, answers above p99 and the objective, and a user's first answer where
//! that is above p95. So it also finds a canary that turns slow for users who stay.

use super::evidence::{CAP, POINTS};
use super::servers::Heard;
use super::signals::{EPISODE_ERRORS, EPISODE_P95, EPISODE_P99, EPISODE_REFUSALS, EPISODE_SLO};

/// Windows of an episode.
const LENGTH: u32 = 30;

/// The part of the false-alarm probability that all episodes together may spend.
pub(super) const PART: f64 = 0.1;

/// Signals and their weights; the sum is 1.
const HEARD: [(usize, f64); 5] =
    [(EPISODE_ERRORS, 0.5), (EPISODE_REFUSALS, 0.1), (EPISODE_P95, 0.15), (EPISODE_P99, 0.1), (EPISODE_SLO, 0.15)];

/// The episodes of a release.
#[derive(Clone, Debug)]
pub(super) struct RestartedTest {
    /// The number of the running episode, from 1.
    number: u32,
    windows: u32,
    /// The worth of each odds ratio's bet on each signal.
    masses: [[f64; POINTS]; HEARD.len()],
}

impl Default for RestartedTest {
    fn default() -> RestartedTest {
        RestartedTest { number: 0, windows: 0, masses: FRESH }.after(0)
    }
}

const FRESH: [[f64; POINTS]; HEARD.len()] = [[1.0 / POINTS as f64; POINTS]; HEARD.len()];

impl RestartedTest {
    /// A new episode, after as many as an earlier process has had.
    pub(super) fn after(&self, number: u32) -> RestartedTest {
        RestartedTest { number: number.max(self.number).saturating_add(1), windows: 0, masses: FRESH }
    }

    /// The number of the running episode, from 1.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Plays a window, with the share `part` of the users on the canary; returns whether the episode ended with it.
    pub(super) fn play(&mut self, window: &Heard, part: f64) -> bool {
        for ((signal, _), masses) in HEARD.iter().zip(&mut self.masses) {
            // Events of an earlier episode are dropped when it ends, so all are of this one.
            let said = window.said(*signal, part);
            said.before.and(&said.now).and(&said.late).multiply(masses);
        }
        self.windows += 1;
        self.windows >= LENGTH
    }

    /// E-values of errors, refusals and latency, as parts of what this episode needs: 1 is enough.
    pub(super) fn parts(&self, false_alarm: f64) -> [f64; 3] {
        let n = f64::from(self.number);
        let enough = n * (n + 1.0) / (PART * false_alarm);
        let e = |at: usize| HEARD[at].1 * self.masses[at].iter().sum::<f64>().min(CAP) / enough;
        [e(0), e(1), e(2) + e(3) + e(4)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::window::{EvidenceCell, EvidenceCounts};

    fn failures(canary: u32) -> Heard {
        let mut users = EvidenceCounts::default();
        (0..canary).for_each(|_| users.event(EPISODE_ERRORS, EvidenceCell::Canary));
        Heard { before: users, servers: 0.5, ..Heard::default() }
    }

    #[test]
    fn a_dead_canary_is_heard_in_the_thousandth_episode() {
        let mut episodes = RestartedTest::default().after(1_000);
        assert!(!episodes.play(&failures(7), 0.1));
        assert!(episodes.parts(0.001)[0] < 1.0, "seven users are not enough any more");
        episodes.play(&failures(20), 0.1);
        assert!(episodes.parts(0.001)[0] >= 1.0);
    }

    #[test]
    fn each_begins_at_one_and_lasts_thirty_windows() {
        let mut episodes = RestartedTest::default();
        assert_eq!(episodes.number(), 1);
        assert!((1..LENGTH).all(|_| !episodes.play(&failures(1), 0.1)));
        assert!(episodes.play(&failures(1), 0.1));
        let next = episodes.after(0);
        assert_eq!(next.number(), 2);
        let parts = next.parts(0.001);
        let expected = [0.5, 0.1, 0.4].map(|weight| weight * 0.0001 / 6.0);
        assert!(parts.iter().zip(expected).all(|(part, expected)| (part - expected).abs() < 1e-12), "{parts:?}");
    }
}
