//! Causeway: a multi-cluster control plane for Envoy.

pub mod feedback;
pub mod model;
pub mod reconcile;
pub mod vip;

/// Commands.
pub mod cli {
    /// Runs the command line.
    pub fn main() -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }
}
