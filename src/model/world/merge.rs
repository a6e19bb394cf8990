//! The merge of clusters: one service of many Services, one list of endpoints of many slices.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::World;
use super::cluster::ClusterData;
use super::exports::age;
use crate::model::decision::{Endpoint, Readiness};
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{EndpointSlice, Labels, Service, ServicePort, SliceEndpoint};

/// A service, merged over the clusters that have it.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedService {
    /// Namespace and name.
    pub id: NamespacedName,
    /// The union of the clusters' ports, by number. No two have the same name or number.
    pub ports: Vec<ServicePort>,
    /// Labels of the Service that wins conflicts.
    pub labels: Labels,
    /// Whether the Service that wins conflicts is headless.
    pub headless: bool,
    /// The clusters that have it.
    pub clusters: BTreeSet<ClusterName>,
    /// Where clusters disagree, and how that was decided, for people.
    pub conflicts: Vec<String>,
}

impl World {
    /// A service, merged over all clusters that have it.
    pub fn service(&self, id: &NamespacedName) -> Option<MergedService> {
        self.service_in(id, &BTreeSet::new())
    }

    /// A service, merged over those of the given clusters that have it; none given means all.
    pub fn service_in(&self, id: &NamespacedName, clusters: &BTreeSet<ClusterName>) -> Option<MergedService> {
        let mut services: Vec<(&ClusterName, &Service)> = self
            .holding(id, clusters)
            .filter_map(|(name, data)| data.service(id).map(|service| (name, service)))
            .collect();
        services.sort_by_key(|(cluster, service)| self.precedence(cluster, service));
        merge(&services)
    }

    /// Every service, merged over all clusters that have it, by name.
    pub fn services(&self) -> impl Iterator<Item = MergedService> {
        self.holders.keys().filter_map(|id| self.service(id))
    }

    /// The endpoints of a service's port in the given clusters (none given means all), in the
    /// order of their addresses. An address comes once for each network: networks may use the same
    /// addresses for different pods. Slices of a cluster that has no such Service do not count.
    pub fn endpoints(
        &self,
        service: &NamespacedName,
        port_name: &str,
        clusters: &BTreeSet<ClusterName>,
    ) -> Vec<Endpoint> {
        in_order(self.listed(service, port_name, clusters))
    }

    /// The endpoints as the slices list them.
    pub(super) fn listed(
        &self,
        service: &NamespacedName,
        port_name: &str,
        clusters: &BTreeSet<ClusterName>,
    ) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        let left_out = self.left_out(service, port_name, clusters);
        for (name, data) in self.holding(service, clusters).filter(|(name, _)| !left_out.contains(*name)) {
            if data.service(service).is_some() {
                data.slices_of(service).for_each(|slice| read_slice(name, data, slice, port_name, &mut endpoints));
            }
        }
        endpoints
    }

    /// The clusters that export the service with another number for the port than the one that is served: theirs is not
    /// imported, and clients of the port are none of theirs (KEP-1645).
    pub(super) fn left_out(
        &self,
        service: &NamespacedName,
        port_name: &str,
        clusters: &BTreeSet<ClusterName>,
    ) -> BTreeSet<ClusterName> {
        if !self.is_exported(service) {
            return BTreeSet::new();
        }
        let number = |service: &Service| service.ports.iter().find(|p| &*p.name == port_name).map(|p| p.port);
        let exporting = self.holding(service, clusters).filter(|(_, data)| data.export(service).is_some());
        let exported: Vec<(&ClusterName, u16)> =
            exporting.filter_map(|(name, data)| Some((name, number(data.service(service)?)?))).collect();
        if exported.iter().all(|(_, port)| exported.first().is_some_and(|(_, first)| port == first)) {
            return BTreeSet::new();
        }
        let merged = self.service_in(service, clusters);
        let served = merged.and_then(|merged| merged.ports.into_iter().find(|p| &*p.name == port_name));
        let is_other = |port: u16| served.as_ref().is_none_or(|served| served.port != port);
        exported.into_iter().filter(|(_, port)| is_other(*port)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether one of the clusters (none given means all) has the service.
    pub(super) fn exists(&self, id: &NamespacedName, clusters: &BTreeSet<ClusterName>) -> bool {
        self.holding(id, clusters).any(|(_, data)| data.service(id).is_some())
    }

    fn holding<'a>(
        &'a self,
        id: &NamespacedName,
        clusters: &'a BTreeSet<ClusterName>,
    ) -> impl Iterator<Item = (&'a ClusterName, &'a ClusterData)> {
        let holders = self.holders.get(id).into_iter().flatten();
        holders
            .filter(|name| clusters.is_empty() || clusters.contains(*name))
            .filter_map(|name| self.clusters.get_key_value(name))
    }

    /// Least is strongest: Services that are exported come first, by the age of the exports (KEP-1645). Of others the
    /// oldest Service wins, one of unknown age comes after all of known age, then the primary's, then the first
    /// cluster's by name.
    fn precedence(&self, cluster: &ClusterName, service: &Service) -> (bool, (bool, i64, Reverse<bool>), ClusterName) {
        if let Some(export) = self.clusters.get(cluster).and_then(|data| data.export(&service.id)) {
            return (false, age(export), cluster.clone());
        }
        let is_primary = self.primary.as_ref() == Some(cluster);
        (true, (service.created_at == 0, service.created_at, Reverse(is_primary)), cluster.clone())
    }
}

