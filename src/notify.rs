//! What leaves the process when something is wrong: reports on disk, and messages to `[notify.*]`.
//!
//! | module | is |
//! |---|---|
//! | [`shelf`] | reports in `state_dir/reports`, as JSON and as a page |
//! | [`message`] | what is sent, as Standard Webhooks and as Alertmanager's API want it |
//! | [`outcome`] | what an answer means: delivered, try again, give up |
//! | [`target`] | one receiver: its queue, its thread, its tries |
//!
//! Each receiver has a thread and a bounded queue of its own, so a slow one delays neither another nor the caller; a full
//! queue drops the message and says so. A reload keeps a receiver whose definition is the same, with what it still has to
//! send; one that is gone sends no more. Messages are not kept across restarts: the report stays on the shelf. What is
//! logged names the receiver, never its URL or its secret: a URL may hold a token.

pub mod message;
pub mod outcome;
pub mod shelf;
pub mod target;

use std::sync::Arc;

use parking_lot::Mutex;

pub use self::message::Message;
pub use self::shelf::Shelf;
use self::target::{Pace, Target};
use config::model;

/// Sends messages to every receiver of the configuration.
#[derive(Debug)]
pub struct Notifier {
    targets: Mutex<Vec<Target>>,
    pace: Pace,
}

impl Notifier {
    /// For these receivers.
    pub fn new(targets: Vec<model::Notify>) -> Notifier {
        Notifier::at_pace(targets, Pace::default())
    }

    fn at_pace(targets: Vec<model::Notify>, pace: Pace) -> Notifier {
        let notifier = Notifier { targets: Mutex::default(), pace };
        notifier.targets(targets);
        notifier
    }

    /// From now on to these receivers, as a reload wants it.
    pub fn targets(&self, wanted: Vec<model::Notify>) {
        let mut targets = self.targets.lock();
        let mut old = std::mem::take(&mut *targets);
        for notify in wanted {
            match old.iter().position(|target| target.is(&notify)) {
                Some(at) => targets.push(old.swap_remove(at)),
                None => targets.extend(Target::start(notify, self.pace)),
            }
        }
        // Those left over end as they are dropped.
    }

    /// Puts a message into every receiver's queue; never waits.
    pub fn send(&self, message: Message) {
        let message = Arc::new(message);
        self.targets.lock().iter().for_each(|target| target.send(&message));
    }
}

#[cfg(test)]
mod tests;
