//! Which refusals are usual: answers from 400 to 499 that stable's users often get.
//!
//! A refusal is as much the client's doing as the server's. A wrong password or a missing page, which stable's
//! users get as well, would only hide what a canary refuses beside it. So a kind, a status on a route, is usual
//! once one in a hundred of stable's users, and at least five, met it as their first in an episode. Every other
//! kind is rare; until stable has data, all are. Each user counts once an episode, so a client that polls a dead
//! address makes nothing usual.

use ahash::AHashMap;

use crate::sample::{Arm, Sample};

/// Kinds that are told apart; later ones count as usual.
const KINDS: usize = 4_096;
/// The least number of stable's users who make a kind usual.
const USERS: u64 = 5;
/// The least share of stable's users who do.
const PART: f64 = 0.01;

/// Stable's refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By route and status: users of an episode who met it first, and whether it is usual.
    kinds: AHashMap<(u16, u16), (u64, bool)>,
    /// Stable's users of all episodes.
    users: u64,
}

impl Refusals {
    /// Counts a user of stable in an episode.
    pub(super) fn there(&mut self) {
        self.users += 1;
    }

    /// Counts a user's first refusal in an episode.
    pub(super) fn count(&mut self, seen: &Sample) {
        if seen.arm == Arm::Stable && (self.kinds.len() < KINDS || self.kinds.contains_key(&(seen.route, seen.status)))
        {
            self.kinds.entry((seen.route, seen.status)).or_default().0 += 1;
        }
    }

    /// Ends a window: kinds become usual between windows only.
    pub(super) fn close(&mut self) {
        let least = (self.users as f64 * PART).max(USERS as f64);
        self.kinds.values_mut().for_each(|(met, usual)| *usual = *met as f64 >= least);
    }

    /// Whether stable's users seldom get this refusal.
    pub(super) fn is_rare(&self, seen: &Sample) -> bool {
        match self.kinds.get(&(seen.route, seen.status)) {
            Some((_, usual)) => !usual,
            None => self.kinds.len() < KINDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn what_one_in_a_hundred_of_stables_users_meets_is_usual() {
        let refused = |arm, route, status| Sample { status, route, ..Sample::good(1, arm) };
        let mut refusals = Refusals::default();
        (0..4).for_each(|_| refusals.count(&refused(Arm::Stable, 0, 404)));
        (0..10).for_each(|_| refusals.there());
        refusals.close();
        assert!(refusals.is_rare(&refused(Arm::Canary, 0, 404)), "four are chance");
        refusals.count(&refused(Arm::Stable, 0, 404));
        assert!(refusals.is_rare(&refused(Arm::Canary, 0, 404)), "a window has one answer");
        (0..490).for_each(|_| refusals.there());
        refusals.close();
        assert!(!refusals.is_rare(&refused(Arm::Canary, 0, 404)));
        let elsewhere = [refused(Arm::Canary, 1, 404), refused(Arm::Canary, 0, 401)];
        assert!(elsewhere.iter().all(|seen| refusals.is_rare(seen)), "another route, another status");
        (0..50).for_each(|_| refusals.count(&refused(Arm::Canary, 0, 401)));
        (0..100).for_each(|_| refusals.there());
        refusals.close();
        assert!(refusals.is_rare(&refused(Arm::Canary, 0, 401)), "the canary makes nothing usual");
        assert!(refusals.is_rare(&refused(Arm::Canary, 0, 404)), "5 of 600");
    }
}
