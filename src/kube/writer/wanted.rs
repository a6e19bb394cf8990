//! What shall be on the primary's API server, by the latest word of those who know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::seen::{Kind, Seen, Target, Writer, hash, hash_dns};
use super::status;
use crate::kube::kinds::{
    API_VERSION, ClusterAccessStatus, EndpointSnapshotStatus, PolicyStatus, StatusCondition, VipPoolStatus,
    VirtualIpStatus,
};
use crate::kube::outbox::{
    ClusterConnection, ClusterSeen, DnsRecord, ServiceAddresses, SnapshotContent, SnapshotKey, Waiting,
};
use crate::kube::slices::{self, LABELS};
use crate::kube::virtual_ips::{address_of, name_of};
use crate::model::id::{ClusterName, NamespacedName, PoolName};
use crate::model::object::{ObjectKey, ObjectKind};

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
    policies: BTreeMap<Arc<str>, PolicyStatus>,
    vips: BTreeMap<IpAddr, VirtualIpStatus>,
    users: BTreeMap<NamespacedName, EndpointSnapshotStatus>,
    /// Objects that make no sense, and why.
    invalid: BTreeMap<Target, String>,
    services: BTreeMap<NamespacedName, ServiceAddresses>,
    dns_endpoints: BTreeMap<NamespacedName, Vec<DnsRecord>>,
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
        for (name, status) in waiting.policies {
            touched.insert(Target::of_cluster(Kind::Policy, name.clone()));
            put(&mut self.policies, name, status);
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
        if let Some(invalid) = waiting.invalid {
            let invalid = invalid.into_iter().filter_map(|(key, why)| Some((target_of(key)?, why))).collect();
            touched.extend(std::mem::replace(&mut self.invalid, invalid).into_keys());
            touched.extend(self.invalid.keys().cloned());
        }
        for (id, addresses) in waiting.services {
            touched.insert(Target { kind: Kind::Service, id: id.clone() });
            let asking = addresses.as_ref().or_else(|| self.services.get(&id)).map(|known| known.access.clone());
            touched.extend(asking.map(|id| Target { kind: Kind::ClusterAccess, id }));
            put(&mut self.services, id, addresses);
        }
        for (id, records) in waiting.dns_endpoints {
            touched.extend([Kind::DnsEndpoint, Kind::ClusterAccess].map(|kind| Target { kind, id: id.clone() }));
            put(&mut self.dns_endpoints, id, records);
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
    pub fn status(&self, target: &Target, there: &BTreeMap<Target, Seen>, now: &str) -> Option<Value> {
        let seen = there.get(target)?;
        let name = &*target.id.name;
        let invalid = self.invalid.get(target);
        let told = |kind: &str| invalid.map(|why| status::condition(kind, "Invalid", why.clone(), seen.generation));
        match target.kind {
            Kind::ClusterInfo => {
                let (connection, cluster) = (self.connections.get(name), self.seen.get(name));
                connection.is_some().then_some(())?;
                status::differs(status::cluster(connection, cluster), &seen.status, now)
            }
            Kind::ClusterAccess => {
                let mut status = known_or(self.accesses.get(&target.id), invalid.is_some())?;
                if invalid.is_some() {
                    status.observed_generation = seen.generation;
                }
                status::put_condition(&mut status.conditions, told("Accepted"));
                status.conditions.extend(self.publication(&target.id, status.observed_generation, there));
                status::differs(status, &seen.status, now)
            }
            Kind::Service => {
                let wanted = self.services.get(&target.id).filter(|_| seen.is_load_balancer);
                // Addresses that others wrote are theirs.
                (wanted.is_some() || seen.writer == Writer::Causeway).then_some(())?;
                status::service(wanted.map_or(&[][..], |wanted| &wanted.addresses), &seen.status)
            }
            Kind::DnsEndpoint => None,
            Kind::VipPool => {
                let mut status = known_or(self.pools.get(name), invalid.is_some())?;
                status::put_condition(&mut status.conditions, told("Accepted"));
                status.observed_generation = seen.generation;
                for condition in &mut status.conditions {
                    condition.observed_generation = seen.generation;
                }
                status::differs(status, &seen.status, now)
            }
            Kind::Policy => {
                let mut status = known_or(self.policies.get(name), invalid.is_some())?;
                if invalid.is_some() {
                    status.observed_generation = Some(seen.generation);
                }
                status::put_condition(&mut status.conditions, told("Accepted"));
                status::differs(status, &seen.status, now)
            }
            Kind::VirtualIp => status::differs(self.vips.get(&address_of(name)?)?.clone(), &seen.status, now),
            Kind::EndpointSnapshot => match self.slices.get(&target.id).and_then(|slice| self.sliced.get(&slice.key)) {
                Some(Sliced { content, .. }) => {
                    status::differs(status::snapshot(&content.vips, &content.hostnames), &seen.status, now)
                }
                None => {
                    let mut status = known_or(self.users.get(&target.id), invalid.is_some())?;
                    status::put_condition(&mut status.conditions, told("Effective"));
                    status::differs(status, &seen.status, now)
                }
            },
        }
    }

    /// What became of an access's wish that a Service or a DNSEndpoint says its addresses.
    fn publication(
        &self,
        access: &NamespacedName,
        generation: i64,
        there: &BTreeMap<Target, Seen>,
    ) -> Vec<StatusCondition> {
        let mut conditions = Vec::new();
        for (id, _) in self.services.iter().filter(|(_, wanted)| wanted.access == *access) {
            let (reason, message) = match there.get(&Target { kind: Kind::Service, id: id.clone() }) {
                Some(seen) if seen.is_load_balancer => ("Written", String::new()),
                Some(_) => (
                    "NotLoadBalancer",
                    format!(
                        "the Service {id} is not of type LoadBalancer, and an API server takes no address for it then; give it \
                         that type, and a loadBalancerClass that no other controller takes"
                    ),
                ),
                None => ("ServiceMissing", format!("the primary has no Service {id}; create it there")),
            };
            conditions.push(status::condition("ServiceStatus", reason, message, generation));
            if reason != "Written" {
                break;
            }
        }
        // One word for all of an access's services: the first that fails.
        let last = conditions.pop();
        conditions = last.into_iter().collect();
        if let Some(records) = self.dns_endpoints.get(access) {
            let (reason, message) = match there.contains_key(&Target { kind: Kind::DnsEndpoint, id: access.clone() }) {
                true => ("Written", String::new()),
                false if records.is_empty() => {
                    ("NothingPublished", "no host name of spec.hostnames has a published address".to_owned())
                }
                false => (
                    "NotWritten",
                    "the DNSEndpoint is not there; is ExternalDNS's kind dnsendpoints.externaldns.k8s.io installed?"
                        .to_owned(),
                ),
            };
            conditions.push(status::condition("DnsEndpoint", reason, message, generation));
        }
        conditions
    }

    /// Whether an object is one of those that Causeway makes.
    pub fn is_made(&self, target: &Target) -> bool {
        match target.kind {
            Kind::EndpointSnapshot => self.slices.contains_key(&target.id),
            Kind::DnsEndpoint => self.dns_endpoints.get(&target.id).is_some_and(|records| !records.is_empty()),
            _ => false,
        }
    }

    /// The whole object that Causeway makes, and the hash of what it says.
    pub fn object(&self, target: &Target, access_uid: &str) -> Option<(u64, Value)> {
        match target.kind {
            Kind::DnsEndpoint => self.dns_endpoint(target, access_uid),
            _ => self.slice_object(target, access_uid),
        }
    }

    fn dns_endpoint(&self, target: &Target, access_uid: &str) -> Option<(u64, Value)> {
        let spec = json!({ "endpoints": self.dns_endpoints.get(&target.id)? });
        let mut metadata = json!({
            "name": target.id.name, "namespace": target.id.namespace, "labels": { LABELS[0]: "causeway" },
        });
        own(&mut metadata, &target.id.name, access_uid);
        let hash = hash_dns(Some(&spec), access_uid);
        let api_version = target.kind.resource().api_version;
        Some((hash, json!({ "apiVersion": api_version, "kind": "DNSEndpoint", "metadata": metadata, "spec": spec })))
    }

    fn slice_object(&self, target: &Target, access_uid: &str) -> Option<(u64, Value)> {
        let slice = self.slices.get(&target.id)?;
        let Sliced { content, count } = self.sliced.get(&slice.key)?;
        let spec = slices::spec(&slice.key, content, slice.index, *count);
        let values = slices::labels(&slice.key);
        let labels: Vec<(&str, &str)> = values.iter().map(|(label, value)| (*label, value.as_str())).collect();
        let mut metadata = json!({
            "name": target.id.name,
            "namespace": target.id.namespace,
            "labels": labels.iter().copied().collect::<BTreeMap<&str, &str>>(),
        });
        own(&mut metadata, &slice.key.access.name, access_uid);
        let body = json!({
            "apiVersion": API_VERSION, "kind": "EndpointSnapshot", "metadata": metadata, "spec": spec,
        });
        Some((hash(&spec, &labels, access_uid), body))
    }

    /// The access of an object that Causeway makes.
    pub fn access_of(&self, target: &Target) -> Option<Target> {
        let id = match target.kind {
            Kind::DnsEndpoint => target.id.clone(),
            _ => self.slices.get(&target.id)?.key.access.clone(),
        };
        Some(Target { kind: Kind::ClusterAccess, id })
    }

    /// The objects that are made for an access.
    pub fn made_for<'a>(&'a self, access: &'a NamespacedName) -> impl Iterator<Item = Target> + 'a {
        let slices = self.slices.iter().filter(|(_, slice)| slice.key.access == *access);
        let dns =
            self.dns_endpoints.contains_key(access).then(|| Target { kind: Kind::DnsEndpoint, id: access.clone() });
        slices.map(|(id, _)| Target { kind: Kind::EndpointSnapshot, id: id.clone() }).chain(dns)
    }

    /// The access whose status tells of the object.
    pub fn told_by(&self, target: &Target) -> Option<Target> {
        let id = match target.kind {
            Kind::Service => self.services.get(&target.id)?.access.clone(),
            Kind::DnsEndpoint => target.id.clone(),
            _ => return None,
        };
        Some(Target { kind: Kind::ClusterAccess, id })
    }
}

/// Where Causeway is gone, Kubernetes takes its objects away with the access.
fn own(metadata: &mut Value, access: &str, access_uid: &str) {
    if !access_uid.is_empty() {
        metadata["ownerReferences"] = json!([{
            "apiVersion": API_VERSION, "kind": "ClusterAccess", "name": access, "uid": access_uid, "controller": true,
        }]);
    }
}

/// What is known of an object; of one that never made sense nothing is, and there is something to be said all the same.
fn known_or<S: Clone + Default>(known: Option<&S>, is_invalid: bool) -> Option<S> {
    known.cloned().or_else(|| is_invalid.then(S::default))
}

/// The object of those that are written, if it is one.
fn target_of(key: ObjectKey) -> Option<Target> {
    let kind = match key.kind {
        ObjectKind::ClusterAccess => Kind::ClusterAccess,
        ObjectKind::VipPool => Kind::VipPool,
        ObjectKind::Policy => Kind::Policy,
        ObjectKind::EndpointSnapshot => Kind::EndpointSnapshot,
        _ => return None,
    };
    Some(Target { kind, id: NamespacedName::new(key.namespace, key.name) })
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}
