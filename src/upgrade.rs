//! **upgrade**: another executable takes over the sockets and the state of this one, and no connection is refused.
//!
//! | module | is |
//! |---|---|
//! | [`control`] | the socket in `state_dir` by which `tollgate upgrade` asks the running process |
//! | [`channel`] | what both processes tell each other, and how sockets travel |
//! | [`child`] | the new process, as the old one sees it: started, heard, ended |
//! | [`parent`] | the old process, as the new one sees it |
//! | [`sockets`] | listening sockets: inherited or bound, kept to be passed on |
//! | [`executable`] | which file is started |
//! | [`manager`] | what a service manager is told |
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
//! At each moment exactly one of them accepts, writes `state_dir` and has the books. Until `go` the old process can take
//! everything back, and does so whatever becomes of the new one: connections that come meanwhile wait in the sockets'
//! queues. After `go` a fault of the new process is a fault like any other. It does not cover `tollgate ledger run`: a
//! second one of those stands by and takes over by itself.

pub mod channel;
pub mod child;
pub mod control;
pub mod executable;
pub mod manager;
pub mod parent;
pub mod sockets;

use serde::{Deserialize, Serialize};

use base::finding::Finding;

/// Why an upgrade was not done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UpgradeError {
    /// In words, with what to do next where that is known.
    pub reason: String,
    /// Where the configuration is why: all that is wrong with it.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

impl UpgradeError {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> UpgradeError {
        UpgradeError { reason: reason.into(), findings: vec![] }
    }
}

impl From<String> for UpgradeError {
    fn from(reason: String) -> UpgradeError {
        UpgradeError::new(reason)
    }
}
