//! What other clusters are told of exports (KEP-1645): the import that all exports of a service amount to, its endpoints
//! in each cluster, and what is said to each export of what became of it. A part of it may differ after a change only
//! where the service's name is among the services or accesses that were touched.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::World;
use super::conflicts::{conflict, union};
use super::exports::Constituent;
use super::overlay::AccessScope;
use crate::model::decision::Readiness;
use crate::model::export::Transport;
use crate::model::id::{ClusterName, NamespacedName};
use crate::model::object::{Family, Labels, SliceEndpoint, SlicePort};

/// How an imported service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportKind {
    /// At addresses of its own, which are its access's VIPs.
    ClusterSetIp,
    /// At its pods' own addresses.
    Headless,
}

/// A port of an [`Import`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportPort {
    /// Its name; empty where the Service that has it leaves its only port unnamed. Clusters that have other ports may
    /// put more beside it, which no Service of Kubernetes may have beside an unnamed one.
    pub name: Arc<str>,
    /// The port that clients use.
    pub port: u16,
    /// How it travels. VIPs serve TCP alone.
    pub transport: Transport,
    /// `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// What all clusters' exports of a service amount to: what a `ServiceImport` of its name says in every cluster, besides
/// its addresses. Where the Services differ, the one with the oldest export decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Namespace and name, which are the Service's and the ServiceExport's too.
    pub id: NamespacedName,
    /// How it is reached. A headless service for which there is a ClusterAccess has VIPs like any other.
    pub kind: ImportKind,
    /// The union of the clusters' ports, by number, transport and name. No two have the same name, or the same number
    /// and transport.
    pub ports: Vec<ImportPort>,
    /// The IP families that it shall have an address of, in their order. The access may say others, or have none of one.
    pub families: Vec<Family>,
    /// `sessionAffinity: ClientIP`, and for how many seconds; `None` means `None`.
    pub client_ip_affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`; `Cluster` otherwise.
    pub internal_traffic_local: bool,
    /// `trafficDistribution`.
    pub traffic_distribution: Option<Arc<str>>,
    /// Exported labels. Those of the Service are not among them.
    pub labels: Labels,
    /// Exported annotations.
    pub annotations: Labels,
    /// The clusters from which it is imported.
    pub clusters: BTreeSet<ClusterName>,
}

/// Endpoints of an import in one cluster that have the same ports: what an EndpointSlice of the Multi-Cluster Services
/// API says of them, or several where they are many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportSlice {
    /// The family of all addresses.
    pub family: Family,
    /// The TCP ports of all endpoints, by name, without those of which the import has another number. The numbers here
    /// are the pods'.
    pub ports: Vec<SlicePort>,
    /// The endpoints, by address; each address once.
    pub endpoints: Vec<ImportEndpoint>,
}

/// An endpoint of an [`ImportSlice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportEndpoint {
    /// Where it is reached from within its network.
    pub address: IpAddr,
    /// `conditions.ready`.
    pub ready: bool,
    /// `conditions.serving`.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `hostname`, as pods of a StatefulSet have one.
    pub hostname: Option<Arc<str>>,
    /// The zone, where the cluster's slice says one.
    pub zone: Option<Arc<str>>,
    /// The pod's name in its own cluster.
    pub pod: Option<Arc<str>>,
}

impl ImportEndpoint {
    /// The endpoint's own label in names: its host name, else its address with hyphens.
    pub fn label(&self) -> Arc<str> {
        match &self.hostname {
            Some(hostname) => hostname.clone(),
            None => {
                // An address that begins or ends with colons would make no label.
                let text = match self.address {
                    IpAddr::V4(v4) => v4.to_string(),
                    IpAddr::V6(v6) => v6.segments().map(|segment| format!("{segment:x}")).join("-"),
                };
                Arc::from(text.replace('.', "-"))
            }
        }
    }
}

/// A condition of a ServiceExport, as the Multi-Cluster Services API names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportCondition {
    /// `Valid`, `Ready` or `Conflict`.
    pub kind: &'static str,
    /// Whether it holds: `True` or `False`.
    pub holds: bool,
    /// CamelCase; several joined by commas.
    pub reason: Cow<'static, str>,
    /// For people; empty where the reason says all.
    pub message: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

