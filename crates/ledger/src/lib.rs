//! The payment ledger of Tollgate, from a provider's callback to the merchant's event.
//!
//! **The way of a callback**: receive → verify → normalise → journal → acknowledge → deliver.
//!
//! | module | is |
//! |---|---|
//! | [`providers`] | receive, verify, normalise: from raw bytes to a meaning; one file per payment provider |
//! | [`channel`] | a provider's keys, prepared for one channel |
//! | [`journal`] | the one writer: batches, commits, receipts; [`book`] decides, [`keys`] encrypt, [`chain`] links |
//! | [`acknowledge`] | the answer to the provider |
//! | [`command`] | what merchants ask for by API, once for each idempotency key |
//! | [`resolve`] | a person's decision about an anomaly |
//! | [`reconcile`] | a provider's statement against the books |
//! | [`deliver`] | sending events to merchants until they accept them |
//! | [`rows`], [`stored_enum`], [`store`] | the rows of the books, their words, and their stores: SQLite, PostgreSQL |
//! | [`query`], [`api`] | reads of the books, the form in which they are shown, and the API's calls |
//! | [`audit`], [`anchor`], [`export`] | verification of the books; the chain's end, kept elsewhere; files to import |
//! | [`archive`] | a day's evidence in a file instead of the store |
//! | [`outcalls`] | calls to the providers: orders and refunds by API, and the watch over what is pending |
//! | [`holds`] | the watch over transfers that are held |
//! | [`monitor`], [`skew`] | the watch over the anchor, the disk, the clock and what waits |
//! | [`service`], [`ingest`], [`serve`] | the ledger as a whole, the way of a callback over HTTP, the listener |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod acknowledge;
pub mod anchor;
pub mod api;
pub mod archive;
pub mod audit;
pub mod book;
pub mod chain;
pub mod channel;
pub mod command;
pub mod deliver;
pub mod endpoints;
pub mod export;
pub mod holds;
pub mod ingest;
pub mod journal;
pub mod keys;
pub mod metrics;
pub mod monitor;
pub mod names;
pub mod outcalls;
pub mod outcome;
pub mod query;
pub mod reconcile;
pub mod resolve;
pub mod rows;
pub mod serve;
pub mod service;
pub mod skew;
pub mod store;
pub mod stored_enum;
