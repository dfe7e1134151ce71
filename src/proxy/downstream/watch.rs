//! The waits of a connection, or of an HTTP/2 stream, and the facts that its reader passes to the stages.
//!
//! It notes since when the connection waits, and for what; one task ([`sweeper`]) looks at all connections of a
//! listener periodically. A request whose head arrives in one piece costs a few stores.
//!
//! It also carries the verdict of admission on the request ([`Verdict`]): the stages use that, instead of reading the
//! headers a second time in another way.

pub mod sweeper;
mod uploads;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use self::uploads::Uploads;
use super::frames::{Flow, Wrong};
use base::units::{Nanos, nanoseconds};
use http_guard::Verdict;
use http_guard::violation::Violation;

/// No wait.
const NOT: u64 = 0;
/// No request is under way, or one without a limit.
const NEVER: u64 = u64::MAX;

/// This many streams of a connection may starve for as long as `idle_timeout` allows: together they hold about a
/// mebibyte.
const STARVING_MAX: usize = 12;
/// A connection ends once the client has reset this many of its streams, if they are more than half of all: each has
/// cost a request (CVE-2023-44487).
const RESETS_MAX: u32 = 200;

/// Why a client's bytes were not handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They break a rule.
    Violation(Violation),
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body arrived too slowly.
    BodyTooSlow,
}

/// A refused request, as far as it was understood.
#[derive(Clone, Debug)]
pub struct RefusedRequest {
    /// Reason.
    pub cause: Cause,
    /// Method; empty where unknown.
    pub method: Box<str>,
    /// Target; empty where unknown.
    pub target: Box<[u8]>,
    /// Host; empty where unknown.
    pub host: Box<[u8]>,
    /// True if the head was refused, and a stand-in replaces it; false if the body was refused.
    pub of_head: bool,
}

impl RefusedRequest {
    /// A refused request of which only the cause is known.
    pub fn bare(cause: Cause, of_head: bool) -> RefusedRequest {
        RefusedRequest { cause, method: "".into(), target: [].into(), host: [].into(), of_head }
    }
}

/// Why a request was ended from outside, without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its body arrived too slowly, and its reader cannot be told.
    TooSlow = 1,
    /// `total` passed while its client took nothing.
    TimedOut = 2,
    /// Nothing moved for longer than all limits together allow: the last resort ended it.
    Stuck = 3,
}

/// The waits of a connection, or of an HTTP/2 stream, and facts from its reader.
#[derive(Debug)]
pub struct ClientWatch {
    /// Since when it has no request.
    idle: AtomicU64,
    /// Since when a head is awaited.
    head: AtomicU64,
    /// Since when the client takes nothing.
    stalled: AtomicU64,
    /// Since when a part of a body is awaited, the time waited before, and the bytes received.
    waiting: AtomicU64,
    waited: AtomicU64,
    received: AtomicU64,
    /// The number of the body on the connection.
    body: AtomicU32,
    /// A look found it late.
    late: AtomicBool,
    /// The request ended: the next bytes are another head.
    over: AtomicBool,
    /// The answer was 101: bytes pass without meaning here.
    tunnel: AtomicBool,
    /// The serving task ends an idle connection in order.
    polite: AtomicBool,
    /// The whole answer went out.
    answered: AtomicBool,
    /// A head was handed on that no stage has seen yet.
    handed: AtomicBool,
    refused: OnceLock<Box<RefusedRequest>>,
    /// The verdict of admission on the request.
    verdict: AtomicU8,
    /// The client waits for `100 Continue` before its body, and has not got it yet.
    owes_continue: AtomicBool,
    /// Grows whenever bytes of the request or its answer move, on either side.
    moved: AtomicU64,
    /// How long the request may stay without such a move, in nanoseconds; the listener's own limits are added.
    still_for: AtomicU64,
    /// Of an HTTP/2 stream: whether its body is awaited, and whether its client may send.
    upload: AtomicU8,
    /// Of an HTTP/2 connection: its streams whose bodies still arrive.
    uploads: Uploads,
    /// The number of an HTTP/2 connection's streams that never had a window, and since when too many starve.
    unfed: AtomicUsize,
    starving: AtomicU64,
    /// The count of opened windows at that time.
    opened: AtomicU32,
    /// The rule that the client of an HTTP/2 connection broke.
    wrong: OnceLock<Wrong>,
    broken: Notify,
    /// The task that serves it.
    task: OnceLock<AbortHandle>,
    cut: AtomicU8,
    /// Wakes a reader that reads nothing more before the request has ended, if the client leaves.
    parked: Mutex<Option<Waker>>,
    /// The client left.
    gone: AtomicBool,
    /// Wakes the task that serves the connection, or the stream, once it is late.
    woken: Notify,
    done: Notify,
}

