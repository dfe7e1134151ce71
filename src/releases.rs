//! The clock and the disk of the releases: a thread that ticks the [`Controller`], keeps its state, and reports.
//!
//! State that must survive a restart is in `state_dir/releases.json`, replaced atomically: at once when a release
//! changes its state, every half minute for its evidence. A failing disk is logged and prevents no order from being
//! obeyed. Orders come from the admin API and are kept before they are answered.
//!
//! An upgrade holds all of it: nothing is judged, stepped or written while another process may read the state, and
//! orders wait. Once the other process has taken over, this one only follows: a rollback there also takes effect for
//! the requests that are still answered here.

use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::notify::{Message, Notifier, ReportStore};
use crate::telemetry::Registry;
use base::clock;
use base::files;
use config::model::Config;
use gray::controller::state::Order;
use gray::controller::view::View;
use gray::controller::{Controller, Moment, OrderError, PersistedRelease, PersistedReleases, Surroundings, Ticked};
use gray::report::Report;
use gray::shared_state::SharedState;

/// Interval of ticks.
const TICK: Duration = Duration::from_millis(100);
/// Interval at which evidence is kept.
const KEEP: Duration = Duration::from_secs(30);
/// The same after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// All releases of the process.
pub struct Releases {
    controller: Mutex<Controller>,
    file: PathBuf,
    /// Held while the state is written, so that an older one never replaces a newer one.
    writing: Mutex<()>,
    /// Held while releases are judged, moved and kept.
    hand: Mutex<Hand>,
    /// Notified when `hand` has changed.
    changed: Condvar,
    /// The reports of this process and of earlier ones.
    pub shelf: ReportStore,
    /// Sends reports and alarms.
    pub notifier: Arc<Notifier>,
}

/// Which process moves the releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hand {
    /// This process.
    Ours,
    /// None, for the moment.
    Held,
    /// Another process.
    Theirs,
}

/// Why an order was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// Its state forbids it.
    Order(OrderError),
    /// Another process has the releases.
    HandedOver,
}

/// The state that an earlier process left in `state_dir`: empty without such a file, an error if it cannot be read.
pub fn kept(state_dir: &Path) -> std::io::Result<PersistedReleases> {
    match std::fs::read(file(state_dir)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(PersistedReleases::default()),
        Err(e) => Err(e),
    }
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("releases.json")
}

/// A controller that continues from this state; the registry names servers and apps by number.
pub fn controller(kept: PersistedReleases, registry: &Arc<Registry>) -> Controller {
    let (servers, apps) = (registry.clone(), registry.clone());
    let server = move |number| servers.server_of(number).map(|(_, address)| address.to_string());
    let app = move |number| apps.app_of(number).map(|name| name.to_string());
    Controller::new(kept, Surroundings { stamp: clock::rfc3339, server: Arc::new(server), app: Arc::new(app) })
}

/// The present time, by both clocks.
pub fn moment() -> Moment {
    Moment { now: clock::now(), wall_ms: clock::wall_ms() }
}

impl Releases {
    /// Reads the kept state.
    pub fn open(state_dir: &Path, registry: &Arc<Registry>, notifier: Arc<Notifier>) -> std::io::Result<Releases> {
        let file = file(state_dir);
        let controller = match kept(state_dir) {
            Ok(kept) => controller(kept, registry),
            Err(e) => {
                let aside = file.with_extension("json.unreadable");
                let _ = std::fs::rename(&file, &aside);
                let (file, aside) = (file.display(), aside.display());
                log::error!("{file}: {e}: nobody knows which releases were taken back, so every one counts as aborted");
                log::error!("it is kept as {aside}; start a release again with `tollgate release resume NAME`");
                let mut controller = controller(PersistedReleases::default(), registry);
                controller.distrust();
                controller
            }
        };
        Ok(Releases {
            controller: Mutex::new(controller),
            file,
            writing: Mutex::default(),
            hand: Mutex::new(Hand::Ours),
            changed: Condvar::new(),
            shelf: ReportStore::open(state_dir)?,
            notifier,
        })
    }

    /// Adopts the releases of a configuration that is about to be served; returns their shared states, in its order.
    pub fn adopt(&self, config: &Config) -> Vec<Arc<SharedState>> {
        self.notifier.targets(config.notify.clone());
        self.controller.lock().adopt(&config.releases, &config.names(), moment())
    }

    /// Read access to the controller.
    pub fn look(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock()
    }

