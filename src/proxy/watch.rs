//! Clients that take too long, found by looks and not by timers.
//!
//! A connection writes down since when it waits, and for what; one task looks at all connections of a listener now and
//! then. A request whose head comes in one piece costs two stores. Four waits have an end:
//!
//! - for a request, on a kept connection (`idle_timeout`): it closes without a word;
//! - for the rest of a head (`header_timeout`): 408. A new connection owes its first head from its start on;
//! - for a body (`body_min_rate`, over any 10 s): 408. Only the time counts in which we wait for the client: a slow
//!   server is not his fault. With HTTP/2 the time between two parts counts, whoever caused it, and the
//!   stream is reset, as its reader cannot be told. Where an HTTP/2 upstream is called by gRPC the two sides talk, and
//!   have deadlines of their own;
//! - for the client to take something (`idle_timeout`): it closes.
//!
//! A limit fires at most a quarter of its length, or a second, late. What is late is told to whoever reads: the socket's
//! reading half is shut down, which ends the read, and the mark here says why. A request that arrives in the very moment
//! of closing is lost, as with any server.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::admit::fault::Fault;
use crate::clock;
use crate::telemetry::shard::{SHARDS, index};
use crate::units::{Nanos, nanoseconds};

/// Bounds of the time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// The time over which `body_min_rate` is measured, and the time between two of its marks.
const RATE_OVER: Duration = Duration::from_secs(10);
const MARK_EVERY: Duration = Duration::from_secs(1);
/// What is left to an HTTP/2 connection that was asked to go.
const GOODBYE: Duration = Duration::from_secs(1);

/// Nothing is waited for.
const NOT: u64 = 0;

/// Why the bytes of a client were not handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They break a rule.
    Fault(Fault),
    /// The head did not come in time.
    HeadTimeout,
    /// The body came too slowly.
    BodyTooSlow,
}

/// A refused request, as far as it was understood.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why.
    pub cause: Cause,
    /// Method; empty where unknown.
    pub method: Box<str>,
    /// Target; empty where unknown.
    pub target: Box<[u8]>,
    /// Host; empty where unknown.
    pub host: Box<[u8]>,
    /// The head was refused, and what stands in for it says nothing; else the body was.
    pub of_head: bool,
}

impl Refused {
    /// One of which nothing is known but why.
    pub fn bare(cause: Cause, of_head: bool) -> Refused {
        Refused { cause, method: "".into(), target: [].into(), host: [].into(), of_head }
    }
}

/// What a connection, or an HTTP/2 stream, waits for, and what its reader has to tell.
#[derive(Debug, Default)]
pub struct Watch {
    /// Since when it is without a request.
    idle: AtomicU64,
    /// Since when a head is awaited.
    head: AtomicU64,
    /// Since when the client takes nothing.
    stalled: AtomicU64,
    /// Since when a part of a body is awaited, how long was waited before, and how many bytes came.
    waiting: AtomicU64,
    waited: AtomicU64,
    received: AtomicU64,
    /// Which of the connection's bodies it is.
    body: AtomicU32,
    /// The look found it late.
    late: AtomicBool,
    /// The request ended: what is read next is another one's head.
    over: AtomicBool,
    /// The answer was 101: bytes have no meaning any more.
    tunnel: AtomicBool,
    /// Whoever serves it says goodbye when it is idle for too long.
    polite: AtomicBool,
    /// The whole answer went out.
    answered: AtomicBool,
    /// The client left before its answer.
    left: AtomicBool,
    /// A head was handed on that no stage has seen yet.
    handed: AtomicBool,
    refused: OnceLock<Box<Refused>>,
    /// Wakes whoever serves the connection, or the stream, once it is late.
    woken: Notify,
    done: Notify,
}

impl Watch {
    /// A request came.
    pub fn busy(&self) {
        self.idle.store(NOT, Ordering::Relaxed);
        self.handed.store(false, Ordering::Relaxed);
    }

    /// The request ended.
    pub fn ended(&self, now: Nanos) {
        self.idle.store(now.0.max(NOT + 1), Ordering::Relaxed);
        self.over.store(true, Ordering::Release);
    }

    /// Whether the request ended; once.
    pub fn take_over(&self) -> bool {
        self.over.load(Ordering::Acquire) && self.over.swap(false, Ordering::AcqRel)
    }

