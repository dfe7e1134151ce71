//! Keys: encryption keys from files wrap data keys, one for each UTC day, which encrypt evidence, and the chain's key.
//!
//! Wraps are rows outside of the chain. A new encryption key adds a wrap to each existing key and begins a new data
//! key, so the old one with an older copy of the store reads nothing that comes later. `tollgate ledger keys rotate`
//! deletes the wraps by older keys, so that the old key cannot open a later copy at all. Deleting the wraps of a day's
//! keys (`keys erase DAY`) erases what was encrypted with them; the chain stays whole, since it covers ciphertext.
//!
//! All encryption is AES-256-GCM with a random nonce of 96 bits, so a data key is replaced, within its day, long before
//! 2^32 messages (NIST SP 800-38D, section 8.3). The additional data bind a ciphertext to its table, column and row:
//! moved elsewhere, it does not open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use super::chain::ChainKey;
use super::rows::Wrap;
use base::clock;
use base::secret::Secret;

const KEY_BYTES: usize = 32;
/// The most messages that a data key encrypts.
const USES_MAX: u32 = 1 << 30;
const CHAIN: &str = "chain";
const DATA: &str = "data";

/// Why keys and store do not match.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// No configured key opens a wrap.
    #[error("{0}")]
    Wrong(String),
}

/// The keys of a store.
#[derive(Debug)]
pub struct Ring {
    encryption: Vec<EncryptionKey>,
    chain: ChainKey,
    /// Encrypts the settings of endpoints, which outlive every day's key.
    settings: LessSafeKey,
    data: RwLock<HashMap<Uuid, Arc<DataKey>>>,
    today: RwLock<Option<Arc<DataKey>>>,
}

struct EncryptionKey {
    name: String,
    key: LessSafeKey,
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncryptionKey({})", self.name)
    }
}

/// A data key of one day.
pub struct DataKey {
    id: Uuid,
    day: String,
    key: LessSafeKey,
    uses: AtomicU32,
    kept: AtomicBool,
    wraps: Vec<Wrap>,
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataKey({} of {})", self.id, self.day)
    }
}

impl DataKey {
    /// The id of the key.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Encrypts a cell of `table.column` in the row `row`; returns nonce, ciphertext and tag.
    pub fn seal(&self, table: &str, column: &str, row: Uuid, content: &[u8]) -> Vec<u8> {
        self.uses.fetch_add(1, Ordering::Relaxed);
        seal(&self.key, &place(table, column, row), content)
    }

    /// The wraps that are not committed yet.
    pub fn unkept(&self) -> &[Wrap] {
        if self.kept.load(Ordering::Acquire) { &[] } else { &self.wraps }
    }

    /// Notes that the wraps are committed.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }
}

impl Ring {
    /// Opens the keys with the wraps of a store. The second part of the answer are the wraps to write: for a new store
    /// that of the chain's key, for a new encryption key one for every existing key, and that of a new data key.
    pub fn open(encryption_keys: &[Secret], wraps: &[Wrap], now_ms: u64) -> Result<(Ring, Vec<Wrap>), KeyError> {
        let encryption =
            encryption_keys.iter().map(|secret| encryption_key(&secret.0)).collect::<Result<Vec<_>, _>>()?;
        let first = encryption.first().ok_or_else(|| KeyError::Wrong("there is no encryption key".into()))?;
        let mut new = vec![];
        let (mut chain, mut data) = (None, HashMap::new());
        for (id, wraps) in by_key(wraps) {
            let bytes = unwrap(&encryption, id, &wraps)?;
            let known = wraps[0];
            if !wraps.iter().any(|wrap| wrap.by == first.name) {
                new.push(wrap(first, id, &known.purpose, &known.day, &bytes, now_ms));
            }
            if known.purpose == CHAIN {
                chain = Some((ChainKey::new(&bytes), settings_key(&bytes)?));
            } else {
                data.insert(id, Arc::new(data_key(id, &known.day, &bytes, vec![])?));
            }
        }
        if chain.is_none() && !wraps.is_empty() {
            return Err(KeyError::Wrong("the store has lost the key of its chain: restore the table `keys`".into()));
        }
        let (chain, settings) = match chain {
            Some(chain) => chain,
            None => {
                let bytes = random::<KEY_BYTES>()?;
                new.push(wrap(first, Uuid::now_v7(), CHAIN, "", &bytes, now_ms));
                (ChainKey::new(&bytes), settings_key(&bytes)?)
            }
        };
        let today = day(now_ms);
        // The old encryption key may have opened today's data key elsewhere, so that one is used no more.
        let rotated = new.iter().any(|wrap| wrap.purpose == DATA);
        let of_today = data.values().filter(|key: &&Arc<DataKey>| key.day == today && !rotated);
        let latest = of_today.max_by_key(|key| key.id).cloned();
        let ring = Ring { encryption, chain, settings, data: RwLock::new(data), today: RwLock::new(latest) };
        if rotated {
            // At once: the next start finds nothing new, and would go on with the older one.
            new.extend_from_slice(ring.today(now_ms)?.unkept());
        }
        Ok((ring, new))
    }

