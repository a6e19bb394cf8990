//! Wires the rooms together, and takes them down in order.

mod debug;
mod feedback;
mod members;
mod metrics;
mod objects;
mod policies;
pub(crate) mod reflection;
mod serve;
mod source;

pub use serve::serve;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::agent;
use crate::member;

/// Runs the agent beside an Envoy until it is told to stop.
///
/// # Errors
/// What keeps the agent from working at all, such as unreadable state.
pub fn run_agent(options: agent::Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        stop_on_signal(shutdown.clone())?;
        agent::run(options, shutdown).await.context("agent")
    })
}

/// Runs the manager of a sub-cluster until it is told to stop.
///
/// # Errors
/// What keeps the member from working at all, such as files that it cannot use.
pub fn run_member(options: member::Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        stop_on_signal(shutdown.clone())?;
        member::run(options, shutdown).await.context("member")
    })
}

/// Cancels the token upon SIGINT or SIGTERM; a second signal ends the process at once.
fn stop_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::spawn(async move {
        for is_second in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if is_second {
                std::process::exit(130);
            }
            tracing::info!("stopping");
            shutdown.cancel();
        }
    });
    Ok(())
}
