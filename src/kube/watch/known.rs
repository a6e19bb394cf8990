//! Causeway's own kinds, as the definition that is installed lets them through, which may be of another version than
//! this: what this version does not know of an object is left out and told, as the API server itself would do, and the
//! rest of the object serves. An object that cannot be read at all hides no other.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResourceExt, Resource};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::kube::field::Invalid;

/// An object, without its status, which is what others say of it.
#[derive(Clone, Debug)]
pub struct Known<K> {
    /// The object, or why it cannot be read.
    pub object: Result<K, String>,
    /// What was left out of it.
    pub left_out: Vec<Invalid>,
    metadata: ObjectMeta,
}

impl<'de, K> Deserialize<'de> for Known<K>
where
    K: Resource<DynamicType = ()> + CustomResourceExt + DeserializeOwned,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let metadata =
            ObjectMeta::deserialize(value.get("metadata").unwrap_or(&json!({}))).map_err(D::Error::custom)?;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
            let spec = fields.entry("spec").or_insert(Value::Null);
            if spec.is_null() {
                *spec = json!({});
            }
        }
        let mut left_out = Vec::new();
        let mut object = K::deserialize(&value);
        if object.is_err()
            && let (Some(spec), Some(schema)) = (value.get_mut("spec"), spec_schema::<K>())
        {
            prune(spec, &schema, "spec", &mut left_out);
            object = K::deserialize(&value);
        }
        Ok(Self { object: object.map_err(|error| error.to_string()), left_out, metadata })
    }
}

/// The schema of the kind's `spec` in this version.
fn spec_schema<K: CustomResourceExt>() -> Option<Value> {
    let definition = serde_json::to_value(K::crd()).ok()?;
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned()
}

/// Leaves out the fields that the schema does not know.
fn prune(value: &mut Value, schema: &Value, path: &str, left_out: &mut Vec<Invalid>) {
    match value {
        Value::Object(fields) => {
            if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
                return;
            }
            let known = |name: &str| {
                let property = schema.get("properties").and_then(|properties| properties.get(name));
                property.or_else(|| schema.get("additionalProperties").filter(|values| values.is_object()))
            };
            fields.retain(|name, value| {
                let path = format!("{path}.{name}");
                match known(name) {
                    Some(schema) => prune(value, schema, &path, left_out),
                    None => left_out.push(Invalid {
                        field: path,
                        message: "this version does not know the field and leaves it out".to_owned(),
                        remedy: "remove it, or run the version that the installed definitions are of".to_owned(),
                    }),
                }
                known(name).is_some()
            });
        }
        Value::Array(items) => {
            let schema = schema.get("items").unwrap_or(&Value::Null);
            for (i, item) in items.iter_mut().enumerate() {
                prune(item, schema, &format!("{path}[{i}]"), left_out);
            }
        }
        _ => {}
    }
}

impl<K: Resource> Resource for Known<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::kinds::{ClusterAccessResource, ClusterInfoResource, VipPoolResource};

    fn read<K>(spec: Value) -> Known<K>
    where
        K: Resource<DynamicType = ()> + CustomResourceExt + DeserializeOwned,
    {
        let object = json!({
            "apiVersion": "causeway.dev/v1alpha1", "kind": K::kind(&()), "metadata": {"name": "a", "namespace": "shop"},
            "spec": spec, "status": "of another version",
        });
        serde_json::from_value(object).unwrap()
    }

    fn left_out<K>(known: &Known<K>) -> Vec<&str> {
        known.left_out.iter().map(|invalid| invalid.field.as_str()).collect()
    }

    #[test]
    fn what_is_not_known_is_left_out_and_told() {
        let access = read::<ClusterAccessResource>(json!({
            "service": {"selector": {"matchLabels": {"app": "web"}, "matchFields": []}}, "color": "blue",
            "ports": [{"name": "http", "weight": 3}], "policies": {"loadBalancing": {"config": {"any": {"thing": 1}}}},
        }));
        assert_eq!(left_out(&access), ["spec.color", "spec.ports[0].weight", "spec.service.selector.matchFields"]);
        let spec = access.object.unwrap().spec;
        let labels = spec.service.unwrap().selector.unwrap().match_labels.unwrap();
        assert_eq!(labels.get("app").map(String::as_str), Some("web"));
        assert_eq!(spec.policies.unwrap().load_balancing.unwrap().config, Some(json!({"any": {"thing": 1}})));

        let info = read::<ClusterInfoResource>(json!({"role": "Sub", "source": {"member": {"since": 1}}}));
        assert_eq!(left_out(&info), ["spec.source.member.since"]);
        assert!(info.object.unwrap().spec.source.unwrap().member.is_some());
    }

    #[test]
    fn what_is_missing_is_as_if_not_said() {
        assert_eq!(read::<VipPoolResource>(Value::Null).object.unwrap().spec, Default::default());
    }

    #[test]
    fn what_cannot_be_read_still_has_a_name() {
        let pool = read::<VipPoolResource>(json!({"ranges": "10.0.0.0/8"}));
        assert_eq!(pool.meta().name.as_deref(), Some("a"));
        assert!(pool.object.unwrap_err().contains("invalid type"));
    }
}
