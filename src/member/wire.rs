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
use crate::model::id::NamespacedName;
use crate::model::object::{
    EndpointSlice, KubeNode, Labels, Locality, Object, ObjectKey, Pod, Protocol, Service, ServicePort, SliceEndpoint,
    SlicePort,
};

/// What every remedy comes to: the member made the message.
const REMEDY: &str = "run a member of the primary's version";

/// An object as it travels; `None` for kinds that a sub-cluster does not have.
pub(super) fn encode(object: &Object) -> Option<Vec<u8>> {
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
pub(super) enum Unfit<K = ObjectKey> {
    /// It cannot be told which it is.
    Unreadable(String),
    /// It makes no sense.
    Invalid(K, Vec<Invalid>),
}

/// What travels one way.
pub(super) trait Content {
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
pub(super) struct Objects;

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
pub(super) fn decode(encoded: &[u8]) -> Result<Object, Unfit> {
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
    };
    let key = object.key();
    faults.or(object).map_err(|faults| Unfit::Invalid(key, faults))
}

fn node_from(node: proto::Node, faults: &mut Faults) -> KubeNode {
    check(names::subdomain_fault(&node.name), "name", &node.name, faults);
    KubeNode { name: node.name.into(), locality: Locality { region: node.region.into(), zone: node.zone.into() } }
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
        ServicePort { name: port.name.into(), port: port_from(i, port.port, faults), protocol }
    });
    let ports = ports.collect();
    Service {
        id: id_from(service.namespace, service.name, faults),
        labels: labels_from(service.labels),
        headless: service.headless,
        ports,
        created_at: service.created_at,
    }
}

fn slice_from(slice: proto::EndpointSlice, faults: &mut Faults) -> EndpointSlice {
    check(names::subdomain_fault(&slice.name), "name", &slice.name, faults);
    check(names::label_value_fault(&slice.service), "service", &slice.service, faults);
    if slice.service.is_empty() {
        faults.add("service", "the slice is of no Service", REMEDY);
    }
    let ports = slice.ports.into_iter().enumerate();
    let ports = ports.map(|(i, port)| SlicePort { name: port.name.into(), port: port_from(i, port.port, faults) });
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
            node: endpoint.node.map(Into::into),
            zone: endpoint.zone.map(Into::into),
            pod: endpoint.pod.map(Into::into),
        }
    });
    let endpoints = endpoints.collect();
    EndpointSlice { id: id_from(slice.namespace, slice.name, faults), service: slice.service.into(), ports, endpoints }
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
        node: pod.node.map(Into::into),
        addresses: addresses_from("", &pod.addresses, faults),
        phase: pod.phase.into(),
        ready: pod.ready,
        labels: labels_from(pod.labels),
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
    NamespacedName::new(namespace, name)
}

fn labels_from(labels: Vec<proto::Label>) -> Labels {
    labels.into_iter().map(|label| (Arc::from(label.key), Arc::from(label.value))).collect()
}

fn port_from(i: usize, number: u32, faults: &mut Faults) -> u16 {
    let port = u16::try_from(number).unwrap_or(0);
    if port == 0 {
        faults.add(format!("ports[{i}].port"), format!("{number} is no port number"), "use a number from 1 to 65535");
    }
    port
}

fn addresses_from(of: &str, addresses: &[Vec<u8>], faults: &mut Faults) -> Vec<IpAddr> {
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
