//! A link between two sockets of this process, with a clock that the test sets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use super::*;
use crate::proxy::downstream::watch::ClientWatch;

/// Limits in nanoseconds that count from 1,000.
fn limits(silence: u64, total: Option<u64>) -> AttemptLimits {
    AttemptLimits {
        silence: Some(Duration::from_nanos(silence)),
        write: Some(Duration::from_nanos(300)),
        total: total.map(Duration::from_nanos),
        uploading: false,
        began: Nanos(1_000),
    }
}

/// An attempt at a server, whose side is the second socket, with these [`limits`].
fn attempt(silence: u64, total: Option<u64>) -> (TcpStream, TcpStream, Arc<Link>, Deadline) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    let link = Link::new(ours.as_raw_fd());
    let deadline = Deadline::set(&link, Nanos(1_000), limits(silence, total));
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
fn an_attempt_that_is_let_go_of_late_leaves_the_next_ones_limits_alone() {
    let (_ours, _server, link, first) = attempt(100, None);
    let second = Deadline::set(&link, Nanos(1_200), limits(100, None));
    drop(first);
    link.look(1_300);
    assert!(second.fired());
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
    link.reads(false, || Nanos(1_000));
    link.look(1_100);
    link.look(1_200);
    assert!(!deadline.fired(), "nobody waits for a read");
    link.reads(true, || Nanos(1_210));
    deadline.uploads(true, || Nanos(1_220));
    link.look(1_400);
    assert!(!deadline.fired(), "the request is not there yet");
    deadline.uploads(false, || Nanos(1_450));
    link.look(1_549);
    assert!(!deadline.fired());
    link.look(1_550);
    assert!(deadline.fired());
}

#[test]
fn a_write_that_stays_blocked_ends_the_attempt() {
    let (_ours, _server, link, deadline) = attempt(100, None);
    deadline.uploads(true, || Nanos(1_000));
    link.writes(true, || Nanos(1_010));
    link.look(1_100);
    link.look(1_309);
    assert!(!deadline.fired(), "silence is not what counts now");
    link.writes(false, || Nanos(1_309));
    link.writes(true, || Nanos(1_310));
    link.look(1_320);
    link.look(1_609);
    assert!(!deadline.fired(), "something was taken meanwhile");
    link.look(1_610);
    assert!(deadline.fired());
}

#[test]
fn an_answer_that_came_while_a_write_is_blocked_is_read() {
    let (mut ours, mut server, link, deadline) = attempt(100, None);
    link.writes(true, || Nanos(1_000));
    server.write_all(b"x").unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    ours.peek(&mut [0]).unwrap();
    link.look(1_300);
    assert!(!deadline.fired());
    assert_eq!(ours.write(b"more").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert_eq!(ours.read(&mut [0]).unwrap(), 1);
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
fn a_tunnel_ends_once_neither_side_says_anything() {
    let (_ours, _server, link, deadline) = attempt(100, Some(150));
    let client = Arc::new(ClientWatch::default());
    link.serves(&client, false);
    deadline.becomes_tunnel();
    assert!(deadline.renew(Nanos(1_090), Some(Duration::from_nanos(100))));
    client.moves();
    link.look(1_150);
    link.look(1_249);
    assert!(!deadline.fired(), "the client said something before the look at 1,150");
    link.look(1_250);
    assert!(deadline.fired());
}

#[test]
fn a_tunnel_ends_although_a_write_without_a_limit_is_blocked() {
    let (_ours, _server, link, first) = attempt(100, None);
    drop(first);
    let deadline = Deadline::set(&link, Nanos(1_000), AttemptLimits { write: None, ..limits(100, None) });
    deadline.becomes_tunnel();
    link.writes(true, || Nanos(1_050));
    link.look(1_149);
    assert!(!deadline.fired());
    link.look(1_150);
    assert!(deadline.fired());
}

#[test]
fn an_answer_that_is_held_back_is_let_go_by_the_end() {
    struct Count(std::sync::atomic::AtomicU32);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(Default::default()));
    let waker = std::task::Waker::from(count.clone());
    let mut cx = std::task::Context::from_waker(&waker);
    let (_ours, _server, link, _deadline) = attempt(100, None);
    link.holds_answer();
    assert!(link.is_held(&mut cx));
    link.flushed();
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    link.flushed();
    assert_eq!(count.0.load(Ordering::Relaxed), 1, "whoever waits is woken");
    assert!(!link.is_held(&mut cx));

    link.holds_answer();
    assert!(link.is_held(&mut cx));
    link.look(1_100);
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert!(!link.is_held(&mut cx), "the end shows where it is read");
}

#[test]
fn what_is_read_ahead_of_a_stream_grows_with_what_it_takes() {
    let (_ours, _server, link, _deadline) = attempt(100, None);
    link.serves(&Arc::new(ClientWatch::default()), true);
    link.moved(4_095);
    assert!(!link.is_ahead());
    link.moved(1);
    assert!(link.is_ahead());
    link.went_on();
    link.moved(4_096);
    assert!(!link.is_ahead());
    (0..10).for_each(|_| link.went_on());
    link.moved(65_535);
    assert!(!link.is_ahead());
    link.moved(1);
    assert!(link.is_ahead());
}
