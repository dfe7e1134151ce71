//! The state of an event after an attempt: delivered, due again later, or dead. Pure.
//!
//! 2xx delivers; every other answer fails, redirects too. After the n-th failure since the event was last redelivered,
//! the n-th wait of the backoff follows, each 20 % shorter or longer so that events do not come back together. A
//! failure after the last wait makes the event dead. `Retry-After` makes a wait longer, never shorter, up to a day (or
//! the longest wait of the backoff, if that is longer).
//!
//! The waits are the key `delivery_backoff`; its default is at the key, in `crates/config/src/file/ledger.rs`.

use std::time::Duration;

use crate::rows::Outgoing;
use crate::stored_enum::EventState;
use http_client::webhook::{Answer, jittered};

/// The longest wait that a merchant may ask for.
const ASKED_MAX: Duration = Duration::from_secs(86_400);

/// The event after an attempt that ended at `now_ms`. `random` is from 0 to 1.
pub fn after(event: &Outgoing, answer: Answer, backoff: &[Duration], now_ms: i64, random: f64) -> Outgoing {
    let mut after = event.clone();
    after.attempts += 1;
    after.round += 1;
    let (status, asked) = match answer {
        Answer::Status { status, retry_after } => (Some(i64::from(status)), retry_after.unwrap_or_default()),
        Answer::Silence(_) => (None, Duration::ZERO),
    };
    after.last_status = status;
    if answer.delivers() {
        return Outgoing { state: EventState::Delivered, next_attempt_at: None, delivered_at: Some(now_ms), ..after };
    }
    match usize::try_from(event.round).ok().and_then(|round| backoff.get(round)) {
        Some(wait) => {
            let longest = backoff.iter().copied().max().unwrap_or_default().max(ASKED_MAX);
            let wait = jittered(*wait, random).max(asked.min(longest));
            let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            Outgoing { next_attempt_at: Some(now_ms.saturating_add(wait)), ..after }
        }
        None => Outgoing { state: EventState::Dead, next_attempt_at: None, ..after },
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const BACKOFF: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1800)];
    const NOW: i64 = 1_795_232_280_000;

    fn event() -> Outgoing {
        Outgoing {
            seq: 7,
            id: Uuid::from_u128(7),
            kind: "payment.posted".into(),
            transaction_id: Uuid::from_u128(5),
            order_id: None,
            merchant: "shop".into(),
            body: "{}".into(),
            created_at: NOW - 1,
            state: EventState::Pending,
            attempts: 0,
            round: 0,
            next_attempt_at: Some(NOW - 1),
            last_status: None,
            delivered_at: None,
        }
    }

    fn status(status: u16) -> Answer {
        Answer::Status { status, retry_after: None }
    }

    #[test]
    fn any_2xx_delivers_and_nothing_else_does() {
        for ok in [200, 202, 204, 299] {
            let after = after(&event(), status(ok), &BACKOFF, NOW, 0.5);
            assert_eq!((after.state, after.next_attempt_at), (EventState::Delivered, None), "{ok}");
            assert_eq!((after.delivered_at, after.attempts), (Some(NOW), 1));
            assert_eq!(after.last_status, Some(i64::from(ok)));
        }
        for bad in [100, 199, 300, 301, 307, 400, 404, 410, 429, 500, 503] {
            let after = after(&event(), status(bad), &BACKOFF, NOW, 0.5);
            assert_eq!((after.state, after.delivered_at), (EventState::Pending, None), "{bad}");
            assert_eq!(after.next_attempt_at, Some(NOW + 5_000));
        }
    }

    #[test]
    fn waits_follow_the_backoff_give_or_take_a_fifth_and_end_in_death() {
        let waits = |dice: f64| {
            let mut event = event();
            let mut waits = vec![];
            while event.state == EventState::Pending {
                event = after(&event, Answer::Silence("it timed out"), &BACKOFF, NOW, dice);
                waits.push(event.next_attempt_at.map(|at| at - NOW));
            }
            assert_eq!((event.state, event.attempts, event.last_status), (EventState::Dead, 4, None));
            waits
        };
        assert_eq!(waits(0.5), [Some(5_000), Some(300_000), Some(1_800_000), None]);
        assert_eq!(waits(0.0), [Some(4_000), Some(240_000), Some(1_440_000), None]);
        assert_eq!(waits(1.0), [Some(6_000), Some(360_000), Some(2_160_000), None]);
    }

    #[test]
    fn an_event_asked_for_by_hand_begins_its_backoff_anew_and_keeps_its_count() {
        let again = Outgoing { attempts: 4, round: 0, ..event() };
        let after = after(&again, status(500), &BACKOFF, NOW, 0.5);
        assert_eq!((after.attempts, after.round, after.next_attempt_at), (5, 1, Some(NOW + 5_000)));
    }

    #[test]
    fn retry_after_makes_a_wait_longer_up_to_a_day_and_never_shorter() {
        let wait = |seconds, backoff: &[Duration]| {
            let answer = Answer::Status { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
            after(&event(), answer, backoff, NOW, 0.5).next_attempt_at.map(|at| (at - NOW) / 1_000)
        };
        assert_eq!(wait(1, &BACKOFF), Some(5));
        assert_eq!(wait(60, &BACKOFF), Some(60));
        assert_eq!(wait(u64::MAX, &BACKOFF), Some(86_400));
        assert_eq!(wait(200_000, &[Duration::from_secs(5), Duration::from_secs(172_800)]), Some(172_800));
        assert_eq!(wait(60, &[]), None, "it does not raise the dead");
    }
}