/// A ServiceExport that counts, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportState {
    /// The cluster that has it.
    pub cluster: ClusterName,
    /// Its namespace and name.
    pub id: NamespacedName,
    /// The generation that this is about; 0 where the source knows none.
    pub generation: i64,
    /// `Valid`, `Ready` and `Conflict`, in this order.
    pub conditions: [ExportCondition; 3],
}

impl World {
    /// Every import, by name.
    pub fn imports(&self) -> impl Iterator<Item = Import> {
        self.exports.exporters.keys().filter_map(|id| self.import(id))
    }

    /// The import of a service; `None` where no cluster exports it, or none that does has it.
    pub fn import(&self, id: &NamespacedName) -> Option<Import> {
        let constituents = self.chosen(id);
        let strongest = constituents.first()?;
        let (service, traits) = (strongest.service, &strongest.service.traits);
        let is_headless = service.headless && self.declared(id).is_none();
        Some(Import {
            id: id.clone(),
            kind: if is_headless { ImportKind::Headless } else { ImportKind::ClusterSetIp },
            ports: union(&constituents),
            families: traits.families().to_vec(),
            client_ip_affinity: traits.client_ip_affinity,
            internal_traffic_local: traits.internal_traffic_local,
            traffic_distribution: traits.traffic_distribution.clone(),
            labels: strongest.export.labels.clone(),
            annotations: strongest.export.annotations.clone(),
            clusters: constituents.iter().map(|constituent| constituent.cluster.clone()).collect(),
        })
    }

    /// The headless imports, whose names are answered with their pods' addresses, by name.
    pub fn headless_imports(&self) -> impl Iterator<Item = &NamespacedName> {
        let derived = self.derived_from(NamespacedName::new("", ""));
        derived.filter(|access| access.families.is_empty()).map(|access| &access.id)
    }

    /// Whether the name is that of a headless import.
    pub fn is_headless_import(&self, id: &NamespacedName) -> bool {
        self.is_derived(id) && self.exports.derived.get(id).is_some_and(|access| access.families.is_empty())
    }

    /// The endpoints of an import that are in one cluster; none where that cluster is none of the import's. What users'
    /// EndpointSnapshots say of pods holds; backends that they add are no cluster's, and are not among them.
    pub fn import_endpoints(&self, id: &NamespacedName, cluster: &ClusterName) -> Vec<ImportSlice> {
        let constituents = self.chosen(id);
        let Some(Constituent { data, .. }) = constituents.iter().find(|constituent| constituent.cluster == cluster)
        else {
            return Vec::new();
        };
        let scope = self.access(id).map(|access| AccessScope::of(access));
        let overlay = scope.map(|scope| self.overlay(&scope, id)).unwrap_or_default();
        let all = constituents.iter().map(|constituent| constituent.cluster.clone()).collect();
        let is_imported = |port: &&SlicePort| !self.left_out(id, &port.name, &all).contains(cluster);
        let mut slices: BTreeMap<Shape, BTreeMap<IpAddr, ImportEndpoint>> = BTreeMap::new();
        for slice in data.slices_of(id) {
            let mut ports: Vec<(Arc<str>, u16)> =
                slice.ports.iter().filter(is_imported).map(|port| (port.name.clone(), port.port)).collect();
            ports.sort();
            for endpoint in &slice.endpoints {
                let Some(&address) = endpoint.addresses.first() else { continue };
                let said = endpoint.pod.as_ref().and_then(|pod| overlay.readiness_of(cluster, pod));
                let endpoint = import_endpoint(endpoint, address, said.unwrap_or(Readiness::Ready));
                let of_shape = slices.entry((Family::of(address), ports.clone())).or_default();
                let known = of_shape.entry(address).or_insert_with(|| endpoint.clone());
                // An address is told twice while an endpoint moves between slices; the better word wins.
                if (endpoint.ready, endpoint.serving) > (known.ready, known.serving) {
                    *known = endpoint;
                }
            }
        }
        let slice = |((family, ports), endpoints): (Shape, BTreeMap<IpAddr, ImportEndpoint>)| ImportSlice {
            family,
            ports: ports.into_iter().map(|(name, port)| SlicePort { name, port }).collect(),
            endpoints: endpoints.into_values().collect(),
        };
        slices.into_iter().map(slice).collect()
    }

