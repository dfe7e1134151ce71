//! The progress of HTTP/2 request bodies, as the frames of their connection show it.
//!
//! The reader of a stream cannot tell which side is slow: it waits for the client and for the server alike. The
//! connection knows how much of each body arrived, and whether its client may send more ([`Flow::upload`]). It updates
//! the watch of each stream, so that only the time counts in which the client may send.
//!
//! A client may send one body after the other. So the rate of a stream is that of its own bytes, or of its share of the
//! connection's bytes, whichever is higher: a client with many open streams sends for all of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{ClientWatch, NOT};
use crate::proxy::downstream::frames::{Flow, Upload};
use base::units::Nanos;

/// The body is awaited, as long as its client may send.
const AWAITED: u8 = 1;
/// The client may send nothing now.
pub(super) const SHUT: u8 = 2;

/// A stream whose head was handed on, and whose request was not taken yet.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    stream: u32,
    upload: Option<Upload>,
    /// The codec has asked for more since, so it has decoded the head.
    decoded: bool,
}

/// The streams of a connection whose bodies still arrive.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    opened: Mutex<Option<Opened>>,
    open: Mutex<OpenUpload>,
}

#[derive(Debug, Default)]
struct OpenUpload {
    /// Bytes of all bodies at the last look.
    received: u64,
    streams: Vec<UploadStream>,
}

#[derive(Debug)]
struct UploadStream {
    number: u32,
    watch: Weak<ClientWatch>,
    /// Bytes of its body at that time.
    received: u64,
}

impl Uploads {
    /// Updates each stream from the windows.
    pub(super) fn flow(&self, flow: &Flow, now: impl FnOnce() -> Nanos) {
        if let Some(opened) = &mut *self.opened.lock() {
            opened.upload = flow.upload(opened.stream, flow.room());
        }
        let OpenUpload { received, streams } = &mut *self.open.lock();
        if streams.is_empty() {
            *received = flow.received();
            return;
        }
        let (now, room) = (now(), flow.room());
        let came = flow.received() - std::mem::replace(received, flow.received());
        let part = came / streams.len() as u64;
        streams.retain_mut(|stream| {
            let Some(watch) = stream.watch.upgrade() else { return false };
            let upload = flow.upload(stream.number, room);
            let own =
                upload.map_or(0, |upload| upload.received - std::mem::replace(&mut stream.received, upload.received));
            watch.has_part(own, part);
            watch.may_send(upload.is_some_and(|upload| upload.may_send), now);
            upload.is_some()
        });
    }
}

impl ClientWatch {
    /// Notes that a stream's head is handed on. Nothing follows until its request was taken, or is known not to come.
    pub fn opens(&self, stream: u32) {
        *self.uploads.opened.lock() = Some(Opened { stream, upload: None, decoded: false });
    }

    /// Notes that the codec asks for more. True if a head was handed on whose request was not taken yet.
    pub fn is_opening(&self) -> bool {
        self.uploads.opened.lock().as_mut().map(|opened| opened.decoded = true).is_some()
    }

    /// The codec gave out a request: that of the head handed on last.
    pub fn take_opened(&self) -> Option<Opened> {
        self.uploads.opened.lock().take()
    }

    /// The codec gave out nothing. If it has decoded the head handed on last, it has refused it; returns whether it
    /// did. If it has to write first, it may not have got to it.
    pub fn was_refused(&self) -> bool {
        self.uploads.opened.lock().take_if(|opened| opened.decoded).is_some()
    }

    /// Follows the arriving body of a stream, which has the watch `watch`.
    pub fn follows_upload(&self, opened: Opened, watch: &Arc<ClientWatch>, now: impl FnOnce() -> Nanos) {
        let received = opened.upload.map_or(0, |upload| upload.received);
        watch.has_part(received, 0);
        watch.may_send(opened.upload.is_some_and(|upload| upload.may_send), now());
        let stream = UploadStream { number: opened.stream, watch: Arc::downgrade(watch), received };
        self.uploads.open.lock().streams.push(stream);
    }

    /// Starts to follow the stream's body; part of it may have arrived.
    pub fn begins_upload(&self, now: impl FnOnce() -> Nanos) {
        self.owes_continue.store(self.verdict().expects_continue, Ordering::Relaxed);
        self.awaits_upload(now);
    }

    /// Awaits the body of the stream from now on.
    pub fn awaits_upload(&self, now: impl FnOnce() -> Nanos) {
        self.upload.fetch_or(AWAITED, Ordering::SeqCst);
        self.awaits_body(now);
        // The connection may have found the windows shut meanwhile.
        if self.upload.load(Ordering::SeqCst) & SHUT != 0 {
            self.waiting.store(NOT, Ordering::Relaxed);
        }
    }