    /// Obeys an operator's order, and keeps it. May wait for the disk, or for the end of an upgrade.
    pub fn order(&self, name: &str, order: Order, who: &str) -> Result<View, CommandError> {
        let mut hand = self.hand.lock();
        self.changed.wait_while(&mut hand, |hand| *hand == Hand::Held);
        if *hand == Hand::Theirs {
            return Err(CommandError::HandedOver);
        }
        let view = self.controller.lock().order(name, order, moment()).map_err(CommandError::Order)?;
        log::warn!("release {name}: {} by {who}: {}, step {}", order.label(), view.state.label(), view.step);
        self.keep();
        Ok(view)
    }

    /// Starts the thread.
    pub fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let releases = self.clone();
        std::thread::Builder::new().name("releases".into()).spawn(move || releases.run()).map(drop)
    }

    fn run(&self) {
        let (mut kept_at, mut wait) = (clock::now(), KEEP);
        let mut followed = None;
        loop {
            std::thread::sleep(TICK);
            let hand = self.hand.lock();
            match *hand {
                Hand::Ours => {}
                Hand::Held => continue,
                Hand::Theirs => {
                    drop(hand);
                    self.follow(&mut followed);
                    continue;
                }
            }
            let at = moment();
            // A panic in a judge must not end the thread that takes releases back.
            let looked = std::panic::catch_unwind(AssertUnwindSafe(|| self.tick(at)));
            let mut ticked = looked.unwrap_or_else(|_| {
                log::error!("a release could not be judged: what was seen in this tenth of a second is lost");
                Ticked::default()
            });
            // Kept before it is reported, so that it holds after a crash, together with its report.
            ticked.reports = ticked.reports.into_iter().map(|report| self.put_up(report)).collect();
            if ticked.changed || at.now.since(kept_at) >= wait {
                wait = if self.keep() { KEEP } else { RETRY };
                kept_at = at.now;
            }
            drop(hand);
            self.tell(&ticked);
        }
    }

    /// Makes reports readable before the new state of their releases is.
    fn tick(&self, at: Moment) -> Ticked {
        let mut controller = self.controller.lock();
        let ticked = controller.tick(at);
        ticked.reports.iter().for_each(|report| self.shelf.announce(report));
        ticked
    }

    /// Writes a report to the disk. A failure must not prevent it from being sent.
    fn put_up(&self, report: Report) -> Report {
        self.shelf.keep(report.clone()).unwrap_or_else(|e| {
            log::error!("report {} could not be kept in state_dir: {e}", report.id);
            report
        })
    }

    /// Stops all moves and writes the state a last time; false if the disk failed.
    pub fn hold(&self) -> bool {
        let mut hand = self.hand.lock();
        *hand = Hand::Held;
        self.keep()
    }

    /// Goes on.
    pub fn go_on(&self) {
        self.becomes(Hand::Ours);
    }

    /// Another process has taken over.
    pub fn hand_over(&self) {
        self.becomes(Hand::Theirs);
    }

    fn becomes(&self, next: Hand) {
        *self.hand.lock() = next;
        self.changed.notify_all();
    }

    /// Takes back what the process that took over has taken back.
    fn follow(&self, seen: &mut Option<(u64, i64)>) {
        // It may use another folder; then its releases are not this process's to follow.
        let now = std::fs::metadata(&self.file).ok().map(|meta| (meta.ino(), meta.mtime_nsec()));
        if *seen == now {
            return;
        }
        *seen = now;
        let Ok(theirs) = self.file.parent().map_or_else(|| Ok(vec![]), kept) else { return };
        let mut controller = self.controller.lock();
        for ours in controller.keep().into_iter().filter(|ours| !ours.state.is_back()) {
            let is_it = |kept: &&PersistedRelease| kept.name == ours.name && kept.definition == ours.definition;
            if theirs.iter().find(is_it).is_some_and(|kept| kept.state.is_back()) {
                // An abort always works.
                let _ = controller.order(&ours.name, Order::Abort, moment());
            }
        }
    }

    fn tell(&self, ticked: &Ticked) {
        ticked.said.iter().for_each(|line| log::info!("{line}"));
        for report in &ticked.reports {
            let (release, action) = (&report.facts.release, report.facts.action.label());
            log::warn!("release {release}: {action}: {} (report {})", report.verdict, report.id);
            self.notifier.send(Message::of_report(report));
        }
    }

    /// Writes the state that a restart needs; false if the disk failed.
    pub fn keep(&self) -> bool {
        let _writing = self.writing.lock();
        let kept = self.controller.lock().keep();
        if kept.is_empty() && !self.file.exists() {
            return true;
        }
        // The folder may have been removed.
        let folder = self.file.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| files::replace(&self.file, &kept));
        if let Err(e) = &written {
            log::error!("the releases' state could not be kept in state_dir: {e}");
        }
        written.is_ok()
    }
}
