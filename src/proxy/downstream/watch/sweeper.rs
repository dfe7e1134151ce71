//! Finds clients that take too long, by periodic looks instead of timers, and requests of which nothing moves.
//!
//! Four waits are limited:
//!
//! - for a request, on a kept connection (`idle_timeout`): it closes without an answer;
//! - for the rest of a head (`header_timeout`): 408. A new connection owes its first head from its start on;
//! - for a body (`body_min_rate`, over any 10 s): 408. Only the time counts in which the gateway waits for the client:
//!   a slow server, or one that owes a `100 Continue`, is not the client's fault. With HTTP/2 that is the time in which
//!   the client may send, and the stream is reset, because its reader cannot be told. If an HTTP/2 upstream is called
//!   by gRPC, the two sides talk and have their own deadlines;
//! - for the client to take something (`idle_timeout`): it closes. If an HTTP/2 client lets many answers starve, its
//!   connection ends after half of that, ten seconds at most.
//!
//! The reader notices a client that leaves. Where nothing more is read, because the next request lies ahead of this
//! one's end, the look notices it.
//!
//! A limit fires at most a quarter of its length, or a second, late. The reader of a late connection learns of it: the
//! socket's reading half is shut down, which ends the read, and the mark in its [`ClientWatch`] says why. A request
//! that arrives in the very moment of closing is lost, as with any server.
//!
//! The last resort checks no flag: if no byte of a request moved, on either side, for longer than all its limits
//! together, its task is ended. It must never be needed, so it is counted and logged as an error.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::super::frames::Wrong;
use super::{Cause, ClientWatch, Cut, NEVER, NOT, RefusedRequest};
use base::clock;
use base::shard::{Counter, SHARDS, index};
use base::units::{Nanos, nanoseconds};

/// Bounds of the time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// The time over which `body_min_rate` is measured, and the interval of its marks.
const RATE_OVER: Duration = Duration::from_secs(10);
const MARK_EVERY: Duration = Duration::from_secs(1);
/// How long many streams of a connection may starve.
const STARVING_FOR: Duration = Duration::from_secs(10);
/// Parts of an answer that Pingora writes one after the other; the client may take `idle_timeout` for each.
const BATCH: u32 = 5;
/// Extra time for an HTTP/2 connection that was sent a GOAWAY.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long clients of a listener may take.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutConfig {
    /// For a whole head.
    pub head: Duration,
    /// Without a request, or without taking anything.
    pub idle: Duration,
    /// Bytes a second of a body; 0: no limit.
    pub body_min_rate: u64,
}

/// A followed connection or stream, and what was seen of it.
#[derive(Debug)]
struct Followed {
    what: What,
    pace: BodyRate,
    still: Still,
}

#[derive(Debug)]
enum What {
    /// A connection, by its socket; one of HTTP/2 gets a GOAWAY before it is closed.
    Connection(Weak<TcpStream>, Arc<ClientWatch>),
    /// An HTTP/2 stream.
    Stream(Weak<ClientWatch>),
}

/// Follows the connections of a listener.
#[derive(Debug, Default)]
pub struct Sweeper {
    followed: [Mutex<Vec<Followed>>; SHARDS],
    /// Requests that the last resort has ended.
    stuck: Arc<Counter>,
}

impl Sweeper {
    /// A sweeper that counts requests ended by the last resort in `stuck`.
    pub fn new(stuck: Arc<Counter>) -> Sweeper {
        Sweeper { stuck, ..Sweeper::default() }
    }

    /// Follows a new connection, which owes a head, until it is dropped.
    pub fn follow(&self, connection: &Arc<TcpStream>, watch: &Arc<ClientWatch>) {
        watch.awaits_head(clock::now());
        self.add(What::Connection(Arc::downgrade(connection), watch.clone()));
    }

    /// Follows a stream until it is dropped.
    pub fn follow_stream(&self, watch: &Arc<ClientWatch>) {
        self.add(What::Stream(Arc::downgrade(watch)));
    }

    fn add(&self, what: What) {
        let followed = Followed { what, pace: BodyRate::default(), still: Still::default() };
        self.followed[index()].lock().push(followed);
    }

    /// Ends what takes longer than `patience` says; never returns.
    pub async fn run(self: Arc<Self>, patience: impl Fn() -> TimeoutConfig) {
        loop {
            let patience = patience();
            tokio::time::sleep((patience.head.min(patience.idle) / 4).clamp(LOOK_MIN, LOOK_MAX)).await;
            self.sweep(clock::now(), patience);
        }
    }

