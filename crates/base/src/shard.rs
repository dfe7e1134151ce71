//! Sharded counters, without contention between cores.
//!
//! Each worker thread adds to a cell of its own, and a reader sums the cells. A sum read while others add
//! may miss the latest additions, but never counts one twice. Threads beyond the number of cells share;
//! they stay exact, only slower.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The number of cells of a counter. More threads than this share cells.
pub const SHARDS: usize = 8;

/// The index of this thread's cell.
pub fn index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    INDEX.with(|cell| {
        if cell.get() == usize::MAX {
            cell.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        cell.get()
    })
}

/// A value for each shard, on cache lines of its own.
#[derive(Debug, Default)]
pub struct Sharded<T>([Line<T>; SHARDS]);

/// 128 bytes: two lines, as neighbouring ones are fetched together on x86.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T> Sharded<T> {
    /// This thread's value.
    pub fn mine(&self) -> &T {
        &self.0[index()].0
    }

    /// All values.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }
}

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(Sharded<AtomicU64>);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.mine().fetch_add(n, Ordering::Relaxed);
    }

    /// The sum of all additions.
    pub fn sum(&self) -> u64 {
        self.0.all().map(|cell| cell.load(Ordering::Relaxed)).sum()
    }
}

/// The current number of something; each thread may add and subtract.
#[derive(Debug, Default)]
pub struct Gauge(Sharded<AtomicU64>);

impl Gauge {
    /// Adds one.
    pub fn up(&self) {
        self.0.mine().fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts one, from any thread.
    pub fn down(&self) {
        self.0.mine().fetch_sub(1, Ordering::Relaxed);
    }

    /// The current number.
    pub fn value(&self) -> u64 {
        self.0.all().fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let (counter, gauge) = (Counter::default(), Gauge::default());
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| (0..1_000).for_each(|_| counter.add(2)));
                scope.spawn(|| gauge.up());
            }
        });
        gauge.down();
        assert_eq!(counter.sum(), 2 * SHARDS as u64 * 2_000);
        assert_eq!(gauge.value(), 2 * SHARDS as u64 - 1);
    }
}
