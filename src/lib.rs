//! Causeway: a multi-cluster control plane for Envoy.

pub mod model;
pub mod policy;
pub mod reconcile;
pub mod xds;

/// Commands.
pub mod cli {
    /// Runs the command line.
    pub fn main() -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }
}
