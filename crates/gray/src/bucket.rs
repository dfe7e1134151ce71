//! Positions of users by a hash, and the interval of positions that a share owns.
//!
//! The interval begins at a fixed origin: a larger share only adds users, and a smaller one removes only the newest. So
//! a user stays on one version. Positions and borders are whole numbers of the hash's own unit, so that the published
//! hashes give exactly the arms that their owners' implementations give; LaunchDarkly's is a 32-bit float, as there.
//!
//! | hash | source of its definition |
//! |---|---|
//! | xxh3 | XXH3-64 (Cyan4973/xxHash), upper half |
//! | growthbook2 | growthbook/growthbook, `packages/sdk-js/src/util.ts`, hash version 2 |
//! | unleash | Unleash/client-specification, `normalizedStrategyValue` |
//! | launchdarkly | launchdarkly/go-server-sdk-evaluation, `evaluator_bucketing.go` |
//! | flagd2 | open-feature/flagd, fractional evaluation since March 2026 |
//! | nginx | nginx, `ngx_http_split_clients_module.c` and `ngx_murmurhash.c` |

use twox_hash::XxHash3_64;

use base::units::BasisPoints;

/// The number of buckets.
const BUCKETS: u64 = 10_000;

/// The hash from a user to a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hash {
    /// XXH3-64 of salt, 0x00 and user; the upper 32 bits.
    #[default]
    Xxh3,
    /// GrowthBook, version 2: seed and value, FNV-1a twice, 10,000 positions.
    GrowthBook2,
    /// Unleash: MurmurHash3 of `salt:user`, 100 positions.
    Unleash,
    /// LaunchDarkly: SHA-1 of `salt.user`, a 32-bit float.
    LaunchDarkly,
    /// flagd, version 2: MurmurHash3 of salt and user.
    Flagd2,
    /// nginx `split_clients`: MurmurHash2 of user and salt.
    Nginx,
}

/// A user's position, in the unit of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u32);

/// The end of the interval that begins at the origin: positions below it are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Border(u64);

impl Border {
    /// No position is below it.
    pub const NONE: Border = Border(0);
    /// Every position is below it.
    pub const ALL: Border = Border(1 << 32);

    /// The border as a number for an atomic: at most 2^32.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The border of [`Border::bits`].
    pub fn from_bits(bits: u64) -> Border {
        Border(bits)
    }

    /// Whether a position lies below the border.
    pub fn holds(self, position: Position) -> bool {
        u64::from(position.0) < self.0
    }
}

impl Hash {
    /// The position of a user.
    pub fn position(self, salt: &[u8], user: &[u8]) -> Position {
        Position(match self {
            Hash::Xxh3 => joined([salt, &[0], user], |bytes| (XxHash3_64::oneshot(bytes) >> 32) as u32),
            Hash::GrowthBook2 => growthbook2(salt, user),
            Hash::Unleash => joined([salt, b":", user], murmur3) % 100,
            Hash::LaunchDarkly => joined([salt, b".", user], launchdarkly).to_bits(),
            Hash::Flagd2 => joined([salt, b"", user], murmur3),
            Hash::Nginx => joined([user, b"", salt], murmur2),
        })
    }

    /// The border below which `share` of `range` lies; [`Border::ALL`] where `share` is the whole range. `None` where
    /// the hash cannot split so finely: Unleash knows whole percents only.
    pub fn border(self, share: BasisPoints, range: BasisPoints) -> Option<Border> {
        let (part, whole) = (u64::from(share.hundredths()), u64::from(range.hundredths()));
        if part >= whole {
            return Some(Border::ALL);
        }
        let positions = |count: u64| (part * count).div_ceil(whole);
        Some(Border(match self {
            Hash::Xxh3 | Hash::Flagd2 => positions(1 << 32),
            Hash::GrowthBook2 => positions(BUCKETS),
            Hash::Unleash if part * 100 % whole != 0 => return None,
            Hash::Unleash => positions(100),
            Hash::LaunchDarkly => u64::from((((part * 100_000) as f32 / whole as f32) / 100_000.0).to_bits()),
            Hash::Nginx => part * BUCKETS / whole * 0xffff_ffff / BUCKETS,
        }))
    }

    /// The number of a position's bucket, of 10,000.
    pub fn bucket(self, position: Position) -> u16 {
        let bucket = match self {
            Hash::Xxh3 | Hash::Flagd2 | Hash::Nginx => (u64::from(position.0) * BUCKETS) >> 32,
            Hash::GrowthBook2 => u64::from(position.0),
            Hash::Unleash => u64::from(position.0) * 100,
            Hash::LaunchDarkly => (f64::from(f32::from_bits(position.0)) * BUCKETS as f64) as u64,
        };
        bucket.min(BUCKETS - 1) as u16
    }
}

