//! What a status shall say, given what it says. Pure.

use std::net::IpAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kube::kinds::{
    ClusterAccessStatus, ClusterInfoStatus, EndpointSnapshotStatus, PolicyStatus, StatusCondition, VipPoolStatus,
    VirtualIpStatus,
};
use crate::kube::outbox::{ClusterConnection, ClusterSeen};

/// A status that is compared with what is there.
pub(super) trait Status: Serialize + DeserializeOwned + Default + PartialEq {
    /// Takes over what only what is there knows: since when things are as they are.
    fn since(&mut self, there: &Self, now: &str);
}

/// The status to write; nothing where it is there already. `generation` is the object's, of whom it is said.
pub(super) fn differs<S: Status>(mut wanted: S, there: &Value, now: &str) -> Option<Value> {
    let there: S = serde_json::from_value(there.clone()).unwrap_or_default();
    wanted.since(&there, now);
    if wanted == there { None } else { serde_json::to_value(wanted).ok() }
}

/// A condition keeps the time at which its status became what it is.
fn conditions(wanted: &mut [StatusCondition], there: &[StatusCondition], now: &str) {
    for condition in wanted {
        let known = there.iter().find(|known| known.kind == condition.kind && known.status == condition.status);
        condition.last_transition_time = match known {
            Some(known) if !known.last_transition_time.is_empty() => known.last_transition_time.clone(),
            _ => now.to_owned(),
        };
    }
}

impl Status for ClusterInfoStatus {
    fn since(&mut self, there: &Self, now: &str) {
        conditions(&mut self.conditions, &there.conditions, now);
    }
}

impl Status for ClusterAccessStatus {
    fn since(&mut self, there: &Self, now: &str) {
        conditions(&mut self.conditions, &there.conditions, now);
    }
}

impl Status for VipPoolStatus {
    fn since(&mut self, there: &Self, now: &str) {
        conditions(&mut self.conditions, &there.conditions, now);
    }
}

impl Status for PolicyStatus {
    fn since(&mut self, there: &Self, now: &str) {
        conditions(&mut self.conditions, &there.conditions, now);
    }
}

impl Status for VirtualIpStatus {
    fn since(&mut self, _: &Self, _: &str) {}
}

impl Status for EndpointSnapshotStatus {
    fn since(&mut self, there: &Self, now: &str) {
        conditions(&mut self.conditions, &there.conditions, now);
        self.bound_at = match self.vips.is_empty() {
            true => None,
            false if self.vips == there.vips && there.bound_at.is_some() => there.bound_at.clone(),
            false => Some(now.to_owned()),
        };
    }
}

/// What a ClusterInfo says, from the two who know: the manager of its connection, and the owner of the world.
pub(super) fn cluster(connection: Option<&ClusterConnection>, seen: Option<&ClusterSeen>) -> ClusterInfoStatus {
    let said = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut status = ClusterInfoStatus {
        state: seen.map_or_else(|| "Pending".to_owned(), |seen| seen.state.clone()),
        counts: seen.map(|seen| seen.counts),
        ..ClusterInfoStatus::default()
    };
    if let Some(connection) = connection {
        status.server_version = said(&connection.server_version);
        status.cluster_uid = said(&connection.cluster_uid);
        status.credential_expires_at = said(&connection.credential_expires_at);
        status.observed_generation = connection.observed_generation;
        status.conditions.clone_from(&connection.conditions);
    }
    status.conditions.push(synced(seen, status.observed_generation));
    status
}

/// The status of a Service, with these addresses; nothing where they are there already.
pub(super) fn service(addresses: &[IpAddr], there: &Value) -> Option<Value> {
    let ingress = there.pointer("/loadBalancer/ingress").and_then(Value::as_array);
    let known: Vec<&str> = ingress.into_iter().flatten().filter_map(|one| one.get("ip")?.as_str()).collect();
    let wanted: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    if known == wanted {
        return None;
    }
    let ingress: Vec<Value> = wanted.iter().map(|address| json!({ "ip": address })).collect();
    Some(if ingress.is_empty() { json!({}) } else { json!({ "loadBalancer": { "ingress": ingress } }) })
}

/// Puts a condition in the place of the one of its type, where there is one to put.
pub(super) fn put_condition(conditions: &mut Vec<StatusCondition>, condition: Option<StatusCondition>) {
    let Some(condition) = condition else { return };
    conditions.retain(|known| known.kind != condition.kind);
    conditions.insert(0, condition);
}

/// A condition that holds when its reason is `Written`.
pub(super) fn condition(kind: &str, reason: &str, message: String, observed_generation: i64) -> StatusCondition {
    StatusCondition {
        kind: kind.to_owned(),
        status: if reason == "Written" { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: String::new(),
        observed_generation,
    }
}

fn synced(seen: Option<&ClusterSeen>, observed_generation: i64) -> StatusCondition {
    let (status, reason, message) = match seen.map(|seen| (seen.state.as_str(), seen.reason.as_str())) {
        Some(("Synced", _)) => ("True", "Synced", String::new()),
        Some(("Unknown", why)) => ("False", "Stale", format!("what was last known of it is served: {why}")),
        _ => ("False", "Pending", "its first list is not complete".to_owned()),
    };
    StatusCondition {
        kind: "Synced".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: String::new(),
        observed_generation,
    }
}

/// What an EndpointSnapshot is bound to.
pub(super) fn snapshot(vips: &[IpAddr], hostnames: &[String]) -> EndpointSnapshotStatus {
    EndpointSnapshotStatus { vips: vips.to_vec(), hostnames: hostnames.to_vec(), ..EndpointSnapshotStatus::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(status: &str) -> ClusterAccessStatus {
        let published =
            StatusCondition { kind: "Published".to_owned(), status: status.to_owned(), ..Default::default() };
        ClusterAccessStatus { conditions: vec![published], ..Default::default() }
    }

    #[test]
    fn what_is_there_already_is_not_written_and_times_are_those_of_changes() {
        let first = differs(access("True"), &Value::Null, "t1").unwrap();
        assert_eq!(first["conditions"][0]["lastTransitionTime"], "t1");
        assert_eq!(differs(access("True"), &first, "t2"), None);
        let second = differs(access("False"), &first, "t2").unwrap();
        assert_eq!(second["conditions"][0]["lastTransitionTime"], "t2");
        let more = ClusterAccessStatus { services: vec!["a/b".to_owned()], ..access("False") };
        let third = differs(more, &second, "t3").unwrap();
        assert_eq!(third["conditions"][0]["lastTransitionTime"], "t2");
    }

    #[test]
    fn a_binding_keeps_the_time_at_which_its_addresses_came() {
        let vips: [IpAddr; 1] = ["240.0.0.1".parse().unwrap()];
        let first = differs(snapshot(&vips, &[]), &json!({}), "t1").unwrap();
        assert_eq!(first["boundAt"], "t1");
        let named = differs(snapshot(&vips, &["a.b".to_owned()]), &first, "t2").unwrap();
        assert_eq!(named["boundAt"], "t1");
        let unbound = differs(snapshot(&[], &[]), &named, "t3").unwrap();
        assert_eq!(unbound.get("boundAt"), None);
    }
}
