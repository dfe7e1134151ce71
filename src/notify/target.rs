//! One receiver: a queue, and a thread that works it off.
//!
//! Messages go out one after the other, in order; the next waits until the one before is delivered or given up. A queue
//! holds `QUEUE` of them; the newest is dropped where there is no room. Dropping a [`Target`] ends its thread after the
//! attempt that is under way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use ureq::tls::{RootCerts, TlsConfig};

use super::message::Message;
use super::outcome::Outcome;
pub use super::outcome::Pace;
use base::clock;
use base::webhook;
use config::model::{Notify, NotifyFormat};

/// Messages that wait at most.
const QUEUE: usize = 64;

/// A receiver.
#[derive(Debug)]
pub struct Target {
    notify: Notify,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Message>>,
    gone: bool,
}

impl Target {
    /// Starts its thread; says why in the log where that fails.
    pub fn start(notify: Notify, pace: Pace) -> Option<Target> {
        let queue = Arc::new(Queue::default());
        let sender = Sender { notify: notify.clone(), pace, agent: agent(pace.timeout), queue: Arc::clone(&queue) };
        let started = std::thread::Builder::new().name("notify".into()).spawn(move || sender.run());
        match started {
            Ok(_) => Some(Target { notify, queue }),
            Err(e) => {
                log::error!("notify.{}: no thread for it, so it gets nothing: {e}", notify.name);
                None
            }
        }
    }

    /// Whether it is the receiver so defined; where its table stands does not matter.
    pub fn is(&self, notify: &Notify) -> bool {
        Notify { place: self.notify.place.clone(), ..notify.clone() } == self.notify
    }

    /// Puts a message into its queue; never waits.
    pub fn send(&self, message: &Arc<Message>) {
        let mut state = self.queue.state.lock();
        if state.waiting.len() < QUEUE {
            state.waiting.push_back(Arc::clone(message));
            self.queue.changed.notify_one();
        } else {
            log::error!("notify.{}: {QUEUE} messages wait already, {} is dropped", self.notify.name, message.id);
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.queue.state.lock().gone = true;
        self.queue.changed.notify_one();
    }
}

impl Queue {
    /// The next message, waited for; none once the target is gone.
    fn next(&self) -> Option<Arc<Message>> {
        let mut state = self.state.lock();
        loop {
            if state.gone {
                return None;
            }
            if let Some(message) = state.waiting.pop_front() {
                return Some(message);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Waits so long; whether the target is still there.
    fn pause(&self, time: Duration) -> bool {
        let until = clock::now().after(time);
        let mut state = self.state.lock();
        while !state.gone {
            // A new message wakes it, too.
            let left = until.since(clock::now());
            if left.is_zero() {
                return true;
            }
            self.changed.wait_for(&mut state, left);
        }
        false
    }
}

/// What the thread has.
struct Sender {
    notify: Notify,
    pace: Pace,
    agent: ureq::Agent,
    queue: Arc<Queue>,
}

impl Sender {
    fn run(self) {
        while let Some(message) = self.queue.next() {
            self.deliver(&message);
        }
    }

    fn deliver(&self, message: &Message) {
        let (name, id) = (&self.notify.name, &message.id);
        let body = message.body(self.notify.format);
        for tried in 1.. {
            let (why, after) = match self.post(message, &body) {
                Outcome::Delivered => return log::info!("notify.{name}: {id} is delivered"),
                Outcome::Final(why) => return log::error!("notify.{name}: {id} is given up: {why}"),
                Outcome::Again { why, after } => (why, after),
            };
            let Some(wait) = self.pace.wait(tried, after, fastrand::f64()) else {
                return log::error!("notify.{name}: {id} is given up after {tried} tries: {why}");
            };
            log::warn!("notify.{name}: {id} failed, once more in {:.1} s: {why}", wait.as_secs_f64());
            if !self.queue.pause(wait) {
                return log::warn!("notify.{name} is gone, {id} was not delivered");
            }
        }
    }

    fn post(&self, message: &Message, body: &str) -> Outcome {
        let mut request = self.agent.post(&self.notify.url).header("content-type", "application/json");
        if self.notify.format == NotifyFormat::Webhook {
            let timestamp = clock::wall_ms() / 1_000;
            request = request.header("webhook-id", &message.id).header("webhook-timestamp", timestamp.to_string());
            if let Some(secret) = &self.notify.secret {
                request = request.header(
                    "webhook-signature",
                    webhook::signature(&webhook::signing_key(&secret.0), &message.id, timestamp, body),
                );
            }
        }
        match request.send(body) {
            Ok(answer) => {
                let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
                Outcome::of(answer.status().as_u16(), after, clock::wall_ms())
            }
            // Its text holds the URL.
            Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => Outcome::Final("its url cannot be used".to_owned()),
            Err(e) => Outcome::Again { why: e.to_string(), after: None },
        }
    }
}

/// One connection's worth of client: no proxy of the environment, no redirect, the system's certificates.
fn agent(timeout: Duration) -> ureq::Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(timeout))
        .tls_config(tls)
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}
