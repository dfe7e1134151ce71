//! Wiring: the only place where engines, services and the proxy are put together.
//!
//! Two runtimes: the workers, which do nothing but serve, and one background thread for everything that must never
//! compete with them (admin, probes, names, signals). Building a configuration has a thread of its own (`swap`).
//! Order matters at start: sockets are bound last, so a gateway that cannot serve never takes a connection; and at the
//! end: listeners close first, what is in flight is finished, then the log is written out.

pub mod alone;
mod boot;
mod drain;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use pingora::proxy::{HttpProxy, http_proxy_service_with_name_custom};
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use crate::config::snapshot::Snapshot;
use crate::config::swap::{By, Control, Swapper};
use crate::config::watch as files;
use crate::health::{Supervisor, Target};
use crate::ledger::service::{Ledger, Outside};
use crate::proxy::Gateway;
use crate::proxy::dial::Dialer;
use crate::proxy::idle::Sweeper;
use crate::proxy::listen::{Acceptor, bind};
use crate::proxy::{deadline, kept};
use crate::releases::Releases;
use crate::telemetry::Registry;
use crate::telemetry::access_log::AccessLog;
use crate::{admin, clock, discover};

/// Idle connections to servers kept for each worker.
const POOL_PER_WORKER: usize = 1024;
/// Pingora counts attempts too; ours is the count that matters.
const ATTEMPTS_MAX: usize = 1_000;

/// Why a start failed: a line for stderr, or findings.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has findings, and there is no good revision to serve instead.
    Findings(Vec<crate::config::finding::Finding>),
    /// The machine refused something.
    Io(String),
}

