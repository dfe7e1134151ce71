//! The `tollgate` executable: parses the arguments and runs a command.

use std::process::ExitCode;

/// `scripts/bench` compares it with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate::allocator::tune();
    tollgate::cli::main()
}
