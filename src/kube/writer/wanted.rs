//! What shall be on the primary's API server, by the latest word of those who know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::seen::{Kind, LABELS, Seen, Target, hash};
use super::{slices, status};
use crate::kube::kinds::{
    API_VERSION, ClusterAccessStatus, EndpointSnapshotSpec, EndpointSnapshotStatus, SnapshotOwner, VipPoolStatus,
    VirtualIpStatus,
};
use crate::kube::outbox::{ClusterConnection, ClusterSeen, SnapshotContent, SnapshotKey, Waiting};
use crate::kube::virtual_ips::{address_of, name_of};
use crate::model::id::{ClusterName, NamespacedName, PoolName};

/// An access's pods in one cluster, and into how many objects they go.
struct Sliced {
    content: Arc<SnapshotContent>,
    count: usize,
}

/// One of the objects of an access's pods.
#[derive(Clone)]
struct Slice {
    key: SnapshotKey,
    index: usize,
}

/// All that shall be there.
#[derive(Default)]
pub(super) struct Wanted {
    seen: BTreeMap<ClusterName, ClusterSeen>,
    connections: BTreeMap<ClusterName, ClusterConnection>,
    accesses: BTreeMap<NamespacedName, ClusterAccessStatus>,
    pools: BTreeMap<PoolName, VipPoolStatus>,
    vips: BTreeMap<IpAddr, VirtualIpStatus>,
    users: BTreeMap<NamespacedName, EndpointSnapshotStatus>,
    sliced: BTreeMap<SnapshotKey, Sliced>,
    slices: BTreeMap<NamespacedName, Slice>,
    /// Everything that there is was told, so that what was not is no more.
    pub is_complete: bool,
}

impl Wanted {
    /// Takes in what waited; gives the objects that may differ by it. `there` says how many slices of a key there are.
    pub fn take(&mut self, waiting: Waiting, there: impl Fn(&SnapshotKey) -> usize) -> BTreeSet<Target> {
        let mut touched = BTreeSet::new();
        for (name, seen) in waiting.seen {
            touched.insert(Target::of_cluster(Kind::ClusterInfo, name.as_str()));
            put(&mut self.seen, name, seen);
        }
        for (name, connection) in waiting.connections {
            touched.insert(Target::of_cluster(Kind::ClusterInfo, name.as_str()));
            put(&mut self.connections, name, connection);
        }
        for (name, status) in waiting.pools {
            touched.insert(Target::of_cluster(Kind::VipPool, name.as_str()));
            put(&mut self.pools, name, status);
        }
        for (address, status) in waiting.vips {
            touched.insert(Target::of_cluster(Kind::VirtualIp, name_of(address)));
            put(&mut self.vips, address, status);
        }
        for (id, status) in waiting.accesses {
            touched.insert(Target { kind: Kind::ClusterAccess, id: id.clone() });
            put(&mut self.accesses, id, status);
        }
        for (id, status) in waiting.user_snapshots {
            touched.insert(Target { kind: Kind::EndpointSnapshot, id: id.clone() });
            put(&mut self.users, id, status);
        }
        for (key, content) in waiting.snapshots {
            let before = self.sliced.get(&key).map_or_else(|| there(&key), |sliced| sliced.count);
            touched.extend(self.slice(key, content, before));
        }
        self.is_complete |= waiting.complete;
        touched
    }

    fn slice(
        &mut self,
        key: SnapshotKey,
        content: Option<Arc<SnapshotContent>>,
        before: usize,
    ) -> impl Iterator<Item = Target> {
        let base = slices::base_name(&key);
        let namespace = key.access.namespace.clone();
        let id = move |index: usize| NamespacedName::new(namespace.clone(), format!("{base}.{index}"));
        let count = content.as_ref().map_or(0, |content| slices::count(&content.pods, before));
        for index in 0..count {
            self.slices.insert(id(index), Slice { key: key.clone(), index });
        }
        for index in count..before {
            self.slices.remove(&id(index));
        }
        match content {
            Some(content) => drop(self.sliced.insert(key, Sliced { content, count })),
            None => drop(self.sliced.remove(&key)),
        }
        (0..count.max(before)).map(move |index| Target { kind: Kind::EndpointSnapshot, id: id(index) })
    }

