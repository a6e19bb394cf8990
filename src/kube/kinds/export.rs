//! The ServiceExport of the Multi-Cluster Services API, as far as it is read. It is not Causeway's kind: fields that are
//! not known here are others' business.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// The API group of the Multi-Cluster Services API.
pub const MCS_GROUP: &str = "multicluster.x-k8s.io";
/// The versions of its kinds that are understood, the preferred one first. What is read of them is alike.
pub const MCS_VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

/// The word that the Service of the same name and namespace is for other clusters too.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ServiceExport {
    /// Kubernetes' metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What goes with it; the first versions of the kind had no such field.
    #[serde(default)]
    pub spec: Option<ServiceExportSpec>,
}

/// `spec` of [`ServiceExport`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceExportSpec {
    /// Labels that imports get.
    pub exported_labels: Option<BTreeMap<String, String>>,
    /// Annotations that imports get.
    pub exported_annotations: Option<BTreeMap<String, String>>,
}
