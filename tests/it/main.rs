//! The real executable before real backends, read like the way of a request.
//!
//! A test starts a [`support::world::World`]: a gateway process of its own with a configuration of its own, on ports
//! the kernel assigns, between backends that live in this process or are nginx. Nothing waits by sleeping: what takes
//! time is polled for until a deadline that a busy machine does not reach. `TOLLGATE_BIN` names another executable to
//! test than the one of this build. Tests marked `long` take minutes and print figures: `scripts/test --long`.

// The clock of the gateway is not the clock of its tests.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod support;

mod admission;
mod auth;
mod balance;
mod compress;
mod connection;
mod grpc;
mod headers;
mod health;
mod http2;
mod liveness;
mod observability;
mod overload;
mod protocols;
mod proxy_protocol;
mod resilience;
mod routing;
mod tls;
mod uploads;
mod ways;
mod windows;

mod fuzz;
mod history;
mod judge;
mod ledger;
mod limits;
mod load;
mod release;
mod reload;
mod shutdown;
mod unprocessed;
mod upgrade;

mod admin;
mod cli;
mod config_examples;
mod packages;
mod tidy;
