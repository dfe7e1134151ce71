//! The old process's part of an upgrade: it starts the new one, hands its parts over step by step, and takes all of
//! them back if the new one fails.
//!
//! All of this runs on the control socket's thread, on which `tollgate upgrade` waits. There is one upgrade at a time.
//! A signal that ends the process also ends an upgrade under way; one that comes after `go` ends what still drains. One
//! lock decides which of the two came first.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::embedded_ledger::Books;
use crate::releases::Releases;
use crate::runtime::reload::{Hold, ReloadControl};
use crate::runtime::snapshot::Snapshot;
use crate::telemetry::access_log::AccessLog;
use crate::upgrade::channel::{FromNew, FromOld};
use crate::upgrade::child::ChildProcess;
use crate::upgrade::control::{Question, Told};
use crate::upgrade::sockets::Sockets;
use crate::upgrade::{UpgradeError, manager};
use base::clock;

/// How long a configuration change under way may take to end.
const CHANGE: Duration = Duration::from_secs(30);
/// How long the end of the process waits until an upgrade has noticed it and reported it to the command.
const NOTICE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// The state of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It serves.
    Serves,
    /// It was told to end.
    Ends,
    /// Another one serves.
    HandedOver,
}

/// The parts that are handed over.
pub struct Parts {
    /// `-c`, as it was given.
    pub conf: PathBuf,
    /// The executable, if known.
    pub executable: Option<PathBuf>,
    /// All listening sockets.
    pub sockets: Arc<Sockets>,
    /// The tasks that accept connections on them.
    pub acceptors: Vec<JoinHandle<()>>,
    /// The embedded ledger.
    pub books: Option<Arc<Books>>,
    /// The releases.
    pub releases: Arc<Releases>,
    /// Changes the configuration.
    pub control: ReloadControl,
    /// The served configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The log, to which both processes write.
    pub log: Arc<AccessLog>,
}

/// Performs the hand-over on request.
pub struct Handover {
    parts: Parts,
    standing: Mutex<Standing>,
    /// Held while an upgrade is under way.
    one: Mutex<()>,
    /// The process that has taken over; the open channel shows it that this process lives.
    successor: Mutex<Option<ChildProcess>>,
    gone: watch::Sender<bool>,
}

impl Handover {
    /// For a process that serves.
    pub fn new(parts: Parts) -> Handover {
        let (standing, one) = (Mutex::new(Standing::Serves), Mutex::new(()));
        Handover { parts, standing, one, successor: Mutex::new(None), gone: watch::channel(false).0 }
    }

