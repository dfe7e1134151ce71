//! Signals, and the end of the process.
//!
//! SIGTERM and SIGINT drain: listeners close, `/readyz` says 503, every answer closes its connection. Connections that
//! stay silent are closed after [`LINGER`]: closing them at once would cut off requests that are on their way. The
//! process ends when no connection is left, or when the grace is over; a second signal ends it at once.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::proxy::HttpProxy;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::boot;
use crate::clock;
use crate::config::swap::{By, Control};
use crate::proxy::Gateway;
use crate::proxy::dial::Dialer;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::shard::Gauge;

/// How long a silent connection is kept while draining.
const LINGER: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// What ends with the process.
pub struct Drain {
    /// Turned true at once.
    pub draining: Arc<AtomicBool>,
    /// Tells the listeners.
    pub stop: watch::Sender<bool>,
    /// Holds the silent connections.
    pub proxy: Arc<HttpProxy<Gateway, Dialer>>,
    /// Open connections of each listener.
    pub open: Vec<Arc<Gauge>>,
    /// How long to wait for them.
    pub grace: Duration,
}

/// The signals we obey.
pub struct Signals {
    hup: Signal,
    usr1: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// From now on none of them ends the process by itself. Needs a Tokio runtime around it.
    pub fn hear() -> io::Result<Signals> {
        Ok(Signals {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }
}

/// Obeys signals until one ends the process, and drains it.
pub async fn until_ended(drain: Drain, signals: Signals, control: &Control, log: &AccessLog) {
    let Signals { mut hup, mut usr1, mut term, mut int } = signals;
    loop {
        tokio::select! {
            Some(()) = hup.recv() => drop(control.reload(By { who: boot::user(), trigger: "sighup" }, false)),
            Some(()) = usr1.recv() => log.reopen(),
            Some(()) = term.recv() => break,
            Some(()) = int.recv() => break,
        }
    }
    tokio::select! {
        () = drain.run() => {}
        Some(()) = term.recv() => log::warn!("a second signal: ending at once"),
        Some(()) = int.recv() => log::warn!("a second signal: ending at once"),
    }
}

impl Drain {
    async fn run(self) {
        let begun = clock::now();
        self.draining.store(true, Ordering::Release);
        let _ = self.stop.send(true);
        log::info!("draining: {} connections, {:?} at most", self.connections(), self.grace);
        let linger = LINGER.min(self.grace / 2);
        let left = |limit: Duration| limit.saturating_sub(clock::now().since(begun));
        if self.none_left_within(left(linger)).await {
            return;
        }
        self.proxy.http_cleanup().await;
        if !self.none_left_within(left(self.grace)).await {
            log::warn!("the grace is over: {} connections are cut", self.connections());
        }
    }

    fn connections(&self) -> u64 {
        self.open.iter().map(|open| open.value()).sum()
    }

    fn none_left_within(&self, limit: Duration) -> impl Future<Output = bool> {
        let none_left = async {
            while self.connections() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(limit, none_left);
        async { waited.await.is_ok() }
    }
}
