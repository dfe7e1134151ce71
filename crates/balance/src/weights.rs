//! Draws of members by weight: the running sums of the weights, and a binary search in them.
//!
//! A point that lies on a border belongs to the member that starts there, so each member owns exactly as many points as
//! its weight, and one of weight 0 owns none. Which members are usable is not known here; `choose` decides that.

use super::random::Draws;

/// The weights of a pool's members, in their order.
#[derive(Debug)]
pub(super) struct Weights {
    /// The end of each member's points; the last one is the sum of all weights.
    ends: Box<[u64]>,
}

impl Weights {
    pub(super) fn new(weights: impl Iterator<Item = u16>) -> Weights {
        let mut end = 0;
        let ends = weights
            .map(|weight| {
                end += u64::from(weight);
                end
            })
            .collect();
        Weights { ends }
    }

    /// The sum of all weights.
    pub(super) fn total(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The weight of one member.
    pub(super) fn of(&self, index: usize) -> u64 {
        self.ends[index] - self.start(index)
    }

    /// The owner of a point below `total`.
    pub(super) fn owner(&self, point: u64) -> usize {
        debug_assert!(point < self.total(), "a point that nobody owns");
        self.ends.partition_point(|end| *end <= point)
    }

    /// Draws a member by weight; at least one must have a weight.
    pub(super) fn draw(&self, draws: &mut Draws) -> usize {
        self.owner(draws.below(self.total()))
    }

    /// Draws a member other than `index` by weight; `None` where there is none.
    pub(super) fn draw_other(&self, index: usize, draws: &mut Draws) -> Option<usize> {
        let others = self.total() - self.of(index);
        if others == 0 {
            return None;
        }
        let point = draws.below(others);
        let skip = if point >= self.start(index) { self.of(index) } else { 0 };
        Some(self.owner(point + skip))
    }

    fn start(&self, index: usize) -> u64 {
        if index == 0 { 0 } else { self.ends[index - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_owns_as_many_points_as_it_weighs() {
        let weights = Weights::new([3, 0, 2, 0, 1].into_iter());
        let owners: Vec<_> = (0..weights.total()).map(|point| weights.owner(point)).collect();
        assert_eq!(owners, [0, 0, 0, 2, 2, 4]);
    }

    #[test]
    fn another_one_is_drawn_by_the_weights_of_the_others() {
        let weights = Weights::new([1, 2, 0, 3].into_iter());
        let mut draws = Draws::new(7);
        let mut seen = [0u32; 4];
        for _ in 0..40_000 {
            seen[weights.draw_other(1, &mut draws).unwrap()] += 1;
        }
        assert_eq!((seen[1], seen[2]), (0, 0));
        let ratio = f64::from(seen[3]) / f64::from(seen[0]);
        assert!((2.8..3.2).contains(&ratio), "{seen:?}");
        assert_eq!(Weights::new([0, 5].into_iter()).draw_other(1, &mut draws), None);
    }
}
