//! Change detection on one arm, without a control: whether a larger share of its users fails than of stable's so far.
//!
//! An e-detector (Shin, Ramdas, Rinaldo, arXiv 2203.03532) of Shiryaev-Roberts form: each odds ratio's `M = (M+1)*e`
//! over windows, averaged. If user-windows were independent, the mean time between false alarms would be at least
//! 10,000 windows. They are not quite independent, so an alarm also needs a practical size, and no release is taken
//! back because of it. A baseline is clamped to 0.1 % to 5 %, and one of slow answers to 1 % to 30 %.

use super::evidence::{CAP, GRID, POINTS};

/// User-windows of stable that make a baseline.
const ENOUGH: u64 = 500;

/// The range of a baseline of failures, and of one of slow answers.
const FAILURES: (f64, f64) = (0.001, 0.05);
/// See [`FAILURES`].
const SLOWNESS: (f64, f64) = (0.01, 0.3);

/// The value at which the detector alarms.
const ALARM: f64 = 1e4;

/// Stable's share of failing users, or of users whose answers are slow. It is learnt for as long as there is no outage:
/// an estimate from the first seconds alone is off by a half too often where a few clients always fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Baseline {
    active: u64,
    failing: u64,
    kept: Option<f64>,
    range: (f64, f64),
}

impl Baseline {
    /// Of users who failed.
    pub(super) fn of_failures() -> Baseline {
        Baseline { active: 0, failing: 0, kept: None, range: FAILURES }
    }

    /// Of users whose first answer in a window was slow.
    pub(super) fn of_slowness() -> Baseline {
        Baseline { range: SLOWNESS, ..Baseline::of_failures() }
    }

    /// Counts a window of stable.
    pub(super) fn learn(&mut self, active: u64, failing: u64) {
        self.active += active;
        self.failing += failing;
    }

    /// The share, if known.
    pub(super) fn share(&self) -> Option<f64> {
        if self.active < ENOUGH {
            return self.kept;
        }
        Some((self.failing as f64 / self.active as f64).clamp(self.range.0, self.range.1))
    }

    /// Takes what an earlier process knew, until this one knows enough.
    pub(super) fn restore(&mut self, kept: Option<f64>) {
        self.kept = kept.map(|share| share.clamp(self.range.0, self.range.1));
    }

    /// The share if known, else the least of the range.
    pub(super) fn or_least(&self) -> f64 {
        self.share().unwrap_or(self.range.0)
    }
}

/// Whether a share of failing users is much above the baseline.
pub(super) fn is_bad(share: f64, baseline: f64) -> bool {
    share >= baseline + 0.01 && share >= 3.0 * baseline
}

/// Whether a share is close to the baseline again.
fn is_back(share: f64, baseline: f64) -> bool {
    share <= (baseline + 0.005).min(2.0 * baseline)
}

/// A detector on one arm.
#[derive(Clone, Debug, Default)]
pub(super) struct Detector {
    masses: [f64; POINTS],
    /// Whether there is an outage that was reported.
    told: bool,
}

impl Detector {
    /// Plays a window.
    pub(super) fn play(&mut self, active: u64, failing: u64, baseline: f64) {
        for (mass, r) in self.masses.iter_mut().zip(GRID) {
            let ln_e = failing as f64 * r.ln() - active as f64 * (baseline * (r - 1.0)).ln_1p();
            *mass = ((*mass + 1.0) * ln_e.exp()).min(CAP);
        }
    }

    /// Whether the detector alarms.
    pub(super) fn alarms(&self) -> bool {
        self.masses.iter().sum::<f64>() / POINTS as f64 >= ALARM
    }

    /// Whether an outage lasts.
    pub(super) fn lasts(&self) -> bool {
        self.told
    }

    /// Begins an outage; returns whether it is a new one.
    pub(super) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    /// Ends an outage when the recent share is back; returns whether it ended. An unknown share changes nothing.
    pub(super) fn end_if_back(&mut self, recent: Option<f64>, baseline: f64) -> bool {
        let ended = self.told && recent.is_some_and(|share| is_back(share, baseline));
        if ended {
            *self = Detector::default();
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_needs_enough_and_stays_in_range() {
        let mut baseline = Baseline::of_failures();
        baseline.learn(499, 400);
        assert_eq!((baseline.share(), baseline.or_least()), (None, 0.001));
        baseline.restore(Some(0.002));
        assert_eq!(baseline.share(), Some(0.002));
        baseline.learn(1, 0);
        assert_eq!(baseline.share(), Some(0.05), "its own comes first");
        baseline.learn(39_500, 0);
        assert_eq!(baseline.share(), Some(0.01));
        baseline.learn(4_000_000, 0);
        assert_eq!(baseline.share(), Some(0.001));
    }

    #[test]
    fn a_rise_alarms_soon_and_the_baseline_almost_never() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut draw = |chance: f64| (0..200).filter(|_| random.f64() < chance).count() as u64;
        let mut watch = Detector::default();
        let mut alarms = 0;
        for _ in 0..20_000 {
            watch.play(200, draw(0.005), 0.005);
            if watch.alarms() {
                (watch, alarms) = (Detector::default(), alarms + 1);
            }
        }
        assert!(alarms <= 2, "{alarms} in 20,000 windows");
        let mut watch = Detector::default();
        let windows = (1..).find(|_| {
            watch.play(200, draw(0.03), 0.005);
            watch.alarms()
        });
        assert!(windows.unwrap() <= 6, "{windows:?}");
    }

    #[test]
    fn an_outage_is_told_once_and_ends_when_the_share_is_back() {
        let mut watch = Detector::default();
        assert!(watch.begin() && !watch.begin() && watch.lasts());
        watch.end_if_back(Some(0.03), 0.01);
        watch.end_if_back(None, 0.01);
        assert!(watch.lasts());
        watch.end_if_back(Some(0.012), 0.01);
        assert!(!watch.lasts() && watch.begin());
        assert!(is_bad(0.03, 0.01) && !is_bad(0.029, 0.01) && !is_bad(0.0109, 0.001));
    }
}
