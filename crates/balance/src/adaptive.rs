//! Adaptive concurrency: a limit of requests in flight that finds itself. What an upstream cannot serve in time is
//! refused at once, so that what is admitted is still served.
//!
//! The idea is that of Netflix's `concurrency-limits` (`Gradient2Limit`, `VegasLimit`) and of Envoy's adaptive
//! concurrency filter: latency that rises above what the servers need by themselves is a queue, and a queue shows that
//! the limit is too high. Three things are different, each because of a fault of the others:
//!
//! - **The measure is a mean with its error**, not a minimum or a percentile. By Little's law the mean is what ties
//!   latency to the requests in flight; it is stable when a few answers are slow by nature; and a window goes on until
//!   the mean is known well enough to judge by.
//! - **A verdict is an experiment.** When the limit was lowered because of a queue, the latency must fall with it.
//!   Where it does not, there was no queue: the servers are slower than they were (a deploy), the new latency is
//!   theirs, and the old limit comes back.
//! - **The latency without a queue is measured again without a gap in the service.** Gradient2 lets it drift, so that a
//!   long overload raises the limit by and by; Envoy admits three requests at a time to measure it. Here a measurement
//!   lowers the limit to nine tenths of what the servers work on at once, some tens of percent, and only under an
//!   overload; without one every window measures it.
//!
//! `control` decides; this file counts. A request costs a few relaxed atomics on the cache lines of one upstream. The
//! limit is computed once a window by the request that crosses its end, and no other waits for that. Requests count
//! until the head of their answer, so streams and WebSockets do not pin the limit. Not covered: queues of our own, and
//! which of several clients should be refused.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;

use self::control::{Control, MOST_ANSWERS, Moments, Next, Window};
use base::units::{Nanos, nanoseconds};

mod control;
#[cfg(test)]
mod tests;

/// The longest latency that is told apart, in microseconds: a minute. It keeps the sums below their overflow.
const LONGEST: u64 = 60_000_000;

/// The limit of an upstream, and the counts from which it is found.
#[derive(Debug)]
pub struct Adaptive {
    gate: Gate,
    counts: Counts,
    control: Mutex<Control>,
}

/// The fields that each request reads and writes.
#[derive(Debug)]
#[repr(align(128))]
struct Gate {
    in_flight: AtomicU32,
    limit: AtomicU32,
    /// The mean latency of the last window, in nanoseconds.
    usual: AtomicU64,
}

/// The counts of the running window.
#[derive(Debug)]
#[repr(align(128))]
struct Counts {
    /// When it begins to count: earlier answers were admitted under another limit.
    from: AtomicU64,
    /// When it may end.
    end: AtomicU64,
    answered: AtomicU32,
    /// Latencies in microseconds, and their squares.
    sum: AtomicU64,
    squares: AtomicU64,
    /// Requests in flight when each of them was admitted, their squares, and their products with the latency.
    loads: AtomicU64,
    loads_squared: AtomicU64,
    products: AtomicU64,
    lost: AtomicU32,
    refused: AtomicU32,
    admitted: AtomicU32,
    peak: AtomicU32,
}

/// A request's place under the limit. Dropping gives it back; that alone says nothing about the servers.
#[derive(Debug)]
pub struct Permit {
    of: Arc<Adaptive>,
    since: Nanos,
    /// Requests in flight with it when it was admitted.
    load: u32,
}

impl Adaptive {
    /// A limit without measurements yet.
    pub fn new(now: Nanos) -> Adaptive {
        let (control, first) = Control::new();
        let adaptive = Adaptive {
            gate: Gate { in_flight: AtomicU32::new(0), limit: AtomicU32::new(0), usual: AtomicU64::new(0) },
            counts: Counts {
                from: AtomicU64::new(0),
                end: AtomicU64::new(0),
                answered: AtomicU32::new(0),
                sum: AtomicU64::new(0),
                squares: AtomicU64::new(0),
                loads: AtomicU64::new(0),
                loads_squared: AtomicU64::new(0),
                products: AtomicU64::new(0),
                lost: AtomicU32::new(0),
                refused: AtomicU32::new(0),
                admitted: AtomicU32::new(0),
                peak: AtomicU32::new(0),
            },
            control: Mutex::new(control),
        };
        adaptive.begin(first, now);
        adaptive
    }

