//! The counts of the load, by phases of the story.
//!
//! A request belongs to the phase in which it was sent, whenever its answer comes. So once no request of a phase is in
//! flight, sent is answered plus failed. `closed` counts connections that were closed before the gateway announced it
//! in an answer. One backend can be followed: which users it answered, and whether another backend answered a later
//! request of one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

/// Examples of failures that each phase keeps.
const EXAMPLES: usize = 3;

/// The counts of all phases.
#[derive(Default)]
pub struct Book {
    phases: Mutex<Vec<Phase>>,
    followed: Mutex<Followed>,
}

/// What is known of the followed backend since it is followed.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    backend: &'static str,
    /// The users that it answered.
    pub users: BTreeSet<u32>,
    /// Later requests of these users that another backend answered.
    pub strays: u64,
}

#[derive(Default)]
struct Phase {
    name: &'static str,
    sent: u64,
    answered: u64,
    failed: u64,
    closed: u64,
    latencies_us: Vec<u32>,
    by_backend: BTreeMap<String, u64>,
    examples: Vec<String>,
}

/// The handle of a phase.
#[derive(Clone, Copy)]
pub struct Ticket(usize);

/// A sent request: its phase, its user, and whether the followed backend had answered that user by then.
#[derive(Clone, Copy)]
pub struct Sent {
    phase: usize,
    user: u32,
    is_bound: bool,
}

/// The counts of a phase.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Its name.
    pub phase: &'static str,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered rightly: 2xx, by a backend, to this very request.
    pub answered: u64,
    /// All other requests.
    pub failed: u64,
    /// Connections closed without notice.
    pub closed: u64,
    /// The median latency in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile of the latency in milliseconds.
    pub p99_ms: f64,
    /// Answers by backend.
    pub by_backend: BTreeMap<String, u64>,
    /// Examples of failures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

impl Book {
    /// Begins a phase, to which requests belong from now on.
    pub fn begin(&self, name: &'static str) -> Ticket {
        let mut phases = self.phases.lock();
        phases.push(Phase { name, ..Phase::default() });
        Ticket(phases.len() - 1)
    }

    /// Follows this backend from now on, and no other.
    pub fn follow(&self, backend: &'static str) {
        *self.followed.lock() = Followed { backend, ..Followed::default() };
    }

    /// What is known of the followed backend.
    pub fn followed(&self) -> Followed {
        self.followed.lock().clone()
    }

    /// Counts a user's request that is about to be sent.
    pub fn sent(&self, user: u32) -> Sent {
        let is_bound = self.followed.lock().users.contains(&user);
        let mut phases = self.phases.lock();
        if phases.is_empty() {
            phases.push(Phase::default());
        }
        let last = phases.len() - 1;
        phases[last].sent += 1;
        Sent { phase: last, user, is_bound }
    }

    /// Counts an answer of a backend.
    pub fn answered(&self, sent: Sent, backend: &str, after: Duration) {
        self.followed.lock().answered(sent, backend);
        let phase = &mut self.phases.lock()[sent.phase];
        phase.answered += 1;
        phase.latencies_us.push(u32::try_from(after.as_micros()).unwrap_or(u32::MAX));
        match phase.by_backend.get_mut(backend) {
            Some(count) => *count += 1,
            None => drop(phase.by_backend.insert(backend.to_owned(), 1)),
        }
    }

    /// Counts a request without an answer, or with a wrong one.
    pub fn failed(&self, sent: Sent, why: String) {
        let phase = &mut self.phases.lock()[sent.phase];
        phase.failed += 1;
        if phase.examples.len() < EXAMPLES {
            phase.examples.push(why);
        }
    }

    /// Counts an idle connection that was closed without notice.
    pub fn closed(&self) {
        if let Some(phase) = self.phases.lock().last_mut() {
            phase.closed += 1;
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.phases.lock().iter().map(Phase::in_flight).sum()
    }

    /// Whether no request of a phase is in flight.
    pub fn is_settled(&self, Ticket(phase): Ticket) -> bool {
        self.phases.lock()[phase].in_flight() == 0
    }

    /// The counts of a phase so far.
    pub fn counts(&self, Ticket(phase): Ticket) -> Counts {
        self.phases.lock()[phase].counts()
    }

    /// The counts of all phases so far.
    pub fn all(&self) -> Vec<Counts> {
        self.phases.lock().iter().map(Phase::counts).collect()
    }
}

impl Followed {
    fn answered(&mut self, sent: Sent, backend: &str) {
        if backend == self.backend {
            self.users.insert(sent.user);
        } else if sent.is_bound {
            self.strays += 1;
        }
    }
}

impl Phase {
    fn in_flight(&self) -> u64 {
        self.sent - self.answered - self.failed
    }

    fn counts(&self) -> Counts {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        Counts {
            phase: self.name,
            sent: self.sent,
            answered: self.answered,
            failed: self.failed,
            closed: self.closed,
            p50_ms: quantile_ms(&sorted, 50),
            p99_ms: quantile_ms(&sorted, 99),
            by_backend: self.by_backend.clone(),
            examples: self.examples.clone(),
        }
    }
}

impl Counts {
    /// A backend's share of the answers, in percent.
    pub fn percent(&self, backend: &str) -> f64 {
        let count = self.by_backend.get(backend).copied().unwrap_or_default();
        100.0 * count as f64 / self.answered.max(1) as f64
    }

    /// The difference to an earlier count of the same phase.
    pub fn since(&self, before: &Counts) -> Counts {
        let earlier = |backend: &String| before.by_backend.get(backend).copied().unwrap_or_default();
        let by_backend = self.by_backend.iter().map(|(b, n)| (b.clone(), n - earlier(b))).collect();
        Counts { answered: self.answered - before.answered, by_backend, ..self.clone() }
    }
}

fn quantile_ms(sorted_us: &[u32], percent: usize) -> f64 {
    let place = (sorted_us.len() * percent).div_ceil(100).saturating_sub(1);
    sorted_us.get(place).map_or(0.0, |us| f64::from(us / 10) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_for_the_phase_it_was_sent_in() {
        let book = Book::default();
        let first = book.begin("first");
        let (a, b) = (book.sent(1), book.sent(2));
        let second = book.begin("second");
        book.answered(a, "b1", Duration::from_millis(2));
        assert!(!book.is_settled(first) && book.is_settled(second));
        book.failed(b, "why".into());
        let counts = book.counts(first);
        assert_eq!((counts.sent, counts.answered, counts.failed, counts.p99_ms), (2, 1, 1, 2.0));
        assert_eq!((counts.percent("b1"), counts.percent("b2"), book.in_flight()), (100.0, 0.0, 0));
    }

    #[test]
    fn a_user_strays_only_with_a_request_that_he_sent_after_the_answer() {
        let book = Book::default();
        book.begin("all");
        book.follow("c1");
        let (first, early) = (book.sent(7), book.sent(7));
        book.answered(first, "c1", Duration::ZERO);
        book.answered(early, "b1", Duration::ZERO);
        book.answered(book.sent(8), "b1", Duration::ZERO);
        assert_eq!((book.followed().users, book.followed().strays), (BTreeSet::from([7]), 0));
        book.answered(book.sent(7), "b1", Duration::ZERO);
        assert_eq!(book.followed().strays, 1);
        book.follow("c2");
        assert_eq!((book.followed().users.len(), book.followed().strays), (0, 0));
    }

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let us: Vec<u32> = (1..=100).map(|ms| ms * 1000).collect();
        assert_eq!((quantile_ms(&us, 50), quantile_ms(&us, 99), quantile_ms(&[], 50)), (50.0, 99.0, 0.0));
    }
}
