//! Waiting for what takes time: polled, until a deadline that only a broken gateway reaches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Waits until `probe` finds something; fails with `what` when it never does.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, probe).unwrap_or_else(|| panic!("never seen: {what}"))
}

/// What `probe` finds within a time.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Sets a flag when it goes, by a failure too: else threads that wait for the flag would hold the failure back.
pub struct Finally<'a>(pub &'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// True when `holds` does at every look for a while: for what must not happen.
pub fn stays(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    within(time, || (!holds()).then_some(())).is_none()
}
