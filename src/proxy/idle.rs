//! Closes client connections that are silent for too long.
//!
//! Pingora would arm a timer for every request's end. Here a request costs two stores, and one task looks at all
//! connections of a listener now and then: a connection closes at most a quarter of the timeout late. Time counts from
//! the end of a request (or the connection's start) to the end of the next request's head, so a head that trickles in
//! is bounded by the same limit. A request that arrives in the very moment of closing is lost, as with any server.

use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::clock;
use crate::telemetry::shard::{SHARDS, index};
use crate::units::Nanos;

/// Bounds of the time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_secs(1);

const BUSY: u64 = 0;

/// Since when a connection is without a request.
#[derive(Debug, Default)]
pub struct Idle(AtomicU64);

impl Idle {
    /// A request came.
    pub fn busy(&self) {
        self.0.store(BUSY, Ordering::Relaxed);
    }

    /// The request ended.
    pub fn since(&self, now: Nanos) {
        self.0.store(now.0.max(BUSY + 1), Ordering::Relaxed);
    }

    fn is_over(&self, now: Nanos, limit: Duration) -> bool {
        let since = self.0.load(Ordering::Relaxed);
        since != BUSY && now.since(Nanos(since)) > limit
    }
}

type Followed = Mutex<Vec<(Weak<TcpStream>, Arc<Idle>)>>;

/// Follows the connections of a listener.
#[derive(Debug, Default)]
pub struct Sweeper([Followed; SHARDS]);

impl Sweeper {
    /// Follows a new connection until it is dropped.
    pub fn follow(&self, connection: &Arc<TcpStream>, idle: &Arc<Idle>) {
        idle.since(clock::now());
        self.0[index()].lock().push((Arc::downgrade(connection), idle.clone()));
    }

    /// Closes what is idle for longer than `limit` says, for ever.
    pub async fn run(self: Arc<Self>, limit: impl Fn() -> Duration) {
        loop {
            let limit = limit();
            tokio::time::sleep((limit / 4).clamp(LOOK_MIN, LOOK_MAX)).await;
            self.sweep(clock::now(), limit);
        }
    }

    fn sweep(&self, now: Nanos, limit: Duration) {
        for followed in &self.0 {
            followed.lock().retain(|(connection, idle)| {
                if idle.is_over(now, limit)
                    && let Some(connection) = connection.upgrade()
                {
                    // An error means that the other end has closed it meanwhile.
                    let _ = SockRef::from(&*connection).shutdown(Shutdown::Both);
                    return false;
                }
                connection.strong_count() > 0
            });
        }
    }
}
