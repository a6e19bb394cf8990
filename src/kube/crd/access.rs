//! ClusterAccess.

use serde_json::json;

use super::draft::Draft;
use super::rules::{at_most, usable};
use crate::kube::kinds::ClusterAccessResource;

pub(super) fn draft() -> Draft {
    columns(publish(vip(choices(Draft::of::<ClusterAccessResource>()))))
}

fn choices(draft: Draft) -> Draft {
    draft
        .default("spec", json!({}))
        .rule(
            "",
            "has(self.spec.service) || (!self.metadata.name.contains('.') && self.metadata.name.size() <= 63)",
            "the access's own name cannot be the name of a service; write `spec.service: {name: …}`",
        )
        .exactly_one("spec.service", &["name", "selector"])
        .label("spec.service.name", "write the name of a Service of the access's own namespace")
        .selector("spec.service.selector")
        .set("spec.ports", json!({ "maxItems": 64, "x-kubernetes-list-type": "atomic" }))
        .rule("spec.ports", "self.size() > 0", "an empty list chooses no port; list ports, or leave the field out for all")
        .rule(
            "spec.ports",
            "self.all(port, self.exists_one(other, other == port))",
            "a port is there twice; remove one of the two",
        )
        .exactly_one("spec.ports[]", &["name", "number"])
        .label("spec.ports[].name", "write the name of a port of the service, or `number:` for an unnamed one")
        .set("spec.ports[].number", json!({ "minimum": 1, "maximum": 65_535 }))
        .set("spec.clusters.names", json!({ "maxItems": 256, "x-kubernetes-list-type": "set" }))
        .rule(
            "spec.clusters.names",
            "self.size() > 0",
            "an empty list chooses no cluster; list clusters, or leave the field out for all",
        )
        .label("spec.clusters.names[]", "write the name of a cluster")
        .set("spec.hostnames", json!({ "maxItems": 64, "x-kubernetes-list-type": "set" }))
        .set("spec.hostnames[]", at_most(253))
        .rule(
            "spec.hostnames[]",
            r"!isIP(self) && self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+$')",
            "must be a host name in lower case without wildcard, port or final dot; write a whole DNS name, such as \
             `checkout.example.com`",
        )
        .rule(
            "spec.hostnames[]",
            "self != 'clusterset.local' && !self.endsWith('.clusterset.local')",
            "names below `clusterset.local` are made by Causeway itself; use a name of your own domain, the clusterset \
             name is there without asking",
        )
        .rule(
            "spec",
            "!has(self.service) || !has(self.service.selector) || !has(self.hostnames) || self.hostnames.size() == 0",
            "a host name leads to one service, and a selector may choose many; make an access for each service that has \
             host names, with `service: {name: …}`",
        )
        .rule(
            "spec",
            "!has(self.service) || !has(self.service.selector) || !has(self.vip.addresses) || \
             self.vip.addresses.size() == 0",
            "an address leads to one service, and a selector may choose many; make an access for the service that is to \
             have the address, with `service: {name: …}`",
        )
}

fn vip(draft: Draft) -> Draft {
    let address = format!("!isIP(self) || ({})", usable("self"));
    draft
        .default("spec.vip", json!({}))
        .default("spec.vip.per", json!("Service"))
        .subdomain("spec.vip.pool", "write the name of a VipPool, or leave the field out for any that fits")
        .set("spec.vip.families", json!({ "maxItems": 2, "x-kubernetes-list-type": "set" }))
        .rule(
            "spec.vip.families",
            "self.size() > 0",
            "an empty list asks for no address; list `IPv4`, `IPv6` or both, or leave the field out",
        )
        .set("spec.vip.addresses", json!({ "maxItems": 2, "x-kubernetes-list-type": "atomic" }))
        .set("spec.vip.addresses[]", at_most(45))
        .rule("spec.vip.addresses[]", "isIP(self)", "must be an IP address; write one address of the pool")
        .rule(
            "spec.vip.addresses[]",
            &address,
            "must be a unicast address that can be bound; write one address of the pool",
        )
        .rule(
            "spec.vip.addresses",
            "self.filter(address, address.contains(':')).size() <= 1 && \
             self.filter(address, !address.contains(':')).size() <= 1",
            "ask for at most one address of each family",
        )
        .rule(
            "spec.vip",
            "!has(self.families) || !has(self.addresses) || self.addresses.all(address, \
             (address.contains(':') ? 'IPv6' : 'IPv4') in self.families)",
            "an address is of a family that `families` does not ask for; add the family, or remove the address",
        )
        .rule(
            "spec.vip",
            "self.per != 'Pod' || !has(self.addresses) || self.addresses.size() == 0",
            "with `per: Pod` an address cannot be every pod's; leave the addresses out, and let each pod have one of the \
             pool",
        )
}

fn publish(draft: Draft) -> Draft {
    draft
        .default("spec.publish", json!({}))
        .default("spec.publish.evidence", json!("Strongest"))
        .default("spec.publish.minGateways", json!(1))
        .default("spec.publish.ttlSeconds", json!(5))
        .default("spec.publish.serviceStatus", json!(false))
        .default("spec.publish.dnsEndpoint", json!(false))
        .rule(
            "spec.publish.minGateways",
            "self >= 1 && self <= 4294967295",
            "use 1 or more: a name is never answered without proof from a gateway",
        )
        .rule(
            "spec.publish.ttlSeconds",
            "self >= 1 && self <= 86400",
            "use 1 to 86400; a withdrawn VIP is served for so long",
        )
        .set("spec.policies.loadBalancing.name", at_most(253))
        .set("spec.policies.vip.name", at_most(253))
        .rule("spec.policies.loadBalancing.name", "self != ''", "name a Policy, or leave the field out")
        .rule("spec.policies.vip.name", "self != ''", "name a Policy, or leave the field out")
}

fn columns(draft: Draft) -> Draft {
    draft
        .column("VIPs", "string", ".status.vips[0].address")
        .column("State", "string", ".status.vips[0].state")
        .column("Bound", "string", ".status.vips[0].bound")
        .column("Published", "string", ".status.conditions[?(@.type==\"Published\")].status")
        .column("Hostname", "string", ".status.vips[0].hostnames[0]")
        .age()
        .wide("Second", "string", ".status.vips[1].address")
        .wide("Pool", "string", ".spec.vip.pool")
        .wide("Reason", "string", ".status.conditions[?(@.type==\"Published\")].reason")
        .wide("Message", "string", ".status.conditions[?(@.type==\"Published\")].message")
}
