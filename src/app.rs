//! The wiring: the only place where engines, services and the proxy are put together.
//!
//! There are two runtimes: the workers, which only serve, and one background thread for everything that must never
//! compete with them (admin, probes, names, signals). Building a configuration has a thread of its own (`reload`).
//! Order matters. At the start sockets are bound last, so a gateway that cannot serve never accepts a connection. At
//! the end listeners close first, requests in flight are finished, then the log is written out.
//!
//! The new process of an upgrade does the same, and waits for the old one between the steps (`upgrade`): `prepare`
//! (configuration, sockets, ledger), `ready` (everything built from `state_dir`), `serve`.

mod drain;
#[cfg(feature = "ledger")]
mod embedded_ledger;
#[cfg(not(feature = "ledger"))]
#[path = "app/no_ledger.rs"]
mod embedded_ledger;
mod one_proxy;
#[cfg(feature = "ledger")]
pub mod standalone_ledger;
pub mod startup_config;
mod upgrade_child;
mod upgrade_parent;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use embedded_ledger::Books;
use pingora::proxy::HttpProxy;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use upgrade_parent::Handover;

use crate::admin;
use crate::discover;
use crate::health::{ProbeTarget, Supervisor};
use base::clock;
use base::finding::Finding;
use base::machine;
use client_auth::nonce::Nonces;
use config::model;
use config::unwise;

use crate::allocator;
use crate::memory::Account;
use crate::notify::Notifier;
use crate::proxy::Gateway;
use crate::proxy::downstream::listen::ListeningSocket;
use crate::proxy::downstream::listen::room::ConnectionRoom;
use crate::proxy::downstream::watch::sweeper::Sweeper;
use crate::proxy::upstream::connector::Http1Connector;
use crate::proxy::upstream::{deadline, idle_pool};
use crate::releases::Releases;
use crate::runtime::reload::{By, Reloader};
use crate::runtime::snapshot::Snapshot;
use crate::runtime::watch as files;
use crate::telemetry::Registry;
use crate::telemetry::access_log::AccessLog;
use crate::upgrade::control::Control;
use crate::upgrade::parent::Parent;
use crate::upgrade::sockets::Sockets;
use crate::upgrade::{executable, manager};

/// Why a start failed: a line for stderr, or findings.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has findings, and there is no good revision to serve instead.
    Findings(Vec<Finding>),
    /// An operation of the system failed.
    Io(String),
}

impl StartError {
    fn findings(&self) -> &[Finding] {
        match self {
            StartError::Findings(findings) => findings,
            StartError::Io(_) => &[],
        }
    }

    fn io(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> StartError {
        move |e| StartError::Io(format!("{what}: {e}"))
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Findings(_) => f.write_str("the configuration on the disk has findings"),
            StartError::Io(what) => f.write_str(what),
        }
    }
}

/// Serves the configuration at `path` until a signal ends it, or until another process has taken over.
pub fn run(path: &Path) -> Result<(), StartError> {
    let executable = executable::at_start();
    machine::raise_file_limit();
    let mut heir = Parent::inherited().map_err(StartError::Io)?;
    let prepared = prepare(path, heir.as_mut()).and_then(|(base, books)| {
        let ready = ready(path, &base, books, heir.as_mut())?;
        Ok((base, ready))
    });
    let (base, ready) = prepared.inspect_err(|error| {
        if let Some(heir) = &heir {
            heir.refuse(error.to_string(), error.findings().to_vec());
        }
    })?;
    serve(path, base, ready, (heir, executable))
}

/// The parts that exist before a configuration is built.
struct Base {
    background: Runtime,
    signals: drain::Signals,
    sockets: Arc<Sockets>,
    registry: Arc<Registry>,
    log: Arc<AccessLog>,
    notifier: Arc<Notifier>,
    seen: files::Seen,
    boot: startup_config::Boot,
    /// Servers that the old process found unhealthy.
    down: Vec<(String, SocketAddr)>,
}

