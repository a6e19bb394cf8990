//! `VirtualIp`: an address that is given to somebody. Creating the object is what allocates, so that the API server
//! arbitrates between replicas.

use std::net::IpAddr;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `spec` of a `VirtualIp`: a row of the VIP ledger.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "VirtualIp",
    root = "VirtualIpResource",
    plural = "virtualips",
    shortname = "vip",
    category = "causeway",
    status = "VirtualIpStatus",
    doc = "An address that is given to an access. Creating the object is what allocates the address; its name is the address in its canonical form."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VirtualIpSpec {
    /// The address, in its canonical form (RFC 5952).
    #[schemars(with = "String")]
    pub address: IpAddr,
    /// The pool that it was taken from.
    pub pool: String,
    /// The access that it is given to, as `namespace/name`.
    pub access: String,
    /// The service that it leads to, as `namespace/name`.
    pub service: String,
    /// The pod, where addresses are given per pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The gateway whose agent picked it; the control plane did where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How far its withdrawal has come: `Held`, `Unpublishing`, `Draining` or `Removing`.
    pub phase: String,
    /// When the phase began, in milliseconds since the Unix epoch; not there while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Ports, names and gateways, in the ledger's own form.
    #[schemars(schema_with = "crate::kube::crd::any_object")]
    pub listening: serde_json::Value,
    /// How long resolvers were told to remember it at most, in seconds.
    pub ttl_seconds: u32,
    /// When it was given, in milliseconds since the Unix epoch.
    pub allocated_at: i64,
    /// When this last changed, in milliseconds since the Unix epoch.
    pub changed_at: i64,
}

/// `status` of a `VirtualIp`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualIpStatus {
    /// `Allocated`, `Offered`, `Bound`, `Serving`, `Published`, `Unpublishing`, `Draining`, `Removing` or `Rejected`.
    #[serde(default)]
    pub state: String,
    /// How many gateways proved it, of how many that should, as `2/3`.
    #[serde(default)]
    pub bound: String,
    /// The strongest proof that any gateway gave: `none`, `ack`, `active` or `probe`.
    #[serde(default)]
    pub proof: String,
    /// Names that lead to it; empty while it is not published.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// For each gateway what is known.
    #[serde(default)]
    pub gateways: Vec<VirtualIpGateway>,
    /// Why the state is what it is.
    #[serde(default)]
    pub message: String,
}

/// An address on one gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualIpGateway {
    /// The gateway's `node.id`.
    pub node: String,
    /// `Offered`, `Bound`, `Serving`, `Rejected`, `Unknown`, `Removing` or `Gone`.
    pub state: String,
    /// The strongest proof that it gave.
    pub proof: String,
    /// The gateway's own words; empty where there is no error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}
