//! The form of `[ledger]`, `[ledger.channel.NAME]` and `[ledger.merchant.NAME]`.
//!
//! Channels and merchants are decoded one by one, so that a misspelt key of one says nothing about the others. A store
//! stays text here: where it carries a password, the finding must not show it, and only `check` can see to that. Which
//! keys of a channel go with its provider is `check`'s too.

pub mod channel;
pub mod fee;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use self::channel::Channel;
use super::at::At;
use super::notify::Url;
use super::number::Number;
use super::word::{FilePath, Spelt, Word, not_a};

/// The ledger: no payment callback gets past it unrecorded.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// IP address and port where it listens, or where it is. Default "127.0.0.1:9700".
    pub address: Option<Word<SocketAddr>>,
    /// Whether "tollgate run" starts it; false: routes forward to address. Default true.
    pub embedded: Option<bool>,
    /// "sqlite:PATH" in state_dir, or "postgres://user@host/db". Default "sqlite:ledger.db".
    pub store: Option<Word<String>>,
    /// File with the password of a PostgreSQL store; "": none. Default "".
    pub store_password_file: Option<Word<FileOrNone>>,
    /// Files with 64 hex digits each; the first encrypts, all decrypt. REQUIRED.
    #[schemars(required)]
    pub encryption_key_files: Option<At<Vec<Word<FilePath>>>>,
    /// File with the platform's bearer token; "": none.
    pub token_file: Option<Word<FileOrNone>>,
    /// Callbacks that one commit may hold. Default 256.
    pub batch_max: Option<At<Number<1, 4096>>>,
    /// Waits between two tries of a delivery; after the last one it is dead.
    /// Default ["5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"].
    pub delivery_backoff: Option<At<Vec<Word<Duration>>>>,
    /// Time that one try may take. Default "15s".
    pub delivery_timeout: Option<Word<Duration>>,
    /// Where callbacks come from, by name: [a-z0-9_-]+.
    #[expect(dead_code, reason = "for the schema; each table is read by itself")]
    pub channel: Option<BTreeMap<String, Channel>>,
    /// Who is owed the money, by name: [a-z0-9_-]+.
    #[expect(dead_code, reason = "for the schema; each table is read by itself")]
    pub merchant: Option<BTreeMap<String, Merchant>>,
}

/// Who is owed the money of a channel, and is told of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Merchant {
    /// Where its events are posted: http:// or https://. REQUIRED.
    #[schemars(required)]
    pub url: Option<Word<Url>>,
    /// File with the secret that signs its events (Standard Webhooks): "whsec_" and 24 to 64 bytes in base64. REQUIRED.
    #[schemars(required)]
    pub secret_file: Option<Word<FilePath>>,
    /// File with its own bearer token, which reads and writes only what is its own; "": none. Default "".
    pub token_file: Option<Word<FileOrNone>>,
    /// Whether url may lead to a loopback or private address. Default false.
    pub allow_private: Option<bool>,
}

/// A path of a file; an empty one is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOrNone(pub Option<FilePath>);

impl Spelt for FileOrNone {
    const WHAT: &'static str = "a path of a file";
    const EXAMPLE: &'static str = "\"secrets/ledger.token\", or \"\" for none";
    fn schema() -> Schema {
        json_schema!({})
    }
    fn spell(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(FileOrNone(None));
        }
        FilePath::spell(text).map(|path| FileOrNone(Some(path))).map_err(|_| not_a::<Self>(text))
    }
}
