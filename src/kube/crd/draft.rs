//! A definition on its way from what the derive gives to what an API server takes.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition,
};
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

/// A definition whose schema is still being worked on.
pub(super) struct Draft {
    definition: CustomResourceDefinition,
    /// The schema of the only version.
    schema: Value,
    columns: Vec<CustomResourceColumnDefinition>,
    /// Places that were named and are not there.
    lost: Vec<String>,
}

impl Draft {
    /// What the derive gives for a kind, made structural.
    pub fn of<R: CustomResourceExt>() -> Self {
        let definition = R::crd();
        let schema = definition.spec.versions.first().and_then(|version| version.schema.as_ref());
        let schema = schema.and_then(|validation| validation.open_api_v3_schema.as_ref());
        let mut schema = schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default();
        make_structural(&mut schema);
        let mut draft = Self { definition, schema, columns: Vec::new(), lost: Vec::new() };
        draft.conditions();
        draft
    }

    /// Merges keywords into the schema at a place such as `spec.vip.addresses[]`; `{}` is a map's values, and the empty
    /// text the object itself.
    pub fn set(mut self, place: &str, keywords: Value) -> Self {
        self.change(place, |schema| {
            if let Value::Object(keywords) = keywords {
                schema.extend(keywords);
            }
        });
        self
    }

    /// The value of a field that is not said.
    pub fn default(self, place: &str, value: Value) -> Self {
        self.set(place, json!({ "default": value }))
    }

    /// A rule in CEL, with what is said where it does not hold.
    pub fn rule(self, place: &str, rule: &str, message: &str) -> Self {
        self.validation(place, json!({ "rule": rule, "message": message }))
    }

    fn validation(mut self, place: &str, validation: Value) -> Self {
        self.change(place, |schema| {
            let rules = schema.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
            if let Value::Array(rules) = rules {
                rules.push(validation);
            }
        });
        self
    }

    /// A column of `kubectl get`.
    pub fn column(self, name: &str, kind: &str, path: &str) -> Self {
        self.push_column(name, kind, path, None)
    }

    /// A column of `kubectl get -o wide`.
    pub fn wide(self, name: &str, kind: &str, path: &str) -> Self {
        self.push_column(name, kind, path, Some(1))
    }

    /// The column of the object's age.
    pub fn age(self) -> Self {
        self.push_column("Age", "date", ".metadata.creationTimestamp", None)
    }

    fn push_column(mut self, name: &str, kind: &str, path: &str, priority: Option<i32>) -> Self {
        self.columns.push(CustomResourceColumnDefinition {
            name: name.to_owned(),
            type_: kind.to_owned(),
            json_path: path.to_owned(),
            priority,
            ..CustomResourceColumnDefinition::default()
        });
        self
    }

    /// Conditions are merged by type, as everywhere in Kubernetes.
    fn conditions(&mut self) {
        if at(&mut self.schema, "status.conditions").is_none() {
            return;
        }
        self.change("status.conditions", |schema| {
            schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
            schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
        });
        self.change("status.conditions[].status", |schema| {
            schema.insert("enum".to_owned(), json!(["True", "False", "Unknown"]));
        });
    }

    fn change(&mut self, place: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        match at(&mut self.schema, place).and_then(Value::as_object_mut) {
            Some(schema) => change(schema),
            None => self.lost.push(place.to_owned()),
        }
    }

    /// The definition.
    pub fn finish(mut self) -> CustomResourceDefinition {
        if let Some(version) = self.definition.spec.versions.first_mut() {
            version.additional_printer_columns = Some(self.columns);
            if let Some(validation) = &mut version.schema {
                validation.open_api_v3_schema = serde_json::from_value(self.schema).ok();
            }
        }
        self.definition
    }

    /// Places that were named and are not in the schema.
    #[cfg(test)]
    pub fn lost(&self) -> &[String] {
        &self.lost
    }

    /// The kind.
    #[cfg(test)]
    pub fn kind(&self) -> &str {
        &self.definition.spec.names.kind
    }
}

/// The schema at a place.
fn at<'a>(schema: &'a mut Value, place: &str) -> Option<&'a mut Value> {
    let mut here = schema;
    for part in place.split('.').filter(|part| !part.is_empty()) {
        let name = part.trim_end_matches("[]").trim_end_matches("{}");
        here = here.get_mut("properties")?.get_mut(name)?;
        if part.ends_with("[]") {
            here = here.get_mut("items")?;
        } else if part.ends_with("{}") {
            here = here.get_mut("additionalProperties")?;
        }
    }
    Some(here)
}

/// Takes away what structural schemas do not know: `additionalProperties: false`, formats of Rust's numbers, and
/// `nullable` (without it the API server takes a null for a field that is not said); and rustdoc's links.
fn make_structural(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(make_structural),
        Value::Object(map) => {
            if map.get("additionalProperties") == Some(&Value::Bool(false)) {
                map.remove("additionalProperties");
            }
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
                // The words of an enumeration that may be null have null among them.
                if let Some(Value::Array(words)) = map.get_mut("enum") {
                    words.retain(|word| !word.is_null());
                }
            }
            let unsigned = map.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint"));
            if unsigned {
                map.insert("format".to_owned(), json!("int64"));
                map.insert("minimum".to_owned(), json!(0));
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`");
            }
            map.values_mut().for_each(make_structural);
        }
        _ => {}
    }
}
