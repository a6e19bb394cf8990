//! Causeway: a multi-cluster control plane for Envoy.

pub mod kube;
pub mod manifests;
pub mod model;
pub mod reconcile;

/// Commands.
pub mod cli {
    /// Runs the command line.
    pub fn main() -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }
}
