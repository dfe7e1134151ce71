//! Bursts: when a server has one, and whether it is a hiccup.

use std::time::Duration;

use super::{KINDS, PRIOR, RECENT, SOON, is_timed};
use crate::judge::signals::{P50, SLO};
use crate::judge::window::EvidenceCounts;
use crate::sample::Arm;
use base::units::Nanos;

/// The longest hiccup.
const HICCUP: Duration = Duration::from_secs(2);
/// The probability below which that many users of the canary are a burst. One user alone never is. A false
/// burst favours the canary.
const NO_BURST: f64 = 0.0005;
/// The same for stable, where a false burst would count against the canary: there must be none.
const NO_BURST_OF_STABLE: f64 = 1e-9;
/// The probability below which a burst has surely begun, or goes on after two seconds. There are many hiccups, and one
/// that is wrongly taken to last is much evidence.
const NO_LONGER: f64 = 1e-6;
/// The probability below which there are fewer users than usual, or more. A false finding favours the canary.
const AS_MANY: f64 = 0.05;

/// Up to this many users the probability is summed term by term.
const FEW: u32 = 100;

/// Users who met something, and the number expected by chance.
#[derive(Clone, Copy, Debug, Default)]
struct Many {
    users: u32,
    expected: f64,
}

impl Many {
    fn of(users: u32, expected: f64) -> Many {
        Many { users, expected }
    }

    fn add(&mut self, other: Many) {
        (self.users, self.expected) = (self.users.saturating_add(other.users), self.expected + other.expected);
    }

    /// Whether they are more than chance gives with probability `chance`, which is a thousandth or less. For many users
    /// Chernoff's upper bound decides: the terms of the sum would all be zero.
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

/// A burst of a server, of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    /// Since when it surely is one; users who met it before may be chance.
    sure: Option<Nanos>,
    /// When a user last met it in a window of a likely burst.
    last: Nanos,
    /// All of its users, and those since it is too long for a hiccup.
    all: Many,
    late: Many,
    /// It lasts: it is not a hiccup.
    lasts: bool,
}

impl Burst {
    fn state(&self) -> ServerState {
        if self.lasts { ServerState::Lasts } else { ServerState::Waits }
    }

    /// Whether it is too long for a hiccup if it goes on.
    fn is_late(&self, now: Nanos) -> bool {
        self.sure.is_some_and(|sure| now.since(sure) > HICCUP)
    }
}

/// The state of a server, for one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServerState {
    /// Its users do not meet the kind more often than others.
    Usual,
    /// It has a burst that may be a hiccup.
    Waits,
    /// It has a burst that is not a hiccup.
    Lasts,
    /// It has one that is not a hiccup, without waiting for that.
    AtOnce,
}

/// What a server's users met of a kind in the open window.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsersMet {
    pub(super) users: u32,
    pub(super) first: Nanos,
    pub(super) last: Nanos,
    /// When they became more than chance gives.
    sure: Option<Nanos>,
    /// Users who met it when it was too long for a hiccup.
    late: u32,
}

/// What a server's users met in the open window.
#[derive(Debug, Default)]
pub(super) struct OfWindow {
    /// Users who asked it, and of them those whose answers were timed.
    pub(super) active: u32,
    pub(super) timed: u32,
    pub(super) met: [Option<UsersMet>; KINDS],
    /// First events; those of users who got no answer from stable either are apart.
    pub(super) counts: EvidenceCounts,
    pub(super) harm: EvidenceCounts,
}

impl OfWindow {
    /// Users who could have met the kind.
    pub(super) fn exposed(&self, kind: usize) -> u32 {
        if (P50..=SLO).contains(&kind) { self.timed } else { self.active }
    }

    /// Users who met the kind.
    pub(super) fn bad(&self, kind: usize) -> u32 {
        self.met[kind].map_or(0, |met| met.users)
    }

    /// Whether more of the server's users meet the kind than any chance gives, at the rate `rate` of stable's users: it
    /// is left out then, and excuses no other.
    pub(super) fn is_apart(&self, kind: usize, rate: f64, burst: Option<&Burst>) -> bool {
        let many = Many::of(self.bad(kind), rate * f64::from(self.exposed(kind)));
        burst.is_some() || many.are_more(NO_BURST_OF_STABLE)
    }

    /// Counts another user who meets the kind, as the share `rate` of stable's users do.
    pub(super) fn met(&mut self, kind: usize, rate: f64, burst: Option<&Burst>, now: Nanos) {
        let expected = rate * f64::from(self.exposed(kind));
        let none = UsersMet { users: 0, first: now, last: now, sure: None, late: 0 };
        let met = self.met[kind].get_or_insert(none);
        met.users += 1;
        met.last = now;
        met.late += u32::from(burst.is_some_and(|burst| burst.is_late(now)));
        if met.sure.is_none() {
            let mut all = burst.map_or(Many::default(), |burst| burst.all);
            all.add(Many::of(met.users, expected));
            met.sure = all.are_more(NO_LONGER).then_some(now);
        }
    }
}

