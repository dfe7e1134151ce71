//! Several small draws from one fresh random number, so that a pick needs only one from its caller.
//!
//! The step is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). There are no
//! ties to break. It is not for secrets, and `below` is biased by at most n / 2^64, which no count can show.

/// A short stream of random numbers.
#[derive(Clone, Debug)]
pub(super) struct Draws(u64);

impl Draws {
    /// A stream seeded with fresh random bits.
    pub(super) fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        scale(self.bits(), end)
    }
}

/// Maps all 64-bit numbers evenly onto `0..end`.
pub(super) fn scale(bits: u64, end: u64) -> u64 {
    ((u128::from(bits) * u128::from(end)) >> 64) as u64
}
