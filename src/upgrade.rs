//! Upgrades: another executable takes over the sockets and the state of this one, and no connection is refused.
//!
//! | module | is |
//! |---|---|
//! | [`control`] | the socket in `state_dir` by which `tollgate upgrade` asks the running process |
//! | [`channel`] | the messages between both processes, and how sockets are passed |
//! | [`child`] | the new process, as the old one sees it: started, heard, ended |
//! | [`parent`] | the old process, as the new one sees it |
//! | [`sockets`] | listening sockets: inherited or bound, kept for passing on |
//! | [`executable`] | which file is started |
//! | [`manager`] | notifications to the service manager |
//!
//! In turn (`app::upgrade_parent` does the old one's part, `app` the new one's):
//!
//! ```text
//! old                                   new
//! starts it                          →  hello
//! every socket                       →  checks the configuration, adopts sockets, binds what is new
//!                                    ←  prepared
//! closes the embedded ledger: books  →  opens the ledger's store
//!                                    ←  opened
//! holds its state, written out: state → reads it, builds what it will serve
//!                                    ←  ready
//! go, stops accepting, drains        →  accepts
//!                                    ←  serving
//! ```
//!
//! At each moment exactly one of them accepts, writes `state_dir` and has the books. Until `go` the old process can
//! take everything back, and does so whatever happens to the new one: connections that arrive meanwhile wait in the
//! sockets' queues. After `go` a fault of the new process is a fault like any other. This does not cover
//! `tollgate ledger run`: a second one of those stands by and takes over by itself.

pub mod channel;
pub mod child;
pub mod control;
pub mod executable;
pub mod manager;
pub mod parent;
pub mod sockets;

use serde::{Deserialize, Serialize};

use base::finding::Finding;

/// Why an upgrade failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpgradeError {
    /// The reason, with what to do next if that is known.
    pub reason: String,
    /// If the configuration is the reason: all its findings.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

impl UpgradeError {
    /// An error with this reason.
    pub fn new(reason: impl Into<String>) -> UpgradeError {
        UpgradeError { reason: reason.into(), findings: vec![] }
    }
}

impl From<String> for UpgradeError {
    fn from(reason: String) -> UpgradeError {
        UpgradeError::new(reason)
    }
}
