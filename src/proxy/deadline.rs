//! Time limits of attempts, kept by one task that shuts a late attempt's socket down.
//!
//! Pingora knows one read timeout, for head and body alike, and arms a timer for each read. Here an attempt writes down
//! until when it may be silent, and when it must be over; one task looks at all connections to servers now and then.
//! An attempt costs a few stores, whatever limits it has, and a limit fires at most a sixteenth of its length (or a
//! millisecond) late.
//!
//! A silence counts only while the server owes us something: the whole request was sent, our side waits for a read and
//! not for a write, and nothing waits to be read. A slow client, which keeps us from reading or from sending, is not its
//! server's fault. The stream ([`super::dial`]) tells what our side waits for. The end of `total` asks nothing.
//!
//! A socket is shut down only while it is ours: its number is taken back before the connection closes, under the lock
//! that the shutdown holds. Lifting a limit that has fired waits for that shutdown, so it cannot hit a request that
//! gets the connection next.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pingora::protocols::Digest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};
use tokio::sync::Notify;

use super::watch::Watch;
use crate::clock;
use crate::telemetry::shard::{SHARDS, index};
use crate::units::Nanos;

/// [`Link::until`] of a connection without a limit, and of one that was shut down.
const NEVER: u64 = u64::MAX;
const FIRED: u64 = 0;

/// The time between two looks is this part of the shortest limit seen.
const LOOKS: u64 = 16;
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(500);

/// All connections to servers, by the thread that made them.
static LINKS: [Mutex<Vec<Arc<Link>>>; SHARDS] = [const { Mutex::new(Vec::new()) }; SHARDS];
/// The shortest limit set since the last look, in nanoseconds.
static SHORTEST: AtomicU64 = AtomicU64::new(NEVER);
static SHORTER: Notify = Notify::const_new();

/// A connection to a server, as far as limits go.
#[derive(Debug)]
pub struct Link {
    /// `None` once the connection closes.
    socket: Mutex<Option<RawFd>>,
    /// When to look whether the attempt is late; [`NEVER`] and [`FIRED`] apart, nanoseconds of [`clock::now`].
    until: AtomicU64,
    /// How long the server may be silent, in nanoseconds.
    silence: AtomicU64,
    /// How long all attempts together may take, in nanoseconds.
    total: AtomicU64,
    /// When all must be over.
    end: AtomicU64,
    /// Our side waits for a read.
    reading: AtomicBool,
    /// Our side waits for a write.
    writing: AtomicBool,
    /// A part of the request is still to come from the client.
    uploading: AtomicBool,
    /// The answer is complete, so the limits are lifted.
    done: AtomicBool,
    /// It has served a request before.
    used: AtomicBool,
    /// Flushes until the answer may be read; see [`Link::holds_answer`].
    held: AtomicU8,
    /// Whom the answer goes to.
    client: Mutex<Option<Arc<Watch>>>,
    /// How long the server keeps it open without a request, in nanoseconds, where it said so.
    kept: AtomicU64,
}

/// How long an attempt may take; `None` for ever.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the server may be silent.
    pub silence: Option<Duration>,
    /// Whether a part of the request is still to come from the client.
    pub uploading: bool,
    /// How long all attempts together may take.
    pub total: Option<Duration>,
    /// When they began.
    pub began: Nanos,
}

/// The limits of an attempt; they are lifted when dropped.
#[derive(Debug)]
pub struct Deadline(Arc<Link>);

impl Deadline {
    /// Limits an attempt on a connection: the server may be silent for `silence` from `now` on, and all is over when
    /// `total` has passed since `began`.
    pub fn set(link: &Arc<Link>, now: Nanos, limits: Limits) -> Deadline {
        let (silence, total) = (nanos(limits.silence), nanos(limits.total));
        let end = limits.began.0.saturating_add(total);
        link.silence.store(silence, Ordering::Relaxed);
        link.total.store(total, Ordering::Relaxed);
        link.end.store(end, Ordering::Relaxed);
        link.uploading.store(limits.uploading, Ordering::Relaxed);
        link.reading.store(true, Ordering::Relaxed);
        link.writing.store(false, Ordering::Relaxed);
        link.done.store(false, Ordering::Relaxed);
        link.until.store(now.0.saturating_add(silence).min(end), Ordering::Release);
        notice(silence.min(total));
        Deadline(link.clone())
    }

    /// The whole request came from the client: from `now` on the server owes an answer.
    pub fn request_sent(&self, now: impl FnOnce() -> Nanos) {
        if !self.0.uploading.load(Ordering::Relaxed) {
            return;
        }
        self.0.uploading.store(false, Ordering::Relaxed);
        // A limit that has fired shows where the answer is read.
        self.0.stir(now());
    }

    /// The server said something: from `now` on it may be silent for that long again. False when it was too late.
    pub fn renew(&self, now: Nanos, silence: Option<Duration>) -> bool {
        let silence = nanos(silence);
        if self.0.silence.load(Ordering::Relaxed) != silence {
            self.0.silence.store(silence, Ordering::Relaxed);
            notice(silence);
        }
        self.0.change(now.0.saturating_add(silence).min(self.0.end.load(Ordering::Relaxed)))
    }

