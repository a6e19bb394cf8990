//! `causeway cluster`: clusters come and go through the API servers of the primary and of the sub-cluster.

mod join;
mod leave;
mod list;
mod push;

use std::io::Write;

use super::Usage;
use super::args::Cluster;
use crate::kube::names;

pub(super) async fn run(command: Cluster, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Cluster::Join(args) => join::run(&args, out).await,
        Cluster::Leave(args) => leave::run(&args, out).await,
        Cluster::List(args) => list::run(&args, out).await,
    }
}

/// Refuses what cannot be the name of a cluster or namespace.
fn check_label(what: &str, name: &str) -> Result<(), Usage> {
    match names::label_fault(name) {
        Some(fault) => Err(Usage(format!("{what} `{name}` {fault}; use at most 63 of a-z, 0-9 and `-`"))),
        None => Ok(()),
    }
}

/// Says a step at once, so that whoever waits sees where it is.
fn say(out: &mut dyn Write, line: &str) -> anyhow::Result<()> {
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
