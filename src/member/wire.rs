//! Between the messages of `member.proto` and the model's objects. What comes in is held to what the conversion of
//! Kubernetes' objects holds them to, so that nothing further in has to doubt it: a member is another process, perhaps
//! of another version.

use std::net::IpAddr;
use std::sync::Arc;

use prost::Message;

use super::digest::hash_of_key;
use super::proto;
use super::proto::object::Object as Body;
use crate::kube::convert::unusable;
use crate::kube::field::{Faults, Invalid};
use crate::kube::names;
use crate::model::export::{OtherPort, ServiceExport, ServiceTraits, Transport};
use crate::model::id::NamespacedName;
use crate::model::object::{
    Addresses, EndpointSlice, Family, KubeNode, Labels, Locality, Object, ObjectKey, Pod, Protocol, Service,
    ServicePort, SliceEndpoint, SlicePort,
};
use crate::model::shared;

/// What every remedy comes to: the member made the message.
const REMEDY: &str = "run a member of the primary's version";

/// An object as it travels; `None` for kinds that a sub-cluster does not have.
pub(crate) fn encode(object: &Object) -> Option<Vec<u8>> {
    let body = match object {
        Object::Node(node) => Body::Node(proto::Node {
            name: node.name.to_string(),
            region: node.locality.region.to_string(),
            zone: node.locality.zone.to_string(),
        }),
        Object::Service(service) => Body::Service(proto::Service {
            namespace: service.id.namespace.to_string(),
            name: service.id.name.to_string(),
            labels: labels_to(&service.labels),
            headless: service.headless,
            ports: service.ports.iter().map(port_to).collect(),
            created_at: service.created_at,
            traits: traits_to(&service.traits),
        }),
        Object::Slice(slice) => Body::Slice(proto::EndpointSlice {
            namespace: slice.id.namespace.to_string(),
            name: slice.id.name.to_string(),
            service: slice.service.to_string(),
            ports: slice
                .ports
                .iter()
                .map(|port| proto::SlicePort { name: port.name.to_string(), port: port.port.into() })
                .collect(),
            endpoints: slice.endpoints.iter().map(endpoint_to).collect(),
        }),
        Object::Pod(pod) => Body::Pod(proto::Pod {
            namespace: pod.id.namespace.to_string(),
            name: pod.id.name.to_string(),
            uid: pod.uid.to_string(),
            resource_version: pod.resource_version.to_string(),
            node: pod.node.as_deref().map(str::to_owned),
            addresses: pod.addresses.iter().map(address_to).collect(),
            phase: pod.phase.to_string(),
            ready: pod.ready,
            labels: labels_to(&pod.labels),
            weight: pod.weight,
            created_at: pod.created_at,
        }),
        Object::Export(export) => Body::Export(proto::ServiceExport {
            namespace: export.id.namespace.to_string(),
            name: export.id.name.to_string(),
            created_at: export.created_at,
            generation: export.generation,
            labels: labels_to(&export.labels),
            annotations: labels_to(&export.annotations),
        }),
        Object::Cluster(_) | Object::Access(_) | Object::Pool(_) | Object::Snapshot(_) | Object::Policy(_) => {
            return None;
        }
    };
    Some(proto::Object { object: Some(body) }.encode_to_vec())
}

fn labels_to(labels: &Labels) -> Vec<proto::Label> {
    labels.iter().map(|(key, value)| proto::Label { key: key.to_string(), value: value.to_string() }).collect()
}

fn port_to(port: &ServicePort) -> proto::ServicePort {
    let protocol = match port.protocol {
        Protocol::Tcp => proto::Protocol::Tcp,
        Protocol::Http => proto::Protocol::Http,
        Protocol::H2c => proto::Protocol::H2c,
        Protocol::Grpc => proto::Protocol::Grpc,
    };
    proto::ServicePort { name: port.name.to_string(), port: port.port.into(), protocol: protocol.into() }
}

