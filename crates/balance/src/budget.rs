//! The retry budget: how many retries an upstream may add to its own load, so that clients' patience does not also
//! multiply the load of a failing fleet.
//!
//! After Finagle's `RetryBudget`: retries of the last 10 s may be a share of the requests of the last 10 s, and never
//! less than 10 a second (100 in the window). The window is made of ten buckets of one second, the running one
//! included, so it covers nine to ten seconds. Requests are counted in one of several shards, so that cores do not
//! contend for a cache line. Retries are few and counted in one place, first counted and then judged, so that of two
//! that reach the limit together at most one goes ahead (and, at worst, neither). Why a retry is wanted is not known
//! here. Free retries, such as of a dead pooled connection, are not covered: those do not ask.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use base::units::{Nanos, Share};

/// Seconds of the window.
const WINDOW: u64 = 10;
/// Retries per second that are always allowed.
const FLOOR: u64 = 10;
/// Counters of requests; threads are spread over them.
const SHARDS: usize = 8;

/// The retry budget of an upstream.
#[derive(Clone, Debug)]
pub struct Budget {
    share: Share,
    /// Retries of a window that are always allowed.
    floor: u64,
    tally: Arc<Tally>,
}

/// The counts; they outlive snapshots.
#[derive(Debug, Default)]
struct Tally {
    requests: [Counter; SHARDS],
    retries: Counter,
}

/// Events of the last seconds.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counter {
    /// Upper half: the second, from 1 on; lower half: events in it.
    buckets: [AtomicU64; WINDOW as usize],
}

impl Budget {
    /// A budget of `share` of the requests; goes on with the counts of `previous`.
    pub fn new(share: Share, previous: Option<&Budget>) -> Budget {
        let tally = previous.map(|p| Arc::clone(&p.tally)).unwrap_or_default();
        Budget { share, floor: FLOOR * WINDOW, tally }
    }

    /// A budget of nothing but `share` of the requests.
    pub fn without_floor(share: Share) -> Budget {
        Budget { share, floor: 0, tally: Arc::default() }
    }

    /// Counts a request; not its retries.
    pub fn request(&self, now: Nanos) {
        self.tally.requests[shard()].add(now);
    }

    /// Whether one more retry fits; counts it if so.
    pub fn try_retry(&self, now: Nanos) -> bool {
        self.try_share(self.share, now)
    }

    /// The same with another share.
    pub fn try_share(&self, share: Share, now: Nanos) -> bool {
        let counted = self.tally.retries.add(now);
        let fits = self.tally.retries.sum(now) <= self.limit_of(share, now);
        if !fits {
            self.tally.retries.take_back(counted);
        }
        fits
    }

    /// Retries allowed in the window that ends now.
    pub fn limit(&self, now: Nanos) -> u64 {
        self.limit_of(self.share, now)
    }

    fn limit_of(&self, share: Share, now: Nanos) -> u64 {
        let requests: u64 = self.tally.requests.iter().map(|shard| shard.sum(now)).sum();
        let allowed = (share.fraction() * requests as f64 + 1e-9) as u64;
        allowed.max(self.floor)
    }
}

impl Counter {
    /// Counts one event; returns the second of its bucket.
    fn add(&self, now: Nanos) -> u64 {
        let second = second(now);
        let bucket = &self.buckets[(second % WINDOW) as usize];
        let mut old = bucket.load(Relaxed);
        loop {
            if old >> 32 >= second {
                // The usual case, and a clock that another core reads a little later: one increment.
                bucket.fetch_add(1, Relaxed);
                return old >> 32;
            }
            match bucket.compare_exchange_weak(old, second << 32 | 1, Relaxed, Relaxed) {
                Ok(_) => return second,
                Err(other) => old = other,
            }
        }
    }

