//! Parses the arguments and runs a command; nothing else.

use std::process::ExitCode;

/// Measured beside the system's allocator in `scripts/bench`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, of mimalloc 3: milliseconds until memory that is free goes back to the system.
const PURGE_DELAY: i32 = 15;
/// What a flood made us take is soon given back; by default it would take a second without an allocation.
const PURGE_AFTER_MS: std::ffi::c_long = 10;

fn main() -> ExitCode {
    #[allow(unsafe_code)]
    // SAFETY: it sets a number, before there is a second thread.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_AFTER_MS);
    }
    tollgate::cli::main()
}
