//! `Policy`: a WebAssembly component that decides.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyRef, Nothing, StatusCondition};
use crate::model::policy::{OnFailure, World};

/// `spec` of a `Policy`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "Policy",
    root = "PolicyResource",
    plural = "policies",
    shortname = "pol",
    category = "causeway",
    status = "PolicyStatus",
    doc = "A WebAssembly component that decides on load balancing or on virtual IPs."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// What it decides on.
    pub world: World,
    /// The component.
    pub component: ComponentSpec,
    /// Its configuration; whatever the policy defines.
    #[serde(default)]
    #[schemars(schema_with = "crate::kube::crd::any_object")]
    pub config: Option<serde_json::Value>,
    /// What holds when it fails; `KeepLast` where not said.
    pub on_failure: Option<OnFailure>,
    /// What it may use.
    pub limits: Option<PolicyLimits>,
}

/// A component and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentSpec {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
    /// Where its bytes are: exactly one of. Uploaded where not said.
    pub from: Option<ComponentFrom>,
    /// Base64 of a signature of the bytes, as `cosign sign-blob` prints it.
    pub signature: Option<String>,
}

/// Where a component's bytes are: exactly one of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentFrom {
    /// They were uploaded.
    pub upload: Option<Nothing>,
    /// In a ConfigMap's `binaryData`.
    pub config_map_key_ref: Option<KeyRef>,
    /// In a registry, as `oci://host/name@sha256:…`.
    pub oci: Option<String>,
    /// In a file beneath the control plane's --policy-dir.
    pub path: Option<String>,
}

/// What a policy may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyLimits {
    /// Instructions of a call, as Wasmtime counts them.
    pub fuel: Option<i64>,
    /// Memory of an instance, in MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: Option<i64>,
    /// How many of a service's endpoints in use one decision may take away, in percent; 100, which is no limit, where not
    /// said.
    pub max_removed_percent: Option<i64>,
}

/// `status` of a `Policy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The component that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_digest: Option<String>,
    /// Accesses that use it.
    #[serde(default)]
    pub accesses: u64,
    /// Of which generation this is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default)]
    pub conditions: Vec<StatusCondition>,
}