/// Endpoints in the order of their addresses, each once for each network.
pub(super) fn in_order(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    // An address is told twice while an endpoint moves between slices, or where clusters that
    // share a network list the same one. The better word wins, as it does in kube-proxy.
    endpoints.sort_by(|a: &Endpoint, b| {
        (a.address, &a.network, a.readiness, a.stale, &a.cluster, &a.pod).cmp(&(
            b.address,
            &b.network,
            b.readiness,
            b.stale,
            &b.cluster,
            &b.pod,
        ))
    });
    endpoints.dedup_by(|later, first| later.address == first.address && later.network == first.network);
    endpoints
}

/// Merges Services that are ordered from strongest to weakest.
fn merge(services: &[(&ClusterName, &Service)]) -> Option<MergedService> {
    let (_, strongest) = services.first()?;
    let mut ports: Vec<(&ClusterName, &ServicePort)> = Vec::new();
    let mut conflicts = Vec::new();
    for (cluster, service) in services {
        if service.headless != strongest.headless {
            conflicts.push(format!(
                "cluster {cluster} has it as {}, but {} decides that it is {}",
                kind(service.headless),
                services[0].0,
                kind(strongest.headless)
            ));
        }
        for port in &service.ports {
            match ports.iter().find(|(_, p)| p.name == port.name || p.port == port.port) {
                None => ports.push((cluster, port)),
                Some((_, settled)) if *settled == port => {}
                Some((by, settled)) => conflicts.push(format!(
                    "port {} of cluster {cluster} is left out: cluster {by}, whose Service is older or comes first, has {}",
                    show(port),
                    show(settled)
                )),
            }
        }
    }
    let mut ports: Vec<ServicePort> = ports.into_iter().map(|(_, port)| port.clone()).collect();
    ports.sort_by(|a, b| (a.port, &a.name).cmp(&(b.port, &b.name)));
    Some(MergedService {
        id: strongest.id.clone(),
        ports,
        labels: strongest.labels.clone(),
        headless: strongest.headless,
        clusters: services.iter().map(|(cluster, _)| (*cluster).clone()).collect(),
        conflicts,
    })
}

fn kind(headless: bool) -> &'static str {
    if headless { "headless" } else { "not headless" }
}

fn show(port: &ServicePort) -> String {
    let name = if port.name.is_empty() { "(unnamed)" } else { &port.name };
    format!("{name} {}/{:?}", port.port, port.protocol)
}

fn read_slice(
    cluster: &ClusterName,
    data: &ClusterData,
    slice: &EndpointSlice,
    port_name: &str,
    into: &mut Vec<Endpoint>,
) {
    let Some(port) = slice.ports.iter().find(|port| &*port.name == port_name) else { return };
    let spec = &data.state.spec;
    for endpoint in &slice.endpoints {
        // All addresses are of one pod, and consumers use the first (discovery.k8s.io/v1).
        let Some(address) = endpoint.addresses.first() else { continue };
        let pod = endpoint.pod.as_ref().map(|pod| NamespacedName::new(slice.id.namespace.clone(), pod.clone()));
        into.push(Endpoint {
            address: SocketAddr::new(*address, port.port),
            cluster: cluster.clone(),
            network: spec.network.clone(),
            locality: data.locality(endpoint),
            node: endpoint.node.clone(),
            pod: endpoint.pod.clone(),
            readiness: readiness(endpoint),
            stale: data.is_stale(),
            weight: pod.map_or(1, |pod| data.weight(&pod)),
        });
    }
}

fn readiness(endpoint: &SliceEndpoint) -> Readiness {
    match endpoint {
        SliceEndpoint { terminating: true, serving: true, .. } => Readiness::Draining,
        SliceEndpoint { ready: true, .. } => Readiness::Ready,
        _ => Readiness::NotReady,
    }
}
