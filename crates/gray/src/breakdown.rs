//! Counts of failures per cell, from which a report says where a fault is.
//!
//! A cell is what can be told apart of a request: arm, route, server, outcome, cohorts, app, and whether its user may
//! be compared. Few cells are expected; a table has at most [`CELLS`] of them. Beyond that a new key is folded: its app
//! and cohorts are left out, and once there are twice as many cells also its route and server. A folded cell counts for
//! the whole, never as a place.
//!
//! Counts are kept over two spans. `Recent` is the last two minutes in slices of twenty seconds, so it covers 100 to
//! 120 s, and a fault that begins after hours of clean traffic stands out in it. `Total` is everything since
//! [`Breakdown::clear`]: a rare fault gathers in it. `super::localise` decides which of them tells more. A request adds
//! to one slice only. Slices are summed on demand, and go into the total when they leave the ring. The caller advances
//! time ([`Breakdown::advance`]); within a slice times are not told apart.
//!
//! One thread owns a `Breakdown`. Events that compare users count once per user and episode, as in the judge: a user's
//! hundred failures are one event, and stable's failures, which its clients retry, count like the rescued ones.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::AHashMap;

use super::judge::Told;
use super::sample::{Arm, Ending, Sample};
use balance::attempt::AttemptFailure;
use base::units::Nanos;

/// Cells of a table before keys are folded; at most twice as many, and one per outcome.
pub const CELLS: usize = 20_000;
/// The length of a slice.
const SLICE: Duration = Duration::from_secs(20);
/// Slices of the recent span, including the running one.
const SLICES: usize = 6;

/// The route, server or app of a folded cell.
const FOLDED: u32 = u32::MAX;

/// How a request ended, as far as a place is concerned: all that did not fail is alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CellOutcome {
    /// It did not fail.
    Fine,
    /// An answer that counts as a failure.
    Status(u16),
    /// An answer from 400 to 499 that does not count as a failure.
    Refused(u16),
    /// Connect, reset or timeout.
    Broken(AttemptFailure),
}

impl CellOutcome {
    /// The outcome of a request.
    fn of(seen: &Sample) -> CellOutcome {
        match seen.ending {
            _ if seen.is_refusal() => CellOutcome::Refused(seen.status),
            Ending::Good | Ending::Left => CellOutcome::Fine,
            Ending::Failed(AttemptFailure::Status) => CellOutcome::Status(seen.status),
            Ending::Failed(failure) => CellOutcome::Broken(failure),
        }
    }
}

/// A cell and its counts over a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The arm.
    pub arm: Arm,
    /// Whether the users may be compared. Others, such as those of `include`, are counted apart.
    pub judged: bool,
    /// How its requests ended.
    pub outcome: CellOutcome,
    /// Index into the release's routes; `None` where it was folded.
    pub route: Option<u16>,
    /// Number of the server; `None` without one, and where it was folded.
    pub server: Option<u32>,
    /// A bit for each cohort.
    pub cohorts: u16,
    /// Number of the app; `None` without one, and where it was folded.
    pub app: Option<u32>,
    /// The counts.
    pub counts: Counts,
}

/// The counts of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Failed requests; only the first of each user, where users may be compared.
    pub bad: u64,
    /// The same for refused requests.
    pub refused: u64,
    /// Requests that were their users' first slow ones.
    pub slow: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.requests += other.requests;
        self.bad += other.bad;
        self.refused += other.refused;
        self.slow += other.slow;
    }
}

/// The span of the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last two minutes.
    Recent,
    /// Since the table was cleared.
    Total,
}

/// From the highest bit: 1 arm, 1 judged, 16 route, 32 server, 16 cohorts, 32 app, 16 outcome; 114 bits in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CellKey(u128);

type Table = AHashMap<CellKey, Counts>;

/// Counts per cell of one release.
#[derive(Debug)]
pub struct Breakdown {
    /// Slices that have left the ring.
    older: Table,
    /// Finished slices, oldest first; at most `SLICES - 1`.
    ring: VecDeque<Table>,
    /// The running slice.
    running: Table,
    /// When the running slice ends.
    until: Nanos,
}

impl Breakdown {
    /// An empty table.
    pub fn new(now: Nanos) -> Breakdown {
        Breakdown {
            older: Table::default(),
            ring: VecDeque::with_capacity(SLICES),
            running: Table::default(),
            until: now.after(SLICE),
        }
    }

    /// Counts a request, and what it was its user's first of.
    pub fn observe(&mut self, seen: &Sample, told: Told) {
        let outcome = CellOutcome::of(seen);
        let failed = matches!(outcome, CellOutcome::Status(_) | CellOutcome::Broken(_));
        let counts = Counts {
            requests: 1,
            bad: u64::from(if seen.judged { told.failure } else { failed }),
            refused: u64::from(told.refusal),
            slow: u64::from(told.slow),
        };
        bump(&mut self.running, CellKey::new(seen, outcome), counts);
    }

