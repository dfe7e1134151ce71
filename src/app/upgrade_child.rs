//! The new process's part of an upgrade, where it differs from a plain start.
//!
//! Files with findings are refused here, although a plain start would serve the last good revision: the old process
//! serves that already. The configuration is read twice: before the ledger moves, and once the old process's state is
//! final. A change in between ends the upgrade, so that the checked content is the served one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::embedded_ledger::Books;
use super::startup_config::{self, Boot};
use super::upgrade_parent::Handover;
use super::{StartError, books as open_books};
use crate::notify::Notifier;
use crate::runtime::history;
use crate::runtime::snapshot::Snapshot;
use crate::telemetry::Registry;
use crate::telemetry::access_log::AccessLog;
use crate::upgrade::control::Control;
use crate::upgrade::parent::Parent;
use crate::upgrade::sockets::Sockets;
use base::clock;
use config::model::Config;

/// How long the ledger may take to get a lock that was just released.
const LOCK: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// Takes over every socket, and opens the ledger once the old process has closed it.
pub fn books(
    boot: &Boot,
    heir: &mut Parent,
    outside: (&Arc<Sockets>, &Arc<Notifier>, &Registry),
) -> Result<Option<Arc<Books>>, StartError> {
    if let Some(refused) = &boot.refused {
        return Err(StartError::Findings(refused.findings.clone()));
    }
    let config = &boot.loaded.config;
    let notes = take_sockets(config, outside.0)?;
    heir.prepared(notes).map_err(StartError::Io)?;
    heir.working("opening the ledger's store", || {
        let books = open_books(config, outside)?;
        if let Some(books) = &books {
            let until = clock::now().after(LOCK);
            while books.stands_by() && !books.is_held() && clock::now() < until {
                std::thread::sleep(LOOK);
            }
            // The old process can write to it meanwhile; this one could not as long as that lasts.
            if books.is_held() {
                let why = "somebody reads the ledger's store, which an older build made, so it cannot be brought up to \
                           date; the log says what to end";
                return Err(StartError::Io(why.to_owned()));
            }
            if books.has_failed() {
                return Err(StartError::Io("the ledger's store failed; the log says how".to_owned()));
            }
        }
        Ok(books)
    })
}

/// Binds or takes over every socket of the configuration: the ledger must not move if an address is in use.
fn take_sockets(config: &Config, sockets: &Sockets) -> Result<Vec<String>, StartError> {
    let ledger = config.ledger.as_ref().filter(|ledger| ledger.embedded).map(|ledger| ledger.address);
    let admin = config.admin.as_ref().map(|admin| admin.address);
    let listeners = config.listeners.iter().map(|listener| listener.address);
    for address in listeners.chain(admin).chain(ledger) {
        sockets.listen(address).map_err(StartError::io(format!("listening on {address}")))?;
    }
    let unwanted = sockets.unwanted();
    let gone = unwanted.iter().map(|address| format!("{address} is not in the configuration any more: it closes"));
    Ok(gone.collect())
}

/// Notes about the ledger for the operator.
pub fn notes(books: Option<&Books>) -> Vec<String> {
    let stands_by = books.is_some_and(Books::stands_by);
    let note = "the ledger stands by: another process has its store, or it is not ready yet; the log says why";
    stands_by.then(|| note.to_owned()).into_iter().collect()
}

/// Chooses again, from the old process's final state; the result must be the same.
pub fn again(path: &Path, before: &Boot) -> Result<Boot, StartError> {
    let boot = startup_config::choose(path)?;
    if history::hash(&boot.loaded.source) != history::hash(&before.loaded.source) || boot.refused.is_some() {
        return Err(StartError::Io("the configuration was changed meanwhile: ask for the upgrade again".to_owned()));
    }
    Ok(boot)
}

/// Marks servers as unhealthy that the old process's probes found so, if this process probes them too.
pub fn mark_down(first: &Snapshot, down: &[(String, SocketAddr)]) {
    for upstream in first.upstreams.iter().filter(|upstream| upstream.health.is_some()) {
        for member in upstream.pool().members().iter() {
            if down.iter().any(|(name, address)| **name == *upstream.name && *address == member.address) {
                member.state.set_healthy(false, clock::now());
            }
        }
    }
}

/// Opens the socket for `tollgate upgrade`; without one the gateway serves nevertheless.
pub fn control(state_dir: &Path, over: bool, handover: &Arc<Handover>) -> Option<Control> {
    let handover = handover.clone();
    let opened = Control::open(state_dir, over, move |question, tell| handover.answer(question, tell));
    opened
        .inspect_err(|e| {
            log::warn!("`tollgate upgrade` will not reach this process: a socket in {}: {e}", state_dir.display());
        })
        .ok()
}

/// Reports that this process serves.
pub fn serving(heir: Option<Parent>, sockets: &Sockets, log: &Arc<AccessLog>) {
    sockets.close_unwanted();
    let Some(heir) = heir else { return };
    let log = log.clone();
    heir.serving(move || {
        log.share(false);
        log::info!("the process before has ended");
    });
}
