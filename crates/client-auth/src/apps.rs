//! The apps that may call, and their keys, as `[app.*]` gives them; valid by construction.

use std::sync::Arc;

use ring::digest::{SHA256, digest};

use base::finding::Place;
use base::secret::Secret;

/// `[app.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// The table's name.
    pub name: Arc<str>,
    /// Whether its requests are served.
    pub status: AppStatus,
    /// Its keys; their ids are distinct.
    pub keys: Vec<AppKey>,
    /// Limits of every request of it, by the numbers of `Config::limits`.
    pub limits: Vec<usize>,
    /// Where the table stands.
    pub place: Place,
}

/// `status` of an app
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppStatus {
    /// Waits for the platform's word: 403.
    Pending,
    /// Is served.
    Approved,
    /// Was served: 403.
    Suspended,
}

/// One of an app's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct AppKey {
    /// Its name, for signatures and logs.
    pub id: Arc<str>,
    /// What its owner proves to have.
    pub secret: KeySecret,
}

/// What a key's file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySecret {
    /// The key itself.
    Plain(Secret),
    /// Its SHA-256 only, so it cannot sign.
    Sha256([u8; 32]),
}

impl KeySecret {
    /// SHA-256 of the key.
    pub fn hash(&self) -> [u8; 32] {
        match self {
            KeySecret::Sha256(hash) => *hash,
            KeySecret::Plain(secret) => {
                let mut hash = [0; 32];
                hash.copy_from_slice(digest(&SHA256, &secret.0).as_ref());
                hash
            }
        }
    }
}
