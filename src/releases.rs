//! The clock and the disk of the releases: a thread that ticks the [`Controller`], keeps its state, and tells.
//!
//! What must survive a restart stands in `state_dir/releases.json`, replaced atomically: at once when a release changes
//! its state, every half minute for its evidence. A disk that refuses is said in the log and keeps no order from being
//! obeyed. Orders come from the admin API and are kept before they are answered.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::clock;
use crate::config::history;
use crate::config::model::Config;
use crate::gray::controller::state::Order;
use crate::gray::controller::view::View;
use crate::gray::controller::{AllKept, Controller, Moment, Refused, Surroundings, Ticked};
use crate::gray::live::Live;
use crate::notify::{Message, Notifier, Shelf};
use crate::telemetry::Registry;

/// Time between two looks at what was seen.
const TICK: Duration = Duration::from_millis(100);
/// Time after which evidence is kept again.
const KEEP: Duration = Duration::from_secs(30);
/// The same after a disk refused.
const RETRY: Duration = Duration::from_secs(1);

/// All releases of the process.
pub struct Releases {
    controller: Mutex<Controller>,
    file: PathBuf,
    /// Held while the state is written, so that an older one never replaces a newer one.
    writing: Mutex<()>,
    /// The reports of the process and of those before it.
    pub shelf: Shelf,
    /// Sends reports and alarms.
    pub notifier: Arc<Notifier>,
}

/// What a process before has left in `state_dir`: nothing where there is no such file, an error where it cannot be read.
pub fn kept(state_dir: &Path) -> std::io::Result<AllKept> {
    match std::fs::read(file(state_dir)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(AllKept::default()),
        Err(e) => Err(e),
    }
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("releases.json")
}

/// A controller that goes on with what was kept; `server` names servers by number.
pub fn controller(kept: AllKept, server: impl Fn(u32) -> Option<String> + Send + Sync + 'static) -> Controller {
    Controller::new(kept, Surroundings { stamp: clock::rfc3339, server: Arc::new(server) })
}

/// Now, by both clocks.
pub fn moment() -> Moment {
    Moment { now: clock::now(), wall_ms: clock::wall_ms() }
}

impl Releases {
    /// Reads what was kept.
    pub fn open(state_dir: &Path, registry: &Arc<Registry>) -> std::io::Result<Releases> {
        let names = registry.clone();
        let server = move |number| names.server_of(number).map(|(_, address)| address.to_string());
        let file = file(state_dir);
        let controller = match kept(state_dir) {
            Ok(kept) => controller(kept, server),
            Err(e) => {
                let aside = file.with_extension("json.unreadable");
                let _ = std::fs::rename(&file, &aside);
                let (file, aside) = (file.display(), aside.display());
                log::error!("{file}: {e}: nobody knows which releases were taken back, so every one counts as aborted");
                log::error!("it is kept as {aside}; start a release again with `tollgate release resume NAME`");
                let mut controller = controller(AllKept::default(), server);
                controller.distrust();
                controller
            }
        };
        Ok(Releases {
            controller: Mutex::new(controller),
            file,
            writing: Mutex::default(),
            shelf: Shelf::open(state_dir)?,
            notifier: Arc::new(Notifier::new(vec![])),
        })
    }

    /// Takes over the releases of a configuration that is about to be served; their shared states, in its order.
    pub fn adopt(&self, config: &Config) -> Vec<Arc<Live>> {
        self.notifier.targets(config.notify.clone());
        self.controller.lock().adopt(config, moment())
    }

    /// The controller, to look at.
    pub fn look(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock()
    }

    /// Obeys an operator, and keeps it. May wait for the disk.
    pub fn order(&self, name: &str, order: Order, who: &str) -> Result<View, Refused> {
        let view = self.controller.lock().order(name, order, moment())?;
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
        loop {
            std::thread::sleep(TICK);
            let at = moment();
            // A fault in a judge must not end what takes releases back.
            let looked = std::panic::catch_unwind(AssertUnwindSafe(|| self.controller.lock().tick(at)));
            let ticked = looked.unwrap_or_else(|_| {
                log::error!("a release could not be judged: what was seen in this tenth of a second is lost");
                Ticked::default()
            });
            // Kept before it is told: who has heard of it finds it so after a crash.
            if ticked.changed || at.now.since(kept_at) >= wait {
                wait = if self.keep() { KEEP } else { RETRY };
                kept_at = at.now;
            }
            self.tell(&ticked);
        }
    }

    fn tell(&self, ticked: &Ticked) {
        ticked.said.iter().for_each(|line| log::info!("{line}"));
        for report in &ticked.reports {
            let (release, action) = (&report.facts.release, report.facts.action.label());
            log::warn!("release {release}: {action}: {} (report {})", report.verdict, report.id);
            // A disk that refuses must not keep anybody from hearing of it.
            let kept = self.shelf.keep(report.clone()).unwrap_or_else(|e| {
                log::error!("report {} could not be kept in state_dir: {e}", report.id);
                report.clone()
            });
            self.notifier.send(Message::of_report(&kept));
        }
    }

    /// Writes down what a restart needs; whether the disk took it.
    pub fn keep(&self) -> bool {
        let _writing = self.writing.lock();
        let kept = self.controller.lock().keep();
        if kept.is_empty() && !self.file.exists() {
            return true;
        }
        // Somebody may have tidied the folder away.
        let folder = self.file.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| history::write(&self.file, &kept));
        if let Err(e) = &written {
            log::error!("the releases' state could not be kept in state_dir: {e}");
        }
        written.is_ok()
    }
}
