//! Changes. Each one leaves the world whole; a batch is its changes one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cluster::ClusterData;
use super::overlay::target;
use super::{PodChange, Sync, Touched, World};
use crate::model::Timestamp;
use crate::model::id::{ClusterName, NamespacedName, PoolName};
use crate::model::object::{
    Access, Change, ClusterSpec, Object, ObjectKey, ObjectKind, Pod, Pool, Service, ServiceChoice,
};
use crate::model::policy::PolicySpec;
use crate::model::snapshot::UserSnapshot;

impl World {
    /// Takes changes in their order and says what they touched. A change that says what is known
    /// already touches nothing. A cluster that was never heard of is pending from here on.
    pub fn apply(&mut self, changes: Vec<Change>, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        for change in changes {
            self.step(change, now, &mut touched);
        }
        touched
    }

    /// Declares a cluster that will be heard of: until it is synced or unknown, the world is not
    /// ready.
    pub fn expect_cluster(&mut self, name: ClusterName, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        self.ensure(&name, now, &mut touched);
        touched
    }

    fn step(&mut self, change: Change, now: Timestamp, touched: &mut Touched) {
        match change {
            Change::Apply { cluster, object } => {
                self.ensure(&cluster, now, touched);
                self.put(&cluster, *object, touched);
            }
            Change::Delete { cluster, key } => self.remove(&cluster, &key, touched),
            Change::Synced { cluster } => self.set_sync(&cluster, Sync::Synced, now, touched),
            Change::Unknown { cluster, reason } => self.set_sync(&cluster, Sync::Unknown { reason }, now, touched),
            Change::Forget { cluster } => self.forget(&cluster, touched),
        }
    }

    fn ensure(&mut self, name: &ClusterName, now: Timestamp, touched: &mut Touched) {
        if !self.clusters.contains_key(name) {
            self.clusters.insert(name.clone(), ClusterData::new(name, now));
            touched.clusters.insert(name.clone());
            self.settle(touched);
            self.touch_snapshots_in(name, touched);
        }
    }

    fn put(&mut self, cluster: &ClusterName, object: Object, touched: &mut Touched) {
        match object {
            Object::Cluster(spec) => self.put_info(cluster, spec.name.clone(), Some(spec), touched),
            Object::Service(service) => self.put_service(cluster, service.id.clone(), Some(service), touched),
            Object::Slice(slice) => {
                let id = slice.id.clone();
                self.put_quiet(cluster, &id.namespace, touched, |data| data.put_slice(&id, Some(slice)));
            }
            Object::Pod(pod) => self.put_pod(cluster, pod.id.clone(), Some(pod), touched),
            Object::Node(node) => {
                let name = node.name.clone();
                self.put_node(cluster, touched, |data| data.put_node(&name, Some(node)));
            }
            Object::Access(access) => self.put_access(cluster, access.id.clone(), Some(access), touched),
            Object::Pool(pool) => self.put_pool(cluster, pool.name.clone(), Some(pool), touched),
            Object::Snapshot(snapshot) => self.put_snapshot(cluster, snapshot.id.clone(), Some(snapshot), touched),
            Object::Policy(policy) => self.put_policy(cluster, policy.name.clone(), Some(policy), touched),
            Object::Export(export) => self.put_export(cluster, export.id.clone(), Some(export), touched),
        }
    }

    fn remove(&mut self, cluster: &ClusterName, key: &ObjectKey, touched: &mut Touched) {
        if !self.clusters.contains_key(cluster) {
            return;
        }
        let id = NamespacedName::new(key.namespace.clone(), key.name.clone());
        match key.kind {
            ObjectKind::ClusterInfo => self.put_info(cluster, key.name.clone().into(), None, touched),
            ObjectKind::Service => self.put_service(cluster, id, None, touched),
            ObjectKind::EndpointSlice => {
                self.put_quiet(cluster, &key.namespace, touched, |data| data.put_slice(&id, None));
            }
            ObjectKind::Pod => self.put_pod(cluster, id, None, touched),
            ObjectKind::Node => self.put_node(cluster, touched, |data| data.put_node(&key.name, None)),
            ObjectKind::ClusterAccess => self.put_access(cluster, id, None, touched),
            ObjectKind::VipPool => self.put_pool(cluster, key.name.clone().into(), None, touched),
            ObjectKind::EndpointSnapshot => self.put_snapshot(cluster, id, None, touched),
            ObjectKind::Policy => self.put_policy(cluster, key.name.clone(), None, touched),
            ObjectKind::ServiceExport => self.put_export(cluster, id, None, touched),
        }
    }

