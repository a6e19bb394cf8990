//! From what is known of a service to the objects of sub-clusters. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::object::{Audience, Id, Kind, Part};
use super::{Import, LABEL};
use crate::kube::manifest::without_nulls;
use crate::kube::outbox::{SnapshotContent, SnapshotKey};
use crate::kube::slices;
use crate::model::id::NamespacedName;
use crate::model::object::{Family, Protocol, ServicePort};

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// By which a Service's EndpointSlices are found.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who writes an EndpointSlice: Kubernetes' own controllers leave those of others alone.
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

fn metadata<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let all = [(MANAGED_BY, "causeway"), (LABEL, "true")].into_iter().chain(labels);
    json!({ "labels": all.collect::<BTreeMap<&str, &str>>() })
}

/// The objects by which clients of a cluster reach a service.
pub(super) fn of_service(service: &NamespacedName, import: &Import) -> Vec<(Id, Part)> {
    let id = |kind, name: &str| Id { kind, name: NamespacedName::new(service.namespace.clone(), name) };
    let mut objects = vec![(id(Kind::ServiceImport, &service.name), service_import(import))];
    let mut asked_for = vec![(id(Kind::Service, &service.name), of_kubernetes(import))];
    for family in [Family::V4, Family::V6] {
        let vips: Vec<IpAddr> = import.vips.iter().copied().filter(|vip| Family::of(*vip) == family).collect();
        if !vips.is_empty() {
            let name = slices::shortened(&format!("{}.causeway.{}", service.name, text(family).to_lowercase()), 253);
            asked_for.push((id(Kind::EndpointSlice, &name), slice_of_vips(service, import, family, &vips)));
        }
    }
    objects.extend(asked_for.into_iter().map(|(id, part)| (id, Part { is_asked_for: true, ..part })));
    objects
}

fn text(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn service_import(import: &Import) -> Part {
    let body = json!({
        "metadata": metadata([]),
        "spec": {
            "type": "ClusterSetIP",
            "ips": import.vips,
            "ports": named(&import.ports).map(|port| ported(port, false)).collect::<Vec<Value>>(),
        },
    });
    let clusters: Vec<Value> = import.clusters.iter().map(|cluster| json!({ "cluster": cluster })).collect();
    Part { is_bare: import.vips.is_empty(), ..Part::new(body, json!({ "clusters": clusters })) }
}

/// A Service without a selector: its EndpointSlices say where it leads.
fn of_kubernetes(import: &Import) -> Part {
    let body = json!({
        "metadata": metadata([]),
        "spec": {
            "type": "ClusterIP",
            "ports": named(&import.ports).map(|port| ported(port, true)).collect::<Vec<Value>>(),
        },
    });
    Part::new(body, Value::Null)
}

/// The ports, each with a name where there are several: clusters may differ in which port has none.
fn named(ports: &[ServicePort]) -> impl Iterator<Item = (Option<String>, &ServicePort)> {
    ports.iter().map(|port| {
        let name = match (port.name.is_empty(), ports.len()) {
            (false, _) => Some(port.name.to_string()),
            (true, 1) => None,
            (true, _) => Some(format!("port-{}", port.port)),
        };
        (name, port)
    })
}

fn ported((name, port): (Option<String>, &ServicePort), has_target: bool) -> Value {
    let app_protocol = match port.protocol {
        Protocol::Tcp => None,
        Protocol::Http => Some("http"),
        Protocol::H2c => Some("kubernetes.io/h2c"),
        Protocol::Grpc => Some("grpc"),
    };
    without_nulls(json!({
        "name": name,
        "port": port.port,
        "protocol": "TCP",
        "appProtocol": app_protocol,
        "targetPort": has_target.then_some(port.port),
    }))
}

/// The VIPs as the Service's endpoints: a VIP's gateways balance, so that what they decide holds here too, and no pod's
/// coming or going is written.
fn slice_of_vips(service: &NamespacedName, import: &Import, family: Family, vips: &[IpAddr]) -> Part {
    let ports: Vec<Value> = named(&import.ports)
        .map(|(name, port)| json!({ "name": name.unwrap_or_default(), "port": port.port, "protocol": "TCP" }))
        .collect();
    let endpoints: Vec<Value> =
        vips.iter().map(|vip| json!({ "addresses": [vip], "conditions": { "ready": true } })).collect();
    let body = json!({
        "metadata": metadata([(SERVICE_NAME, &*service.name), (SLICE_MANAGED_BY, "causeway.dev")]),
        "addressType": text(family),
        "ports": ports,
        "endpoints": endpoints,
    });
    Part::new(body, Value::Null)
}

/// The objects of an access's pods in one cluster, of so many.
pub(super) fn of_pods(key: &SnapshotKey, content: &SnapshotContent, count: usize) -> Vec<(Id, Part)> {
    let base = slices::base_name(key);
    let labels = slices::labels(key);
    let status = json!({ "vips": content.vips, "hostnames": content.hostnames });
    (0..count)
        .map(|index| {
            let spec = slices::spec(key, content, index, count);
            let spec = serde_json::to_value(spec).map_or_else(|_| Value::Object(Map::new()), without_nulls);
            let labels = labels.iter().map(|(label, value)| (*label, value.as_str()));
            let part = Part::new(json!({ "metadata": metadata(labels), "spec": spec }), status.clone());
            let name = NamespacedName::new(key.access.namespace.clone(), format!("{base}.{index}"));
            let audience = Audience::PodsOf(key.cluster.clone());
            (Id { kind: Kind::EndpointSnapshot, name }, Part { audience, ..part })
        })
        .collect()
}
