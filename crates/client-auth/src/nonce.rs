//! Replay protection: the nonces of every accepted signature, for as long as the signature could come again.
//!
//! A nonce belongs to a key. It is kept by 128 bits of SHA-256, so no two are ever taken for one. Nothing is forgotten
//! before its time: a full table refuses new nonces, and a single key can fill at most a quarter of it, so that one
//! app cannot shut out the others. A quarter is 917,504 signatures within `clock_skew`, 3,058 a second at five
//! minutes. What a key signs beyond that gets 503; a shorter `clock_skew` allows more. A mark stands for what was
//! forgotten: a signature made at or before the mark is refused, whatever its key. At the start the mark is the moment
//! of the start, since earlier nonces are not known. It rises with every nonce that is dropped, so a longer
//! `clock_skew` brings back no old signature.
//!
//! The table is split by hash, each part behind a lock of its own that is held for one lookup. Once in a quarter of the
//! time that nonces are kept for, a part drops the old ones, under its lock. Nonces are not kept across restarts. Where
//! one process takes over from another, the second of the hand-over divides the signatures that each of them accepts; a
//! signature that is dated ahead may then still be accepted by both.

use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};

/// The number of parts of the table.
const PARTS: usize = 64;
/// The most nonces in a part: seven eighths of a power of two, which is what a table of that size holds.
const PART_MAX: usize = 7 << 13;
/// The most nonces of one key in a part.
const KEY_MAX: u32 = PART_MAX as u32 / 4;

/// Why a nonce is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceError {
    /// The nonce was used before.
    Replayed,
    /// The signature is older than what is known here.
    Forgotten,
    /// There is no room.
    Full,
}

/// The nonces of all keys. About 3.6 million fit, in at most 140 MiB; an empty table takes nothing.
#[derive(Debug)]
pub struct Nonces {
    parts: Box<[Mutex<Part>]>,
    /// Signatures made after this second belong to another process.
    until: AtomicU64,
}

#[derive(Debug)]
struct Part {
    taken: AHashMap<[u32; 4], Taken>,
    by_key: AHashMap<u32, u32>,
    /// No signature made at this second or before is known.
    mark: u64,
    /// When old nonces were last dropped.
    swept: u64,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    /// When the signature was made.
    created: u64,
    /// The hash of the key.
    key: u32,
}

impl Nonces {
    /// An empty table, at a time in seconds since 1970.
    pub fn new(now_s: u64) -> Nonces {
        let part = || Part { taken: AHashMap::new(), by_key: AHashMap::new(), mark: now_s, swept: now_s };
        Nonces { parts: (0..PARTS).map(|_| Mutex::new(part())).collect(), until: AtomicU64::new(u64::MAX) }
    }

    /// Takes over from another process at this second: signatures made until then belong to that one. One second is
    /// added, as the two do not read the clock at the same moment.
    pub fn take_over(&self, now_s: u64) {
        for part in &self.parts {
            part.lock().mark = now_s + 1;
        }
    }

    /// Leaves the signatures made from now on to another process.
    pub fn hand_over(&self, now_s: u64) {
        self.until.store(now_s, Ordering::Relaxed);
    }

    /// Accepts the nonce of a valid signature, once. `key` identifies the key among all of all times; times are in
    /// seconds since 1970, and `keep_s` is the longest `clock_skew`.
    pub fn take(&self, key: &[&[u8]], nonce: &[u8], created: u64, now_s: u64, keep_s: u64) -> Result<(), NonceError> {
        if created > self.until.load(Ordering::Relaxed) {
            return Err(NonceError::Forgotten);
        }
        let digest = digest(key, nonce);
        let word = |at: usize| u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]]);
        // Different bits choose the part and the place in it.
        let mut part = self.parts[digest[31] as usize % PARTS].lock();
        part.take([word(0), word(4), word(8), word(12)], key_hash(key), created, (now_s, keep_s))
    }

    /// The number of nonces kept.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().taken.len()).sum()
    }

    /// Whether there are no nonces.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Part {
    fn take(&mut self, nonce: [u32; 4], key: u32, created: u64, (now_s, keep_s): (u64, u64)) -> Result<(), NonceError> {
        if created <= self.mark {
            return Err(NonceError::Forgotten);
        }
        if self.taken.contains_key(&nonce) {
            return Err(NonceError::Replayed);
        }
        let is_full =
            |part: &Part| part.taken.len() >= PART_MAX || part.by_key.get(&key).is_some_and(|count| *count >= KEY_MAX);
        let due = now_s.saturating_sub(self.swept);
        if due > keep_s / 4 || (due > 0 && is_full(self)) {
            self.sweep(now_s, keep_s);
        }
        if is_full(self) {
            return Err(NonceError::Full);
        }
        self.taken.insert(nonce, Taken { created, key });
        *self.by_key.entry(key).or_default() += 1;
        Ok(())
    }

    /// Drops nonces whose signatures are too old to be accepted again anyway.
    fn sweep(&mut self, now_s: u64, keep_s: u64) {
        let Part { taken, by_key, mark, swept } = self;
        taken.retain(|_, one| {
            let old = one.created.saturating_add(keep_s) < now_s;
            if old {
                *mark = one.created.max(*mark);
                if let Some(count) = by_key.get_mut(&one.key) {
                    *count -= 1;
                }
            }
            !old
        });
        by_key.retain(|_, count| *count > 0);
        *swept = now_s;
    }
}

