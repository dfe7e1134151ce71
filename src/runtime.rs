//! The configuration while it is served: how it is read, its run form, and how the next one replaces it.
//!
//! | module | is |
//! |---|---|
//! | [`watch`] | notices changed files |
//! | [`reload`] | reads, checks and serves a revision, or keeps the running one and says why |
//! | [`snapshot`] | the run form of a revision: tables, pools and limits that requests use |
//! | [`history`] | the revisions on disk |

pub mod history;
pub mod reload;
pub mod snapshot;
pub mod watch;