    /// Counts a request in; `None` where the limit is reached.
    pub fn try_enter(self: &Arc<Self>, now: Nanos) -> Option<Permit> {
        let limit = self.gate.limit.load(Relaxed);
        let entered = self.gate.in_flight.fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1));
        let Ok(before) = entered else {
            self.refused(now);
            return None;
        };
        Some(self.entered(before, now))
    }

    /// Whether a request may begin that is counted in once it is whole; if not, that is a refusal like others.
    pub fn admits(&self, now: Nanos) -> bool {
        let room = self.has_room();
        if !room {
            self.refused(now);
        }
        room
    }

    /// Counts in a request that was admitted before and is whole now; it cannot be refused any more.
    pub fn enter(self: &Arc<Self>, now: Nanos) -> Permit {
        let before = self.gate.in_flight.fetch_add(1, Relaxed);
        self.entered(before, now)
    }

    fn entered(self: &Arc<Self>, before: u32, now: Nanos) -> Permit {
        if self.counts.from.load(Relaxed) <= now.0 {
            self.counts.admitted.fetch_add(1, Relaxed);
            if before >= self.counts.peak.load(Relaxed) {
                self.counts.peak.fetch_max(before + 1, Relaxed);
            }
        }
        Permit { of: Arc::clone(self), since: now, load: before + 1 }
    }

    fn refused(&self, now: Nanos) {
        if self.counts.from.load(Relaxed) <= now.0 {
            self.counts.refused.fetch_add(1, Relaxed);
        }
        self.turn(now);
    }

    /// Whether one more request would be admitted now.
    pub fn has_room(&self) -> bool {
        self.in_flight() < self.limit()
    }

    /// Requests that may be in flight.
    pub fn limit(&self) -> u32 {
        self.gate.limit.load(Relaxed)
    }

    /// Requests in flight without an answer yet.
    pub fn in_flight(&self) -> u32 {
        self.gate.in_flight.load(Relaxed)
    }

    fn observe(&self, load: u32, latency: Duration, now: Nanos) {
        let counts = &self.counts;
        if counts.from.load(Relaxed) > now.0 {
            return;
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, LONGEST);
        counts.sum.fetch_add(micros, Relaxed);
        counts.squares.fetch_add(micros * micros, Relaxed);
        let load = u64::from(load);
        counts.loads.fetch_add(load, Relaxed);
        counts.loads_squared.fetch_add(load * load, Relaxed);
        counts.products.fetch_add(load * micros, Relaxed);
        counts.answered.fetch_add(1, Relaxed);
        self.turn(now);
    }

    fn lose(&self, now: Nanos) {
        if self.counts.from.load(Relaxed) <= now.0 {
            self.counts.lost.fetch_add(1, Relaxed);
        }
    }

    /// Ends the window where it is over and has enough answers; a thread that comes while another does so goes on.
    fn turn(&self, now: Nanos) {
        let counts = &self.counts;
        if now.0 < counts.end.load(Relaxed) && counts.answered.load(Relaxed) < MOST_ANSWERS {
            return;
        }
        let Some(mut control) = self.control.try_lock() else { return };
        let elapsed = now.since(Nanos(counts.from.load(Relaxed)));
        let window = self.window(elapsed);
        if elapsed.is_zero() || !control.is_told_enough(&window) {
            // To be looked at again a little later.
            counts.end.store(now.after(elapsed / 4 + Duration::from_millis(1)).0, Relaxed);
            return;
        }
        let next = control.decide(&window);
        if window.answered > 0 {
            self.gate.usual.store((window.mean * 1e3) as u64, Relaxed);
        }
        self.begin(next, now);
    }

    fn window(&self, elapsed: Duration) -> Window {
        let counts = &self.counts;
        let answered = counts.answered.load(Relaxed);
        let sum = |sum: &AtomicU64| sum.load(Relaxed) as f64;
        let moments = Moments {
            n: answered.into(),
            y: sum(&counts.sum),
            yy: sum(&counts.squares),
            x: sum(&counts.loads),
            xx: sum(&counts.loads_squared),
            xy: sum(&counts.products),
        };
        Window {
            elapsed: elapsed.as_secs_f64(),
            answered,
            mean: moments.y / moments.n.max(1.0),
            moments,
            lost: counts.lost.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            admitted: counts.admitted.load(Relaxed),
            peak: counts.peak.load(Relaxed),
        }
    }

    fn begin(&self, next: Next, now: Nanos) {
        let counts = &self.counts;
        let from = now.after(next.settle);
        counts.from.store(from.0, Relaxed);
        counts.end.store(from.after(next.measure).0, Relaxed);
        self.gate.limit.store(next.limit, Relaxed);
        for count in [&counts.answered, &counts.lost, &counts.refused, &counts.admitted] {
            count.store(0, Relaxed);
        }
        counts.peak.store(self.in_flight(), Relaxed);
        for sum in [&counts.sum, &counts.squares, &counts.loads, &counts.loads_squared, &counts.products] {
            sum.store(0, Relaxed);
        }
    }
}

impl Permit {
    /// Says that the server has the whole request only now: the time that the client took to
    /// send it is not the server's.
    pub fn sent(&mut self, now: Nanos) {
        self.since = self.since.max(now);
    }

    /// Counts an answer, at its head.
    pub fn answered(self, now: Nanos) {
        self.of.observe(self.load, now.since(self.since), now);
    }

    /// Counts a request whose time limit passed: the load was more than could be served.
    pub fn timed_out(self, now: Nanos) {
        self.of.lose(now);
        self.of.turn(now);
    }

    /// Counts a request whose client left. If it had waited for long, the answer would have taken at least that long;
    /// otherwise nothing is known. Without this, an overload whose clients all lose patience would go unseen.
    pub fn left(self, now: Nanos) {
        let waited = now.since(self.since);
        if nanoseconds(waited) > self.of.gate.usual.load(Relaxed) / 2 {
            self.of.lose(now);
            self.of.observe(self.load, waited, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.of.gate.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a request left that never entered");
    }
}
