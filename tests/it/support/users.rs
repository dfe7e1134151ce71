//! Users who ask one after the other over kept connections, each with a key of his own, at a rate that leaves room for
//! other tests.
//!
//! What counts is what a user would notice: another status than 200, or no whole answer. A connection that an answer
//! announces the end of is made anew; that is nobody's failure. Users take turns, so all of them are met.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Answer, Connection, Request, get};
use super::wait::{Finally, PATIENCE, within};
use super::world::World;

/// Connections; a canary that hangs holds some of them.
const CONNECTIONS: usize = 8;

/// Users, and what they met so far.
pub struct Users {
    name: &'static str,
    users: usize,
    /// Requests a second, of all together.
    rate: u32,
    path: &'static str,
    done: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
    /// Requests that ended, by connection.
    turns: [AtomicUsize; CONNECTIONS],
    first_failure: Mutex<Option<String>>,
}

impl Users {
    /// So many users, `u0` and on, who ask so often a second together.
    pub fn new(users: usize, rate: u32) -> Users {
        Users::named("u", users, rate)
    }

    /// Users of another name.
    pub fn named(name: &'static str, users: usize, rate: u32) -> Users {
        Users {
            name,
            users,
            rate,
            path: "/",
            done: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            turns: Default::default(),
            first_failure: Mutex::default(),
        }
    }

    /// They ask for another path than `/`.
    pub fn at(self, path: &'static str) -> Users {
        Users { path, ..self }
    }

    /// They ask while `act` runs.
    pub fn while_<T>(&self, world: &World, act: impl FnOnce() -> T) -> T {
        self.done.store(false, SeqCst);
        thread::scope(|scope| {
            let _end = Finally(&self.done);
            for first in 0..CONNECTIONS {
                scope.spawn(move || self.ask(world, first));
            }
            act()
        })
    }

    fn ask(&self, world: &World, first: usize) {
        let pause = Duration::from_secs(CONNECTIONS as u64) / self.rate;
        let mut connection = None;
        let mut next = Instant::now() + pause * first as u32 / CONNECTIONS as u32;
        for user in (first..).step_by(CONNECTIONS) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // Who is late does not hurry to catch up.
            next = (next + pause).max(Instant::now() - 4 * pause);
            if self.done.load(SeqCst) {
                return;
            }
            let key = format!("{}{}", self.name, user % self.users);
            let asked = connection
                .take()
                .map_or_else(|| Connection::to(world.port), Ok)
                .and_then(|mut kept| Ok((kept.ask(&by(&key, self.path))?, kept)));
            match asked {
                Ok((answer, kept)) => {
                    connection = (answer.header("connection") != Some("close")).then_some(kept);
                    self.met(&key, &answer);
                }
                Err(e) => self.failed(format!("{key}: {e}")),
            }
            self.turns[first].fetch_add(1, SeqCst);
        }
    }

    fn met(&self, key: &str, answer: &Answer) {
        match answer.status {
            200 => drop(self.answered.fetch_add(1, SeqCst)),
            status => self.failed(format!("{key}: {status} {}", answer.text())),
        }
    }

    fn failed(&self, what: String) {
        self.failed.fetch_add(1, SeqCst);
        self.first_failure.lock().unwrap().get_or_insert(what);
    }

    /// Requests that were answered with 200.
    pub fn answered(&self) -> usize {
        self.answered.load(SeqCst)
    }

    /// Requests that were not.
    pub fn failures(&self) -> usize {
        self.failed.load(SeqCst)
    }

    /// Waits until they got so many more answers of any kind.
    #[track_caller]
    pub fn asks_more(&self, requests: usize) {
        let all = || self.answered() + self.failures();
        let enough = all() + requests;
        assert!(within(PATIENCE, || (all() >= enough).then_some(())).is_some(), "there is no load");
    }

    /// Waits until every user has asked about once more.
    #[track_caller]
    pub fn goes_round(&self) {
        self.asks_more(self.users + CONNECTIONS);
    }

    /// Waits until all that is on its way has ended.
    #[track_caller]
    pub fn lets_end(&self) {
        let before = self.turns.each_ref().map(|turns| turns.load(SeqCst));
        let ended = || self.turns.iter().zip(before).all(|(turns, before)| turns.load(SeqCst) > before + 1);
        assert!(within(PATIENCE, || ended().then_some(())).is_some(), "a request does not end");
    }

    /// No request failed, and there were some.
    #[track_caller]
    pub fn noticed_nothing(&self) {
        let (answered, failed) = (self.answered(), self.failures());
        let first = self.first_failure.lock().unwrap();
        assert!(failed == 0, "{failed} requests failed, {answered} did not; the first: {first:?}");
        assert!(answered > 0, "nobody asked");
    }
}

/// `GET path` of a user.
pub fn by(user: &str, path: &str) -> Request {
    get(path).header("x-user-id", user)
}
