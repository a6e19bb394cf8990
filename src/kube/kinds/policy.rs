//! `Policy`: a WebAssembly component that decides. The kind is there so that it can be installed; nothing runs it yet.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyRef, Nothing, StatusCondition};

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
    pub world: PolicyWorld,
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

/// What a policy decides on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PolicyWorld {
    /// Load balancing.
    #[default]
    #[serde(rename = "lb-policy")]
    Lb,
    /// Virtual IPs.
    #[serde(rename = "vip-policy")]
    Vip,
}

/// A component and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentSpec {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
    /// Where its bytes are: exactly one of.
    pub from: Option<ComponentSource>,
}

/// Where a component's bytes are: exactly one of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ComponentSource {
    /// They were uploaded.
    pub upload: Option<Nothing>,
    /// In a ConfigMap's `binaryData`.
    pub config_map_key_ref: Option<KeyRef>,
    /// In a registry, as `oci://host/name@sha256:…`.
    pub oci: Option<String>,
    /// In a file beside the control plane.
    pub path: Option<String>,
}

/// What holds when a policy fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Its last good decision.
    #[default]
    KeepLast,
    /// What the default policy decides.
    Default,
}

/// What a policy may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyLimits {
    /// Instructions of a call, as Wasmtime counts them.
    pub fuel: Option<u64>,
    /// Memory of an instance, in MiB.
    #[serde(rename = "memoryMiB")]
    pub memory_mib: Option<u32>,
}

/// `status` of a `Policy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// The component that decides.
    pub active_digest: Option<String>,
    /// Of which generation this is said.
    pub observed_generation: Option<i64>,
    /// Conditions.
    #[serde(default)]
    pub conditions: Vec<StatusCondition>,
}
