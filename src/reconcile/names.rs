//! Which names are answered with which addresses: those of published VIPs and of headless services, and no others.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::claims::{pod_label, service_name};
use super::views::Desired;
use crate::dns::{Host, Record};
use crate::model::decision::Readiness;
use crate::model::id::NamespacedName;
use crate::model::world::{AccessScope, World};
use crate::vip::{Plan, Published};

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    /// Names of addresses.
    pub records: Vec<Record>,
    /// Services whose hosts have names of their own.
    pub hosts: Vec<Host>,
}

/// All names: of published VIPs, and of headless services that clusters export.
pub fn names(world: &World, plan: &Plan, desired: &Desired) -> Names {
    let mut names = Names { records: of_vips(world, plan, desired), hosts: Vec::new() };
    for service in world.headless_imports() {
        add_headless(world, service, &mut names);
    }
    names
}

/// The name of a headless service is answered with the addresses of its ready pods, each of which has a name by its host
/// name and its cluster as well. Without one that is ready there is no such name.
fn add_headless(world: &World, service: &NamespacedName, names: &mut Names) {
    let (Some(import), Some(access)) = (world.import(service), world.access(service)) else { return };
    let name: Arc<str> = service_name(service).into();
    let ttl = access.publish.ttl_seconds;
    for cluster in &import.clusters {
        for slice in world.import_endpoints(service, cluster) {
            let ports: Vec<(Arc<str>, u16)> = slice.ports.into_iter().map(|port| (port.name, port.port)).collect();
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                let host: Arc<str> = format!("{}.{cluster}.{name}", endpoint.label()).into();
                let address = endpoint.address;
                names.records.push(Record { name: name.clone(), address, ttl, ports: Vec::new() });
                names.hosts.extend(ports.iter().map(|(port_name, port)| Host {
                    name: name.clone(),
                    port_name: port_name.clone(),
                    port: *port,
                    host: host.clone(),
                    ttl,
                }));
                names.records.push(Record { name: host, address, ttl, ports: ports.clone() });
            }
        }
    }
}

fn of_vips(world: &World, plan: &Plan, desired: &Desired) -> Vec<Record> {
    let mut cluster_names: BTreeMap<IpAddr, BTreeSet<Arc<str>>> = BTreeMap::new();
    for backend in desired.backends.values().filter(|backend| !backend.cluster_hostnames.is_empty()) {
        for address in &backend.addresses {
            cluster_names.entry(*address).or_default().extend(backend.cluster_hostnames.keys().cloned());
        }
    }
    let mut records = Vec::new();
    let mut usable = UsablePods::default();
    for vip in plan.published.iter().filter(|vip| is_useful(world, vip, &mut usable)) {
        let ports: Vec<_> = vip.ports.iter().map(|port| (port.name.clone(), port.port)).collect();
        let of_clusters = cluster_names.get(&vip.address).into_iter().flatten();
        records.extend(vip.hostnames.iter().chain(of_clusters).map(|name| Record {
            name: name.clone(),
            address: vip.address,
            ttl: vip.ttl_seconds,
            ports: ports.clone(),
        }));
    }
    records
}

/// The pods that can be used, by access, service and port name: asked once for all VIPs of an access's service.
type UsablePods<'a> = HashMap<(&'a NamespacedName, &'a NamespacedName, &'a Arc<str>), HashSet<Arc<str>>>;

/// A pod's own VIP leads nowhere while the pod cannot be used, so that its names are not answered then. A service's
/// VIP stays: which of its pods can be used is Envoy's to know, and it answers 503 in their absence.
fn is_useful<'a>(world: &World, vip: &'a Published, usable: &mut UsablePods<'a>) -> bool {
    let Some(pod) = &vip.slot.pod else { return true };
    vip.ports.iter().any(|port| {
        let (access, service) = (&vip.slot.access, &vip.slot.service);
        let pods = usable.entry((access, service, &port.name)).or_insert_with(|| {
            let endpoints = match world.access(access) {
                Some(access) => world.access_pods(&AccessScope::of(access), service, &port.name),
                None => world.endpoints(service, &port.name, &BTreeSet::new()),
            };
            let able = endpoints.iter().filter(|endpoint| endpoint.readiness != Readiness::NotReady);
            able.filter_map(pod_label).collect()
        });
        pods.contains(pod)
    })
}