    /// The chain's key.
    pub fn chain(&self) -> &ChainKey {
        &self.chain
    }

    /// The data key of the day of `now_ms`, made if there is none. Its wraps are [`DataKey::unkept`] until they are
    /// committed.
    pub fn today(&self, now_ms: u64) -> Result<Arc<DataKey>, KeyError> {
        let day = day(now_ms);
        let fits = |key: &&Arc<DataKey>| key.day == day && key.uses.load(Ordering::Relaxed) < USES_MAX;
        if let Some(key) = self.today.read().as_ref().filter(fits) {
            return Ok(key.clone());
        }
        let mut today = self.today.write();
        if let Some(key) = today.as_ref().filter(fits) {
            return Ok(key.clone());
        }
        let (id, bytes) = (Uuid::now_v7(), random::<KEY_BYTES>()?);
        let wraps = self.encryption.first().map(|first| wrap(first, id, DATA, &day, &bytes, now_ms));
        let key = Arc::new(data_key(id, &day, &bytes, wraps.into_iter().collect())?);
        self.data.write().insert(id, key.clone());
        *today = Some(key.clone());
        Ok(key)
    }

    /// Decrypts a cell of `table.column` in the row `id`; `None` if it is not what was encrypted, or if its key is
    /// gone.
    pub fn unseal(&self, key_id: Uuid, table: &str, column: &str, id: Uuid, sealed: &[u8]) -> Option<Vec<u8>> {
        let key = self.data.read().get(&key_id).cloned()?;
        unseal(&key.key, &place(table, column, id), sealed)
    }

    /// Encrypts the settings of an endpoint.
    pub fn seal_settings(&self, id: Uuid, content: &[u8]) -> Vec<u8> {
        seal(&self.settings, &place("endpoints", "settings", id), content)
    }

    /// Decrypts the settings of an endpoint; `None` if they were changed.
    pub fn unseal_settings(&self, id: Uuid, sealed: &[u8]) -> Option<Vec<u8>> {
        unseal(&self.settings, &place("endpoints", "settings", id), sealed)
    }

    /// Whether a configured key opens this wrap.
    pub fn opens(&self, wrap: &Wrap) -> bool {
        open_wrap(&self.encryption, wrap).is_some()
    }
}

/// The fingerprint of a key of `encryption_key_files`, which messages show instead of the key.
pub fn fingerprint(key: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"tollgate encryption key");
    base::hex::encode(&tag.as_ref()[..8])
}

/// The key of endpoints' settings, derived from the chain's: no day's erasure takes it away.
fn settings_key(chain: &[u8]) -> Result<LessSafeKey, KeyError> {
    aead(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, chain), b"tollgate endpoint settings").as_ref())
}

