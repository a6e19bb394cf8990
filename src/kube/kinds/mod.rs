//! Causeway's own kinds (`causeway.dev/v1alpha1`) as people write them. Fields that are not known
//! are refused: a misspelt field that is quietly ignored is worse than an error.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod export;
mod policy;
mod snapshot;
mod status;
mod vip;

pub use export::*;
pub use policy::*;
pub use snapshot::*;
pub use status::*;
pub use vip::*;

use crate::model::object::{AssignedBy, ClusterRole, EvidenceRule, Family, Operator, VipPer};

/// The API version of Causeway's kinds.
pub const API_VERSION: &str = "causeway.dev/v1alpha1";

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $spec:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            /// `causeway.dev/v1alpha1`.
            pub api_version: String,
            /// The kind's name.
            pub kind: String,
            /// Kubernetes' metadata.
            #[serde(default)]
            pub metadata: ObjectMeta,
            /// What is wanted.
            #[serde(default)]
            pub spec: Option<$spec>,
            /// What is; written by Causeway, ignored when read.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub status: Option<serde_json::Value>,
        }
    };
}

kind! {
    /// A cluster's part in the whole (cluster-scoped).
    ClusterInfo, ClusterInfoSpec
}
kind! {
    /// The request that services be reachable across clusters.
    ClusterAccess, ClusterAccessSpec
}
kind! {
    /// Addresses to give to accesses (cluster-scoped).
    VipPool, VipPoolSpec
}
kind! {
    /// A component that decides (cluster-scoped).
    Policy, PolicySpec
}
kind! {
    /// The snapshot information of an access's pods in one cluster.
    EndpointSnapshot, EndpointSnapshotSpec
}

/// `spec` of [`ClusterInfo`].
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "ClusterInfo",
    root = "ClusterInfoResource",
    plural = "clusterinfos",
    shortname = "ci",
    category = "causeway",
    status = "ClusterInfoStatus",
    doc = "A cluster's part in the whole: how it is read, and what is known of it."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterInfoSpec {
    /// Sub where not said.
    pub role: Option<ClusterRole>,
    /// `default` where not said.
    pub network: Option<String>,
    /// For endpoints whose Kubernetes node says nothing.
    pub locality: Option<LocalitySpec>,
    /// How the cluster is read; a folder of manifests where not said.
    pub source: Option<SourceSpec>,
    /// Which namespaces are read; all where not said.
    pub namespaces: Option<NamespacesSpec>,
    /// What is written to the cluster.
    pub sync_down: Option<SyncDownSpec>,
}

/// A locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalitySpec {
    /// As `topology.kubernetes.io/region`.
    pub region: Option<String>,
    /// As `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
}

/// How a cluster is read: exactly one of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// From its API server.
    pub kubeconfig: Option<KubeconfigSource>,
    /// The cluster's own manager dials in.
    pub member: Option<Nothing>,
    /// A folder of the cluster's name.
    pub manifests: Option<Nothing>,
}

/// No settings yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Where a kubeconfig lies: exactly one of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubeconfigSource {
    /// In a ConfigMap.
    pub config_map_key_ref: Option<KeyRef>,
    /// In a Secret.
    pub secret_key_ref: Option<KeyRef>,
}

/// A key of a ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key within it.
    pub key: String,
}

/// Which namespaces are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespacesSpec {
    /// Namespaces that are left out.
    pub exclude: Option<Vec<String>>,
}

/// What is written to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncDownSpec {
    /// All accesses where not said.
    pub accesses: Option<SyncDown>,
    /// The primary's where not said.
    pub pods: Option<SyncedPods>,
}

/// Whose pods are written to a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SyncedPods {
    /// The primary's.
    #[default]
    Primary,
    /// Those of all other clusters.
    All,
}

/// Which accesses are written to a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SyncDown {
    /// All.
    #[default]
    All,
    /// None.
    None,
}

