//! The times at which an alarm is sent: once as a state begins, and each day while it lasts. Pure.
//!
//! A state has ended when it was not seen for a minute, so one that comes and goes is reported once.

use std::collections::BTreeMap;

/// Time between two messages of a state that lasts.
const REMIND_MS: i64 = 24 * 3_600_000;
/// Time between two messages of a state that grows.
const GROWN_MS: i64 = 300_000;
/// Time after which a state that is not seen has ended.
const ENDED_MS: i64 = 60_000;

/// The kinds of alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// A callback has waited long for its payment or order.
    ParkedOld,
    /// This clock is wrong.
    ClockSkew,
    /// The books' time is ahead of this clock.
    ClockAhead,
    /// There is little room on the disk.
    LowDisk,
    /// A person must decide about an anomaly.
    Anomalies,
    /// A merchant does not get its events.
    Undelivered,
    /// An endpoint has taken nothing for a day.
    EndpointFailing,
    /// Nothing is written any more.
    StoreFailed,
    /// There are books, and no anchor beside them.
    NoAnchor,
    /// The books were changed by other means than the ledger.
    Tampered,
}

impl AlarmKind {
    /// The kind in one word.
    pub fn label(self) -> &'static str {
        match self {
            AlarmKind::ParkedOld => "parked_old",
            AlarmKind::ClockSkew => "clock_skew",
            AlarmKind::ClockAhead => "clock_ahead",
            AlarmKind::LowDisk => "low_disk",
            AlarmKind::Anomalies => "anomalies",
            AlarmKind::Undelivered => "undelivered",
            AlarmKind::EndpointFailing => "endpoint_failing",
            AlarmKind::StoreFailed => "store_failed",
            AlarmKind::NoAnchor => "no_anchor",
            AlarmKind::Tampered => "tampered",
        }
    }

    /// The severity: whether a person must get up for it.
    pub fn severity(self) -> &'static str {
        match self {
            AlarmKind::StoreFailed | AlarmKind::Tampered | AlarmKind::LowDisk => "critical",
            AlarmKind::ParkedOld
            | AlarmKind::ClockSkew
            | AlarmKind::ClockAhead
            | AlarmKind::Anomalies
            | AlarmKind::Undelivered
            | AlarmKind::EndpointFailing
            | AlarmKind::NoAnchor => "warning",
        }
    }
}

/// An alarm to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The kind of the alarm.
    pub kind: AlarmKind,
    /// A description without personal data.
    pub text: String,
    /// When the state began, in milliseconds since 1970.
    pub since_ms: i64,
    /// When the alarm is sent, in milliseconds since 1970.
    pub at_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    since_ms: i64,
    told_ms: i64,
    seen_ms: i64,
    /// What was told of it.
    told: i64,
}

/// The states that last.
#[derive(Debug, Default)]
pub struct Book {
    episodes: BTreeMap<AlarmKind, Episode>,
}

impl Book {
    /// Takes the `state` at `now_ms`: a description of what is wrong, or `None`. Returns the alarm to send, if any.
    pub fn look(&mut self, kind: AlarmKind, state: Option<String>, now_ms: i64) -> Option<Alarm> {
        self.grown(kind, state, 0, now_ms)
    }

    /// Like [`Book::look`], for a state that grows: it is told again when `size` is above what was told, but not more
    /// often than every five minutes.
    pub fn grown(&mut self, kind: AlarmKind, state: Option<String>, size: i64, now_ms: i64) -> Option<Alarm> {
        // A clock that was ahead saw it and was set back: the state would be silent until that time has come.
        if self.episodes.get(&kind).is_some_and(|episode| episode.seen_ms - now_ms >= ENDED_MS) {
            self.episodes.remove(&kind);
        }
        let Some(text) = state else {
            let ended = self.episodes.get(&kind).is_some_and(|episode| now_ms - episode.seen_ms >= ENDED_MS);
            if ended {
                self.episodes.remove(&kind);
            }
            return None;
        };
        let new = !self.episodes.contains_key(&kind);
        let first = Episode { since_ms: now_ms, told_ms: now_ms, seen_ms: now_ms, told: size };
        let episode = self.episodes.entry(kind).or_insert(first);
        episode.seen_ms = now_ms;
        let pause = if size > episode.told { GROWN_MS } else { REMIND_MS };
        if !new && now_ms - episode.told_ms < pause {
            return None;
        }
        (episode.told_ms, episode.told) = (now_ms, size);
        Some(Alarm { kind, text, since_ms: episode.since_ms, at_ms: now_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_once_then_daily_and_again_when_it_comes_back() {
        let mut book = Book::default();
        let mut look = |wrong: bool, at| {
            book.look(AlarmKind::LowDisk, wrong.then(|| "little room".to_owned()), at)
                .map(|alarm| (alarm.since_ms, alarm.at_ms))
        };
        assert_eq!(look(false, 0), None);
        assert_eq!(look(true, 1_000), Some((1_000, 1_000)));
        assert_eq!(look(true, 2_000), None);
        assert_eq!(look(false, 3_000), None);
        assert_eq!(look(true, 4_000), None, "it was gone for a moment only");
        let day = 1_000 + REMIND_MS;
        assert_eq!(look(true, day - 1), None);
        assert_eq!(look(true, day), Some((1_000, day)));
        assert_eq!(look(true, day + 1), None);
        assert_eq!(look(false, day + 1 + ENDED_MS), None);
        assert_eq!(look(true, day + 2 + ENDED_MS), Some((day + 2 + ENDED_MS, day + 2 + ENDED_MS)));
    }

    #[test]
    fn a_clock_that_was_ahead_silences_nothing() {
        let mut book = Book::default();
        let mut look =
            |at| book.look(AlarmKind::LowDisk, Some("little room".to_owned()), at).map(|alarm| alarm.since_ms);
        let ahead = 10 * REMIND_MS;
        assert_eq!(look(ahead), Some(ahead));
        assert_eq!(look(ahead - 1_000), None, "it was set by a little");
        assert_eq!(look(5_000), Some(5_000));
        assert_eq!(look(6_000), None);
    }

    #[test]
    fn what_grows_is_told_again_after_a_while() {
        let mut book = Book::default();
        let mut look = |size, at| book.grown(AlarmKind::Anomalies, Some("open".to_owned()), size, at).is_some();
        assert!(look(1, 0));
        assert!(!look(2, 1_000) && !look(2, GROWN_MS - 1));
        assert!(look(3, GROWN_MS));
        assert!(!look(3, 3 * GROWN_MS) && !look(2, 4 * GROWN_MS));
        assert!(look(3, GROWN_MS + REMIND_MS));
    }

    #[test]
    fn kinds_are_told_apart() {
        let mut book = Book::default();
        assert!(book.look(AlarmKind::Tampered, Some("x".into()), 0).is_some());
        assert!(book.look(AlarmKind::Undelivered, Some("x".into()), 0).is_some());
        assert!(book.look(AlarmKind::Tampered, Some("x".into()), 0).is_none());
    }
}