    /// A head is awaited, or the rest of one.
    pub fn awaits_head(&self, now: Nanos) {
        if self.head.load(Ordering::Relaxed) == NOT {
            self.head.store(now.0.max(NOT + 1), Ordering::Relaxed);
            self.idle.store(NOT, Ordering::Relaxed);
        }
    }

    /// The head is whole, and is handed on.
    pub fn has_head(&self) {
        if self.head.load(Ordering::Relaxed) != NOT {
            self.head.store(NOT, Ordering::Relaxed);
        }
        self.handed.store(true, Ordering::Relaxed);
    }

    /// Whether a head was handed on that no stage has seen.
    pub fn was_dropped(&self) -> bool {
        self.handed.load(Ordering::Relaxed)
    }

    /// A body begins.
    pub fn begins_body(&self) {
        self.waiting.store(NOT, Ordering::Relaxed);
        self.waited.store(0, Ordering::Relaxed);
        self.received.store(0, Ordering::Relaxed);
        self.body.fetch_add(1, Ordering::Relaxed);
    }

    /// A part of the body is awaited.
    pub fn awaits_body(&self, now: impl FnOnce() -> Nanos) {
        if self.waiting.load(Ordering::Relaxed) == NOT {
            self.waiting.store(now().0.max(NOT + 1), Ordering::Relaxed);
        }
    }

    /// A part of the body came.
    pub fn has_body(&self, bytes: usize, now: impl FnOnce() -> Nanos) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        let since = self.waiting.load(Ordering::Relaxed);
        if since != NOT {
            self.waited.fetch_add(now().0.saturating_sub(since), Ordering::Relaxed);
            self.waiting.store(NOT, Ordering::Relaxed);
        }
    }

    /// The whole answer went out, and perhaps before the whole request came in.
    pub fn has_answer(&self) {
        self.answered.store(true, Ordering::Release);
        self.done.notify_one();
    }

    /// Returns once the whole answer went out. For one waiter.
    pub async fn answered(&self) {
        while !self.answered.load(Ordering::Acquire) {
            self.done.notified().await;
        }
    }

    /// The client takes nothing now.
    pub fn stalls(&self, now: impl FnOnce() -> Nanos) {
        if self.stalled.load(Ordering::Relaxed) == NOT {
            self.stalled.store(now().0.max(NOT + 1), Ordering::Relaxed);
        }
    }

    /// Whether the client takes nothing now.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed) != NOT
    }

    /// The client took something.
    pub fn takes(&self) {
        if self.stalled.load(Ordering::Relaxed) != NOT {
            self.stalled.store(NOT, Ordering::Relaxed);
        }
    }

    /// The answer was 101.
    pub fn becomes_tunnel(&self) {
        self.tunnel.store(true, Ordering::Release);
    }

    /// Whether the answer was 101.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Acquire)
    }

    /// Whoever serves it listens to [`Watch::late`] and says goodbye itself.
    pub fn will_say_goodbye(&self) {
        self.polite.store(true, Ordering::Relaxed);
    }

    fn tells_goodbye(&self) -> bool {
        self.polite.load(Ordering::Relaxed)
    }

    /// It is not idle, whatever the look found.
    pub fn stays(&self) {
        self.idle.store(NOT, Ordering::Relaxed);
        self.late.store(false, Ordering::Release);
    }

    /// The client left before its answer.
    pub fn leaves(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether the client left before its answer.
    pub fn was_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Notes why the request is not handed on.
    pub fn refuse(&self, refused: Refused) {
        // Whatever is wrong afterwards, the first fault ended the connection.
        let _ = self.refused.set(Box::new(refused));
    }

    /// Why the request was not handed on.
    pub fn refused(&self) -> Option<Box<Refused>> {
        self.refused.get().cloned()
    }

    /// Whether the look found it late.
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::Acquire)
    }

    /// Returns once the look finds it late. For one waiter.
    pub async fn late(&self) {
        while !self.is_late() {
            self.woken.notified().await;
        }
    }

    fn wake_late(&self) {
        self.late.store(true, Ordering::Release);
        self.woken.notify_one();
    }

    fn is_over(since: &AtomicU64, now: Nanos, limit: Duration) -> bool {
        let since = since.load(Ordering::Relaxed);
        since != NOT && now.since(Nanos(since)) > limit
    }
}

