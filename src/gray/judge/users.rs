//! Which users the judge has met, and what each may still tell it.
//!
//! A user has one state, whatever his arm. A larger share moves users from stable to the canary; one who failed on
//! stable is not at risk any more there either. Were the state the arm's, a client that always fails would fail "for the
//! first time" again right after every step, on the canary only.
//!
//! Keys are hashes already, but hashes that a stranger may choose: the table hashes them again, with a key of the process,
//! so that nobody can fill one place of it. It holds as many users as fit into four million slots;
//! later ones are counted and not judged. Two users of one key are one: at four million the chance that there is such a
//! pair at all is one in two million.

use ahash::AHashMap;

use super::signals::{P50, SIGNALS};
use crate::gray::seen::Arm;

/// Users that are followed at most: what a table of 2^22 slots of 25 bytes holds, about 105 MB.
pub(super) const MOST: usize = (1 << 22) / 8 * 7;

/// Bits of the signals that are told once for all.
const FOR_LIFE: u16 = (1 << SIGNALS) - 1;

/// What is known of a user.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct User {
    /// Number of the window that `now` is of.
    window: u32,
    /// Signals that he told already, a bit each.
    pub(super) told: u16,
    /// Number of the episode that the bits of its signals are of.
    episode: u16,
    /// Number of the step that the upper bits of `seen` are of.
    step: u16,
    /// [`Met`].
    seen: u8,
    /// What he did in that window.
    pub(super) now: Now,
}

/// What a user did in the open window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now(u16);

impl Now {
    /// He had a request.
    pub(super) const ACTIVE: u16 = 1;
    /// A request failed.
    pub(super) const FAILED: u16 = 2;
    /// An answer was timed.
    pub(super) const TIMED: u16 = 4;

    /// An answer was above the threshold of a signal.
    pub(super) fn above(signal: usize) -> u16 {
        8 << (signal - P50)
    }

    /// Sets a bit; whether it was not set.
    pub(super) fn first(&mut self, bit: u16) -> bool {
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first
    }
}

/// What a user was counted as: of an arm, since the judge began, or in this step.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Met {
    /// As a user of stable.
    OfStable = 1,
    /// As a user of the canary.
    OfCanary = 2,
    /// In this step; within a step he is on one arm.
    InStep = 4,
    /// As one who failed in it.
    FailedInStep = 8,
    /// As one whose first answer in it was compared with p95.
    MeasuredInStep = 16,
    /// As one whose first answer in it that was timed was compared with p95.
    TimedInStep = 32,
}

/// Bits that outlive a step.
const EVER: u8 = Met::OfStable as u8 | Met::OfCanary as u8;

impl Met {
    /// As a user of an arm.
    pub(super) fn of(arm: Arm) -> Met {
        match arm {
            Arm::Stable => Met::OfStable,
            Arm::Canary => Met::OfCanary,
        }
    }
}

impl User {
    /// Whether a signal can still hear of him.
    pub(super) fn may_tell(&self, signal: usize) -> bool {
        self.told & (1 << signal) == 0
    }

    /// He told.
    pub(super) fn tell(&mut self, signal: usize) {
        self.told |= 1 << signal;
    }

    /// Whether he is met as that for the first time.
    pub(super) fn first(&mut self, met: Met) -> bool {
        let first = self.seen & met as u8 == 0;
        self.seen |= met as u8;
        first
    }
}

/// When a user does something.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    /// Number of the window.
    pub(super) window: u32,
    /// Number of the step.
    pub(super) step: u16,
    /// Number of the episode.
    pub(super) episode: u16,
}

/// All users.
#[derive(Default)]
pub(super) struct Users {
    table: AHashMap<u64, User>,
    /// Requests of users for whom there was no place.
    pub(super) untracked: u64,
}

impl Users {
    /// A user, at the given time.
    pub(super) fn at(&mut self, key: u64, At { window, step, episode }: At) -> Option<&mut User> {
        if self.table.len() >= MOST && !self.table.contains_key(&key) {
            self.untracked += 1;
            return None;
        }
        let user = self.table.entry(key).or_insert(User { window, step, episode, ..User::default() });
        if user.window != window {
            (user.window, user.now) = (window, Now::default());
        }
        if user.episode != episode {
            (user.episode, user.told) = (episode, user.told & FOR_LIFE);
        }
        if user.step != step {
            (user.step, user.seen) = (step, user.seen & EVER);
        }
        Some(user)
    }

    /// Nobody has told these signals, a bit each.
    pub(super) fn forget(&mut self, signals: u16) {
        self.table.values_mut().for_each(|user| user.told &= !signals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_window_or_a_step_ends_with_it() {
        let mut users = Users::default();
        let user = users.at(7, At { window: 1, step: 1, episode: 1 }).unwrap();
        assert!(user.now.first(Now::ACTIVE) && !user.now.first(Now::ACTIVE));
        assert!(user.first(Met::of(Arm::Stable)) && user.first(Met::InStep) && user.first(Met::FailedInStep));
        user.tell(3);
        let user = users.at(7, At { window: 2, step: 1, episode: 1 }).unwrap();
        assert!(user.now.first(Now::ACTIVE), "a new window");
        assert!(!user.first(Met::InStep) && !user.first(Met::FailedInStep), "the same step");
        let user = users.at(7, At { window: 2, step: 2, episode: 1 }).unwrap();
        assert!(user.first(Met::InStep) && user.first(Met::FailedInStep), "a new step");
        assert!(!user.first(Met::of(Arm::Stable)) && user.first(Met::of(Arm::Canary)));
        assert!(!user.may_tell(3) && user.may_tell(2), "what was told stays told");
    }

    #[test]
    fn a_full_table_takes_no_more_users_and_keeps_those_it_has() {
        let mut users = Users::default();
        for key in 0..MOST as u64 {
            users.at(key, At { window: 0, step: 0, episode: 1 }).unwrap();
        }
        assert!(
            users.at(u64::MAX, At { window: 0, step: 0, episode: 1 }).is_none()
                && users.at(5, At { window: 0, step: 0, episode: 1 }).is_some()
        );
        assert_eq!(users.untracked, 1);
        assert_eq!(users.table.capacity(), MOST, "the slots are used up");
    }
}
