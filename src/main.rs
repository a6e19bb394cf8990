//! The `causeway` binary: everything it does lives in the library's rooms.

use std::process::ExitCode;

use causeway::app;
use causeway::cli::Entry;

fn main() -> ExitCode {
    causeway::cli::main(Entry { serve: app::serve, agent: app::run_agent, member: app::run_member })
}
