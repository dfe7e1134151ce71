//! The rule of promotion: when a release leaves its step.
//!
//! A step is left once nothing is missing:
//!
//! 1. It has lasted its `hold`.
//! 2. `min_users` users came to the canary in it.
//! 3. There is evidence that the canary is safe. [`judge::safety`](crate::judge::Safety) says what counts as evidence.
//! 4. Stable does not fail as well, which would mean that the cause is outside of the release.
//!
//! Where all users are on the canary there is no control, and `hold` alone counts. A step that still misses something
//! after `max_wait` is given up: the release ends on hold. `max_wait` does not cut `hold` short.
//!
//! [`running_release`](super::running_release) asks for each running release ten times a second, and goes to the next
//! step, or from the last one to the state `promoted`. An operator's `promote` does not ask. What takes a canary back
//! is the judge's to say.

use std::time::Duration;

/// A step as configured, and its age.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The least time of the step.
    pub hold: Duration,
    /// How long it has lasted.
    pub lasted: Duration,
    /// Users on the canary without whom it is not left.
    pub min_users: u64,
    /// The time after which it is given up.
    pub max_wait: Duration,
}

/// What the judge says of a step in which both versions have users.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Users of the canary in the step.
    pub users: u64,
    /// What the evidence of safety lacks, as a phrase; `None` where the canary is safe.
    pub lacks: Option<String>,
    /// Whether stable fails at this time as well.
    pub outside: bool,
}

/// What follows for the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// It is left.
    Go,
    /// It goes on, until this is no longer missing.
    Wait(String),
    /// It goes on no longer, since this is still missing.
    GiveUp(String),
}

impl Promotion {
    /// The rule. `judged` is `None` where all users are on the canary.
    pub fn of(step: Step, judged: Option<Judged>) -> Promotion {
        let missing = missing(step, judged).join("; ");
        if missing.is_empty() {
            Promotion::Go
        } else if step.lasted < step.max_wait.max(step.hold) {
            Promotion::Wait(missing)
        } else {
            Promotion::GiveUp(missing)
        }
    }

    /// What is missing; empty where nothing is.
    pub fn missing(self) -> String {
        match self {
            Promotion::Go => String::new(),
            Promotion::Wait(missing) | Promotion::GiveUp(missing) => missing,
        }
    }
}

/// A phrase for each condition that does not hold.
fn missing(step: Step, judged: Option<Judged>) -> Vec<String> {
    let mut missing = vec![];
    if let Some(left) = step.hold.checked_sub(step.lasted).filter(|left| !left.is_zero()) {
        missing.push(format!("hold: {} s", left.as_secs() + 1));
    }
    let Some(Judged { users, lacks, outside }) = judged else { return missing };
    if users < step.min_users {
        missing.push(format!("users: {users} of {} on the canary", step.min_users));
    }
    missing.extend(lacks);
    if outside {
        missing.push("stable fails as well: the cause is outside".to_owned());
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A step of ten seconds and twenty users that is given up after a minute, at this age.
    fn at(seconds: u32) -> Step {
        Step { hold: 10 * SECOND, lasted: seconds * SECOND, min_users: 20, max_wait: 60 * SECOND }
    }

    /// Nothing speaks against the step.
    const FINE: Judged = Judged { users: 20, lacks: None, outside: false };

    fn lacking() -> Judged {
        Judged { lacks: Some("errors: 20 of about 307 users".into()), ..FINE }
    }

    fn wait(missing: &str) -> Promotion {
        Promotion::Wait(missing.to_owned())
    }

    fn give_up(missing: &str) -> Promotion {
        Promotion::GiveUp(missing.to_owned())
    }

    #[test]
    fn a_step_is_left_when_nothing_is_missing() {
        assert_eq!(Promotion::of(at(10), Some(FINE)), Promotion::Go);
        assert_eq!(Promotion::of(at(10), Some(FINE)).missing(), "");
        let at_once = Step { hold: Duration::ZERO, min_users: 0, ..at(0) };
        assert_eq!(Promotion::of(at_once, Some(Judged { users: 0, ..FINE })), Promotion::Go);
    }

    #[test]
    fn hold_is_a_minimum() {
        assert_eq!(Promotion::of(at(0), Some(FINE)), wait("hold: 11 s"));
        assert_eq!(Promotion::of(at(9), Some(FINE)), wait("hold: 2 s"));
        let nearly = Step { lasted: Duration::from_millis(9_999), ..at(0) };
        assert_eq!(Promotion::of(nearly, Some(FINE)), wait("hold: 1 s"));
    }

    #[test]
    fn so_many_users_must_have_come() {
        assert_eq!(Promotion::of(at(10), Some(Judged { users: 19, ..FINE })), wait("users: 19 of 20 on the canary"));
    }

    #[test]
    fn the_canary_must_be_safe() {
        assert_eq!(Promotion::of(at(10), Some(lacking())), wait("errors: 20 of about 307 users"));
    }

    #[test]
    fn a_cause_outside_stops_the_steps() {
        let outside = Judged { outside: true, ..FINE };
        assert_eq!(Promotion::of(at(10), Some(outside)), wait("stable fails as well: the cause is outside"));
    }

    #[test]
    fn all_that_is_missing_is_said_in_one_order() {
        let all = "hold: 8 s; users: 3 of 20 on the canary; errors: 20 of about 307 users; \
                   stable fails as well: the cause is outside";
        let judged = Judged { users: 3, outside: true, ..lacking() };
        assert_eq!(Promotion::of(at(3), Some(judged.clone())), wait(all));
        assert_eq!(Promotion::of(at(3), Some(judged)).missing(), all);
    }

    #[test]
    fn without_a_control_hold_alone_counts() {
        assert_eq!(Promotion::of(at(9), None), wait("hold: 2 s"));
        assert_eq!(Promotion::of(at(10), None), Promotion::Go);
    }

    #[test]
    fn what_is_missing_after_max_wait_does_not_come() {
        assert_eq!(Promotion::of(at(59), Some(lacking())), wait("errors: 20 of about 307 users"));
        assert_eq!(Promotion::of(at(60), Some(lacking())), give_up("errors: 20 of about 307 users"));
        assert_eq!(Promotion::of(at(60), Some(lacking())).missing(), "errors: 20 of about 307 users");
        assert_eq!(Promotion::of(at(60), Some(FINE)), Promotion::Go, "it came in the last moment");
    }

    #[test]
    fn max_wait_does_not_cut_hold_short() {
        let long = |seconds| Step { hold: 90 * SECOND, ..at(seconds) };
        assert_eq!(Promotion::of(long(60), Some(lacking())), wait("hold: 31 s; errors: 20 of about 307 users"));
        assert_eq!(Promotion::of(long(90), Some(lacking())), give_up("errors: 20 of about 307 users"));
        assert_eq!(Promotion::of(long(60), None), wait("hold: 31 s"));
    }
}
