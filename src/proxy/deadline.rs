//! Time limits of attempts, kept by one task that shuts a late attempt's socket down.
//!
//! Pingora knows one read timeout, for head and body alike, and arms a timer for each read. Here an attempt writes down
//! until when it may be silent, and when it must be over; one task looks at all connections to servers now and then.
//! An attempt costs a few stores, whatever limits it has, and a limit fires at most a sixteenth of its length (or a
//! millisecond) late.
//!
//! A silence counts only while the server owes us something: the whole request was sent, our side waits for a read and
//! not for a write, and nothing waits to be read. A slow client, which keeps us from reading or from sending, is not its
//! server's fault. The stream ([`super::connector`]) tells what our side waits for. The end of `total` asks nothing.
//!
//! A socket is shut down only while it is ours: its number is taken back before the connection closes, under the lock
//! that the shutdown holds. Lifting a limit that has fired waits for that shutdown, so it cannot hit a request that
//! gets the connection next.

pub mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::link::Link;
use base::clock;
use base::shard::SHARDS;
use base::units::{Nanos, nanoseconds};

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

/// How long an attempt may take; `None` for ever.
#[derive(Clone, Copy, Debug)]
pub struct AttemptLimits {
    /// How long the server may be silent.
    pub silence: Option<Duration>,
    /// How long a part of the request may wait until the server takes it.
    pub write: Option<Duration>,
    /// Whether a part of the request is still to come from the client.
    pub uploading: bool,
    /// How long all attempts together may take.
    pub total: Option<Duration>,
    /// When they began.
    pub began: Nanos,
}

/// The limits of an attempt; they are lifted when dropped.
#[derive(Debug)]
pub struct Deadline {
    link: Arc<Link>,
    /// Which of the connection's attempts it is.
    attempt: u32,
}

impl Deadline {
    /// Limits an attempt on a connection: the server may be silent for `silence` from `now` on, and all is over when
    /// `total` has passed since `began`.
    pub fn set(link: &Arc<Link>, now: Nanos, limits: AttemptLimits) -> Deadline {
        Deadline { attempt: link.begin(now, limits), link: link.clone() }
    }

    /// Whether a part of the request is still to come from the client; where none is, the server owes an answer from
    /// `now` on.
    pub fn uploads(&self, uploading: bool, now: impl FnOnce() -> Nanos) {
        self.link.uploads(uploading, now);
    }

    /// The server said something, and it goes on to the client: from `now` on it may be silent for that long again.
    /// False when it was too late.
    pub fn renew(&self, now: Nanos, silence: Option<Duration>) -> bool {
        self.link.went_on();
        self.link.renew(now, nanos(silence))
    }

    /// The server closes the connection when it stays unused for that long.
    pub fn kept_for(&self, timeout: Duration) {
        self.link.kept_for(timeout);
    }

    /// The answer has no body by rule.
    pub fn has_no_body(&self) {
        self.link.has_no_body();
    }

    /// Nothing may end the attempt from now on, but for the silence of both sides.
    pub fn becomes_tunnel(&self) {
        self.link.becomes_tunnel();
    }

    /// Whether it has ended the attempt.
    pub fn fired(&self) -> bool {
        self.link.fired()
    }

    /// The answer is complete: lifts the limits; false when they have ended the attempt before.
    pub fn lift(self) -> bool {
        let lifted = self.link.lift();
        if lifted {
            self.link.is_complete();
        }
        self.link.lets_go();
        lifted
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // A connection of HTTP/2 whose stream was reset may serve somebody else by now.
        if !self.link.is_at(self.attempt) {
            return;
        }
        if self.link.is_limited() {
            self.link.lift();
        }
        self.link.lets_go();
    }
}

fn nanos(limit: Option<Duration>) -> u64 {
    limit.map_or(NEVER, nanoseconds)
}

/// Has the next look come in time for a limit of this length.
fn notice(limit: u64) {
    if limit < SHORTEST.load(Ordering::Relaxed) && SHORTEST.fetch_min(limit, Ordering::Relaxed) > limit {
        SHORTER.notify_one();
    }
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
mod tests;
