//! The load: kept HTTP/2 connections that send requests at an even pace.
//!
//! A connection sends its next request only after an answer, so a slow gateway is not buried; a missed tick is skipped.
//! An answer counts only if a backend gave it, to this very request. The load sends only GET: whether to repeat
//! anything else (such as a POST that reached a server which then died) is a client's own decision. Every request names
//! its user; each user sends a request every few seconds, over different connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderName;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::book::Book;
use crate::client::{Answer, PATIENCE};
use crate::door::{Broken, Connection, Door, Standing};
use base::clock;

/// The number of connections.
pub const CONNECTIONS: u32 = 32;
/// Requests a second, over all connections.
pub const RATE: u32 = 2_000;
/// The number of users. A step of a release waits for some three hundred of them on its canary, and the first has 5 %.
pub const USERS: u32 = 4 * RATE;
/// The header that names the user.
pub const USER: HeaderName = HeaderName::from_static("x-user-id");
const PATHS: [&str; 3] = ["/orders", "/users", "/basket"];

/// A running load; it ends on drop.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    door: Door,
    book: Arc<Book>,
    leaving: AtomicBool,
}

impl Load {
    /// Starts the load.
    pub fn start(door: Door, book: Arc<Book>) -> Load {
        let shared = Arc::new(Shared { door, book, leaving: AtomicBool::new(false) });
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            tasks.spawn(asks(number, shared.clone()));
        }
        Load { shared, tasks }
    }

    /// Opens no more connections; the open ones go on until the gateway announces that they close.
    pub fn leave(&self) {
        self.shared.leaving.store(true, Relaxed);
    }

    /// Waits until every connection is closed; false after `within`.
    pub async fn left(mut self, within: Duration) -> bool {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

async fn asks(number: u32, shared: Arc<Shared>) {
    let pace = Duration::from_secs(1) * CONNECTIONS / RATE;
    tokio::time::sleep(pace * number / CONNECTIONS).await;
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut connection = None;
    for request in 0_u64.. {
        ticks.tick().await;
        let standing = connection.as_ref().map_or(Standing::Open, Connection::standing);
        if standing != Standing::Open {
            note(standing, &shared.book);
            connection = None;
        }
        if connection.is_none() && shared.leaving.load(Relaxed) {
            return;
        }
        connection = ask(connection, request * u64::from(CONNECTIONS) + u64::from(number), &shared).await;
    }
}

/// Sends one request; returns the connection if it can be used again.
async fn ask(connection: Option<Connection>, id: u64, shared: &Shared) -> Option<Connection> {
    let Shared { door, book, .. } = shared;
    let user = (id % u64::from(USERS)) as u32;
    let ticket = book.sent(user);
    let begun = clock::now();
    let path = format!("{}/{id}", PATHS[id as usize % PATHS.len()]);
    let mut kept = connection;
    loop {
        let connection = match kept.take() {
            Some(connection) => connection,
            None => match door.open().await {
                Ok(connection) => connection,
                Err(why) => {
                    book.failed(ticket, why);
                    return None;
                }
            },
        };
        match connection.ask("GET", &path, &[(USER, &user_key(user))]).await {
            Ok(answer) => {
                match backend(&answer, id) {
                    Some(name) => book.answered(ticket, name, clock::now().since(begun)),
                    None => book.failed(ticket, format!("GET {path}: {} {}", answer.status.as_u16(), answer.body)),
                }
                return Some(connection);
            }
            Err(Broken::Unsent(why)) if clock::now().since(begun) < PATIENCE => note(why, book),
            Err(Broken::Unsent(_)) => {
                book.failed(ticket, format!("GET {path}: connections close at once"));
                return None;
            }
            Err(Broken::Lost(why)) => {
                book.failed(ticket, why);
                return None;
            }
        }
    }
}

/// Counts a connection that was closed without notice; those that the gateway announced are in order.
fn note(standing: Standing, book: &Book) {
    if standing == Standing::Closed {
        book.closed();
    }
}

/// The key of a user.
pub fn user_key(user: u32) -> String {
    format!("user-{user}")
}

/// The backend that answered, if the answer is from one and belongs to the request.
fn backend(answer: &Answer, id: u64) -> Option<&str> {
    let mut words = answer.body.split_whitespace();
    let (Some("backend"), Some(name), Some("GET"), Some(path)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    let ours = path.rsplit('/').next() == Some(id.to_string().as_str());
    (answer.status.is_success() && ours).then_some(name)
}
