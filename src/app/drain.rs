//! Signals, and the end of the process.
//!
//! SIGTERM and SIGINT drain: listeners close, `/readyz` says 503, every answer closes its connection. Silent
//! connections are closed after [`LINGER`]: closing them at once would cut off requests that are on their way. The
//! process ends when no connection is left, or when the grace is over; a second signal ends it at once.
//!
//! After another process has taken over nothing is cut off: every answer closes its connection, silent connections
//! close at the grace's end, and requests in flight go on until they end. A signal then ends the rest within the grace.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::startup_config;
use super::upgrade_parent::Handover;
use crate::proxy::downstream::watch::sweeper::Sweeper;
use crate::runtime::reload::{By, ReloadControl};
use crate::telemetry::access_log::AccessLog;
use crate::upgrade::manager;
use crate::upgrade::sockets::Sockets;
use base::clock;
use base::shard::Gauge;
use client_auth::nonce::Nonces;

/// How long a silent connection is kept while draining.
const LINGER: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// The parts that end with the process.
pub struct Drain {
    /// Set to true at once.
    pub draining: Arc<AtomicBool>,
    /// Nonces of accepted signatures.
    pub nonces: Arc<Nonces>,
    /// Stops the listeners.
    pub stop: watch::Sender<bool>,
    /// Close the silent connections of each listener.
    pub sweepers: Vec<Arc<Sweeper>>,
    /// Open connections of each listener.
    pub open: Vec<Arc<Gauge>>,
    /// How long to wait for them.
    pub grace: Duration,
    /// Closed, as far as this process holds them.
    pub sockets: Arc<Sockets>,
}

/// The handled signals.
pub struct Signals {
    hup: Signal,
    usr1: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// From now on none of them ends the process by default. Needs a Tokio runtime as context.
    pub fn hear() -> io::Result<Signals> {
        Ok(Signals {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }
}

/// Why the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainEnd {
    /// A signal.
    Signal,
    /// Another process has taken over.
    HandedOver,
}

/// Handles signals until one ends the process, or until another process has taken over; then drains it.
pub async fn until_ended(
    drain: Drain,
    mut signals: Signals,
    (control, log): (&ReloadControl, &AccessLog),
    handover: &Handover,
) -> DrainEnd {
    let mut gone = handover.gone();
    let signalled = loop {
        let Signals { hup, usr1, term, int } = &mut signals;
        tokio::select! {
            Some(()) = hup.recv() => drop(control.reload(By { who: startup_config::user(), trigger: "sighup" }, false)),
            Some(()) = usr1.recv() => log.reopen(),
            () = either(term, int) => break true,
            _ = gone.wait_for(|gone| *gone) => break false,
        }
    };
    // A signal may arrive in the very moment of the hand-over.
    let end = if handover.end() { DrainEnd::HandedOver } else { DrainEnd::Signal };
    if end == DrainEnd::Signal {
        manager::stopping();
    }
    drain.begin();
    if signalled || !drain.by_itself(&mut signals, log).await {
        drain.within_grace(&mut signals).await;
    }
    end
}

/// Returns when a signal ends the process.
async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        Some(()) = term.recv() => {}
        Some(()) = int.recv() => {}
    }
}

impl Drain {
    fn begin(&self) {
        self.draining.store(true, Ordering::Release);
        let _ = self.stop.send(true);
        self.sockets.close();
    }

    /// Ends everything within the grace.
    async fn within_grace(&self, signals: &mut Signals) {
        tokio::select! {
            () = self.run() => {}
            () = either(&mut signals.term, &mut signals.int) => log::warn!("a second signal: ending at once"),
        }
    }

    /// Waits until everything has ended; false if a signal came first.
    async fn by_itself(&self, signals: &mut Signals, log: &AccessLog) -> bool {
        self.nonces.hand_over(clock::wall_ms() / 1000);
        log::info!("another process serves; draining {} connections", self.connections());
        let ended = async {
            if !self.none_left_within(self.grace, false).await {
                self.close_silent();
                log::info!("silent connections are closed; {} are in use and go on", self.connections());
                while !self.none_left_within(self.grace.max(LINGER), true).await {}
            }
        };
        tokio::pin!(ended);
        loop {
            let Signals { hup, usr1, term, int } = &mut *signals;
            tokio::select! {
                () = ended.as_mut() => return true,
                Some(()) = usr1.recv() => log.reopen(),
                Some(()) = hup.recv() => {}
                () = either(term, int) => return false,
            }
        }
    }

    async fn run(&self) {
        let begun = clock::now();
        log::info!("draining: {} connections, {:?} at most", self.connections(), self.grace);
        let linger = LINGER.min(self.grace / 2);
        let left = |limit: Duration| limit.saturating_sub(clock::now().since(begun));
        if self.none_left_within(left(linger), false).await {
            return;
        }
        if !self.none_left_within(left(self.grace), true).await {
            log::warn!("the grace is over: {} connections are cut", self.connections());
        }
    }

    fn connections(&self) -> u64 {
        self.open.iter().map(|open| open.value()).sum()
    }

    fn close_silent(&self) {
        self.sweepers.iter().for_each(|sweeper| sweeper.close_silent());
    }

    /// `closes`: connections that are silent are closed, as soon as they are. An answer that began before the drain has
    /// promised its client another request.
    fn none_left_within(&self, limit: Duration, closes: bool) -> impl Future<Output = bool> + '_ {
        let none_left = async move {
            while self.connections() > 0 {
                if closes {
                    self.close_silent();
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(limit, none_left);
        async { waited.await.is_ok() }
    }
}