/// Calls `hash` with the concatenated parts; the usual lengths need no allocation.
fn joined<T>(parts: [&[u8]; 3], hash: impl FnOnce(&[u8]) -> T) -> T {
    let mut buffer = [0; 192];
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let Some(buffer) = buffer.get_mut(..length) else { return hash(&parts.concat()) };
    let mut at = 0;
    for part in parts {
        buffer[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    hash(buffer)
}

/// GrowthBook hashes UTF-16 code units; bytes that are not UTF-8 become U+FFFD.
fn growthbook2(seed: &[u8], value: &[u8]) -> u32 {
    let (seed, value) = (String::from_utf8_lossy(seed), String::from_utf8_lossy(value));
    let first = fnv1a(seed.encode_utf16().chain(value.encode_utf16()).map(u32::from));
    let mut digits = itoa::Buffer::new();
    fnv1a(digits.format(first).bytes().map(u32::from)) % BUCKETS as u32
}

/// FNV-1a, 32 bits, over units that may be wider than a byte.
fn fnv1a(units: impl Iterator<Item = u32>) -> u32 {
    units.fold(0x811c_9dc5, |hash, unit| (hash ^ unit).wrapping_mul(0x0100_0193))
}

/// The first 60 bits of SHA-1 as a share of their highest value, in 32-bit floats.
fn launchdarkly(bytes: &[u8]) -> f32 {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let first = digest.as_ref().first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first) >> 4);
    first as f32 / 0x0fff_ffff_ffff_ffff_u64 as f32
}

