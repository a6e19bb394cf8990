//! Commands.
use crate::config::ServeConfig;
use std::ffi::OsString;
use std::process::ExitCode;

/// What the commands start.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Serves.
    pub serve: fn(ServeConfig) -> anyhow::Result<()>,
    /// Agent.
    pub agent: fn(Vec<OsString>) -> anyhow::Result<()>,
}
/// Runs the command line.
pub fn main(_entry: Entry) -> ExitCode {
    ExitCode::SUCCESS
}
