//! The truth as the clusters tell it, merged. [`World::apply`] takes changes and says what they
//! touched; queries answer from the indexes, so a change costs what it touches.
//!
//! Objects of the same kind and namespaced name in several clusters are one thing (KEP-1645,
//! "namespace sameness"). A cluster that cannot be read keeps what was last known of it, marked
//! stale: unknown is not empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::id::{ClusterName, NamespacedName, PoolName};
use super::object::{Access, ObjectKey, Pod, Pool, ServiceChoice};
use super::policy::PolicySpec;

mod apply;
mod cluster;
mod conflicts;
mod effects;
mod exports;
mod imports;
mod merge;
mod overlay;
mod pods;
mod primary;
#[cfg(test)]
mod tests;

pub use cluster::{ClusterState, Counts, DEFAULT_NETWORK, Sync};
pub use effects::{NoEffect, SnapshotEffect};
pub use imports::{ExportCondition, ExportState, Import, ImportEndpoint, ImportKind, ImportPort, ImportSlice};
pub use merge::MergedService;
pub use overlay::AccessScope;

use cluster::ClusterData;
use exports::{Exports, by_name};

/// What a change to a pod means for whoever mirrors the pods. To be taken in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum PodChange {
    /// The pod is there, in this form.
    Upsert {
        /// Its cluster.
        cluster: ClusterName,
        /// The pod.
        pod: Arc<Pod>,
    },
    /// The pod is gone, or its namespace is excluded now.
    Delete {
        /// Its cluster.
        cluster: ClusterName,
        /// Its name.
        id: NamespacedName,
    },
    /// All pods of the cluster are gone with it.
    ForgetCluster {
        /// The cluster.
        cluster: ClusterName,
    },
}

/// What changes touched. It may name more than what differs, never less.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Touched {
    /// Services whose merged form or endpoints may differ, for all accesses or for one.
    pub services: BTreeSet<NamespacedName>,
    /// Accesses that themselves, or whose choice of services, may differ. Endpoints of their
    /// services are told by `services` alone.
    pub accesses: BTreeSet<NamespacedName>,
    /// Users' snapshots that themselves may differ, or that are gone. Endpoints that differ for them are told by
    /// `services`.
    pub snapshots: BTreeSet<NamespacedName>,
    /// Pools differ.
    pub pools: bool,
    /// Policies differ.
    pub policies: bool,
    /// Clusters whose spec or sync state differs, or that are gone.
    pub clusters: BTreeSet<ClusterName>,
    /// Changes to pods, in order.
    pub pods: Vec<PodChange>,
}

impl Touched {
    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what a later change touched.
    pub fn merge(&mut self, later: Touched) {
        self.services.extend(later.services);
        self.accesses.extend(later.accesses);
        self.snapshots.extend(later.snapshots);
        self.pools |= later.pools;
        self.policies |= later.policies;
        self.clusters.extend(later.clusters);
        self.pods.extend(later.pods);
    }
}

/// An object that has no effect where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    /// The cluster that has it.
    pub cluster: ClusterName,
    /// The object.
    pub object: ObjectKey,
    /// Why it has no effect, and what would mend it, for people.
    pub reason: String,
}