    /// The status to write to an object; nothing where nothing differs or nothing is to be said.
    pub fn status(&self, target: &Target, seen: &Seen, now: &str) -> Option<Value> {
        let name = &*target.id.name;
        match target.kind {
            Kind::ClusterInfo => {
                let (connection, cluster) = (self.connections.get(name), self.seen.get(name));
                connection.is_some().then_some(())?;
                status::differs(status::cluster(connection, cluster), &seen.status, now)
            }
            Kind::ClusterAccess => status::differs(self.accesses.get(&target.id)?.clone(), &seen.status, now),
            Kind::VipPool => {
                let mut status = self.pools.get(name)?.clone();
                status.observed_generation = seen.generation;
                for condition in &mut status.conditions {
                    condition.observed_generation = seen.generation;
                }
                status::differs(status, &seen.status, now)
            }
            Kind::VirtualIp => status::differs(self.vips.get(&address_of(name)?)?.clone(), &seen.status, now),
            Kind::EndpointSnapshot => match self.slices.get(&target.id).and_then(|slice| self.sliced.get(&slice.key)) {
                Some(Sliced { content, .. }) => {
                    status::differs(status::snapshot(&content.vips, &content.hostnames), &seen.status, now)
                }
                None => {
                    let mut status = self.users.get(&target.id)?.clone();
                    for condition in &mut status.conditions {
                        condition.observed_generation = seen.generation;
                    }
                    status::differs(status, &seen.status, now)
                }
            },
        }
    }

    /// Whether an EndpointSnapshot is one of those that Causeway writes.
    pub fn is_slice(&self, target: &Target) -> bool {
        target.kind == Kind::EndpointSnapshot && self.slices.contains_key(&target.id)
    }

    /// The whole object of a slice, and the hash of what it says.
    pub fn object(&self, target: &Target, access_uid: &str) -> Option<(u64, Value)> {
        let slice = self.slices.get(&target.id)?;
        let Sliced { content, count } = self.sliced.get(&slice.key)?;
        let SnapshotKey { access, service, cluster } = &slice.key;
        let pods = content.pods.iter().filter(|pod| slices::index(&pod.name, *count) == slice.index);
        let spec = EndpointSnapshotSpec {
            owner: Some(SnapshotOwner::System),
            access: access.name.to_string(),
            service: Some(service.name.to_string()),
            cluster: Some(cluster.to_string()),
            pods: pods.cloned().collect(),
        };
        let short = |text: &str| slices::shortened(text, 63);
        let values = ["causeway".to_owned(), short(&access.name), short(cluster.as_str()), short(&service.name)];
        let labels: Vec<(&str, &str)> = LABELS.into_iter().zip(values.iter().map(String::as_str)).collect();
        let mut metadata = json!({
            "name": target.id.name,
            "namespace": target.id.namespace,
            "labels": labels.iter().copied().collect::<BTreeMap<&str, &str>>(),
        });
        if !access_uid.is_empty() {
            // Where Causeway is gone, Kubernetes takes its objects away with the access.
            metadata["ownerReferences"] = json!([{
                "apiVersion": API_VERSION, "kind": "ClusterAccess", "name": access.name, "uid": access_uid, "controller": true,
            }]);
        }
        let body = json!({
            "apiVersion": API_VERSION, "kind": "EndpointSnapshot", "metadata": metadata, "spec": spec,
        });
        Some((hash(&spec, &labels, access_uid), body))
    }

    /// The access of a slice.
    pub fn access_of(&self, target: &Target) -> Option<Target> {
        let id = self.slices.get(&target.id)?.key.access.clone();
        Some(Target { kind: Kind::ClusterAccess, id })
    }

    /// The slices of an access.
    pub fn slices_of<'a>(&'a self, access: &'a NamespacedName) -> impl Iterator<Item = Target> + 'a {
        let slices = self.slices.iter().filter(|(_, slice)| slice.key.access == *access);
        slices.map(|(id, _)| Target { kind: Kind::EndpointSnapshot, id: id.clone() })
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}