    /// Every ServiceExport that counts, by name and then by cluster, and what became of it.
    pub fn exports(&self) -> impl Iterator<Item = ExportState> {
        self.exports.exporters.keys().flat_map(|id| self.exports_of(id))
    }

    /// The ServiceExports of a service that count, by cluster, and what became of each.
    pub fn exports_of(&self, id: &NamespacedName) -> Vec<ExportState> {
        let constituents = self.chosen(id);
        let conflict = conflict(&constituents);
        let exporters = self.exports.exporters.get(id).into_iter().flatten();
        let of_cluster = |cluster: &ClusterName| {
            let export = self.clusters.get(cluster)?.export(id)?;
            let is_chosen = constituents.iter().any(|constituent| constituent.cluster == cluster);
            let valid = self.valid(cluster, id);
            let ready = self.ready_export(cluster, id, valid.holds);
            // What is not taken part in cannot be in conflict.
            let conflict = if is_chosen { conflict.clone() } else { no_conflict() };
            let conditions = [valid, ready, conflict];
            Some(ExportState { cluster: cluster.clone(), id: id.clone(), generation: export.generation, conditions })
        };
        exporters.filter_map(of_cluster).collect()
    }

    /// The clusters whose exports take part: a ClusterAccess of the name may leave some out.
    fn chosen(&self, id: &NamespacedName) -> Vec<Constituent<'_>> {
        let mut constituents = self.constituents(id);
        if let Some(access) = self.declared(id).filter(|access| !access.clusters.is_empty()) {
            constituents.retain(|constituent| access.clusters.contains(constituent.cluster));
        }
        constituents
    }

    fn valid(&self, cluster: &ClusterName, id: &NamespacedName) -> ExportCondition {
        let service = self.clusters.get(cluster).and_then(|data| data.services.get(id));
        let (reason, message, remedy) = match service {
            None => (
                "NoService",
                format!("the cluster {cluster} has no Service {id}"),
                "create the Service, or delete the ServiceExport",
            ),
            Some(service) if service.traits.external_name => (
                "InvalidServiceType",
                format!("the Service {id} of the cluster {cluster} is of type ExternalName, which cannot be exported"),
                "export a Service that has endpoints, or delete the ServiceExport",
            ),
            Some(_) => ("Valid", String::new(), ""),
        };
        ExportCondition {
            kind: "Valid",
            holds: reason == "Valid",
            reason: reason.into(),
            message,
            remedy: remedy.to_owned(),
        }
    }

    fn ready_export(&self, cluster: &ClusterName, id: &NamespacedName, is_valid: bool) -> ExportCondition {
        let (reason, message, remedy) = match self.declared(id) {
            _ if !is_valid => ("Failed", "the export is not valid".to_owned(), "see the condition Valid"),
            _ if self.primary.is_none() => (
                "Pending",
                "the primary cluster is not there, and no address can be given".to_owned(),
                "say which cluster is the primary, or bring it back",
            ),
            Some(access) if !access.clusters.is_empty() && !access.clusters.contains(cluster) => (
                "Failed",
                format!("the ClusterAccess {id} of the primary decides, and leaves the cluster {cluster} out"),
                "add the cluster to its spec.clusters.names, or delete the ClusterAccess",
            ),
            Some(_) => ("Exported", format!("the ClusterAccess {id} of the primary says how it is reached"), ""),
            None => ("Exported", String::new(), ""),
        };
        let (holds, remedy) = (reason == "Exported", remedy.to_owned());
        ExportCondition { kind: "Ready", holds, reason: reason.into(), message, remedy }
    }
}

/// Family and ports.
type Shape = (Family, Vec<(Arc<str>, u16)>);

pub(super) fn no_conflict() -> ExportCondition {
    let (message, remedy) = (String::new(), String::new());
    ExportCondition { kind: "Conflict", holds: false, reason: "NoConflicts".into(), message, remedy }
}

/// An endpoint, of which users said so much.
fn import_endpoint(endpoint: &SliceEndpoint, address: IpAddr, said: Readiness) -> ImportEndpoint {
    ImportEndpoint {
        address,
        ready: endpoint.ready && said == Readiness::Ready,
        serving: endpoint.serving && said != Readiness::NotReady,
        terminating: endpoint.terminating,
        hostname: endpoint.hostname.clone(),
        zone: endpoint.zone.clone(),
        pod: endpoint.pod.clone(),
    }
}
