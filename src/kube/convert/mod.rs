//! Kubernetes' and Causeway's objects into the model's. Each function either gives an object, or
//! says that the object is left out on purpose, or lists everything that is wrong with it.

mod access;
mod cluster;
mod core;
mod export;
mod policy;
mod pool;
mod snapshot;

pub use self::core::{endpoint_slice, node, pod, service};
pub use access::cluster_access;
pub use cluster::cluster_info;
pub use export::service_export;
pub use policy::policy;
pub use pool::{parse_address_range, vip_pool};
pub use snapshot::endpoint_snapshot;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::field::{Faults, Invalid, one_of};
use super::kinds::SelectorSpec;
use super::names;
use crate::model::id::NamespacedName;
use crate::model::object::{Labels, Object, Operator, Requirement, Selector};
use crate::model::shared;

/// What became of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    /// The object; `None` when it is of a sort that Causeway does not serve (then `left_out` says
    /// which).
    pub object: Option<Object>,
    /// Parts that are not served, by sort, such as UDP ports. Ordinary clusters have them, so they
    /// are information and no fault.
    pub left_out: Vec<&'static str>,
    /// Faults in what tenants may write freely (annotations). The object is taken, with a default
    /// in place of what is wrong: one tenant's typo must not stop a cluster.
    pub warnings: Vec<Invalid>,
}

impl Conversion {
    fn of(object: Object) -> Self {
        Self { object: Some(object), left_out: Vec::new(), warnings: Vec::new() }
    }

    fn nothing(why: &'static str) -> Self {
        Self { object: None, left_out: vec![why], warnings: Vec::new() }
    }
}

/// The outcome of a conversion: what was taken, or all that is wrong.
pub type Converted = Result<Conversion, Vec<Invalid>>;

/// How an object's own name is checked.
#[derive(Clone, Copy)]
enum NameRule {
    /// A DNS label: it becomes a part of DNS names.
    Label,
    /// A DNS subdomain.
    Subdomain,
}

fn name_of(meta: &ObjectMeta, rule: NameRule, faults: &mut Faults) -> Arc<str> {
    let Some(name) = meta.name.as_deref() else {
        let message = match meta.generate_name {
            Some(_) => "the object has only a generateName, and no API server makes a name of it here",
            None => "the object has no name",
        };
        faults.add("metadata.name", message, "write a name");
        return Arc::from("");
    };
    let (fault, wanted) = match rule {
        NameRule::Label => (names::label_fault(name), "use at most 63 of a-z, 0-9 and `-`"),
        NameRule::Subdomain => (names::subdomain_fault(name), "use at most 253 of a-z, 0-9, `-` and `.`"),
    };
    if let Some(fault) = fault {
        faults.add("metadata.name", format!("`{name}` {fault}"), wanted);
    }
    shared::text(name)
}

fn id_of(meta: &ObjectMeta, rule: NameRule, faults: &mut Faults) -> NamespacedName {
    let name = name_of(meta, rule, faults);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    if namespace.is_empty() {
        let remedy = "write the namespace; a file has no context from which `default` could follow";
        faults.add("metadata.namespace", "the object has no namespace", remedy);
    } else if let Some(fault) = names::label_fault(namespace) {
        faults.add("metadata.namespace", format!("`{namespace}` {fault}"), "use at most 63 of a-z, 0-9 and `-`");
    }
    NamespacedName::new(shared::text(namespace), name)
}

fn no_namespace(meta: &ObjectMeta, kind: &str, faults: &mut Faults) {
    if meta.namespace.as_deref().is_some_and(|n| !n.is_empty()) {
        faults.add("metadata.namespace", format!("a {kind} belongs to no namespace"), "remove the field");
    }
}

fn labels_of(meta: &ObjectMeta) -> Labels {
    let labels = meta.labels.iter().flatten();
    labels.map(|(key, value)| (shared::text(key), shared::text(value))).collect()
}

/// Seconds since the Unix epoch; 0 where not said.
fn created_at(meta: &ObjectMeta) -> i64 {
    meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

/// Checks and converts a selector; the empty one where not said.
fn selector(spec: Option<&SelectorSpec>, field: &str, faults: &mut Faults) -> Selector {
    let Some(spec) = spec else {
        return Selector::default();
    };
    let mut result = Selector::default();
    for (key, value) in spec.match_labels.iter().flatten() {
        if let Some(fault) = names::label_key_fault(key) {
            let remedy = "use a label's key, such as `app.kubernetes.io/name`";
            faults.add(format!("{field}.matchLabels[{key}]"), format!("the key `{key}` {fault}"), remedy);
        } else if let Some(fault) = names::label_value_fault(value) {
            let remedy = "use a value that a label can have; no label has this one, so nothing would be chosen";
            faults.add(format!("{field}.matchLabels[{key}]"), format!("`{value}` {fault}"), remedy);
        }
        result.match_labels.insert(Arc::from(key.as_str()), Arc::from(value.as_str()));
    }
    for (i, requirement) in spec.match_expressions.iter().flatten().enumerate() {
        let field = format!("{field}.matchExpressions[{i}]");
        if let Some(fault) = names::label_key_fault(&requirement.key) {
            let message = format!("the key `{}` {fault}", requirement.key);
            faults.add(format!("{field}.key"), message, "use a label's key, such as `app.kubernetes.io/name`");
        }
        let values = requirement.values.as_deref().unwrap_or_default();
        let lists = matches!(requirement.operator, Operator::In | Operator::NotIn);
        if lists && values.is_empty() {
            let message = format!("the operator {:?} needs values", requirement.operator);
            faults.add(format!("{field}.values"), message, "list at least one value");
        } else if !lists && !values.is_empty() {
            let message = format!("the operator {:?} takes no values", requirement.operator);
            faults.add(format!("{field}.values"), message, "remove them, or use the operator `In`");
        }
        result.match_expressions.push(Requirement {
            key: Arc::from(requirement.key.as_str()),
            operator: requirement.operator,
            values: values.iter().map(|v| Arc::from(v.as_str())).collect(),
        });
    }
    result
}

/// Exactly one of the named choices must be made under `field`. Gives whether that holds.
fn exactly_one(field: &str, choices: &[(&str, bool)], faults: &mut Faults) -> bool {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let made: Vec<&str> = choices.iter().filter(|(_, made)| *made).map(|(name, _)| *name).collect();
    let (message, verb) = match made.len() {
        1 => return true,
        0 => (format!("none of {} is there", one_of(&names)), "write"),
        _ => (format!("`{}` exclude each other", made.join("` and `")), "keep"),
    };
    faults.add(field, message, format!("{verb} exactly one of {}", one_of(&names)));
    false
}

/// Why an address can be neither a VIP nor a backend. Loopback is allowed: tests and laptops use it.
pub fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("is an address of \"this network\" (0.0.0.0/8)"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("is the broadcast address"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("is the unspecified address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("is link-local and means nothing without an interface"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("is an IPv4 address in IPv6 clothes"),
        any if any.is_multicast() => Some("is a multicast address"),
        _ => None,
    }
}