    /// For objects that only change the endpoints of services in their own namespace.
    fn put_quiet(
        &mut self,
        cluster: &ClusterName,
        namespace: &str,
        touched: &mut Touched,
        put: impl FnOnce(&mut ClusterData) -> BTreeSet<NamespacedName>,
    ) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        let services = put(data);
        if data.sees(namespace) {
            touched.services.extend(services);
        }
    }

    /// Nodes belong to no namespace; the services on one may be of excluded namespaces.
    fn put_node(
        &mut self,
        cluster: &ClusterName,
        touched: &mut Touched,
        put: impl FnOnce(&mut ClusterData) -> BTreeSet<NamespacedName>,
    ) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        let services = put(data);
        touched.services.extend(services.into_iter().filter(|id| data.sees(&id.namespace)));
    }

    fn put_service(
        &mut self,
        cluster: &ClusterName,
        id: NamespacedName,
        service: Option<Service>,
        touched: &mut Touched,
    ) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.services.get(&id) == service.as_ref() {
            return;
        }
        let sees = data.sees(&id.namespace);
        let is_there = service.is_some();
        let before = usize::from(data.service(&id).is_some());
        match service {
            Some(service) => drop(data.services.insert(id.clone(), service)),
            None => drop(data.services.remove(&id)),
        }
        data.state.counts.services = data.state.counts.services + usize::from(data.service(&id).is_some()) - before;
        match is_there {
            true => drop(self.holders.entry(id.clone()).or_default().insert(cluster.clone())),
            false => self.release(&id, cluster),
        }
        if sees {
            self.derive(&id, touched);
            self.touch_service(id, touched);
        }
    }

    fn release(&mut self, service: &NamespacedName, cluster: &ClusterName) {
        if let Some(holders) = self.holders.get_mut(service) {
            holders.remove(cluster);
            if holders.is_empty() {
                self.holders.remove(service);
            }
        }
    }

    /// A Service itself changed: besides the service, every access of the namespace that might
    /// choose it now, or did so before.
    pub(super) fn touch_service(&self, id: NamespacedName, touched: &mut Touched) {
        let choosers = self.accesses_in(&id.namespace).filter(|access| match &access.service {
            ServiceChoice::Name(name) => *name == id.name,
            ServiceChoice::Selector(_) => true,
        });
        touched.accesses.extend(choosers.map(|access| access.id.clone()));
        touched.services.insert(id);
    }

    fn put_pod(&mut self, cluster: &ClusterName, id: NamespacedName, pod: Option<Pod>, touched: &mut Touched) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.pods.get(&id).map(|pod| &**pod) == pod.as_ref() {
            return;
        }
        let pod = pod.map(Arc::new);
        let services = data.put_pod(&id, pod.clone());
        if data.sees(&id.namespace) {
            touched.services.extend(services);
            let cluster = cluster.clone();
            touched.pods.push(match pod {
                Some(pod) => PodChange::Upsert { cluster, pod },
                None => PodChange::Delete { cluster, id },
            });
        }
    }

    fn put_access(&mut self, cluster: &ClusterName, id: NamespacedName, access: Option<Access>, touched: &mut Touched) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.accesses.get(&id).map(|access| &**access) == access.as_ref() {
            return;
        }
        match access {
            Some(access) => data.accesses.insert(id.clone(), Arc::new(access)),
            None => data.accesses.remove(&id),
        };
        if self.primary.as_ref() == Some(cluster) && data.sees(&id.namespace) {
            touched.accesses.insert(id);
        }
    }

    fn put_pool(&mut self, cluster: &ClusterName, name: PoolName, pool: Option<Pool>, touched: &mut Touched) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.pools.get(&name).map(|pool| &**pool) == pool.as_ref() {
            return;
        }
        match pool {
            Some(pool) => data.pools.insert(name, Arc::new(pool)),
            None => data.pools.remove(&name),
        };
        touched.pools |= self.primary.as_ref() == Some(cluster);
        self.settle(touched);
    }

    fn put_policy(&mut self, cluster: &ClusterName, name: Arc<str>, policy: Option<PolicySpec>, touched: &mut Touched) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.policies.get(&name).map(|policy| &**policy) == policy.as_ref() {
            return;
        }
        match policy {
            Some(policy) => data.policies.insert(name, Arc::new(policy)),
            None => data.policies.remove(&name),
        };
        touched.policies |= self.primary.as_ref() == Some(cluster);
    }

    fn put_snapshot(
        &mut self,
        cluster: &ClusterName,
        id: NamespacedName,
        snapshot: Option<UserSnapshot>,
        touched: &mut Touched,
    ) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.snapshot(&id).map(|snapshot| &**snapshot) == snapshot.as_ref() {
            return;
        }
        let new = snapshot.map(Arc::new);
        let old = data.put_snapshot(&id, new.clone());
        if self.primary.as_ref() == Some(cluster) && data.sees(&id.namespace) {
            touch_snapshots(data, old.iter().chain(&new), touched);
        }
    }

    fn put_info(&mut self, cluster: &ClusterName, name: ClusterName, spec: Option<ClusterSpec>, touched: &mut Touched) {
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.infos.get(&name) == spec.as_ref() {
            return;
        }
        match spec {
            Some(spec) => data.infos.insert(name, spec),
            None => data.infos.remove(&name),
        };
        self.settle(touched);
    }

    fn set_sync(&mut self, cluster: &ClusterName, sync: Sync, now: Timestamp, touched: &mut Touched) {
        self.ensure(cluster, now, touched);
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.state.sync == sync {
            return;
        }
        let was_stale = data.is_stale();
        // A new reason for the same trouble does not make it younger.
        if !(was_stale && matches!(sync, Sync::Unknown { .. })) {
            data.state.since = now;
        }
        data.state.sync = sync;
        touched.clusters.insert(cluster.clone());
        if was_stale != data.is_stale() {
            let stale = data.services_with_slices().filter(|id| data.sees(&id.namespace)).cloned();
            touched.services.extend(stale);
            if self.primary.as_ref() == Some(cluster) {
                touch_snapshots(data, data.snapshots(), touched);
            }
        }
    }

    fn forget(&mut self, cluster: &ClusterName, touched: &mut Touched) {
        // Services first, while the primary's accesses are still there to be touched.
        let Some(data) = self.clusters.get(cluster) else { return };
        let services: Vec<NamespacedName> = data.services.keys().cloned().collect();
        let exports: Vec<NamespacedName> = data.exports.keys().cloned().collect();
        for id in &services {
            self.release(id, cluster);
            self.touch_service(id.clone(), touched);
        }
        self.touch_snapshots_in(cluster, touched);
        if self.primary.as_ref() == Some(cluster) {
            self.touch_own(cluster, touched);
            self.primary = None;
        }
        self.clusters.remove(cluster);
        for id in &exports {
            self.cease_export(id, cluster);
            self.touch_service(id.clone(), touched);
            self.derive(id, touched);
        }
        touched.clusters.insert(cluster.clone());
        touched.pods.push(PodChange::ForgetCluster { cluster: cluster.clone() });
        self.settle(touched);
    }

    /// Finds anew which cluster is the primary and what holds of each, after something changed on
    /// which that depends. These are few and rarely change; everything else never comes here.
    pub(super) fn settle(&mut self, touched: &mut Touched) {
        let primary = self.find_primary();
        if primary != self.primary {
            let old = std::mem::replace(&mut self.primary, primary);
            for cluster in [old, self.primary.clone()].into_iter().flatten() {
                self.touch_own(&cluster, touched);
            }
        }
        let names: Vec<ClusterName> = self.clusters.keys().cloned().collect();
        for name in names {
            let spec = self.find_spec(&name);
            self.set_spec(&name, spec, touched);
        }
    }

    /// Everything that differs when the cluster becomes the primary or ceases to be it: its
    /// accesses, pools and users' snapshots, and who wins conflicts of its services.
    fn touch_own(&self, cluster: &ClusterName, touched: &mut Touched) {
        let Some(data) = self.clusters.get(cluster) else { return };
        touched.accesses.extend(data.accesses.keys().cloned());
        touched.accesses.extend(self.exports.derived.keys().cloned());
        touched.pools |= !data.pools.is_empty();
        touched.policies |= !data.policies.is_empty();
        touch_snapshots(data, data.snapshots(), touched);
        for id in data.services.keys() {
            self.touch_service(id.clone(), touched);
        }
    }

    /// What users say of a cluster's backends has an effect only while the cluster is there, and goes by what holds of it.
    fn touch_snapshots_in(&self, cluster: &ClusterName, touched: &mut Touched) {
        let Some(data) = self.primary_data() else { return };
        let is_primary = self.primary.as_ref() == Some(cluster);
        let is_of =
            |snapshot: &&Arc<UserSnapshot>| snapshot.cluster.as_ref().map_or(is_primary, |name| name == cluster);
        touch_snapshots(data, data.snapshots().filter(is_of), touched);
    }

    fn set_spec(&mut self, cluster: &ClusterName, spec: ClusterSpec, touched: &mut Touched) {
        let is_primary = self.primary.as_ref() == Some(cluster);
        let Some(data) = self.clusters.get_mut(cluster) else { return };
        if data.state.spec == spec {
            return;
        }
        touched.clusters.insert(cluster.clone());
        let old = std::mem::replace(&mut data.state.spec, spec);
        let new = &data.state.spec;
        if (&old.network, &old.locality) != (&new.network, &new.locality) {
            touched.services.extend(data.services_with_slices().filter(|id| data.sees(&id.namespace)).cloned());
        }
        if old.excluded_namespaces == new.excluded_namespaces {
            return self.touch_snapshots_in(cluster, touched);
        }
        data.recount();
        self.touch_snapshots_in(cluster, touched);
        let Some(data) = self.clusters.get(cluster) else { return };
        let flipped: BTreeSet<&Arc<str>> =
            old.excluded_namespaces.symmetric_difference(&data.state.spec.excluded_namespaces).collect();
        if is_primary {
            touched.accesses.extend(data.accesses.keys().filter(|id| flipped.contains(&id.namespace)).cloned());
            touch_snapshots(data, data.snapshots().filter(|s| flipped.contains(&s.id.namespace)), touched);
        }
        let mut differ: BTreeSet<NamespacedName> = data.services.keys().cloned().collect();
        differ.extend(data.exports.keys().cloned());
        differ.retain(|id| flipped.contains(&id.namespace));
        for id in &differ {
            self.touch_service(id.clone(), touched);
        }
        for pod in data.pods.iter().filter(|pod| flipped.contains(&pod.id.namespace)) {
            let cluster = cluster.clone();
            touched.pods.push(if data.sees(&pod.id.namespace) {
                PodChange::Upsert { cluster, pod: pod.clone() }
            } else {
                PodChange::Delete { cluster, id: pod.id.clone() }
            });
        }
        for id in &differ {
            self.derive(id, touched);
        }
    }
}

/// Users' snapshots that the primary has or had, and the services that they are about.
fn touch_snapshots<'a>(
    primary: &ClusterData,
    snapshots: impl Iterator<Item = &'a Arc<UserSnapshot>>,
    touched: &mut Touched,
) {
    for snapshot in snapshots {
        let access = primary.accesses.get(&snapshot.access_id()).map(AsRef::as_ref);
        touched.services.insert(target(snapshot, access));
        touched.snapshots.insert(snapshot.id.clone());
    }
}
