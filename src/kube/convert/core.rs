//! Kubernetes' own kinds: Service, EndpointSlice, Pod, Node.
//!
//! What an API server lets through is taken as it is, even where it says nothing to us; a dump of
//! any real cluster converts without a fault.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core_v1;
use k8s_openapi::api::discovery::v1 as discovery_v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Conversion, Converted, NameRule, created_at, id_of, labels_of, name_of, no_namespace, unusable};
use crate::kube::down::LABEL;
use crate::kube::field::{Faults, Invalid};
use crate::kube::names;
use crate::model::export::{OtherPort, ServiceTraits, Transport};
use crate::model::object::{
    Addresses, EndpointSlice, Family, KubeNode, Labels, Locality, Object, Pod, Protocol, Service, ServicePort,
    SliceEndpoint, SlicePort,
};
use crate::model::shared;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const WEIGHT_ANNOTATION: &str = "causeway.dev/weight";

const CAME_DOWN: &str = "objects that Causeway made in a sub-cluster, which are no source";
const NOT_TCP: &str = "ports that are not TCP";

/// For how long a client stays with a pod where a Service ties them together and says no time, in seconds.
const AFFINITY_SECONDS: u32 = 10_800;

/// Whether Causeway made the object from what other clusters have.
fn came_down(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(LABEL)).is_some_and(|value| value == "true")
}

/// A `v1` Service. No VIP has its ports that are not TCP, nor Services of type ExternalName.
///
/// # Errors
/// Lists every field that an API server would refuse.
pub fn service(service: &core_v1::Service) -> Converted {
    if came_down(&service.metadata) {
        return Ok(Conversion::nothing(CAME_DOWN));
    }
    let mut faults = Faults::default();
    let id = id_of(&service.metadata, NameRule::Label, &mut faults);
    let spec = service.spec.clone().unwrap_or_default();
    let mut left_out = Vec::new();
    let mut traits = traits(&spec);
    let mut ports = Vec::new();
    if traits.external_name {
        left_out.push("Services of type ExternalName, which have no endpoints");
    } else {
        ports = service_ports(spec.ports.as_deref().unwrap_or_default(), &mut traits, &mut left_out, &mut faults);
    }
    let object = Object::Service(Service {
        id,
        labels: labels_of(&service.metadata),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        ports,
        created_at: created_at(&service.metadata),
        traits,
    });
    faults.or(Conversion { left_out, ..Conversion::of(object) })
}

/// What an export of the Service carries over, besides ports. Words that this version does not know are taken for the
/// default, as they are by clients of an API server that is newer than they.
fn traits(spec: &core_v1::ServiceSpec) -> ServiceTraits {
    if spec.type_.as_deref() == Some("ExternalName") {
        return ServiceTraits { external_name: true, ..ServiceTraits::default() };
    }
    let seconds = || {
        let config = spec.session_affinity_config.as_ref()?.client_ip.as_ref()?;
        config.timeout_seconds.and_then(|seconds| u32::try_from(seconds).ok())
    };
    let families = spec.ip_families.iter().flatten().filter_map(|family| match family.as_str() {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    });
    let families: Vec<Family> = families.collect();
    ServiceTraits {
        external_name: false,
        client_ip_affinity: (spec.session_affinity.as_deref() == Some("ClientIP"))
            .then(|| seconds().unwrap_or(AFFINITY_SECONDS)),
        internal_traffic_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        traffic_distribution: said(spec.traffic_distribution.as_deref()),
        families: if families == [Family::V4] { Vec::new() } else { families },
        other_ports: Vec::new(),
        app_protocols: Labels::new(),
    }
}

