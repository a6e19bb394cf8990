//! The `causeway` binary: everything it does lives in the library's rooms.

use std::ffi::OsString;
use std::process::ExitCode;

use causeway::cli::Entry;
use causeway::config::ServeConfig;

fn main() -> ExitCode {
    causeway::cli::main(Entry { serve, agent })
}

fn serve(_: ServeConfig) -> anyhow::Result<()> {
    anyhow::bail!("this build has no server")
}

fn agent(_: Vec<OsString>) -> anyhow::Result<()> {
    anyhow::bail!("this build has no agent")
}