/// SHA-256 over the parts, each preceded by its length.
fn digest(key: &[&[u8]], nonce: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in key.iter().copied().chain([nonce]) {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// Keys of one hash share a quarter of the table, no more.
fn key_hash(key: &[&[u8]]) -> u32 {
    let digest = digest(key, b"");
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [&[u8]; 2] = [b"acme", b"k1"];
    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_nonce_is_taken_once_for_each_key() {
        let nonces = Nonces::new(NOW - 1_000);
        assert_eq!(nonces.take(&KEY, b"n", NOW, NOW, 300), Ok(()));
        assert_eq!(nonces.take(&KEY, b"n", NOW, NOW, 300), Err(NonceError::Replayed));
        assert_eq!(
            nonces.take(&KEY, b"n", NOW + 1, NOW + 2, 300),
            Err(NonceError::Replayed),
            "signed anew, but not new"
        );
        assert_eq!(nonces.take(&[b"acme", b"k2"], b"n", NOW, NOW, 300), Ok(()));
        assert_eq!(nonces.take(&[b"acm", b"ek1"], b"n", NOW, NOW, 300), Ok(()), "parts have borders");
        assert_eq!(nonces.take(&[b"acme", b"k1n"], b"", NOW, NOW, 300), Ok(()));
        assert_eq!(nonces.len(), 4);
    }

    #[test]
    fn nothing_from_before_the_start_is_taken() {
        let nonces = Nonces::new(NOW);
        assert_eq!(nonces.take(&KEY, b"a", NOW - 5, NOW, 300), Err(NonceError::Forgotten));
        assert_eq!(
            nonces.take(&KEY, b"b", NOW, NOW, 300),
            Err(NonceError::Forgotten),
            "the same second may be before it"
        );
        assert_eq!(nonces.take(&KEY, b"c", NOW + 1, NOW, 300), Ok(()));
    }

    #[test]
    fn within_its_window_nothing_can_be_replayed_whatever_the_times() {
        // Every signature that was ever taken is tried again at every later second at which its window is open.
        let mut seed = 7u64;
        let mut dice = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let nonces = Nonces::new(NOW);
        let (mut taken, mut refused): (Vec<(u64, u64)>, usize) = (vec![], 0);
        for second in 1..2_000 {
            let now = NOW + second;
            // The skew is configured anew now and then.
            let skew = [20, 60, 5, 120][(second / 400) as usize % 4];
            let created = (now + dice(2 * skew + 1)) - skew;
            let fresh = nonces.take(&KEY, &second.to_le_bytes(), created, now, skew);
            match fresh {
                Ok(()) => taken.push((second, created)),
                Err(NonceError::Forgotten) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
            for (nonce, created) in taken.iter().filter(|(_, created)| created.abs_diff(now) <= skew) {
                assert!(nonces.take(&KEY, &nonce.to_le_bytes(), *created, now, skew).is_err(), "{nonce} at {second}");
            }
        }
        assert!(taken.len() > 1_500, "{} taken, {refused} refused", taken.len());
        assert!(nonces.len() < 600, "old ones are let go: {}", nonces.len());
    }

    #[test]
    fn a_full_table_refuses_and_one_key_cannot_fill_it() {
        let mut part = Part { taken: AHashMap::new(), by_key: AHashMap::new(), mark: 0, swept: NOW };
        let mut count = 0;
        let mut fill = |part: &mut Part, key| {
            (0..PART_MAX as u32 + 1)
                .find(|_| {
                    count += 1;
                    part.take([count, 0, 0, 0], key, NOW, (NOW, 300)) == Err(NonceError::Full)
                })
                .is_some()
        };
        assert!(fill(&mut part, 1) && part.taken.len() == KEY_MAX as usize);
        assert!(fill(&mut part, 2) && fill(&mut part, 3) && fill(&mut part, 4));
        assert_eq!(part.taken.len(), PART_MAX);
        assert_eq!(part.take([0, 1, 0, 0], 5, NOW, (NOW, 300)), Err(NonceError::Full));
        assert_eq!(
            part.take([1, 0, 0, 0], 1, NOW, (NOW + 300, 300)),
            Err(NonceError::Replayed),
            "nothing was forgotten"
        );
        assert_eq!(part.take([0, 1, 0, 0], 5, NOW + 301, (NOW + 301, 300)), Ok(()), "old ones made room");
        assert_eq!((part.taken.len(), part.by_key.len()), (1, 1));
    }

    #[test]
    fn of_many_threads_one_takes_it() {
        let nonces = Nonces::new(NOW - 10);
        let took: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1_000u32).filter(|n| nonces.take(&KEY, &n.to_le_bytes(), NOW, NOW, 300).is_ok()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((took, nonces.len()), (1_000, 1_000));
    }

    #[test]
    fn two_processes_part_at_the_second_of_the_hand_over() {
        let (old, new) = (Nonces::new(100), Nonces::new(150));
        let take = |nonces: &Nonces, nonce: &[u8], created| nonces.take(&[b"k"], nonce, created, 200, 300);
        assert_eq!(take(&old, b"before", 199), Ok(()));
        old.hand_over(200);
        new.take_over(200);
        assert_eq!(take(&new, b"before", 199), Err(NonceError::Forgotten));
        assert_eq!(take(&old, b"late", 200), Ok(()));
        assert_eq!((take(&old, b"after", 202), take(&new, b"after", 202)), (Err(NonceError::Forgotten), Ok(())));
    }
}
