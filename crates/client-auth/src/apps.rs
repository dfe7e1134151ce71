//! The apps that may call, and their keys, as in `[app.*]`; valid by construction.

use std::sync::Arc;

use ring::digest::{SHA256, digest};

use base::finding::Place;
use base::secret::Secret;

/// `[app.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// The table's name.
    pub name: Arc<str>,
    /// Whether the app's requests are served.
    pub status: AppStatus,
    /// Its keys; their ids are distinct.
    pub keys: Vec<AppKey>,
    /// Limits of every request of the app, by the numbers of `Config::limits`.
    pub limits: Vec<usize>,
    /// Where the table stands.
    pub place: Place,
}

/// `status` of an app
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppStatus {
    /// Waits for the platform's approval: 403.
    Pending,
    /// Is served.
    Approved,
    /// Was served: 403.
    Suspended,
}

/// A key of an app.
#[derive(Clone, Debug, PartialEq)]
pub struct AppKey {
    /// Its name, for signatures and logs.
    pub id: Arc<str>,
    /// The secret that its owner proves to have.
    pub secret: KeySecret,
}

/// The content of a key's file.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySecret {
    /// The key itself.
    Plain(Secret),
    /// Only its SHA-256, so it cannot sign.
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
