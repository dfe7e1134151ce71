//! Signals, and the end of the process.
//!
//! SIGTERM and SIGINT drain: listeners close, `/readyz` says 503, every answer closes its connection. Connections that
//! stay silent are closed after [`LINGER`]: closing them at once would cut off requests that are on their way. The
//! process ends when no connection is left, or when the grace is over; a second signal ends it at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::proxy::HttpProxy;
use tokio::signal::unix::{SignalKind, signal};
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

/// Obeys signals until one ends the process, and drains it.
pub async fn until_ended(drain: Drain, control: &Control, log: &AccessLog) {
    let listen = |kind| signal(kind).inspect_err(|e| log::error!("a signal cannot be heard: {e}")).ok();
    let (mut hup, mut usr1) = (listen(SignalKind::hangup()), listen(SignalKind::user_defined1()));
    let (mut term, mut int) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    loop {
        tokio::select! {
            Some(()) = heard(&mut hup) => drop(control.reload(By { who: boot::user(), trigger: "sighup" }, false)),
            Some(()) = heard(&mut usr1) => log.reopen(),
            Some(()) = heard(&mut term) => break,
            Some(()) = heard(&mut int) => break,
        }
    }
    tokio::select! {
        () = drain.run() => {}
        Some(()) = heard(&mut term) => log::warn!("a second signal: ending at once"),
        Some(()) = heard(&mut int) => log::warn!("a second signal: ending at once"),
    }
}

async fn heard(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
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