/// Chooses the revision to serve, and opens the ledger. The new process of an upgrade then has its sockets and the old
/// one's final state.
fn prepare(path: &Path, mut heir: Option<&mut Parent>) -> Result<(Base, Option<Arc<Books>>), StartError> {
    let background = runtime("background", 1)?;
    // Before the process is visible: from then on it may get a signal.
    let signals = {
        let _entered = background.enter();
        drain::Signals::hear().map_err(StartError::io("listening to signals"))?
    };
    let inherited = heir.as_mut().map_or(Ok(vec![]), |heir| heir.sockets()).map_err(StartError::Io)?;
    let sockets = Arc::new(Sockets::new(background.handle().clone(), inherited));
    let (registry, notifier) = (Arc::new(Registry::default()), Arc::new(Notifier::new(vec![])));
    let log = AccessLog::start(registry.log_dropped.clone()).map_err(StartError::io("starting the log"))?;
    let _ = registry.access_log.set(log.clone());
    let mut seen = files::Seen::now(path);
    let mut boot = startup_config::choose(path)?;
    let mut down = vec![];
    let books = match heir {
        None => books(&boot.loaded.config, (&sockets, &notifier, &registry))?,
        Some(heir) => {
            log.share(true);
            let books = upgrade_child::books(&boot, heir, (&sockets, &notifier, &registry))?;
            down = heir.opened(upgrade_child::notes(books.as_deref())).map_err(StartError::Io)?;
            seen = files::Seen::now(path);
            boot = upgrade_child::again(path, &boot)?;
            books
        }
    };
    let seen = seen.and(&boot.loaded.config.files);
    Ok((Base { background, signals, sockets, registry, log, notifier, seen, boot, down }, books))
}

/// The ledger, if it is embedded. Its store is opened before a socket is taken, so a wrong key is reported at the
/// start.
fn books(
    config: &model::Config,
    (sockets, notifier, registry): (&Arc<Sockets>, &Arc<Notifier>, &Registry),
) -> Result<Option<Arc<Books>>, StartError> {
    let Some(ledger) = config.ledger.as_ref().filter(|ledger| ledger.embedded) else { return Ok(None) };
    let books = Books::open(ledger, sockets.clone(), notifier.clone()).map_err(StartError::Io)?;
    let _ = registry.ledger.set(books.metrics());
    Ok(Some(Arc::new(books)))
}

/// Everything that is built, and does not serve yet.
struct Ready {
    first: Arc<Snapshot>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    releases: Arc<Releases>,
    followers: Followers,
    workers: Runtime,
    draining: Arc<AtomicBool>,
    nonces: Arc<Nonces>,
    stop: watch::Sender<bool>,
    doors: Vec<(Arc<ListeningSocket>, TcpListener)>,
    admin: Option<(TcpListener, SocketAddr)>,
    books: Option<Arc<Books>>,
}

/// Builds everything; the new process of an upgrade returns once it must serve.
fn ready(path: &Path, base: &Base, books: Option<Arc<Books>>, heir: Option<&mut Parent>) -> Result<Ready, StartError> {
    let Base { background, registry, log, boot, .. } = base;
    let config = Arc::new(boot.loaded.config.clone());
    let releases = Releases::open(&config.server.state_dir, registry, base.notifier.clone());
    let releases = Arc::new(releases.map_err(StartError::io("the releases' state"))?);
    let lives = releases.adopt(&config);
    let first = Arc::new(Snapshot::new(config.clone(), boot.active.revision, None, lives, registry, clock::now()));
    discover::first(&first, background.handle());
    upgrade_child::mark_down(&first, &base.down);
    let snapshot = Arc::new(ArcSwap::new(first.clone()));
    let followers = Followers::new(background.handle().clone(), snapshot.clone(), log.clone(), books.clone());
    let draining = Arc::new(AtomicBool::new(false));
    let nonces = Arc::new(Nonces::new(clock::wall_ms() / 1000));
    let (stop, shutdown) = watch::channel(false);
    let workers = runtime("worker", worker_count(config.server.threads))?;
    let memory = Arc::new(Account::new(config.server.memory_max));
    let _ = registry.memory.set(memory.clone());
    let gateway = Gateway {
        snapshot: snapshot.clone(),
        registry: registry.clone(),
        access_log: log.clone(),
        nonces: nonces.clone(),
        memory: memory.clone(),
        draining: draining.clone(),
    };
    let proxy = one_proxy::proxy(gateway.clone(), worker_count(config.server.threads));
    // Before the first connection: its requests are logged too.
    followers.follow(&first);
    let room = Arc::new(ConnectionRoom::new(config.server.max_connections, memory));
    let doors = listen(
        (&snapshot, &base.sockets),
        (registry, log),
        (&gateway, &proxy, &room),
        (&workers, background),
        &shutdown,
    )?;
    let admin = admin_socket(&first, base)?;
    if let Some(heir) = heir {
        heir.ready().map_err(StartError::Io)?;
        nonces.take_over(clock::wall_ms() / 1000);
        log::info!("{} takes over: {}", std::process::id(), path.display());
    }
    Ok(Ready { first, snapshot, releases, followers, workers, draining, nonces, stop, doors, admin, books })
}

