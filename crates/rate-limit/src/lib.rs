//! Rate limits: how many requests a key may make in a period, and how many at once.
//!
//! A [`Rule`] is a limit of one snapshot; a [`Limiter`] holds the counts of all limits and outlives snapshots. A
//! request asks with the rules of its route and its app together: either all let it pass and all count it, or none
//! does. The engine is pure (time and the hash's key are arguments) and takes no lock on a key that it knows. A
//! decision among a million keys costs about one cache miss.
//!
//! - `gcra`: the rule of a rate. `table`: keys and words in fixed memory. `flight`: requests in flight.
//! - `decide`: several limits at once. [`key`]: a request's parts as 64 bits. [`field`]: the headers for the client.
//!
//! **Errors.** There are none against the rule on a key that is in the table, on however many cores. A key with all its
//! tokens is as good as absent. Its place is given away freely, but a second later, so that a thread which read its
//! clock before still finds it. Only where all thirty-two places of a set are in use does a new key take the place of
//! the one that is nearest to all its tokens: that key gets back early what it had spent, an error in its favour, and
//! never against any key. Of a million live keys that happens to six, of 1.3 million to one in two thousand, of two
//! million to one in twenty. Counts of requests in flight are never given up: where there is no place the request is
//! refused, since a limit without a count cannot be held. Of half a million keys in flight that happens to three. Where
//! several rules let a request pass, and one of them changes its mind before the count is made, the request gives back
//! what it took from the others. Until then, some hundred nanoseconds, they have one token less.
//!
//! **A hot swap.** Counts belong to a limit's name and key, not to its rate. An unchanged limit goes on as it was. What
//! is kept of a key is the time at which it has all its tokens again. With another rate or burst that time stays. Where
//! it lies more than five seconds beyond that of a key which has just spent everything, it becomes that. So after a
//! change a key waits as long as it had to before, but no longer than the new limit makes it wait, and five seconds.
//!
//! Not covered: sharing counts between machines.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

use std::sync::{Arc, OnceLock};

use ahash::RandomState;

mod decide;
pub mod field;
mod flight;
mod gcra;
pub mod key;
mod table;
#[cfg(test)]
mod tests;

pub use self::decide::{Ask, Over, Refused, decide};
use self::flight::Flights;
pub use self::flight::Hold;
pub use self::gcra::{Left, Rate, RateError};
pub use self::table::Key;
use self::table::Table;

/// Sets of the table of rates, as a power of two: two million places in 32 MiB.
const RATE_BITS: u32 = 16;
/// Sets of the table of requests in flight, likewise: a million places in 16 MiB.
const FLIGHT_BITS: u32 = 15;

/// The counts of all limits. Each table is made when the first rule needs it, and never grows.
#[derive(Debug)]
pub struct Limiter {
    hash: RandomState,
    rates: OnceLock<Arc<Table>>,
    flights: OnceLock<Arc<Flights>>,
    rate_bits: u32,
    flight_bits: u32,
}

/// One limit.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The hasher with the limit's part of every key.
    begun: key::Hasher,
    rate: Option<(Rate, Arc<Table>)>,
    concurrency: Option<(u32, Arc<Flights>)>,
}

impl Limiter {
    /// A limiter without counts. `hash` is random, so that no client can choose keys that collide.
    pub fn new(hash: RandomState) -> Limiter {
        Limiter::of_sets(hash, RATE_BITS, FLIGHT_BITS)
    }

    fn of_sets(hash: RandomState, rate_bits: u32, flight_bits: u32) -> Limiter {
        Limiter { hash, rates: OnceLock::new(), flights: OnceLock::new(), rate_bits, flight_bits }
    }

    /// A rule. Rules of the same `name` and key `definition` count together, in whatever snapshots they are.
    pub fn rule(&self, name: &str, definition: &str, rate: Option<Rate>, concurrency: Option<u32>) -> Rule {
        let mut begun = key::Hasher::new(&self.hash);
        begun.part(name.as_bytes());
        begun.part(definition.as_bytes());
        let rates = || Arc::clone(self.rates.get_or_init(|| Arc::new(Table::new(self.rate_bits))));
        let flights = || Arc::clone(self.flights.get_or_init(|| Arc::new(Flights::new(self.flight_bits))));
        Rule { begun, rate: rate.map(|rate| (rate, rates())), concurrency: concurrency.map(|limit| (limit, flights())) }
    }

    /// The size of the tables that exist, in bytes.
    pub fn memory(&self) -> usize {
        self.rates.get().map_or(0, |rates| rates.memory()) + self.flights.get().map_or(0, |flights| flights.memory())
    }
}

impl Rule {
    /// The rule's rate.
    pub fn rate(&self) -> Option<&Rate> {
        self.rate.as_ref().map(|(rate, _)| rate)
    }

    /// Requests of a key that may be in flight.
    pub fn concurrency(&self) -> Option<u32> {
        self.concurrency.as_ref().map(|(limit, _)| *limit)
    }

    /// Begins the key of a request.
    pub fn key(&self) -> key::Hasher {
        self.begun.clone()
    }
}
