//! The custom resource definitions, derived from [`super::kinds`].

use schemars::{Schema, SchemaGenerator, json_schema};

/// The schema of what may be any object: its fields are not looked at.
pub fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