    fn sweep(&self, now: Nanos, patience: TimeoutConfig) {
        for shard in &self.followed {
            shard.lock().retain_mut(|Followed { what, pace, still }| {
                let (socket, watch) = match what {
                    What::Connection(socket, watch) => match socket.upgrade() {
                        Some(socket) => (Some(socket), watch.clone()),
                        None => return false,
                    },
                    What::Stream(watch) => match watch.upgrade() {
                        Some(watch) => (None, watch),
                        None => return false,
                    },
                };
                pace.bound_continue(&watch, now, patience.head);
                if still.is_stuck(&watch, now, patience) {
                    self.give_up(&watch);
                }
                match socket {
                    Some(socket) => look(&socket, &watch, pace, now, patience),
                    None if pace.is_slow(&watch, now, patience.body_min_rate) => {
                        watch.refuse(RefusedRequest::bare(Cause::BodyTooSlow, false));
                        watch.cut(Cut::TooSlow);
                    }
                    None => {}
                }
                true
            });
        }
    }

    /// Closes the connections without a request, as far as their tasks do not end them in order.
    pub fn close_silent(&self) {
        for shard in &self.followed {
            for followed in shard.lock().iter() {
                if let What::Connection(socket, watch) = &followed.what
                    && watch.is_silent()
                    && let Some(socket) = socket.upgrade()
                {
                    // An error means that the client has closed it meanwhile.
                    let _ = SockRef::from(&*socket).shutdown(Shutdown::Both);
                }
            }
        }
    }

    /// Applies the last resort.
    fn give_up(&self, watch: &ClientWatch) {
        if watch.was_cut().is_none() {
            self.stuck.add(1);
            log::error!("a request was ended because nothing moved for longer than its limits allow: {watch}");
        }
        watch.cut(Cut::Stuck);
    }
}

/// Checks a connection.
fn look(socket: &TcpStream, watch: &ClientWatch, pace: &mut BodyRate, now: Nanos, patience: TimeoutConfig) {
    // An error of a shutdown means that the client has closed the connection meanwhile.
    let shut = |how| drop(SockRef::from(socket).shutdown(how));
    if ClientWatch::is_over(&watch.stalled, now, patience.idle) {
        return shut(Shutdown::Both);
    }
    if ClientWatch::is_over(&watch.starving, now, (patience.idle / 2).min(STARVING_FOR)) {
        watch.breaks(Wrong::Starves);
    }
    if ClientWatch::is_over(&watch.idle, now, patience.idle) {
        let asked = watch.is_late();
        watch.wake_late();
        if !watch.tells_goodbye() || asked && ClientWatch::is_over(&watch.idle, now, patience.idle + GOODBYE) {
            shut(Shutdown::Both);
        }
        return;
    }
    if watch.is_late() {
        return;
    }
    if watch.is_parked() && has_left(socket) {
        watch.leaves();
    }
    if ClientWatch::is_over(&watch.head, now, patience.head) || pace.is_slow(watch, now, patience.body_min_rate) {
        watch.wake_late();
        shut(Shutdown::Read);
    }
}

/// Whether the client has closed the connection, or its half of it, even with unread bytes before that.
fn has_left(socket: &TcpStream) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Since when nothing of a request has moved.
#[derive(Debug, Default)]
struct Still {
    moved: u64,
    since: u64,
}

impl Still {
    /// Whether nothing has moved for longer than all limits of the request together.
    fn is_stuck(&mut self, watch: &ClientWatch, now: Nanos, patience: TimeoutConfig) -> bool {
        let (moved, limit) = (watch.moved(), watch.still_for.load(Ordering::Relaxed));
        // Without a rate a body may take any time.
        let may_wait = patience.body_min_rate == 0 && watch.waiting.load(Ordering::Relaxed) != NOT;
        if limit == NEVER || may_wait || moved != self.moved {
            *self = Still { moved, since: now.0 };
            return false;
        }
        let limit = limit.saturating_add(nanoseconds(patience.idle * BATCH + patience.head + RATE_OVER));
        now.0.saturating_sub(self.since) > limit
    }
}

/// The progress of a body, at some moments of the last ten seconds of waiting.
#[derive(Debug, Default)]
struct BodyRate {
    body: u32,
    /// Since when the client was seen to wait for `100 Continue`.
    owed: Option<u64>,
    /// Nanoseconds waited, and bytes received until then.
    marks: VecDeque<(u64, u64)>,
}