/// How long clients of a listener may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a whole head.
    pub head: Duration,
    /// Without a request, or without taking anything.
    pub idle: Duration,
    /// Bytes a second of a body; 0: no limit.
    pub body_min_rate: u64,
}

/// What is followed.
#[derive(Debug)]
enum Followed {
    /// A connection, by its socket; of HTTP/2 where it is to be asked before it is closed.
    Connection(Weak<TcpStream>, Arc<Watch>, Pace),
    /// The body of an HTTP/2 stream.
    Stream(Weak<Watch>, Pace),
}

/// Follows the connections of a listener.
#[derive(Debug, Default)]
pub struct Sweeper([Mutex<Vec<Followed>>; SHARDS]);

impl Sweeper {
    /// Follows a new connection, which owes a head, until it is dropped.
    pub fn follow(&self, connection: &Arc<TcpStream>, watch: &Arc<Watch>) {
        watch.awaits_head(clock::now());
        let followed = Followed::Connection(Arc::downgrade(connection), watch.clone(), Pace::default());
        self.0[index()].lock().push(followed);
    }

    /// Follows the body of a stream until the stream is dropped.
    pub fn follow_stream(&self, watch: &Arc<Watch>) {
        self.0[index()].lock().push(Followed::Stream(Arc::downgrade(watch), Pace::default()));
    }

    /// Ends what takes longer than `patience` says, for ever.
    pub async fn run(self: Arc<Self>, patience: impl Fn() -> Patience) {
        loop {
            let patience = patience();
            tokio::time::sleep((patience.head.min(patience.idle) / 4).clamp(LOOK_MIN, LOOK_MAX)).await;
            self.sweep(clock::now(), patience);
        }
    }

    fn sweep(&self, now: Nanos, patience: Patience) {
        for followed in &self.0 {
            followed.lock().retain_mut(|followed| match followed {
                Followed::Connection(socket, watch, pace) => {
                    socket.upgrade().is_some_and(|socket| look(&socket, watch, pace, now, patience))
                }
                Followed::Stream(watch, pace) => watch.upgrade().is_some_and(|watch| {
                    let slow = pace.is_slow(&watch, now, patience.body_min_rate);
                    if slow {
                        watch.refuse(Refused::bare(Cause::BodyTooSlow, false));
                        watch.wake_late();
                    }
                    !slow
                }),
            });
        }
    }
}

/// Looks at a connection; whether it is to be looked at again.
fn look(socket: &TcpStream, watch: &Watch, pace: &mut Pace, now: Nanos, patience: Patience) -> bool {
    // An error of a shutdown means that the other end has closed the connection meanwhile.
    let shut = |how| drop(SockRef::from(socket).shutdown(how));
    if Watch::is_over(&watch.stalled, now, patience.idle) {
        shut(Shutdown::Both);
        return false;
    }
    if Watch::is_over(&watch.idle, now, patience.idle) {
        let asked = watch.is_late();
        watch.wake_late();
        if !watch.tells_goodbye() || asked && Watch::is_over(&watch.idle, now, patience.idle + GOODBYE) {
            shut(Shutdown::Both);
            return false;
        }
        return true;
    }
    if watch.is_late() {
        return true;
    }
    if Watch::is_over(&watch.head, now, patience.head) || pace.is_slow(watch, now, patience.body_min_rate) {
        watch.wake_late();
        shut(Shutdown::Read);
    }
    true
}

/// How fast a body came, at some moments of the last ten seconds of waiting.
#[derive(Debug, Default)]
struct Pace {
    body: u32,
    /// Nanoseconds waited, and bytes received until then.
    marks: VecDeque<(u64, u64)>,
}

impl Pace {
    fn is_slow(&mut self, watch: &Watch, now: Nanos, rate: u64) -> bool {
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
        // The last mark that lies at least ten seconds back is where they begin.
        while self.marks.get(1).is_some_and(|next| next.0 <= begin) {
            self.marks.pop_front();
        }
        // Only who waits now can be ended; whoever has just sent something gets another look.
        let full = since != NOT && waited >= nanoseconds(RATE_OVER);
        full && self.marks.front().is_some_and(|first| {
            let seconds = waited.saturating_sub(first.0) as f64 / 1e9;
            (received.saturating_sub(first.1) as f64) < rate as f64 * seconds
        })
    }
}
