//! Tollgate: a layer-7 gateway that lets in what has one reading, balances, checks health, and swaps its configuration
//! without dropping a request.
//!
//! # The map
//!
//! A request's way is one file, [`proxy`], whose hooks call one stage each: listen → admit → identify → route →
//! authenticate → limit → assign → balance → forward → observe. Verbs are stages, nouns the engines they ask.
//!
//! Engines are crates of their own, under `crates/`. None of them names the proxy of Pingora, and only `ledger` and
//! `http_client` open sockets.
//!
//! | crate | is |
//! |---|---|
//! | [`base`] | the ground: numbers with units, time, paths, findings, secrets |
//! | [`http_guard`] | which requests have one reading |
//! | [`client_auth`] | who is calling: API keys, signed requests, tokens |
//! | [`rate_limit`] | rates, requests in flight, bounded tables |
//! | [`balance`] | upstream sets: members, algorithms, ejection, retry budget, adaptive limit |
//! | [`gray`] | gray release: buckets, cohorts, the judge, the steps, reports |
//! | [`http_client`] | requests of our own: webhooks, commands to a running gateway |
//! | [`config`] | files → findings or a checked configuration; which route takes a request |
//! | [`ledger`] | **the way of a callback**: receive → verify → normalise → journal → acknowledge → deliver |
//!
//! The demo is a program of its own, `crates/demo`.
//!
//! | module | is |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`app`] | the wiring: the only place where engines, services and the proxy are put together |
//! | [`runtime`] | a configuration while it is served: snapshot, reload, history |
//! | [`proxy`] | **the way of a request** |
//! | [`health`] | active probes (the only I/O) and rise and fall counts (pure) |
//! | [`discover`] | servers by DNS name |
//! | [`releases`] | the clock and the disk of [`gray`] |
//! | [`notify`] | fault reports on disk, and messages to `[notify.*]` |
//! | [`admin`] | the operator's listener |
//! | [`upgrade`] | another executable takes over: channel, sockets, service manager |
//! | [`telemetry`] | every metric name in one table, counters, the access log |
//! | [`authorities`] | the system's certificates, for connections to servers |
//! | [`allocator`] | gives back the memory that a flood has taken |
//! | [`memory`] | what clients make the process hold, in one account with one bound |
//! | [`problem`] | what is wrong with a request |

#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod admin;
pub mod allocator;
pub mod app;
pub mod authorities;
pub mod cli;
pub mod discover;
pub mod health;
pub mod memory;
pub mod notify;
pub mod problem;
pub mod proxy;
pub mod releases;
pub mod runtime;
pub mod telemetry;
pub mod upgrade;
