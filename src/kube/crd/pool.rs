//! VipPool.

use serde_json::json;

use super::draft::Draft;
use super::rules::{at_most, usable};
use crate::kube::kinds::VipPoolResource;

pub(super) fn draft() -> Draft {
    // The API server refuses rules whose cost it cannot estimate as bounded: it can for a part of a text, and less well
    // for what `split` gives; for `==` of ranges, and not for `!=`.
    let (first, last) = ("self.substring(0, self.indexOf('-'))", "self.substring(self.indexOf('-') + 1)");
    let is_pair = format!("(self.contains('-') && isIP({first}) && isIP({last}))");
    let range = format!("isCIDR(self) || isIP(self) || {is_pair}");
    let host_bits = "!isCIDR(self) || cidr(self) == cidr(self).masked()";
    let families = format!("!{is_pair} || {first}.contains(':') == {last}.contains(':')");
    let ends = format!(
        "isCIDR(self) ? (!(cidr(self) == cidr(self).masked()) || ({})) : isIP(self) ? ({}) : \
         (!{is_pair} || (({}) && ({})))",
        usable("cidr(self).ip()").replace("ip(cidr(self).ip())", "cidr(self).ip()"),
        usable("self"),
        usable(first),
        usable(last),
    );
    let reserved = format!("!isIP(self) || ({})", usable("self"));
    Draft::of::<VipPoolResource>()
        .default("spec.assignedBy", json!("ControlPlane"))
        .rule(
            "spec",
            "self.assignedBy != 'ControlPlane' || (has(self.ranges) && self.ranges.size() > 0)",
            "the pool has no addresses; list at least one of `ranges`, such as `240.11.0.0/16`, or say `assignedBy: \
             DataPlane`",
        )
        .rule(
            "spec",
            "self.assignedBy != 'DataPlane' || !has(self.ranges) || self.ranges.size() == 0",
            "the gateways' agents have the ranges of a pool assigned by DataPlane; remove `ranges`, or say `assignedBy: \
             ControlPlane`",
        )
        .set("spec.ranges", json!({ "maxItems": 64, "x-kubernetes-list-type": "set" }))
        .set("spec.ranges[]", at_most(91))
        .rule(
            "spec.ranges[]",
            &range,
            "must be a range of addresses; write it as `240.11.0.0/16`, `fd00:11::/112`, `10.0.0.10-10.0.0.20` or a single \
             address",
        )
        .rule(
            "spec.ranges[]",
            host_bits,
            "has bits set beyond its prefix length; write the first address of its network, or a range `first-last`",
        )
        .rule("spec.ranges[]", &families, "begins in one IP family and ends in the other; list a range for each family")
        .rule(
            "spec.ranges[]",
            &ends,
            "holds an address that no VIP can have; use unicast addresses that your network leaves to Causeway",
        )
        .set("spec.reserved", json!({ "maxItems": 1024, "x-kubernetes-list-type": "set" }))
        .set("spec.reserved[]", at_most(45))
        .rule(
            "spec.reserved[]",
            "isIP(self)",
            "must be an IP address; write one address each, and to spare a whole range, leave it out of spec.ranges",
        )
        .rule("spec.reserved[]", &reserved, "is an address that no VIP can have; write an address of the ranges")
        .selector("spec.gateways")
        .selector("spec.namespaceSelector")
        .rule(
            "spec.namespaceSelector",
            "(!has(self.matchLabels) || self.matchLabels.all(key, key == 'kubernetes.io/metadata.name')) && \
             (!has(self.matchExpressions) || self.matchExpressions.all(one, one.key == 'kubernetes.io/metadata.name'))",
            "of a namespace only its name is known, not its labels; select by the label `kubernetes.io/metadata.name`",
        )
        .rule(
            "spec.quotaPerNamespace",
            "self >= 0 && self <= 4294967295",
            "use a whole number from 0, or leave the field out for no limit",
        )
        .column("Ranges", "string", ".spec.ranges")
        .column("Used", "integer", ".status.used")
        .column("Free", "integer", ".status.free")
        .age()
        .wide("Assigned-By", "string", ".spec.assignedBy")
        .wide("Quota", "integer", ".spec.quotaPerNamespace")
        .wide("Accepted", "string", ".status.conditions[?(@.type==\"Accepted\")].status")
}
