//! What is stored for people to ask: pods and the nodes' history. Written behind the owner's back,
//! since nothing waits for it; changes that come while a write is under way are written together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::Timestamp;
use crate::model::id::ClusterName;
use crate::model::object::{Change, Locality, Object, ObjectKind};
use crate::model::world::PodChange;
use crate::store::{NodeEvent, Store, StoreError};

/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_secs(2);

/// Kubernetes nodes by cluster and name; `None` where one is gone.
type KubeNodes = BTreeMap<(ClusterName, Arc<str>), Option<Locality>>;

/// What is true of clusters. It is written in this order, and again as a whole after a failure.
#[derive(Clone, Default)]
struct Told {
    pods: Vec<PodChange>,
    kube_nodes: KubeNodes,
    /// Clusters of which all pods were told.
    whole: BTreeSet<ClusterName>,
}

#[derive(Default)]
struct Waiting {
    told: Told,
    events: Vec<NodeEvent>,
}

/// Takes what is to be written. Cheap to clone.
#[derive(Clone, Default)]
pub struct Inventory {
    waiting: Arc<Mutex<Waiting>>,
    news: Arc<Notify>,
}

impl Inventory {
    /// Adds changes of pods, in their order.
    pub fn pods(&self, changes: Vec<PodChange>) {
        if !changes.is_empty() {
            self.lock().told.pods.extend(changes);
            self.news.notify_one();
        }
    }

    /// Takes what changes say of Kubernetes nodes, which tell where pods run.
    pub fn kube_nodes(&self, changes: &[Change]) {
        let mut waiting = self.lock();
        let known = &mut waiting.told.kube_nodes;
        for change in changes {
            match change {
                Change::Apply { cluster, object } => {
                    if let Object::Node(node) = &**object {
                        known.insert((cluster.clone(), node.name.clone()), Some(node.locality.clone()));
                    }
                }
                Change::Delete { cluster, key } if key.kind == ObjectKind::Node => {
                    known.insert((cluster.clone(), key.name.clone()), None);
                }
                // The rows go with the cluster's pods.
                Change::Forget { cluster } => known.retain(|(of, _), _| of != cluster),
                Change::Delete { .. } | Change::Synced { .. } | Change::Unknown { .. } => {}
            }
        }
        if !known.is_empty() {
            self.news.notify_one();
        }
    }

    /// All pods of the cluster were told: others that an earlier run wrote are gone.
    pub fn read_whole(&self, cluster: &ClusterName) {
        self.lock().told.whole.insert(cluster.clone());
        self.news.notify_one();
    }

    /// Adds an event of a node's history.
    pub fn event(&self, event: NodeEvent) {
        self.lock().events.push(event);
        self.news.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // A writer that panicked left whole vectors.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Waiting {
        std::mem::take(&mut *self.lock())
    }

    /// Puts what could not be written before what came since.
    fn put_back(&self, told: Told) {
        let mut waiting = self.lock();
        let later = std::mem::replace(&mut waiting.told, told);
        waiting.told.pods.extend(later.pods);
        waiting.told.kube_nodes.extend(later.kube_nodes);
        waiting.told.whole.extend(later.whole);
    }

    /// Writes until `shutdown`, and then what is left.
    pub async fn write(self, store: Store, shutdown: CancellationToken) {
        let started_at = now();
        loop {
            let is_last = shutdown.is_cancelled();
            let Waiting { told, events } = self.take();
            if let Err(error) = write_told(&store, &told, started_at).await {
                tracing::error!(%error, "pods could not be stored; trying again");
                self.put_back(told);
                if !is_last {
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            if !events.is_empty()
                && let Err(error) = store.record_node_events(&events).await
            {
                tracing::error!(%error, lost = events.len(), "events of nodes could not be stored");
            }
            if is_last {
                return;
            }
            tokio::select! {
                () = self.news.notified() => {}
                () = shutdown.cancelled() => {}
            }
        }
    }
}

async fn write_told(store: &Store, told: &Told, started_at: Timestamp) -> Result<(), StoreError> {
    if !told.pods.is_empty() {
        store.apply_pods(told.pods.clone(), now()).await?;
    }
    if !told.kube_nodes.is_empty() {
        store.apply_kube_nodes(&told.kube_nodes, now()).await?;
    }
    for cluster in &told.whole {
        // What this run was told has a later time; doing it again later finds nothing.
        store.prune_pods(cluster, started_at).await?;
    }
    Ok(())
}

/// The time, for the rooms that must not ask for it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
}
