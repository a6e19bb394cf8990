//! What is kept on the primary's API server: the VIP ledger's objects, and what Causeway says of others.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::kube::connect;
use crate::kube::down::{self, Board};
use crate::kube::outbox::Outbox;
use crate::kube::virtual_ips::VirtualIps;
use crate::kube::writer::{self, Counters};
use crate::model::id::ClusterName;
use crate::reconcile::Event;
use crate::store::Store;

/// News of objects that wait for the owner.
const NEWS: usize = 64;

/// The ways to the objects.
pub(super) struct Objects {
    /// The VIP ledger.
    pub virtual_ips: VirtualIps,
    /// What the data directory holds of the ledger is a copy of objects that an earlier run has seen.
    pub has_ledger_copy: bool,
    /// Where the owner and the cluster manager put what is to be said.
    pub outbox: Outbox,
    /// Where the owner puts what all clusters shall have.
    pub down: down::Outbox,
    /// Where that is rendered for each of them.
    pub board: Board,
    /// What was written.
    pub counters: Arc<Counters>,
}

/// Begins to watch the ledger's objects, and to write what is put into the outbox.
///
/// # Errors
/// Where the primary's kubeconfig makes no sense. That its API server does not answer is no error.
pub(super) async fn start(
    kubeconfig: Option<&Path>,
    store: &Store,
    primary: &ClusterName,
    events: &mpsc::Sender<Event>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Objects> {
    let client = connect::primary(kubeconfig).await?;
    let known = store.kube_clusters().await.context("reading which clusters are known")?;
    let has_ledger_copy = known.contains_key(primary);
    let virtual_ips = VirtualIps::new(client.clone());
    let (out, mut news) = mpsc::channel(NEWS);
    tokio::spawn(virtual_ips.clone().watch(client.clone(), out, shutdown.clone()));
    let (outbox, counters) = (Outbox::default(), Arc::new(Counters::default()));
    tokio::spawn(writer::run(client, outbox.clone(), counters.clone(), shutdown.clone()));
    let events = events.clone();
    tokio::spawn(async move {
        while let Some(news) = news.recv().await {
            if events.send(Event::VirtualIps(news)).await.is_err() {
                return;
            }
        }
    });
    let (down, board) = (down::Outbox::default(), Board::new(primary.clone()));
    tokio::spawn(board.clone().run(down.clone()));
    Ok(Objects { virtual_ips, has_ledger_copy, outbox, down, board, counters })
}
