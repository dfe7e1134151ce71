//! What the rest of Tollgate stands on. No module of it knows a route, a release or a ledger.
//!
//! | module | is |
//! |---|---|
//! | [`clock`], [`units`] | time, and numbers with their unit |
//! | [`finding`] | what is wrong with a configuration, where, and the way out |
//! | [`path`] | one spelling for every path of a request |
//! | [`said`] | what a request says under a name, where it may say it twice |
//! | [`problem`] | what an error answer says |
//! | [`net`], [`socket`] | address ranges; listening sockets |
//! | [`bearer`], [`secret`], [`hex`] | tokens, secrets, digits |
//! | [`files`] | files that are replaced whole |
//! | [`machine`] | how much memory and how many files there are |
//! | [`metric`] | what a metric is called |
//! | [`shard`] | counters that no two cores fight over |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod bearer;
pub mod clock;
pub mod files;
pub mod finding;
pub mod hex;
pub mod machine;
pub mod metric;
pub mod net;
pub mod path;
pub mod problem;
pub mod said;
pub mod secret;
pub mod shard;
pub mod socket;
pub mod units;