    /// Advances time; to be called about once a second.
    pub fn advance(&mut self, now: Nanos) {
        // After a long pause every slice has left the ring, and turning it once round is enough.
        for _ in 0..SLICES {
            if now < self.until {
                return;
            }
            self.until = self.until.after(SLICE);
            self.ring.push_back(std::mem::take(&mut self.running));
            if self.ring.len() == SLICES {
                let oldest = self.ring.pop_front().unwrap_or_default();
                oldest.into_iter().for_each(|(key, counts)| bump(&mut self.older, key, counts));
            }
        }
        if now >= self.until {
            self.until = now.after(SLICE);
        }
    }

    /// Clears everything, when a release starts again or goes to the next step.
    pub fn clear(&mut self, now: Nanos) {
        *self = Breakdown::new(now);
    }

    /// All cells of a span, in an order that depends on them alone.
    pub fn cells(&self, span: Span) -> Vec<Cell> {
        let older = (span == Span::Total).then_some(&self.older);
        let mut sum = Table::default();
        for table in older.into_iter().chain(&self.ring).chain([&self.running]) {
            table.iter().for_each(|(key, counts)| sum.entry(*key).or_default().add(*counts));
        }
        let mut cells: Vec<(CellKey, Counts)> = sum.into_iter().collect();
        cells.sort_unstable_by_key(|(key, _)| key.0);
        cells.into_iter().map(|(key, counts)| key.cell(counts)).collect()
    }

    /// The counts of an arm since the table was cleared, of users who may be compared or of the others.
    pub fn sum(&self, arm: Arm, judged: bool) -> Counts {
        let mut sum = Counts::default();
        for table in [&self.older, &self.running].into_iter().chain(&self.ring) {
            table.iter().filter(|(key, _)| key.is(arm, judged)).for_each(|(_, counts)| sum.add(*counts));
        }
        sum
    }
}

/// Adds to a cell, or to the one it is folded into.
fn bump(table: &mut Table, key: CellKey, counts: Counts) {
    if let Some(old) = table.get_mut(&key) {
        return old.add(counts);
    }
    let key = match table.len() {
        0..CELLS => key,
        length if length < 2 * CELLS => key.folded(CellKey::USER),
        _ => key.folded(CellKey::USER | CellKey::PLACE),
    };
    table.entry(key).or_default().add(counts);
}

impl CellKey {
    /// The bit of the outcome that marks a refusal.
    const REFUSED: u16 = 1 << 15;
    /// The bits of the app; cohorts become none.
    const USER: u128 = 0xffff_ffff << 16;
    /// The bits of route and server.
    const PLACE: u128 = 0xffff_ffff_ffff << 64;

    fn new(seen: &Sample, outcome: CellOutcome) -> CellKey {
        let outcome = match outcome {
            CellOutcome::Fine => 0,
            CellOutcome::Broken(failure) => failure as u16,
            // Statuses begin at 100, failures end at 4; the highest bit is free.
            CellOutcome::Status(status) => status.max(100),
            CellOutcome::Refused(status) => status | CellKey::REFUSED,
        };
        let head = u128::from(seen.arm as u8) << 1 | u128::from(seen.judged);
        let place = u128::from(seen.route) << 32 | u128::from(seen.server);
        let user = u128::from(seen.cohorts) << 32 | u128::from(seen.app);
        CellKey(head << 112 | place << 64 | user << 16 | u128::from(outcome))
    }

    /// The key without `parts` and without cohorts.
    fn folded(self, parts: u128) -> CellKey {
        const COHORTS: u128 = 0xffff << 48;
        CellKey((self.0 & !COHORTS) | parts)
    }

    fn is(self, arm: Arm, judged: bool) -> bool {
        self.0 >> 112 == (u128::from(arm as u8) << 1 | u128::from(judged))
    }

    fn cell(self, counts: Counts) -> Cell {
        let bits = |from: u32| (self.0 >> from) as u16;
        let (server, app) = ((self.0 >> 64) as u32, (self.0 >> 16) as u32);
        let outcome = match bits(0) {
            0 => CellOutcome::Fine,
            code if code == AttemptFailure::Connect as u16 => CellOutcome::Broken(AttemptFailure::Connect),
            code if code == AttemptFailure::Reset as u16 => CellOutcome::Broken(AttemptFailure::Reset),
            code if code == AttemptFailure::Timeout as u16 => CellOutcome::Broken(AttemptFailure::Timeout),
            status if status & CellKey::REFUSED != 0 => CellOutcome::Refused(status & !CellKey::REFUSED),
            status => CellOutcome::Status(status),
        };
        Cell {
            arm: if self.0 >> 113 == 1 { Arm::Canary } else { Arm::Stable },
            judged: self.0 >> 112 & 1 == 1,
            outcome,
            route: Some(bits(96)).filter(|route| u32::from(*route) != FOLDED & 0xffff),
            server: Some(server).filter(|server| ![0, FOLDED].contains(server)),
            cohorts: bits(48),
            app: Some(app).filter(|app| ![0, FOLDED].contains(app)),
            counts,
        }
    }
}

#[cfg(test)]
mod tests;
