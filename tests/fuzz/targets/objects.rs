//! Kubernetes' objects, as files and as API servers tell them, and the credentials for these.

use causeway::fuzzing;
use causeway::kube::connect::Credential;
use causeway::kube::convert::{self, Converted};
use causeway::kube::kinds;
use causeway::manifests::{Decoded, Format, decode};
use causeway::model::object::Object;
use k8s_openapi::api::core::v1 as core_v1;
use k8s_openapi::api::discovery::v1 as discovery_v1;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::helps;

/// A file of YAML.
pub fn manifests_yaml(input: &[u8]) {
    manifest(Format::Yaml, input);
}

/// A file of JSON.
pub fn manifests_json(input: &[u8]) {
    manifest(Format::Json, input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let expected: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    match (fuzzing::json_documents(text), expected) {
        (Ok(documents), Ok(mut expected)) => {
            expected.retain(|document| !document.is_null());
            expected.iter_mut().for_each(as_kept);
            assert!(same(&Value::from(documents), &Value::from(expected)), "{text}");
        }
        (Ok(documents), Err(error)) => panic!("{documents:?} is read of what is no JSON: {error}"),
        (Err((_, message, _)), Ok(_)) => {
            let known = ["nested deeper", "truth value", "twice"].iter().any(|why| message.contains(why));
            assert!(known, "JSON is refused: {message}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// As a file's trees have it: what nobody reads is not there.
fn as_kept(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(as_kept),
        Value::Object(fields) => {
            fields.remove("managedFields");
            fields.values_mut().for_each(as_kept);
        }
        _ => {}
    }
}

/// Whether two values are the same, but for the last digits of numbers: `serde_json` reads those with fractions to 15.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let has = |(key, one)| other.get(key).is_some_and(|other| same(one, other));
            one.len() == other.len() && one.iter().all(has)
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() || other.is_f64() => {
            let (one, other) = (one.as_f64().unwrap_or_default(), other.as_f64().unwrap_or_default());
            (one - other).abs() <= one.abs() * 1e-14
        }
        _ => one == other,
    }
}

fn manifest(format: Format, input: &[u8]) {
    let decoded = decode(format, input);
    let lines = 1 + input.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u32;
    for finding in decoded.findings.iter().chain(&decoded.warnings) {
        assert!(!finding.message.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
        assert!(finding.line <= lines, "{lines} lines, and {finding:?}");
    }
    let Decoded { objects, findings, warnings, left_out } = decode(format, input);
    assert!(objects == decoded.objects && findings == decoded.findings && warnings == decoded.warnings);
    assert_eq!(left_out, decoded.left_out);
    if findings.is_empty() {
        objects.iter().for_each(|loaded| travels(&loaded.object));
    }
}

/// What is taken of a cluster comes back as it is from the store, and from a member.
fn travels(object: &Object) {
    let text = serde_json::to_string(object).unwrap_or_else(|error| panic!("{object:?} cannot be kept: {error}"));
    let kept: Object = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text} cannot be read: {error}"));
    let value = |object: &Object| serde_json::to_value(object).unwrap_or_else(|error| panic!("{object:?}: {error}"));
    assert!(kept == *object || same(&value(&kept), &value(object)), "{kept:?} is kept of {object:?}");
    if let Some(told) = fuzzing::member_told(object) {
        assert_eq!(told.as_ref(), Ok(object));
    }
}

/// An object as an API server tells it, in JSON. The first byte says its kind.
pub fn kubernetes(input: &[u8]) {
    let Some((kind, json)) = input.split_first() else { return };
    let converted = match kind % 11 {
        0 => convert_as(json, convert::service),
        1 => convert_as::<discovery_v1::EndpointSlice>(json, convert::endpoint_slice),
        2 => convert_as::<core_v1::Pod>(json, convert::pod),
        3 => convert_as::<core_v1::Node>(json, convert::node),
        4 => convert_as::<kinds::ClusterInfo>(json, convert::cluster_info),
        5 => convert_as::<kinds::ClusterAccess>(json, convert::cluster_access),
        6 => convert_as::<kinds::VipPool>(json, convert::vip_pool),
        7 => convert_as::<kinds::Policy>(json, convert::policy),
        8 => convert_as::<kinds::EndpointSnapshot>(json, convert::endpoint_snapshot),
        _ => convert_as::<kinds::ServiceExport>(json, convert::service_export),
    };
    let Some(converted) = converted else { return };
    match converted {
        Err(faults) => helps(&faults),
        Ok(conversion) => {
            if !conversion.warnings.is_empty() {
                helps(&conversion.warnings);
            }
            let Some(object) = conversion.object else { return };
            travels(&object);
            // A file says the same, where it takes as much.
            let of_file = decode(Format::Json, json);
            if let ([loaded], []) = (&of_file.objects[..], &of_file.findings[..]) {
                assert_eq!(*loaded.object, object);
            }
        }
    }
}

fn convert_as<T: DeserializeOwned>(json: &[u8], convert: impl Fn(&T) -> Converted) -> Option<Converted> {
    let told: T = serde_json::from_slice(json).ok()?;
    let converted = convert(&told);
    assert_eq!(convert(&told), converted, "the same object twice");
    Some(converted)
}

/// A kubeconfig that somebody else wrote.
pub fn kubeconfig(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Credential::parse(text) {
        Ok(credential) => {
            let shown = format!("{credential:?}");
            assert!(!shown.contains("hunter2"), "a secret is shown: {shown}");
        }
        Err(refused) => {
            assert!(!refused.reason.is_empty() && !refused.message.is_empty() && !refused.remedy.is_empty());
            assert!(!refused.message.contains("hunter2"), "a secret is shown: {refused}");
        }
    }
}
