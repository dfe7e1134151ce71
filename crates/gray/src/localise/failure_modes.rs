//! The ways a request fails, as conditions of a place.
//!
//! A way has no requests of its own, so there is no count that says how much of an unknown fault is to be expected in it.
//! Five classes get a fifth each: 4xx, 5xx, connect, reset, timeout. An exact status gets half of its class, so that
//! it is named where nearly all failures have it, and the class where several share it.

use super::super::breakdown::{Cell, CellOutcome};
use super::{Measure, Part};

/// Share of a class.
const CLASS: f64 = 0.2;
/// Share of one status.
const STATUS: f64 = CLASS / 2.0;

impl Measure {
    /// How many events a cell has.
    pub(super) fn events(self, cell: &Cell) -> u64 {
        match self {
            Measure::Failures => cell.counts.bad,
            Measure::Refusals => cell.counts.refused,
            Measure::Slow => cell.counts.slow,
        }
    }

    /// How a cell's events came about. Slow answers are all alike.
    pub(super) fn way(self, cell: &Cell) -> CellOutcome {
        match self {
            Measure::Failures | Measure::Refusals => cell.outcome,
            Measure::Slow => CellOutcome::Fine,
        }
    }
}

/// The conditions that a way meets.
pub(super) fn parts(way: CellOutcome) -> [Option<Part>; 2] {
    match way {
        CellOutcome::Fine => [None, None],
        CellOutcome::Status(status) | CellOutcome::Refused(status) => {
            [Some(Part::Status(status)), Some(Part::Class((status / 100) as u8))]
        }
        CellOutcome::Broken(failure) => [Some(Part::Failure(failure)), None],
    }
}

/// Whether a way meets the conditions.
pub(super) fn is_in(way: CellOutcome, wanted: &[Part]) -> bool {
    wanted.iter().filter(|part| !part.is_location()).all(|part| parts(way).contains(&Some(*part)))
}

/// Share of a fault of unknown kind that is expected to fail as the conditions say.
pub(super) fn share(parts: &[Part]) -> f64 {
    let share = |part: &Part| match part {
        Part::Status(_) => STATUS,
        Part::Class(_) | Part::Failure(_) => CLASS,
        _ => 1.0,
    };
    parts.iter().map(share).product()
}
