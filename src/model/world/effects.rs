//! Whether users' snapshots have the effect that they ask for, and if not, why.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::cluster::ClusterData;
use super::overlay::target;
use super::{AccessScope, MergedService, Touched, World};
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{Access, ServiceChoice};
use crate::model::snapshot::UserSnapshot;

/// What became of a user's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEffect {
    /// Its namespace and name.
    pub id: NamespacedName,
    /// The generation that this is about.
    pub generation: i64,
    /// The access that it names.
    pub access: NamespacedName,
    /// The service that it is about.
    pub service: NamespacedName,
    /// Why it, or a part of it, has no effect.
    pub effect: Result<(), NoEffect>,
}

/// Why something has no effect. It may have one as soon as what is missing comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoEffect {
    /// CamelCase, for conditions.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// How many names are told at most.
const MOST_NAMES: usize = 3;

impl World {
    /// Every user's snapshot that counts, by name, and what became of it.
    pub fn user_snapshots(&self) -> impl Iterator<Item = SnapshotEffect> {
        let primary = self.primary_data();
        let seen = primary.into_iter().flat_map(|data| data.snapshots().filter(|s| data.sees(&s.id.namespace)));
        seen.map(|snapshot| self.effect(snapshot))
    }

    /// One user's snapshot, if it counts, and what became of it.
    pub fn user_snapshot(&self, id: &NamespacedName) -> Option<SnapshotEffect> {
        let data = self.primary_data().filter(|data| data.sees(&id.namespace))?;
        Some(self.effect(data.snapshot(id)?))
    }

    /// The users' snapshots whose effect may differ after what was touched; those that are gone are among them.
    pub fn snapshots_concerned(&self, touched: &Touched) -> BTreeSet<NamespacedName> {
        let mut all = touched.snapshots.clone();
        let Some(data) = self.primary_data().filter(|data| data.snapshots().next().is_some()) else { return all };
        let of_services = touched.services.iter().flat_map(|service| self.accesses_of(service));
        let accesses: BTreeSet<NamespacedName> = touched.accesses.iter().cloned().chain(of_services).collect();
        all.extend(accesses.iter().flat_map(|access| data.snapshots_of(access)).map(|s| s.id.clone()));
        if !touched.clusters.is_empty() {
            let primary_differs = self.primary.as_ref().is_some_and(|name| touched.clusters.contains(name));
            let is_of = |snapshot: &&Arc<UserSnapshot>| {
                primary_differs || snapshot.cluster.as_ref().is_some_and(|name| touched.clusters.contains(name))
            };
            all.extend(data.snapshots().filter(is_of).map(|snapshot| snapshot.id.clone()));
        }
        all
    }

    fn effect(&self, snapshot: &UserSnapshot) -> SnapshotEffect {
        let effect = self.missing(snapshot).map_or(Ok(()), Err);
        let access = snapshot.access_id();
        let service = target(snapshot, self.access(&access).map(AsRef::as_ref));
        SnapshotEffect { id: snapshot.id.clone(), generation: snapshot.generation, access, service, effect }
    }

    fn missing(&self, snapshot: &UserSnapshot) -> Option<NoEffect> {
        let Some(access) = self.access(&snapshot.access_id()) else {
            return Some(NoEffect {
                reason: "AccessNotFound",
                message: format!("there is no ClusterAccess {}", snapshot.access_id()),
                remedy: "create the ClusterAccess, or correct spec.access".to_owned(),
            });
        };
        let name = snapshot.cluster.as_ref().or(self.primary.as_ref())?;
        let service = target(snapshot, Some(access));
        match self.clusters.get(name) {
            None => Some(NoEffect {
                reason: "ClusterNotFound",
                message: format!("there is no cluster {name}"),
                remedy: "create its ClusterInfo, or correct spec.cluster".to_owned(),
            }),
            Some(data) => self
                .not_chosen(access, name, data, &service)
                .or_else(|| self.missing_of_entries(snapshot, access, (name, data), &service)),
        }
    }

