//! `causeway snapshot`: EndpointSnapshots on the primary's API server.

mod create;
mod edit;
mod get;
mod pod;
#[cfg(test)]
mod tests;

use std::io::Write;

use anyhow::{anyhow, bail};

use super::args::{DeleteSnapshots, Snapshot};
use crate::kube::apiserver::ApiServer;
use crate::kube::kinds::{EndpointSnapshotResource, SnapshotOwner};

pub(super) async fn run(command: Snapshot, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Snapshot::Get(args) => get::run(&args, out).await,
        Snapshot::Create(args) => create::run(&args, out).await,
        Snapshot::Edit(args) => edit::run(&args, out).await,
        Snapshot::Delete(args) => delete(&args, out).await,
    }
}

async fn delete(args: &DeleteSnapshots, out: &mut dyn Write) -> anyhow::Result<()> {
    let primary = ApiServer::open(&args.primary.choice()).await?;
    let namespace = args.namespace.as_deref().unwrap_or(&primary.namespace);
    for name in &args.names {
        let found = fetch(&primary, namespace, name).await?;
        if is_system(&found) {
            let access = &found.spec.access;
            bail!(
                "{} is Causeway's own and would be made again; it goes with the ClusterAccess {namespace}/{access}",
                title(namespace, name)
            );
        }
        primary.delete::<EndpointSnapshotResource>(Some(namespace), name).await?;
        writeln!(out, "{} deleted", title(namespace, name))?;
        out.flush()?;
    }
    Ok(())
}

async fn fetch(primary: &ApiServer, namespace: &str, name: &str) -> anyhow::Result<EndpointSnapshotResource> {
    let found = primary.get::<EndpointSnapshotResource>(Some(namespace), name).await?;
    found.ok_or_else(|| anyhow!("{} not found", title(namespace, name)))
}

fn title(namespace: &str, name: &str) -> String {
    format!("endpointsnapshot.causeway.dev/{name} in {namespace}")
}

fn is_system(snapshot: &EndpointSnapshotResource) -> bool {
    snapshot.spec.owner == Some(SnapshotOwner::System)
}
