//! The ledger as a whole, in `tollgate run` or alone: its threads, in the order in which they start and end.
//!
//! At start the store is opened and recovered data made durable before the first connection is taken; an upgrade takes
//! connections later still, once it cannot be undone. At the end connections close first, then deliveries, then the
//! writer, so that accepted requests are answered and acknowledged callbacks are anchored. None of its threads serves
//! proxied requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::post;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::api::{self, ApiState, Desk};
use super::audit::rounds::Rounds;
use super::audit::{self, Checked, LastCheck};
use super::deliver::{self, Delivery};
use super::ingest::{Front, IngestChannels, callback, other_method};
use super::journal::{Journal, Raised, Settings, Standing};
use super::monitor::{self, Monitor, Parts, Tell, Verification};
use super::outcalls::{self, Outcalls};
use super::rows::Type;
use super::store::{self, Readers};
use super::stored_enum::AnomalyKind;
use super::{anchor, holds, query, serve};
use crate::metrics::LedgerSeries;
use base::clock;
use config::model::ledger::Ledger as Config;

/// Threads that read, verify and answer requests.
const THREADS: usize = 2;
/// The longest wait for the writer at the end: a hanging disk must not keep the process.
const LAST: Duration = Duration::from_secs(5);

/// A running ledger.
pub struct Ledger {
    config: Arc<ArcSwap<Config>>,
    front: Front,
    journal: Journal,
    runtime: Option<Runtime>,
    /// The socket and the router, until they are served.
    waiting: Mutex<Option<(std::net::TcpListener, Router)>>,
    stop: watch::Sender<bool>,
    server: Mutex<Option<tokio::task::JoinHandle<()>>>,
    delivery: Mutex<Option<Delivery>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    monitor: Mutex<Option<Monitor>>,
}

/// The ledger's connections to the rest of the process.
pub struct Outside {
    /// Sends alarms.
    pub tell: Tell,
    /// The metrics.
    pub series: Arc<LedgerSeries>,
    /// Called once if the store fails for good.
    pub failed: Box<dyn Fn(&str) + Send>,
    /// Whether it runs even if its store cannot be opened: it then answers 503, as after a failure.
    pub stays: bool,
}

