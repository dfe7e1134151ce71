//! Cohorts: named sets of users.
//!
//! A file's users are kept as their 64-bit hashes in an open-addressing table at most half full: a million users take
//! 16 MiB, and a lookup costs about one cache miss. Of a million strangers one is taken for a member with a probability
//! below 1 in 10 million. Two sets are equal where they hold the same users, in whatever order they came. A request is
//! in a cohort when its user is in the file, or any rule matches; the request comes as [`RequestFacts`].

use http::HeaderMap;
use twox_hash::XxHash3_64;

use super::bucket::{Border, Hash};
use crate::settings::{Cohort, Rule};
use base::said::{every_line_is, first_cookie};
use base::units::BasisPoints;

/// The parts of a request that cohorts look at.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The user key; without one, no file and no percent rule matches.
    pub user: Option<&'a [u8]>,
    /// [`user_hash`] of the key; 0 without one.
    pub hash: u64,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The name of the calling app.
    pub app: Option<&'a str>,
}

/// Whether a request is in a cohort.
pub fn holds(cohort: &Cohort, facts: &RequestFacts<'_>) -> bool {
    let listed = cohort.users.as_ref().is_some_and(|users| facts.hash != 0 && users.holds(facts.hash));
    listed || cohort.any.iter().any(|rule| fits(rule, facts))
}

fn fits(rule: &Rule, facts: &RequestFacts<'_>) -> bool {
    match rule {
        Rule::Header(name, value) => every_line_is(facts.headers, name, value),
        Rule::Cookie(name, value) => first_cookie(facts.headers, name).is_some_and(|v| v == value.as_bytes()),
        Rule::App(name) => facts.app == Some(name),
        Rule::Percent { share, salt } => facts.user.is_some_and(|user| {
            let border = Hash::Xxh3.border(*share, BasisPoints::ALL).unwrap_or(Border::NONE);
            border.holds(Hash::Xxh3.position(salt.as_bytes(), user))
        }),
    }
}

/// The users of a file.
#[derive(Debug)]
pub struct UserSet {
    /// Slots, a power of two; 0 is free.
    slots: Box<[u64]>,
    count: usize,
}

/// The hash by which sets and the judge know a user key; never 0.
pub fn user_hash(user: &[u8]) -> u64 {
    XxHash3_64::oneshot(user).max(1)
}

impl UserSet {
    /// A set of the keys; a key that occurs twice counts once.
    pub fn new<'a>(keys: impl ExactSizeIterator<Item = &'a [u8]>) -> UserSet {
        let mut set = UserSet::of_slots((keys.len() * 2).next_power_of_two());
        keys.for_each(|key| set.insert(user_hash(key)));
        set
    }

    fn of_slots(slots: usize) -> UserSet {
        UserSet { slots: vec![0; slots].into(), count: 0 }
    }

    /// Inserts a user, by [`user_hash`]; a user who is in the set already counts once.
    pub fn insert(&mut self, hash: u64) {
        if (self.count + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let mut at = self.home(hash);
        while self.slots[at] != 0 {
            if self.slots[at] == hash {
                return;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = hash;
        self.count += 1;
    }

    fn grow(&mut self) {
        let mut larger = UserSet::of_slots(self.slots.len() * 2);
        self.hashes().for_each(|hash| larger.insert(hash));
        *self = larger;
    }

    fn hashes(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().copied().filter(|&slot| slot != 0)
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    /// Whether a user, by [`user_hash`], is in the set.
    pub fn holds(&self, hash: u64) -> bool {
        let mut at = self.home(hash);
        loop {
            match self.slots[at] {
                0 => return false,
                slot if slot == hash => return true,
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }

    /// The number of users.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Default for UserSet {
    /// The empty set.
    fn default() -> UserSet {
        UserSet::of_slots(1)
    }
}

impl PartialEq for UserSet {
    fn eq(&self, other: &UserSet) -> bool {
        self.count == other.count && self.hashes().all(|hash| other.holds(hash))
    }
}

impl Eq for UserSet {}