/// Nothing where the Service says nothing beyond what all do, as most.
fn traits_to(traits: &ServiceTraits) -> Option<proto::ServiceTraits> {
    (!traits.is_default()).then(|| proto::ServiceTraits {
        external_name: traits.external_name,
        client_ip_affinity: traits.client_ip_affinity,
        internal_traffic_local: traits.internal_traffic_local,
        traffic_distribution: traits.traffic_distribution.as_deref().map(str::to_owned),
        families: traits.families.iter().map(|family| family_to(*family).into()).collect(),
        other_ports: traits.other_ports.iter().map(other_port_to).collect(),
        app_protocols: labels_to(&traits.app_protocols),
    })
}

fn family_to(family: Family) -> proto::Family {
    match family {
        Family::V4 => proto::Family::V4,
        Family::V6 => proto::Family::V6,
    }
}

fn other_port_to(port: &OtherPort) -> proto::OtherPort {
    let transport = match port.transport {
        Transport::Tcp => proto::Transport::UnknownTransport,
        Transport::Udp => proto::Transport::Udp,
        Transport::Sctp => proto::Transport::Sctp,
    };
    proto::OtherPort {
        name: port.name.to_string(),
        port: port.port.into(),
        transport: transport.into(),
        app_protocol: port.app_protocol.as_deref().map(str::to_owned),
    }
}

fn endpoint_to(endpoint: &SliceEndpoint) -> proto::Endpoint {
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    proto::Endpoint {
        addresses: endpoint.addresses.iter().map(address_to).collect(),
        ready: endpoint.ready,
        serving: endpoint.serving,
        terminating: endpoint.terminating,
        node: text(&endpoint.node),
        zone: text(&endpoint.zone),
        pod: text(&endpoint.pod),
        hostname: text(&endpoint.hostname),
    }
}

