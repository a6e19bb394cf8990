//! The `causeway` binary: everything it does lives in the library's rooms.

use std::process::ExitCode;

use causeway::cli::Entry;
use causeway::app;

fn main() -> ExitCode {
    causeway::cli::main(Entry { serve: app::serve, agent: app::run_agent })
}
