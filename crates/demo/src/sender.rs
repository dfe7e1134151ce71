//! Providers that send callbacks through the gateway, and repeat each one until it is acknowledged.
//!
//! A provider has several connections, which take the next callback from its queue as soon as they are free, so that
//! callbacks of one order may overtake each other. 503 and a broken connection do not acknowledge; any other answer is
//! wrong, is reported, and ends it. Every answer is counted, since the gateway's access log has a line for each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::client::Answer;
use crate::door::{Broken, Connection, Door};
use crate::payment::{CHANNELS, Callback, Secrets, Signed};
use base::clock;

/// Connections of a provider.
const CONNECTIONS: usize = 4;
/// Time after which a callback is repeated. Real providers wait longer.
const AGAIN: Duration = Duration::from_millis(100);
/// Time between two looks at whether the rest may be sent.
const LOOK: Duration = Duration::from_millis(2);

/// The results of the callbacks.
#[derive(Clone, Default)]
pub struct Tally {
    /// Acknowledged callbacks, in the order of their acknowledgement.
    pub acknowledged: Vec<Callback>,
    /// Requests in flight.
    pub in_flight: u64,
    /// Callbacks that were not acknowledged at the first attempt.
    pub came_again: u64,
    /// Answers of the gateway.
    pub answers: u64,
    /// Answers that neither acknowledge nor ask for a repetition.
    pub wrong: Vec<String>,
}

/// Running providers; they end on drop.
pub struct Senders {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    door: Door,
    secrets: Secrets,
    queues: Vec<Mutex<VecDeque<Callback>>>,
    /// The number of callbacks that stay at the end of each queue for now.
    kept_back: AtomicUsize,
    tally: Mutex<Tally>,
}

impl Senders {
    /// Starts all providers; each keeps its last `kept_back` callbacks until [`Senders::send_all`].
    pub fn start(door: Door, secrets: &Secrets, callbacks: &[Callback], kept_back: usize) -> Senders {
        let of = |channel| callbacks.iter().filter(|callback| callback.channel == channel).cloned().collect();
        let queues = CHANNELS.into_iter().map(|channel| Mutex::new(of(channel))).collect();
        let (secrets, kept_back, tally) = (secrets.clone(), AtomicUsize::new(kept_back), Mutex::default());
        let shared = Arc::new(Shared { door, secrets, queues, kept_back, tally });
        let mut tasks = JoinSet::new();
        for connection in 0..CONNECTIONS * CHANNELS.len() {
            tasks.spawn(sends(connection % CHANNELS.len(), shared.clone()));
        }
        Senders { shared, tasks }
    }

    /// Lets the providers send the rest.
    pub fn send_all(&self) {
        self.shared.kept_back.store(0, Relaxed);
    }

    /// Reads the results so far.
    pub fn look<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&self.shared.tally.lock())
    }

    /// Waits until everything is sent.
    pub async fn done(mut self) -> Tally {
        while self.tasks.join_next().await.is_some() {}
        self.shared.tally.lock().clone()
    }
}

async fn sends(queue: usize, shared: Arc<Shared>) {
    let mut connection = None;
    loop {
        let kept_back = shared.kept_back.load(Relaxed);
        let next = {
            let mut waiting = shared.queues[queue].lock();
            if waiting.len() > kept_back { waiting.pop_front() } else { None }
        };
        let Some(callback) = next else {
            if kept_back == 0 {
                return;
            }
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let mut tries = 0;
        while !try_once(&callback, &mut connection, &shared).await {
            tries += 1;
            if tries == 1 {
                shared.tally.lock().came_again += 1;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Sends a callback; returns whether it is done.
async fn try_once(callback: &Callback, connection: &mut Option<Connection>, shared: &Shared) -> bool {
    shared.tally.lock().in_flight += 1;
    let answered = send(&shared.door, connection, &callback.signed(&shared.secrets, clock::wall_ms())).await;
    let mut tally = shared.tally.lock();
    tally.in_flight -= 1;
    let Ok(answer) = answered else { return false };
    tally.answers += 1;
    match answer.status.as_u16() {
        200 if answer.body == r#"{"received":true}"# => tally.acknowledged.push(callback.clone()),
        503 => return false,
        status => tally.wrong.push(format!("{}: {status} {}", callback.number(), answer.body)),
    }
    true
}

/// Sends a request over a kept connection.
pub async fn send(door: &Door, connection: &mut Option<Connection>, signed: &Signed) -> Result<Answer, String> {
    let kept = match connection.take().filter(Connection::is_open) {
        Some(kept) => kept,
        None => door.open().await?,
    };
    match kept.post(&signed.path, &signed.headers, signed.body.clone()).await {
        Ok(answer) => {
            *connection = Some(kept);
            Ok(answer)
        }
        Err(Broken::Unsent(_)) => Err("the connection was closed".to_owned()),
        Err(Broken::Lost(why)) => Err(why),
    }
}
