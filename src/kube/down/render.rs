//! From what is known of a service to the objects of sub-clusters. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::object::{Audience, Id, Kind, Part};
use super::{Import, LABEL};
use crate::kube::manifest::without_nulls;
use crate::kube::outbox::{SnapshotContent, SnapshotKey};
use crate::kube::slices;
use crate::model::export::Transport;
use crate::model::id::NamespacedName;
use crate::model::object::{Family, Protocol, ServicePort, SlicePort};
use crate::model::world::{self, ExportState, ImportEndpoint, ImportKind, ImportSlice};

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// By which a Service's EndpointSlices are found.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who writes an EndpointSlice: Kubernetes' own controllers leave those of others alone.
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// By which an import's EndpointSlices are found, and the cluster of their pods (KEP-1645).
const MCS_SERVICE: &str = "multicluster.kubernetes.io/service-name";
const MCS_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";
/// Endpoints of an EndpointSlice on average, as Kubernetes has it; the API takes 1000.
const MOST_ENDPOINTS: usize = 100;

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
    let slices = import.exported.iter().flat_map(|(exported, slices)| slices.iter().map(move |of| (exported, of)));
    for (exported, (cluster, slices)) in slices {
        // The import gives the port without a name one where there are others.
        let unnamed = exported.ports.iter().find(|port| port.name.is_empty());
        let unnamed = unnamed.and_then(|port| port_name("", port.port, exported.ports.len())).unwrap_or_default();
        let parts = slices.iter().flat_map(divided).enumerate();
        for (index, slice) in parts {
            let base = slices::shortened(&format!("{}.{cluster}", service.name), 240);
            let labels = [(MCS_SERVICE, &*service.name), (MCS_CLUSTER, cluster.as_str())];
            objects
                .push((id(Kind::EndpointSlice, &format!("{base}.{index}")), slice_of_pods(&slice, &unnamed, &labels)));
            if is_headless(import) {
                let labels = [(SERVICE_NAME, &*service.name)];
                let name = format!("{base}.pods.{index}");
                asked_for.push((id(Kind::EndpointSlice, &name), slice_of_pods(&slice, &unnamed, &labels)));
            }
        }
    }
    objects.extend(asked_for.into_iter().map(|(id, part)| (id, Part { is_asked_for: true, ..part })));
    objects
}

fn is_headless(import: &Import) -> bool {
    import.exported.as_ref().is_some_and(|(exported, _)| exported.kind == ImportKind::Headless)
}