/// Serves until the end.
fn serve(
    path: &Path,
    base: Base,
    ready: Ready,
    (heir, executable): (Option<Parent>, Option<PathBuf>),
) -> Result<(), StartError> {
    let Base { background, signals, sockets, registry, log, boot, seen, .. } = base;
    let Ready { first, snapshot, releases, workers, draining, books, .. } = ready;
    let control = swapper(path, &boot, &snapshot, (&registry, &releases), &ready.followers)
        .start(boot.refused.clone())
        .map_err(StartError::io("starting the config thread"))?;
    let open = ready.doors.iter().map(|(door, _)| door.open.clone()).collect();
    let sweepers = ready.doors.iter().map(|(door, _)| door.sweeper.clone()).collect();
    let acceptors = ready.doors.into_iter().map(|(door, socket)| workers.spawn(door.run(socket))).collect();
    // Once this process owns all sockets, and before another revision can be requested.
    boot.keep();
    releases.start().map_err(StartError::io("starting the releases' thread"))?;
    let parts = upgrade_parent::Parts {
        conf: path.to_owned(),
        executable,
        sockets: sockets.clone(),
        acceptors,
        books: books.clone(),
        releases: releases.clone(),
        control: control.clone(),
        snapshot: snapshot.clone(),
        log: log.clone(),
    };
    let handover = Arc::new(Handover::new(parts));
    // Before the admin and the ledger answer `/readyz`: after that an upgrade may be requested.
    let asked = upgrade_child::control(&first.config.server.state_dir, heir.is_some(), &handover);
    books.iter().try_for_each(|books| books.serve()).map_err(StartError::Io)?;
    if let Some((socket, address)) = ready.admin {
        let state = admin::State {
            control: control.clone(),
            snapshot: snapshot.clone(),
            registry: registry.clone(),
            draining: draining.clone(),
            releases: releases.clone(),
        };
        background.spawn(admin::serve(socket, address, state, handover.gone()));
    }
    watch_files(path, seen, &control, &snapshot)?;
    said(&first);
    unwise::say(&boot.loaded.warnings);
    manager::ready();
    upgrade_child::serving(heir, &sockets, &log);
    let grace = first.config.server.shutdown_grace;
    drop(first);
    let end = drain::Drain { draining, nonces: ready.nonces, stop: ready.stop, sweepers, open, grace, sockets };
    let end = background.block_on(drain::until_ended(end, signals, (&control, &log), &handover));
    // After a hand-over this socket belongs to the new process, or is about to.
    if end == drain::DrainEnd::Signal {
        asked.iter().for_each(Control::close);
    }
    handover.ended();
    books.iter().for_each(|books| books.end());
    if end == drain::DrainEnd::Signal {
        releases.keep();
    }
    log.stop();
    Ok(())
}

fn swapper(
    path: &Path,
    boot: &startup_config::Boot,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    (registry, releases): (&Arc<Registry>, &Arc<Releases>),
    followers: &Followers,
) -> Reloader {
    let (runtime, follow) = (followers.runtime.clone(), followers.clone());
    Reloader {
        path: path.to_owned(),
        snapshot: snapshot.clone(),
        registry: registry.clone(),
        releases: releases.clone(),
        history: boot.history.clone(),
        source: boot.loaded.source.clone(),
        active: boot.active.clone(),
        before: Box::new(move |snapshot| discover::first(snapshot, &runtime)),
        after: Box::new(move |snapshot| follow.follow(snapshot)),
        retired: vec![],
        offered: None,
        refused: None,
    }
}

/// What follows each snapshot: probes, names, and the log's target.
#[derive(Clone)]
struct Followers {
    runtime: Handle,
    snapshot: Arc<ArcSwap<Snapshot>>,
    probes: Arc<Supervisor>,
    log: Arc<AccessLog>,
    logged: Arc<parking_lot::Mutex<Option<config::model::AccessLog>>>,
    books: Option<Arc<Books>>,
}

impl Followers {
    fn new(
        runtime: Handle,
        snapshot: Arc<ArcSwap<Snapshot>>,
        log: Arc<AccessLog>,
        books: Option<Arc<Books>>,
    ) -> Followers {
        let probes = Arc::new(Supervisor::new(runtime.clone(), Arc::new(clock::now)));
        Followers { runtime, snapshot, probes, log, logged: Arc::default(), books }
    }

