//! The sample ratio test: whether as many users come to the canary as its share says (sample ratio mismatch).
//!
//! Lindon and Malek, NeurIPS 2022 (arXiv 2011.03567): a Dirichlet mixture against the design shares, anytime-valid. If
//! it rejects them, the split is broken, or users get lost before they are seen, and no comparison can be trusted.
//!
//! A request is seen at its end. A canary that answers late does not lose users: those whose requests are still in
//! flight are counted where that explains the difference.

use crate::sample::Arm;

/// How strongly the mixture expects the design shares.
const CONCENTRATION: f64 = 100.0;

/// The e-value at which the split counts as broken.
pub(super) const BROKEN: f64 = 1_000.0;

/// The test of one step.
pub(super) struct SampleRatio {
    shares: [f64; 2],
    users: [u64; 2],
    ln_e: f64,
}

impl SampleRatio {
    /// For the canary's expected share.
    pub(super) fn new(canary: f64) -> SampleRatio {
        SampleRatio { shares: [1.0 - canary, canary], users: [0; 2], ln_e: 0.0 }
    }

    /// Counts a user at their first request of this step.
    pub(super) fn count(&mut self, arm: Arm) {
        if self.is_split() {
            self.ln_e += self.step(self.users, arm as usize);
            self.users[arm as usize] += 1;
        }
    }

    fn is_split(&self) -> bool {
        self.shares.iter().all(|share| *share > 0.0)
    }

    /// What one more user on `arm` adds to the logarithm.
    fn step(&self, users: [u64; 2], arm: usize) -> f64 {
        let all = CONCENTRATION + (users[0] + users[1]) as f64;
        let on_arm = CONCENTRATION * self.shares[arm] + users[arm] as f64;
        (on_arm / (all * self.shares[arm])).ln()
    }

    /// The arm with fewer users than its share says, and the number that it lacks.
    fn lacking(&self) -> (usize, u64) {
        let arm = usize::from((self.users[1] as f64) * self.shares[0] < (self.users[0] as f64) * self.shares[1]);
        let expected = self.users[1 - arm] as f64 * self.shares[arm] / self.shares[1 - arm];
        (arm, (expected - self.users[arm] as f64).round().max(0.0) as u64)
    }

    /// The e-value, with as many users in flight counted as bring it nearest to the design shares.
    pub(super) fn e(&self, in_flight: [u64; 2]) -> f64 {
        let mut ln_e = self.ln_e;
        if ln_e >= BROKEN.ln() {
            let (arm, lacks) = self.lacking();
            let mut users = self.users;
            for _ in 0..lacks.min(in_flight[arm]) {
                ln_e += self.step(users, arm);
                users[arm] += 1;
            }
        }
        ln_e.min(30.0).exp()
    }

    /// Whether the canary has more users than its share says.
    pub(super) fn canary_has_too_many(&self) -> bool {
        self.lacking().0 == Arm::Stable as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(share: f64, users: [u64; 2]) -> SampleRatio {
        let mut ratio = SampleRatio::new(share);
        for (arm, users) in Arm::ALL.into_iter().zip(users) {
            (0..users).for_each(|_| ratio.count(arm));
        }
        ratio
    }

    /// Users until the test wins, at half of 200 runs.
    fn median(actual: f64) -> u64 {
        let mut random = fastrand::Rng::with_seed(35);
        let mut runs: Vec<u64> = (0..200)
            .map(|_| {
                let mut ratio = SampleRatio::new(0.05);
                let mut users = 0;
                while ratio.e([0; 2]) < BROKEN {
                    ratio.count(if random.f64() < actual { Arm::Canary } else { Arm::Stable });
                    users += 1;
                }
                users
            })
            .collect();
        runs.sort_unstable();
        runs[100]
    }

    #[test]
    fn the_order_of_users_does_not_matter() {
        // Gamma(A)/Gamma(A+N) * prod Gamma(A*s+n)/Gamma(A*s) * s^-n, by hand for one user on each arm.
        let by_hand = 1.0 / (100.0 * 101.0) * (75.0 / 0.75) * (25.0 / 0.25);
        assert!((counted(0.25, [1, 1]).e([0; 2]) - by_hand).abs() < 1e-12);
    }

    #[test]
    fn a_broken_split_is_found_after_as_many_users_as_the_theory_says() {
        let (three, four, six) = (median(0.03), median(0.04), median(0.06));
        assert!((1_200..2_300).contains(&three), "{three}");
        assert!((5_000..9_500).contains(&four), "{four}");
        assert!((6_000..12_000).contains(&six), "{six}");
    }

    #[test]
    fn a_split_that_works_is_rarely_called_broken() {
        let mut random = fastrand::Rng::with_seed(36);
        let mut broken = 0;
        for _ in 0..2_000 {
            let mut ratio = SampleRatio::new(0.05);
            broken += u32::from((0..2_000).any(|_| {
                ratio.count(if random.f64() < 0.05 { Arm::Canary } else { Arm::Stable });
                ratio.e([0; 2]) >= BROKEN
            }));
        }
        assert!(broken <= 4, "{broken} of 2,000");
    }

    #[test]
    fn users_on_their_way_explain_what_is_lacking_and_no_more() {
        let ratio = counted(0.05, [4_000, 90]);
        assert!(ratio.e([0; 2]) >= BROKEN && !ratio.canary_has_too_many());
        assert!(ratio.e([50, 121]) < 1.0, "{}", ratio.e([50, 121]));
        assert!(ratio.e([50, 10]) >= BROKEN, "ten cannot explain it");
        let ratio = counted(0.05, [1_000, 150]);
        assert!(ratio.e([0, 5_000]) >= BROKEN && ratio.canary_has_too_many(), "more canary users are no excuse");
        assert!(ratio.e([1_850, 0]) < 1.0);
    }

    #[test]
    fn no_split_is_not_tested() {
        assert_eq!(counted(1.0, [500, 0]).e([0; 2]), 1.0);
        assert_eq!(counted(0.0, [0, 500]).e([0; 2]), 1.0);
    }
}
