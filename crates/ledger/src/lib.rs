//! **The way of a callback**: receive → verify → normalise → journal → acknowledge → deliver.
//!
//! | module | is |
//! |---|---|
//! | [`receive`] | raw bytes, headers, time of arrival |
//! | [`verify`], [`provider`] | who sent it, and when: one file per payment provider |
//! | [`normalise`], [`event`] | what a message means, in the words of no provider |
//! | [`journal`] | the one writer: batches, commits, receipts; [`book`] decides, [`keys`] encrypt, [`chain`] links |
//! | [`acknowledge`] | what the provider is answered |
//! | [`resolve`] | what somebody decides of an anomaly |
//! | [`deliver`] | what merchants are told, until they have it |
//! | [`rows`], [`stored_enum`], [`store`] | the rows of the books, their words, and SQLite and PostgreSQL that keep them |
//! | [`query`], [`api`] | what is read out of the books, as it is shown, and the calls |
//! | [`audit`], [`anchor`], [`export`] | whether the books are whole; the chain's end, kept elsewhere; files for others |
//! | [`monitor`], [`skew`] | what is watched: the anchor, the disk, the clock, what waits |
//! | [`service`], [`ingest`], [`serve`] | the ledger as a whole, its way of a callback by HTTP, its listener |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod acknowledge;
pub mod anchor;
pub mod api;
pub mod audit;
pub mod book;
pub mod chain;
pub mod deliver;
pub mod event;
pub mod export;
pub mod ingest;
pub mod journal;
pub mod keys;
pub mod metrics;
pub mod monitor;
pub mod names;
pub mod normalise;
pub mod outcome;
pub mod provider;
pub mod query;
pub mod receive;
pub mod resolve;
pub mod rows;
pub mod serve;
pub mod service;
pub mod skew;
pub mod store;
pub mod stored_enum;
pub mod verify;
