//! `EndpointSnapshot`: the snapshot information of an access's pods in one cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StatusCondition;

/// `spec` of an `EndpointSnapshot`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "EndpointSnapshot",
    root = "EndpointSnapshotResource",
    plural = "endpointsnapshots",
    shortname = "es",
    category = "causeway",
    status = "EndpointSnapshotStatus",
    namespaced,
    selectable = ".spec.owner",
    doc = "The snapshot information of an access's pods in one cluster. Causeway writes those of owner System; users write their own, of owner User, for backends outside of Kubernetes and to weigh or drain pods."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointSnapshotSpec {
    /// Who writes the object: `System` is Causeway, which restores it when others change it. `User` where not said.
    pub owner: Option<SnapshotOwner>,
    /// The `ClusterAccess`, in the same namespace; it need not exist yet.
    pub access: String,
    /// The service; the one that the access names, or that has the access's name, where not said.
    pub service: Option<String>,
    /// The cluster whose pods these are, and whose network they are in; the primary where not said.
    pub cluster: Option<String>,
    /// The pods, by name. In a user's object, an entry with addresses is a further backend of the access; one without is
    /// about the pod of that name, for this access only. Where several of a user's objects speak of the same name in the
    /// same cluster, the last object by name has the last word on each field.
    #[serde(default)]
    pub pods: Vec<SnapshotPod>,
}

/// Who writes an `EndpointSnapshot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotOwner {
    /// Causeway.
    System,
    /// Somebody else.
    #[default]
    User,
}

/// A pod, or whatever else serves: one backend of the access.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnapshotPod {
    /// Its name. In a user's object without addresses: the pod of the cluster to weigh, to drain or to take out.
    pub name: String,
    /// `metadata.uid` of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The Kubernetes node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// As `topology.kubernetes.io/region`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// As `topology.kubernetes.io/zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its addresses, of which the first is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Its ports, by the name of the service's port (empty for the only, unnamed one). In a user's object, a port that
    /// is not said is the service's own number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// Whether it takes traffic; true where not said. It cannot give traffic to a pod that is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Its share relative to others, 1 to 1000; in a user's object without addresses, what the pod says where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// No new traffic; open connections may end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<bool>,
}

/// `status` of an `EndpointSnapshot`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSnapshotStatus {
    /// Published addresses that lead to these pods.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub vips: Vec<IpAddr>,
    /// Names that lead to these addresses.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// When the addresses became what they are (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<String>,
    /// Of a user's object: `Effective`, whether all that it says finds what it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StatusCondition>,
}
