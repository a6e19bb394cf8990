//! What the primary has for a cluster to be given, as it travels.

use std::sync::Arc;

use prost::Message;
use serde_json::Value;

use super::digest::hash_of;
use super::proto::{self, PartKind};
use super::wire::{Content, Unfit};
use crate::kube::connect::Refused;
use crate::kube::down::{Id, Kind, LABEL, Part, Summary, Writes};
use crate::kube::field::{Faults, Invalid};
use crate::kube::names;
use crate::model::id::NamespacedName;

const REMEDY: &str = "run a member of the primary's version";

/// What a cluster is given, on its way from the primary.
#[derive(Debug)]
pub(crate) struct Parts;

/// An object of it.
pub(crate) type Given = (Id, Arc<Part>);

impl Content for Parts {
    type Key = Id;
    type Object = Given;

    fn key((id, _): &Given) -> Id {
        id.clone()
    }

    fn hash(id: &Id) -> u64 {
        hash_of(&format!("{:?}", id.kind), &id.name.namespace, &id.name.name)
    }

    fn decode(encoded: &[u8]) -> Result<Given, Unfit<Id>> {
        let part = proto::Part::decode(encoded).map_err(|error| Unfit::Unreadable(error.to_string()))?;
        let kind = match PartKind::try_from(part.kind) {
            Ok(PartKind::EndpointSnapshot) => Kind::EndpointSnapshot,
            Ok(PartKind::ServiceImport) => Kind::ServiceImport,
            Ok(PartKind::EndpointSlice) => Kind::EndpointSlice,
            Ok(PartKind::Service) => Kind::Service,
            Ok(PartKind::ServiceExport) => Kind::ServiceExport,
            Ok(PartKind::Unspecified) | Err(_) => {
                return Err(Unfit::Unreadable("an object of a kind that this version does not know".to_owned()));
            }
        };
        let mut faults = Faults::default();
        let mut check = |field: &str, fault: Option<&'static str>, value: &str| {
            if let Some(fault) = fault {
                faults.add(field, format!("`{}` {fault}", value.escape_default()), REMEDY);
            }
        };
        check("namespace", names::label_fault(&part.namespace), &part.namespace);
        check("name", names::subdomain_fault(&part.name), &part.name);
        let mut json = |field: &str, bytes: &[u8]| {
            let value = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(bytes) };
            value.unwrap_or_else(|error| {
                faults.add(field, format!("it is not JSON: {error}"), REMEDY);
                Value::Null
            })
        };
        let (body, status) = (json("body", &part.body), json("status", &part.status));
        // What lacks it could not be told from what users have, and would stay for ever.
        if kind.is_made() && body["metadata"]["labels"][LABEL] != "true" {
            faults.add("body.metadata.labels", format!("it lacks the label {LABEL}"), REMEDY);
        }
        let id = Id { kind, name: NamespacedName::new(part.namespace, part.name) };
        let given = Part { is_asked_for: part.asked_for, is_bare: part.bare, ..Part::new(body, status) };
        faults.or((id.clone(), Arc::new(given))).map_err(|faults: Vec<Invalid>| Unfit::Invalid(id, faults))
    }
}

/// An object as it travels.
pub(crate) fn encode(id: &Id, part: &Part) -> Vec<u8> {
    let kind = match id.kind {
        Kind::EndpointSnapshot => PartKind::EndpointSnapshot,
        Kind::ServiceImport => PartKind::ServiceImport,
        Kind::EndpointSlice => PartKind::EndpointSlice,
        Kind::Service => PartKind::Service,
        Kind::ServiceExport => PartKind::ServiceExport,
    };
    let json = |value: &Value| if value.is_null() { Vec::new() } else { value.to_string().into_bytes() };
    let message = proto::Part {
        kind: kind.into(),
        namespace: id.name.namespace.to_string(),
        name: id.name.name.to_string(),
        body: json(&part.body),
        status: json(&part.status),
        asked_for: part.is_asked_for,
        bare: part.is_bare,
    };
    message.encode_to_vec()
}

/// How far a cluster is, as it travels.
pub(super) fn summary_to(summary: &Summary) -> proto::SyncedDown {
    let Summary { writes: Writes { created, changed, deleted, failures }, wanted, trouble, is_done } = summary;
    proto::SyncedDown {
        wanted: *wanted as u64,
        done: *is_done,
        reason: trouble.as_ref().map_or_else(String::new, |why| why.reason.to_owned()),
        message: trouble.as_ref().map_or_else(String::new, ToString::to_string),
        created: *created,
        changed: *changed,
        deleted: *deleted,
        failures: *failures,
    }
}

/// How far a cluster is, by its member's word.
pub(super) fn summary_from(said: proto::SyncedDown) -> Summary {
    const REASONS: [&str; 5] = ["KindMissing", "Forbidden", "InTheWay", "Unreachable", "ServerError"];
    let trouble = (!said.reason.is_empty()).then(|| Refused {
        reason: REASONS.into_iter().find(|reason| *reason == said.reason).unwrap_or("MemberCannotWrite"),
        message: said.message,
        remedy: "mend that in the cluster",
    });
    let writes =
        Writes { created: said.created, changed: said.changed, deleted: said.deleted, failures: said.failures };
    Summary { writes, wanted: usize::try_from(said.wanted).unwrap_or(usize::MAX), trouble, is_done: said.done }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_travels_arrives_as_it_was_and_nothing_else_is_taken() {
        let id = Id { kind: Kind::ServiceImport, name: NamespacedName::new("shop", "checkout") };
        let body = json!({ "metadata": { "labels": { LABEL: "true" } }, "spec": { "ips": ["240.0.0.1"] } });
        let part = Part { is_bare: true, is_asked_for: true, ..Part::new(body, json!({ "clusters": [] })) };
        let (found, arrived) = Parts::decode(&encode(&id, &part)).unwrap();
        assert_eq!((found, &*arrived), (id.clone(), &part));
        let without = Part::new(json!({ "spec": {} }), Value::Null);
        assert!(matches!(Parts::decode(&encode(&id, &without)), Err(Unfit::Invalid(_, faults)) if faults.len() == 1));
        for bytes in [&b""[..], b"\xff", b"\x08\x63"] {
            assert!(matches!(Parts::decode(bytes), Err(Unfit::Unreadable(_))), "{bytes:?}");
        }
        let broken = proto::Part { kind: 1, namespace: "UPPER".to_owned(), body: b"{".to_vec(), ..Default::default() };
        let Err(Unfit::Invalid(_, faults)) = Parts::decode(&broken.encode_to_vec()) else { panic!("taken") };
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
