//! A hash table of fixed size, with one word for each key.
//!
//! Keys are 64-bit keyed hashes, so no client can choose where it lands, and of a million keys two are taken for each
//! other with a probability of 1 in 30 million. A key belongs to one set of thirty-two places in eight cache lines, and
//! begins at one of the lines; the other places follow in a ring. An entry lies in the first place that was free when
//! it came, so in a table that is half full nineteen of twenty keys are found with one cache miss.
//!
//! A known key is changed by compare-and-swap: no thread waits for another. A new key is brought in under its
//! set's flag, so that it never has two places. Only two cores that bring in keys of one set in the same instant
//! wait for each other, for a dozen instructions. The [`Kind`] decides what a word means, when it may be given
//! away and which goes first.
//!
//! A place is given to another key in three steps (word `GIVING`, key, word). So a thread that read the key before
//! finds its swap refused, and a thread that reads the word in between looks again under the flag. A thread that reads
//! key, word and key again has a word of that key. One race is left: a thread stops between look and swap while its
//! key's place is given away, and the next key's word becomes the very one that it saw; its swap then changes that
//! word. Times of a place only grow where they are given away as free, and counts carry a number of their owner; so the
//! race takes a set that overflows, and the same sixteenth of a nanosecond.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::yield_now;

/// Places of a set.
const PLACES: usize = 32;
/// Places of a cache line.
const LINE: usize = 4;
/// Marks a place that no key ever had.
const NOBODY: u64 = 0;
/// The word of a place that is being given to another key; no kind has it.
const GIVING: u64 = u64::MAX;
/// Looks at a flag before the core is yielded to the thread that may hold it.
const SPINS: u32 = 100;

/// A key of a table; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    pub(super) fn of_hash(hash: u64) -> Key {
        Key(hash.max(1))
    }

    /// The place of the set at which the key begins, the first one of a line; by other bits than
    /// those that choose the set.
    fn home(self) -> usize {
        self.0 as usize % PLACES / LINE * LINE
    }
}

/// The meaning of a table's words.
pub(super) trait Kind {
    /// How near a word is to being free: 0 is free, `None` is never given away. Of several that are not free, the
    /// lowest goes; of equal ones the first.
    fn rank(&self, word: u64) -> Option<u64>;

    /// The first word of a key whose place held `before`, where `wanted` is asked for.
    fn first(&self, before: u64, wanted: u64) -> u64;
}

/// No place of the set may be given away.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug, Default)]
#[repr(align(16))]
struct Place {
    key: AtomicU64,
    word: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(512))]
struct Set {
    places: [Place; PLACES],
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Set]>,
    /// For each set, whether a key is being brought in.
    flags: Box<[AtomicBool]>,
    /// The number of bits to shift out of a key for the number of its set.
    shift: u32,
}

impl Table {
    /// A table of 2^`bits` sets.
    pub(super) fn new(bits: u32) -> Table {
        let sets = 1_usize << bits;
        Table {
            sets: (0..sets).map(|_| Set::default()).collect(),
            flags: (0..sets).map(|_| AtomicBool::new(false)).collect(),
            shift: 64 - bits,
        }
    }

    /// The size of the table in bytes, which is constant.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.sets) + size_of_val(&*self.flags)
    }

    /// Prefetches the key's set into the cache, so that several misses overlap.
    pub(super) fn touch(&self, key: Key) {
        std::hint::black_box(self.set(key).1.places[key.home()].key.load(Ordering::Relaxed));
    }

    /// The current word of a key.
    pub(super) fn look(&self, key: Key) -> Option<u64> {
        self.set(key).1.find(key).map(|(_, word)| word)
    }

    /// Changes the word of a key: `step` gets the present word, `None` for a key that is not there, and returns the
    /// next one, or `None` to leave it. It is called again whenever another thread was faster. Returns the place.
    pub(super) fn change(
        &self,
        key: Key,
        kind: &impl Kind,
        mut step: impl FnMut(Option<u64>) -> Option<u64>,
    ) -> Result<Option<usize>, Full> {
        let (number, set) = self.set(key);
        loop {
            let Some((at, word)) = set.find(key) else {
                let Some(wanted) = step(None) else { return Ok(None) };
                match set.bring_in(&self.flags[number], key, kind, wanted)? {
                    Some(at) => return Ok(Some(number * PLACES + at)),
                    None => continue,
                }
            };
            let Some(next) = step(Some(word)) else { return Ok(None) };
            if set.places[at].swap(word, next) {
                return Ok(Some(number * PLACES + at));
            }
        }
    }

    /// The word at a place that `change` returned.
    pub(super) fn word(&self, place: usize) -> &AtomicU64 {
        &self.sets[place / PLACES].places[place % PLACES].word
    }

    fn set(&self, key: Key) -> (usize, &Set) {
        let number = key.0.unbounded_shr(self.shift) as usize;
        (number, &self.sets[number])
    }
}

impl Set {
    /// The place of a key, and its word. The search ends at a place that no key ever had: a key is never beyond one.
    #[inline]
    fn find(&self, key: Key) -> Option<(usize, u64)> {
        for at in ring(key) {
            let place = &self.places[at];
            let found = place.key.load(Ordering::Acquire);
            if found == key.0 {
                let word = place.word.load(Ordering::Acquire);
                let still = word != GIVING && place.key.load(Ordering::Acquire) == key.0;
                return still.then_some((at, word));
            }
            if found == NOBODY {
                return None;
            }
        }
        None
    }

    /// Gives a key a place; `None` where another thread just did.
    #[cold]
    fn bring_in(&self, flag: &AtomicBool, key: Key, kind: &impl Kind, wanted: u64) -> Result<Option<usize>, Full> {
        let _flag = Flag::raise(flag);
        if self.find(key).is_some() {
            return Ok(None);
        }
        loop {
            let (at, before) = self.choose(key, kind).ok_or(Full)?;
            let place = &self.places[at];
            if place.swap(before, GIVING) {
                place.key.store(key.0, Ordering::Release);
                place.word.store(kind.first(before, wanted), Ordering::Release);
                return Ok(Some(at));
            }
        }
    }

    /// The first free place, or the one nearest to being free.
    fn choose(&self, key: Key, kind: &impl Kind) -> Option<(usize, u64)> {
        let mut best: Option<(u64, usize, u64)> = None;
        for at in ring(key) {
            let place = &self.places[at];
            let unused = place.key.load(Ordering::Acquire) == NOBODY;
            let word = place.word.load(Ordering::Acquire);
            let Some(rank) = (if unused { Some(0) } else { kind.rank(word) }) else { continue };
            if rank == 0 {
                return Some((at, word));
            }
            if best.is_none_or(|(lowest, ..)| rank < lowest) {
                best = Some((rank, at, word));
            }
        }
        best.map(|(_, at, word)| (at, word))
    }
}

impl Place {
    fn swap(&self, before: u64, after: u64) -> bool {
        self.word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The places of a set in the order in which a key looks at them.
fn ring(key: Key) -> impl Iterator<Item = usize> {
    let home = key.home();
    (home..PLACES).chain(0..home)
}

/// A raised flag, lowered when dropped.
struct Flag<'a>(&'a AtomicBool);

impl Flag<'_> {
    fn raise(flag: &AtomicBool) -> Flag<'_> {
        let mut looks = 0;
        while flag.swap(true, Ordering::Acquire) {
            while flag.load(Ordering::Relaxed) {
                looks += 1;
                if looks % SPINS == 0 {
                    yield_now();
                }
                spin_loop();
            }
        }
        Flag(flag)
    }
}

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