/// MurmurHash3, x86, 32 bits, seed 0.
fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (chunks, rest) = bytes.as_chunks::<4>();
    let mut h = chunks.iter().fold(0_u32, |h, chunk| {
        let h = h ^ scramble(u32::from_le_bytes(*chunk));
        h.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    h ^= scramble(rest.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte)));
    h ^= bytes.len() as u32;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// MurmurHash2, 32 bits, seed 0.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let (chunks, rest) = bytes.as_chunks::<4>();
    let mut h = chunks.iter().fold(bytes.len() as u32, |h, chunk| {
        let k = u32::from_le_bytes(*chunk).wrapping_mul(M);
        h.wrapping_mul(M) ^ (k ^ k >> 24).wrapping_mul(M)
    });
    if !rest.is_empty() {
        h = (h ^ rest.iter().rev().fold(0, |k, byte| k << 8 | u32::from(*byte))).wrapping_mul(M);
    }
    h = (h ^ h >> 13).wrapping_mul(M);
    h ^ h >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(percent: f64) -> BasisPoints {
        BasisPoints::percent(percent).unwrap()
    }

    #[test]
    fn xxh3_is_the_upper_half_over_salt_zero_user() {
        let whole = XxHash3_64::oneshot(b"orders-v2\0u-1");
        assert_eq!(Hash::Xxh3.position(b"orders-v2", b"u-1").0, (whole >> 32) as u32);
        let long = [b'x'; 1000];
        let whole = XxHash3_64::oneshot(&[b"s\0", &long[..]].concat());
        assert_eq!(Hash::Xxh3.position(b"s", &long).0, (whole >> 32) as u32, "longer than the buffer");
    }

    /// Vectors of growthbook/growthbook, `packages/sdk-js/test/cases.json`, "hash", version 2.
    #[test]
    fn growthbook_agrees_with_its_owner() {
        for (seed, value, expected) in [
            ("seed", "a", 505),
            ("seed", "b", 2696),
            ("foo", "ab", 2575),
            ("foo", "def", 2019),
            ("89123klj", "8952klfjas09ujkasdf", 1240),
            ("90850943850283058242805", "123", 7516),
            ("()**(%$##$%#$#", "___)((*\":&", 128),
        ] {
            assert_eq!(Hash::GrowthBook2.position(seed.as_bytes(), value.as_bytes()).0, expected, "{seed} {value}");
        }
        // `charCodeAt` gives UTF-16 units: two for this one, 0xD83D and 0xDE00.
        assert_eq!(growthbook2(b"", "😀".as_bytes()), fnv1a(digits([0xd83d, 0xde00])) % 10_000);
    }

    fn digits(units: [u32; 2]) -> impl Iterator<Item = u32> {
        fnv1a(units.into_iter()).to_string().into_bytes().into_iter().map(u32::from)
    }

    /// Vectors of the Unleash client SDKs: the normalised value is the position plus one.
    #[test]
    fn unleash_agrees_with_its_owner() {
        for (group, id, expected) in [("gr1", "123", 73), ("groupX", "999", 25)] {
            assert_eq!(Hash::Unleash.position(group.as_bytes(), id.as_bytes()).0 + 1, expected);
        }
    }

    /// Vectors of launchdarkly/go-server-sdk-evaluation, `evaluator_bucketing_test.go`.
    #[test]
    fn launchdarkly_agrees_with_its_owner() {
        for (salt, user, expected) in [
            ("hashKey.saltyA", "userKeyA", 0.421_575_87_f32),
            ("hashKey.saltyA", "userKeyB", 0.670_848_5),
            ("hashKey.saltyA", "userKeyC", 0.103_431_06),
            ("61", "userKeyA", 0.098_012_07),
            ("61", "userKeyB", 0.144_837_77),
            ("61", "userKeyC", 0.924_264_1),
        ] {
            let position = f32::from_bits(Hash::LaunchDarkly.position(salt.as_bytes(), user.as_bytes()).0);
            assert!((position - expected).abs() < 1e-7, "{salt} {user}: {position}");
        }
    }

    /// Known values of MurmurHash3 (x86, 32 bits, seed 0) and of MurmurHash2 as nginx computes it.
    #[test]
    fn murmur_hashes_are_the_published_ones() {
        for (text, expected) in [("", 0), ("a", 0x3c25_69b2), ("test", 0xba6b_d213), ("Hello, world!", 0xc036_3e43)] {
            assert_eq!(murmur3(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(murmur3(b"The quick brown fox jumps over the lazy dog"), 0x2e4f_f723);
    }

    #[test]
    fn a_share_owns_its_part_of_the_positions() {
        let hashes = [Hash::Xxh3, Hash::GrowthBook2, Hash::LaunchDarkly, Hash::Flagd2, Hash::Nginx, Hash::Unleash];
        for hash in hashes {
            for percent in [1.0, 5.0, 25.0, 50.0, 100.0] {
                let border = hash.border(points(percent), BasisPoints::ALL).unwrap();
                let users = 20_000;
                let held = (0..users).filter(|n| border.holds(hash.position(b"salt", format!("u{n}").as_bytes())));
                let (held, p) = (held.count() as f64, percent / 100.0);
                let sigma = (f64::from(users) * p * (1.0 - p)).sqrt();
                assert!((held - f64::from(users) * p).abs() <= 4.0 * sigma, "{hash:?} {percent}: {held}");
            }
        }
    }

    #[test]
    fn a_growing_share_only_adds_users() {
        for hash in [Hash::Xxh3, Hash::GrowthBook2, Hash::LaunchDarkly, Hash::Flagd2, Hash::Nginx] {
            let borders: Vec<Border> =
                (0..=10_000).map(|n| hash.border(BasisPoints::new(n).unwrap(), BasisPoints::ALL).unwrap()).collect();
            assert!(borders.windows(2).all(|pair| pair[0] <= pair[1]), "{hash:?}");
            assert_eq!((borders[0], borders[10_000]), (Border::NONE, Border::ALL));
        }
    }

    #[test]
    fn borders_are_those_of_the_owners() {
        let border = |hash: Hash, percent| hash.border(points(percent), BasisPoints::ALL);
        // nginx: percent * 100 * 0xffffffff / 10000, in whole numbers.
        assert_eq!(border(Hash::Nginx, 0.07), Some(Border(7 * 0xffff_ffff / 10_000)));
        assert_eq!(border(Hash::GrowthBook2, 0.07), Some(Border(7)));
        assert_eq!(border(Hash::Unleash, 7.0), Some(Border(7)));
        assert_eq!(border(Hash::Unleash, 7.5), None, "whole percents only");
        // LaunchDarkly: weights of 100,000, divided as 32-bit floats.
        assert_eq!(border(Hash::LaunchDarkly, 0.07), Some(Border((70_f32 / 100_000.0).to_bits().into())));
        // flagd: (h * 100) >> 32 < 7
        let Some(Border(flagd)) = border(Hash::Flagd2, 7.0) else { panic!() };
        assert!(((flagd - 1) * 100) >> 32 < 7 && (flagd * 100) >> 32 >= 7);
        // Half of a layer's range is half of the positions.
        assert_eq!(Hash::Xxh3.border(points(25.0), points(50.0)), Some(Border(1 << 31)));
    }

    #[test]
    fn a_bucket_is_the_position_in_ten_thousands() {
        assert_eq!(Hash::Xxh3.bucket(Position(u32::MAX)), 9_999);
        assert_eq!(Hash::Xxh3.bucket(Position(1 << 31)), 5_000);
        assert_eq!(Hash::Unleash.bucket(Position(72)), 7_200);
        assert_eq!(Hash::LaunchDarkly.bucket(Position(0.421_575_87_f32.to_bits())), 4_215);
        assert_eq!(Hash::LaunchDarkly.bucket(Position(1_f32.to_bits())), 9_999);
    }
}
