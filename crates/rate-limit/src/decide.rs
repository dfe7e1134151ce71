//! Several limits at once: all count a request, or none does.
//!
//! First all are looked at, so that what is refused usually writes nothing. Then the request is counted as in flight,
//! then a token is taken of each rate. What one of these steps refuses, because another request was faster, the others
//! get back. Of several rates that refuse at the first look the one with the longest wait is named, of equal ones the first;
//! requests in flight are looked at after rates. It does not know what a limit is called.

use std::time::Duration;

use super::Rule;
use super::flight::{Hold, NoRoom};
use super::gcra::{Answer, Left, Rate, Ticks};
use super::table::{Key, Kind, Table};
use base::units::Nanos;

/// How long a key that has all its tokens keeps its place: a thread that read its clock so long ago still finds it.
const GRACE: Ticks = Ticks::seconds(1);

/// A rule and the key that it is asked for; after the decision, what the key has left.
#[derive(Debug)]
pub struct Ask<'a> {
    rule: &'a Rule,
    key: Key,
    /// The key's time when last seen, and when that was.
    seen: (Option<Ticks>, Ticks),
    free: Option<u32>,
    /// The key's time once a token was taken, to give it back.
    taken: Option<Ticks>,
}

/// A request that one of its limits does not let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which of the asks.
    pub by: usize,
    /// What it has too many of.
    pub over: Over,
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Requests in a time; the next one conforms after this.
    Rate(Duration),
    /// Requests in flight. When one ends is anybody's guess.
    Concurrency,
}

/// Words that are times.
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

/// Whether all let the request pass; counts it then in all of them, and in none otherwise. The holds are to be kept until
/// the request ends. What is left stands in the asks, also where it was refused.
pub fn decide(asks: &mut [Ask<'_>], now: Nanos) -> Result<Vec<Hold>, Refused> {
    let now = Ticks::at(now);
    if asks.len() > 1 {
        asks.iter().for_each(Ask::touch);
        look(asks, now)?;
    }
    enter(asks).and_then(|holds| take(asks, now).map(|()| holds)).inspect_err(|refused| recount(asks, *refused))
}

/// Whether all rates let the request pass, as of now; takes nothing.
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

/// Counts the request as in flight wherever that is limited. What was counted before a refusal is dropped with it.
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

/// Takes a token of every rate; what was taken before a refusal is given back.
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

/// Says what is in flight without the request that was refused.
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

    /// Requests that may still begin while those in flight are, if the rule says how many.
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

    /// Takes a token, or says how long there will be none.
    #[inline]
    fn take(&mut self, now: Ticks) -> Result<(), Duration> {
        let Some((rate, rates)) = &self.rule.rate else { return Ok(()) };
        self.taken = self.swap(rate, rates, now);
        match self.taken {
            Some(_) => Ok(()),
            None => Err(rate.left(self.seen.0, now).next),
        }
    }

    /// The key's time after the token was taken.
    #[inline]
    fn swap(&mut self, rate: &Rate, rates: &Table, now: Ticks) -> Option<Ticks> {
        let mut taken = None;
        // It is never full: some place can always be given away.
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
