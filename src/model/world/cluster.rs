//! One cluster's objects, as they were said, and the indexes that keep a change's work small.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{AddAssign, SubAssign};
use std::sync::Arc;

use serde::Serialize;

use super::pods::Pods;
use crate::model::Timestamp;
use crate::model::export::ServiceExport;
use crate::model::id::{ClusterName, NamespacedName, PoolName};
use crate::model::object::{
    Access, ClusterRole, ClusterSpec, EndpointSlice, KubeNode, Locality, Pod, Pool, Service, SliceEndpoint,
};
use crate::model::policy::PolicySpec;
use crate::model::snapshot::UserSnapshot;

/// The network of a cluster that says none.
pub const DEFAULT_NETWORK: &str = "default";

/// How far a cluster's source has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Sync {
    /// The first list is not complete yet.
    Pending,
    /// Everything that the cluster has is known.
    Synced,
    /// The cluster cannot be read; what was last known of it stays.
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

/// How many objects of a cluster are seen, those of excluded namespaces left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Services.
    pub services: usize,
    /// Endpoints in slices, counted as the slices list them.
    pub endpoints: usize,
    /// Pods.
    pub pods: usize,
    /// Kubernetes nodes.
    pub nodes: usize,
}

/// What is shown of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterState {
    /// Its name.
    pub name: ClusterName,
    /// What holds of it: from its `ClusterInfo`, else the default. The role is the effective one,
    /// so at most one cluster is `Primary`.
    pub spec: ClusterSpec,
    /// How far its source has come.
    pub sync: Sync,
    /// When `sync` became what it is.
    pub since: Timestamp,
    /// How much it has.
    pub counts: Counts,
}

/// What holds of a cluster for which there is no `ClusterInfo`.
pub(super) fn default_spec(name: &ClusterName) -> ClusterSpec {
    ClusterSpec {
        name: name.clone(),
        role: ClusterRole::Sub,
        network: Arc::from(DEFAULT_NETWORK),
        locality: Locality::default(),
        excluded_namespaces: BTreeSet::new(),
    }
}

/// Which services use a thing, and in how many endpoints.
type Users = HashMap<NamespacedName, usize>;

/// One cluster. Objects of excluded namespaces are kept as well, because a source tells each
/// object once and the exclusion may be lifted; [`ClusterData::sees`] decides what counts.
pub(super) struct ClusterData {
    pub state: ClusterState,
    pub infos: BTreeMap<ClusterName, ClusterSpec>,
    pub services: HashMap<NamespacedName, Service>,
    pub accesses: BTreeMap<NamespacedName, Arc<Access>>,
    pub pools: BTreeMap<PoolName, Arc<Pool>>,
    pub policies: BTreeMap<Arc<str>, Arc<PolicySpec>>,
    pub pods: Pods,
    pub exports: HashMap<NamespacedName, ServiceExport>,
    snapshots: BTreeMap<NamespacedName, Arc<UserSnapshot>>,
    /// By access, in the order of their names, in which the last word counts.
    snapshots_of: HashMap<NamespacedName, BTreeSet<NamespacedName>>,
    nodes: HashMap<Arc<str>, KubeNode>,
    slices: HashMap<NamespacedName, EndpointSlice>,
    /// Ordered, so that endpoints come in the same order on every replica.
    slices_of: HashMap<NamespacedName, BTreeSet<NamespacedName>>,
    users_of_node: HashMap<Arc<str>, Users>,
}

impl ClusterData {
    pub fn new(name: &ClusterName, now: Timestamp) -> Self {
        let spec = default_spec(name);
        let state =
            ClusterState { name: name.clone(), spec, sync: Sync::Pending, since: now, counts: Counts::default() };
        Self {
            state,
            infos: BTreeMap::new(),
            services: HashMap::new(),
            accesses: BTreeMap::new(),
            pools: BTreeMap::new(),
            policies: BTreeMap::new(),
            pods: Pods::default(),
            exports: HashMap::new(),
            snapshots: BTreeMap::new(),
            snapshots_of: HashMap::new(),
            nodes: HashMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
            users_of_node: HashMap::new(),
        }
    }

    /// Whether objects of the namespace count.
    pub fn sees(&self, namespace: &str) -> bool {
        !self.state.spec.excluded_namespaces.contains(namespace)
    }

