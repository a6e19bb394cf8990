//! The endpoints of an access: those of the clusters' slices, with what users say of them laid over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::World;
use super::merge::in_order;
use crate::model::decision::{Endpoint, Readiness};
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{Access, ServiceChoice};
use crate::model::snapshot::{Entry, Place, Said, UserSnapshot};

/// The part of an access on which its endpoints depend. It may outlive the access, whose VIPs drain as they served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessScope {
    /// The access.
    pub access: NamespacedName,
    /// The service that its snapshots are about where they name none.
    pub own_service: Arc<str>,
    /// Clusters to take endpoints from; empty means all.
    pub clusters: BTreeSet<ClusterName>,
}

impl AccessScope {
    /// The scope of an access.
    pub fn of(access: &Access) -> Self {
        Self { access: access.id.clone(), own_service: own_service(access).clone(), clusters: access.clusters.clone() }
    }
}

/// The service that an access's snapshots are about where they name none: the one that the access names, or that has
/// the access's name.
fn own_service(access: &Access) -> &Arc<str> {
    match &access.service {
        ServiceChoice::Name(name) => name,
        ServiceChoice::Selector(_) => &access.id.name,
    }
}

/// The service that a snapshot is about, whether or not it is there. While its access is not, the best guess.
pub(super) fn target(snapshot: &UserSnapshot, access: Option<&Access>) -> NamespacedName {
    let own = || access.map_or(&snapshot.access, own_service);
    let name = snapshot.service.as_ref().unwrap_or_else(own);
    NamespacedName::new(snapshot.id.namespace.clone(), name.clone())
}

/// A backend's cluster and name.
type Key<'a> = (&'a ClusterName, &'a str);

/// What the snapshots of an access say of one of its services.
#[derive(Default)]
pub(super) struct Overlay<'a> {
    /// Of pods, by the entries that say no address.
    of_pods: HashMap<Key<'a>, Said>,
    /// Backends that are added, with what all entries say of them.
    added: BTreeMap<Key<'a>, (&'a Place, Said)>,
}

impl<'a> Overlay<'a> {
    /// Adds what is said after everything before.
    fn hear(&mut self, cluster: &'a ClusterName, entry: &'a Entry) {
        let key: Key<'a> = (cluster, &entry.name);
        if let Some(place) = &entry.place {
            let before = self.added.get(&key).map(|(_, said)| *said).or(self.of_pods.get(&key).copied());
            self.added.insert(key, (place, entry.said.after(before.unwrap_or_default())));
            return;
        }
        let of_pod = self.of_pods.entry(key).or_default();
        *of_pod = entry.said.after(*of_pod);
        if let Some((_, said)) = self.added.get_mut(&key) {
            *said = entry.said.after(*said);
        }
    }

    /// Lays what is said of pods over their endpoints.
    fn change(&self, endpoints: &mut [Endpoint]) {
        if self.of_pods.is_empty() {
            return;
        }
        for endpoint in endpoints {
            let Some(pod) = &endpoint.pod else { continue };
            if let Some(said) = self.of_pods.get(&(&endpoint.cluster, &**pod)) {
                // A user can take traffic from a pod, and cannot give it to one that is not able to serve it.
                endpoint.readiness = endpoint.readiness.max(readiness(*said));
                endpoint.weight = said.weight.unwrap_or(endpoint.weight);
            }
        }
    }

    /// What is said of a cluster's pod; nothing where nobody says anything.
    pub fn readiness_of(&self, cluster: &ClusterName, pod: &str) -> Option<Readiness> {
        self.of_pods.get(&(cluster, pod)).map(|said| readiness(*said))
    }

    /// Whether a backend of this name is added in the cluster.
    pub fn adds(&self, cluster: &ClusterName, name: &str) -> bool {
        self.added.contains_key(&(cluster, name))
    }
}

/// What is said, as if it were all.
fn readiness(said: Said) -> Readiness {
    match said {
        Said { ready: Some(false), .. } => Readiness::NotReady,
        Said { drain: Some(true), .. } => Readiness::Draining,
        _ => Readiness::Ready,
    }
}

impl World {
    /// The endpoints of a service's port as an access has them: as [`World::endpoints`], with what users' snapshots say
    /// of the pods, and the backends that they add.
    pub fn access_endpoints(&self, scope: &AccessScope, service: &NamespacedName, port_name: &str) -> Vec<Endpoint> {
        let overlay = self.overlay(scope, service);
        let mut endpoints = self.listed(service, port_name, &scope.clusters);
        overlay.change(&mut endpoints);
        self.add(&overlay, scope, service, port_name, &mut endpoints);
        in_order(endpoints)
    }

    /// Those of [`World::access_endpoints`] that the clusters have: what users' snapshots say of pods holds, and the
    /// backends that they add are left out.
    pub fn access_pods(&self, scope: &AccessScope, service: &NamespacedName, port_name: &str) -> Vec<Endpoint> {
        let mut endpoints = self.listed(service, port_name, &scope.clusters);
        self.overlay(scope, service).change(&mut endpoints);
        in_order(endpoints)
    }

    /// What users say of an access's service, in the order of the snapshots' names.
    pub(super) fn overlay(&self, scope: &AccessScope, service: &NamespacedName) -> Overlay<'_> {
        let mut overlay = Overlay::default();
        let Some((primary, data)) = self.primary.as_ref().and_then(|name| self.clusters.get_key_value(name)) else {
            return overlay;
        };
        if service.namespace != scope.access.namespace || !data.sees(&service.namespace) {
            return overlay;
        }
        for snapshot in data.snapshots_of(&scope.access) {
            if *snapshot.service.as_ref().unwrap_or(&scope.own_service) == service.name {
                let cluster = snapshot.cluster.as_ref().unwrap_or(primary);
                snapshot.entries.iter().for_each(|entry| overlay.hear(cluster, entry));
            }
        }
        overlay
    }

    fn add(
        &self,
        overlay: &Overlay<'_>,
        scope: &AccessScope,
        service: &NamespacedName,
        port_name: &str,
        into: &mut Vec<Endpoint>,
    ) {
        if overlay.added.is_empty() {
            return;
        }
        let Some(merged) = self.service_in(service, &scope.clusters) else { return };
        let Some(own_port) = merged.ports.iter().find(|port| &*port.name == port_name) else { return };
        // What is said of them is the primary's word, wherever they are.
        let stale = self.primary_data().is_some_and(|data| data.is_stale());
        for ((cluster, name), (place, said)) in &overlay.added {
            let is_chosen = scope.clusters.is_empty() || scope.clusters.contains(*cluster);
            let Some(data) = self.clusters.get(*cluster).filter(|data| is_chosen && data.sees(&service.namespace))
            else {
                continue;
            };
            into.push(Endpoint {
                address: place.on(own_port),
                cluster: (*cluster).clone(),
                network: data.state.spec.network.clone(),
                locality: data.filled(&place.locality),
                node: place.node.clone(),
                pod: Some(Arc::from(*name)),
                readiness: readiness(*said),
                stale,
                weight: said.weight.unwrap_or(1),
            });
        }
    }
}
