//! The forms of `[ledger]`, `[ledger.channel.NAME]` and `[ledger.merchant.NAME]`.
//!
//! Channels and merchants are decoded one by one, so that a misspelt key of one does not affect the others. A store
//! stays text here: where it has a password, the finding must not show it, and only `check` can ensure that. `check`
//! also decides which keys of a channel go with its provider.

pub mod channel;
pub mod fee;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use self::channel::ChannelForm;
use super::located::Located;
use super::notify::Url;
use super::number::Number;
use super::scalar::{FilePath, FromText, Word, not_a};

/// The ledger: no payment callback gets past it unrecorded.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerForm {
    /// IP address and port where the ledger listens, or, when it is not embedded, where it is.
    #[schemars(extend("default" = "127.0.0.1:9700"))]
    pub address: Option<Word<SocketAddr>>,
    /// Whether "tollgate run" starts it. False: routes forward to address.
    #[schemars(extend("default" = true))]
    pub embedded: Option<bool>,
    /// "sqlite:PATH" (a file in state_dir) or "postgres://user@host/db".
    #[schemars(extend("default" = "sqlite:ledger.db"))]
    pub store: Option<Word<String>>,
    /// File with the password of a PostgreSQL store, whose URL must not hold it. "": none.
    #[schemars(extend("default" = ""))]
    pub store_password_file: Option<Word<FileOrNone>>,
    /// Files with 64 hex digits each (openssl rand -hex 32). The first encrypts, all decrypt. To rotate: put the new
    /// key second on every process (standby first) and restart all; put it first and restart all; run `tollgate ledger
    /// keys rotate`; then remove the old key. `tollgate ledger keys erase DAY` erases what came on a day.
    #[schemars(required)]
    pub encryption_key_files: Option<Located<Vec<Word<FilePath>>>>,
    /// File with the platform's bearer token, which reads and writes everything. "": none.
    #[schemars(extend("default" = ""))]
    pub token_file: Option<Word<FileOrNone>>,
    /// Callbacks that one commit may hold.
    #[schemars(extend("default" = 256))]
    pub batch_max: Option<Located<Number<1, 4096>>>,
    /// Waits between two attempts of a delivery. After the last one the event is dead.
    #[schemars(extend("default" = ["5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h"]))]
    pub delivery_backoff: Option<Located<Vec<Word<Duration>>>>,
    /// Time that one attempt may take.
    #[schemars(extend("default" = "15s"))]
    pub delivery_timeout: Option<Word<Duration>>,
    /// Where callbacks come from, by name: [a-z0-9_-]+.
    #[expect(dead_code, reason = "for the schema; each table is read by itself")]
    pub channel: Option<BTreeMap<String, ChannelForm>>,
    /// Who is owed the money, by name: [a-z0-9_-]+.
    #[expect(dead_code, reason = "for the schema; each table is read by itself")]
    pub merchant: Option<BTreeMap<String, MerchantForm>>,
}

/// Who is owed the money of a channel, and is told of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MerchantForm {
    /// Where its events are posted until it answers 2xx: http:// or https://.
    #[schemars(required)]
    pub url: Option<Word<Url>>,
    /// File with the secret that signs its events (Standard Webhooks): "whsec_" and 24 to 64 bytes in base64.
    #[schemars(required)]
    pub secret_file: Option<Word<FilePath>>,
    /// File with its own bearer token, which reads and writes only what belongs to the merchant. "": none.
    #[schemars(extend("default" = ""))]
    pub token_file: Option<Word<FileOrNone>>,
    /// Whether url may lead to a loopback or private address.
    #[schemars(extend("default" = false))]
    pub allow_private: Option<bool>,
}

/// The path of a file; an empty one means no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOrNone(pub Option<FilePath>);

impl FromText for FileOrNone {
    const WHAT: &'static str = "a path of a file";
    const EXAMPLE: &'static str = "\"secrets/ledger.token\", or \"\" for none";
    fn schema() -> Schema {
        json_schema!({})
    }
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(FileOrNone(None));
        }
        FilePath::from_text(text).map(|path| FileOrNone(Some(path))).map_err(|_| not_a::<Self>(text))
    }
}
