//! Reports of faults: kept on disk, and sent as messages to `[notify.*]`.
//!
//! | module | is |
//! |---|---|
//! | [`report_store`] | reports in `state_dir/reports`, as JSON and as a page |
//! | [`message`] | a message in the forms of Standard Webhooks and of Alertmanager's API |
//! | [`retry`] | the meaning of an answer: delivered, try again, give up |
//! | [`receiver`] | one receiver: its queue, its task, its attempts |
//!
//! Each receiver has its own task and bounded queue, so a slow one delays neither another nor the caller. All tasks are
//! on one thread, which starts with the first receiver. A full queue drops the message and logs it. A reload keeps a
//! receiver whose definition is the same, with its unsent messages; a removed one sends no more. Messages are not kept
//! across restarts; reports stay on disk. Log messages name the receiver, never its URL or its secret: a URL may hold a
//! token.

pub mod message;
pub mod receiver;
pub mod report_store;
pub mod retry;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

pub use self::message::Message;
use self::receiver::Recipient;
pub use self::report_store::ReportStore;
use self::retry::Pace;
use config::model;
use http_client::webhook::Sender;

/// Sends messages to every receiver of the configuration.
#[derive(Debug)]
pub struct Notifier {
    receivers: Mutex<Receivers>,
    pace: Pace,
}

/// Fields are dropped in this order: tasks must not outlive their thread.
#[derive(Debug, Default)]
struct Receivers {
    targets: Vec<Recipient>,
    courier: Option<Courier>,
}

/// The thread of all tasks. It ends when this is dropped.
#[derive(Debug)]
struct Courier {
    runtime: Handle,
    sender: Sender,
    _alive: oneshot::Sender<()>,
}

impl Courier {
    fn start() -> Result<Courier, String> {
        let sender = Sender::new()?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let (alive, gone) = oneshot::channel();
        let courier = Courier { runtime: runtime.handle().clone(), sender, _alive: alive };
        let work = move || {
            // It ends with an error, because nothing is ever sent.
            let _ = runtime.block_on(gone);
            // It does not wait for a name that is still being resolved.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("notify".into()).spawn(work).map_err(|e| e.to_string())?;
        Ok(courier)
    }
}

impl Notifier {
    /// A notifier for these receivers.
    pub fn new(targets: Vec<model::Notify>) -> Notifier {
        Notifier::at_pace(targets, Pace::default())
    }

    fn at_pace(targets: Vec<model::Notify>, pace: Pace) -> Notifier {
        let notifier = Notifier { receivers: Mutex::default(), pace };
        notifier.targets(targets);
        notifier
    }

    /// Replaces the receivers with these, after a reload.
    pub fn targets(&self, wanted: Vec<model::Notify>) {
        let mut receivers = self.receivers.lock();
        let Receivers { targets, courier } = &mut *receivers;
        if courier.is_none() && !wanted.is_empty() {
            match Courier::start() {
                Ok(started) => *courier = Some(started),
                Err(why) => log::error!("notify: no receiver gets anything: {why}"),
            }
        }
        let Some(Courier { runtime, sender, .. }) = courier else { return };
        let mut old = std::mem::take(targets);
        for notify in wanted {
            match old.iter().position(|target| target.is(&notify)) {
                Some(at) => targets.push(old.swap_remove(at)),
                None => targets.push(Recipient::start(notify, self.pace, sender.clone(), runtime)),
            }
        }
        // The remaining ones end when they are dropped.
    }

    /// Puts a message into every receiver's queue; never waits.
    pub fn send(&self, message: Message) {
        let message = Arc::new(message);
        self.receivers.lock().targets.iter().for_each(|target| target.send(&message));
    }
}

#[cfg(test)]
mod tests;
