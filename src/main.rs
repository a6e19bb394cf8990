//! The `causeway` binary: everything it does lives in the library's rooms.

use std::process::ExitCode;

use causeway::app;
use causeway::cli::Entry;

/// Thousands of streams hold a little each for long, between messages that are large and short-lived.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    causeway::cli::main(Entry { serve: app::serve, agent: app::run_agent })
}