/// Everything that the clusters said.
#[derive(Default)]
pub struct World {
    clusters: BTreeMap<ClusterName, ClusterData>,
    /// The cluster whose accesses, pools and users' snapshots count.
    primary: Option<ClusterName>,
    /// The cluster that shall be the primary whatever the clusters say.
    chosen_primary: Option<ClusterName>,
    /// Which clusters have a Service of this name, excluded namespaces included.
    holders: BTreeMap<NamespacedName, BTreeSet<ClusterName>>,
    exports: Exports,
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// The clusters by name.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterState> {
        self.clusters.values().map(|cluster| &cluster.state)
    }

    /// One cluster.
    pub fn cluster(&self, name: &ClusterName) -> Option<&ClusterState> {
        self.clusters.get(name).map(|cluster| &cluster.state)
    }

    /// The cluster whose accesses and pools count.
    pub fn primary(&self) -> Option<&ClusterName> {
        self.primary.as_ref()
    }

    /// Whether there is a cluster and every cluster is synced or declared unknown. Before that,
    /// nothing may be served, because what is missing would look like what is gone.
    pub fn ready(&self) -> bool {
        !self.clusters.is_empty() && self.waiting_for().next().is_none()
    }

    /// The clusters whose first list is not complete.
    pub fn waiting_for(&self) -> impl Iterator<Item = &ClusterName> {
        self.clusters().filter(|state| state.sync == Sync::Pending).map(|state| &state.name)
    }

    /// The accesses that count, by name, those that follow from exports among them.
    pub fn accesses(&self) -> impl Iterator<Item = &Arc<Access>> {
        let primary = self.primary_data();
        let declared = primary
            .into_iter()
            .flat_map(|data| data.accesses.values().filter(|access| data.sees(&access.id.namespace)));
        by_name(declared, self.derived_from(NamespacedName::new("", "")))
    }

    /// One access, if it counts: the ClusterAccess, else the one that follows from exports.
    pub fn access(&self, id: &NamespacedName) -> Option<&Arc<Access>> {
        self.declared(id).or_else(|| self.derived(id))
    }

    /// The pools that count, by name.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.primary_data().into_iter().flat_map(|data| data.pools.values())
    }

    /// One pool, if it counts.
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<Pool>> {
        self.primary_data()?.pools.get(name)
    }

    /// The policies that count, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<PolicySpec>> {
        self.primary_data().into_iter().flat_map(|data| data.policies.values())
    }

    /// The services that an access chooses and that exist in a cluster it names, by name.
    pub fn services_of(&self, access: &Access) -> Vec<NamespacedName> {
        match &access.service {
            ServiceChoice::Name(name) => {
                let id = NamespacedName::new(access.id.namespace.clone(), name.clone());
                if self.exists(&id, &access.clusters) { vec![id] } else { Vec::new() }
            }
            ServiceChoice::Selector(selector) => self
                .holders_in(&access.id.namespace)
                .filter_map(|id| self.service_in(id, &access.clusters))
                .filter(|service| selector.matches(&service.labels))
                .map(|service| service.id)
                .collect(),
        }
    }

    /// The accesses that choose the service, by name. One that names the service is told even
    /// while the service does not exist.
    pub fn accesses_of(&self, service: &NamespacedName) -> Vec<NamespacedName> {
        self.accesses_in(&service.namespace)
            .filter(|access| match &access.service {
                ServiceChoice::Name(name) => *name == service.name,
                ServiceChoice::Selector(selector) => {
                    self.service_in(service, &access.clusters).is_some_and(|merged| selector.matches(&merged.labels))
                }
            })
            .map(|access| access.id.clone())
            .collect()
    }

    /// A pod of a cluster, if it is seen.
    pub fn pod(&self, cluster: &ClusterName, id: &NamespacedName) -> Option<&Arc<Pod>> {
        self.clusters.get(cluster).filter(|data| data.sees(&id.namespace))?.pods.get(id)
    }

    /// How many pods are seen in all clusters.
    pub fn pods_count(&self) -> usize {
        self.clusters().map(|state| state.counts.pods).sum()
    }

    /// Every pod that is seen, by cluster, in no order within one.
    pub fn pods(&self) -> impl Iterator<Item = (&ClusterName, &Arc<Pod>)> {
        self.clusters.iter().flat_map(|(name, data)| {
            data.pods.iter().filter(|pod| data.sees(&pod.id.namespace)).map(move |pod| (name, pod))
        })
    }

    fn primary_data(&self) -> Option<&ClusterData> {
        self.clusters.get(self.primary.as_ref()?)
    }

    /// The accesses of a namespace, through the order of their names.
    fn accesses_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Arc<Access>> {
        let first = NamespacedName::new(namespace.clone(), "");
        let from = first.clone();
        let primary = self.primary_data().filter(|data| data.sees(namespace)).into_iter();
        let declared = primary.flat_map(move |data| data.accesses.range(from.clone()..).map(|(_, access)| access));
        let namespace = namespace.clone();
        by_name(declared, self.derived_from(first)).take_while(move |access| access.id.namespace == namespace)
    }

    /// The names of a namespace's services, through the order of their names.
    fn holders_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = &NamespacedName> {
        let namespace = namespace.clone();
        self.holders
            .range(NamespacedName::new(namespace.clone(), "")..)
            .take_while(move |(id, _)| id.namespace == namespace)
            .map(|(id, _)| id)
    }
}
