//! The time limits of a connection to a server: what is awaited, since when, and for which client.
//!
//! The stream that reads and writes the connection ([`super::super::connector`]) notes its waits here; the sweep checks
//! them. This side's wait decides which limit counts: for a blocked write `write`, for a read of what the server owes
//! its silence, and for a tunnel the silence of both sides.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::protocols::Digest;
use pingora::protocols::raw_connect::ProxyDigest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};

use super::{AttemptLimits, FIRED, LINKS, NEVER, nanos, notice};
use crate::proxy::downstream::watch::{ClientWatch, Cut};
use base::shard::index;
use base::units::{Nanos, nanoseconds};

/// Extra time after an attempt was ended: a task that has not released the socket by then waits for something else.
const OVERSTAY: Duration = Duration::from_secs(1);
/// How long a connection is left alone after an answer that has no body by rule.
const REST: Duration = Duration::from_millis(5);
/// Bytes that are read ahead of an HTTP/2 client: the first value at first, twice as many each time it has taken them,
/// and at most the second. A client that takes nothing costs little.
const AHEAD_MIN: u32 = 4 << 10;
const AHEAD_MAX: u32 = 64 << 10;

/// The limits of a connection to a server.
#[derive(Debug)]
pub struct Link {
    /// `None` once the connection closes.
    socket: Mutex<Option<RawFd>>,
    /// How many attempts began on it.
    attempts: AtomicU32,
    /// When to look whether the attempt is late, in nanoseconds of [`clock::now`]; or [`NEVER`] or [`FIRED`].
    until: AtomicU64,
    /// How long the server may be silent, in nanoseconds.
    silence: AtomicU64,
    /// How long a write may be blocked, in nanoseconds.
    write: AtomicU64,
    /// How long all attempts together may take, in nanoseconds.
    total: AtomicU64,
    /// When all must be over.
    end: AtomicU64,
    /// When the attempt was ended.
    fired_at: AtomicU64,
    /// This side waits for a read.
    reading: AtomicBool,
    /// This side waits for a write.
    writing: AtomicBool,
    /// A part of the request is still to come from the client.
    uploading: AtomicBool,
    /// The answer was 101: both sides talk, or neither does.
    tunnel: AtomicBool,
    /// The answer is complete, so the limits are lifted.
    done: AtomicBool,
    /// It has served a request before.
    used: AtomicBool,
    /// Flushes until the answer may be read; see [`Link::holds_answer`].
    held: AtomicU8,
    /// The reader that waits until the answer may be read.
    waiter: Mutex<Option<Waker>>,
    /// The client that gets the answer.
    client: Mutex<Option<Arc<ClientWatch>>>,
    /// That client's count of moves at the last look at a tunnel.
    client_moved: AtomicU64,
    /// How many bytes may be read ahead of an HTTP/2 client, and how many were; 0: they are not counted.
    ahead_max: AtomicU32,
    ahead: AtomicU32,
    /// Its answer has no body by rule, whatever its server sends after it.
    bodiless: AtomicBool,
    /// When it may be used again, in nanoseconds of [`base::clock::now`]; 0: at once.
    ready: AtomicU64,
    /// How long the server keeps it open without a request, in nanoseconds, if the server said so.
    kept: AtomicU64,
}

impl Link {
    /// The limits of a new connection; `socket` is open until [`Link::close`].
    pub fn new(socket: RawFd) -> Arc<Link> {
        let link = Arc::new(Link {
            socket: Mutex::new(Some(socket)),
            attempts: AtomicU32::new(0),
            until: AtomicU64::new(NEVER),
            silence: AtomicU64::new(NEVER),
            write: AtomicU64::new(NEVER),
            total: AtomicU64::new(NEVER),
            end: AtomicU64::new(NEVER),
            fired_at: AtomicU64::new(NEVER),
            reading: AtomicBool::new(true),
            writing: AtomicBool::new(false),
            uploading: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            done: AtomicBool::new(false),
            used: AtomicBool::new(false),
            held: AtomicU8::new(0),
            waiter: Mutex::new(None),
            client: Mutex::new(None),
            client_moved: AtomicU64::new(0),
            ahead_max: AtomicU32::new(0),
            ahead: AtomicU32::new(0),
            bodiless: AtomicBool::new(false),
            ready: AtomicU64::new(0),
            kept: AtomicU64::new(NEVER),
        });
        LINKS[index()].lock().push(link.clone());
        link
    }

