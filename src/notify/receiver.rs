//! One receiver: a queue, and a task that empties it.
//!
//! Messages go out one after the other, in order; the next waits until the one before is delivered or given up. A queue
//! holds `QUEUE` of them; without room the newest is dropped. Dropping a [`Recipient`] ends its task after the attempt
//! under way.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::message::Message;
use super::retry::{DeliveryOutcome, Pace};
use config::model::{Notify, NotifyFormat};
use http_client::webhook;

/// Maximum number of waiting messages.
const QUEUE: usize = 64;

/// A receiver.
#[derive(Debug)]
pub struct Recipient {
    notify: Notify,
    pub(super) queue: Sender<Arc<Message>>,
    /// Dropping it ends the task.
    _alive: oneshot::Receiver<()>,
}

impl Recipient {
    /// Starts its task.
    pub fn start(notify: Notify, pace: Pace, sender: webhook::Sender, runtime: &Handle) -> Recipient {
        let (queue, messages) = mpsc::channel(QUEUE);
        let (gone, alive) = oneshot::channel();
        let secret = notify.secret.as_ref().map(|secret| &*secret.0);
        // The operator names the receiver, which may be in the internal network.
        let endpoint = webhook::Endpoint::new(&notify.url, secret, true, pace.timeout);
        let worker = Worker { name: Arc::clone(&notify.name), format: notify.format, pace, endpoint, sender };
        runtime.spawn(worker.run(messages, gone));
        Recipient { notify, queue, _alive: alive }
    }

    /// Whether it has this definition; the place of its table does not matter.
    pub fn is(&self, notify: &Notify) -> bool {
        Notify { place: self.notify.place.clone(), ..notify.clone() } == self.notify
    }

    /// Puts a message into its queue; never waits.
    pub fn send(&self, message: &Arc<Message>) {
        if self.queue.try_send(Arc::clone(message)).is_err() {
            log::error!("notify.{}: {QUEUE} messages wait already, {} is dropped", self.notify.name, message.id);
        }
    }
}

/// The state of the task.
struct Worker {
    name: Arc<str>,
    format: NotifyFormat,
    pace: Pace,
    endpoint: webhook::Endpoint,
    sender: webhook::Sender,
}

impl Worker {
    async fn run(self, mut messages: Receiver<Arc<Message>>, mut gone: oneshot::Sender<()>) {
        loop {
            let message = tokio::select! {
                biased;
                () = gone.closed() => return,
                message = messages.recv() => message,
            };
            let Some(message) = message else { return };
            self.deliver(&message, &mut gone).await;
        }
    }

    async fn deliver(&self, message: &Message, gone: &mut oneshot::Sender<()>) {
        let (name, id) = (&self.name, &message.id);
        let body = message.body(self.format);
        let signed_id = (self.format == NotifyFormat::Webhook).then_some(id.as_str());
        for attempts in 1.. {
            let (why, after) = match self.sender.send(&self.endpoint, signed_id, body.clone()).await.into() {
                DeliveryOutcome::Delivered => return log::info!("notify.{name}: {id} is delivered"),
                DeliveryOutcome::Final(why) => return log::error!("notify.{name}: {id} is given up: {why}"),
                DeliveryOutcome::Again { why, after } => (why, after),
            };
            let Some(wait) = self.pace.wait(attempts, after, fastrand::f64()) else {
                return log::error!("notify.{name}: {id} is given up after {attempts} tries: {why}");
            };
            log::warn!("notify.{name}: {id} failed, once more in {:.1} s: {why}", wait.as_secs_f64());
            tokio::select! {
                biased;
                () = gone.closed() => return log::warn!("notify.{name} is gone, {id} was not delivered"),
                () = sleep(wait) => {}
            }
        }
    }
}