/// `spec` of [`ClusterAccess`].
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "ClusterAccess",
    root = "ClusterAccessResource",
    plural = "clusteraccesses",
    shortname = "ca",
    category = "causeway",
    status = "ClusterAccessStatus",
    namespaced,
    doc = "The request that services be reachable across clusters, at one virtual IP and one name."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterAccessSpec {
    /// The service of the access's own name where not said.
    pub service: Option<ServiceSpec>,
    /// All of the service's where not said.
    pub ports: Option<Vec<PortSpec>>,
    /// All where not said.
    pub clusters: Option<ClustersSpec>,
    /// Beside the clusterset names.
    pub hostnames: Option<Vec<String>>,
    /// Which addresses.
    pub vip: Option<VipSpec>,
    /// When names are answered.
    pub publish: Option<PublishSpec>,
    /// Which policies decide.
    pub policies: Option<PoliciesSpec>,
}

/// Which services: exactly one of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// One of the access's namespace.
    pub name: Option<String>,
    /// All of the access's namespace with these labels.
    pub selector: Option<SelectorSpec>,
}

/// A label selector. An empty one chooses everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectorSpec {
    /// Labels with values.
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Further requirements.
    pub match_expressions: Option<Vec<RequirementSpec>>,
}

/// A requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequirementSpec {
    /// The label's key.
    pub key: String,
    /// What must hold of it.
    pub operator: Operator,
    /// For `In` and `NotIn`.
    pub values: Option<Vec<String>>,
}

/// A port of the service: exactly one of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// By name.
    pub name: Option<String>,
    /// By number.
    pub number: Option<i64>,
}

/// Which clusters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClustersSpec {
    /// By name.
    pub names: Option<Vec<String>>,
}

/// Which addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VipSpec {
    /// One for each service where not said.
    pub per: Option<VipPer>,
    /// Any that fits where not said.
    pub pool: Option<String>,
    /// Those of `addresses`, else IPv4, where not said.
    pub families: Option<Vec<Family>>,
    /// At most one of each family.
    pub addresses: Option<Vec<String>>,
}

/// When names are answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishSpec {
    /// The strongest that there is where not said.
    pub evidence: Option<EvidenceRule>,
    /// 1 where not said.
    pub min_gateways: Option<i64>,
    /// 5 where not said.
    pub ttl_seconds: Option<i64>,
    /// Whether the access's Service in the primary gets the published VIPs in `status.loadBalancer`; false where not said.
    pub service_status: Option<bool>,
    /// Whether an ExternalDNS `DNSEndpoint` of the access's name says the published VIPs; false where not said.
    pub dns_endpoint: Option<bool>,
}

/// Which policies decide.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoliciesSpec {
    /// Of load balancing.
    pub load_balancing: Option<PolicyRef>,
    /// Of VIPs.
    pub vip: Option<PolicyRef>,
}

/// A policy and its configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyRef {
    /// The name of a `Policy`; `lb-locality` or `vip-sticky`, which are built in, where not said.
    pub name: Option<String>,
    /// Its configuration.
    #[serde(default)]
    #[schemars(schema_with = "crate::kube::crd::any_object")]
    pub config: Option<serde_json::Value>,
}

/// `spec` of [`VipPool`].
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "VipPool",
    root = "VipPoolResource",
    plural = "vippools",
    shortname = "vp",
    category = "causeway",
    status = "VipPoolStatus",
    doc = "Addresses to give to accesses."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VipPoolSpec {
    /// As `240.11.0.0/16`, `10.0.0.10-10.0.0.20` or a single address.
    pub ranges: Option<Vec<String>>,
    /// Addresses never given out.
    pub reserved: Option<Vec<String>>,
    /// All gateways where not said.
    pub gateways: Option<SelectorSpec>,
    /// All namespaces where not said.
    pub namespace_selector: Option<SelectorSpec>,
    /// No limit where not said.
    pub quota_per_namespace: Option<i64>,
    /// The control plane where not said.
    pub assigned_by: Option<AssignedBy>,
}
