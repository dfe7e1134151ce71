//! Smooth weighted round robin: nginx's sequence (`ngx_http_upstream_round_robin.c`), computed once per pool, so that a
//! turn costs one atomic increment and one table lookup.
//!
//! At each step every member gains its weight, and the one that has most gives back the sum of all; of equal ones the
//! first as written is taken. Any `cycle` turns in a row serve each member exactly as often as its reduced weight says.
//! A cycle too long for a table (over 65,536 turns, or too expensive to compute) is served by a Weyl sequence instead
//! (turn times the golden ratio, mapped onto the weights): also deterministic, smooth and proportional, but exact only
//! in the long run. Which members are usable is not known here; `choose` decides that.

use super::random::scale;
use super::weights::Weights;

/// The longest cycle kept as a table.
const CYCLE_MAX: u64 = 65_536;
/// The most steps (turns times members) for computing a cycle.
const WORK_MAX: u64 = 1 << 24;
/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The order of turns.
#[derive(Debug)]
pub(super) enum Sequence {
    /// Each turn of a cycle.
    Cycle(Box<[u32]>),
    /// Computed at each turn.
    Spread,
}

impl Sequence {
    pub(super) fn new(weights: &[u16]) -> Sequence {
        let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b)));
        if divisor == 0 {
            return Sequence::Spread;
        }
        let reduced: Vec<i64> = weights.iter().map(|w| (u64::from(*w) / divisor) as i64).collect();
        let cycle: u64 = reduced.iter().sum::<i64>() as u64;
        if cycle > CYCLE_MAX || cycle * weights.len() as u64 > WORK_MAX {
            return Sequence::Spread;
        }
        Sequence::Cycle(smooth(&reduced, cycle))
    }

    /// The member with the `turn`th turn; at least one must have a weight.
    pub(super) fn at(&self, turn: u64, weights: &Weights) -> usize {
        match self {
            Sequence::Cycle(cycle) => cycle[(turn % cycle.len() as u64) as usize] as usize,
            Sequence::Spread => weights.owner(scale(turn.wrapping_mul(GOLDEN), weights.total())),
        }
    }
}

fn smooth(weights: &[i64], cycle: u64) -> Box<[u32]> {
    let mut current = vec![0i64; weights.len()];
    (0..cycle)
        .map(|_| {
            let mut best: Option<usize> = None;
            for (i, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
                current[i] += weight;
                if best.is_none_or(|b| current[i] > current[b]) {
                    best = Some(i);
                }
            }
            let best = best.expect("a cycle has a turn only where a member has a weight");
            current[best] -= cycle as i64;
            best as u32
        })
        .collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u16], turns: u64) -> Vec<usize> {
        let sums = Weights::new(weights.iter().copied());
        let sequence = Sequence::new(weights);
        (0..turns).map(|turn| sequence.at(turn, &sums)).collect()
    }

    #[test]
    fn nginx_s_own_example() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[10, 2, 2], 7), [0, 0, 1, 0, 2, 0, 0], "only the proportion counts");
    }

    #[test]
    fn equal_weights_go_round_as_written() {
        assert_eq!(turns(&[3, 3, 3], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[1, 0, 1], 4), [0, 2, 0, 2], "weight 0 has no turn");
    }

    #[test]
    fn any_window_of_a_cycle_is_exact() {
        for weights in [&[1u16, 2, 3, 4][..], &[7, 1], &[100, 50, 25, 0, 5], &[1; 30], &[65_535, 1]] {
            let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b)));
            let cycle = weights.iter().map(|w| u64::from(*w)).sum::<u64>() / divisor;
            let all = turns(weights, cycle * 2);
            for start in [0, 1, cycle as usize / 3, cycle as usize - 1] {
                let window = &all[start..start + cycle as usize];
                for (i, weight) in weights.iter().enumerate() {
                    let served = window.iter().filter(|turn| **turn == i).count() as u64;
                    assert_eq!(served, u64::from(*weight) / divisor, "{weights:?} member {i} from {start}");
                }
            }
        }
    }

    #[test]
    fn a_long_cycle_stays_proportional_and_smooth() {
        let weights = [65_535u16, 65_534, 32_767];
        assert!(matches!(Sequence::new(&weights), Sequence::Spread));
        let all = turns(&weights, 10_000);
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        for (i, weight) in weights.iter().enumerate() {
            let served = all.iter().filter(|turn| **turn == i).count() as f64;
            let wanted = 10_000.0 * f64::from(*weight) / total;
            assert!((served - wanted).abs() < 10.0, "member {i}: {served} of {wanted}");
        }
    }
}
