//! A configuration while it is served: how it comes, what runs of it, and how the next one takes its place.
//!
//! | module | is |
//! |---|---|
//! | [`watch`] | sees that files have changed |
//! | [`reload`] | reads, checks and serves a revision, or keeps the one that runs and says why |
//! | [`snapshot`] | the run form of a revision: tables, pools and limits that requests use |
//! | [`history`] | the revisions on disk |

pub mod history;
pub mod reload;
pub mod snapshot;
pub mod watch;
