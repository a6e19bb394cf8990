//! Causeway: a multi-cluster control plane for Envoy.

pub mod ads;
pub mod model;
pub mod reconcile;
pub mod snapshot;

/// Commands.
pub mod cli {
    /// Runs the command line.
    pub fn main() -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }
}
