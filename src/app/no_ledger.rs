//! The ledger's place in a build without one, in which a configuration that embeds a ledger is invalid. It has the
//! interface of `embedded_ledger.rs`; none of its methods can be called.

use std::sync::Arc;

use crate::notify::Notifier;
use crate::upgrade::sockets::Sockets;
use config::model;

/// A type without values.
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
