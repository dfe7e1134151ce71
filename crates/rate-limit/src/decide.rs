//! Decisions over several limits at once: all count a request, or none does.
//!
//! First all limits are looked at, so that a refusal usually writes nothing. Then the request is counted as in flight,
//! and then a token is taken of each rate. If one of these steps refuses, because another request was faster, the
//! others get back what was taken. Of several rates that refuse at the first look, the one with the longest wait is
//! named, and of equal ones the first; requests in flight are checked after rates. Names of limits are not known here.

use std::time::Duration;

use super::Rule;
use super::flight::{Hold, NoRoom};
use super::gcra::{Answer, Left, Rate, Ticks};
use super::table::{Key, Kind, Table};
use base::units::Nanos;

/// How long a key with all its tokens keeps its place: a thread that read its clock this long ago still finds it.
const GRACE: Ticks = Ticks::seconds(1);

/// A rule and the key that it is asked for; after the decision, what the key has left.
#[derive(Debug)]
pub struct Ask<'a> {
    rule: &'a Rule,
    key: Key,
    /// The key's time when last seen, and the moment of that look.
    seen: (Option<Ticks>, Ticks),
    free: Option<u32>,
    /// The key's time once a token was taken, in order to give it back.
    taken: Option<Ticks>,
}

/// A request that one of its limits refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The index of the ask that refused.
    pub by: usize,
    /// Which limit the key exceeds.
    pub over: Over,
}

/// The kind of limit that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The rate; the next request conforms after this time.
    Rate(Duration),
    /// Requests in flight. When one of them ends is unknown.
    Concurrency,
}

/// The kind of table whose words are times.
struct Times {
    now: Ticks,
}

impl Kind for Times {
    fn rank(&self, word: u64) -> Option<u64> {
        Some(if word.saturating_add(GRACE.0) <= self.now.0 { 0 } else { word })
    }

    fn first(&self, _before: u64, wanted: u64) -> u64 {
        wanted
    }
}

/// Counts the request in all limits if all let it pass, and in none otherwise. The holds are to be kept until the
/// request ends. The asks say what is left, also after a refusal.
pub fn decide(asks: &mut [Ask<'_>], now: Nanos) -> Result<Vec<Hold>, Refused> {
    let now = Ticks::at(now);
    if asks.len() > 1 {
        asks.iter().for_each(Ask::touch);
        look(asks, now)?;
    }
    enter(asks).and_then(|holds| take(asks, now).map(|()| holds)).inspect_err(|refused| recount(asks, *refused))
}

/// Whether all rates let the request pass now; takes nothing.
fn look(asks: &mut [Ask<'_>], now: Ticks) -> Result<(), Refused> {
    let mut longest: Option<(Duration, usize)> = None;
    for (by, ask) in asks.iter_mut().enumerate() {
        if let Some(wait) = ask.look(now)
            && longest.is_none_or(|(longest, _)| wait > longest)
        {
            longest = Some((wait, by));
        }
    }
    longest.map_or(Ok(()), |(wait, by)| Err(Refused { by, over: Over::Rate(wait) }))
}

/// Counts the request as in flight wherever that is limited. A refusal drops what was counted before it.
fn enter(asks: &mut [Ask<'_>]) -> Result<Vec<Hold>, Refused> {
    let mut holds = vec![];
    for (by, ask) in asks.iter_mut().enumerate() {
        let Some((limit, flights)) = &ask.rule.concurrency else { continue };
        match flights.enter(ask.key, *limit) {
            Ok((hold, count)) => {
                holds.push(hold);
                ask.free = Some(limit - count);
            }
            Err(NoRoom) => return Err(Refused { by, over: Over::Concurrency }),
        }
    }
    Ok(holds)
}

/// Takes a token of every rate; gives back what was taken before a refusal.
#[inline]
fn take(asks: &mut [Ask<'_>], now: Ticks) -> Result<(), Refused> {
    for by in 0..asks.len() {
        if let Err(wait) = asks[by].take(now) {
            asks[..by].iter_mut().for_each(|ask| ask.give_back(now));
            return Err(Refused { by, over: Over::Rate(wait) });
        }
    }
    Ok(())
}

/// Updates the asks to what is in flight without the refused request.
#[cold]
fn recount(asks: &mut [Ask<'_>], refused: Refused) {
    asks.iter_mut().for_each(Ask::count);
    if refused.over == Over::Concurrency {
        asks[refused.by].free = Some(0);
    }
}

impl<'a> Ask<'a> {
    /// Asks `rule` for a key that was begun with it.
    pub fn new(rule: &'a Rule, key: Key) -> Ask<'a> {
        Ask { rule, key, seen: (None, Ticks(0)), free: None, taken: None }
    }

    /// What the key has left of the rate, if the rule has one.
    pub fn left(&self) -> Option<Left> {
        self.rule.rate().map(|rate| rate.left(self.seen.0, self.seen.1))
    }

    /// Requests that may still begin beside those in flight, if the rule limits them.
    pub fn free(&self) -> Option<u32> {
        self.free
    }

    fn touch(&self) {
        if let Some((_, rates)) = &self.rule.rate {
            rates.touch(self.key);
        }
        if let Some((_, flights)) = &self.rule.concurrency {
            flights.touch(self.key);
        }
    }

    fn count(&mut self) {
        let flying = self.rule.concurrency.as_ref();
        self.free = flying.map(|(limit, flights)| limit.saturating_sub(flights.count(self.key)));
    }

    /// How long the rate has no token; `None` while it has one. Takes nothing.
    pub(super) fn look(&mut self, now: Ticks) -> Option<Duration> {
        self.count();
        let (rate, rates) = self.rule.rate.as_ref()?;
        let time = rates.look(self.key).map(Ticks);
        self.seen = (time, now);
        let Answer::TooEarly { mend } = rate.ask(time, now) else { return None };
        if let Some(mend) = mend {
            let same = |word: Option<u64>| word == time.map(|time| time.0);
            let _ = rates.change(self.key, &Times { now }, |word| same(word).then_some(mend.0));
        }
        Some(rate.left(time, now).next)
    }

    /// Takes a token, or returns how long there will be none.
    #[inline]
    fn take(&mut self, now: Ticks) -> Result<(), Duration> {
        let Some((rate, rates)) = &self.rule.rate else { return Ok(()) };
        self.taken = self.swap(rate, rates, now);
        match self.taken {
            Some(_) => Ok(()),
            None => Err(rate.left(self.seen.0, now).next),
        }
    }

    /// Takes a token; returns the key's time after it, or `None` where there is none.
    #[inline]
    fn swap(&mut self, rate: &Rate, rates: &Table, now: Ticks) -> Option<Ticks> {
        let mut taken = None;
        // The table is never full: some place can always be given away.
        let _ = rates.change(self.key, &Times { now }, |word| {
            let time = word.map(Ticks);
            match rate.ask(time, now) {
                Answer::Conforms(next) => {
                    (taken, self.seen) = (Some(next), (Some(next), now));
                    Some(next.0)
                }
                Answer::TooEarly { mend } => {
                    (taken, self.seen) = (None, (time, now));
                    mend.map(|mend| mend.0)
                }
            }
        });
        taken
    }

    fn give_back(&mut self, now: Ticks) {
        let (Some((rate, rates)), Some(taken)) = (&self.rule.rate, self.taken.take()) else { return };
        let mut time = None;
        let _ = rates.change(self.key, &Times { now }, |word| {
            let before = Ticks(word?);
            let after = rate.give_back(before, taken);
            time = Some(after.unwrap_or(before));
            after.map(|after| after.0)
        });
        self.seen = (time, now);
    }
}