fn encryption_key(bytes: &[u8]) -> Result<EncryptionKey, KeyError> {
    Ok(EncryptionKey { name: fingerprint(bytes), key: aead(bytes)? })
}

fn aead(bytes: &[u8]) -> Result<LessSafeKey, KeyError> {
    let key = UnboundKey::new(&AES_256_GCM, bytes);
    key.map(LessSafeKey::new).map_err(|_| KeyError::Wrong("a key has not 32 bytes".into()))
}

fn data_key(id: Uuid, day: &str, bytes: &[u8], wraps: Vec<Wrap>) -> Result<DataKey, KeyError> {
    let kept = AtomicBool::new(wraps.is_empty());
    Ok(DataKey { id, day: day.to_owned(), key: aead(bytes)?, uses: AtomicU32::new(0), kept, wraps })
}

/// Wraps by the key that they wrap, in the order of the keys.
fn by_key(wraps: &[Wrap]) -> std::collections::BTreeMap<Uuid, Vec<&Wrap>> {
    let mut by_key = std::collections::BTreeMap::<Uuid, Vec<&Wrap>>::new();
    wraps.iter().for_each(|wrap| by_key.entry(wrap.id).or_default().push(wrap));
    by_key
}

fn wrap(by: &EncryptionKey, id: Uuid, purpose: &str, day: &str, bytes: &[u8], now_ms: u64) -> Wrap {
    Wrap {
        id,
        by: by.name.clone(),
        purpose: purpose.to_owned(),
        day: day.to_owned(),
        wrapped: seal(&by.key, &wrap_place(id, purpose, day), bytes),
        created_at: now_ms as i64,
    }
}

fn unwrap(encryption: &[EncryptionKey], id: Uuid, wraps: &[&Wrap]) -> Result<Vec<u8>, KeyError> {
    wraps.iter().find_map(|wrap| open_wrap(encryption, wrap)).ok_or_else(|| {
        let theirs: Vec<&str> = wraps.iter().map(|wrap| &*wrap.by).collect();
        let ours: Vec<&str> = encryption.iter().map(|key| &*key.name).collect();
        KeyError::Wrong(format!(
            "the encryption keys are not those of this store: its key {id} is wrapped by {}, the files hold {}; put the \
             key it was made with back into ledger.encryption_key_files",
            theirs.join(" and "),
            ours.join(" and "),
        ))
    })
}

fn open_wrap(encryption: &[EncryptionKey], wrap: &Wrap) -> Option<Vec<u8>> {
    let by = encryption.iter().find(|key| key.name == wrap.by)?;
    unseal(&by.key, &wrap_place(wrap.id, &wrap.purpose, &wrap.day), &wrap.wrapped)
}

fn place(table: &str, column: &str, row: Uuid) -> String {
    format!("{table}|{column}|{}", row.hyphenated())
}

fn wrap_place(id: Uuid, purpose: &str, day: &str) -> String {
    format!("keys|{purpose}|{day}|{}", id.hyphenated())
}

fn seal(key: &LessSafeKey, place: &str, content: &[u8]) -> Vec<u8> {
    // Without randomness nothing may be encrypted: a repeated nonce would reveal the key.
    let nonce = random::<NONCE_LEN>().expect("the system's random numbers");
    let mut sealed = Vec::with_capacity(NONCE_LEN + content.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(content);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(place.as_bytes()), &mut sealed[NONCE_LEN..]);
    sealed.extend_from_slice(tag.expect("less than 64 GiB").as_ref());
    sealed
}

fn unseal(key: &LessSafeKey, place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, content) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut content = content.to_vec();
    let length = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut content).ok()?.len();
    content.truncate(length);
    Some(content)
}

fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| KeyError::Wrong("the system gives no random numbers".into()))?;
    Ok(bytes)
}