impl BodyRate {
    /// A server may take as long for its `100 Continue` as a head may; after that the body is awaited.
    fn bound_continue(&mut self, watch: &ClientWatch, now: Nanos, limit: Duration) {
        if !watch.owes_continue() {
            self.owed = None;
            return;
        }
        let since = *self.owed.get_or_insert(now.0);
        if now.since(Nanos(since)) > limit {
            watch.continues(|| now);
        }
    }

    fn is_slow(&mut self, watch: &ClientWatch, now: Nanos, rate: u64) -> bool {
        let (waited, since) = (watch.waited.load(Ordering::Relaxed), watch.waiting.load(Ordering::Relaxed));
        let body = watch.body.load(Ordering::Relaxed);
        if rate == 0 || since == NOT && waited == 0 {
            return false;
        }
        if body != self.body {
            (self.body, self.marks) = (body, VecDeque::from([(0, 0)]));
        }
        let waited = waited + if since == NOT { 0 } else { now.0.saturating_sub(since) };
        let received = watch.received.load(Ordering::Relaxed);
        if self.marks.back().is_none_or(|last| waited >= last.0 + nanoseconds(MARK_EVERY)) {
            self.marks.push_back((waited, received));
        }
        let begin = waited.saturating_sub(nanoseconds(RATE_OVER));
        // The last mark at least ten seconds back is their beginning.
        while self.marks.get(1).is_some_and(|next| next.0 <= begin) {
            self.marks.pop_front();
        }
        // Only a client that is awaited now can be ended; one that has just sent something gets another look.
        let full = since != NOT && waited >= nanoseconds(RATE_OVER);
        full && self.marks.front().is_some_and(|first| {
            let seconds = waited.saturating_sub(first.0) as f64 / 1e9;
            (received.saturating_sub(first.1) as f64) < rate as f64 * seconds
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: TimeoutConfig =
        TimeoutConfig { head: Duration::from_secs(1), idle: Duration::from_secs(1), body_min_rate: 1 };

    fn second(n: u64) -> Nanos {
        Nanos(n * 1_000_000_000)
    }

    #[tokio::test]
    async fn a_request_that_nothing_moves_is_ended_whatever_the_flags_say() {
        let (stuck, watch) = (Arc::new(Counter::default()), Arc::new(ClientWatch::default()));
        let sweeper = Sweeper::new(stuck.clone());
        sweeper.follow_stream(&watch);
        let held = Arc::new(());
        let task = tokio::spawn({
            let held = held.clone();
            async move {
                let _held = held;
                std::future::pending::<()>().await;
            }
        });
        watch.runs_in(task.abort_handle());
        sweeper.sweep(second(1_000), PATIENCE);
        sweeper.sweep(second(2_000), PATIENCE);
        assert_eq!(watch.was_cut(), None, "no request is under way");
        watch.may_be_still(Some(Duration::from_secs(3)));
        sweeper.sweep(second(2_001), PATIENCE);
        sweeper.sweep(second(2_020), PATIENCE);
        assert_eq!(watch.was_cut(), None, "within all limits together");
        watch.moves();
        sweeper.sweep(second(2_021), PATIENCE);
        sweeper.sweep(second(2_040), PATIENCE);
        assert_eq!(watch.was_cut(), None, "something moved");
        sweeper.sweep(second(2_041), PATIENCE);
        assert_eq!(watch.was_cut(), Some(Cut::Stuck));
        sweeper.sweep(second(2_042), PATIENCE);
        assert_eq!(stuck.sum(), 1, "it is counted once");
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(Arc::strong_count(&held), 1, "what it held is given back");
    }

    #[test]
    fn who_may_be_still_for_ever_is_left_alone() {
        let (watch, mut still) = (ClientWatch::default(), Still::default());
        watch.may_be_still(None);
        assert!(!still.is_stuck(&watch, second(1), PATIENCE) && !still.is_stuck(&watch, second(99_999), PATIENCE));
        watch.may_be_still(Some(Duration::ZERO));
        watch.begins_body();
        watch.awaits_body(|| second(99_999));
        let patient = TimeoutConfig { body_min_rate: 0, ..PATIENCE };
        assert!(!still.is_stuck(&watch, second(100_000), patient));
        assert!(!still.is_stuck(&watch, second(999_999), patient), "its body may take for ever");
        watch.ended(second(999_999));
        assert!(!still.is_stuck(&watch, second(9_999_999), PATIENCE));
    }
}
