//! Policy.

use serde_json::json;

use super::draft::Draft;
use super::rules::at_most;
use crate::kube::kinds::PolicyResource;

pub(super) fn draft() -> Draft {
    let from = "spec.component.from";
    Draft::of::<PolicyResource>()
        .default("spec.onFailure", json!("KeepLast"))
        .set("spec.component.digest", at_most(71))
        .rule(
            "spec.component.digest",
            "self.matches('^sha256:[0-9a-f]{64}$')",
            "must be `sha256:` and 64 hexadecimal digits in lower case, as `sha256sum` prints them",
        )
        .exactly_one(from, &["upload", "configMapKeyRef", "oci", "path"])
        .key_ref(&format!("{from}.configMapKeyRef"))
        .set(&format!("{from}.oci"), at_most(512))
        .rule(
            &format!("{from}.oci"),
            "self.matches('^oci://[^@ ]+@sha256:[0-9a-f]{64}$')",
            "must name the component by its digest, as `oci://host/name@sha256:…`: a tag may become another component",
        )
        .set(&format!("{from}.path"), json!({ "maxLength": 4096, "minLength": 1 }))
        .rule("spec.limits.fuel", "self >= 1", "use 1 or more instructions, or leave the field out")
        .rule("spec.limits.memoryMiB", "self >= 1 && self <= 4096", "use 1 to 4096 MiB, or leave the field out")
        .column("World", "string", ".spec.world")
        .column("Digest", "string", ".spec.component.digest")
        .age()
        .wide("On-Failure", "string", ".spec.onFailure")
        .wide("Active", "string", ".status.activeDigest")
}
