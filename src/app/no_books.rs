//! The place of the ledger in a build without one. No configuration that embeds a ledger is valid there.

use std::sync::Arc;

use crate::notify::Notifier;
use crate::upgrade::sockets::Sockets;
use config::model;

/// There is none.
pub enum Books {}

impl Books {
    /// Never opens.
    pub fn open(_: &model::ledger::Ledger, _: Arc<Sockets>, _: Arc<Notifier>) -> Result<Books, String> {
        Err("this build has no ledger".to_owned())
    }

    /// See `books.rs`, and so for all that follow.
    pub fn metrics(&self) -> prometheus::Registry {
        match *self {}
    }

    /// See there.
    pub fn serve(&self) -> Result<(), String> {
        match *self {}
    }

    /// See there.
    pub fn stands_by(&self) -> bool {
        match *self {}
    }

    /// See there.
    pub fn has_failed(&self) -> bool {
        match *self {}
    }

    /// See there.
    pub fn is_held(&self) -> bool {
        match *self {}
    }

    /// See there.
    pub fn follow(&self, _: &model::ledger::Ledger) {
        match *self {}
    }

    /// See there.
    pub fn close(&self) {
        match *self {}
    }

    /// See there.
    pub fn open_again(&self) -> Result<(), String> {
        match *self {}
    }

    /// See there.
    pub fn end(&self) {
        match *self {}
    }
}