    /// Takes back one event of that second, unless the second has left the window.
    fn take_back(&self, second: u64) {
        let bucket = &self.buckets[(second % WINDOW) as usize];
        let less = |old: u64| (old >> 32 == second && old & 0xffff_ffff > 0).then(|| old - 1);
        let _ = bucket.fetch_update(Relaxed, Relaxed, less);
    }

    /// Events of the window that ends now.
    fn sum(&self, now: Nanos) -> u64 {
        let oldest = second(now).saturating_sub(WINDOW - 1);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Relaxed));
        counts.filter(|count| count >> 32 >= oldest.max(1)).map(|count| count & 0xffff_ffff).sum()
    }
}

/// The running second, from 1 on: 0 marks a bucket that was never used.
fn second(now: Nanos) -> u64 {
    now.0 / 1_000_000_000 + 1
}

/// The calling thread's shard.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = const { Cell::new(usize::MAX) });
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        mine.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Nanos {
        Nanos((seconds * 1e9) as u64)
    }

    fn budget(percent: f64) -> Budget {
        Budget::new(Share::percent(percent).unwrap(), None)
    }

    fn retries(budget: &Budget, now: Nanos) -> usize {
        (0..100_000).take_while(|_| budget.try_retry(now)).count()
    }

    #[test]
    fn a_quiet_upstream_has_ten_a_second() {
        let budget = budget(20.0);
        assert_eq!(retries(&budget, at(0.0)), 100);
        assert_eq!(retries(&budget, at(9.9)), 0, "the window holds all of them");
        assert_eq!(retries(&budget, at(10.0)), 100, "the first second has left it");
        assert_eq!(retries(&super::tests::budget(0.0), at(3.0)), 100, "even of a budget of nothing");
    }

    #[test]
    fn a_busy_one_has_its_share() {
        let budget = budget(20.0);
        for i in 0..10_000 {
            budget.request(at(f64::from(i) / 1_000.0));
        }
        assert_eq!(budget.limit(at(9.99)), 2_000);
        assert_eq!(retries(&budget, at(9.99)), 2_000);
        assert_eq!(budget.limit(at(14.5)), 1_000, "half of the requests have left the window");
        assert_eq!(budget.limit(at(60.0)), 100);
        assert_eq!(retries(&budget, at(60.0)), 100);
    }

    #[test]
    fn a_refused_retry_does_not_count() {
        let budget = budget(100.0);
        assert_eq!(retries(&budget, at(1.0)), 100);
        for _ in 0..50 {
            assert!(!budget.try_retry(at(1.0)));
        }
        for _ in 0..150 {
            budget.request(at(1.0));
        }
        assert_eq!(retries(&budget, at(1.0)), 50);
    }

    #[test]
    fn a_new_snapshot_goes_on_counting() {
        let old = budget(20.0);
        assert_eq!(retries(&old, at(1.0)), 100);
        let new = Budget::new(Share::percent(50.0).unwrap(), Some(&old));
        assert!(!new.try_retry(at(1.0)));
        for _ in 0..1_000 {
            old.request(at(2.0));
        }
        assert_eq!(retries(&new, at(2.0)), 400);
    }

    #[test]
    fn threads_never_exceed_it() {
        let budget = budget(10.0);
        let granted: usize = std::thread::scope(|scope| {
            let work = || {
                (0..5_000).filter(|_| {
                    budget.request(at(5.0));
                    budget.try_retry(at(5.0))
                })
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(move || work().count())).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(budget.limit(at(5.0)), 4_000, "no request was lost");
        assert!((1..=4_000).contains(&granted), "{granted}");
        assert_eq!(budget.tally.retries.sum(at(5.0)), granted as u64, "what was refused was taken back");
    }

    #[test]
    fn time_that_runs_back_counts_on() {
        let budget = budget(100.0);
        for _ in 0..300 {
            budget.request(at(12.0));
            budget.request(at(2.0));
        }
        assert_eq!(budget.limit(at(12.0)), 600);
    }
}
