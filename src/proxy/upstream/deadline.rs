//! Time limits of attempts, enforced by one task that shuts down the socket of a late attempt.
//!
//! Pingora has one read timeout for head and body alike, and arms a timer for each read. Here an attempt notes until
//! when the server may be silent, and when all must be over. One task looks at all connections to servers periodically.
//! An attempt costs a few stores, whatever its limits, and a limit fires at most a sixteenth of its length (or a
//! millisecond) late.
//!
//! Silence counts only while the server owes something: the whole request was sent, this side waits for a read and not
//! for a write, and nothing waits to be read. A slow client, which prevents reading or sending, is not the server's
//! fault. The stream ([`super::connector`]) notes what this side waits for. The end of `total` applies unconditionally.
//!
//! A socket is shut down only while it belongs to the attempt: its number is removed before the connection closes,
//! under the lock that the shutdown holds. Lifting a limit that has fired waits for that shutdown, so it cannot hit the
//! connection's next request.

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

/// The interval between two looks is this fraction of the shortest limit seen.
const LOOKS: u64 = 16;
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(500);

/// All connections to servers, by the thread that opened them.
static LINKS: [Mutex<Vec<Arc<Link>>>; SHARDS] = [const { Mutex::new(Vec::new()) }; SHARDS];
/// The shortest limit set since the last look, in nanoseconds.
static SHORTEST: AtomicU64 = AtomicU64::new(NEVER);
static SHORTER: Notify = Notify::const_new();

/// How long an attempt may take; `None` is unlimited.
#[derive(Clone, Copy, Debug)]
pub struct AttemptLimits {
    /// How long the server may be silent.
    pub silence: Option<Duration>,
    /// How long a part of the request may wait for the server to take it.
    pub write: Option<Duration>,
    /// Whether a part of the request is still to come from the client.
    pub uploading: bool,
    /// How long all attempts together may take.
    pub total: Option<Duration>,
    /// When the attempts began.
    pub began: Nanos,
}

/// The limits of an attempt; dropping lifts them.
#[derive(Debug)]
pub struct Deadline {
    link: Arc<Link>,
    /// The attempt's number on its connection.
    attempt: u32,
}

impl Deadline {
    /// Limits an attempt on a connection: from `now` on the server may be silent for `silence`, and all is over `total`
    /// after `began`.
    pub fn set(link: &Arc<Link>, now: Nanos, limits: AttemptLimits) -> Deadline {
        Deadline { attempt: link.begin(now, limits), link: link.clone() }
    }

    /// Says whether a part of the request is still to come from the client; if not, the server owes an answer from
    /// `now` on.
    pub fn uploads(&self, uploading: bool, now: impl FnOnce() -> Nanos) {
        self.link.uploads(uploading, now);
    }

    /// The server sent something, which goes on to the client: from `now` on it may be silent for `silence` again.
    /// False if it was too late.
    pub fn renew(&self, now: Nanos, silence: Option<Duration>) -> bool {
        self.link.went_on();
        self.link.renew(now, nanos(silence))
    }

    /// The server closes the connection after this time without a request.
    pub fn kept_for(&self, timeout: Duration) {
        self.link.kept_for(timeout);
    }

    /// The answer has no body by rule.
    pub fn has_no_body(&self) {
        self.link.has_no_body();
    }

    /// From now on only the silence of both sides may end the attempt.
    pub fn becomes_tunnel(&self) {
        self.link.becomes_tunnel();
    }

    /// Whether a limit has ended the attempt.
    pub fn fired(&self) -> bool {
        self.link.fired()
    }

    /// The answer is complete: lifts the limits. False if they ended the attempt before.
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
        // An HTTP/2 connection whose stream was reset may serve another request by now.
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

/// Makes the next look come in time for a limit of this length.
fn notice(limit: u64) {
    if limit < SHORTEST.load(Ordering::Relaxed) && SHORTEST.fetch_min(limit, Ordering::Relaxed) > limit {
        SHORTER.notify_one();
    }
}

/// Looks at all connections; never returns.
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
                // Nothing but this list holds a closed one.
                Arc::strong_count(link) > 1
            });
        }
    }
}

#[cfg(test)]
mod tests;