impl Ledger {
    /// Opens the ledger, as the writer or standing by; it takes connections from [`Ledger::serve`] on. `listen` makes
    /// the socket once the data that the store recovered are durable.
    pub fn open(
        config: &Config,
        outside: Outside,
        listen: impl FnOnce(SocketAddr) -> std::io::Result<std::net::TcpListener>,
    ) -> Result<Ledger, String> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("ledger")
            .enable_all()
            .build()
            .map_err(|e| format!("starting the ledger's threads: {e}"))?;
        let folder = &config.state_dir;
        std::fs::create_dir_all(folder).map_err(|e| format!("state_dir {}: {e}", folder.display()))?;
        let shared = Arc::new(ArcSwap::from_pointee(config.clone()));
        let of_batches = shared.clone();
        let (journal, writer) = Journal::new(Settings {
            store: config.store.clone(),
            encryption_keys: config.encryption_keys.clone(),
            batch_max: Box::new(move || of_batches.load().batch_max),
            series: outside.series.clone(),
            alarm: outside.failed,
            stays: outside.stays,
            runtime: runtime.handle().clone(),
        });
        // Recovered data are durable before the first answer.
        let writer = writer.start()?;
        let socket = listen(config.address).map_err(|e| format!("listening on {} (ledger): {e}", config.address))?;
        let readers = Readers::new(config.store.clone());
        let front = Front::new(config, journal.clone(), outside.series.clone());
        let books =
            deliver::OutboxBooks { readers: Readers::of_points(config.store.clone()), journal: journal.clone() };
        let delivery = Delivery::start(shared.clone(), books)?;
        let checked = LastCheck::default();
        let monitor = monitor(config, (&journal, &readers, &front), outside.tell.clone(), &checked)?;
        let of_points = Readers::of_points(config.store.clone());
        let outcalls = Outcalls::new(shared.clone(), journal.clone(), of_points.clone(), outside.series.clone())?;
        let outcalls = Arc::new(outcalls);
        let state = ApiState {
            config: shared.clone(),
            journal: Arc::new(Desk { journal: journal.clone(), outcalls: outcalls.clone() }),
            readers: Readers::limited(config.store.clone(), api::READ),
            series: outside.series,
            integrity: checked,
        };
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(holds::watch(journal.clone(), of_points, stopped.clone()));
        runtime.spawn(outcalls::watch::watch(outcalls, stopped));
        let callbacks = Router::new()
            .route("/callbacks/{channel}", post(callback).fallback(other_method))
            .with_state(front.clone());
        let router = api::router(state).merge(callbacks);
        Ok(Ledger {
            config: shared,
            front,
            journal,
            runtime: Some(runtime),
            waiting: Mutex::new(Some((socket, router))),
            stop,
            server: Mutex::new(None),
            delivery: Mutex::new(Some(delivery)),
            writer: Mutex::new(Some(writer)),
            monitor: Mutex::new(Some(monitor)),
        })
    }

    /// Starts to take connections.
    pub fn serve(&self) -> Result<(), String> {
        let (Some((socket, router)), Some(runtime)) = (self.waiting.lock().take(), &self.runtime) else {
            return Ok(());
        };
        let _entered = runtime.enter();
        let socket = tokio::net::TcpListener::from_std(socket).map_err(|e| format!("the ledger's socket: {e}"))?;
        *self.server.lock() = Some(runtime.spawn(serve::serve(socket, router, self.stop.subscribe())));
        Ok(())
    }

    /// Whether this process writes the books.
    pub fn standing(&self) -> Standing {
        self.journal.standing()
    }

    /// Whether it stands by because a reader keeps an older store from being brought up to date.
    pub fn is_held(&self) -> bool {
        self.journal.is_held()
    }

    /// The address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.config.load().address
    }

    /// Takes over channels, merchants, tokens and bounds of a new configuration. Changes of what is fixed at start were
    /// refused earlier.
    pub fn follow(&self, config: &Config) {
        if **self.config.load() == *config {
            return;
        }
        self.front.doors.store(Arc::new(IngestChannels::new(config)));
        self.config.store(Arc::new(config.clone()));
    }

    /// Ends the ledger: requests in flight are answered, results of deliveries are written, and the writer ends.
    pub fn stop(&self) {
        drop(self.waiting.lock().take());
        self.stop.send_replace(true);
        if let (Some(server), Some(runtime)) = (self.server.lock().take(), &self.runtime) {
            let _ = runtime.block_on(server);
        }
        if let Some(delivery) = self.delivery.lock().take() {
            delivery.stop();
        }
        self.journal.stop();
        let Some(writer) = self.writer.lock().take() else { return };
        let until = clock::now().after(LAST);
        while !writer.is_finished() && clock::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let monitor = self.monitor.lock().take();
        if writer.is_finished() {
            monitor.into_iter().for_each(|monitor| monitor.stop(LAST));
        } else {
            log::error!("the ledger's writer hangs: what it has not committed was not acknowledged");
            monitor.into_iter().for_each(Monitor::leave);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts the monitor of the books.
fn monitor(
    config: &Config,
    (journal, readers, front): (&Journal, &Arc<Readers>, &Front),
    tell: Tell,
    checked: &LastCheck,
) -> Result<Monitor, String> {
    let failed = |e: std::io::Error| format!("starting the ledger's monitor: {e}");
    let books = monitor::MonitoredBooks::new(readers.clone(), journal.clone()).map_err(failed)?;
    let (checked, of) = (checked.clone(), config.clone());
    let (writes, reads, rounds) = (journal.clone(), readers.clone(), Mutex::new(Rounds::default()));
    let verify = move || {
        let verification = verify(&of, &mut rounds.lock())?;
        if !verification.ok {
            tampered(&writes, &reads);
        }
        let Verification { sequence, at_ms, ok } = verification;
        checked.store(Some(Arc::new(Checked { sequence, at_ms, ok })));
        Ok(verification)
    };
    let parts = Parts {
        anchor: anchor::path(&config.state_dir),
        folder: monitor::folder(config),
        series: front.series.clone(),
        skew: front.skew.clone(),
        verify: Arc::new(verify),
        tell,
    };
    Monitor::start(books, parts).map_err(failed)
}

/// Opens one anomaly for books that are not whole.
fn tampered(journal: &Journal, readers: &Readers) {
    let sql = "SELECT seq FROM anomalies WHERE kind = 'tampered' AND state = 'open' LIMIT 1";
    let open = readers.with(|reader| reader.select(sql, &[], &[Type::Int])).is_ok_and(|rows| !rows.is_empty());
    if !open {
        journal.raise_blocking(Raised {
            kind: AnomalyKind::Tampered,
            channel: String::new(),
            merchant: String::new(),
            transaction_id: None,
            detail: "the books are not whole: `tollgate ledger verify` names what was changed".to_owned(),
        });
    }
}

/// Verifies what is due in the books, on a connection of its own.
fn verify(config: &Config, rounds: &mut Rounds) -> Result<Verification, String> {
    let mut reader = store::reader(&config.store).map_err(|e| e.to_string())?;
    let wraps = query::wraps(&mut *reader).map_err(|e| e.to_string())?;
    let (ring, keys) = audit::keys::open(&config.encryption_keys, &wraps).map_err(|e| e.to_string())?;
    let anchor = anchor::read(&anchor::path(&config.state_dir)).map_err(|e| format!("the anchor: {e}"))?;
    let report = rounds.verify(&mut *reader, ring.chain(), keys, anchor.as_ref(), clock::now());
    let report = report.map_err(|e| e.to_string())?;
    for problem in report.problems.iter().take(10) {
        log::error!("the books are not whole: {problem:?}");
    }
    Ok(Verification { sequence: report.sequence, at_ms: clock::wall_ms(), ok: report.ok })
}