    /// `own` bytes of the stream's body arrived; `part` is its share of all bytes that arrived.
    fn has_part(&self, own: u64, part: u64) {
        if own > 0 {
            self.owes_continue.store(false, Ordering::Relaxed);
        }
        self.received.fetch_add(own.max(part), Ordering::Relaxed);
    }

    /// Notes whether the stream's client may send; not if it has sent everything.
    fn may_send(&self, may: bool, now: Nanos) {
        if !may {
            self.upload.fetch_or(SHUT, Ordering::SeqCst);
            self.pauses(|| now);
        } else if self.upload.fetch_and(!SHUT, Ordering::SeqCst) & AWAITED != 0 {
            self.awaits_body(|| now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::downstream::frames::Frames;
    use http_guard::Verdict;

    fn waited(watch: &ClientWatch) -> (u64, u64) {
        (watch.waited.load(Ordering::Relaxed), watch.waiting.load(Ordering::Relaxed))
    }

    #[test]
    fn only_the_time_counts_in_which_the_client_may_send() {
        let watch = ClientWatch::default();
        watch.may_send(true, Nanos(10));
        assert_eq!(waited(&watch), (0, NOT), "nobody waits for it");
        watch.awaits_upload(|| Nanos(20));
        watch.may_send(true, Nanos(25));
        watch.may_send(false, Nanos(30));
        watch.may_send(false, Nanos(500));
        assert_eq!(waited(&watch), (10, NOT));
        watch.may_send(true, Nanos(600));
        assert_eq!(waited(&watch), (10, 600));
        watch.may_send(false, Nanos(607));
        watch.awaits_upload(|| Nanos(900));
        assert_eq!(waited(&watch), (17, NOT), "the client has sent it all");
    }

    #[test]
    fn who_waits_to_be_told_goes_on_waiting_while_others_shut_the_window() {
        let watch = ClientWatch::default();
        watch.admits(Verdict { expects_continue: true, ..Verdict::default() });
        watch.begins_upload(|| Nanos(10));
        watch.may_send(false, Nanos(20));
        watch.has_part(0, 100);
        watch.may_send(true, Nanos(30));
        assert_eq!((waited(&watch), watch.owes_continue()), ((0, NOT), true));
        watch.may_send(false, Nanos(40));
        watch.continues(|| Nanos(50));
        assert_eq!(waited(&watch), (0, NOT), "told, but he may not send");
        watch.may_send(true, Nanos(60));
        assert_eq!(waited(&watch), (0, 60));
    }

    #[test]
    fn a_stream_that_opens_into_a_shut_window_is_not_waited_for() {
        let (connection, watch) = (ClientWatch::default(), Arc::new(ClientWatch::default()));
        connection.opens(3);
        assert!(!connection.was_refused(), "the codec has to write first");
        assert!(connection.is_opening());
        let opened = connection.take_opened().unwrap();
        let upload = Some(Upload { received: 7, may_send: false });
        connection.follows_upload(Opened { upload, ..opened }, &watch, || Nanos(5));
        watch.begins_upload(|| Nanos(10));
        assert_eq!((waited(&watch), watch.received.load(Ordering::Relaxed)), ((0, NOT), 7));
        connection.opens(5);
        assert!(connection.is_opening() && connection.was_refused() && !connection.is_opening());
    }

    #[test]
    fn a_connection_sends_for_all_of_its_streams() {
        let (connection, watches) =
            (ClientWatch::default(), [Arc::new(ClientWatch::default()), Arc::new(ClientWatch::default())]);
        let mut frames = Frames::default();
        let mut send = |bytes: &[u8]| {
            let mut left = bytes;
            while !left.is_empty() {
                left = &left[frames.came(left, 100).unwrap()..];
            }
            connection.flows(&frames.flow, || Nanos(9));
        };
        send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x01\x01\x04\0\0\0\x01\x83\0\0\x01\x01\x04\0\0\0\x03\x83");
        for (stream, watch) in [1, 3].into_iter().zip(&watches) {
            connection.opens(stream);
            connection.follows_upload(connection.take_opened().unwrap(), watch, || Nanos(5));
        }
        let received = || [0, 1].map(|at: usize| watches[at].received.load(Ordering::Relaxed));
        send(b"\0\0\x08\0\0\0\0\0\x01xxxxxxxx");
        assert_eq!(received(), [8, 4], "eight bytes in all, half of them for each");
        send(b"\0\0\x04\0\x01\0\0\0\x01last");
        send(b"\0\0\x04\0\0\0\0\0\x03next");
        assert_eq!(received(), [10, 10], "the first has ended: the second is alone");
    }
}