    fn follow(&self, snapshot: &Arc<Snapshot>) {
        let mut logged = self.logged.lock();
        let target = &snapshot.config.log.access;
        if logged.as_ref() != Some(target) {
            self.log.point(target);
            *logged = Some(target.clone());
        }
        if let (Some(books), Some(ledger)) = (&self.books, &snapshot.config.ledger) {
            books.follow(ledger);
        }
        self.probe(snapshot);
        let own = self.clone();
        discover::follow(snapshot, &self.runtime, move || own.probe(&own.snapshot.load()));
    }

    fn probe(&self, snapshot: &Snapshot) {
        let mut targets = vec![];
        for upstream in &snapshot.upstreams {
            let Some(health) = &upstream.health else { continue };
            targets.extend(upstream.pool().members().iter().map(|member| ProbeTarget {
                upstream: upstream.name.clone(),
                address: member.address,
                state: member.state.clone(),
                health: health.clone(),
                peer: member.attached.peer.clone(),
            }));
        }
        self.probes.sync(targets);
    }
}

fn said(first: &Snapshot) {
    log::info!(
        "tollgate {} serves revision {} on {} with {} workers",
        env!("CARGO_PKG_VERSION"),
        first.revision,
        first.config.listeners.iter().map(|l| l.address.to_string()).collect::<Vec<_>>().join(", "),
        worker_count(first.config.server.threads),
    );
}

fn worker_count(threads: usize) -> usize {
    match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

fn runtime(name: &str, threads: usize) -> Result<Runtime, StartError> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .on_thread_park(allocator::give_back)
        .enable_all()
        .build()
        .map_err(StartError::io(format!("starting the threads called {name}")))
}

/// The acceptors of every listener; none accepts yet.
fn listen(
    (snapshot, sockets): (&Arc<ArcSwap<Snapshot>>, &Sockets),
    (registry, log): (&Arc<Registry>, &Arc<AccessLog>),
    (gateway, proxy, room): (&Gateway, &Arc<HttpProxy<Gateway, Http1Connector>>, &Arc<ConnectionRoom>),
    (workers, background): (&Runtime, &Runtime),
    shutdown: &watch::Receiver<bool>,
) -> Result<Vec<(Arc<ListeningSocket>, TcpListener)>, StartError> {
    let _entered = workers.enter();
    background.spawn(deadline::sweep());
    background.spawn(idle_pool::tidy());
    let count = workers.metrics().num_workers();
    background.spawn(allocator::give_back_for_ever(workers.handle().clone(), count));
    let mut doors = vec![];
    for listener in &snapshot.load().config.listeners {
        let address = listener.address;
        let socket = sockets.listen_here(address).map_err(StartError::io(format!("listening on {address}")))?;
        let door = Arc::new(ListeningSocket {
            address,
            snapshot: snapshot.clone(),
            gateway: gateway.clone(),
            proxy: proxy.clone(),
            registry: registry.clone(),
            access_log: log.clone(),
            open: registry.connections(address),
            sweeper: Arc::new(Sweeper::new(registry.stuck.clone())),
            places: Arc::default(),
            room: room.clone(),
            shutdown: shutdown.clone(),
        });
        let watched = door.clone();
        background.spawn(door.sweeper.clone().run(move || watched.patience()));
        doors.push((door, socket));
    }
    Ok(doors)
}

fn admin_socket(first: &Snapshot, base: &Base) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(admin) = &first.config.admin else { return Ok(None) };
    let _entered = base.background.enter();
    let socket = base.sockets.listen_here(admin.address);
    let socket = socket.map_err(StartError::io(format!("listening on {} (admin)", admin.address)))?;
    Ok(Some((socket, admin.address)))
}

fn watch_files(
    path: &Path,
    seen: files::Seen,
    control: &crate::runtime::reload::ReloadControl,
    snapshot: &Arc<ArcSwap<Snapshot>>,
) -> Result<(), StartError> {
    let (path, control, snapshot) = (path.to_owned(), control.clone(), snapshot.clone());
    let follow = move || {
        let also = || -> Vec<PathBuf> { snapshot.load().config.files.clone() };
        files::follow(&path, seen, also, || {
            if snapshot.load().config.reload.watch {
                // The result is in the log and in `/api/v1/config`.
                drop(control.reload(By { who: startup_config::owner(&path), trigger: "file" }, false));
            }
            true
        });
    };
    std::thread::Builder::new().name("watch".into()).spawn(follow).map_err(StartError::io("starting the watcher"))?;
    Ok(())
}