impl StartError {
    fn io(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> StartError {
        move |e| StartError::Io(format!("{what}: {e}"))
    }
}

/// Serves the configuration at `path` until a signal ends it.
pub fn run(path: &Path) -> Result<(), StartError> {
    raise_file_limit();
    let seen = files::Seen::now(path);
    let boot = boot::choose(path)?;
    let seen = seen.and(&boot.loaded.config.files);
    let registry = Arc::new(Registry::default());
    let background = runtime("background", 1)?;
    // Before anything can be seen of us: whoever sees it may send one.
    let signals = {
        let _entered = background.enter();
        drain::Signals::hear().map_err(StartError::io("listening to signals"))?
    };
    let log = AccessLog::start(registry.log_dropped.clone()).map_err(StartError::io("starting the log"))?;
    let config = Arc::new(boot.loaded.config.clone());
    let releases =
        Releases::open(&config.server.state_dir, &registry).map_err(StartError::io("the releases' state"))?;
    let releases = Arc::new(releases);
    let lives = releases.adopt(&config);
    let first = Arc::new(Snapshot::new(config.clone(), boot.active.revision, None, lives, &registry, clock::now()));
    discover::first(&first, background.handle());
    let snapshot = Arc::new(ArcSwap::new(first.clone()));
    let ledger = ledger(&config, &releases, &registry)?;
    let followers = Followers::new(background.handle().clone(), snapshot.clone(), log.clone(), ledger.clone());
    let refused = boot.refused.clone();
    let control = swapper(path, &boot, &snapshot, (&registry, &releases), &followers)
        .start(refused)
        .map_err(StartError::io("starting the config thread"))?;

    let draining = Arc::new(AtomicBool::new(false));
    let (stop, shutdown) = watch::channel(false);
    let workers = runtime("worker", worker_count(config.server.threads))?;
    let gateway = Gateway {
        snapshot: snapshot.clone(),
        registry: registry.clone(),
        access_log: log.clone(),
        draining: draining.clone(),
    };
    let proxy = proxy(gateway, config.server.threads);
    // Before the first connection: its requests are logged too.
    followers.follow(&first);
    let open = listen(&first, &snapshot, &registry, &proxy, (&workers, &background), &shutdown)?;
    let state = admin::State {
        control: control.clone(),
        snapshot: snapshot.clone(),
        registry: registry.clone(),
        draining: draining.clone(),
        releases: releases.clone(),
    };
    let admin = admin_socket(&first, &background)?;
    // Once all sockets are ours, and before anybody can ask for another revision.
    boot.keep();
    releases.start().map_err(StartError::io("starting the releases' thread"))?;
    if let Some((socket, address)) = admin {
        background.spawn(admin::serve(socket, address, state));
    }
    watch_files(path, seen, &control, &snapshot)?;
    said(&first);
    drop(first);
    let end = drain::Drain { draining, stop, proxy, open, grace: config.server.shutdown_grace };
    background.block_on(drain::until_ended(end, signals, &control, &log));
    ledger.iter().for_each(|ledger| ledger.stop());
    releases.keep();
    log.stop();
    Ok(())
}

/// The ledger, where it is embedded. Its store is opened before a socket is taken: a wrong key is told at start.
fn ledger(
    config: &crate::config::model::Config,
    releases: &Releases,
    registry: &Registry,
) -> Result<Option<Arc<Ledger>>, StartError> {
    let Some(ledger) = config.ledger.as_ref().filter(|ledger| ledger.embedded) else { return Ok(None) };
    let series = registry.ledger.get_or_init(Arc::default).clone();
    // The proxy goes on without it.
    let failed = Box::new(|_: &str| {});
    let outside = Outside { notifier: releases.notifier.clone(), series, failed };
    Ledger::start(ledger, outside).map(|service| Some(Arc::new(service))).map_err(StartError::Io)
}

fn swapper(
    path: &Path,
    boot: &boot::Boot,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    (registry, releases): (&Arc<Registry>, &Arc<Releases>),
    followers: &Followers,
) -> Swapper {
    let (runtime, follow) = (followers.runtime.clone(), followers.clone());
    Swapper {
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

/// What follows each snapshot: probes, names, and where the log goes.
#[derive(Clone)]
struct Followers {
    runtime: Handle,
    snapshot: Arc<ArcSwap<Snapshot>>,
    probes: Arc<Supervisor>,
    log: Arc<AccessLog>,
    logged: Arc<parking_lot::Mutex<Option<crate::config::model::AccessLog>>>,
    ledger: Option<Arc<Ledger>>,
}

impl Followers {
    fn new(
        runtime: Handle,
        snapshot: Arc<ArcSwap<Snapshot>>,
        log: Arc<AccessLog>,
        ledger: Option<Arc<Ledger>>,
    ) -> Followers {
        let probes = Arc::new(Supervisor::new(runtime.clone(), Arc::new(clock::now)));
        Followers { runtime, snapshot, probes, log, logged: Arc::default(), ledger }
    }

    fn follow(&self, snapshot: &Arc<Snapshot>) {
        let mut logged = self.logged.lock();
        let target = &snapshot.config.log.access;
        if logged.as_ref() != Some(target) {
            self.log.point(target);
            *logged = Some(target.clone());
        }
        if let (Some(service), Some(ledger)) = (&self.ledger, &snapshot.config.ledger) {
            service.follow(ledger);
        }
        self.probe(snapshot);
        let own = self.clone();
        discover::follow(snapshot, &self.runtime, move || own.probe(&own.snapshot.load()));
    }

    fn probe(&self, snapshot: &Snapshot) {
        let mut targets = vec![];
        for upstream in &snapshot.upstreams {
            let Some(health) = &upstream.health else { continue };
            targets.extend(upstream.pool().members().iter().map(|member| Target {
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
        .enable_all()
        .build()
        .map_err(StartError::io(format!("starting the threads called {name}")))
}

fn proxy(gateway: Gateway, threads: usize) -> Arc<HttpProxy<Gateway, Dialer>> {
    let conf = ServerConf {
        threads: worker_count(threads),
        upstream_keepalive_pool_size: POOL_PER_WORKER,
        max_retries: ATTEMPTS_MAX,
        ..ServerConf::default()
    };
    let unused = |_, _, _: &_| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> { Box::pin(async { None }) };
    let name = "Tollgate";
    let service = http_proxy_service_with_name_custom(&Arc::new(conf), gateway, name, Dialer, Arc::new(unused));
    Arc::new(application(service))
}

/// Takes the proxy out of its service. A proxy with a connector of its own is made only inside one, and we need no more
/// of it: `listen` accepts.
fn application<A>(service: Service<A>) -> A {
    let service = std::mem::ManuallyDrop::new(service);
    let application = service.app_logic().expect("a new service has its application");
    #[allow(unsafe_code)]
    // SAFETY: the service is never used again nor dropped, so the application has one owner: the caller.
    unsafe {
        std::ptr::read(application)
    }
}

fn listen(
    first: &Snapshot,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    registry: &Registry,
    proxy: &Arc<HttpProxy<Gateway, Dialer>>,
    (workers, background): (&Runtime, &Runtime),
    shutdown: &watch::Receiver<bool>,
) -> Result<Vec<Arc<crate::telemetry::shard::Gauge>>, StartError> {
    let _entered = workers.enter();
    background.spawn(deadline::sweep());
    background.spawn(kept::tidy());
    let mut acceptors = vec![];
    for listener in &first.config.listeners {
        let address = listener.address;
        let socket = bind(address).map_err(StartError::io(format!("listening on {address}")))?;
        let (snapshot, idle) = (snapshot.clone(), Arc::new(Sweeper::default()));
        background.spawn(idle.clone().run(move || snapshot.load().idle_timeout(address)));
        acceptors.push(Acceptor {
            socket,
            address,
            proxy: proxy.clone(),
            open: registry.connections(address),
            idle,
            shutdown: shutdown.clone(),
        });
    }
    let open = acceptors.iter().map(|acceptor| acceptor.open.clone()).collect();
    acceptors.into_iter().for_each(|acceptor| drop(workers.spawn(acceptor.run())));
    Ok(open)
}

fn admin_socket(first: &Snapshot, background: &Runtime) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(admin) = &first.config.admin else { return Ok(None) };
    let _entered = background.enter();
    let socket = bind(admin.address).map_err(StartError::io(format!("listening on {} (admin)", admin.address)))?;
    Ok(Some((socket, admin.address)))
}

fn watch_files(
    path: &Path,
    seen: files::Seen,
    control: &Control,
    snapshot: &Arc<ArcSwap<Snapshot>>,
) -> Result<(), StartError> {
    let (path, control, snapshot) = (path.to_owned(), control.clone(), snapshot.clone());
    let follow = move || {
        let also = || -> Vec<PathBuf> { snapshot.load().config.files.clone() };
        files::follow(&path, seen, also, || {
            if snapshot.load().config.reload.watch {
                // The answer is in the log and in `/api/v1/config`.
                drop(control.reload(By { who: boot::owner(&path), trigger: "file" }, false));
            }
            true
        });
    };
    std::thread::Builder::new().name("watch".into()).spawn(follow).map_err(StartError::io("starting the watcher"))?;
    Ok(())
}

/// A gateway needs two sockets a request: takes as many as the machine allows.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of open files could not be raised: {e}");
    }
}
