//! The place of the ledger in a build without one. No configuration that embeds a ledger is valid there.
//! Its face is that of `books.rs`; nothing of it can be called.

use std::sync::Arc;

use crate::notify::Notifier;
use crate::upgrade::sockets::Sockets;
use config::model;

/// There is none.
pub enum Books {}

impl Books {
    pub fn open(_: &model::ledger::Ledger, _: Arc<Sockets>, _: Arc<Notifier>) -> Result<Books, String> {
        Err("this build has no ledger".to_owned())
    }

    pub fn metrics(&self) -> prometheus::Registry {
        match *self {}
    }

    pub fn serve(&self) -> Result<(), String> {
        match *self {}
    }

    pub fn stands_by(&self) -> bool {
        match *self {}
    }

    pub fn has_failed(&self) -> bool {
        match *self {}
    }

    pub fn is_held(&self) -> bool {
        match *self {}
    }

    pub fn follow(&self, _: &model::ledger::Ledger) {
        match *self {}
    }

    pub fn close(&self) {
        match *self {}
    }

    pub fn open_again(&self) -> Result<(), String> {
        match *self {}
    }

    pub fn end(&self) {
        match *self {}
    }
}
