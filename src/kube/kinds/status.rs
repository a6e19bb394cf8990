//! What Causeway says of the objects that others write.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition, as Kubernetes has them (`metav1.Condition`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusCondition {
    /// What it is about, in CamelCase.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in CamelCase.
    pub reason: String,
    /// Why, for people.
    #[serde(default)]
    pub message: String,
    /// When the status last became another (RFC 3339). The writer fills it in.
    #[serde(default)]
    pub last_transition_time: String,
    /// Of which generation of the object this is said.
    #[serde(default)]
    pub observed_generation: i64,
}

/// `status` of a `ClusterInfo`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInfoStatus {
    /// `Pending`, `Synced` or `Unknown` (what was last known of it is served, stale).
    #[serde(default)]
    pub state: String,
    /// How much the cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<ClusterCounts>,
    /// The API server's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// `metadata.uid` of the cluster's namespace `kube-system`, by which a cluster is told from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    /// When the credential in use ends (RFC 3339), where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_expires_at: Option<String>,
    /// Of which generation this is said.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Connected`, `Synced`, `CredentialAccepted`.
    #[serde(default)]
    pub conditions: Vec<StatusCondition>,
}

/// How many objects of a cluster are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterCounts {
    /// Services.
    pub services: u64,
    /// Endpoints in slices.
    pub endpoints: u64,
    /// Pods.
    pub pods: u64,
    /// Kubernetes nodes.
    pub nodes: u64,
}

/// `status` of a `ClusterAccess`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAccessStatus {
    /// Its addresses.
    #[serde(default)]
    pub vips: Vec<AccessVipStatus>,
    /// Services that it chooses, by name.
    #[serde(default)]
    pub services: Vec<String>,
    /// Of which generation this is said.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Accepted`, `Allocated`, `Published`.
    #[serde(default)]
    pub conditions: Vec<StatusCondition>,
}

/// An address of an access.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessVipStatus {
    /// The address.
    #[schemars(with = "String")]
    pub address: IpAddr,
    /// Names that lead to it; empty while it is not published.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// The VIP's state.
    pub state: String,
    /// How many gateways proved it, of how many that should, as `2/3`.
    pub bound: String,
}

/// `status` of a `VipPool`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VipPoolStatus {
    /// Addresses of its ranges that are given to somebody.
    #[serde(default)]
    pub used: u64,
    /// Addresses of its ranges that are free; not there where that is more than 2⁶³.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<i64>,
    /// Of which generation this is said.
    #[serde(default)]
    pub observed_generation: i64,
    /// `Accepted`.
    #[serde(default)]
    pub conditions: Vec<StatusCondition>,
}
