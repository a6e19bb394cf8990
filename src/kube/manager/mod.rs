//! The cluster manager of the primary: reads the primary, learns from its `ClusterInfo`s which other clusters there are
//! and where their kubeconfigs lie, and reads those too. Clusters come and go without touching one another.

mod cluster;
mod config;
mod faults;
mod holdings;
mod kept;
mod members;
mod pushed;
mod rehearsal;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::cluster::{Order, Reader, Wanted};
use self::config::{Configs, News};
use self::holdings::{Holdings, Outlets};
use self::kept::Kept;
use self::pushed::Pushed;
use super::connect::{self, Refused};
use super::down::{Board, Scope};
use super::kinds::{ClusterInfoResource, KubeconfigSource, SyncDown, SyncedPods};
use super::outbox::{ClusterConnection, Outbox};
use super::watch::{OF_ALL, OF_PRIMARY};
use crate::model::id::ClusterName;
use crate::model::object::Change;
use crate::store::Store;

pub use self::members::{FromMember, Knock, Known, Members, Seat};

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
#[derive(Clone)]
pub struct Settings {
    /// The primary's name.
    pub primary: ClusterName,
    /// The kubeconfig of the primary; as a pod of it where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// Where the managers of clusters with `spec.source.member` are let in; without it none are.
    pub members: Option<Members>,
    /// What all clusters shall have.
    pub board: Board,
}

/// Whether a cluster is read by its API server, or its own manager dials in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pull,
    Push,
}

impl Mode {
    fn of(wanted: &Wanted) -> Self {
        match wanted {
            Wanted::Member => Mode::Push,
            Wanted::Waiting | Wanted::Primary(_) | Wanted::Kubeconfig { .. } | Wanted::Refused(_) => Mode::Pull,
        }
    }
}

/// Where a running cluster's orders go. Without orders the task ends, and gives what is known.
struct Running {
    orders: watch::Sender<Order>,
    mode: Mode,
    task: JoinHandle<Holdings>,
}

