//! What the end of an attempt means, and how long to wait for the next one.
//!
//! An answer below 300 is delivered. 408, 429 and everything from 500 up may go better later, as may whatever went wrong
//! before an answer; all else is final: the receiver understood and refused. Redirects are final too: a message goes where
//! the configuration says. Waits grow threefold (3, 9, 27, 81 s: five tries in two minutes), each 20 % shorter or longer
//! so that many gateways do not come back together. `Retry-After`, in seconds or as a date, makes a wait longer, up to
//! a limit; never shorter.

use std::time::Duration;

use base::webhook;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It may go better later.
    Again {
        /// What went wrong.
        why: String,
        /// When the receiver wants to be asked again.
        after: Option<Duration>,
    },
    /// It will not go better.
    Final(String),
}

impl Outcome {
    /// Of an answer. `now_ms` is wall-clock time, for a `Retry-After` that is a date.
    pub fn of(status: u16, retry_after: Option<&str>, now_ms: u64) -> Outcome {
        let why = format!("it answered {status}");
        match status {
            200..=299 => Outcome::Delivered,
            408 | 429 | 500.. => {
                Outcome::Again { why, after: retry_after.and_then(|text| webhook::retry_after(text, now_ms)) }
            }
            300..=399 => Outcome::Final(format!("{why}; redirects are not followed")),
            _ => Outcome::Final(why),
        }
    }
}

/// How often and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Tries in all.
    pub tries: u32,
    /// The first wait; each further one is three times as long.
    pub first: Duration,
    /// The longest wait that a receiver may ask for.
    pub longest: Duration,
    /// Time a try may take.
    pub timeout: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        let seconds = Duration::from_secs;
        Pace { tries: 5, first: seconds(3), longest: seconds(120), timeout: seconds(5) }
    }
}

impl Pace {
    /// How long to wait after the `tried`-th try, from 1; none after the last one. `dice` is a random number from 0 to 1.
    pub fn wait(&self, tried: u32, after: Option<Duration>, dice: f64) -> Option<Duration> {
        if tried >= self.tries {
            return None;
        }
        let wait = self.first.saturating_mul(3_u32.saturating_pow(tried.saturating_sub(1))).mul_f64(0.8 + 0.4 * dice);
        Some(wait.max(after.unwrap_or_default().min(self.longest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_delivered_final_or_worth_another_try() {
        let of = |status| Outcome::of(status, None, 0);
        assert_eq!(of(204), Outcome::Delivered);
        for status in [408, 429, 500, 503, 599] {
            assert!(matches!(of(status), Outcome::Again { after: None, .. }), "{status}");
        }
        for status in [301, 307, 400, 401, 404, 410] {
            assert!(matches!(of(status), Outcome::Final(_)), "{status}");
        }
    }

    #[test]
    fn five_tries_take_about_two_minutes() {
        let pace = Pace::default();
        let waits = |dice| (1..9).map_while(|tried| pace.wait(tried, None, dice)).collect::<Vec<_>>();
        assert_eq!(waits(0.5), [3, 9, 27, 81].map(Duration::from_secs));
        assert_eq!(waits(0.0).iter().sum::<Duration>(), Duration::from_secs(96));
        assert_eq!(waits(1.0).iter().sum::<Duration>(), Duration::from_secs(144));
        let asked = |seconds| pace.wait(1, Some(Duration::from_secs(seconds)), 0.5).unwrap().as_secs();
        assert_eq!((asked(1), asked(60), asked(86_400)), (3, 60, 120), "longer, up to a limit, and never shorter");
    }
}
