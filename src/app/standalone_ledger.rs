//! `tollgate ledger run`: the ledger as its own process.
//!
//! It follows its configuration as the gateway does; a change of a setting that is fixed at the start is refused and
//! logged. It ends with an error once its store has failed: its supervisor restarts it, and the start makes the
//! existing data durable.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::embedded_ledger::tell;
use super::{StartError, runtime};
use crate::notify::Notifier;
use crate::runtime::watch;
use base::machine;
use config::restart_required;
use config::{self, model};
use ledger::metrics::LedgerSeries;
use ledger::serve::bind;
use ledger::service::{Ledger, Outside};

/// Serves the ledger of the configuration at `path` until a signal ends it.
pub fn run(path: &Path) -> Result<(), StartError> {
    machine::raise_file_limit();
    let seen = watch::Seen::now(path);
    let loaded = config::load(path).map_err(StartError::Findings)?;
    let seen = seen.and(&loaded.config.files);
    let Some(ledger) = &loaded.config.ledger else {
        return Err(StartError::Io("the configuration has no [ledger]: there is nothing to run".into()));
    };
    let background = runtime("background", 1)?;
    let (mut term, mut int) = {
        let _entered = background.enter();
        let hear = |kind| signal(kind).map_err(StartError::io("listening to signals"));
        // It follows changes of its files anyway, and has no access log: what the gateway acts on must not end it.
        for kind in [SignalKind::hangup(), SignalKind::user_defined1()] {
            let mut ignored = hear(kind)?;
            background.spawn(async move { while ignored.recv().await.is_some() {} });
        }
        (hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?)
    };
    let notifier = Arc::new(Notifier::new(loaded.config.notify.clone()));
    let (failed, mut failure) = mpsc::unbounded_channel();
    let outside = Outside {
        tell: tell(notifier.clone()),
        series: Arc::new(LedgerSeries::default()),
        failed: Box::new(move |reason| drop(failed.send(reason.to_owned()))),
        stays: false,
    };
    let service = Arc::new(Ledger::open(ledger, outside, bind).map_err(StartError::Io)?);
    service.serve().map_err(StartError::Io)?;
    log::info!("tollgate {} keeps the books at {}", env!("CARGO_PKG_VERSION"), service.address());
    follow(path, seen, loaded.config, (service.clone(), notifier))?;
    let reason = background.block_on(async {
        tokio::select! {
            Some(()) = term.recv() => None,
            Some(()) = int.recv() => None,
            reason = failure.recv() => reason,
        }
    });
    service.stop();
    reason.map_or(Ok(()), |reason| Err(StartError::Io(format!("the ledger's store failed: {reason}"))))
}

/// Applies the settings that may change while it runs.
fn follow(
    path: &Path,
    seen: watch::Seen,
    first: model::Config,
    (service, notifier): (Arc<Ledger>, Arc<Notifier>),
) -> Result<(), StartError> {
    let path = path.to_owned();
    let running = Arc::new(ArcSwap::from_pointee(first));
    let files = running.clone();
    let work = move || {
        watch::follow(
            &path,
            seen,
            || files.load().files.clone(),
            || {
                if running.load().reload.watch {
                    take_over(&path, &running, &service, &notifier);
                }
                true
            },
        );
    };
    let thread = std::thread::Builder::new().name("watch".into()).spawn(work);
    thread.map(drop).map_err(StartError::io("starting the watcher"))
}

fn take_over(path: &Path, running: &ArcSwap<model::Config>, service: &Ledger, notifier: &Notifier) {
    let found = config::load(path).and_then(|loaded| {
        let findings = restart_required::findings(&running.load(), &loaded.config, true);
        if findings.is_empty() { Ok(loaded.config) } else { Err(findings) }
    });
    match found {
        Ok(config) => {
            notifier.targets(config.notify.clone());
            config.ledger.iter().for_each(|ledger| service.follow(ledger));
            log::info!("the configuration was taken over");
            running.store(Arc::new(config));
        }
        Err(findings) => {
            log::error!("the files have {} findings; what runs goes on", findings.len());
            findings.iter().for_each(|finding| log::error!("{finding}"));
        }
    }
}