/// The manager's state.
struct Manager {
    settings: Settings,
    out: mpsc::Sender<Tell>,
    outbox: Outbox,
    kept: Kept,
    outlets: Outlets,
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
    let outlets = Outlets { out: out.clone(), outbox: outbox.clone(), memory: Some((store.clone(), kept.clone())) };
    let mut manager = Manager {
        settings,
        out,
        outbox,
        kept,
        outlets,
        uids,
        infos: BTreeMap::new(),
        running: BTreeMap::new(),
        configs,
    };
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

/// Reads one cluster for its own manager, until nobody listens: nothing is kept over restarts.
///
/// # Errors
/// Where the kubeconfig makes no sense. That the API server does not answer is no error.
pub async fn read_own(
    cluster: ClusterName,
    kubeconfig: Option<PathBuf>,
    out: mpsc::Sender<Tell>,
    outbox: Outbox,
) -> anyhow::Result<()> {
    connect::primary(kubeconfig.as_deref()).await?;
    let outlets = Outlets { out, outbox, memory: None };
    let order = Order { wanted: Wanted::Primary(kubeconfig), ..Order::default() };
    // Kept to the end: a reader without orders ends.
    let (_orders, receiver) = watch::channel(order);
    Reader::new(Holdings::new(cluster, false, String::new(), outlets), OF_ALL.to_vec(), receiver, None).run().await;
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
            self.order(&cluster, Order { wanted, ..Order::default() }).await;
        }
    }

    /// Tells a cluster's reader what is wanted; starts it where there is none, or one of the other mode.
    async fn order(&mut self, cluster: &ClusterName, order: Order) {
        let mode = Mode::of(&order.wanted);
        let holdings = match self.running.remove(cluster) {
            // Nothing tells yet that it is to be read in another way.
            Some(running) if running.mode == mode || matches!(order.wanted, Wanted::Waiting) => {
                running.orders.send_replace(order);
                self.running.insert(cluster.clone(), running);
                return;
            }
            Some(running) => {
                tracing::info!(%cluster, ?mode, "a cluster is read in another way");
                drop(running.orders);
                running.task.await.ok()
            }
            None => None,
        };
        let is_primary = *cluster == self.settings.primary;
        let holdings = holdings.unwrap_or_else(|| {
            let uid = self.uids.get(cluster).cloned().unwrap_or_default();
            Holdings::new(cluster.clone(), is_primary, uid, self.outlets.clone())
        });
        let (orders, receiver) = watch::channel(order);
        let task = match mode {
            Mode::Push => {
                let Settings { members, board, .. } = &self.settings;
                tokio::spawn(Pushed::new(holdings, receiver, members.clone(), board.clone()).run())
            }
            Mode::Pull => {
                let of_primary = is_primary.then_some(OF_PRIMARY).into_iter().flatten();
                let kinds = OF_ALL.into_iter().chain(of_primary).collect();
                let board = Some(self.settings.board.clone());
                tokio::spawn(Reader::new(holdings, kinds, receiver, board).run())
            }
        };
        self.running.insert(cluster.clone(), Running { orders, mode, task });
    }

    async fn take(&mut self, news: News) {
        match news {
            News::Info(info) => self.info(*info).await,
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
                    self.reconsider(&name).await;
                }
            }
        }
    }

    async fn info(&mut self, info: ClusterInfoResource) {
        let Some(name) = info.metadata.name.as_deref().map(ClusterName::from) else { return };
        self.infos.insert(name.clone(), info);
        self.reconsider(&name).await;
    }

    /// Finds anew how a cluster is to be reached.
    async fn reconsider(&mut self, name: &ClusterName) {
        let Some(info) = self.infos.get(name) else { return };
        let generation = info.metadata.generation.unwrap_or_default();
        let wanted = if *name == self.settings.primary {
            Wanted::Primary(self.settings.kubeconfig.clone())
        } else if info.spec.source.as_ref().is_some_and(|source| source.member.is_some()) {
            Wanted::Member
        } else if let Some(source) = source(info) {
            self.configs.wanted(source)
        } else {
            return self.not_read(name.clone(), generation);
        };
        let scope = scope(info);
        self.order(name, Order { wanted, generation, scope: Some(scope) }).await;
    }

    /// Says that a cluster of another source is not read by this manager.
    fn not_read(&self, name: ClusterName, generation: i64) {
        let why = Refused::new(
            "SourceNotServed",
            "only clusters with spec.source.kubeconfig or spec.source.member are served here",
            "write one of them, or serve the cluster with --manifests",
        );
        let facts = report::Facts {
            generation,
            identity: None,
            uid: "",
            trouble: Some(&why),
            refused: Some(&why),
            rehearses: false,
            credential: None,
            expires_at: None,
            in_config_map: false,
            down: None,
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
        if let Some(members) = &self.settings.members {
            members.close(name);
        }
        self.settings.board.forget(name);
        self.uids.remove(name);
        self.kept.forget(name);
        self.outbox.put(|waiting| drop(waiting.connections.insert(name.clone(), None)));
        tracing::info!(cluster = %name, "a cluster is gone with its ClusterInfo");
        let _ = self.out.send(Tell::Problems(name.clone(), Vec::new())).await;
        let _ = self.out.send(Tell::Changes(vec![Change::Forget { cluster: name.clone() }])).await;
    }
}

/// What comes down to a cluster, by its ClusterInfo's word.
fn scope(info: &ClusterInfoResource) -> Scope {
    let said = info.spec.sync_down.clone().unwrap_or_default();
    let excluded = info.spec.namespaces.clone().and_then(|namespaces| namespaces.exclude).unwrap_or_default();
    Scope {
        accesses: said.accesses.unwrap_or_default() == SyncDown::All,
        all_pods: said.pods.unwrap_or_default() == SyncedPods::All,
        excluded: excluded.iter().map(|namespace| namespace.as_str().into()).collect(),
    }
}

fn source(info: &ClusterInfoResource) -> Option<&KubeconfigSource> {
    info.spec.source.as_ref()?.kubeconfig.as_ref()
}

fn namespace_of(source: &KubeconfigSource) -> Option<&String> {
    let key = source.config_map_key_ref.as_ref().or(source.secret_key_ref.as_ref());
    key.map(|key| &key.namespace)
}
