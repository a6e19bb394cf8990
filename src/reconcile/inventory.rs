//! What is stored for people to ask: pods, Kubernetes nodes and the history of Envoys. Written behind the owner's back,
//! since nothing waits for it; changes that come while a write is under way are written together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::model::Timestamp;
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{Locality, Pod};
use crate::model::world::PodChange;
use crate::store::{self, Mailbox, NodeEvent, Store, StoreError, write_behind};

/// Events of nodes that wait at most; when the store cannot be written for long, the oldest are lost.
const EVENTS: usize = 10_000;

type Key<N> = (ClusterName, N);

/// What waits, reduced to its outcome, so that it is bounded by what there is however long the store cannot be written.
#[derive(Default)]
struct Waiting {
    /// Before all others here.
    forgotten: BTreeSet<ClusterName>,
    /// `None` where the pod is gone.
    pods: BTreeMap<Key<NamespacedName>, Option<Arc<Pod>>>,
    /// `None` where the Kubernetes node is gone.
    nodes: BTreeMap<Key<Arc<str>>, Option<Locality>>,
    /// Clusters whose pods that were not told since the time are gone, once the pods here are written.
    prune: BTreeMap<ClusterName, Timestamp>,
    events: VecDeque<NodeEvent>,
}

impl Waiting {
    fn pod(&mut self, change: PodChange) {
        match change {
            PodChange::Upsert { cluster, pod } => {
                self.pods.insert((cluster, pod.id.clone()), Some(pod));
            }
            PodChange::Delete { cluster, id } => {
                self.pods.insert((cluster, id), None);
            }
            PodChange::ForgetCluster { cluster } => {
                self.pods.retain(|(of, _), _| *of != cluster);
                self.nodes.retain(|(of, _), _| *of != cluster);
                self.prune.remove(&cluster);
                self.forgotten.insert(cluster);
            }
        }
    }

    fn pod_changes(&self) -> Vec<PodChange> {
        let forgotten = self.forgotten.iter().map(|cluster| PodChange::ForgetCluster { cluster: cluster.clone() });
        let pods = self.pods.iter().map(|((cluster, id), pod)| match pod {
            Some(pod) => PodChange::Upsert { cluster: cluster.clone(), pod: pod.clone() },
            None => PodChange::Delete { cluster: cluster.clone(), id: id.clone() },
        });
        forgotten.chain(pods).collect()
    }
}

impl store::Waiting for Waiting {
    const WHAT: &'static str = "the inventory";
    /// What is asked may be this old, and changes that come one by one cost no transaction each.
    const PAUSE: Duration = Duration::from_millis(200);

    /// Writes the events, once, and then pods, Kubernetes nodes and what is gone, of which each may be written again.
    async fn write(&mut self, store: &Store) -> Result<(), StoreError> {
        match store.record_node_events(self.events.make_contiguous()).await {
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => {
                tracing::error!(%error, lost = self.events.len(), "events of nodes could not be stored");
            }
            Ok(()) => {}
        }
        self.events.clear();
        let changes = self.pod_changes();
        if !changes.is_empty() {
            store.apply_pods(changes, now()).await?;
        }
        if !self.nodes.is_empty() {
            store.apply_kube_nodes(&self.nodes, now()).await?;
        }
        for (cluster, since) in &self.prune {
            let gone = store.prune_pods(cluster, *since).await?;
            if gone > 0 {
                tracing::info!(%cluster, gone, "pods went away while nobody looked");
            }
        }
        Ok(())
    }

    fn put_back(&mut self, failed: Waiting) {
        let Waiting { forgotten, pods, nodes, prune, mut events } = failed;
        let again = &self.forgotten;
        let mut merged = Waiting { forgotten, ..Waiting::default() };
        merged.pods = pods.into_iter().filter(|((cluster, _), _)| !again.contains(cluster)).collect();
        merged.nodes = nodes.into_iter().filter(|((cluster, _), _)| !again.contains(cluster)).collect();
        merged.prune = prune.into_iter().filter(|(cluster, _)| !again.contains(cluster)).collect();
        merged.forgotten.append(&mut self.forgotten);
        merged.pods.append(&mut self.pods);
        merged.nodes.append(&mut self.nodes);
        merged.prune.append(&mut self.prune);
        events.append(&mut self.events);
        events.drain(..events.len().saturating_sub(EVENTS));
        merged.events = events;
        *self = merged;
    }
}

/// Takes what is to be written. Cheap to clone.
#[derive(Clone, Default)]
pub struct Inventory {
    waiting: Mailbox<Waiting>,
}

impl Inventory {
    /// Adds changes of pods, in their order.
    pub fn pods(&self, changes: Vec<PodChange>) {
        if !changes.is_empty() {
            self.waiting.put(|waiting| changes.into_iter().for_each(|change| waiting.pod(change)));
        }
    }

    /// Adds what Kubernetes nodes say of where their pods run; `None` where one is gone.
    pub fn kube_nodes(&self, nodes: BTreeMap<Key<Arc<str>>, Option<Locality>>) {
        if !nodes.is_empty() {
            self.waiting.put(|waiting| waiting.nodes.extend(nodes));
        }
    }

    /// Says that all pods that the cluster has have been told since `since`: others are gone.
    pub fn prune(&self, cluster: ClusterName, since: Timestamp) {
        self.waiting.put(|waiting| {
            waiting.prune.insert(cluster, since);
        });
    }

    /// Adds an event of a node's history.
    pub fn event(&self, event: NodeEvent) {
        self.waiting.put(|waiting| {
            if waiting.events.len() >= EVENTS {
                waiting.events.pop_front();
            }
            waiting.events.push_back(event);
        });
    }

    /// Writes until `shutdown`, and then what is left.
    pub async fn write(self, store: Store, shutdown: CancellationToken) {
        write_behind(self.waiting, store, shutdown).await;
    }
}

/// The time, for the rooms that must not ask for it.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)
}
