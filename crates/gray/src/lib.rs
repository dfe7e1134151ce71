//! Gray release: which users are on the canary, whether it is worse than stable, and what follows from that.
//!
//! The crate is pure: time comes as an argument, and nothing opens a socket or a file. `proxy/assign` and
//! `proxy/rescue` apply it to requests; the gateway's `releases` drives it by the clock and keeps its state on disk.
//!
//! | module | is |
//! |---|---|
//! | [`settings`] | `[release.*]` and `[cohort.*]` |
//! | [`user_source`] | where a release's user key comes from: how a source is written, and its value in a request |
//! | [`bucket`] | a user's position by one of the published hashes, and the interval that the canary owns |
//! | [`cohort`] | named sets of users |
//! | [`assignment`] | a release as a request meets it |
//! | [`shared_state`] | what requests share of a release: its stage, its counters, its observations |
//! | [`sample`] | what the judge learns of one request |
//! | [`judge`] | whether the canary is worse |
//! | [`breakdown`] | counts of failures by route, server, outcome, cohort and app |
//! | [`localise`] | where a fault is |
//! | [`report`] | what is reported of a verdict |
//! | [`controller`] | steps, when each is left ([`controller::promotion`]), states, what the judge's findings lead to |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod assignment;
pub mod breakdown;
pub mod bucket;
pub mod cohort;
pub mod controller;
pub mod judge;
pub mod localise;
pub mod report;
pub mod sample;
pub mod settings;
pub mod shared_state;
pub mod user_source;