fn service_ports(
    ports: &[core_v1::ServicePort],
    traits: &mut ServiceTraits,
    left_out: &mut Vec<&'static str>,
    faults: &mut Faults,
) -> Vec<ServicePort> {
    let mut taken = Vec::new();
    let mut seen_names = BTreeSet::new();
    let mut seen_numbers = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{i}]");
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            let remedy = "name each port; only a Service with a single port may leave the name out";
            faults.add(format!("{field}.name"), "the port has no name", remedy);
        } else if let Some(fault) = names::label_fault(name).filter(|_| !name.is_empty()) {
            faults.add(format!("{field}.name"), format!("`{name}` {fault}"), "use at most 63 of a-z, 0-9 and `-`");
        } else if !seen_names.insert(name) {
            faults.add(format!("{field}.name"), format!("the name `{name}` is there twice"), "name each port once");
        }
        let number = port_number(i64::from(port.port), format!("{field}.port"), faults);
        let transport = port.protocol.as_deref().unwrap_or("TCP");
        if !seen_numbers.insert((port.port, transport)) {
            let message = format!("port {} over {transport} is there twice", port.port);
            faults.add(format!("{field}.port"), message, "remove one of the two ports");
        }
        match transport {
            "TCP" => {
                taken.extend(number.map(|port_number| ServicePort {
                    name: Arc::from(name),
                    port: port_number,
                    protocol: protocol(port.app_protocol.as_deref(), name),
                }));
                let app_protocol = said(port.app_protocol.as_deref());
                traits.app_protocols.extend(app_protocol.map(|protocol| (Arc::from(name), protocol)));
            }
            "UDP" | "SCTP" => {
                left_out.push(NOT_TCP);
                traits.other_ports.extend(number.map(|port_number| OtherPort {
                    name: Arc::from(name),
                    port: port_number,
                    transport: if transport == "UDP" { Transport::Udp } else { Transport::Sctp },
                    app_protocol: said(port.app_protocol.as_deref()),
                }));
            }
            other => {
                let message = format!("`{other}` is no transport protocol");
                faults.add(format!("{field}.protocol"), message, "use `TCP`, `UDP` or `SCTP`");
            }
        }
    }
    taken
}

/// A port number, if it is one; else a fault.
pub(super) fn port_number(number: i64, field: String, faults: &mut Faults) -> Option<u16> {
    let valid = u16::try_from(number).ok().filter(|n| *n > 0);
    if valid.is_none() {
        faults.add(field, format!("{number} is no port number"), "use a number from 1 to 65535");
    }
    valid
}

/// How a port's traffic is read: as `appProtocol` says, else as its name begins (`http-admin`), by
/// the convention that meshes share.
///
/// An `appProtocol` that is not known is carried as bytes, which suits every protocol; so are
/// WebSockets (`kubernetes.io/ws`), whose upgrade an HTTP proxy would have to be told to allow.
fn protocol(app_protocol: Option<&str>, port_name: &str) -> Protocol {
    let word = match app_protocol {
        Some(said) if !said.is_empty() => said.to_ascii_lowercase(),
        // gRPC-Web is HTTP/1.1 to its server, though its name begins as gRPC's.
        _ if port_name == "grpc-web" || port_name.starts_with("grpc-web-") => "grpc-web".to_owned(),
        _ => port_name.split('-').next().unwrap_or_default().to_ascii_lowercase(),
    };
    match word.as_str() {
        "http" | "grpc-web" | "kubernetes.io/http" => Protocol::Http,
        "http2" | "h2c" | "kubernetes.io/h2c" => Protocol::H2c,
        "grpc" | "kubernetes.io/grpc" => Protocol::Grpc,
        _ => Protocol::Tcp,
    }
}

/// A `discovery.k8s.io/v1` EndpointSlice. Slices of host names (FQDN) and slices of no Service are
/// left out.
///
/// # Errors
/// Lists every field that an API server would refuse.
pub fn endpoint_slice(slice: &discovery_v1::EndpointSlice) -> Converted {
    if came_down(&slice.metadata) {
        return Ok(Conversion::nothing(CAME_DOWN));
    }
    let mut faults = Faults::default();
    let id = id_of(&slice.metadata, NameRule::Subdomain, &mut faults);
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return faults.or(Conversion::nothing("EndpointSlices of host names (addressType FQDN)")),
        "" => {
            faults.add("addressType", "the slice does not say its addresses' type", "write `IPv4` or `IPv6`");
            return faults.or(Conversion::nothing(""));
        }
        other => {
            faults.add("addressType", format!("`{other}` is no type of addresses"), "use `IPv4` or `IPv6`");
            return faults.or(Conversion::nothing(""));
        }
    };
    let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    let Some(service) = label.filter(|service| !service.is_empty()) else {
        return faults.or(Conversion::nothing("EndpointSlices without the label kubernetes.io/service-name"));
    };
    if let Some(fault) = names::label_value_fault(service) {
        let message = format!("`{service}` {fault}");
        faults.add(format!("metadata.labels[{SERVICE_NAME_LABEL}]"), message, "write the name of a Service");
    }
    let (mut left_out, mut warnings) = (Vec::new(), Vec::new());
    let ports = slice_ports(slice.ports.as_deref().unwrap_or_default(), &mut left_out, &mut faults);
    let endpoints = slice.endpoints.iter().enumerate();
    let endpoints =
        endpoints.map(|(i, endpoint)| slice_endpoint(i, endpoint, family, &mut warnings, &mut faults)).collect();
    let object = Object::Slice(EndpointSlice { id, service: shared::text(service), ports, endpoints });
    faults.or(Conversion { left_out, warnings, ..Conversion::of(object) })
}