fn address_to(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Why an object is left out.
#[derive(Debug, PartialEq)]
pub(crate) enum Unfit<K = ObjectKey> {
    /// It cannot be told which it is.
    Unreadable(String),
    /// It makes no sense.
    Invalid(K, Vec<Invalid>),
}

/// What travels one way.
pub(crate) trait Content {
    /// By which an object is known.
    type Key: Clone + PartialEq + std::fmt::Debug + std::fmt::Display;
    /// An object.
    type Object: std::fmt::Debug;
    /// The key of an object.
    fn key(object: &Self::Object) -> Self::Key;
    /// The hash of a key.
    fn hash(key: &Self::Key) -> u64;
    /// An object from its encoding.
    ///
    /// # Errors
    /// Why it is left out.
    fn decode(encoded: &[u8]) -> Result<Self::Object, Unfit<Self::Key>>;
}

/// What a cluster has, on its way to the primary.
#[derive(Debug)]
pub(crate) struct Objects;

impl Content for Objects {
    type Key = ObjectKey;
    type Object = Object;

    fn key(object: &Object) -> ObjectKey {
        object.key()
    }

    fn hash(key: &ObjectKey) -> u64 {
        hash_of_key(key)
    }

    fn decode(encoded: &[u8]) -> Result<Object, Unfit> {
        decode(encoded)
    }
}

/// An object from its encoding.
pub(crate) fn decode(encoded: &[u8]) -> Result<Object, Unfit> {
    let message = proto::Object::decode(encoded).map_err(|error| Unfit::Unreadable(error.to_string()))?;
    let Some(body) = message.object else {
        return Err(Unfit::Unreadable("an object of a kind that this version does not know".to_owned()));
    };
    let mut faults = Faults::default();
    let object = match body {
        Body::Node(node) => Object::Node(node_from(node, &mut faults)),
        Body::Service(service) => Object::Service(service_from(service, &mut faults)),
        Body::Slice(slice) => Object::Slice(slice_from(slice, &mut faults)),
        Body::Pod(pod) => Object::Pod(pod_from(pod, &mut faults)),
        Body::Export(export) => Object::Export(export_from(export, &mut faults)),
    };
    let key = object.key();
    faults.or(object).map_err(|faults| Unfit::Invalid(key, faults))
}

fn node_from(node: proto::Node, faults: &mut Faults) -> KubeNode {
    check(names::subdomain_fault(&node.name), "name", &node.name, faults);
    let locality = Locality { region: shared::text(&node.region), zone: shared::text(&node.zone) };
    KubeNode { name: shared::text(&node.name), locality }
}

fn service_from(service: proto::Service, faults: &mut Faults) -> Service {
    check(names::label_fault(&service.name), "name", &service.name, faults);
    let ports = service.ports.into_iter().enumerate().map(|(i, port)| {
        let protocol = match proto::Protocol::try_from(port.protocol) {
            Ok(proto::Protocol::Http) => Protocol::Http,
            Ok(proto::Protocol::H2c) => Protocol::H2c,
            Ok(proto::Protocol::Grpc) => Protocol::Grpc,
            // A protocol that is not known is carried as bytes, as one of an `appProtocol` is.
            Ok(proto::Protocol::Tcp) | Err(_) => Protocol::Tcp,
        };
        let field = || format!("ports[{i}].name");
        check(names::label_fault(&port.name).filter(|_| !port.name.is_empty()), &field(), &port.name, faults);
        let number = port_from(&format!("ports[{i}]"), port.port, faults);
        ServicePort { name: port.name.into(), port: number, protocol }
    });
    let ports = ports.collect();
    Service {
        id: id_from(service.namespace, service.name, faults),
        labels: labels_from(service.labels),
        headless: service.headless,
        ports,
        created_at: service.created_at,
        traits: service.traits.map(|traits| traits_from(traits, faults)).unwrap_or_default(),
    }
}

fn traits_from(traits: proto::ServiceTraits, faults: &mut Faults) -> ServiceTraits {
    let families = traits.families.into_iter().filter_map(|family| match proto::Family::try_from(family) {
        Ok(proto::Family::V4) => Some(Family::V4),
        Ok(proto::Family::V6) => Some(Family::V6),
        Ok(proto::Family::UnknownFamily) | Err(_) => None,
    });
    let families = families.collect();
    // Ports over what this version does not know are none that it could tell others of.
    let ports = traits.other_ports.into_iter().enumerate().filter_map(|(i, port)| {
        let transport = match proto::Transport::try_from(port.transport) {
            Ok(proto::Transport::Udp) => Transport::Udp,
            Ok(proto::Transport::Sctp) => Transport::Sctp,
            Ok(proto::Transport::UnknownTransport) | Err(_) => return None,
        };
        let name_fault = names::label_fault(&port.name).filter(|_| !port.name.is_empty());
        let field = format!("traits.otherPorts[{i}]");
        check(name_fault, &format!("{field}.name"), &port.name, faults);
        let (name, app_protocol) = (port.name.into(), port.app_protocol.map(Into::into));
        Some(OtherPort { name, port: port_from(&field, port.port, faults), transport, app_protocol })
    });
    let other_ports = ports.collect();
    ServiceTraits {
        external_name: traits.external_name,
        client_ip_affinity: traits.client_ip_affinity,
        internal_traffic_local: traits.internal_traffic_local,
        traffic_distribution: traits.traffic_distribution.map(Into::into),
        families,
        other_ports,
        app_protocols: labels_from(traits.app_protocols),
    }
}

fn export_from(export: proto::ServiceExport, faults: &mut Faults) -> ServiceExport {
    check(names::label_fault(&export.name), "name", &export.name, faults);
    for (field, said) in [("labels", &export.labels), ("annotations", &export.annotations)] {
        for label in said {
            check(names::label_key_fault(&label.key), field, &label.key, faults);
            if field == "labels" {
                check(names::label_value_fault(&label.value), field, &label.value, faults);
            }
        }
    }
    ServiceExport {
        id: id_from(export.namespace, export.name, faults),
        created_at: export.created_at,
        generation: export.generation,
        labels: labels_from(export.labels),
        annotations: labels_from(export.annotations),
    }
}

fn slice_from(slice: proto::EndpointSlice, faults: &mut Faults) -> EndpointSlice {
    check(names::subdomain_fault(&slice.name), "name", &slice.name, faults);
    check(names::label_value_fault(&slice.service), "service", &slice.service, faults);
    if slice.service.is_empty() {
        faults.add("service", "the slice is of no Service", REMEDY);
    }
    let ports = slice.ports.into_iter().enumerate();
    let ports = ports.map(|(i, port)| SlicePort {
        name: shared::text(&port.name),
        port: port_from(&format!("ports[{i}]"), port.port, faults),
    });
    let ports = ports.collect();
    let endpoints = slice.endpoints.into_iter().enumerate();
    let endpoints = endpoints.map(|(i, endpoint)| {
        let addresses = addresses_from(&format!("endpoints[{i}]"), &endpoint.addresses, faults);
        for (j, address) in addresses.iter().enumerate() {
            check(unusable(*address), &format!("endpoints[{i}].addresses[{j}]"), &address.to_string(), faults);
        }
        SliceEndpoint {
            addresses,
            ready: endpoint.ready,
            serving: endpoint.serving,
            terminating: endpoint.terminating,
            node: endpoint.node.as_deref().map(shared::text),
            zone: endpoint.zone.as_deref().map(shared::text),
            pod: endpoint.pod.as_deref().map(shared::text),
            hostname: endpoint.hostname.as_deref().map(shared::text),
        }
    });
    let endpoints = endpoints.collect();
    EndpointSlice {
        id: id_from(slice.namespace, slice.name, faults),
        service: shared::text(&slice.service),
        ports,
        endpoints,
    }
}

fn pod_from(pod: proto::Pod, faults: &mut Faults) -> Pod {
    check(names::subdomain_fault(&pod.name), "name", &pod.name, faults);
    if !(1..=1000).contains(&pod.weight) {
        faults.add("weight", format!("{} is no weight", pod.weight), "use a whole number from 1 to 1000");
    }
    Pod {
        id: id_from(pod.namespace, pod.name, faults),
        uid: pod.uid.into(),
        resource_version: pod.resource_version.into(),
        node: pod.node.as_deref().map(shared::text),
        addresses: addresses_from("", &pod.addresses, faults),
        phase: shared::text(&pod.phase),
        ready: pod.ready,
        labels: shared::labels(labels_from(pod.labels)),
        weight: pod.weight,
        created_at: pod.created_at,
    }
}

fn check(fault: Option<&'static str>, field: &str, value: &str, faults: &mut Faults) {
    if let Some(fault) = fault {
        faults.add(field, format!("`{}` {fault}", value.escape_default()), REMEDY);
    }
}

fn id_from(namespace: String, name: String, faults: &mut Faults) -> NamespacedName {
    check(names::label_fault(&namespace), "namespace", &namespace, faults);
    NamespacedName::new(shared::text(&namespace), shared::text(&name))
}

fn labels_from(labels: Vec<proto::Label>) -> Labels {
    labels.into_iter().map(|label| (shared::text(&label.key), shared::text(&label.value))).collect()
}

fn port_from(of: &str, number: u32, faults: &mut Faults) -> u16 {
    let port = u16::try_from(number).unwrap_or(0);
    if port == 0 {
        faults.add(format!("{of}.port"), format!("{number} is no port number"), "use a number from 1 to 65535");
    }
    port
}

fn addresses_from(of: &str, addresses: &[Vec<u8>], faults: &mut Faults) -> Addresses {
    let read = |(i, bytes): (usize, &Vec<u8>)| {
        let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
        let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from));
        if address.is_err() {
            let gap = if of.is_empty() { "" } else { "." };
            faults.add(format!("{of}{gap}addresses[{i}]"), format!("{} bytes are no IP address", bytes.len()), REMEDY);
        }
        address.ok()
    };
    addresses.iter().enumerate().filter_map(read).collect()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
