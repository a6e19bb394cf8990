//! ClusterAccess.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::core::port_number;
use super::{Conversion, Converted, NameRule, exactly_one, id_of, labels_of, selector, unusable};
use crate::kube::field::Faults;
use crate::kube::kinds::{ClusterAccess, ClusterAccessSpec, PolicyRef, PublishSpec, VipSpec};
use crate::kube::names;
use crate::model::id::{ClusterName, PoolName};
use crate::model::object::{self as model, Access, Family, Object, PortChoice, PublishRule, ServiceChoice, VipPer};

/// The DNS zone of names that Causeway makes itself (KEP-1645).
const ZONE: &str = "clusterset.local";

/// The longest time to live, in seconds: a day. A withdrawn VIP is served for so long.
const MAX_TTL_SECONDS: i64 = 86_400;

/// A ClusterAccess.
///
/// # Errors
/// Lists every field that is not valid.
pub fn cluster_access(access: &ClusterAccess) -> Converted {
    let mut faults = Faults::default();
    let id = id_of(&access.metadata, NameRule::Subdomain, &mut faults);
    let empty = ClusterAccessSpec::default();
    let spec = access.spec.as_ref().unwrap_or(&empty);
    let service = service_choice(spec, &id.name, &mut faults);
    let no_vip = VipSpec::default();
    let vip = spec.vip.as_ref().unwrap_or(&no_vip);
    let addresses = addresses(vip, &service, &mut faults);
    let families = families(vip, &addresses, &mut faults);
    let hostnames = hostnames(spec, &service, &mut faults);
    let object = Object::Access(Access {
        generation: access.metadata.generation.unwrap_or(0),
        labels: labels_of(&access.metadata),
        ports: ports(spec, &mut faults),
        clusters: clusters(spec, &mut faults),
        hostnames,
        per: vip.per.unwrap_or_default(),
        pool: pool(vip, &mut faults),
        families,
        addresses: addresses.into_iter().map(|(_, address)| address).collect(),
        publish: publish(spec.publish.as_ref(), &mut faults),
        load_balancing: policy(
            spec.policies.as_ref().and_then(|policies| policies.load_balancing.as_ref()),
            "spec.policies.loadBalancing",
            &mut faults,
        ),
        vip_policy: policy(
            spec.policies.as_ref().and_then(|policies| policies.vip.as_ref()),
            "spec.policies.vip",
            &mut faults,
        ),
        id,
        service,
    });
    faults.or(Conversion::of(object))
}

fn service_choice(spec: &ClusterAccessSpec, own_name: &Arc<str>, faults: &mut Faults) -> ServiceChoice {
    let Some(service) = &spec.service else {
        if own_name.len() > 63 || own_name.contains('.') {
            let message = format!("the access's own name `{own_name}` cannot be the name of a service");
            faults.add("spec.service", message, "write `service: {name: …}`");
        }
        return ServiceChoice::Name(own_name.clone());
    };
    let choices = [("name", service.name.is_some()), ("selector", service.selector.is_some())];
    if !exactly_one("spec.service", &choices, faults) {
        return ServiceChoice::Name(own_name.clone());
    }
    if let Some(name) = &service.name {
        if let Some(fault) = names::label_fault(name) {
            let remedy = "write the name of a Service of the access's own namespace";
            faults.add("spec.service.name", format!("`{name}` {fault}"), remedy);
        }
        return ServiceChoice::Name(Arc::from(name.as_str()));
    }
    ServiceChoice::Selector(selector(service.selector.as_ref(), "spec.service.selector", faults))
}