/// Users counted before the older half is forgotten.
const TOLD: f64 = 10_000.0;

/// The rate at which a server's users meet a kind at any time. A few clients who always fail are unevenly split between
/// the arms: a hiccup must not seem to last because they go on failing after it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own {
    exposed: f64,
    bad: f64,
}

impl Own {
    /// Counts a window without a burst.
    pub(super) fn learn(&mut self, exposed: u32, bad: u32) {
        (self.exposed, self.bad) = (self.exposed + f64::from(exposed), self.bad + f64::from(bad));
        if self.exposed > TOLD {
            (self.exposed, self.bad) = (self.exposed / 2.0, self.bad / 2.0);
        }
    }

    /// The share of its users who meet the kind in a window, where that is more than the general `rate`.
    pub(super) fn or_more(&self, rate: f64) -> f64 {
        rate.max((self.bad + PRIOR.0 * rate) / (self.exposed + PRIOR.0))
    }
}

/// What is looked for at a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    pub(super) arm: Arm,
    pub(super) kind: usize,
    /// Users above the rate `likely` are likely a burst; whether it lasts is tested by `rate`.
    pub(super) likely: f64,
    pub(super) rate: f64,
    /// Whether a burst lasts from its first moment.
    pub(super) at_once: bool,
}

/// Looks at a window of a server that was last asked at `asked`.
pub(super) fn look(
    burst: &mut Option<Burst>,
    sought: Sought,
    window: &OfWindow,
    (asked, now): (Nanos, Nanos),
) -> ServerState {
    let Sought { arm, kind, likely, rate, at_once } = sought;
    let Some(met) = window.met[kind] else {
        // A burst without requests is over for now; it goes on where all fail who ask the server again.
        *burst = burst.filter(|_| window.active == 0);
        let asked_of_late = now.since(asked) < RECENT;
        return burst.filter(|_| asked_of_late).map_or(ServerState::Usual, |burst| burst.state());
    };
    let on_canary = arm == Arm::Canary;
    let everybody = on_canary && met.users == window.exposed(kind);
    // A server that had no requests meanwhile has the same burst only if it is dead.
    *burst = burst.filter(|burst| met.first.since(burst.last) < RECENT || everybody && !is_timed(kind));
    let expected = rate * f64::from(window.exposed(kind));
    let no_burst = if on_canary { NO_BURST } else { NO_BURST_OF_STABLE };
    let many = Many::of(met.users, expected);
    let more = Many { expected: likely * f64::from(window.exposed(kind)), ..many }.are_more(no_burst);
    // A server that is seldom asked, such as an ejected one, has few users, so all of them are enough.
    let all = burst.is_some() && everybody;
    match burst {
        Some(burst) if on_canary && !more && !all && met.first.since(burst.last) < SOON => {
            // The last moment of the burst, in a window that is mostly quiet.
            burst.state()
        }
        _ if more || all => {
            let (all_of, late) = (Many::default(), Many::default());
            let none = Burst { sure: None, last: met.last, all: all_of, late, lasts: false };
            let burst = burst.get_or_insert(none);
            burst.last = met.last;
            burst.all.add(many);
            if burst.is_late(now) {
                burst.late.add(Many::of(met.late, expected));
            }
            burst.sure = burst.sure.or(met.sure);
            let is_late = burst.late.are_more(NO_LONGER) || all && !is_timed(kind) && burst.late.users > 1;
            burst.lasts |= at_once || is_late;
            if at_once { ServerState::AtOnce } else { burst.state() }
        }
        _ => {
            *burst = None;
            ServerState::Usual
        }
    }
}

/// Users of an arm in a window, and their usual number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) users: f64,
    pub(super) usual: f64,
}

impl Flow {
    /// Users as a multiple of their usual number; infinite where that is zero.
    pub(super) fn part(self) -> f64 {
        self.users / self.usual
    }

    /// Whether they are fewer than chance gives.
    pub(super) fn is_less(self) -> bool {
        self.users < self.usual && self.is_no_chance()
    }

    /// Whether they are more than chance gives.
    pub(super) fn is_more(self) -> bool {
        self.usual > 0.0 && self.users > self.usual && self.is_no_chance()
    }

    /// Chernoff's bound for either side.
    fn is_no_chance(self) -> bool {
        let ln = if self.users > 0.0 { self.users * self.part().ln() } else { 0.0 };
        self.users - self.usual - ln < AS_MANY.ln()
    }
}

/// The probability of at least this many events where `expected` come in the mean (Poisson).
fn chance_of(events: u32, expected: f64) -> f64 {
    let mut term = (-expected).exp();
    let mut below = 0.0;
    for n in 0..events {
        below += term;
        term *= expected / f64::from(n + 1);
    }
    (1.0 - below).max(0.0)
}
