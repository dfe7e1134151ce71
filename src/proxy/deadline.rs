//! A time limit that ends an attempt from outside, by shutting its socket down.
//!
//! Pingora knows one read timeout for head and body. `first_byte` and `total` need more: a timer that lives beside the
//! attempt. It holds a duplicate of the socket, so the number cannot be given to another connection meanwhile, and
//! firing and disarming exclude each other: a timer that lost never touches a socket that went back into the pool.
//! It costs a task and a system call or two, so it is armed only where such a limit is set.

use std::net::{Shutdown, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

const ARMED: u8 = 0;
const FIRED: u8 = 1;
const DISARMED: u8 = 2;

/// An armed timer; dropping it disarms it.
#[derive(Debug)]
pub struct Deadline {
    state: Arc<AtomicU8>,
    task: tokio::task::AbortHandle,
}

impl Deadline {
    /// Shuts the socket down after a while. `fd` must be open during the call.
    pub fn arm(fd: RawFd, after: Duration) -> std::io::Result<Deadline> {
        let socket = TcpStream::from(duplicate(fd)?);
        let state = Arc::new(AtomicU8::new(ARMED));
        let own = state.clone();
        let task = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if own.compare_exchange(ARMED, FIRED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                // An error means that the socket is closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
        Ok(Deadline { state, task: task.abort_handle() })
    }

    /// Whether it has ended the attempt.
    pub fn fired(&self) -> bool {
        self.state.load(Ordering::Acquire) == FIRED
    }

    /// Disarms it; false when it has fired before.
    pub fn disarm(&self) -> bool {
        self.task.abort();
        self.state.compare_exchange(ARMED, DISARMED, Ordering::AcqRel, Ordering::Acquire).is_ok() || !self.fired()
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.disarm();
    }
}

#[allow(unsafe_code)]
fn duplicate(fd: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: Pingora calls `connected_to_upstream` with the number of a socket that the attempt owns and keeps open
    // until the hook returns; the borrow ends before that.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[tokio::test]
    async fn it_ends_a_read_unless_disarmed() {
        let (mut late, _peer) = pair();
        let deadline = Deadline::arm(late.as_raw_fd(), Duration::from_millis(5)).unwrap();
        let read = tokio::task::spawn_blocking(move || late.read(&mut [0]).unwrap()).await.unwrap();
        assert_eq!((read, deadline.fired(), deadline.disarm()), (0, true, false));

        let (kept, peer) = pair();
        let deadline = Deadline::arm(kept.as_raw_fd(), Duration::from_millis(5)).unwrap();
        assert!(deadline.disarm() && deadline.disarm());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!deadline.fired());
        peer.set_nonblocking(true).unwrap();
        assert_eq!((&peer).read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
