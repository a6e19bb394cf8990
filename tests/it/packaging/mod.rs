//! What people install: the chart, the kustomizations, the systemd units and the image. Roles and definitions in them
//! are those that the code prints, and the kustomizations are rendered from the chart, so that nothing is told twice.

mod chart;
mod container;
mod image;
mod kustomize;
mod server;
mod systemd;

use serde::Deserialize;
use serde_json::Value;

use crate::support::fleet::causeway;

/// Objects of several YAML documents.
fn objects(yaml: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{error}\n{yaml}")))
        .filter(|object| !object.is_null())
        .collect()
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The object of a kind and a name.
fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|o| text(o, "/kind") == kind && text(o, "/metadata/name") == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// The pods of Deployments and DaemonSets, by their names.
fn pods(objects: &[Value]) -> Vec<(&str, &Value)> {
    objects
        .iter()
        .filter_map(|object| Some((text(object, "/metadata/name"), object.pointer("/spec/template/spec")?)))
        .collect()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|field| pod[field].as_array().into_iter().flatten())
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|word| word.as_str().expect("a text")).collect()
}

/// Fails where `causeway` does not know a flag or refuses its value.
fn takes(arguments: &[&str]) {
    let output = causeway().args(arguments).arg("--help").output().expect("the binary runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `causeway` prints.
fn printed(arguments: &[&str]) -> String {
    let output = causeway().args(arguments).output().expect("the binary runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}
