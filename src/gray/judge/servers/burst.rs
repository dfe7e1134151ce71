//! When a server has a burst, and whether it is a hiccup.

use std::time::Duration;

use super::{KINDS, RECENT, SOON, is_timed};
use crate::gray::judge::signals::{P50, SLO};
use crate::gray::judge::window::Counts;
use crate::units::Nanos;

/// How long a hiccup lasts at most.
const HICCUP: Duration = Duration::from_secs(2);
/// The chance that as many users, or more, are no burst. One is himself.
const NO_BURST: f64 = 0.0005;
/// The chance that its beginning is none, or that it goes on after two seconds by chance alone: there are many hiccups, and one
/// that is wrongly taken to last is much evidence.
const NO_LONGER: f64 = 1e-6;

/// So many users are few.
const FEW: u32 = 100;

/// Users who met something, and how many do by chance.
#[derive(Clone, Copy, Debug, Default)]
struct Many {
    users: u32,
    expected: f64,
}

impl Many {
    fn add(&mut self, users: u32, expected: f64) {
        (self.users, self.expected) = (self.users + users, self.expected + expected);
    }

    /// Whether they are more than chance gives but once in 1/`chance`, which is a thousandth or less. Of many an upper bound
    /// (Chernoff's) is asked: a sum of terms would have none above zero.
    fn are_more(self, chance: f64) -> bool {
        let (users, expected) = (f64::from(self.users), self.expected);
        if self.users <= 1 || users <= expected + 3.0 * expected.sqrt() {
            return false;
        }
        if self.users > FEW {
            return users - expected - users * (users / expected).ln() < chance.ln();
        }
        chance_of(self.users, expected) < chance
    }
}

/// A burst of a server, in what is of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    /// Since when it surely is one; whoever met it before may be chance.
    sure: Option<Nanos>,
    /// When a user last met it in a window of which that is likely.
    last: Nanos,
    /// All of its users, and those since it is no hiccup any more.
    all: Many,
    late: Many,
    /// It is no hiccup.
    lasts: bool,
}

impl Burst {
    fn state(&self) -> State {
        if self.lasts { State::Lasts } else { State::Waits }
    }

    /// Whether it is no hiccup if it goes on.
    fn is_late(&self, now: Nanos) -> bool {
        self.sure.is_some_and(|sure| now.since(sure) > HICCUP)
    }
}

/// How a server stands, in what is of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// Its users meet no more than others.
    Usual,
    /// It has a burst that may be a hiccup.
    Waits,
    /// It has one that is none.
    Lasts,
}

/// What a server's users met of a kind in the open window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) users: u32,
    pub(super) first: Nanos,
    pub(super) last: Nanos,
    /// When they became more than chance gives.
    sure: Option<Nanos>,
    /// Those who met it when it was no hiccup any more.
    late: u32,
}

/// What a server's users met in the open window.
#[derive(Debug, Default)]
pub(super) struct OfWindow {
    /// Users who asked it, and of them those whose answers were timed.
    pub(super) active: u32,
    pub(super) timed: u32,
    pub(super) met: [Option<Met>; KINDS],
    /// First events; those of users for whom nobody answered are apart.
    pub(super) counts: Counts,
    pub(super) harm: Counts,
}

impl OfWindow {
    /// Users who could have met it.
    pub(super) fn exposed(&self, kind: usize) -> u32 {
        if (P50..=SLO).contains(&kind) { self.timed } else { self.active }
    }

    /// Users who met it.
    pub(super) fn bad(&self, kind: usize) -> u32 {
        self.met[kind].map_or(0, |met| met.users)
    }

    /// Another user meets it, which happens to `rate` of stable's.
    pub(super) fn met(&mut self, kind: usize, rate: f64, burst: Option<&Burst>, now: Nanos) {
        let expected = rate * f64::from(self.exposed(kind));
        let none = Met { users: 0, first: now, last: now, sure: None, late: 0 };
        let met = self.met[kind].get_or_insert(none);
        met.users += 1;
        met.last = now;
        met.late += u32::from(burst.is_some_and(|burst| burst.is_late(now)));
        if met.sure.is_none() {
            let mut all = burst.map_or(Many::default(), |burst| burst.all);
            all.add(met.users, expected);
            met.sure = all.are_more(NO_LONGER).then_some(now);
        }
    }
}

/// Looks at a window, of one kind that `rate` of stable's users meet. What is `at_once` no hiccup needs no time.
pub(super) fn look(
    (burst, kind): (&mut Option<Burst>, usize),
    window: &OfWindow,
    (rate, at_once): (f64, bool),
    (asked, now): (Nanos, Nanos),
) -> State {
    let Some(met) = window.met[kind] else {
        let is_over = window.active > 0 || now.since(asked) >= RECENT;
        *burst = burst.filter(|_| !is_over);
        return burst.map_or(State::Usual, |burst| burst.state());
    };
    let expected = rate * f64::from(window.exposed(kind));
    let more = Many { users: met.users, expected }.are_more(NO_BURST);
    // Where it is asked seldom, as one that is ejected is, all of its users are few.
    let all = burst.is_some() && met.users == window.exposed(kind);
    match burst {
        Some(burst) if !more && !all && met.first.since(burst.last) < SOON => {
            // Its last moment, in a window that is mostly quiet.
            burst.state()
        }
        _ if more || all => {
            let (all_of, late) = (Many::default(), Many::default());
            let none = Burst { sure: None, last: met.last, all: all_of, late, lasts: false };
            let burst = burst.get_or_insert(none);
            burst.last = met.last;
            burst.all.add(met.users, expected);
            if burst.is_late(now) {
                burst.late.add(met.late, expected);
            }
            burst.sure = burst.sure.or(met.sure);
            let is_late = burst.late.are_more(NO_LONGER) || all && !is_timed(kind) && burst.is_late(met.last);
            burst.lasts |= at_once || is_late;
            burst.state()
        }
        _ => {
            *burst = None;
            State::Usual
        }
    }
}

/// The chance of so many events or more where `expected` come in the mean (Poisson).
fn chance_of(events: u32, expected: f64) -> f64 {
    let mut term = (-expected).exp();
    let mut below = 0.0;
    for n in 0..events {
        below += term;
        term *= expected / f64::from(n + 1);
    }
    (1.0 - below).max(0.0)
}
