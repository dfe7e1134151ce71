//! The state of a release that requests share and that outlives snapshots: its stage, its counters, its samples.
//!
//! The stage is one number: storing it decides for the next request. Counters and buffers are per thread, so that cores
//! do not contend. Two threads want a buffer's lock: its own and, ten times a second, the one that empties it. A buffer
//! that is not emptied drops samples, of either arm alike, rather than grow.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::bucket::{Border, Position};
use super::sample::{Arm, Sample};
use balance::budget::Budget;
use base::shard::{Counter, Sharded};
use base::units::{Nanos, Share};

/// The most samples in a buffer.
const SEEN_MAX: usize = 1 << 18;

/// The outcome of a rescue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RescueOutcome {
    /// Stable answered.
    Rescued,
    /// Stable failed too.
    Failed,
    /// The request could not be repeated.
    Unprotected,
    /// There was no budget left.
    Budget,
}

impl RescueOutcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [RescueOutcome; 4] =
        [RescueOutcome::Rescued, RescueOutcome::Failed, RescueOutcome::Unprotected, RescueOutcome::Budget];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            RescueOutcome::Rescued => "rescued",
            RescueOutcome::Failed => "failed",
            RescueOutcome::Unprotected => "unprotected",
            RescueOutcome::Budget => "budget",
        }
    }
}

/// Which users are on the canary now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Users below it are on the canary.
    pub border: Border,
    /// Included cohorts are on it; false after a rollback.
    pub open: bool,
    /// Requests without a user key are on it.
    pub unkeyed: bool,
    /// The number of the step: samples of one step say nothing about another.
    pub step: u16,
}

impl Stage {
    /// No user is on the canary.
    pub const CLOSED: Stage = Stage { border: Border::NONE, open: false, unkeyed: false, step: 0 };
    const OPEN: u64 = 1 << 40;
    const UNKEYED: u64 = 1 << 41;
    const STEP: u32 = 48;

    fn pack(self) -> u64 {
        let open = if self.open { Self::OPEN } else { 0 };
        let unkeyed = if self.unkeyed { Self::UNKEYED } else { 0 };
        self.border.bits() | open | unkeyed | u64::from(self.step) << Self::STEP
    }

    fn unpack(bits: u64) -> Stage {
        let border = Border::from_bits(bits & (Self::OPEN - 1));
        let step = (bits >> Self::STEP) as u16;
        Stage { border, open: bits & Self::OPEN != 0, unkeyed: bits & Self::UNKEYED != 0, step }
    }

    /// The arm of a user in the release's range.
    pub fn arm(self, position: Position) -> Arm {
        if self.border.holds(position) { Arm::Canary } else { Arm::Stable }
    }
}

/// The state of a release that requests share.
#[derive(Debug)]
pub struct SharedState {
    stage: AtomicU64,
    seen: Sharded<Mutex<Vec<Sample>>>,
    /// Judged requests that began, by arm.
    began: Sharded<[AtomicU64; 2]>,
    /// Judged requests that ended, by arm.
    ended: Sharded<[AtomicU64; 2]>,
    outcomes: [Counter; RescueOutcome::ALL.len()],
    /// Requests without a user key.
    pub unkeyed: Counter,
    /// The rescues of the last seconds, and the canary's requests.
    budget: Budget,
}

impl Default for SharedState {
    fn default() -> Self {
        SharedState {
            stage: AtomicU64::new(Stage::CLOSED.pack()),
            seen: Sharded::default(),
            began: Sharded::default(),
            ended: Sharded::default(),
            outcomes: Default::default(),
            unkeyed: Counter::default(),
            budget: Budget::without_floor(Share::ALL),
        }
    }
}

impl SharedState {
    /// The current stage.
    pub fn stage(&self) -> Stage {
        Stage::unpack(self.stage.load(Relaxed))
    }

    /// Sets the stage, from the next request on.
    pub fn set_stage(&self, stage: Stage) {
        self.stage.store(stage.pack(), Relaxed);
    }

    /// Counts a judged request that begins.
    pub fn began(&self, arm: Arm) {
        self.began.mine()[arm as usize].fetch_add(1, Relaxed);
    }

    /// Takes the sample of a request that ended.
    pub fn ended(&self, seen: Sample) {
        if seen.judged {
            self.ended.mine()[seen.arm as usize].fetch_add(1, Relaxed);
        }
        let mut buffer = self.seen.mine().lock();
        if buffer.len() < SEEN_MAX {
            buffer.push(seen);
        }
    }

    /// Counts a request that ended without a sample, if it was judged.
    pub fn went_untold(&self, judged: Option<Arm>) {
        if let Some(arm) = judged {
            self.ended.mine()[arm as usize].fetch_add(1, Relaxed);
        }
    }

    /// Moves all samples to `out`, thread by thread.
    pub fn take(&self, out: &mut Vec<Sample>) {
        self.seen.all().for_each(|buffer| out.append(&mut buffer.lock()));
    }

    /// Judged requests in flight, by arm.
    pub fn in_flight(&self) -> [u64; 2] {
        let sum = |cells: &Sharded<[AtomicU64; 2]>, arm: Arm| -> u64 {
            cells.all().map(|cells| cells[arm as usize].load(Relaxed)).sum()
        };
        // Ends are read first, so that a request that ends meanwhile counts as in flight, and the
        // difference is not negative.
        let ended = Arm::ALL.map(|arm| sum(&self.ended, arm));
        let began = Arm::ALL.map(|arm| sum(&self.began, arm));
        std::array::from_fn(|arm| began[arm].saturating_sub(ended[arm]))
    }

    /// Counts a request of the canary; rescues are a share of these.
    pub fn may_need_rescue(&self, now: Nanos) {
        self.budget.request(now);
    }

    /// Whether one more rescue fits into `share` of the canary's requests; counts it if so.
    pub fn try_rescue(&self, share: Share, now: Nanos) -> bool {
        share >= Share::ALL || self.budget.try_share(share, now)
    }

    /// Counts the outcome of a rescue.
    pub fn rescue_ended(&self, outcome: RescueOutcome) {
        self.outcomes[outcome as usize].add(1);
    }

    /// The number of rescues with this outcome.
    pub fn rescues(&self, outcome: RescueOutcome) -> u64 {
        self.outcomes[outcome as usize].sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_one_number() {
        for border in [Border::NONE, Border::from_bits(7), Border::ALL] {
            for (open, unkeyed, step) in [(false, false, 0), (true, false, 1), (true, true, u16::MAX)] {
                let live = SharedState::default();
                assert_eq!(live.stage(), Stage::CLOSED);
                live.set_stage(Stage { border, open, unkeyed, step });
                assert_eq!(live.stage(), Stage { border, open, unkeyed, step });
            }
        }
    }

    #[test]
    fn rescues_are_a_share_of_the_canarys_requests() {
        let live = SharedState::default();
        let now = Nanos(1);
        (0..40).for_each(|_| live.may_need_rescue(now));
        let quarter = Share::percent(25.0).unwrap();
        assert_eq!((0..40).filter(|_| live.try_rescue(quarter, now)).count(), 10);
        assert!(live.try_rescue(Share::ALL, now), "the whole has no limit");
        assert!(!live.try_rescue(Share::percent(0.0).unwrap(), now));
    }
}
