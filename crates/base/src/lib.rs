//! The base of all other crates: time, units, text and sockets. No module of it knows a route, a release or a ledger.
//!
//! | module | is |
//! |---|---|
//! | [`clock`], [`units`] | time, and numbers with their unit |
//! | [`finding`] | an error or warning of a configuration, with its place and a remedy |
//! | [`path`] | the normal form of a request's path |
//! | [`said`] | the value of a name in a request that may repeat it |
//! | [`problem`] | the body of an error answer |
//! | [`mod@refusals`] | a table of refusals as an enum |
//! | [`net`], [`socket`] | address ranges; listening sockets |
//! | [`bearer`], [`secret`], [`hex`] | tokens, secrets, digits |
//! | [`files`] | files that are replaced as a whole |
//! | [`machine`] | the memory and open files that the machine allows |
//! | [`metric`] | names of metrics |
//! | [`shard`] | counters without contention between cores |

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
pub mod refusals;
pub mod said;
pub mod secret;
pub mod shard;
pub mod socket;
pub mod units;
