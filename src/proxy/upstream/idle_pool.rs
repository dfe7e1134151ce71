//! Idle connections of HTTP/1.1 to servers, kept for the next request. Those of HTTP/2, and of TLS on Pingora's way,
//! wait in Pingora's pool, which `runtime/snapshot/peer` and `app/one_proxy` configure. Whether one may be kept is
//! decided by [`connector`](super::connector) and by the lane.
//!
//! Each thread keeps its own and takes the most recent one; only a thread without any looks at the others'. If a server
//! closed an idle connection, or sent something on it, that is noticed when it is taken or within a second. The runtime
//! knows the state of a connection kept for longer than a look. For a younger one the kernel is asked, because the
//! runtime may not know yet: bytes after one answer must never become the next one. After an answer that has no body by
//! rule the connection rests for a moment, because some servers send one nevertheless. An unused connection is closed
//! after a minute, or two seconds before the server's announced time (`Keep-Alive: timeout=5`): a request must not meet
//! a connection that is being closed.

use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use rustix::net::{RecvFlags, recv};

use super::connector::{Destination, ServerConnection, ServerIo};
use base::clock;
use base::shard::{SHARDS, index};
use base::units::Nanos;

/// Maximum number of connections per shard.
const MAX: usize = 1024;
/// How long an unused one is kept.
const UNUSED: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);
/// How long before the server the gateway closes a connection: [`NOW`] may be one look old, and so may the server's
/// answer.
const AHEAD: Duration = Duration::from_secs(2);

static SHELVES: LazyLock<[Mutex<IdlePool>; SHARDS]> = LazyLock::new(Default::default);
/// Time of the last look: precise enough to know which connections are old.
static NOW: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct IdlePool {
    servers: AHashMap<Destination, Vec<(Box<ServerConnection>, Nanos)>>,
    count: usize,
}

impl IdlePool {
    /// The connection used last, and since when it is idle.
    fn take(&mut self, to: Destination) -> Option<(Box<ServerConnection>, Nanos)> {
        let kept = self.servers.get_mut(&to)?;
        let at = kept.iter().rposition(|(open, _)| open.link.is_ready(clock::now))?;
        let taken = kept.remove(at);
        self.count -= 1;
        Some(taken)
    }

    /// Keeps a connection. Above the maximum it evicts the server's oldest, or any server's oldest.
    fn keep(&mut self, open: Box<ServerConnection>, now: Nanos) -> Option<Box<ServerConnection>> {
        let to = open.to;
        self.servers.entry(to).or_default().push((open, now));
        self.count += 1;
        if self.count <= MAX {
            return None;
        }
        let own = self.servers.get_mut(&to).filter(|kept| kept.len() > 1);
        let spare = match own {
            Some(own) => own.remove(0),
            None => self.servers.iter_mut().find(|(other, kept)| **other != to && !kept.is_empty())?.1.remove(0),
        };
        self.count -= 1;
        Some(spare.0)
    }

    /// Removes closed and old connections.
    fn look(&mut self, now: Nanos) -> Vec<ServerConnection> {
        let mut gone = vec![];
        for kept in self.servers.values_mut() {
            gone.extend(kept.extract_if(.., |(open, since)| is_old(open, *since, now) || !is_quiet(open)));
        }
        self.servers.retain(|_, kept| !kept.is_empty());
        self.count -= gone.len();
        gone.into_iter().map(|(open, _)| *open).collect()
    }
}

fn is_old(open: &ServerConnection, since: Nanos, now: Nanos) -> bool {
    now.since(since) > open.link.keep().map_or(UNUSED, |kept| kept.saturating_sub(AHEAD).min(UNUSED))
}

/// Whether the server neither closed the connection nor sent anything, as far as the runtime knows.
fn is_quiet(open: &ServerConnection) -> bool {
    match &open.io {
        ServerIo::Plain(tcp) => matches!(tcp.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock),
        ServerIo::Tls(_) => !open.link.is_loud(),
    }
}

