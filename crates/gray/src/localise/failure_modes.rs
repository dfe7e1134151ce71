//! Failure modes: the ways in which a request fails, as conditions of a place.
//!
//! A failure mode has no requests of its own, so no count says how much of an unknown fault is to be expected in it.
//! Five classes get a fifth each: 4xx, 5xx, connect, reset, timeout. An exact status gets half of its class, so that
//! the status is named where nearly all failures have it, and the class where several share it.

use super::super::breakdown::{Cell, CellOutcome};
use super::{Measure, Part};

/// The share of a class.
const CLASS: f64 = 0.2;
/// The share of one status.
const STATUS: f64 = CLASS / 2.0;

impl Measure {
    /// The number of events in a cell.
    pub(super) fn events(self, cell: &Cell) -> u64 {
        match self {
            Measure::Failures => cell.counts.bad,
            Measure::Refusals => cell.counts.refused,
            Measure::Slow => cell.counts.slow,
        }
    }

    /// The failure mode of a cell's events. Slow answers are all alike.
    pub(super) fn way(self, cell: &Cell) -> CellOutcome {
        match self {
            Measure::Failures | Measure::Refusals => cell.outcome,
            Measure::Slow => CellOutcome::Fine,
        }
    }
}

/// The conditions that a failure mode meets.
pub(super) fn parts(way: CellOutcome) -> [Option<Part>; 2] {
    match way {
        CellOutcome::Fine => [None, None],
        CellOutcome::Status(status) | CellOutcome::Refused(status) => {
            [Some(Part::Status(status)), Some(Part::Class((status / 100) as u8))]
        }
        CellOutcome::Broken(failure) => [Some(Part::Failure(failure)), None],
    }
}

/// Whether a failure mode meets the conditions.
pub(super) fn is_in(way: CellOutcome, wanted: &[Part]) -> bool {
    wanted.iter().filter(|part| !part.is_location()).all(|part| parts(way).contains(&Some(*part)))
}

/// The share of a fault of unknown kind that is expected in the failure modes of the conditions.
pub(super) fn share(parts: &[Part]) -> f64 {
    let share = |part: &Part| match part {
        Part::Status(_) => STATUS,
        Part::Class(_) | Part::Failure(_) => CLASS,
        _ => 1.0,
    };
    parts.iter().map(share).product()
}
