//! EndpointSnapshot.

use serde_json::json;

use super::draft::Draft;
use super::rules::{at_most, usable};
use crate::kube::kinds::EndpointSnapshotResource;

pub(super) fn draft() -> Draft {
    let pod = |field: &str| format!("spec.pods[].{field}");
    Draft::of::<EndpointSnapshotResource>()
        // One owner writes the whole: managedFields then has one entry for the spec, and not one for each pod.
        .set("spec", json!({ "x-kubernetes-map-type": "atomic" }))
        .default("spec.owner", json!("User"))
        .subdomain("spec.access", "write the name of a ClusterAccess of the same namespace")
        .label("spec.service", "write the name of a service of the same namespace")
        .label("spec.cluster", "write the name of a ClusterInfo, or leave the field out for the primary")
        .set(
            "spec.pods",
            json!({ "maxItems": 1000, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"] }),
        )
        .subdomain(&pod("name"), "write a pod's name, or any other that the object has once")
        .set(&pod("uid"), at_most(128))
        .set(&pod("node"), at_most(253))
        .set(&pod("region"), at_most(253))
        .set(&pod("zone"), at_most(253))
        .set(&pod("addresses"), json!({ "maxItems": 8, "x-kubernetes-list-type": "atomic" }))
        .set(&pod("addresses[]"), at_most(45))
        .rule(&pod("addresses[]"), "isIP(self)", "must be an IP address, such as `10.1.2.3` or `fd00::3`")
        .rule(
            &pod("addresses[]"),
            &format!("!isIP(self) || ({})", usable("self")),
            "must be a unicast address that a backend can have",
        )
        .set(&pod("ports"), json!({ "maxProperties": 64 }))
        .set(&pod("ports{}"), json!({ "minimum": 1, "maximum": 65_535 }))
        .set(&pod("weight"), json!({ "minimum": 1, "maximum": 1000 }))
        .column("Owner", "string", ".spec.owner")
        .column("Cluster", "string", ".spec.cluster")
        .column("Access", "string", ".spec.access")
        .column("VIPs", "string", ".status.vips")
        .age()
        .wide("Hostnames", "string", ".status.hostnames")
        .wide("Bound-At", "date", ".status.boundAt")
}
