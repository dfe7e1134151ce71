//! Evidence that the canary is safe: what a promotion needs besides the absence of an alarm. The rule of promotion, of
//! which it is one condition, is [`crate::controller::promotion`].
//!
//! An e-process against the hypothesis "the canary is worse than stable by delta or more", over the users of the step:
//! one point of users who failed in it at all, two points of users who got a refusal that stable's seldom get, five
//! points of users whose first answer in it is above stable's p95. Twenty is enough: 1 canary of 20 that is worse by
//! exactly delta is promoted. Stable's own rate in the step stands for the rate that the canary should have.
//!
//! Each user counts once, however often they come: a client that polls says no more than one that visits,
//! and a user who tries again after a failure no more than one who was rescued. There is no evidence where
//! the step has only one arm.
//!
//! A canary that is fast while cold is fast; one that is slow while cold may become fast. So there are two e-values of
//! latency, over users' first answers and over their first timed answers, and their mean is an e-value too.

use super::window::{Speed, UserCounts};

/// The e-value that is enough.
const ENOUGH: f64 = 20.0;

/// Delta, the difference that would be too much: errors, refusals, latency.
const TOO_MUCH: [f64; 3] = [0.01, 0.02, 0.05];

/// The least failure rate assumed of stable: an observed rate of zero would be believed too much.
const LEAST: f64 = 1e-4;

/// The evidence of safety in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Safety {
    /// The e-value that the canary fails no more users; 20 is enough.
    pub errors: f64,
    /// The same for refusals.
    pub refusals: f64,
    /// The same for latency; `None` while no route's p95 is known or no answer was compared with one.
    pub latency: Option<f64>,
    /// Users of the canary so far, and needed in all: errors, refusals and latency.
    progress: [(u64, u64); 3],
}

impl Safety {
    /// From the users of a step.
    pub(super) fn of(step: &UserCounts) -> Safety {
        let errors = Test::of(step.active, step.failing, TOO_MUCH[0], ENOUGH);
        let refusals = Test::of(step.active, step.refused, TOO_MUCH[1], ENOUGH);
        let speed = |Speed { measured, slow }| Test::of(measured, slow, TOO_MUCH[2], 2.0 * ENOUGH);
        let [first, timed] = [speed(step.first), speed(step.timed)];
        let known = step.first.measured[0] + step.timed.measured[0] > 0;
        let latency = if timed.e > first.e { &timed } else { &first };
        Safety {
            errors: errors.e,
            refusals: refusals.e,
            latency: known.then_some((first.e + timed.e) / 2.0),
            progress: [&errors, &refusals, latency].map(|test| (test.seen, test.needed)),
        }
    }

    /// Whether the next step may come.
    pub fn is_safe(&self) -> bool {
        self.errors >= ENOUGH && self.refusals >= ENOUGH && self.latency.is_some_and(|latency| latency >= ENOUGH)
    }

    /// What the step waits for, as a phrase; empty when it is safe.
    pub fn wants(&self) -> String {
        let line = |name: &str, (seen, needed): (u64, u64)| format!("{name}: {seen} of about {needed} users");
        let errors = (self.errors < ENOUGH).then(|| line("errors", self.progress[0]));
        let refusals = (self.refusals < ENOUGH).then(|| line("refusals", self.progress[1]));
        let latency = match self.latency {
            None => Some("latency: nothing to compare with yet".to_owned()),
            Some(e) => (e < ENOUGH).then(|| line("latency", self.progress[2])),
        };
        errors.into_iter().chain(refusals).chain(latency).collect::<Vec<_>>().join(", ")
    }
}

struct Test {
    e: f64,
    seen: u64,
    needed: u64,
}

impl Test {
    fn of(n: [u64; 2], bad: [u64; 2], too_much: f64, enough: f64) -> Test {
        let stable = if n[0] == 0 { 0.0 } else { bad[0] as f64 / n[0] as f64 };
        let as_stable = stable.clamp(LEAST, 0.999 - too_much);
        let worse = as_stable + too_much;
        let (of_bad, of_good) = ((as_stable / worse).ln(), ((1.0 - as_stable) / (1.0 - worse)).ln());
        // Without a control the canary's expected rate is unknown.
        let ln_e = if n[0] == 0 { 0.0 } else { bad[1] as f64 * of_bad + n[1].saturating_sub(bad[1]) as f64 * of_good };
        let each = as_stable * of_bad + (1.0 - as_stable) * of_good;
        let missing = ((enough.ln() - ln_e) / each).max(0.0).ceil();
        Test { e: ln_e.min(30.0).exp(), seen: n[1], needed: n[1].saturating_add(missing as u64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(active: [u64; 2], failing: [u64; 2]) -> UserCounts {
        let speed = Speed { measured: active, slow: active.map(|n| n / 20) };
        UserCounts { active, failing, refused: [0; 2], first: speed, timed: speed }
    }

    #[test]
    fn three_hundred_clean_users_are_enough_where_stable_never_fails() {
        assert!(Safety::of(&tally([9_000, 290], [0, 0])).errors < ENOUGH);
        let safe = Safety::of(&tally([9_000, 310], [0, 0]));
        assert!(safe.errors >= ENOUGH && safe.is_safe(), "{safe:?}");
        assert_eq!(safe.wants(), "");
    }

    #[test]
    fn a_canary_that_is_worse_does_not_become_safe() {
        let safety = Safety::of(&tally([190_000, 10_000], [190, 110]));
        assert!(safety.errors < 1e-3 && !safety.is_safe(), "{safety:?}");
        let slow = |speed: Speed| Speed { slow: [9_500, 1_000], ..speed };
        let fast = tally([190_000, 10_000], [190, 10]);
        let cold = UserCounts { first: slow(fast.first), ..fast };
        assert!(Safety::of(&cold).is_safe(), "it was slow while it was cold");
        let safety = Safety::of(&UserCounts { timed: slow(fast.timed), ..cold });
        assert!(safety.errors >= ENOUGH && !safety.is_safe(), "{safety:?}");
        assert!(safety.wants().starts_with("latency: 10000 of about "), "{}", safety.wants());
    }

    #[test]
    fn a_canary_that_refuses_more_does_not_become_safe() {
        let safety = Safety::of(&UserCounts { refused: [10, 40], ..tally([19_000, 1_000], [0, 0]) });
        assert!(safety.errors >= ENOUGH && safety.refusals < 1.0 && !safety.is_safe(), "{safety:?}");
    }

    #[test]
    fn it_says_what_it_waits_for() {
        let safety = Safety::of(&UserCounts { active: [900, 120], ..UserCounts::default() });
        assert_eq!(
            safety.wants(),
            "errors: 120 of about 307 users, refusals: 120 of about 150 users, latency: nothing to compare with yet"
        );
        let nothing = Safety::of(&UserCounts::default());
        assert!(nothing.errors == 1.0 && !nothing.is_safe(), "{nothing:?}");
        let alone = Safety::of(&UserCounts { active: [0, 5_000], ..UserCounts::default() });
        assert_eq!(alone.errors, 1.0, "without control there is no evidence");
    }

    #[test]
    fn numbers_stay_finite_where_everything_fails() {
        let safety = Safety::of(&tally([100, 100_000_000], [100, 100_000_000]));
        assert!(safety.errors.is_finite(), "{safety:?}");
    }
}