    /// Turns true when another process serves.
    pub fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }

    /// Ends the process, and an upgrade under way. True if another process has taken over before.
    pub fn end(&self) -> bool {
        let mut standing = self.standing.lock();
        if *standing == Standing::Serves {
            *standing = Standing::Ends;
        }
        *standing == Standing::HandedOver
    }

    /// Waits briefly until an upgrade has noticed the end. Blocks.
    pub fn ended(&self) {
        drop(self.one.try_lock_for(NOTICE));
    }

    /// Answers a command.
    pub fn answer(&self, question: Question, tell: &mut dyn FnMut(Told)) {
        let Question::Upgrade { binary, timeout_s } = question;
        let patience = Duration::from_secs(timeout_s.max(1));
        let Some(_one) = self.one.try_lock() else {
            return tell(Told::Failed(UpgradeError::new("another upgrade is under way: wait for its end")));
        };
        let end = match self.upgrade(binary, patience, &mut |step| {
            log::info!("upgrade: {step}");
            tell(Told::Step(step));
        }) {
            Ok((pid, version)) => Told::Done { pid, version },
            Err(failed) => {
                log::error!("upgrade: {}", failed.reason);
                failed.findings.iter().for_each(|finding| log::error!("{finding}"));
                Told::Failed(failed)
            }
        };
        tell(end);
    }

    fn upgrade(
        &self,
        binary: Option<PathBuf>,
        patience: Duration,
        tell: &mut dyn FnMut(String),
    ) -> Result<(u32, String), UpgradeError> {
        match *self.standing.lock() {
            Standing::Serves => {}
            Standing::Ends => return Err(UpgradeError::new("the running process was told to end")),
            Standing::HandedOver => return Err(UpgradeError::new("another process has just taken over: ask again")),
        }
        if std::process::id() == 1 {
            return Err(UpgradeError::new(
                "the gateway is process 1 of its container, which would end with it: replace the container, or run \
                 the gateway under an init",
            ));
        }
        let Some(binary) = binary.or_else(|| self.parts.executable.clone()) else {
            return Err(UpgradeError::new("where the running executable lies is not known: name one"));
        };
        manager::reloading();
        let mut successor =
            ChildProcess::start(&binary, &self.parts.conf, patience).inspect_err(|_| manager::ready())?;
        tell(format!("{} is started as process {}", binary.display(), successor.pid));
        self.parts.log.share(true);
        // Whatever state a panic left here, the held parts must be released.
        let give = std::panic::AssertUnwindSafe(|| self.give(&mut successor, tell));
        let given = std::panic::catch_unwind(give)
            .unwrap_or_else(|_| Err(UpgradeError::new("a fault in the running process; its log says where")));
        if *self.standing.lock() != Standing::HandedOver {
            successor.end();
            self.take_back(tell);
            return given.and(Err(out_of_turn()));
        }
        let who = (successor.pid, successor.version.clone());
        *self.successor.lock() = Some(successor);
        given.map_err(|failed| {
            let UpgradeError { reason, .. } = failed;
            UpgradeError::new(format!(
                "everything was handed over, and then: {reason}; the old process drains: see to it that one serves"
            ))
        })?;
        tell(format!("process {} serves; the old one drains", who.0));
        Ok(who)
    }

    /// Hands everything over, up to the message after which the new process serves.
    fn give(&self, successor: &mut ChildProcess, tell: &mut dyn FnMut(String)) -> Result<(), UpgradeError> {
        let parts = &self.parts;
        let wanted = || *self.standing.lock() == Standing::Serves;
        let sockets =
            parts.sockets.all().map_err(|e| UpgradeError::new(format!("the sockets could not be copied: {e}")))?;
        let count = sockets.len();
        successor.greet(sockets, &wanted)?;
        tell(format!("it is Tollgate {}, and has {count} listening sockets", successor.version));
        let FromNew::Prepared { notes } = successor.next("its configuration was checked", &wanted, tell)? else {
            return Err(out_of_turn());
        };
        notes.into_iter().for_each(&mut *tell);
        tell("it has checked the configuration and is prepared".to_owned());
        if let Some(books) = &parts.books {
            let begun = clock::now();
            books.close();
            tell(format!("the ledger is closed here, in {} ms", clock::now().since(begun).as_millis()));
        }
        let begun = clock::now();
        successor.say(&FromOld::Books)?;
        let FromNew::Opened { notes } = successor.next("its ledger was open", &wanted, tell)? else {
            return Err(out_of_turn());
        };
        notes.into_iter().for_each(&mut *tell);
        if parts.books.is_some() {
            tell(format!("the ledger is open there, in {} ms", clock::now().since(begun).as_millis()));
        }
        let hold = self.hold()?;
        successor.say(&FromOld::State { down: self.down() })?;
        let FromNew::Ready = successor.next("it was ready", &wanted, tell)? else { return Err(out_of_turn()) };
        self.go(successor, hold)?;
        self.accepts_no_more();
        match successor.next("it served", &|| true, tell)? {
            FromNew::Serving => Ok(()),
            _ => Err(out_of_turn()),
        }
    }

    /// Stops all changes to `state_dir`, in which everything is then written.
    fn hold(&self) -> Result<Hold, UpgradeError> {
        let Some(hold) = self.parts.control.hold(CHANGE) else {
            return Err(UpgradeError::new("a change of the configuration takes too long: ask again when it is done"));
        };
        if !self.parts.releases.hold() {
            return Err(UpgradeError::new(
                "the releases' state could not be written to state_dir: see to its disk first",
            ));
        }
        Ok(hold)
    }

    /// Sends the message after which the other process serves.
    fn go(&self, successor: &mut ChildProcess, hold: Hold) -> Result<(), UpgradeError> {
        let mut standing = self.standing.lock();
        if *standing != Standing::Serves {
            return Err(UpgradeError::new("the running process was told to end: there is no upgrade any more"));
        }
        successor.say(&FromOld::Go)?;
        *standing = Standing::HandedOver;
        hold.for_ever();
        self.parts.releases.hand_over();
        self.gone.send_replace(true);
        Ok(())
    }

    /// Returns once this process accepts no connection any more, so that this is true when the other one reports that
    /// it serves.
    fn accepts_no_more(&self) {
        let until = clock::now().after(NOTICE);
        while !self.parts.acceptors.iter().all(JoinHandle::is_finished) && clock::now() < until {
            std::thread::sleep(LOOK);
        }
    }

    /// Takes back everything that was handed over.
    fn take_back(&self, tell: &mut dyn FnMut(String)) {
        self.parts.log.share(false);
        self.parts.releases.go_on();
        if *self.standing.lock() != Standing::Serves {
            return;
        }
        match self.parts.books.as_ref().map_or(Ok(()), |books| books.open_again()) {
            Ok(()) => tell("the old process goes on as before".to_owned()),
            Err(e) => tell(format!(
                "the old process goes on, but its ledger could not be opened again, callbacks get 503: {e}"
            )),
        }
        manager::ready();
    }

    /// Servers that probes found unhealthy, so that the new process need not find out again.
    fn down(&self) -> Vec<(String, std::net::SocketAddr)> {
        let snapshot = self.parts.snapshot.load();
        let of = |upstream: &Arc<crate::runtime::snapshot::Upstream>| {
            let pool = upstream.pool();
            let down = pool.members().iter().filter(|member| !member.state.healthy());
            down.map(|member| (upstream.name.to_string(), member.address)).collect::<Vec<_>>()
        };
        snapshot.upstreams.iter().flat_map(of).collect()
    }
}

fn out_of_turn() -> UpgradeError {
    UpgradeError::new("the new process said something out of turn: it is no Tollgate that can take over")
}
