//! The users that the judge follows, and the first events that each may still count for.
//!
//! A user has one state, whatever their arm. A larger share moves users from stable to the canary; one who failed on
//! stable is not at risk there any more either. If the state belonged to the arm, a client that always fails would fail
//! "for the first time" again right after every step, on the canary only.
//!
//! Keys are hashes already, but hashes that a stranger may choose. So the table hashes them again, with a key of the
//! process, and no client can fill one place of it. It holds as many users as fit into four million slots. Then the
//! users who were not seen for longest are forgotten, those without a bad event before the others. A forgotten user who
//! comes again is new, and an event counts twice. Two users of one key are one: at four million the chance that there
//! is such a pair at all is one in two million.

use ahash::AHashMap;

use super::signals::{COUNTED, ERRORS, FEEDBACK, P50, P99, SIGNALS};
use crate::sample::Arm;

/// The bound of users: what a table of 2^22 slots of 25 bytes holds, about 105 MB.
pub(super) const MOST: usize = (1 << 22) / 8 * 7;

/// Users sampled to estimate which were not seen for longest.
const SAMPLE: usize = 4_096;

/// Bits of the signals that count once in the release.
const FOR_LIFE: u32 = (1 << SIGNALS) - 1;

/// Bits of the signals of bad events. The others may only say that the user's first answer was counted.
const BAD: u32 = 1 << ERRORS | ((1 << (FEEDBACK + 1)) - (1 << P99));

/// Beside the signals: thresholds were learnt from an answer of the user in this episode.
pub(super) const LEARNT: usize = COUNTED;

/// The same for a user who was there in it.
pub(super) const THERE: usize = COUNTED + 1;

/// The state of a user.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct User {
    /// The number of the window that `now` belongs to.
    window: u32,
    /// The signals that the user has counted for, a bit each.
    pub(super) told: u32,
    /// The number of the episode that the bits of its signals belong to.
    episode: u16,
    /// The number of the step that the bits of `seen` outside of `EVER` belong to.
    step: u16,
    /// The bits of [`FirstEvent`].
    seen: u8,
    /// What the user did in that window.
    pub(super) now: Now,
}

/// What a user did in the open window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now(u16);

impl Now {
    /// The user had a request.
    pub(super) const ACTIVE: u16 = 1;
    /// A request failed.
    pub(super) const FAILED: u16 = 2;
    /// An answer was timed.
    pub(super) const TIMED: u16 = 4;

    /// A server refused.
    pub(super) const REFUSED: u16 = 1 << 10;

    /// An answer was above the threshold of a signal.
    pub(super) fn above(signal: usize) -> u16 {
        8 << (signal - P50)
    }

    /// Sets a bit; returns whether it was not set before.
    pub(super) fn first(&mut self, bit: u16) -> bool {
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first
    }
}

/// What a user was counted as: on an arm, since the judge began, or in this step.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum FirstEvent {
    /// As a user of stable.
    OfStable = 1,
    /// As a user of the canary.
    OfCanary = 2,
    /// In this step; within a step a user is on one arm.
    InStep = 4,
    /// As one who failed in the step.
    FailedInStep = 8,
    /// As one whose first answer in the step was compared with p95.
    MeasuredInStep = 16,
    /// As one whose first timed answer in the step was compared with p95.
    TimedInStep = 32,
    /// As one who got a refusal in the step that stable's users seldom get.
    RefusedInStep = 64,
}

/// Bits that outlast a step.
const EVER: u8 = FirstEvent::OfStable as u8 | FirstEvent::OfCanary as u8;

impl FirstEvent {
    /// As a user of an arm.
    pub(super) fn of(arm: Arm) -> FirstEvent {
        match arm {
            Arm::Stable => FirstEvent::OfStable,
            Arm::Canary => FirstEvent::OfCanary,
        }
    }
}

impl User {
    /// Whether the user can still count for a signal.
    pub(super) fn may_tell(&self, signal: usize) -> bool {
        self.told & (1 << signal) == 0
    }

    /// Counts the user for a signal.
    pub(super) fn tell(&mut self, signal: usize) {
        self.told |= 1 << signal;
    }