    /// The link that a session's digest carries.
    pub fn of(digest: Option<&Digest>) -> Option<&Arc<Link>> {
        Link::carried_by(digest?.proxy_digest.as_ref()?)
    }

    /// The link that a stream's digest carries.
    pub fn carried_by(digest: &ProxyDigest) -> Option<&Arc<Link>> {
        digest.user_data.as_ref()?.downcast_ref()
    }

    /// Whether its server has closed it, or sent something that nobody has read.
    pub fn is_loud(&self) -> bool {
        let socket = self.socket.lock();
        #[allow(unsafe_code)]
        // SAFETY: as in `look`.
        socket.is_none_or(|number| is_readable(unsafe { BorrowedFd::borrow_raw(number) }))
    }

    /// Its socket is about to be closed.
    pub fn close(&self) {
        *self.socket.lock() = None;
    }

    /// Begins an attempt at `now`; returns its number.
    pub(super) fn begin(&self, now: Nanos, limits: AttemptLimits) -> u32 {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let (silence, total, write) = (nanos(limits.silence), nanos(limits.total), nanos(limits.write));
        let end = limits.began.0.saturating_add(total);
        self.silence.store(silence, Ordering::Relaxed);
        self.write.store(write, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.uploading.store(limits.uploading, Ordering::Relaxed);
        self.reading.store(true, Ordering::Relaxed);
        self.writing.store(false, Ordering::Relaxed);
        self.done.store(false, Ordering::Relaxed);
        self.bodiless.store(false, Ordering::Relaxed);
        self.until.store(now.0.saturating_add(silence).min(end), Ordering::Release);
        notice(silence.min(total).min(write));
        attempt
    }

    /// Whether no other attempt has begun since this one.
    pub(super) fn is_at(&self, attempt: u32) -> bool {
        self.attempts.load(Ordering::Relaxed) == attempt
    }

    /// The server may be silent for `silence` from `now` on; false if it was too late.
    pub(super) fn renew(&self, now: Nanos, silence: u64) -> bool {
        if self.silence.load(Ordering::Relaxed) != silence {
            self.silence.store(silence, Ordering::Relaxed);
            notice(silence);
        }
        self.change(now.0.saturating_add(silence).min(self.end.load(Ordering::Relaxed)))
    }

    /// The whole request was sent, or the server must send something before the rest follows.
    pub(super) fn uploads(&self, uploading: bool, now: impl FnOnce() -> Nanos) {
        if self.uploading.load(Ordering::Relaxed) == uploading {
            return;
        }
        self.uploading.store(uploading, Ordering::Relaxed);
        // A limit that has fired shows when the answer is read.
        self.stir(now());
    }

    /// From now on bytes from either side postpone the end, and no other limit applies.
    pub(super) fn becomes_tunnel(&self) {
        self.total.store(NEVER, Ordering::Relaxed);
        self.end.store(NEVER, Ordering::Relaxed);
        self.uploading.store(false, Ordering::Relaxed);
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// The server closes it after this time without a request.
    pub(super) fn kept_for(&self, timeout: Duration) {
        self.kept.store(nanoseconds(timeout), Ordering::Relaxed);
    }

    /// Its answer has no body by rule (RFC 9112, section 6.3).
    pub(super) fn has_no_body(&self) {
        self.bodiless.store(true, Ordering::Relaxed);
    }

    /// It is kept for the next request. Faulty servers send a body nevertheless, a moment later: it rests until then.
    pub fn rests(&self, now: impl FnOnce() -> Nanos) {
        let ready = if self.bodiless.load(Ordering::Relaxed) { now().0.saturating_add(nanoseconds(REST)) } else { 0 };
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether it has rested.
    pub fn is_ready(&self, now: impl FnOnce() -> Nanos) -> bool {
        let ready = self.ready.load(Ordering::Relaxed);
        ready == 0 || ready <= now().0
    }

    /// Lifts the limits; false if they ended the attempt before.
    pub(super) fn lift(&self) -> bool {
        self.change(NEVER)
    }

    /// The answer is complete.
    pub(super) fn is_complete(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// Whether it has limits now.
    pub(super) fn is_limited(&self) -> bool {
        self.until.load(Ordering::Relaxed) != NEVER
    }

    /// Whether the attempt was ended.
    pub fn fired(&self) -> bool {
        self.until.load(Ordering::Acquire) == FIRED
    }

    /// Notes whether this side waits for a read. The server's silence begins with the wait; at the first wait of an
    /// attempt, it began with the attempt.
    pub fn reads(&self, waits: bool, now: impl FnOnce() -> Nanos) {
        if self.reading.load(Ordering::Relaxed) == waits {
            return;
        }
        self.reading.store(waits, Ordering::Relaxed);
        if waits && self.silence.load(Ordering::Relaxed) != NEVER {
            self.stir(now());
        }
    }

    /// Notes whether this side waits for a write. The end of a wait is a sign of life.
    pub fn writes(&self, waits: bool, now: impl FnOnce() -> Nanos) {
        if self.writing.load(Ordering::Relaxed) == waits {
            return;
        }
        self.writing.store(waits, Ordering::Relaxed);
        if self.silence.load(Ordering::Relaxed).min(self.write.load(Ordering::Relaxed)) != NEVER {
            self.stir(now());
        }
    }

    /// Restarts the limit that counts now; after a whole answer none does, whatever is still sent.
    fn stir(&self, now: Nanos) {
        if self.is_done() {
            return;
        }
        self.change(now.0.saturating_add(self.limit()).min(self.end.load(Ordering::Relaxed)));
    }

    fn limit(&self) -> u64 {
        let (write, silence) = (self.write.load(Ordering::Relaxed), self.silence.load(Ordering::Relaxed));
        match (self.writing.load(Ordering::Relaxed), self.tunnel.load(Ordering::Relaxed)) {
            (true, false) => write,
            // A server that takes nothing from a tunnel, and has no `write`, is silent nevertheless.
            (true, true) => write.min(silence),
            (false, _) => silence,
        }
    }

    /// Whether the server must send something.
    fn is_owed(&self) -> bool {
        let says = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        says(&self.reading) && !says(&self.uploading)
    }

    /// Whether its answer is complete.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// It serves another request.
    pub fn take_again(&self) {
        self.done.store(false, Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
    }

    /// How long it may stay unused, if the server said how long it keeps it open.
    pub fn keep(&self) -> Option<Duration> {
        let kept = self.kept.load(Ordering::Relaxed);
        (kept != NEVER).then_some(Duration::from_nanos(kept))
    }

    /// Holds the answer to an upgrade back until Pingora has written the end of the request, which follows the head in
    /// a flush of its own: after a 101, Pingora would take that end for the tunnel's.
    pub fn holds_answer(&self) {
        self.held.store(2, Ordering::Relaxed);
    }

    /// Something was flushed to the server.
    pub fn flushed(&self) {
        let held = self.held.load(Ordering::Relaxed);
        if held > 0 {
            self.held.store(held - 1, Ordering::Relaxed);
            if held == 1 {
                self.wake();
            }
        }
    }

    /// Whether the answer is held back. The caller is woken when it no longer is, or when the attempt is ended.
    pub fn is_held(&self, cx: &mut Context<'_>) -> bool {
        if self.held.load(Ordering::Relaxed) == 0 {
            return false;
        }
        *self.waiter.lock() = Some(cx.waker().clone());
        // After the waker is stored: an end that comes now wakes it.
        !self.fired()
    }

    fn wake(&self) {
        if let Some(waiter) = self.waiter.lock().take() {
            waiter.wake();
        }
    }

    /// From now on its answers go to this client; to one of its HTTP/2 streams if `stream` is true.
    pub fn serves(&self, client: &Arc<ClientWatch>, stream: bool) {
        *self.client.lock() = Some(client.clone());
        self.ahead.store(0, Ordering::Relaxed);
        self.ahead_max.store(if stream { AHEAD_MIN } else { 0 }, Ordering::Relaxed);
    }

    /// The attempt is over: a later end does not concern the client.
    pub(super) fn lets_go(&self) {
        *self.client.lock() = None;
    }

    /// Whether to read only what keeps the answer going, because the client takes nothing or has not taken yet what was
    /// read.
    pub fn is_ahead(&self) -> bool {
        match self.ahead_max.load(Ordering::Relaxed) {
            0 => self.client.lock().as_ref().is_some_and(|client| client.is_stalled()),
            max => self.ahead.load(Ordering::Relaxed) >= max,
        }
    }

    /// Notes that this many bytes went to the server, or came from it.
    pub fn moved(&self, bytes: usize) {
        if let Some(client) = &*self.client.lock() {
            client.moves();
        }
        if self.ahead_max.load(Ordering::Relaxed) > 0 {
            self.ahead.store(self.ahead.load(Ordering::Relaxed).saturating_add(bytes as u32), Ordering::Relaxed);
        }
    }

    /// All that was read before went on to the client.
    pub fn went_on(&self) {
        let max = self.ahead_max.load(Ordering::Relaxed);
        if max > 0 {
            self.ahead.store(0, Ordering::Relaxed);
            self.ahead_max.store((max * 2).min(AHEAD_MAX), Ordering::Relaxed);
        }
    }

    /// Whether it has served a request before.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Sets the time of the next look, unless the socket was shut down.
    fn change(&self, until: u64) -> bool {
        let change = |now: u64| (now != FIRED).then_some(until);
        let changed = self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok();
        if !changed {
            // The sweep holds this lock until the socket is shut down.
            drop(self.socket.lock());
        }
        changed
    }

    /// Ends the attempt if it is late at `now`.
    pub(super) fn look(&self, now: u64) {
        let until = self.until.load(Ordering::Acquire);
        if until != NEVER {
            let limits = [&self.silence, &self.total, &self.write].map(|limit| limit.load(Ordering::Relaxed));
            notice(limits.into_iter().min().unwrap_or(NEVER));
        }
        if until == FIRED {
            return self.overstay(now);
        }
        if until != NEVER && self.tunnel.load(Ordering::Relaxed) && self.was_spoken_in() {
            return self.stir(Nanos(now));
        }
        if until > now {
            return;
        }
        let socket = self.socket.lock();
        let Some(number) = *socket else { return };
        #[allow(unsafe_code)]
        // SAFETY: `close` takes the number out, under the lock held here, before the socket is closed.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        if self.end.load(Ordering::Relaxed) > now && self.may_go_on(fd) {
            let later = now.saturating_add(self.limit()).min(self.end.load(Ordering::Relaxed));
            // A concurrent change is more recent.
            let _ = self.until.compare_exchange(until, later, Ordering::AcqRel, Ordering::Acquire);
        } else if self.until.compare_exchange(until, FIRED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.fired_at.store(now, Ordering::Relaxed);
            // An error means that the server has closed it meanwhile.
            let _ = shutdown(fd, Shutdown::Both);
            drop(socket);
            self.wake();
        }
    }

    /// Whether a side of the tunnel has sent anything since the last look.
    fn was_spoken_in(&self) -> bool {
        let moved = self.client.lock().as_ref().map_or(0, |client| client.moved());
        self.client_moved.swap(moved, Ordering::Relaxed) != moved
    }

    /// Whether neither side is late although the time is over.
    fn may_go_on(&self, socket: BorrowedFd<'_>) -> bool {
        if self.tunnel.load(Ordering::Relaxed) {
            return false;
        }
        if self.writing.load(Ordering::Relaxed) {
            // The server answered without reading on. The write then fails, and the answer is read.
            return is_readable(socket) && shutdown(socket, Shutdown::Write).is_ok();
        }
        !self.is_owed() || is_readable(socket)
    }

    /// The attempt was ended, but its task has not noticed: it waits for the client, to which `total` applies as well.
    fn overstay(&self, now: u64) {
        let fired_at = self.fired_at.load(Ordering::Relaxed);
        if now.saturating_sub(fired_at) < nanoseconds(OVERSTAY) || self.socket.lock().is_none() {
            return;
        }
        if let Some(client) = self.client.lock().take() {
            client.cut(Cut::TimedOut);
        }
    }
}

fn is_readable(socket: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