impl Default for ClientWatch {
    fn default() -> ClientWatch {
        ClientWatch {
            idle: AtomicU64::new(NOT),
            head: AtomicU64::new(NOT),
            stalled: AtomicU64::new(NOT),
            waiting: AtomicU64::new(NOT),
            waited: AtomicU64::new(0),
            received: AtomicU64::new(0),
            body: AtomicU32::new(0),
            late: AtomicBool::new(false),
            over: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            polite: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            handed: AtomicBool::new(false),
            refused: OnceLock::new(),
            verdict: AtomicU8::new(0),
            owes_continue: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            still_for: AtomicU64::new(NEVER),
            upload: AtomicU8::new(0),
            uploads: Uploads::default(),
            unfed: AtomicUsize::new(0),
            starving: AtomicU64::new(NOT),
            opened: AtomicU32::new(0),
            wrong: OnceLock::new(),
            broken: Notify::new(),
            task: OnceLock::new(),
            cut: AtomicU8::new(0),
            parked: Mutex::new(None),
            gone: AtomicBool::new(false),
            woken: Notify::new(),
            done: Notify::new(),
        }
    }
}

/// Its waits, in nanoseconds of the clock; for the log.
impl fmt::Display for ClientWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = [("idle", &self.idle), ("head", &self.head), ("stalled", &self.stalled), ("body", &self.waiting)];
        for (what, since) in waits {
            write!(f, "{what} {}, ", since.load(Ordering::Relaxed))?;
        }
        write!(f, "tunnel {}, continue {}, {:?}", self.is_tunnel(), self.owes_continue(), self.verdict())
    }
}

impl ClientWatch {
    /// A request came.
    pub fn busy(&self) {
        self.idle.store(NOT, Ordering::Relaxed);
        self.handed.store(false, Ordering::Relaxed);
    }

    /// The request ended.
    pub fn ended(&self, now: Nanos) {
        self.still_for.store(NEVER, Ordering::Relaxed);
        self.owes_continue.store(false, Ordering::Relaxed);
        self.idle.store(now.0.max(NOT + 1), Ordering::Relaxed);
        self.over.store(true, Ordering::Release);
    }

    /// Whether the request ended; true only once.
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

    /// Whether no request is under way, and its task does not end it in order by itself.
    fn is_silent(&self) -> bool {
        let waits = |since: &AtomicU64| since.load(Ordering::Relaxed) != NOT;
        (waits(&self.idle) || waits(&self.head)) && !self.tells_goodbye()
    }

    /// The head is complete, and is handed on.
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

    /// Stores the verdict of admission on the request.
    pub fn admits(&self, verdict: Verdict) {
        self.verdict.store(verdict.bits(), Ordering::Relaxed);
    }

    /// The verdict of admission on the request.
    pub fn verdict(&self) -> Verdict {
        Verdict::of_bits(self.verdict.load(Ordering::Relaxed))
    }