fn slice_ports(
    ports: &[discovery_v1::EndpointPort],
    left_out: &mut Vec<&'static str>,
    faults: &mut Faults,
) -> Vec<SlicePort> {
    let mut taken = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        match port.protocol.as_deref().unwrap_or("TCP") {
            "TCP" => {}
            "UDP" | "SCTP" => {
                left_out.push(NOT_TCP);
                continue;
            }
            other => {
                let message = format!("`{other}` is no transport protocol");
                faults.add(format!("ports[{i}].protocol"), message, "use `TCP`, `UDP` or `SCTP`");
                continue;
            }
        }
        // No number means "not restricted", which gives no address to connect to.
        let Some(number) = port.port else {
            left_out.push("ports of EndpointSlices without a number");
            continue;
        };
        let name = shared::text(port.name.as_deref().unwrap_or_default());
        let number = port_number(i64::from(number), format!("ports[{i}].port"), faults);
        taken.extend(number.map(|port| SlicePort { name, port }));
    }
    taken
}

fn slice_endpoint(
    i: usize,
    endpoint: &discovery_v1::Endpoint,
    family: Family,
    warnings: &mut Vec<Invalid>,
    faults: &mut Faults,
) -> SliceEndpoint {
    if endpoint.addresses.is_empty() {
        faults.add(format!("endpoints[{i}].addresses"), "the endpoint has no address", "list its address");
    }
    let mut addresses = Addresses::with_capacity(endpoint.addresses.len());
    for (j, text) in endpoint.addresses.iter().enumerate() {
        let field = || format!("endpoints[{i}].addresses[{j}]");
        match text.parse::<IpAddr>() {
            Err(_) => faults.add(field(), format!("`{text}` is no IP address"), "write the pod's IP address"),
            Ok(address) if Family::of(address) != family => {
                let message = format!("`{text}` is not of the slice's addressType");
                faults.add(field(), message, "put IPv4 and IPv6 addresses into slices of their own");
            }
            Ok(address) => match unusable(address) {
                // An API server lets some of them through, and the slice's other endpoints are none the worse for it.
                Some(fault) => warnings.push(Invalid {
                    field: field(),
                    message: format!("`{text}` {fault}, and is left out"),
                    remedy: "write the pod's IP address".to_owned(),
                }),
                None => addresses.push(address),
            },
        }
    }
    let conditions = endpoint.conditions.as_ref();
    // Unset means ready, and unset serving means as ready (discovery.k8s.io/v1).
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    SliceEndpoint {
        addresses,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: said(endpoint.node_name.as_deref()),
        zone: said(endpoint.zone.as_deref()),
        pod: endpoint
            .target_ref
            .as_ref()
            .filter(|target| target.kind.as_deref() == Some("Pod"))
            .and_then(|target| said(target.name.as_deref())),
        hostname: said(endpoint.hostname.as_deref()),
    }
}

fn said(text: Option<&str>) -> Option<Arc<str>> {
    text.filter(|text| !text.is_empty()).map(shared::text)
}

