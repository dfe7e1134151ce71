//! Gray release: who is on the canary, whether it is worse, and what follows.
//!
//! Everything here is pure: time comes as an argument, nothing opens a socket or a file. `proxy/assign` and
//! `proxy/rescue` are its hands on the request way, the gateway's `releases` is its clock and its disk.
//!
//! | module | is |
//! |---|---|
//! | [`settings`] | `[release.*]` and `[cohort.*]` |
//! | [`bucket`] | a user's position by one of the published hashes, and the interval that the canary owns |
//! | [`cohort`] | named sets of users |
//! | [`assignment`] | a release as a request meets it |
//! | [`shared_state`] | what requests share of a release: its stage, its counters, what was seen |
//! | [`sample`] | what the judge is told of a request |
//! | [`judge`] | whether the canary is worse |
//! | [`breakdown`] | counts of failures by route, server, outcome, cohort and app |
//! | [`localise`] | where a fault is |
//! | [`report`] | what is told about it |
//! | [`controller`] | steps, states, and what the judge's findings lead to |

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