fn ports(spec: &ClusterAccessSpec, faults: &mut Faults) -> Vec<PortChoice> {
    if spec.ports.as_ref().is_some_and(Vec::is_empty) {
        faults.add("spec.ports", "an empty list chooses no port", "list ports, or leave the field out for all");
    }
    let (mut taken, mut seen) = (Vec::new(), BTreeSet::new());
    for (i, port) in spec.ports.iter().flatten().enumerate() {
        let field = format!("spec.ports[{i}]");
        let choices = [("name", port.name.is_some()), ("number", port.number.is_some())];
        if !exactly_one(&field, &choices, faults) {
            continue;
        }
        let choice = match (&port.name, port.number) {
            (Some(name), _) => {
                if let Some(fault) = names::label_fault(name) {
                    let remedy = "write the name of a port of the service, or `number:` for an unnamed one";
                    faults.add(format!("{field}.name"), format!("`{name}` {fault}"), remedy);
                }
                Some(PortChoice::Name(Arc::from(name.as_str())))
            }
            (None, Some(number)) => port_number(number, format!("{field}.number"), faults).map(PortChoice::Number),
            (None, None) => None,
        };
        let Some(choice) = choice else { continue };
        if !seen.insert((port.name.as_deref(), port.number)) {
            faults.add(field, "the port is there twice", "remove one of the two");
        }
        taken.push(choice);
    }
    taken
}

fn clusters(spec: &ClusterAccessSpec, faults: &mut Faults) -> BTreeSet<ClusterName> {
    let Some(names) = spec.clusters.as_ref().and_then(|clusters| clusters.names.as_ref()) else {
        return BTreeSet::new();
    };
    if names.is_empty() {
        let remedy = "list clusters, or leave the field out for all";
        faults.add("spec.clusters.names", "an empty list chooses no cluster", remedy);
    }
    for (i, name) in names.iter().enumerate() {
        if let Some(fault) = names::label_fault(name) {
            let field = format!("spec.clusters.names[{i}]");
            faults.add(field, format!("`{name}` {fault}"), "write the name of a cluster");
        }
    }
    names.iter().map(|name| ClusterName::from(name.as_str())).collect()
}

fn hostnames(spec: &ClusterAccessSpec, service: &ServiceChoice, faults: &mut Faults) -> Vec<Arc<str>> {
    let mut taken: Vec<Arc<str>> = Vec::new();
    let mut seen: BTreeSet<Arc<str>> = BTreeSet::new();
    let written = spec.hostnames.as_deref().unwrap_or_default();
    if !written.is_empty() && matches!(service, ServiceChoice::Selector(_)) {
        let remedy = "make an access for each service that has host names, with `service: {name: …}`";
        faults.add("spec.hostnames", "a host name leads to one service, and a selector may choose many", remedy);
    }
    for (i, text) in written.iter().enumerate() {
        let field = format!("spec.hostnames[{i}]");
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        if let Some(fault) = names::hostname_fault(name) {
            faults.add(field, format!("`{text}` {fault}"), "write a whole DNS name, such as `checkout.example.com`");
        } else if name == ZONE || name.strip_suffix(ZONE).is_some_and(|rest| rest.ends_with('.')) {
            let message = format!("`{text}` is below `{ZONE}`, whose names Causeway makes itself");
            faults.add(field, message, "use a name of your own domain; the clusterset name is there without asking");
        } else if seen.insert(Arc::from(name)) {
            taken.push(Arc::from(name));
        } else {
            faults.add(field, format!("`{text}` is there twice"), "remove one of the two");
        }
    }
    taken
}

/// The addresses asked for, each with its place in the list.
fn addresses(vip: &VipSpec, service: &ServiceChoice, faults: &mut Faults) -> Vec<(usize, IpAddr)> {
    let written = vip.addresses.as_deref().unwrap_or_default();
    if !written.is_empty() && vip.per == Some(VipPer::Pod) {
        let remedy = "leave the addresses out, and let each pod have one of the pool";
        faults.add("spec.vip.addresses", "with `per: Pod` an address cannot be every pod's", remedy);
    }
    if !written.is_empty() && matches!(service, ServiceChoice::Selector(_)) {
        let remedy = "make an access for the service that is to have the address, with `service: {name: …}`";
        faults.add("spec.vip.addresses", "an address leads to one service, and a selector may choose many", remedy);
    }
    let mut taken: Vec<(usize, IpAddr)> = Vec::new();
    for (i, text) in written.iter().enumerate() {
        let field = format!("spec.vip.addresses[{i}]");
        let Ok(address) = text.parse::<IpAddr>() else {
            faults.add(field, format!("`{text}` is no IP address"), "write one address of the pool");
            continue;
        };
        if let Some(fault) = unusable(address) {
            faults.add(field, format!("`{text}` {fault}"), "write one address of the pool");
        } else if let Some((j, _)) = taken.iter().find(|(_, known)| Family::of(*known) == Family::of(address)) {
            let message = format!("`{text}` is of the same family as spec.vip.addresses[{j}]");
            faults.add(field, message, "ask for at most one address of each family");
        }
        taken.push((i, address));
    }
    taken
}

