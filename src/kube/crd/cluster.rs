//! ClusterInfo.

use serde_json::json;

use super::draft::Draft;
use super::rules::at_most;
use crate::kube::kinds::ClusterInfoResource;

pub(super) fn draft() -> Draft {
    let excluded = "spec.namespaces.exclude";
    Draft::of::<ClusterInfoResource>()
        .named_by_label("it is a part of names such as `east.checkout.shop.svc.clusterset.local`")
        .default("spec", json!({}))
        .default("spec.role", json!("Sub"))
        .default("spec.network", json!("default"))
        .set("spec.network", at_most(253))
        .rule(
            "spec.network",
            r"self.matches('^[^\\pZ\\pC]([^\\pC]*[^\\pZ\\pC])?$')",
            "the network's name is empty or has spaces around it; name it, or leave the field out for `default`",
        )
        .set("spec.locality.region", at_most(253))
        .set("spec.locality.zone", at_most(253))
        .exactly_one("spec.source", &["kubeconfig", "member", "manifests"])
        .exactly_one("spec.source.kubeconfig", &["configMapKeyRef", "secretKeyRef"])
        .key_ref("spec.source.kubeconfig.configMapKeyRef")
        .key_ref("spec.source.kubeconfig.secretKeyRef")
        .set(excluded, json!({ "maxItems": 1000, "x-kubernetes-list-type": "set" }))
        .label(&format!("{excluded}[]"), "write a namespace's whole name; patterns are not understood")
        .default("spec.syncDown", json!({}))
        .default("spec.syncDown.accesses", json!("All"))
        .default("spec.syncDown.pods", json!("Primary"))
        .column("Role", "string", ".spec.role")
        .column("State", "string", ".status.state")
        .column("Services", "integer", ".status.counts.services")
        .column("Pods", "integer", ".status.counts.pods")
        .column("Version", "string", ".status.serverVersion")
        .age()
        .wide("Network", "string", ".spec.network")
        .wide("Nodes", "integer", ".status.counts.nodes")
        .wide("Credential-Ends", "date", ".status.credentialExpiresAt")
        .wide("Message", "string", ".status.conditions[?(@.type==\"Synced\")].message")
}
