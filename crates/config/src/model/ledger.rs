//! The model of `[ledger]`: plain data, valid by construction; every secret is read, every key is parsed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::finding::Place;
use base::secret::Secret;
use providers::api::{API_URL, Api};
use providers::configured::{Configured, Names};
use providers::verify::Verify;

/// The name, in metrics and logs, of the upstream that routes with `ledger = true` forward to; no other may have it.
pub const UPSTREAM: &str = "ledger";

/// `[ledger]`
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    /// The address that it listens on, or, when not embedded, the address where it is.
    pub address: SocketAddr,
    /// Whether `tollgate run` starts it.
    pub embedded: bool,
    /// The store of the books.
    pub store: Store,
    /// 32 bytes each, at least one; the first encrypts, all decrypt.
    pub encryption_keys: Vec<Secret>,
    /// The platform's token.
    pub token: Option<Secret>,
    /// The most callbacks of a commit; at least 1.
    pub batch_max: usize,
    /// Waits between two attempts of a delivery; after the last one the event is dead.
    pub delivery_backoff: Vec<Duration>,
    /// The time limit of an attempt; never zero.
    pub delivery_timeout: Duration,
    /// `[ledger.channel.*]`, in the order written.
    pub channels: Vec<Channel>,
    /// `[ledger.merchant.*]`, in the order written.
    pub merchants: Vec<Merchant>,
    /// The path of `state_dir`, where the anchor is kept.
    pub state_dir: PathBuf,
    /// The place of `address`, or of the table.
    pub place: Place,
}

/// `store`
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// `sqlite:PATH`, joined to `state_dir`.
    Sqlite(PathBuf),
    /// `postgres://user@host/db`; the URL has no password.
    Postgres {
        /// As written.
        url: String,
        /// From `store_password_file`.
        password: Option<Secret>,
    },
}

/// `[ledger.channel.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// The table's name: `[a-z0-9_-]+`.
    pub name: Arc<str>,
    /// How its callbacks are verified and read.
    pub provider: Configured,
    /// A merchant of this ledger.
    pub merchant: Arc<str>,
    /// Whether a payment that no order names is parked.
    pub require_order: bool,
    /// The fee charged to the merchant.
    pub fee: Option<Fee>,
    /// Times after its creation at which the provider is asked about an order or refund that is pending; at least one.
    pub query_after: Vec<Duration>,
}

/// `fee`: `percent` of the amount and `fixed_minor`, at least `minimum_minor`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fee {
    /// Exactly as written.
    pub percent: rust_decimal::Decimal,
    /// In minor units of the payment's currency.
    pub fixed_minor: i64,
    /// In minor units of the payment's currency.
    pub minimum_minor: i64,
    /// How a fraction of a minor unit is rounded.
    pub rounding: Rounding,
}

/// `rounding`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// `half_even`
    HalfEven,
    /// `half_up`: half away from zero
    HalfUp,
    /// `up`: away from zero
    Up,
    /// `down`: towards zero
    Down,
}

impl Channel {
    /// Prepares what calls its provider; `None` where it is never called.
    pub fn api(&self) -> Option<Box<dyn Api>> {
        self.provider.api(&Names { channel: &self.name, merchant: &self.merchant })
    }

    /// Whether its provider is called.
    pub fn is_called(&self) -> bool {
        self.provider.values.has(&API_URL)
    }

    /// Prepares the keys of its provider.
    pub fn prepare(&self) -> Box<dyn Verify> {
        self.provider.prepare(&Names { channel: &self.name, merchant: &self.merchant })
    }
}

/// `[ledger.merchant.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Merchant {
    /// The table's name: `[a-z0-9_-]+`.
    pub name: Arc<str>,
    /// The URL that its events are posted to.
    pub url: String,
    /// The secret that signs its events (Standard Webhooks), decoded.
    pub secret: Secret,
    /// Its own token.
    pub token: Option<Secret>,
    /// Whether `url` may be a loopback or private address.
    pub allow_private: bool,
}