    /// Whether what is known of the cluster may be out of date.
    pub fn is_stale(&self) -> bool {
        matches!(self.state.sync, Sync::Unknown { .. })
    }

    /// The cluster's Service of this name, if it counts. One of type ExternalName is another name for something else,
    /// and has no endpoints.
    pub fn service(&self, id: &NamespacedName) -> Option<&Service> {
        self.services.get(id).filter(|service| self.counts(service))
    }

    /// Whether the Service counts.
    pub fn counts(&self, service: &Service) -> bool {
        self.sees(&service.id.namespace) && !service.traits.external_name
    }

    /// The cluster's ServiceExport of this name, if it counts.
    pub fn export(&self, id: &NamespacedName) -> Option<&ServiceExport> {
        self.exports.get(id).filter(|_| self.sees(&id.namespace))
    }

    /// The service's slices, in the order of their names.
    pub fn slices_of(&self, id: &NamespacedName) -> impl Iterator<Item = &EndpointSlice> {
        self.slices_of.get(id).into_iter().flatten().filter_map(|slice| self.slices.get(slice))
    }

    /// Services of which there are slices, whether or not they exist.
    pub fn services_with_slices(&self) -> impl Iterator<Item = &NamespacedName> {
        self.slices_of.keys()
    }

    /// Puts a slice in place or takes it away. Returns the services whose endpoints may differ.
    pub fn put_slice(&mut self, id: &NamespacedName, slice: Option<EndpointSlice>) -> BTreeSet<NamespacedName> {
        if self.slices.get(id) == slice.as_ref() {
            return BTreeSet::new();
        }
        let mut touched = BTreeSet::new();
        if let Some(old) = self.slices.remove(id) {
            let service = service_of(&old);
            remove_member(&mut self.slices_of, &service, id);
            self.count_users(&old, &service, Count::Less);
            touched.insert(service);
        }
        if let Some(new) = slice {
            let service = service_of(&new);
            self.slices_of.entry(service.clone()).or_default().insert(id.clone());
            self.count_users(&new, &service, Count::More);
            self.slices.insert(id.clone(), new);
            touched.insert(service);
        }
        touched
    }

    fn count_users(&mut self, slice: &EndpointSlice, service: &NamespacedName, count: Count) {
        if self.sees(&slice.id.namespace) {
            count.apply(&mut self.state.counts.endpoints, slice.endpoints.len());
        }
        for endpoint in &slice.endpoints {
            if let Some(node) = &endpoint.node {
                count_user(&mut self.users_of_node, node, service, count);
            }
            if let Some(pod) = &endpoint.pod {
                self.pods.count_user(&slice.id.namespace, pod, &service.name, count);
            }
        }
    }

    /// Puts a Kubernetes node in place or takes it away. Returns the services with endpoints on it,
    /// if its place changed.
    pub fn put_node(&mut self, name: &Arc<str>, node: Option<KubeNode>) -> BTreeSet<NamespacedName> {
        if self.nodes.get(name) == node.as_ref() {
            return BTreeSet::new();
        }
        match node {
            Some(node) => self.nodes.insert(name.clone(), node),
            None => self.nodes.remove(name),
        };
        self.state.counts.nodes = self.nodes.len();
        self.users_of_node.get(name).into_iter().flat_map(HashMap::keys).cloned().collect()
    }

    /// Puts a pod in place or takes it away. Returns the services with endpoints on it, if its
    /// weight changed.
    pub fn put_pod(&mut self, id: &NamespacedName, pod: Option<Arc<Pod>>) -> BTreeSet<NamespacedName> {
        let weight = self.weight(id);
        let is_there = pod.is_some();
        let was_there = self.pods.put(id, pod).is_some();
        if was_there != is_there && self.sees(&id.namespace) {
            let count = if is_there { Count::More } else { Count::Less };
            count.apply(&mut self.state.counts.pods, 1);
        }
        if weight == self.weight(id) { BTreeSet::new() } else { self.pods.users(id) }
    }

    /// The pod's share of traffic; 1 where the pod is not known.
    pub fn weight(&self, pod: &NamespacedName) -> u32 {
        self.pods.get(pod).map_or(1, |pod| pod.weight.clamp(1, 1000))
    }