    /// Bytes of the request or of its answer moved, between the gateway and either side.
    pub fn moves(&self) {
        // The task that serves the request is the only writer; a lost count would not matter.
        self.moved.store(self.moved.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Changes with every such move.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// The request may stay without a move for this long; `None`: without limit.
    pub fn may_be_still(&self, limit: Option<Duration>) {
        self.moves();
        self.still_for.store(limit.map_or(NEVER, nanoseconds), Ordering::Relaxed);
    }

    /// Notes the windows of an HTTP/2 connection's streams.
    pub fn flows(&self, flow: &Flow, now: impl Fn() -> Nanos) {
        self.uploads.flow(flow, &now);
        self.unfed.store(flow.unfed(), Ordering::Relaxed);
        let since = self.starving.load(Ordering::Relaxed);
        if flow.starving() <= STARVING_MAX {
            if since != NOT {
                self.starving.store(NOT, Ordering::Relaxed);
            }
        } else if since == NOT || self.opened.load(Ordering::Relaxed) != flow.opened() {
            self.opened.store(flow.opened(), Ordering::Relaxed);
            self.starving.store(now().0.max(NOT + 1), Ordering::Relaxed);
        }
        if flow.resets_most(RESETS_MAX) {
            self.breaks(Wrong::TooManyResets);
        }
    }

    /// How many of an HTTP/2 connection's streams never had a window.
    pub fn unfed(&self) -> usize {
        self.unfed.load(Ordering::Relaxed)
    }

    /// The client of an HTTP/2 connection broke a rule.
    pub fn breaks(&self, wrong: Wrong) {
        if self.wrong.set(wrong).is_ok() {
            self.broken.notify_one();
        }
    }

    /// Returns once the client has broken a rule. For one waiter.
    pub async fn broken(&self) -> Wrong {
        loop {
            if let Some(wrong) = self.wrong.get() {
                return *wrong;
            }
            self.broken.notified().await;
        }
    }

    /// Sets the task that serves it.
    pub fn runs_in(&self, task: AbortHandle) {
        if self.task.set(task).is_ok() && self.was_cut().is_some() {
            self.abort();
        }
    }

    /// Ends the request by ending its task; everything that it holds is given back by dropping.
    pub fn cut(&self, why: Cut) {
        let _ = self.cut.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Relaxed);
        self.abort();
    }

    fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Why the request was ended from outside.
    pub fn was_cut(&self) -> Option<Cut> {
        [Cut::TooSlow, Cut::TimedOut, Cut::Stuck].into_iter().find(|cut| *cut as u8 == self.cut.load(Ordering::Acquire))
    }

    /// The reader reads nothing more before the request has ended, so it cannot see the client leave. True if it left.
    pub fn parks(&self, cx: &Context<'_>) -> bool {
        *self.parked.lock() = Some(cx.waker().clone());
        // After the waker is stored: a look that comes now wakes it.
        self.gone.load(Ordering::Acquire)
    }

    /// The reader reads again.
    pub fn unparks(&self) {
        *self.parked.lock() = None;
        self.gone.store(false, Ordering::Relaxed);
    }

    fn is_parked(&self) -> bool {
        self.parked.lock().is_some()
    }

    /// The client of a parked reader has left.
    fn leaves(&self) {
        self.gone.store(true, Ordering::Release);
        if let Some(reader) = self.parked.lock().take() {
            reader.wake();
        }
    }

    /// A body begins.
    pub fn begins_body(&self) {
        self.owes_continue.store(self.verdict().expects_continue, Ordering::Relaxed);
        self.waiting.store(NOT, Ordering::Relaxed);
        self.waited.store(0, Ordering::Relaxed);
        self.received.store(0, Ordering::Relaxed);
        self.body.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the client waits for `100 Continue`, and has not got it yet.
    pub fn owes_continue(&self) -> bool {
        self.owes_continue.load(Ordering::Relaxed)
    }

    /// The client gets `100 Continue`.
    pub fn continues(&self, now: impl FnOnce() -> Nanos) {
        if self.owes_continue.swap(false, Ordering::Relaxed) {
            self.awaits_body(now);
        }
    }

    /// A part of the body is awaited. A client that waits for `100 Continue`, or may not send, is not late.
    pub fn awaits_body(&self, now: impl FnOnce() -> Nanos) {
        let may_send = self.upload.load(Ordering::SeqCst) & uploads::SHUT == 0;
        if self.waiting.load(Ordering::Relaxed) == NOT && may_send && !self.owes_continue() {
            self.waiting.store(now().0.max(NOT + 1), Ordering::Relaxed);
        }
    }

    /// A part of the body arrived.
    pub fn has_body(&self, bytes: usize, now: impl FnOnce() -> Nanos) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.owes_continue.store(false, Ordering::Relaxed);
        self.pauses(now);
    }

    /// The body is not awaited now.
    fn pauses(&self, now: impl FnOnce() -> Nanos) {
        let since = self.waiting.load(Ordering::Relaxed);
        if since != NOT {
            self.waited.fetch_add(now().0.saturating_sub(since), Ordering::Relaxed);
            self.waiting.store(NOT, Ordering::Relaxed);
        }
    }

    /// The server sent the whole answer.
    pub fn has_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// A part of the body is handed on. If the answer is complete, it was written before: the client goes on sending
    /// although it has the answer.
    pub fn sends_on(&self) {
        if self.answered.load(Ordering::Relaxed) {
            self.done.notify_one();
        }
    }

    /// Returns once the client sends on although it has the whole answer. For one waiter.
    pub async fn sent_on(&self) {
        self.done.notified().await;
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

    /// The serving task waits for [`ClientWatch::late`] and ends the connection in order.
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

    /// Stores why the request is not handed on.
    pub fn refuse(&self, refused: RefusedRequest) {
        // The first fault ended the connection, whatever follows.
        let _ = self.refused.set(Box::new(refused));
    }

    /// Why the request was not handed on.
    pub fn refused(&self) -> Option<&RefusedRequest> {
        self.refused.get().map(|refused| &**refused)
    }

    /// Whether a look found it late.
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::Acquire)
    }

    /// Returns once a look finds it late. For one waiter.
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
