//! From what accesses ask for to the addresses that have to be held: one claim a slot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::decision::Endpoint;
use crate::model::id::NamespacedName;
use crate::model::object::{Access, PortChoice, ServiceChoice, ServicePort, VipPer};
use crate::model::world::{MergedService, World};
use crate::vip::Claim;

/// The zone of all clusterset names (KEP-1645).
pub const CLUSTERSET_ZONE: &str = "clusterset.local";

/// `<service>.<namespace>.svc.clusterset.local`.
pub fn service_name(service: &NamespacedName) -> String {
    format!("{}.{}.svc.{CLUSTERSET_ZONE}", service.name, service.namespace)
}

/// By which clients within a cluster know a Service of that name, whatever the cluster's own domain is: where one leads to
/// the VIP (`kube::down`), requests for these names come.
pub fn local_names(service: &NamespacedName) -> [String; 4] {
    let NamespacedName { namespace, name } = service;
    [
        name.to_string(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        // Envoy knows a `*` at the end of a domain.
        format!("{name}.{namespace}.svc.*"),
    ]
}

/// Why an access has no claim, or fewer than it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// CamelCase, for conditions.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// The claims of an access on one of its services: for the service (or each of its pods) and each family one. Also
/// what it asks for in vain.
pub fn claims_of(
    world: &World,
    access: &Access,
    service: &NamespacedName,
    hostnames: &[Arc<str>],
) -> (Vec<Claim>, Vec<Shortfall>) {
    let (mut claims, mut shortfalls) = (Vec::new(), Vec::new());
    let Some(service) = world.service_in(service, &access.clusters) else { return (claims, shortfalls) };
    let ports = chosen_ports(access, &service, &mut shortfalls);
    if ports.is_empty() {
        return (claims, shortfalls);
    }
    let mut names = vec![Arc::from(service_name(&service.id))];
    // Host names belong to one service; with a selector they would lead to many.
    if matches!(access.service, ServiceChoice::Name(_)) {
        names.extend(hostnames.iter().cloned());
    }
    match access.per {
        VipPer::Service => push_claims(&mut claims, access, &service.id, None, &ports, &names),
        VipPer::Pod => {
            for pod in pods_of(world, access, &service, &ports) {
                let mut names = names.clone();
                names.insert(0, Arc::from(format!("{pod}.{}", service_name(&service.id))));
                push_claims(&mut claims, access, &service.id, Some(pod), &ports, &names);
            }
        }
    }
    (claims, shortfalls)
}

/// Says that an access chose nothing.
pub fn no_service(access: &Access) -> Shortfall {
    let (message, remedy) = match &access.service {
        ServiceChoice::Name(name) => (
            format!("no cluster has the Service {}/{name}", access.id.namespace),
            format!(
                "create the Service {name} in the namespace {} of a cluster, or correct spec.service.name",
                access.id.namespace
            ),
        ),
        ServiceChoice::Selector(_) => (
            format!("no Service in the namespace {} matches spec.service.selector", access.id.namespace),
            "label a Service so that it matches, or correct the selector".to_owned(),
        ),
    };
    Shortfall { reason: "ServiceNotFound", message, remedy }
}

fn chosen_ports(access: &Access, service: &MergedService, shortfalls: &mut Vec<Shortfall>) -> Vec<ServicePort> {
    if access.ports.is_empty() {
        return service.ports.clone();
    }
    let mut chosen = Vec::new();
    for choice in &access.ports {
        let port = service.ports.iter().find(|p| match choice {
            PortChoice::Name(name) => p.name == *name,
            PortChoice::Number(number) => p.port == *number,
        });
        match port {
            Some(port) if !chosen.contains(port) => chosen.push(port.clone()),
            Some(_) => {}
            None => {
                let wanted = match choice {
                    PortChoice::Name(name) => format!("named `{name}`"),
                    PortChoice::Number(number) => format!("{number}"),
                };
                let there: Vec<String> = service.ports.iter().map(|p| format!("{} ({})", p.name, p.port)).collect();
                shortfalls.push(Shortfall {
                    reason: "PortNotFound",
                    message: format!("the Service {} has no port {wanted}", service.id),
                    remedy: format!("choose in spec.ports from: {}", there.join(", ")),
                });
            }
        }
    }
    chosen
}

/// A pod's part in names and slots: `<pod>.<cluster>`, since two clusters may have pods of the same name.
pub fn pod_label(endpoint: &Endpoint) -> Option<Arc<str>> {
    endpoint.pod.as_ref().map(|pod| Arc::from(format!("{pod}.{}", endpoint.cluster)))
}

fn pods_of(world: &World, access: &Access, service: &MergedService, ports: &[ServicePort]) -> BTreeSet<Arc<str>> {
    ports
        .iter()
        // Ready or not: a pod keeps its VIP until it is gone. Its name is answered only while it can be used.
        .flat_map(|port| world.endpoints(&service.id, &port.name, &access.clusters))
        .filter_map(|endpoint| pod_label(&endpoint))
        .collect()
}

fn push_claims(
    claims: &mut Vec<Claim>,
    access: &Access,
    service: &NamespacedName,
    pod: Option<Arc<str>>,
    ports: &[ServicePort],
    hostnames: &[Arc<str>],
) {
    for &family in &access.families {
        claims.push(Claim {
            access: access.id.clone(),
            service: service.clone(),
            pod: pod.clone(),
            ports: ports.to_vec(),
            family,
            pool: access.pool.clone(),
            requested: access.addresses.iter().copied().find(|a| crate::model::object::Family::of(*a) == family),
            publish: access.publish.clone(),
            hostnames: hostnames.to_vec(),
        });
    }
}

/// Who owns each host name that is asked for. Of several, one that holds it in the ledger keeps it, so that no newer
/// access takes a name that is in use; else the first by namespace and name has it.
pub fn hostname_owners<'a>(
    accesses: impl Iterator<Item = &'a Access>,
    holders: &BTreeSet<(&Arc<str>, &NamespacedName)>,
) -> BTreeMap<Arc<str>, NamespacedName> {
    let mut owners: BTreeMap<Arc<str>, NamespacedName> = BTreeMap::new();
    for access in accesses {
        for hostname in &access.hostnames {
            let rank = |id: &NamespacedName| (!holders.contains(&(hostname, id)), id.clone());
            let owner = owners.entry(hostname.clone()).or_insert_with(|| access.id.clone());
            if rank(&access.id) < rank(owner) {
                *owner = access.id.clone();
            }
        }
    }
    owners
}
