//! How bodies of HTTP/2 requests come, as the frames of their connection tell.
//!
//! What reads a stream cannot tell who is slow: its reader waits for the client and for the server alike. The connection
//! knows what came of each body, and whether its client may send more ([`Flow::upload`]). It tells the watch of each
//! stream, so that only the time counts in which the client may send.

use std::sync::Weak;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::{NOT, Watch};
use crate::proxy::frames::{Flow, Upload};
use crate::units::Nanos;

/// The body is waited for, as long as its client may send.
const AWAITED: u8 = 1;
/// The client may send nothing now.
const SHUT: u8 = 2;

/// The streams of a connection whose bodies come.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// The stream whose head was handed on last, until its request was taken; 0: none.
    opened: AtomicU32,
    open: Mutex<Vec<(u32, Weak<Watch>)>>,
}

impl Uploads {
    /// Tells what the windows say of each.
    pub(super) fn flow(&self, flow: &Flow, now: impl FnOnce() -> Nanos) {
        let mut open = self.open.lock();
        if open.is_empty() {
            return;
        }
        let now = now();
        open.retain(|(stream, watch)| {
            let (Some(watch), upload) = (watch.upgrade(), flow.upload(*stream)) else { return false };
            watch.uploads(upload, now);
            upload.is_some()
        });
    }
}

impl Watch {
    /// The head of a stream is handed on. Nothing more is, until its request was taken, or is known not to come.
    pub fn opens(&self, stream: u32) {
        self.uploads.opened.store(stream, Ordering::Relaxed);
    }

    /// Whether a head was handed on whose request was not taken yet.
    pub fn is_opening(&self) -> bool {
        self.uploads.opened.load(Ordering::Relaxed) != 0
    }

    /// The stream whose head was handed on last, once.
    pub fn take_opened(&self) -> Option<u32> {
        // Whoever reads the connection also serves it: nobody comes between.
        let stream = self.uploads.opened.load(Ordering::Relaxed);
        self.uploads.opened.store(0, Ordering::Relaxed);
        (stream != 0).then_some(stream)
    }

    /// The body of a stream comes, whose own watch this is.
    pub fn follows_upload(&self, stream: u32, watch: Weak<Watch>) {
        self.uploads.open.lock().push((stream, watch));
    }

    /// The stream's body is looked at; something may have come already.
    pub fn begins_upload(&self, now: impl FnOnce() -> Nanos) {
        self.owes_continue.store(self.verdict().expects_continue, Ordering::Relaxed);
        self.awaits_upload(now);
    }

    /// The body of the stream is waited for from now on.
    pub fn awaits_upload(&self, now: impl FnOnce() -> Nanos) {
        if self.upload.fetch_or(AWAITED, Ordering::SeqCst) & SHUT != 0 {
            return;
        }
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
            self.has_body(0, || now);
        } else if self.upload.fetch_and(!SHUT, Ordering::SeqCst) & AWAITED != 0 {
            self.awaits_body(|| now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
