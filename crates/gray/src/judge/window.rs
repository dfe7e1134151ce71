//! The counts of one window: users' first events for the evidence, active and failing users for the rest.
//!
//! Common causes and change detection look at user-windows: a user counts once a window as active, and once as failing
//! if they failed at all. Safety counts each user once a step.

use crate::sample::Arm;
use balance::attempt::AttemptFailure;

use super::evidence::Bet;
use super::signals::COUNTED;

/// Causes that are told apart in a window; later ones are not named.
const CAUSES: usize = 64;

/// The side of an event: the canary, or one of the halves of stable that the guard compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum EvidenceCell {
    /// Stable's users with an even bit.
    StableEven = 0,
    /// Stable's users with an odd bit.
    StableOdd = 1,
    /// The canary's users.
    Canary = 2,
    /// All of stable's users: the sum of its halves.
    Stable = 3,
}

impl EvidenceCell {
    /// A user's cell. The arm comes from a salted hash; any bit of the unsalted one splits stable at random.
    pub(super) fn of(arm: Arm, key: u64) -> EvidenceCell {
        match arm {
            Arm::Canary => EvidenceCell::Canary,
            Arm::Stable if key >> 32 & 1 == 0 => EvidenceCell::StableEven,
            Arm::Stable => EvidenceCell::StableOdd,
        }
    }
}

/// First events by signal.
#[derive(Debug, Default)]
pub(super) struct EvidenceCounts {
    events: [[u32; 3]; COUNTED],
}

impl EvidenceCounts {
    pub(super) fn event(&mut self, signal: usize, cell: EvidenceCell) {
        self.events[signal][cell as usize] += 1;
    }

    /// Events of a signal on one side.
    pub(super) fn of(&self, signal: usize, cell: EvidenceCell) -> u32 {
        let events = &self.events[signal];
        match cell {
            EvidenceCell::Stable => {
                events[EvidenceCell::StableEven as usize] + events[EvidenceCell::StableOdd as usize]
            }
            cell => events[cell as usize],
        }
    }

    /// Events of a signal on all sides.
    pub(super) fn all(&self, signal: usize) -> u32 {
        self.events[signal].iter().sum()
    }

    /// Clears the events of a signal.
    pub(super) fn clear(&mut self, signal: usize) {
        self.events[signal] = [0; 3];
    }

    /// Takes the canary's events of a signal beyond `most`.
    pub(super) fn take_beyond(&mut self, signal: usize, most: u32) -> EvidenceCounts {
        let mut beyond = EvidenceCounts::default();
        let kept = &mut self.events[signal][EvidenceCell::Canary as usize];
        beyond.events[signal][EvidenceCell::Canary as usize] = kept.saturating_sub(most);
        *kept = most.min(*kept);
        beyond
    }

    /// Adds another window's events of a signal.
    pub(super) fn add(&mut self, signal: usize, other: &EvidenceCounts) {
        self.events[signal].iter_mut().zip(other.events[signal]).for_each(|(sum, events)| *sum += events);
    }

    /// What the window says of a signal, where the share `part` of the users was put on the second side.
    pub(super) fn bet(&self, signal: usize, sides: [EvidenceCell; 2], part: f64) -> Bet {
        Bet::of(part, sides.map(|side| self.of(signal, side)))
    }
}

/// Users by arm: of a window, or of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UserCounts {
    /// Users with a request.
    pub(super) active: [u64; 2],
    /// Users with a failure.
    pub(super) failing: [u64; 2],
    /// Users who got a refusal that stable's seldom get; in a step.
    pub(super) refused: [u64; 2],
    /// Users by their first answer; in a step.
    pub(super) first: Speed,
    /// Users by their first timed answer.
    pub(super) timed: Speed,
}

/// Users by how fast one answer was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Speed {
    /// Users with an answer whose route's p95 is known.
    pub(super) measured: [u64; 2],
    /// Of them, those whose answer was above it.
    pub(super) slow: [u64; 2],
}

impl Speed {
    /// Counts a user.
    pub(super) fn count(&mut self, arm: Arm, slow: bool) {
        self.measured[arm as usize] += 1;
        self.slow[arm as usize] += u64::from(slow);
    }
}

impl UserCounts {
    pub(super) fn add(&mut self, other: &UserCounts) {
        for arm in Arm::ALL.map(|arm| arm as usize) {
            self.active[arm] += other.active[arm];
            self.failing[arm] += other.failing[arm];
            self.timed.measured[arm] += other.timed.measured[arm];
            self.timed.slow[arm] += other.timed.slow[arm];
        }
    }

    /// The share of an arm's users who failed; `None` where it had no users.
    pub(super) fn share_failing(&self, arm: Arm) -> Option<f64> {
        let active = self.active[arm as usize];
        (active > 0).then(|| self.failing[arm as usize] as f64 / active as f64)
    }
}

/// How users failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The route, as an index into the release's list.
    pub route: u16,
    /// How the first attempt failed.
    pub failure: AttemptFailure,
    /// The status of the answer; 0 where there was none.
    pub status: u16,
}

/// A window's user-windows and how stable's users failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) tally: UserCounts,
    /// Users whose first server in the window may have been cold.
    pub(super) cold: [u64; 2],
    causes: Vec<(Cause, u64)>,
}

impl Window {
    /// Counts a user of stable who failed.
    pub(super) fn blame(&mut self, cause: Cause) {
        self.count(cause, 1);
    }

    /// By arm, the share of the users whose servers were warm; 1 where there were no users.
    pub(super) fn warm(&self) -> [f64; 2] {
        std::array::from_fn(|arm| 1.0 - self.cold[arm] as f64 / self.tally.active[arm].max(1) as f64)
    }

    /// Adds the counts of a later window.
    pub(super) fn add(&mut self, other: &Window) {
        self.tally.add(&other.tally);
        other.causes.iter().for_each(|(cause, users)| self.count(*cause, *users));
    }

    fn count(&mut self, cause: Cause, users: u64) {
        if let Some((_, sum)) = self.causes.iter_mut().find(|(known, _)| *known == cause) {
            *sum += users;
        } else if self.causes.len() < CAUSES {
            self.causes.push((cause, users));
        }
    }

    /// How most of stable's failing users failed; ties go to the first that was seen.
    pub(super) fn main_cause(&self) -> Option<Cause> {
        let most = self.causes.iter().map(|(_, users)| *users).max()?;
        self.causes.iter().find(|(_, users)| *users == most).map(|(cause, _)| *cause)
    }
}