    /// The server closes the connection when it stays unused for that long.
    pub fn kept_for(&self, timeout: Duration) {
        self.0.kept.store(timeout.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Nothing may end the attempt from now on, but for the server's silence.
    pub fn forget_end(&self) {
        self.0.total.store(NEVER, Ordering::Relaxed);
        self.0.end.store(NEVER, Ordering::Relaxed);
    }

    /// Whether it has ended the attempt.
    pub fn fired(&self) -> bool {
        self.0.until.load(Ordering::Acquire) == FIRED
    }

    /// The answer is complete: lifts the limits; false when they have ended the attempt before.
    pub fn lift(self) -> bool {
        let lifted = self.0.change(NEVER);
        self.0.done.store(lifted, Ordering::Relaxed);
        lifted
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if self.0.until.load(Ordering::Relaxed) != NEVER {
            self.0.change(NEVER);
        }
    }
}

impl Link {
    /// The limits of a new connection; `socket` is open until [`Link::close`].
    pub fn new(socket: RawFd) -> Arc<Link> {
        let link = Arc::new(Link {
            socket: Mutex::new(Some(socket)),
            until: AtomicU64::new(NEVER),
            silence: AtomicU64::new(NEVER),
            total: AtomicU64::new(NEVER),
            end: AtomicU64::new(NEVER),
            reading: AtomicBool::new(true),
            writing: AtomicBool::new(false),
            uploading: AtomicBool::new(false),
            done: AtomicBool::new(false),
            held: AtomicU8::new(0),
            client: Mutex::new(None),
            used: AtomicBool::new(false),
            kept: AtomicU64::new(NEVER),
        });
        LINKS[index()].lock().push(link.clone());
        link
    }

    /// The connection that a session's digest tells of.
    pub fn of(digest: Option<&Digest>) -> Option<&Arc<Link>> {
        digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
    }

    /// Its socket is about to be closed.
    pub fn close(&self) {
        *self.socket.lock() = None;
    }

    /// Whether our side waits for a read now. The server's silence begins when it does, but for the first time of an
    /// attempt, when it began with the attempt.
    pub fn reads(&self, waits: bool) {
        if self.reading.load(Ordering::Relaxed) == waits {
            return;
        }
        self.reading.store(waits, Ordering::Relaxed);
        if waits && self.silence.load(Ordering::Relaxed) != NEVER {
            self.stir(clock::now());
        }
    }

    /// Whether our side waits for a write now. That it waits no longer is a sign of life.
    pub fn writes(&self, waits: bool) {
        if self.writing.load(Ordering::Relaxed) == waits {
            return;
        }
        self.writing.store(waits, Ordering::Relaxed);
        if self.silence.load(Ordering::Relaxed) != NEVER {
            self.stir(clock::now());
        }
    }

    /// The silence begins anew.
    fn stir(&self, now: Nanos) {
        let silence = self.silence.load(Ordering::Relaxed);
        self.change(now.0.saturating_add(silence).min(self.end.load(Ordering::Relaxed)));
    }

    /// Whether the server owes us a word.
    fn is_owed(&self) -> bool {
        let says = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        says(&self.reading) && !says(&self.writing) && !says(&self.uploading)
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

    /// How long it may stay unused, where the server said how long it keeps it open.
    pub fn keep(&self) -> Option<Duration> {
        let kept = self.kept.load(Ordering::Relaxed);
        (kept != NEVER).then_some(Duration::from_nanos(kept))
    }

    /// Holds the answer to an upgrade back until Pingora has written the end of the request, which follows the head in a
    /// flush of its own: an end that it sees after a 101 it takes for the tunnel's.
    pub fn holds_answer(&self) {
        self.held.store(2, Ordering::Relaxed);
    }

    /// Something was flushed to the server.
    pub fn flushed(&self) {
        let held = self.held.load(Ordering::Relaxed);
        if held > 0 {
            self.held.store(held - 1, Ordering::Relaxed);
        }
    }

    /// Whether the answer is held back.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    /// From now on its answers go to this client.
    pub fn serves(&self, client: &Arc<Watch>) {
        *self.client.lock() = Some(client.clone());
    }

    /// Whether the client takes nothing now.
    pub fn client_stalls(&self) -> bool {
        self.client.lock().as_ref().is_some_and(|client| client.is_stalled())
    }

    /// Whether it has served a request before.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Says when to look next, unless the socket was shut down.
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
    fn look(&self, now: u64) {
        let until = self.until.load(Ordering::Acquire);
        if until != NEVER {
            notice(self.silence.load(Ordering::Relaxed).min(self.total.load(Ordering::Relaxed)));
        }
        if until > now || until == FIRED {
            return;
        }
        let socket = self.socket.lock();
        let Some(socket) = *socket else { return };
        #[allow(unsafe_code)]
        // SAFETY: `close` takes the number out, under the lock held here, before the socket is closed.
        let socket = unsafe { BorrowedFd::borrow_raw(socket) };
        let end = self.end.load(Ordering::Relaxed);
        if end > now && (!self.is_owed() || is_readable(socket)) {
            let later = now.saturating_add(self.silence.load(Ordering::Relaxed)).min(end);
            // Whoever changed it meanwhile knows better.
            let _ = self.until.compare_exchange(until, later, Ordering::AcqRel, Ordering::Acquire);
        } else if self.until.compare_exchange(until, FIRED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            // An error means that the other end has closed it meanwhile.
            let _ = shutdown(socket, Shutdown::Both);
        }
    }
}

fn nanos(limit: Option<Duration>) -> u64 {
    limit.map_or(NEVER, |limit| limit.as_nanos() as u64)
}

/// Has the next look come in time for a limit of this length.
fn notice(limit: u64) {
    if limit < SHORTEST.load(Ordering::Relaxed) && SHORTEST.fetch_min(limit, Ordering::Relaxed) > limit {
        SHORTER.notify_one();
    }
}

fn is_readable(socket: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Looks at all connections, for ever.
pub async fn sweep() {
    loop {
        let look = Duration::from_nanos(SHORTEST.load(Ordering::Relaxed) / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            () = SHORTER.notified() => continue,
        }
        SHORTEST.store(NEVER, Ordering::Relaxed);
        let now = clock::now().0;
        for links in &LINKS {
            links.lock().retain(|link| {
                link.look(now);
                // Only this list knows a closed one.
                Arc::strong_count(link) > 1
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    /// An attempt at a server, whose side is the second one, with limits in nanoseconds that count from 1,000.
    fn attempt(silence: u64, total: Option<u64>) -> (TcpStream, TcpStream, Arc<Link>, Deadline) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let link = Link::new(ours.as_raw_fd());
        let limits = Limits {
            silence: Some(Duration::from_nanos(silence)),
            total: total.map(Duration::from_nanos),
            uploading: false,
            began: Nanos(1_000),
        };
        let deadline = Deadline::set(&link, Nanos(1_000), limits);
        (ours, server, link, deadline)
    }

    #[test]
    fn a_silent_server_ends_the_attempt_and_a_word_puts_it_off() {
        let (mut ours, _server, link, deadline) = attempt(100, None);
        link.look(1_099);
        assert!(!deadline.fired());
        assert!(deadline.renew(Nanos(1_090), Some(Duration::from_nanos(200))));
        link.look(1_289);
        assert!(!deadline.fired());
        link.look(1_290);
        assert!(deadline.fired());
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the socket is shut down");
        assert!(!deadline.renew(Nanos(1_300), None) && !deadline.lift());
    }

    #[test]
    fn an_answer_that_waits_to_be_read_is_no_silence_but_the_end_is_the_end() {
        let (mut ours, mut server, link, deadline) = attempt(100, Some(250));
        server.write_all(b"x").unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        ours.peek(&mut [0]).unwrap();
        link.look(1_100);
        assert!(!deadline.fired());
        link.look(1_200);
        assert!(!deadline.fired());
        link.look(1_250);
        assert!(deadline.fired());
        assert_eq!((ours.read(&mut [0; 2]).unwrap(), ours.read(&mut [0]).unwrap()), (1, 0));
    }

    #[test]
    fn what_the_server_does_not_owe_is_no_silence() {
        let (_ours, _server, link, deadline) = attempt(100, None);
        link.reads(false);
        link.look(1_100);
        link.look(1_200);
        assert!(!deadline.fired(), "nobody waits for a read");
        link.reading.store(true, Ordering::Relaxed);
        link.writing.store(true, Ordering::Relaxed);
        link.look(1_300);
        assert!(!deadline.fired(), "the request is not taken yet");
        link.writing.store(false, Ordering::Relaxed);
        link.uploading.store(true, Ordering::Relaxed);
        link.look(1_400);
        assert!(!deadline.fired(), "the request is not there yet");
        deadline.request_sent(|| Nanos(1_450));
        link.look(1_549);
        assert!(!deadline.fired());
        link.look(1_550);
        assert!(deadline.fired());
    }

    #[test]
    fn lifted_limits_and_closed_sockets_are_left_alone() {
        let (ours, _server, link, deadline) = attempt(100, Some(200));
        assert!(deadline.lift());
        link.look(u64::MAX - 1);
        ours.set_nonblocking(true).unwrap();
        assert_eq!((&ours).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

        let (other, _server, link, deadline) = attempt(100, None);
        link.close();
        link.look(1_100);
        assert!(!deadline.fired());
        other.set_nonblocking(true).unwrap();
        assert_eq!((&other).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn after_an_upgrade_only_silence_counts() {
        let (_ours, _server, link, deadline) = attempt(100, Some(150));
        deadline.forget_end();
        assert!(deadline.renew(Nanos(1_090), Some(Duration::from_nanos(100))));
        link.look(1_180);
        assert!(!deadline.fired());
        link.look(1_190);
        assert!(deadline.fired());
    }
}
