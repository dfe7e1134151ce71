//! Parses the arguments and runs a command; nothing else.

use std::process::ExitCode;

/// Measured beside the system's allocator in `scripts/bench`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate::allocator::tune();
    tollgate::cli::main()
}
