//! An object as it is sent to an API server or printed for kubectl, whatever its kind.

use kube::Resource;
use kube::core::{ApiResource, DynamicObject};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// An object and where its kind is served. As YAML and JSON it is the object alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub(super) resource: ApiResource,
    pub(super) object: DynamicObject,
}

impl Manifest {
    /// An object of a kind, with what it has beside its metadata.
    pub fn of<K: Resource<DynamicType = ()>>(name: &str, data: Value) -> Self {
        let resource = ApiResource::erase::<K>(&());
        let object = DynamicObject::new(name, &resource).data(data);
        Self { resource, object }
    }

    /// An object of a kind that is at hand whole.
    ///
    /// # Errors
    /// Where it cannot be said in JSON.
    pub fn of_object<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Self, serde_json::Error> {
        let resource = ApiResource::erase::<K>(&());
        let object = serde_json::from_value(without_nulls(serde_json::to_value(object)?))?;
        Ok(Self { resource, object })
    }

    /// The same in a namespace.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.object = self.object.within(namespace);
        self
    }

    /// The same with a label more.
    #[must_use]
    pub fn labelled(mut self, key: &str, value: &str) -> Self {
        self.object.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// What kubectl calls it: `clusterrole.rbac.authorization.k8s.io/causeway`.
    pub fn title(&self) -> String {
        title(&self.resource, self.name())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace, if it has one.
    pub fn namespace(&self) -> Option<&str> {
        self.object.metadata.namespace.as_deref()
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

/// What kubectl calls an object.
pub(super) fn title(resource: &ApiResource, name: &str) -> String {
    let kind = resource.kind.to_ascii_lowercase();
    match resource.group.as_str() {
        "" => format!("{kind}/{name}"),
        group => format!("{kind}.{group}/{name}"),
    }
}

/// The value without fields that are null, which say nothing.
pub fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(|field| *field = without_nulls(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_nulls(item.take())),
        _ => {}
    }
    value
}

/// Serializes an object as people want to see it: without the record of who wrote which field, and without nulls.
///
/// # Errors
/// Those of the serializer.
pub fn shown_object<K: Serialize, S: Serializer>(object: &K, serializer: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(object).map_err(serde::ser::Error::custom)?;
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    without_nulls(value).serialize(serializer)
}
