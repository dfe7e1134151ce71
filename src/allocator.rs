//! Returning memory to the system after a flood of requests, within about a second.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

/// `mi_option_purge_delay`, of mimalloc 3: milliseconds until free memory may go back to the system.
const PURGE_DELAY: i32 = 15;
const PURGE_AFTER_MS: std::ffi::c_long = 10;
/// How often a thread returns unused memory.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// The number of the current round of returning memory.
static ROUND: AtomicU64 = AtomicU64::new(0);

/// Sets how soon free memory may go back to the system; call it at the start of the process.
pub fn tune() {
    #[allow(unsafe_code)]
    // SAFETY: it sets a number, before there is a second thread.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_AFTER_MS);
    }
}

/// Returns this thread's unused memory, once in each round; called whenever a worker is idle.
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

/// Makes the workers return memory once a second, also those that sleep; never returns. After a flood the memory is
/// free, but the allocator only acts when it is asked for more.
pub async fn give_back_for_ever(workers: Handle, count: usize) {
    loop {
        tokio::time::sleep(GIVE_BACK).await;
        ROUND.fetch_add(1, Ordering::Relaxed);
        (0..count).for_each(|_| drop(workers.spawn(async {})));
    }
}
