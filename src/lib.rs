//! Tollgate: a layer-7 gateway that admits only requests with one reading, balances load, checks health, and changes
//! its configuration without dropping a request.
//!
//! # The map
//!
//! The way of a request is one file, [`proxy`], whose hooks call one stage each: listen → identify → admit → route →
//! authenticate → limit → assign → balance → forward → observe. Stages are verbs; the engines that they ask are nouns.
//!
//! Engines are separate crates under `crates/`. None of them names Pingora's proxy, and only `base::socket`,
//! `ledger` and `http_client` open sockets.
//!
//! | crate | is |
//! |---|---|
//! | [`base`] | the foundation: numbers with units, time, paths, findings, secrets |
//! | [`http_guard`] | which requests have one reading |
//! | [`client_auth`] | the identity of callers: API keys, signed requests, tokens |
//! | [`rate_limit`] | rates, requests in flight, bounded tables |
//! | [`balance`] | upstream sets: members, algorithms, ejection, retry budget, adaptive limit |
//! | [`gray`] | gray release: buckets, cohorts, the judge, the steps, reports |
//! | [`http_client`] | the gateway's own requests: webhooks, commands to a running gateway |
//! | `providers` | the payment providers: keys, signatures, meaning of messages |
//! | [`config`] | files → findings or a checked configuration; which route takes a request |
//! | [`ledger`] | **the way of a callback**: receive → verify → normalise → journal → acknowledge → deliver |
//!
//! The demo is a separate program, `crates/demo`.
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
//! | [`upgrade`] | the hand-over to another executable: channel, sockets, service manager |
//! | [`telemetry`] | the table of metric names, counters, the access log |
//! | [`authorities`] | the system's certificates, for connections to servers |
//! | [`allocator`] | returning memory to the system after a flood of requests |
//! | [`memory`] | the memory that clients make the process hold, in one account with one bound |
//! | [`problem`] | the reasons for which a request is refused |

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
