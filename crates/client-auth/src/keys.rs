//! The keys of apps: the app of an API key, and the secret of a `keyid`.
//!
//! An API key is looked up by its SHA-256, and only that is kept here. So neither the table nor the time of a lookup
//! reveals anything of a key: the place in the table follows from what the caller sent, and the digests there are
//! compared in constant time. No two keys are the same; if they were, the first one's app would count.
//!
//! A `keyid` is a key's id where only one app has it, else `app/id`; where both readings fit, the latter counts. Three
//! open-addressing tables of numbers hold this, so a million keys take 64 MiB beside the configuration itself.

use ring::digest::{SHA256, digest};
use twox_hash::XxHash3_64;

use super::signature::Signer;
use crate::apps::{App, AppKey, KeySecret};

/// A key, by the numbers of its app and in its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number of the app.
    pub app: u32,
    /// Number of the key in the app.
    pub key: u32,
}

impl Found {
    /// The app and the key, from the apps of the index.
    pub fn of(self, apps: &[App]) -> Option<(&App, &AppKey)> {
        let app = apps.get(self.app as usize)?;
        Some((app, app.keys.get(self.key as usize)?))
    }
}

/// An index of all keys of all apps. Lookups need the apps that it was made from.
#[derive(Debug, Default)]
pub struct Keys {
    known: Box<[Known]>,
    by_digest: Slots,
    by_app: Slots,
    by_id: Slots,
}

/// The entry of a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The SHA-256 of the key.
    digest: [u8; 32],
    found: Found,
}

/// Marks an id that several apps have.
const SEVERAL: u32 = 1 << 31;

impl Keys {
    /// The index of these apps.
    pub fn new(apps: &[App]) -> Keys {
        let count = apps.iter().map(|app| app.keys.len()).sum();
        let mut known = Vec::<Known>::with_capacity(count);
        let (mut by_digest, mut by_app, mut by_id) = (Slots::of(count), Slots::of(apps.len()), Slots::of(count));
        for (number, app) in apps.iter().enumerate() {
            by_app.entry(text_hash(&app.name), |_| false, number as u32);
            for (place, key) in app.keys.iter().enumerate() {
                let at = known.len() as u32;
                let digest = key.secret.hash();
                known.push(Known { digest, found: Found { app: number as u32, key: place as u32 } });
                by_digest.entry(digest_hash(&digest), |other| known[other as usize].digest == digest, at);
                let same = |other: u32| id(apps, &known, other) == Some(&*key.id);
                let first = by_id.entry(text_hash(&key.id), same, at);
                if *first != at {
                    *first |= SEVERAL;
                }
            }
        }
        Keys { known: known.into(), by_digest, by_app, by_id }
    }

    /// Finds the app and key of an API key.
    pub fn find(&self, sent: &[u8]) -> Option<Found> {
        if sent.is_empty() {
            return None;
        }
        let sum = digest(&SHA256, sent);
        let sum: &[u8; 32] = sum.as_ref().try_into().ok()?;
        let at = self.by_digest.find(digest_hash(sum), |other| equal(&self.known[other as usize].digest, sum))?;
        Some(self.known[at as usize].found)
    }

    /// Finds the key that signs with this `keyid`, and its secret.
    pub fn signer<'a>(&self, apps: &'a [App], keyid: &str) -> Signer<'a> {
        let of_app = keyid.split_once('/').and_then(|(name, id)| self.of_app(apps, name, id));
        let of_id = || self.by_id.find(text_hash(keyid), |other| id(apps, &self.known, other) == Some(keyid));
        let found = match (of_app, of_app.is_none().then(of_id).flatten()) {
            (Some(found), _) => found,
            (None, Some(at)) if at & SEVERAL != 0 => return Signer::Several,
            (None, Some(at)) => self.known[at as usize].found,
            (None, None) => return Signer::Nobody,
        };
        match found.of(apps).map(|(_, key)| &key.secret) {
            Some(KeySecret::Plain(secret)) => Signer::One(found, &secret.0),
            // A secret that is known only by its hash cannot sign.
            _ => Signer::Nobody,
        }
    }

    fn of_app(&self, apps: &[App], name: &str, id: &str) -> Option<Found> {
        let app = self.app(apps, name)?;
        let key = apps.get(app as usize)?.keys.iter().position(|key| *key.id == *id)?;
        Some(Found { app, key: key as u32 })
    }

    /// The number of the app of this name.
    pub fn app(&self, apps: &[App], name: &str) -> Option<u32> {
        self.by_app.find(text_hash(name), |other| apps.get(other as usize).is_some_and(|app| *app.name == *name))
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// The id of a key; whether several apps have it does not matter.
fn id<'a>(apps: &'a [App], known: &[Known], at: u32) -> Option<&'a str> {
    known.get((at & !SEVERAL) as usize)?.found.of(apps).map(|(_, key)| &*key.id)
}

/// Compares in constant time.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b))) == 0
}

/// A digest is random already.
fn digest_hash(digest: &[u8; 32]) -> u64 {
    u64::from_le_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]])
}

fn text_hash(text: &str) -> u64 {
    XxHash3_64::oneshot(text.as_bytes())
}

/// Numbers by hash: an open-addressing table at most half full.
#[derive(Debug, Default)]
struct Slots {
    slots: Box<[u32]>,
}

impl Slots {
    const FREE: u32 = u32::MAX;

    /// A table for `count` numbers.
    fn of(count: usize) -> Slots {
        Slots { slots: vec![Slots::FREE; (count.max(1) * 2).next_power_of_two()].into() }
    }

    /// The number of this hash that is `same`, or `new`, inserted, where there was none.
    fn entry(&mut self, hash: u64, same: impl Fn(u32) -> bool, new: u32) -> &mut u32 {
        let mut at = self.home(hash);
        while self.slots[at] != Slots::FREE && !same(self.slots[at]) {
            at = (at + 1) & (self.slots.len() - 1);
        }
        if self.slots[at] == Slots::FREE {
            self.slots[at] = new;
        }
        &mut self.slots[at]
    }

    fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        while self.slots[at] != Slots::FREE {
            if same(self.slots[at]) {
                return Some(self.slots[at]);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests;
