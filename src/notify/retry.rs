//! The meaning of an attempt's end, and the wait before the next attempt.
//!
//! An answer below 300 means delivered. 408, 429 and everything from 500 up may succeed later, as may any failure
//! before an answer. Everything else is final: the receiver understood and refused. Redirects are final too: a message
//! goes where the configuration says. Waits grow threefold (3, 9, 27, 81 s: five attempts in two minutes), each 20 %
//! shorter or longer so that many gateways do not return together. `Retry-After` makes a wait longer, up to a limit;
//! never shorter.

use std::time::Duration;

use http_client::webhook::{Answer, jittered};

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver has it.
    Delivered,
    /// It may succeed later.
    Again {
        /// What went wrong.
        why: String,
        /// The wait that the receiver asks for.
        after: Option<Duration>,
    },
    /// It will not succeed.
    Final(String),
}

impl From<Answer> for DeliveryOutcome {
    fn from(answer: Answer) -> DeliveryOutcome {
        let why = answer.text();
        match answer {
            Answer::Status { status: 200..=299, .. } => DeliveryOutcome::Delivered,
            Answer::Status { status: 408 | 429 | 500.., retry_after } => {
                DeliveryOutcome::Again { why, after: retry_after }
            }
            Answer::Status { status: 300..=399, .. } => {
                DeliveryOutcome::Final(format!("{why}; redirects are not followed"))
            }
            Answer::Status { .. } => DeliveryOutcome::Final(why),
            Answer::Silence(_) => DeliveryOutcome::Again { why, after: None },
        }
    }
}

/// How often and how fast to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Maximum number of attempts.
    pub attempts: u32,
    /// The first wait; each further one is three times as long.
    pub first: Duration,
    /// The longest wait that a receiver can ask for.
    pub longest: Duration,
    /// Time an attempt may take.
    pub timeout: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        let seconds = Duration::from_secs;
        Pace { attempts: 5, first: seconds(3), longest: seconds(120), timeout: seconds(5) }
    }
}

impl Pace {
    /// The wait after this many attempts, from 1; `None` after the last one. `random` is from 0 to 1.
    pub fn wait(&self, attempts: u32, after: Option<Duration>, random: f64) -> Option<Duration> {
        if attempts >= self.attempts {
            return None;
        }
        let wait = self.first.saturating_mul(3_u32.saturating_pow(attempts.saturating_sub(1)));
        Some(jittered(wait, random).max(after.unwrap_or_default().min(self.longest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_delivered_final_or_worth_another_attempt() {
        let of = |status| DeliveryOutcome::from(Answer::Status { status, retry_after: None });
        assert_eq!(of(204), DeliveryOutcome::Delivered);
        for status in [408, 429, 500, 503, 599] {
            assert!(matches!(of(status), DeliveryOutcome::Again { after: None, .. }), "{status}");
        }
        for status in [301, 307, 400, 401, 404, 410] {
            assert!(matches!(of(status), DeliveryOutcome::Final(_)), "{status}");
        }
    }

    #[test]
    fn five_attempts_take_about_two_minutes() {
        let pace = Pace::default();
        let waits = |random| (1..9).map_while(|made| pace.wait(made, None, random)).collect::<Vec<_>>();
        assert_eq!(waits(0.5), [3, 9, 27, 81].map(Duration::from_secs));
        assert_eq!(waits(0.0).iter().sum::<Duration>(), Duration::from_secs(96));
        assert_eq!(waits(1.0).iter().sum::<Duration>(), Duration::from_secs(144));
        let asked = |seconds| pace.wait(1, Some(Duration::from_secs(seconds)), 0.5).unwrap().as_secs();
        assert_eq!((asked(1), asked(60), asked(86_400)), (3, 60, 120), "longer, up to a limit, and never shorter");
    }
}