fn families(vip: &VipSpec, addresses: &[(usize, IpAddr)], faults: &mut Faults) -> Vec<Family> {
    let Some(written) = &vip.families else {
        // An address says its family; without any the family is Kubernetes' own default.
        let of_addresses: BTreeSet<Family> = addresses.iter().map(|(_, address)| Family::of(*address)).collect();
        let default = if of_addresses.is_empty() { vec![Family::V4] } else { Vec::new() };
        return of_addresses.into_iter().chain(default).collect();
    };
    if written.is_empty() {
        let remedy = "list `IPv4`, `IPv6` or both, or leave the field out";
        faults.add("spec.vip.families", "an empty list asks for no address", remedy);
    }
    let mut seen = BTreeSet::new();
    for (i, family) in written.iter().enumerate() {
        if !seen.insert(*family) {
            faults.add(format!("spec.vip.families[{i}]"), "the family is there twice", "remove one of the two");
        }
    }
    for (i, address) in addresses.iter().filter(|(_, address)| !seen.contains(&Family::of(*address))) {
        let message = format!("`{address}` is of a family that spec.vip.families does not ask for");
        faults.add(format!("spec.vip.addresses[{i}]"), message, "add the family, or remove the address");
    }
    written.clone()
}

fn pool(vip: &VipSpec, faults: &mut Faults) -> Option<PoolName> {
    let name = vip.pool.as_deref()?;
    if let Some(fault) = names::subdomain_fault(name) {
        let remedy = "write the name of a VipPool, or leave the field out for any that fits";
        faults.add("spec.vip.pool", format!("`{name}` {fault}"), remedy);
    }
    Some(PoolName::from(name))
}

fn publish(spec: Option<&PublishSpec>, faults: &mut Faults) -> PublishRule {
    let default = PublishRule::default();
    let Some(spec) = spec else { return default };
    let min_gateways = spec.min_gateways.map_or(Some(default.min_gateways), |n| {
        let valid = u32::try_from(n).ok().filter(|n| *n >= 1);
        if valid.is_none() {
            let remedy = "use 1 or more: a name is never answered without proof from a gateway";
            faults.add("spec.publish.minGateways", format!("{n} is no number of gateways"), remedy);
        }
        valid
    });
    let ttl_seconds = spec.ttl_seconds.map_or(Some(default.ttl_seconds), |n| {
        let valid = u32::try_from(n).ok().filter(|_| (1..=MAX_TTL_SECONDS).contains(&n));
        if valid.is_none() {
            let remedy = format!("use 1 to {MAX_TTL_SECONDS}; a withdrawn VIP is served for so long");
            faults.add("spec.publish.ttlSeconds", format!("{n} is no time to live"), remedy);
        }
        valid
    });
    PublishRule {
        evidence: spec.evidence.unwrap_or_default(),
        min_gateways: min_gateways.unwrap_or(default.min_gateways),
        ttl_seconds: ttl_seconds.unwrap_or(default.ttl_seconds),
        service_status: spec.service_status.unwrap_or(default.service_status),
        dns_endpoint: spec.dns_endpoint.unwrap_or(default.dns_endpoint),
    }
}

/// A policy as it is asked for. Whether there is one, and what it makes of its configuration, is known where policies are.
fn policy(spec: Option<&PolicyRef>, field: &str, faults: &mut Faults) -> model::PolicyRef {
    let Some(spec) = spec else { return model::PolicyRef::default() };
    let config = match &spec.config {
        None => Value::Null,
        Some(config @ (Value::Null | Value::Object(_))) => config.clone(),
        Some(_) => {
            let field = format!("{field}.config");
            faults.add(field, "the configuration is no mapping", "write `config: {}` or settings by name");
            Value::Null
        }
    };
    model::PolicyRef { name: spec.name.as_deref().map(Into::into), config }
}