/// A `v1` Pod. A weight annotation that is no weight is a warning, and the weight then is 1.
///
/// # Errors
/// Lists every field that an API server would refuse.
pub fn pod(pod: &core_v1::Pod) -> Converted {
    let mut faults = Faults::default();
    let meta = &pod.metadata;
    let id = id_of(meta, NameRule::Subdomain, &mut faults);
    let status = pod.status.as_ref();
    let listed = status.and_then(|s| s.pod_ips.as_deref()).unwrap_or_default();
    let mut addresses = Addresses::with_capacity(listed.len());
    for (i, pod_ip) in listed.iter().enumerate() {
        address(&pod_ip.ip, format!("status.podIPs[{i}].ip"), &mut addresses, &mut faults);
    }
    // Dumps of old API servers have only the single field.
    if listed.is_empty()
        && let Some(ip) = status.and_then(|s| s.pod_ip.as_deref()).filter(|ip| !ip.is_empty())
    {
        address(ip, "status.podIP".to_owned(), &mut addresses, &mut faults);
    }
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let mut warnings = Vec::new();
    let annotation = meta.annotations.as_ref().and_then(|all| all.get(WEIGHT_ANNOTATION));
    let object = Object::Pod(Pod {
        id,
        uid: Arc::from(meta.uid.as_deref().unwrap_or_default()),
        resource_version: Arc::from(meta.resource_version.as_deref().unwrap_or_default()),
        node: pod.spec.as_ref().and_then(|spec| said(spec.node_name.as_deref())),
        addresses,
        phase: shared::text(status.and_then(|s| s.phase.as_deref()).unwrap_or_default()),
        ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        labels: shared::labels(labels_of(meta)),
        weight: annotation.map_or(1, |text| weight(text, &mut warnings)),
        created_at: created_at(meta),
    });
    faults.or(Conversion { warnings, ..Conversion::of(object) })
}

fn address(text: &str, field: String, addresses: &mut Addresses, faults: &mut Faults) {
    match text.parse() {
        Ok(address) => addresses.push(address),
        Err(_) => faults.add(field, format!("`{text}` is no IP address"), "write the pod's IP address"),
    }
}

fn weight(text: &str, warnings: &mut Vec<Invalid>) -> u32 {
    let weight = text.trim().parse().ok().filter(|weight| (1..=1000).contains(weight));
    weight.unwrap_or_else(|| {
        warnings.push(Invalid {
            field: format!("metadata.annotations[{WEIGHT_ANNOTATION}]"),
            message: format!("`{text}` is no weight, so the pod's weight is 1"),
            remedy: "use a whole number from 1 to 1000; to give a pod no traffic, make it not ready".to_owned(),
        });
        1
    })
}

/// A `v1` Node, for its topology labels.
///
/// # Errors
/// Lists every field that an API server would refuse.
pub fn node(node: &core_v1::Node) -> Converted {
    let mut faults = Faults::default();
    let name = name_of(&node.metadata, NameRule::Subdomain, &mut faults);
    no_namespace(&node.metadata, "Node", &mut faults);
    let label = |keys: [&str; 2]| {
        let labels = node.metadata.labels.as_ref();
        // The second is the beta key, which clusters older than 1.17 and some providers still set.
        let value = labels.and_then(|labels| keys.iter().find_map(|key| labels.get(*key)));
        value.map_or_else(|| Arc::from(""), |value| Arc::from(value.as_str()))
    };
    let locality = Locality {
        region: label(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]),
        zone: label(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
    };
    faults.or(Conversion::of(Object::Node(KubeNode { name, locality })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ports_protocol_follows_app_protocol_then_its_name() {
        for (app_protocol, name, wanted) in [
            (None, "http", Protocol::Http),
            (None, "http-admin", Protocol::Http),
            (None, "http2-web", Protocol::H2c),
            (None, "h2c", Protocol::H2c),
            (None, "grpc-api", Protocol::Grpc),
            (None, "grpc-web", Protocol::Http),
            (None, "grpc-web-ui", Protocol::Http),
            (None, "grpc-webhook", Protocol::Grpc),
            (None, "https", Protocol::Tcp),
            (None, "httpish", Protocol::Tcp),
            (None, "", Protocol::Tcp),
            (Some(""), "http", Protocol::Http),
            (Some("tcp"), "http", Protocol::Tcp),
            (Some("HTTP"), "x", Protocol::Http),
            (Some("kubernetes.io/h2c"), "x", Protocol::H2c),
            (Some("kubernetes.io/ws"), "http", Protocol::Tcp),
            (Some("example.com/mine"), "http", Protocol::Tcp),
        ] {
            assert_eq!(protocol(app_protocol, name), wanted, "{app_protocol:?} {name}");
        }
    }
}
