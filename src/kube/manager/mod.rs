//! The cluster manager of the primary: reads the primary, learns from its `ClusterInfo`s which other clusters there are
//! and where their kubeconfigs lie, and reads those too. Clusters come and go without touching one another.

mod cluster;
mod config;
mod faults;
mod kept;
mod rehearsal;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use self::cluster::{Order, Reader, Wanted};
use self::config::{Configs, News};
use self::kept::Kept;
use super::connect::{self, Refused};
use super::kinds::{ClusterInfoResource, KubeconfigSource};
use super::outbox::{ClusterConnection, Outbox};
use crate::model::id::ClusterName;
use crate::model::object::Change;
use crate::store::Store;

/// Something that a person should mend in an object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The cluster.
    pub cluster: ClusterName,
    /// The object, as `Kind namespace/name`.
    pub object: String,
    /// The field's path; empty where none.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// What the manager tells.
#[derive(Debug)]
pub enum Tell {
    /// Clusters changed.
    Changes(Vec<Change>),
    /// There is a cluster that will be read; nothing may be served before it was, or was declared unknown.
    Expect(ClusterName),
    /// All that is wrong in the objects of a cluster at present.
    Problems(ClusterName, Vec<Problem>),
}

/// How the manager works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The primary's name.
    pub primary: ClusterName,
    /// The kubeconfig of the primary; as a pod of it where there is none.
    pub kubeconfig: Option<PathBuf>,
}

/// Where a running cluster's orders go.
struct Running {
    orders: watch::Sender<Order>,
    task: AbortHandle,
}

/// The manager's state.
struct Manager {
    settings: Settings,
    store: Store,
    out: mpsc::Sender<Tell>,
    outbox: Outbox,
    kept: Kept,
    uids: BTreeMap<ClusterName, String>,
    infos: BTreeMap<ClusterName, ClusterInfoResource>,
    running: BTreeMap<ClusterName, Running>,
    configs: Configs,
}

/// Reads all clusters until `shutdown`.
///
/// # Errors
/// Where the primary's kubeconfig makes no sense. That an API server does not answer is no error.
pub async fn run(
    settings: Settings,
    store: Store,
    out: mpsc::Sender<Tell>,
    outbox: Outbox,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let client = connect::primary(settings.kubeconfig.as_deref()).await?;
    let kept = Kept::default();
    let writer = tokio::spawn(kept.clone().write(store.clone(), shutdown.clone()));
    let uids = store.kube_clusters().await?;
    let (configs, mut news) = Configs::start(client, shutdown.clone());
    let mut manager =
        Manager { settings, store, out, outbox, kept, uids, infos: BTreeMap::new(), running: BTreeMap::new(), configs };
    manager.begin().await;
    loop {
        let news = tokio::select! {
            () = shutdown.cancelled() => break,
            () = manager.out.closed() => break,
            news = news.recv() => news,
        };
        match news {
            Some(news) => manager.take(news).await,
            None => break,
        }
    }
    for running in manager.running.values() {
        running.task.abort();
    }
    let _ = writer.await;
    Ok(())
}

impl Manager {
    /// Reads the primary, and expects the clusters that an earlier run knew: until it is known that they are gone, what
    /// was last known of them may be all that there is.
    async fn begin(&mut self) {
        let primary = self.settings.primary.clone();
        let known: BTreeSet<ClusterName> = self.uids.keys().cloned().chain([primary.clone()]).collect();
        for cluster in known {
            // Nobody listens any more only at the end.
            let _ = self.out.send(Tell::Expect(cluster.clone())).await;
            let wanted = match cluster == primary {
                true => Wanted::Primary(self.settings.kubeconfig.clone()),
                false => Wanted::Waiting,
            };
            self.order(&cluster, Order { wanted, generation: 0 });
        }
    }

