//! Policy.

use serde_json::json;

use super::draft::Draft;
use super::rules::at_most;
use crate::kube::kinds::PolicyResource;
use crate::policy::Limits;

pub(super) fn draft() -> Draft {
    let from = "spec.component.from";
    let (fuel, memory) = (Limits::MOST_FUEL, Limits::MOST_MEMORY_MIB);
    Draft::of::<PolicyResource>()
        .named_by_label("accesses and the HTTP API name the policy")
        .default("spec.onFailure", json!("KeepLast"))
        .default(from, json!({ "upload": {} }))
        .set("spec.component.digest", at_most(71))
        .rule(
            "spec.component.digest",
            "self.matches('^sha256:[0-9a-f]{64}$')",
            "must be `sha256:` and 64 hexadecimal digits in lower case, as `sha256sum` prints them",
        )
        .rule(
            "spec.component",
            "has(self.digest) || (has(self.from) && has(self.from.oci))",
            "the component has no digest; write `digest: sha256:…`, as `sha256sum` prints it: what decides over traffic must \
             not change without a change of the object",
        )
        .set("spec.component.signature", at_most(1024))
        .exactly_one(from, &["upload", "configMapKeyRef", "oci", "path"])
        .key_ref(&format!("{from}.configMapKeyRef"))
        .set(&format!("{from}.oci"), at_most(512))
        .rule(
            &format!("{from}.oci"),
            "self.matches('^oci://[^@ ]+@sha256:[0-9a-f]{64}$')",
            "must name the component by its digest, as `oci://host/name@sha256:…`: a tag may become another component",
        )
        .set(&format!("{from}.path"), json!({ "maxLength": 1024, "minLength": 1 }))
        .rule(
            &format!("{from}.path"),
            "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
            "must be relative to the control plane's --policy-dir, without `..`",
        )
        .rule(
            "spec.limits.fuel",
            &format!("self >= 1 && self <= {fuel}"),
            &format!("use 1 to {fuel} instructions, or leave the field out"),
        )
        .rule(
            "spec.limits.memoryMiB",
            &format!("self >= 1 && self <= {memory}"),
            &format!("use 1 to {memory} MiB, or leave the field out"),
        )
        .rule(
            "spec.limits.maxRemovedPercent",
            "self >= 1 && self <= 100",
            "use 1 to 100 %, or leave the field out for no limit",
        )
        .column("World", "string", ".spec.world")
        .column("Active", "string", ".status.conditions[?(@.type==\"Active\")].status")
        .column("Healthy", "string", ".status.conditions[?(@.type==\"Healthy\")].status")
        .column("Accesses", "integer", ".status.accesses")
        .age()
        .wide("On-Failure", "string", ".spec.onFailure")
        .wide("Digest", "string", ".status.activeDigest")
}