/// The UTC day, such as `2026-11-21`.
fn day(now_ms: u64) -> String {
    let mut time = clock::rfc3339(now_ms);
    time.truncate(10);
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn secret(byte: u8) -> Secret {
        Secret(Arc::from([byte; 32]))
    }

    #[test]
    fn a_cell_opens_in_its_own_place_only() {
        let (ring, new) = Ring::open(&[secret(1)], &[], 0).unwrap();
        assert_eq!(new.len(), 1, "the chain's key");
        let (key, row) = (ring.today(0).unwrap(), Uuid::now_v7());
        let sealed = key.seal("evidence", "body", row, b"alice@example.com");
        assert!(!sealed.windows(5).any(|part| part == b"alice"));
        assert_eq!(ring.unseal(key.id(), "evidence", "body", row, &sealed).unwrap(), b"alice@example.com");
        assert_eq!(ring.unseal(key.id(), "evidence", "headers", row, &sealed), None);
        assert_eq!(ring.unseal(key.id(), "evidence", "body", Uuid::now_v7(), &sealed), None);
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(ring.unseal(key.id(), "evidence", "body", row, &other), None, "byte {at}");
        }
        assert_eq!(ring.unseal(key.id(), "evidence", "body", row, &sealed[..10]), None);
    }

    #[test]
    fn keys_outlive_a_restart_and_a_rotation_which_begins_a_new_data_key() {
        let (ring, mut stored) = Ring::open(&[secret(1)], &[], 0).unwrap();
        let (key, row) = (ring.today(0).unwrap(), Uuid::now_v7());
        let sealed = key.seal("evidence", "body", row, b"x");
        stored.extend_from_slice(key.unkept());
        key.keep();
        assert!(key.unkept().is_empty());
        let link = ring.chain().link(&[], &[]);

        let (both, added) = Ring::open(&[secret(2), secret(1)], &stored, 5).unwrap();
        assert_eq!(added.len(), 3, "each key gets a wrap by the new one, and a new data key is there at once");
        assert_ne!(both.today(DAY_MS - 1).unwrap().id(), key.id(), "who has the old key may have that one");
        let (same, _) = Ring::open(&[secret(1)], &stored, 5).unwrap();
        assert_eq!(same.today(DAY_MS - 1).unwrap().id(), key.id(), "without a rotation the day goes on with its key");
        assert_ne!(both.today(DAY_MS).unwrap().id(), key.id());
        stored.extend(added);
        let (new, added) = Ring::open(&[secret(2)], &stored, 6).unwrap();
        assert!(added.is_empty());
        assert_ne!(new.today(7).unwrap().id(), key.id(), "though nothing came before this start");
        assert_eq!(new.unseal(key.id(), "evidence", "body", row, &sealed).unwrap(), b"x");
        assert_eq!(new.chain().link(&[], &[]), link);
    }

    #[test]
    fn a_wrong_key_is_told_at_once_without_telling_a_key() {
        let (_, stored) = Ring::open(&[secret(1)], &[], 0).unwrap();
        let KeyError::Wrong(message) = Ring::open(&[secret(3)], &stored, 0).unwrap_err();
        assert!(message.contains("not those of this store"), "{message}");
        assert!(message.contains(&fingerprint(&[1; 32])) && message.contains(&fingerprint(&[3; 32])), "{message}");
    }

    #[test]
    fn erasing_a_days_wraps_leaves_the_rest() {
        let (ring, mut stored) = Ring::open(&[secret(1)], &[], 0).unwrap();
        let (first, second, row) = (ring.today(0).unwrap(), ring.today(DAY_MS).unwrap(), Uuid::now_v7());
        let cells = [first.seal("evidence", "body", row, b"1"), second.seal("evidence", "body", row, b"2")];
        stored.extend(first.unkept().iter().chain(second.unkept()).cloned());
        stored.retain(|wrap| wrap.day != "1970-01-01");
        let (ring, _) = Ring::open(&[secret(1)], &stored, 0).unwrap();
        assert_eq!(ring.unseal(first.id(), "evidence", "body", row, &cells[0]), None);
        assert_eq!(ring.unseal(second.id(), "evidence", "body", row, &cells[1]).unwrap(), b"2");
    }
}
