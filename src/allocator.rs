//! The allocator gives back what a flood has taken, within about a second.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

/// `mi_option_purge_delay`, of mimalloc 3: milliseconds until memory that is free may go back to the system.
const PURGE_DELAY: i32 = 15;
const PURGE_AFTER_MS: std::ffi::c_long = 10;
/// How often a thread gives back what it does not use.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// Counts the times at which threads are to give back.
static ROUND: AtomicU64 = AtomicU64::new(0);

/// Sets how soon memory that is free may go back to the system; at the start of the process.
pub fn tune() {
    #[allow(unsafe_code)]
    // SAFETY: it sets a number, before there is a second thread.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_AFTER_MS);
    }
}

/// Gives back what this thread has not used since it was last asked; whenever a worker has nothing to do.
pub fn give_back() {
    thread_local!(static GIVEN: Cell<u64> = const { Cell::new(0) });
    let round = ROUND.load(Ordering::Relaxed);
    if GIVEN.replace(round) != round {
        #[allow(unsafe_code)]
        // SAFETY: it only touches the allocator's own state of this thread, and what is free.
        unsafe {
            libmimalloc_sys::mi_collect(true);
        }
    }
}

/// Has the workers give back once a second, also those that sleep, for ever. What a flood has taken is free then, but the
/// allocator looks only when it is asked for more.
pub async fn give_back_for_ever(workers: Handle, count: usize) {
    loop {
        tokio::time::sleep(GIVE_BACK).await;
        ROUND.fetch_add(1, Ordering::Relaxed);
        (0..count).for_each(|_| drop(workers.spawn(async {})));
    }
}