    /// The users' snapshots, in the order of their names, whether or not they count.
    pub fn snapshots(&self) -> impl Iterator<Item = &Arc<UserSnapshot>> {
        self.snapshots.values()
    }

    /// A user's snapshot, whether or not it counts.
    pub fn snapshot(&self, id: &NamespacedName) -> Option<&Arc<UserSnapshot>> {
        self.snapshots.get(id)
    }

    /// The users' snapshots of an access, in the order of their names, whether or not they count.
    pub fn snapshots_of(&self, access: &NamespacedName) -> impl Iterator<Item = &Arc<UserSnapshot>> {
        self.snapshots_of.get(access).into_iter().flatten().filter_map(|id| self.snapshots.get(id))
    }

    /// Puts a user's snapshot in place or takes it away. Returns what was there before.
    pub fn put_snapshot(
        &mut self,
        id: &NamespacedName,
        snapshot: Option<Arc<UserSnapshot>>,
    ) -> Option<Arc<UserSnapshot>> {
        let old = self.snapshots.remove(id);
        if let Some(old) = &old {
            remove_member(&mut self.snapshots_of, &old.access_id(), id);
        }
        if let Some(new) = snapshot {
            self.snapshots_of.entry(new.access_id()).or_default().insert(id.clone());
            self.snapshots.insert(id.clone(), new);
        }
        old
    }

    /// Where an endpoint runs. The slice knows best; then the Kubernetes node; then the cluster's own place.
    pub fn locality(&self, endpoint: &SliceEndpoint) -> Locality {
        let node = endpoint.node.as_ref().and_then(|node| self.nodes.get(node));
        let mut said = node.map_or_else(Locality::default, |node| node.locality.clone());
        if let Some(zone) = endpoint.zone.as_ref().filter(|zone| !zone.is_empty()) {
            said.zone = zone.clone();
        }
        self.filled(&said)
    }

    /// A place of which the cluster's own fills what is not said, but never joins its zone to another region.
    pub fn filled(&self, said: &Locality) -> Locality {
        let own = &self.state.spec.locality;
        let or_own = |said: &Arc<str>, own: &Arc<str>| if said.is_empty() { own.clone() } else { said.clone() };
        let region = or_own(&said.region, &own.region);
        let zone = if region == own.region { or_own(&said.zone, &own.zone) } else { said.zone.clone() };
        Locality { region, zone }
    }

    /// Counts anew what is seen, after the exclusion of namespaces changed.
    pub fn recount(&mut self) {
        let counts = Counts {
            services: self.services.values().filter(|service| self.counts(service)).count(),
            endpoints: self.slices.values().filter(|s| self.sees(&s.id.namespace)).map(|s| s.endpoints.len()).sum(),
            pods: self.pods.iter().filter(|pod| self.sees(&pod.id.namespace)).count(),
            nodes: self.nodes.len(),
        };
        self.state.counts = counts;
    }
}

/// The service that a slice is of.
fn service_of(slice: &EndpointSlice) -> NamespacedName {
    NamespacedName::new(slice.id.namespace.clone(), slice.service.clone())
}

/// One more or one less.
#[derive(Clone, Copy)]
pub(super) enum Count {
    More,
    Less,
}

impl Count {
    pub fn apply<N: AddAssign + SubAssign>(self, total: &mut N, by: N) {
        match self {
            Count::More => *total += by,
            Count::Less => *total -= by,
        }
    }
}

fn count_user(table: &mut HashMap<Arc<str>, Users>, key: &Arc<str>, service: &NamespacedName, count: Count) {
    let users = table.entry(key.clone()).or_default();
    let uses = users.entry(service.clone()).or_default();
    count.apply(uses, 1);
    if *uses == 0 {
        users.remove(service);
    }
    if users.is_empty() {
        table.remove(key);
    }
}

fn remove_member(
    table: &mut HashMap<NamespacedName, BTreeSet<NamespacedName>>,
    key: &NamespacedName,
    member: &NamespacedName,
) {
    if let Some(members) = table.get_mut(key) {
        members.remove(member);
        if members.is_empty() {
            table.remove(key);
        }
    }
}