fn text(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn service_import(import: &Import) -> Part {
    let (mut metadata, mut spec) = (metadata([]), json!({ "type": "ClusterSetIP", "ips": import.vips }));
    let mut clusters = &import.clusters;
    match &import.exported {
        None => spec["ports"] = named(&import.ports).map(|port| ported(port, false)).collect(),
        Some((exported, _)) => {
            clusters = &exported.clusters;
            for (label, value) in exported.labels.iter().filter(|(label, _)| !is_ours(label)) {
                metadata["labels"][&**label] = Value::from(&**value);
            }
            for (annotation, value) in exported.annotations.iter().filter(|(annotation, _)| !is_ours(annotation)) {
                metadata["annotations"][&**annotation] = Value::from(&**value);
            }
            spec["ports"] = exported_ports(exported).collect();
            if exported.kind == ImportKind::Headless {
                spec["type"] = Value::from("Headless");
            }
            if let Some(seconds) = exported.client_ip_affinity {
                spec["sessionAffinity"] = Value::from("ClientIP");
                spec["sessionAffinityConfig"] = json!({ "clientIP": { "timeoutSeconds": seconds } });
            }
            if exported.internal_traffic_local {
                spec["internalTrafficPolicy"] = Value::from("Local");
            }
            if let Some(distribution) = &exported.traffic_distribution {
                spec["trafficDistribution"] = Value::from(&**distribution);
            }
            spec["ipFamilies"] = exported.families.iter().map(|family| text(*family)).collect();
        }
    }
    let clusters: Vec<Value> = clusters.iter().map(|cluster| json!({ "cluster": cluster })).collect();
    let is_bare = import.vips.is_empty() && !is_headless(import);
    let body = json!({ "metadata": metadata, "spec": spec });
    Part { is_bare, ..Part::new(body, json!({ "clusters": clusters })) }
}

/// By these Causeway knows what it made, whatever is exported.
fn is_ours(key: &str) -> bool {
    key == MANAGED_BY || key.starts_with("causeway.dev/")
}

fn exported_ports(exported: &world::Import) -> impl Iterator<Item = Value> {
    exported.ports.iter().map(|port| {
        let name = port_name(&port.name, port.port, exported.ports.len());
        without_nulls(json!({
            "name": name,
            "port": port.port,
            "protocol": match port.transport {
                Transport::Tcp => "TCP",
                Transport::Udp => "UDP",
                Transport::Sctp => "SCTP",
            },
            "appProtocol": port.app_protocol,
        }))
    })
}

/// A Service without a selector: its EndpointSlices say where it leads.
fn of_kubernetes(import: &Import) -> Part {
    let ports: Vec<Value> = match &import.exported {
        Some((exported, _)) if is_headless(import) => exported_ports(exported).collect(),
        _ => named(&import.ports).map(|port| ported(port, true)).collect(),
    };
    let mut spec = json!({ "type": "ClusterIP", "ports": ports });
    if is_headless(import) {
        spec["clusterIP"] = Value::from("None");
    }
    Part::new(json!({ "metadata": metadata([]), "spec": spec }), Value::Null)
}

/// A port's name, if it has to have one: clusters may differ in which port has none, and a Service of several ports has
/// none without.
fn port_name(name: &str, port: u16, of: usize) -> Option<String> {
    match (name.is_empty(), of) {
        (false, _) => Some(name.to_owned()),
        (true, 1) => None,
        (true, _) => Some(format!("port-{port}")),
    }
}

fn named(ports: &[ServicePort]) -> impl Iterator<Item = (Option<String>, &ServicePort)> {
    ports.iter().map(|port| (port_name(&port.name, port.port, ports.len()), port))
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

/// A slice in parts that an EndpointSlice has room for. An endpoint's part follows from its address, so that one that
/// comes or goes changes one of them.
fn divided(slice: &ImportSlice) -> Vec<ImportSlice> {
    let count = slice.endpoints.len().div_ceil(MOST_ENDPOINTS).next_power_of_two();
    let mut parts = vec![ImportSlice { endpoints: Vec::new(), ..slice.clone() }; count];
    for endpoint in &slice.endpoints {
        let part = slices::index(&endpoint.address.to_string(), count);
        parts[part].endpoints.push(endpoint.clone());
    }
    parts
}

fn slice_of_pods(slice: &ImportSlice, unnamed: &str, labels: &[(&str, &str)]) -> Part {
    let name = |port: &SlicePort| if port.name.is_empty() { unnamed.to_owned() } else { port.name.to_string() };
    let of_port = |port: &SlicePort| json!({ "name": name(port), "port": port.port, "protocol": "TCP" });
    let ports: Vec<Value> = slice.ports.iter().map(of_port).collect();
    let endpoint = |endpoint: &ImportEndpoint| {
        let ImportEndpoint { address, ready, serving, terminating, hostname, zone, pod: _ } = endpoint;
        without_nulls(json!({
            "addresses": [address],
            "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
            "hostname": hostname,
            "zone": zone,
        }))
    };
    let labels = [(SLICE_MANAGED_BY, "causeway.dev")].into_iter().chain(labels.iter().copied());
    let body = json!({
        "metadata": metadata(labels),
        "addressType": text(slice.family),
        "ports": ports,
        "endpoints": slice.endpoints.iter().map(endpoint).collect::<Vec<Value>>(),
    });
    Part::new(body, Value::Null)
}

/// What became of a ServiceExport, in its own cluster.
pub(super) fn of_export(export: &ExportState) -> (Id, Part) {
    let conditions: Vec<Value> = export
        .conditions
        .iter()
        .map(|condition| {
            let remedy = if condition.remedy.is_empty() { "" } else { "; " };
            json!({
                "type": condition.kind,
                "status": if condition.holds { "True" } else { "False" },
                "reason": condition.reason,
                "message": format!("{}{remedy}{}", condition.message, condition.remedy),
                "observedGeneration": export.generation,
            })
        })
        .collect();
    let part = Part::new(Value::Null, json!({ "conditions": conditions }));
    let id = Id { kind: Kind::ServiceExport, name: export.id.clone() };
    (id, Part { audience: Audience::Only(export.cluster.clone()), ..part })
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
            (Id { kind: Kind::EndpointSnapshot, name }, Part { audience, is_bare: content.vips.is_empty(), ..part })
        })
        .collect()
}