    /// Tells a cluster's reader what is wanted; starts it where there is none.
    fn order(&mut self, cluster: &ClusterName, order: Order) {
        if let Some(running) = self.running.get(cluster) {
            running.orders.send_replace(order);
            return;
        }
        let (orders, receiver) = watch::channel(order);
        let reader = Reader::new(
            cluster.clone(),
            *cluster == self.settings.primary,
            receiver,
            self.out.clone(),
            self.outbox.clone(),
            self.store.clone(),
            self.kept.clone(),
            self.uids.get(cluster).cloned().unwrap_or_default(),
        );
        let task = tokio::spawn(reader.run()).abort_handle();
        self.running.insert(cluster.clone(), Running { orders, task });
    }

    async fn take(&mut self, news: News) {
        match news {
            News::Info(info) => self.info(*info),
            News::InfoGone(name) => self.gone(&name).await,
            News::AllInfos(names) => {
                let gone: Vec<ClusterName> = self
                    .running
                    .keys()
                    .filter(|name| !names.contains(*name) && **name != self.settings.primary)
                    .cloned()
                    .collect();
                for name in gone {
                    self.gone(&name).await;
                }
            }
            News::Config { namespace } => {
                let names: Vec<ClusterName> = self
                    .infos
                    .iter()
                    .filter(|(_, info)| source(info).is_some_and(|source| namespace_of(source) == Some(&namespace)))
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in names {
                    self.reconsider(&name);
                }
            }
        }
    }

    fn info(&mut self, info: ClusterInfoResource) {
        let Some(name) = info.metadata.name.as_deref().map(ClusterName::from) else { return };
        self.infos.insert(name.clone(), info);
        self.reconsider(&name);
    }

    /// Finds anew how a cluster is to be reached.
    fn reconsider(&mut self, name: &ClusterName) {
        let Some(info) = self.infos.get(name) else { return };
        let generation = info.metadata.generation.unwrap_or_default();
        let wanted = if *name == self.settings.primary {
            Wanted::Primary(self.settings.kubeconfig.clone())
        } else if let Some(source) = source(info) {
            self.configs.wanted(source)
        } else {
            return self.not_read(name.clone(), generation);
        };
        self.order(name, Order { wanted, generation });
    }

    /// Says that a cluster of another source is not read by this manager.
    fn not_read(&self, name: ClusterName, generation: i64) {
        let why = Refused::new(
            "SourceNotServed",
            "only clusters with spec.source.kubeconfig are read from API servers",
            "write spec.source.kubeconfig, or serve the cluster with --manifests",
        );
        let facts = report::Facts {
            generation,
            identity: None,
            uid: "",
            trouble: Some(&why),
            refused: Some(&why),
            rehearses: false,
            credential: None,
            in_config_map: false,
        };
        let connection: ClusterConnection = report::connection(&facts);
        self.outbox.put(|waiting| drop(waiting.connections.insert(name, Some(connection))));
    }

    /// Its ClusterInfo is gone: the user says that the cluster is.
    async fn gone(&mut self, name: &ClusterName) {
        self.infos.remove(name);
        if *name == self.settings.primary {
            return;
        }
        let Some(running) = self.running.remove(name) else { return };
        running.task.abort();
        self.uids.remove(name);
        self.kept.forget(name);
        self.outbox.put(|waiting| drop(waiting.connections.insert(name.clone(), None)));
        tracing::info!(cluster = %name, "a cluster is gone with its ClusterInfo");
        let _ = self.out.send(Tell::Problems(name.clone(), Vec::new())).await;
        let _ = self.out.send(Tell::Changes(vec![Change::Forget { cluster: name.clone() }])).await;
    }
}

fn source(info: &ClusterInfoResource) -> Option<&KubeconfigSource> {
    info.spec.source.as_ref()?.kubeconfig.as_ref()
}

fn namespace_of(source: &KubeconfigSource) -> Option<&String> {
    let key = source.config_map_key_ref.as_ref().or(source.secret_key_ref.as_ref());
    key.map(|key| &key.namespace)
}
