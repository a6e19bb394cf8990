//! Policy.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Conversion, Converted, NameRule, exactly_one, name_of, no_namespace};
use crate::kube::field::Faults;
use crate::kube::kinds::{ComponentFrom, KeyRef, Policy, PolicyLimits};
use crate::kube::names;
use crate::model::object::Object;
use crate::model::policy::{ComponentSource, PolicySpec};
use crate::policy::{ALL_PERCENT, Digest, Limits};

/// A Policy.
///
/// # Errors
/// Lists every field that is not valid.
pub fn policy(policy: &Policy) -> Converted {
    let mut faults = Faults::default();
    // Accesses name it, and the HTTP API has it in its paths.
    let name = name_of(&policy.metadata, NameRule::Label, &mut faults);
    no_namespace(&policy.metadata, "Policy", &mut faults);
    let Some(spec) = policy.spec.clone() else {
        faults.add("spec", "the policy says nothing", "write `world` and `component`");
        return faults.or(Conversion::nothing(""));
    };
    let from = source(spec.component.from.unwrap_or_default(), &mut faults);
    let digest = spec.component.digest.map(Arc::<str>::from);
    match &digest {
        Some(text) if text.parse::<Digest>().is_err() => {
            let remedy = "write `sha256:` and 64 hexadecimal digits in lower case, as `sha256sum` prints them";
            faults.add("spec.component.digest", format!("`{text}` is no digest"), remedy);
        }
        None if !matches!(from, ComponentSource::Oci(_)) => {
            let remedy = "write the bytes' digest, `sha256:` and what `sha256sum` prints: what decides over traffic must not \
                          change without a change of the object";
            faults.add("spec.component.digest", "the component has no digest", remedy);
        }
        _ => {}
    }
    if let Some(signature) = &spec.component.signature
        && STANDARD.decode(signature.trim()).is_err()
    {
        let remedy = "write what `cosign sign-blob --key cosign.key component.wasm` prints";
        faults.add("spec.component.signature", "the signature is no base64", remedy);
    }
    if spec.config.as_ref().is_some_and(|config| !config.is_object()) {
        faults.add("spec.config", "the configuration is no object", "write fields, or leave it out");
    }
    let limits = limits(spec.limits.as_ref(), &mut faults);
    faults.or(Conversion::of(Object::Policy(PolicySpec {
        name,
        world: spec.world,
        digest,
        from,
        signature: spec.component.signature.map(|text| Arc::from(text.trim())),
        config: spec.config.unwrap_or_default(),
        on_failure: spec.on_failure.unwrap_or_default(),
        fuel: limits.fuel,
        memory_mib: limits.memory_mib,
        max_removed_percent: limits.max_removed_percent,
        generation: policy.metadata.generation.unwrap_or_default(),
    })))
}

fn source(from: ComponentFrom, faults: &mut Faults) -> ComponentSource {
    const FIELD: &str = "spec.component.from";
    let choices = [
        ("upload", from.upload.is_some()),
        ("configMapKeyRef", from.config_map_key_ref.is_some()),
        ("oci", from.oci.is_some()),
        ("path", from.path.is_some()),
    ];
    if choices.iter().any(|(_, made)| *made) && !exactly_one(FIELD, &choices, faults) {
        return ComponentSource::Upload;
    }
    if let Some(KeyRef { namespace, name, key }) = from.config_map_key_ref {
        for (part, fault) in [("namespace", names::label_fault(&namespace)), ("name", names::subdomain_fault(&name))] {
            if let Some(fault) = fault {
                let field = format!("{FIELD}.configMapKeyRef.{part}");
                faults.add(field, format!("the {part} {fault}"), format!("write the {part} of the ConfigMap"));
            }
        }
        if key.is_empty() {
            let remedy = "write the key within the ConfigMap's `binaryData`";
            faults.add(format!("{FIELD}.configMapKeyRef.key"), "the key is empty", remedy);
        }
        return ComponentSource::ConfigMap { namespace: namespace.into(), name: name.into(), key: key.into() };
    }
    if let Some(reference) = from.oci {
        if let Err(error) = reference.parse::<crate::registry::Reference>() {
            faults.add(format!("{FIELD}.oci"), error.to_string(), "write it as `oci://host/name@sha256:…`");
        }
        return ComponentSource::Oci(reference.into());
    }
    match from.path {
        Some(path) => {
            let is_inside = std::path::Path::new(&path)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
            if path.is_empty() || !is_inside {
                let remedy = "write a path relative to the control plane's --policy-dir, without `..`";
                faults.add(format!("{FIELD}.path"), format!("`{path}` leads elsewhere"), remedy);
            }
            ComponentSource::Path(path.into())
        }
        None => ComponentSource::Upload,
    }
}

/// What was said of limits, where it can be.
struct Said {
    fuel: Option<u64>,
    memory_mib: Option<u32>,
    max_removed_percent: Option<u32>,
}

fn limits(limits: Option<&PolicyLimits>, faults: &mut Faults) -> Said {
    let mut within = |field: &str, value: Option<i64>, most: u64, unit: &str| {
        let value = value?;
        match u64::try_from(value) {
            Ok(value) if (1..=most).contains(&value) => Some(value),
            _ => {
                let message = format!("{value} {unit} is not within 1 to {most}");
                let remedy = "use another, or leave the field out for the default";
                faults.add(format!("spec.limits.{field}"), message, remedy);
                None
            }
        }
    };
    let small = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    let PolicyLimits { fuel, memory_mib, max_removed_percent } = limits.copied().unwrap_or_default();
    Said {
        fuel: within("fuel", fuel, Limits::MOST_FUEL, "instructions"),
        memory_mib: small(within("memoryMiB", memory_mib, u64::from(Limits::MOST_MEMORY_MIB), "MiB")),
        max_removed_percent: small(within("maxRemovedPercent", max_removed_percent, u64::from(ALL_PERCENT), "%")),
    }
}