/// The same, according to the kernel.
fn is_empty(open: &ServerConnection) -> bool {
    let ServerIo::Plain(tcp) = &open.io else { return is_quiet(open) };
    let peeked = recv(tcp, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// A connection to the server that can serve another request.
pub fn take(to: Destination) -> Option<Box<ServerConnection>> {
    let (mine, now) = (index(), now());
    for shelf in (mine..SHARDS).chain(0..mine) {
        loop {
            let Some((open, since)) = SHELVES[shelf].lock().take(to) else { break };
            let quiet = if now.since(since) <= LOOK * 2 { is_empty(&open) } else { is_quiet(&open) };
            if quiet && !is_old(&open, since, now) {
                open.link.take_again();
                return Some(open);
            }
        }
    }
    None
}

/// Keeps a connection whose request is complete.
pub fn keep(open: Box<ServerConnection>) {
    if open.link.keep().is_some_and(|kept| kept <= AHEAD) {
        return;
    }
    open.link.rests(clock::now);
    let spare = SHELVES[index()].lock().keep(open, now());
    // Closing is a system call, so not under the lock.
    drop(spare);
}

/// The time, at most one look old.
fn now() -> Nanos {
    Nanos(NOW.load(Ordering::Relaxed))
}

/// Removes closed and old connections; never returns.
pub async fn tidy() {
    loop {
        let now = clock::now();
        NOW.store(now.0, Ordering::Relaxed);
        for shelf in SHELVES.iter() {
            let gone = shelf.lock().look(now);
            // As above: the lock is released before they are closed.
            drop(gone);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::SocketAddr;

    use tokio::net::{TcpListener, TcpStream};

    use super::super::connector::tests::open;
    use super::*;

    /// A connection and the server's side of it.
    async fn pair(listener: &TcpListener) -> (Box<ServerConnection>, std::net::TcpStream) {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap().0.into_std().unwrap();
        (open(ours), server)
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn plain(open: &ServerConnection) -> &TcpStream {
        match &open.io {
            ServerIo::Plain(tcp) => tcp,
            ServerIo::Tls(_) => panic!("no test uses TLS"),
        }
    }

    fn port(open: &ServerConnection) -> u16 {
        plain(open).local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn the_last_one_used_is_taken_first_and_only_for_its_server() {
        let (listener, address) = listener().await;
        let mut shelf = IdlePool::default();
        let ((a, _a), (b, _b)) = (pair(&listener).await, pair(&listener).await);
        let (port_a, port_b) = (port(&a), port(&b));
        assert!(shelf.keep(a, Nanos(1)).is_none() && shelf.keep(b, Nanos(2)).is_none());
        assert!(shelf.take(SocketAddr::from(([127, 0, 0, 1], 1)).into()).is_none());
        assert_eq!(shelf.take(address.into()).map(|(open, _)| port(&open)), Some(port_b));
        assert_eq!(shelf.take(address.into()).map(|(open, _)| port(&open)), Some(port_a));
        assert!(shelf.take(address.into()).is_none());
        assert_eq!(shelf.count, 0);
    }

    #[tokio::test]
    async fn what_is_closed_old_or_talkative_is_taken_out() {
        let (listener, address) = listener().await;
        let mut shelf = IdlePool::default();
        let old = Nanos(0);
        let now = Nanos(UNUSED.as_nanos() as u64 + 1);
        let (stale, _server) = pair(&listener).await;
        let (closed, server) = pair(&listener).await;
        drop(server);
        let (talks, mut server) = pair(&listener).await;
        server.write_all(b"x").unwrap();
        let (quiet, _quiet) = pair(&listener).await;
        let kept = port(&quiet);
        plain(&closed).readable().await.unwrap();
        plain(&talks).readable().await.unwrap();
        for (open, since) in [(stale, old), (closed, now), (talks, now), (quiet, now)] {
            assert!(shelf.keep(open, since).is_none());
        }
        assert_eq!(shelf.look(now).len(), 3);
        assert_eq!((shelf.count, shelf.take(address.into()).map(|(open, _)| port(&open))), (1, Some(kept)));
        assert!(shelf.look(now).is_empty() && shelf.servers.is_empty());
    }

    #[tokio::test]
    async fn what_came_a_moment_ago_is_seen_before_the_runtime_knows() {
        let (listener, address) = listener().await;
        let (ours, mut server) = pair(&listener).await;
        // The runtime learns that there is nothing to read.
        assert!(is_quiet(&ours) && is_empty(&ours));
        keep(ours);
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        // On loopback the bytes arrive when they are written, and the runtime has not run since.
        assert!(take(address.into()).is_none());
    }

    #[tokio::test]
    async fn after_an_answer_without_a_body_it_rests() {
        let (listener, address) = listener().await;
        let (ours, _server) = pair(&listener).await;
        let limits = super::super::deadline::AttemptLimits {
            silence: None,
            write: None,
            uploading: false,
            total: None,
            began: Nanos(0),
        };
        super::super::deadline::Deadline::set(&ours.link, Nanos(0), limits).has_no_body();
        keep(ours);
        assert!(take(address.into()).is_none());
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(take(address.into()).is_some());
    }

    #[tokio::test]
    async fn a_server_that_says_how_long_it_waits_is_believed() {
        let (listener, _) = listener().await;
        let (open, _server) = pair(&listener).await;
        let second = |n: u64| Nanos(n * 1_000_000_000);
        assert!(is_old(&open, second(0), second(61)) && !is_old(&open, second(0), second(59)));
        let limits = super::super::deadline::AttemptLimits {
            silence: None,
            write: None,
            uploading: false,
            total: None,
            began: second(0),
        };
        super::super::deadline::Deadline::set(&open.link, second(0), limits).kept_for(Duration::from_secs(5));
        assert!(is_old(&open, second(0), second(4)) && !is_old(&open, second(0), second(2)));
    }

    #[tokio::test]
    async fn a_full_shelf_gives_up_its_servers_oldest_connection_or_anothers() {
        let ((one, first), (two, second)) = (listener().await, listener().await);
        let mut shelf = IdlePool { count: MAX - 2, ..IdlePool::default() };
        let ((a, _a), (b, _b), (c, _c), (d, _d)) =
            (pair(&one).await, pair(&one).await, pair(&one).await, pair(&two).await);
        let (port_a, port_b) = (port(&a), port(&b));
        assert!(shelf.keep(a, Nanos(1)).is_none() && shelf.keep(b, Nanos(2)).is_none());
        assert_eq!(shelf.keep(c, Nanos(3)).map(|open| port(&open)), Some(port_a));
        assert_eq!(shelf.keep(d, Nanos(4)).map(|open| port(&open)), Some(port_b));
        assert_eq!((shelf.servers[&first.into()].len(), shelf.servers[&second.into()].len(), shelf.count), (1, 1, MAX));
    }
}
