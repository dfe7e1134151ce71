//! The members that a request was already sent to, so that a retry goes elsewhere.
//!
//! The set holds members by identity rather than by index, so it stays right where the pool is replaced between two
//! attempts. Four fit without an allocation. It does not know why an attempt failed.

use super::state::Id;

const INLINE: usize = 4;

/// A small set of members.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    first: [Id; INLINE],
    len: usize,
    more: Vec<Id>,
}

impl Tried {
    /// The empty set.
    pub const fn new() -> Tried {
        Tried { first: [Id::NONE; INLINE], len: 0, more: Vec::new() }
    }

    /// Adds a member; `Lease::mark` calls it.
    pub(super) fn add(&mut self, id: Id) {
        if self.holds(id) {
            return;
        }
        match self.first.get_mut(self.len) {
            Some(free) => *free = id,
            None => self.more.push(id),
        }
        self.len += 1;
    }

    pub(super) fn holds(&self, id: Id) -> bool {
        self.first[..self.len.min(INLINE)].contains(&id) || self.more.contains(&id)
    }

    /// The number of different members in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no member was tried.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_more_than_fit_inline() {
        let ids: Vec<_> = (0..40).map(|_| Id::fresh()).collect();
        let mut tried = Tried::new();
        assert!(tried.is_empty());
        for (i, id) in ids.iter().enumerate() {
            assert!(!tried.holds(*id));
            tried.add(*id);
            tried.add(*id);
            assert_eq!(tried.len(), i + 1);
            assert_eq!(tried.more.is_empty(), i < INLINE);
        }
        assert!(ids.iter().all(|id| tried.holds(*id)));
        assert!(!tried.holds(Id::fresh()));
    }
}
