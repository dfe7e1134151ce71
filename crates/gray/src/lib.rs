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
//! | [`plan`] | a release as a request meets it |
//! | [`live`] | what requests share of a release: its stage, its counters, what was seen |
//! | [`seen`] | what the judge is told of a request |
//! | [`judge`] | whether the canary is worse |
//! | [`cells`] | counts of failures by route, server, outcome, cohort and app |
//! | [`localise`] | where a fault is |
//! | [`report`] | what is told about it |
//! | [`controller`] | steps, states, and what the judge's findings lead to |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod bucket;
pub mod cells;
pub mod cohort;
pub mod controller;
pub mod judge;
pub mod live;
pub mod localise;
pub mod plan;
pub mod report;
pub mod seen;
pub mod settings;