    /// Why the access takes nothing of the service from the cluster.
    fn not_chosen(
        &self,
        access: &Access,
        name: &ClusterName,
        data: &ClusterData,
        service: &NamespacedName,
    ) -> Option<NoEffect> {
        if !access.clusters.is_empty() && !access.clusters.contains(name) {
            return Some(NoEffect {
                reason: "ClusterNotChosen",
                message: format!("the ClusterAccess {} does not take endpoints from the cluster {name}", access.id),
                remedy: "add the cluster to its spec.clusters.names, or correct spec.cluster".to_owned(),
            });
        }
        if !data.sees(&service.namespace) {
            return Some(NoEffect {
                reason: "NamespaceExcluded",
                message: format!("the namespace {} of the cluster {name} is left out", service.namespace),
                remedy: "remove it from spec.namespaces.exclude of the cluster's ClusterInfo".to_owned(),
            });
        }
        let chooses = match &access.service {
            ServiceChoice::Name(name) => *name == service.name,
            ServiceChoice::Selector(_) => true,
        };
        let not_chosen = || NoEffect {
            reason: "ServiceNotChosen",
            message: format!("the ClusterAccess {} does not choose the Service {service}", access.id),
            remedy: "correct spec.service, or let the access choose it".to_owned(),
        };
        if !chooses {
            return Some(not_chosen());
        }
        let Some(merged) = self.service_in(service, &access.clusters) else {
            return Some(NoEffect {
                reason: "ServiceNotFound",
                message: format!("no cluster of the ClusterAccess {} has the Service {service}", access.id),
                remedy: "create the Service, or correct spec.service".to_owned(),
            });
        };
        match &access.service {
            ServiceChoice::Selector(selector) if !selector.matches(&merged.labels) => Some(not_chosen()),
            _ => None,
        }
    }

    /// What of the entries has no effect.
    fn missing_of_entries(
        &self,
        snapshot: &UserSnapshot,
        access: &Access,
        (name, data): (&ClusterName, &ClusterData),
        service: &NamespacedName,
    ) -> Option<NoEffect> {
        let merged = self.service_in(service, &access.clusters)?;
        let ports: BTreeSet<&Arc<str>> = merged.ports.iter().map(|port| &port.name).collect();
        let places = snapshot.entries.iter().filter_map(|entry| entry.place.as_ref());
        let unknown: BTreeSet<&str> =
            places.flat_map(|place| place.ports.keys()).filter(|port| !ports.contains(port)).map(|p| &**p).collect();
        if !unknown.is_empty() {
            let there: Vec<String> = ports.iter().map(|port| format!("`{port}`")).collect();
            return Some(NoEffect {
                reason: "PortNotFound",
                message: format!("the Service {service} has no port {}", names(unknown)),
                remedy: format!("name in spec.pods[].ports of: {}", there.join(", ")),
            });
        }
        let scope = AccessScope::of(access);
        let overlay = self.overlay(&scope, service);
        let endpoints =
            data.service(service).into_iter().flat_map(|_| data.slices_of(service)).flat_map(|s| &s.endpoints);
        let there: BTreeSet<&str> = endpoints.filter_map(|endpoint| endpoint.pod.as_deref()).collect();
        let about_pods = snapshot.entries.iter().filter(|entry| entry.place.is_none()).map(|entry| &*entry.name);
        let lost: BTreeSet<&str> = about_pods.filter(|pod| !there.contains(pod) && !overlay.adds(name, pod)).collect();
        if !lost.is_empty() {
            return Some(NoEffect {
                reason: "PodNotFound",
                message: format!("the Service {service} has no pod {} in the cluster {name}", names(lost)),
                remedy: "correct the name, or say the address of a backend that is to be added".to_owned(),
            });
        }
        self.doubled(snapshot, &merged, &scope, data)
    }

    /// Which backends that are added are pods already.
    fn doubled(
        &self,
        snapshot: &UserSnapshot,
        merged: &MergedService,
        scope: &AccessScope,
        data: &ClusterData,
    ) -> Option<NoEffect> {
        let network = &data.state.spec.network;
        let mut doubled: BTreeSet<&str> = BTreeSet::new();
        for port in &merged.ports {
            let listed = self.listed(&merged.id, &port.name, &scope.clusters);
            let of_pods: HashSet<SocketAddr> =
                listed.iter().filter(|pod| pod.network == *network).map(|pod| pod.address).collect();
            doubled.extend(snapshot.entries.iter().filter_map(|entry| {
                let address = entry.place.as_ref()?.on(port);
                of_pods.contains(&address).then_some(&*entry.name)
            }));
        }
        (!doubled.is_empty()).then(|| NoEffect {
            reason: "AddressOfPod",
            message: format!("the address of {} is a pod's of the Service {} already", names(doubled), merged.id),
            remedy: "leave the addresses out to weigh, to drain or to take out the pod of that name".to_owned(),
        })
    }
}

/// The first few of the names, for a sentence.
fn names(names: BTreeSet<&str>) -> String {
    let first: Vec<String> = names.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect();
    match names.len().checked_sub(MOST_NAMES) {
        Some(more @ 1..) => format!("{} and {more} more", first.join(", ")),
        _ => first.join(", "),
    }
}
