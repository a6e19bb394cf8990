//! VirtualIp.

use serde_json::json;

use super::draft::Draft;
use super::rules::{at_most, usable};
use crate::kube::kinds::VirtualIpResource;

/// `namespace/name`.
const QUALIFIED: &str = r"self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')";

pub(super) fn draft() -> Draft {
    let mut draft = Draft::of::<VirtualIpResource>()
        .set("spec.address", at_most(45))
        .rule(
            "spec.address",
            "isIP(self) && ip.isCanonical(self)",
            "must be an IP address in its canonical form (RFC 5952), such as `240.11.0.7` or `fd00:11::7`",
        )
        .rule(
            "spec.address",
            &format!("!isIP(self) || ({})", usable("self")),
            "must be a unicast address that can be bound; write one of the pool",
        )
        .rule(
            "",
            "!isIP(self.spec.address) || self.spec.address.contains(':') || self.metadata.name == self.spec.address",
            "the object's name must be its address; set metadata.name to what spec.address says",
        )
        .rule(
            "",
            "!isIP(self.spec.address) || !self.spec.address.contains(':') || \
             (self.metadata.name.matches('^([0-9a-f]{4}-){7}[0-9a-f]{4}$') && \
             ip(self.metadata.name.replace('-', ':')) == ip(self.spec.address))",
            "the object's name must be its address, all 8 groups of 4 hexadecimal digits joined by `-`, such as \
             `fd00-0011-0000-0000-0000-0000-0000-0007` for `fd00:11::7`",
        )
        .subdomain("spec.pool", "write the name of a VipPool")
        .set("spec.phase", json!({ "enum": ["Held", "Unpublishing", "Draining", "Removing"] }))
        // Written as a whole, so that managedFields has one entry for it.
        .set("spec.listening", json!({ "x-kubernetes-map-type": "atomic" }))
        .set("spec.pod", at_most(317))
        .set("spec.node", at_most(1024));
    for place in ["spec.access", "spec.service"] {
        draft = draft.set(place, at_most(317)).rule(place, QUALIFIED, "must be written as `namespace/name`");
    }
    for place in ["spec.address", "spec.pool", "spec.access", "spec.service"] {
        let message =
            "cannot be changed: an address in use never moves; delete the ClusterAccess to give the address back";
        draft = draft.rule(place, "self == oldSelf", message);
    }
    draft
        .column("Address", "string", ".spec.address")
        .column("Access", "string", ".spec.access")
        .column("State", "string", ".status.state")
        .column("Bound", "string", ".status.bound")
        .column("Proof", "string", ".status.proof")
        .age()
        .wide("Service", "string", ".spec.service")
        .wide("Pod", "string", ".spec.pod")
        .wide("Pool", "string", ".spec.pool")
        .wide("Phase", "string", ".spec.phase")
        .wide("Message", "string", ".status.message")
}
