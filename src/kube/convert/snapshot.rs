//! EndpointSnapshot, as far as users write them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::core::port_number;
use super::{Conversion, Converted, NameRule, id_of, unusable};
use crate::kube::field::Faults;
use crate::kube::kinds::{EndpointSnapshot, EndpointSnapshotSpec, SnapshotOwner, SnapshotPod};
use crate::kube::names;
use crate::model::id::ClusterName;
use crate::model::object::{Locality, Object};
use crate::model::snapshot::{Entry, Place, Said, UserSnapshot};

/// An EndpointSnapshot of owner User. Those of owner System say what is known already and are left out.
///
/// # Errors
/// Lists every field that is not valid.
pub fn endpoint_snapshot(snapshot: &EndpointSnapshot) -> Converted {
    let mut faults = Faults::default();
    let id = id_of(&snapshot.metadata, NameRule::Subdomain, &mut faults);
    let empty = EndpointSnapshotSpec::default();
    let spec = snapshot.spec.as_ref().unwrap_or(&empty);
    if spec.owner == Some(SnapshotOwner::System) {
        return faults.or(Conversion::nothing("EndpointSnapshots of owner System, which Causeway itself writes"));
    }
    let remedy = "write the name of a ClusterAccess of the same namespace";
    name("spec.access", &spec.access, names::subdomain_fault, remedy, &mut faults);
    if let Some(service) = &spec.service {
        let remedy = "write the name of a Service of the same namespace, or leave the field out for the access's own";
        name("spec.service", service, names::label_fault, remedy, &mut faults);
    }
    if let Some(cluster) = &spec.cluster {
        let remedy = "write the name of a cluster, or leave the field out for the primary";
        name("spec.cluster", cluster, names::label_fault, remedy, &mut faults);
    }
    let object = Object::Snapshot(UserSnapshot {
        id,
        generation: snapshot.metadata.generation.unwrap_or(0),
        access: Arc::from(spec.access.as_str()),
        service: spec.service.as_deref().map(Arc::from),
        cluster: spec.cluster.as_deref().map(ClusterName::from),
        entries: entries(&spec.pods, &mut faults),
    });
    faults.or(Conversion::of(object))
}

fn name(field: &str, name: &str, fault: fn(&str) -> Option<&'static str>, remedy: &str, faults: &mut Faults) {
    if let Some(fault) = fault(name) {
        faults.add(field, format!("`{name}` {fault}"), remedy);
    }
}

fn entries(pods: &[SnapshotPod], faults: &mut Faults) -> Vec<Entry> {
    let mut taken: HashMap<&str, usize> = HashMap::new();
    let mut entries = Vec::with_capacity(pods.len());
    for (i, pod) in pods.iter().enumerate() {
        let field = format!("spec.pods[{i}]");
        let remedy = "write a pod's name, or any other that the object has once";
        if let Some(fault) = names::subdomain_fault(&pod.name) {
            faults.add(format!("{field}.name"), format!("`{}` {fault}", pod.name), remedy);
        } else if let Some(first) = taken.insert(&pod.name, i) {
            let message = format!("`{}` is there twice; first in spec.pods[{first}]", pod.name);
            faults.add(format!("{field}.name"), message, "remove one of the two, or give it another name");
        }
        if let Some(weight) = pod.weight.filter(|weight| !(1..=1000).contains(weight)) {
            let remedy = "use a whole number from 1 to 1000; `drain: true` takes new traffic from it";
            faults.add(format!("{field}.weight"), format!("{weight} is no weight"), remedy);
        }
        entries.push(Entry {
            name: Arc::from(pod.name.as_str()),
            place: place(pod, &field, faults),
            said: Said { ready: pod.ready, weight: pod.weight, drain: pod.drain },
        });
    }
    entries
}

/// Where a backend is that is added; `None` where the entry is about a pod.
fn place(pod: &SnapshotPod, field: &str, faults: &mut Faults) -> Option<Place> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (i, text) in pod.addresses.iter().enumerate() {
        let field = format!("{field}.addresses[{i}]");
        let remedy = "write an address at which the backend answers";
        match text.parse::<IpAddr>() {
            Err(_) => faults.add(field, format!("`{text}` is no IP address"), remedy),
            Ok(address) => match unusable(address) {
                Some(fault) => faults.add(field, format!("`{text}` {fault}"), remedy),
                None => addresses.push(address),
            },
        }
    }
    let mut ports: BTreeMap<Arc<str>, u16> = BTreeMap::new();
    for (name, number) in &pod.ports {
        let field = format!("{field}.ports[{name}]");
        if let Some(fault) = names::label_fault(name).filter(|_| !name.is_empty()) {
            let remedy = "write the name of a port of the service, or `\"\"` for its only, unnamed one";
            faults.add(&field, format!("`{name}` {fault}"), remedy);
        }
        if let Some(number) = port_number(i64::from(*number), field, faults) {
            ports.insert(Arc::from(name.as_str()), number);
        }
    }
    let said = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
    let address = *addresses.first()?;
    Some(Place {
        address,
        ports,
        node: pod.node.as_deref().filter(|node| !node.is_empty()).map(Arc::from),
        locality: Locality { region: said(&pod.region), zone: said(&pod.zone) },
    })
}