    /// Marks the user as counted; returns whether this is the first time.
    pub(super) fn first(&mut self, met: FirstEvent) -> bool {
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
pub(super) struct Users {
    table: AHashMap<u64, User>,
    most: usize,
    /// How many were forgotten.
    pub(super) forgotten: u64,
}

impl Default for Users {
    fn default() -> Users {
        Users { table: AHashMap::new(), most: MOST, forgotten: 0 }
    }
}

impl Users {
    /// A user, at the given time.
    pub(super) fn at(&mut self, key: u64, At { window, step, episode }: At) -> &mut User {
        if self.table.len() >= self.most && !self.table.contains_key(&key) {
            self.make_room();
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
        user
    }

    /// Forgets a quarter of the users.
    fn make_room(&mut self) {
        let mut sample: Vec<u32> = self.table.values().take(SAMPLE).map(|user| user.window).collect();
        sample.sort_unstable();
        let before = self.table.len();
        let mut most = before / 4;
        for (of_bad, eighths) in [(false, 2), (false, 4), (false, 8), (true, 4), (true, 8)] {
            let oldest = sample.get(sample.len() * eighths / 8 - 1).copied().unwrap_or_default();
            self.table.retain(|_, user| {
                let goes = most > 0 && user.window <= oldest && (of_bad || user.told & BAD == 0);
                most -= usize::from(goes);
                !goes
            });
            if most == 0 {
                break;
            }
        }
        // Removed entries leave tombstones, which would make the table grow.
        let kept: Vec<(u64, User)> = self.table.drain().collect();
        self.table.extend(kept);
        self.forgotten += (before - self.table.len()) as u64;
    }

    /// Lets all users count again for these signals, a bit each.
    pub(super) fn forget(&mut self, signals: u32) {
        self.table.values_mut().for_each(|user| user.told &= !signals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As few users as fit into 2^15 slots.
    const FEW: usize = (1 << 15) / 8 * 7;

    fn few() -> Users {
        Users { most: FEW, ..Users::default() }
    }

    #[test]
    fn what_belongs_to_a_window_or_a_step_ends_with_it() {
        let mut users = Users::default();
        let user = users.at(7, At { window: 1, step: 1, episode: 1 });
        assert!(user.now.first(Now::ACTIVE) && !user.now.first(Now::ACTIVE));
        assert!(
            user.first(FirstEvent::of(Arm::Stable))
                && user.first(FirstEvent::InStep)
                && user.first(FirstEvent::FailedInStep)
        );
        user.tell(3);
        let user = users.at(7, At { window: 2, step: 1, episode: 1 });
        assert!(user.now.first(Now::ACTIVE), "a new window");
        assert!(!user.first(FirstEvent::InStep) && !user.first(FirstEvent::FailedInStep), "the same step");
        let user = users.at(7, At { window: 2, step: 2, episode: 1 });
        assert!(user.first(FirstEvent::InStep) && user.first(FirstEvent::FailedInStep), "a new step");
        assert!(!user.first(FirstEvent::of(Arm::Stable)) && user.first(FirstEvent::of(Arm::Canary)));
        assert!(!user.may_tell(3) && user.may_tell(2), "what was told stays told");
    }

    #[test]
    fn a_full_table_forgets_who_was_not_seen_for_longest_and_told_nothing() {
        let at = |window| At { window, step: 0, episode: 1 };
        let mut users = few();
        for key in 0..FEW as u64 {
            let user = users.at(key, at(if key < FEW as u64 / 2 { 1 } else { 9 }));
            if key < 1_000 {
                user.tell(ERRORS);
            } else {
                user.tell(P50);
            }
        }
        assert_eq!((users.forgotten, users.table.capacity()), (0, FEW));
        users.at(u64::MAX, at(10));
        assert_eq!(users.forgotten, FEW as u64 / 4);
        assert!((0..1_000).all(|key| !users.at(key, at(10)).may_tell(ERRORS)), "who told something is known");
        let recent = (FEW as u64 / 2..FEW as u64).filter(|key| users.table.contains_key(key)).count();
        assert_eq!(recent, FEW / 2, "and who came of late");
        for key in 0..FEW as u64 / 4 {
            users.at(1 << 60 | key, at(10));
        }
        assert_eq!(users.table.capacity(), FEW, "it does not grow");
    }

    #[test]
    fn a_table_of_people_who_all_told_is_not_full_for_ever() {
        let mut users = few();
        for key in 0..FEW as u64 + 1 {
            users.at(key, At { window: 1, step: 0, episode: 1 }).tell(ERRORS);
        }
        assert_eq!((users.forgotten, users.table.len()), (FEW as u64 / 4, FEW - FEW / 4 + 1));
    }
}
