//! How bodies of HTTP/2 requests come, as the frames of their connection tell.
//!
//! What reads a stream cannot tell who is slow: its reader waits for the client and for the server alike. The connection
//! knows what came of each body, and whether its client may send more ([`Flow::upload`]). It tells the watch of each
//! stream, so that only the time counts in which the client may send.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{NOT, Watch};
use crate::proxy::frames::{Flow, Upload};
use crate::units::Nanos;

/// The body is waited for, as long as its client may send.
const AWAITED: u8 = 1;
/// The client may send nothing now.
pub(super) const SHUT: u8 = 2;

/// A stream whose head was handed on, and whose request was not taken yet.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    stream: u32,
    upload: Option<Upload>,
    /// The codec has asked for more since: it has decoded the head.
    decoded: bool,
}

/// The streams of a connection whose bodies come.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    opened: Mutex<Option<Opened>>,
    open: Mutex<Vec<(u32, Weak<Watch>)>>,
}

impl Uploads {
    /// Tells what the windows say of each.
    pub(super) fn flow(&self, flow: &Flow, now: impl FnOnce() -> Nanos) {
        if let Some(opened) = &mut *self.opened.lock() {
            opened.upload = flow.upload(opened.stream, flow.room());
        }
        let mut open = self.open.lock();
        if open.is_empty() {
            return;
        }
        let (now, room) = (now(), flow.room());
        open.retain(|(stream, watch)| {
            let (Some(watch), upload) = (watch.upgrade(), flow.upload(*stream, room)) else { return false };
            watch.uploads(upload, now);
            upload.is_some()
        });
    }
}

impl Watch {
    /// The head of a stream is handed on. Nothing more is, until its request was taken, or is known not to come.
    pub fn opens(&self, stream: u32) {
        *self.uploads.opened.lock() = Some(Opened { stream, upload: None, decoded: false });
    }

    /// The codec asks for more: whether a head was handed on before, whose request was not taken yet.
    pub fn is_opening(&self) -> bool {
        self.uploads.opened.lock().as_mut().map(|opened| opened.decoded = true).is_some()
    }

    /// The codec gave out a request, which is that of the head handed on last.
    pub fn take_opened(&self) -> Option<Opened> {
        self.uploads.opened.lock().take()
    }

    /// The codec gave out nothing. Where it has decoded the head that was handed on last, it has refused it; whether it did.
    /// It may not have come to it, where it has to write first.
    pub fn was_refused(&self) -> bool {
        self.uploads.opened.lock().take_if(|opened| opened.decoded).is_some()
    }

    /// The body of a stream comes, whose own watch this is.
    pub fn follows_upload(&self, opened: Opened, watch: &Arc<Watch>, now: impl FnOnce() -> Nanos) {
        watch.uploads(opened.upload, now());
        self.uploads.open.lock().push((opened.stream, Arc::downgrade(watch)));
    }

    /// The stream's body is looked at; something may have come already.
    pub fn begins_upload(&self, now: impl FnOnce() -> Nanos) {
        self.owes_continue.store(self.verdict().expects_continue, Ordering::Relaxed);
        self.awaits_upload(now);
    }

    /// The body of the stream is waited for from now on.
    pub fn awaits_upload(&self, now: impl FnOnce() -> Nanos) {
        self.upload.fetch_or(AWAITED, Ordering::SeqCst);
        self.awaits_body(now);
        // The connection may have found the windows shut meanwhile.
        if self.upload.load(Ordering::SeqCst) & SHUT != 0 {
            self.waiting.store(NOT, Ordering::Relaxed);
        }
    }

    /// What the connection knows of the stream's body; nothing where the client sends no more of it.
    fn uploads(&self, upload: Option<Upload>, now: Nanos) {
        if let Some(upload) = upload
            && self.received.swap(upload.received, Ordering::Relaxed) != upload.received
        {
            self.owes_continue.store(false, Ordering::Relaxed);
        }
        if !upload.is_some_and(|upload| upload.may_send) {
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
    use crate::proxy::admit::Verdict;

    fn upload(received: u64, may_send: bool) -> Option<Upload> {
        Some(Upload { received, may_send })
    }

    fn waited(watch: &Watch) -> (u64, u64) {
        (watch.waited.load(Ordering::Relaxed), watch.waiting.load(Ordering::Relaxed))
    }

    #[test]
    fn only_the_time_counts_in_which_the_client_may_send() {
        let watch = Watch::default();
        watch.uploads(upload(5, true), Nanos(10));
        assert_eq!(waited(&watch), (0, NOT), "nobody waits for it");
        watch.awaits_upload(|| Nanos(20));
        watch.uploads(upload(9, true), Nanos(25));
        watch.uploads(upload(40_000, false), Nanos(30));
        watch.uploads(upload(40_000, false), Nanos(500));
        assert_eq!((waited(&watch), watch.received.load(Ordering::Relaxed)), ((10, NOT), 40_000));
        watch.uploads(upload(40_000, true), Nanos(600));
        assert_eq!(waited(&watch), (10, 600));
        watch.uploads(None, Nanos(607));
        watch.awaits_upload(|| Nanos(900));
        assert_eq!(waited(&watch), (17, NOT), "the client has sent it all");
    }

    #[test]
    fn who_waits_to_be_told_goes_on_waiting_while_others_shut_the_window() {
        let watch = Watch::default();
        watch.admits(Verdict { expects_continue: true, ..Verdict::default() });
        watch.begins_upload(|| Nanos(10));
        watch.uploads(upload(0, false), Nanos(20));
        watch.uploads(upload(0, true), Nanos(30));
        assert_eq!((waited(&watch), watch.owes_continue()), ((0, NOT), true));
        watch.uploads(upload(0, false), Nanos(40));
        watch.continues(|| Nanos(50));
        assert_eq!(waited(&watch), (0, NOT), "told, but he may not send");
        watch.uploads(upload(0, true), Nanos(60));
        assert_eq!(waited(&watch), (0, 60));
    }

    #[test]
    fn a_stream_that_opens_into_a_shut_window_is_not_waited_for() {
        let (connection, watch) = (Watch::default(), Arc::new(Watch::default()));
        connection.opens(3);
        assert!(!connection.was_refused(), "the codec has to write first");
        assert!(connection.is_opening());
        let opened = connection.take_opened().unwrap();
        connection.follows_upload(Opened { upload: upload(0, false), ..opened }, &watch, || Nanos(5));
        watch.begins_upload(|| Nanos(10));
        assert_eq!(waited(&watch), (0, NOT));
        connection.opens(5);
        assert!(connection.is_opening() && connection.was_refused() && !connection.is_opening());
    }
}
