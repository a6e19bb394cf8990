//! What people are shown: rows that the owner of the truth builds when someone asks. They are the
//! bodies of `/api/v1/…` and what the commands print.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::policy::{Digest, World};

/// A question to the owner of the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Everything that `causeway status` prints.
    Status,
    /// Clusters.
    Clusters,
    /// Merged services.
    Services,
    /// Accesses.
    Accesses,
    /// VIPs.
    Vips,
    /// Envoys.
    Nodes,
    /// Policies in force.
    Policies,
    /// What is made of the policy of a name, whether it is in force or not.
    Policy(Arc<str>),
}

/// The answer to a [`Query`], of the same variant.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To [`Query::Status`].
    Status(Box<StatusView>),
    /// To [`Query::Clusters`].
    Clusters(Vec<ClusterRow>),
    /// To [`Query::Services`].
    Services(Vec<ServiceRow>),
    /// To [`Query::Accesses`].
    Accesses(Vec<AccessRow>),
    /// To [`Query::Vips`].
    Vips(Vec<VipRow>),
    /// To [`Query::Nodes`].
    Nodes(Vec<NodeRow>),
    /// To [`Query::Policies`].
    Policies(Vec<PolicyRow>),
    /// To [`Query::Policy`].
    Policy(Box<PolicyUse>),
}

/// The whole at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The server's version.
    pub version: String,
    /// Every source is synced or declared unknown.
    pub ready: bool,
    /// Why not ready; empty when ready.
    pub waiting_for: Vec<String>,
    /// Counts of things.
    pub clusters: usize,
    /// Merged services.
    pub services: usize,
    /// Endpoints of all merged services.
    pub endpoints: usize,
    /// Pods.
    pub pods: usize,
    /// Accesses.
    pub accesses: usize,
    /// VIPs by state.
    pub vips: BTreeMap<String, usize>,
    /// Connected Envoys.
    pub nodes: usize,
    /// What is wrong in sources and accesses, in full sentences.
    pub problems: Vec<Problem>,
}

/// Something a person should mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The cluster; empty where none.
    pub cluster: String,
    /// The file, where it came from one, relative to the manifests' folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The object, as `Kind namespace/name`; empty where the file cannot be read as YAML at all.
    pub object: String,
    /// The field's path, as `spec.ranges[1]`; empty where none.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// A cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRow {
    /// Its name.
    pub name: String,
    /// `Primary` or `Sub`.
    pub role: String,
    /// Its network.
    pub network: String,
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// `Pending`, `Synced` or `Unknown`.
    pub state: String,
    /// Why unknown; empty otherwise.
    pub reason: String,
    /// Services.
    pub services: usize,
    /// Endpoints in slices.
    pub endpoints: usize,
    /// Pods.
    pub pods: usize,
    /// Kubernetes nodes.
    pub nodes: usize,
    /// Seconds since the state began.
    pub since_seconds: i64,
}

/// A service, merged over the clusters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Clusters that have it.
    pub clusters: Vec<String>,
    /// As `http:80/Http`.
    pub ports: Vec<String>,
    /// Ready endpoints.
    pub ready: usize,
    /// Draining endpoints.
    pub draining: usize,
    /// Endpoints that cannot be used.
    pub not_ready: usize,
    /// Of these, how many belong to clusters that are unknown.
    pub stale: usize,
    /// Disagreements between clusters, and how they were decided.
    pub conflicts: Vec<String>,
}

/// A Kubernetes condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// For example `Published`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// CamelCase, for machines.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The generation of the object that this is about.
    pub observed_generation: i64,
}

/// An access.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRow {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Services that it chose.
    pub services: Vec<String>,
    /// Its VIPs.
    pub vips: Vec<AccessVip>,
    /// Host names of the whole access.
    pub hostnames: Vec<String>,
    /// The objects that ask for it: `ClusterAccess`, or as `ServiceExport east,west` those of these clusters.
    #[serde(default)]
    pub from: String,
    /// `Accepted`, `Allocated` and `Published`.
    pub conditions: Vec<Condition>,
}

/// A VIP in an access's status.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessVip {
    /// The address.
    pub address: IpAddr,
    /// Names that lead to it.
    pub hostnames: Vec<String>,
    /// The state's name.
    pub state: String,
    /// As `2/3`: gateways that proved it, of those that should.
    pub bound: String,
}

/// A VIP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VipRow {
    /// The address.
    pub address: IpAddr,
    /// Its pool.
    pub pool: String,
    /// `namespace/name` of the access.
    pub access: String,
    /// `namespace/name` of the service.
    pub service: String,
    /// The pod, where VIPs are per pod; else empty.
    pub pod: String,
    /// Ports.
    pub ports: Vec<u16>,
    /// The state's name (DESIGN.md, "A VIP's life").
    pub state: String,
    /// As `2/3`.
    pub bound: String,
    /// The strongest evidence there is: `none`, `offered`, `acked`, `active`, `probed`.
    pub proof: String,
    /// `ControlPlane`, or the id of the node whose agent assigned it.
    pub assigned_by: String,
    /// The name that leads to it; empty while it is not published.
    pub name: String,
    /// For each gateway what is known.
    pub gateways: Vec<VipGateway>,
    /// Seconds since it was allocated.
    pub age_seconds: i64,
}

/// A VIP on one gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VipGateway {
    /// The node's id.
    pub node: String,
    /// `Offered`, `Bound`, `Serving`, `Rejected`, `Unknown`, `Removing`, `Gone`.
    pub state: String,
    /// The strongest evidence.
    pub proof: String,
    /// Envoy's own words; empty where there is no error.
    pub error: String,
    /// How often it was offered anew after an error.
    pub attempt: u32,
}

/// An Envoy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRow {
    /// `node.id`.
    pub id: String,
    /// `gateway` or `sidecar`.
    pub role: String,
    /// Its cluster; empty where it said none.
    pub cluster: String,
    /// Its network; empty where it said none.
    pub network: String,
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// `SotW` or `Delta`; empty while gone.
    pub protocol: String,
    /// What the Envoy says of its version.
    pub version: String,
    /// `Connected` or `Gone`.
    pub state: String,
    /// An agent stands beside it and reports.
    pub agent: bool,
    /// Listeners that it acknowledged.
    pub listeners: usize,
    /// Resources that it refuses at present.
    pub rejected: usize,
    /// Seconds since the state began.
    pub since_seconds: i64,
}

/// A policy in force.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRow {
    /// Its name.
    pub name: Arc<str>,
    /// What it decides on.
    pub world: World,
    /// Its component.
    pub digest: Digest,
    /// The component's size, in bytes.
    pub size: usize,
    /// Accesses that use it, by name or by default.
    pub accesses: usize,
    /// What became of its calls.
    #[serde(flatten)]
    pub calls: PolicyCalls,
}

/// What became of a policy's calls since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCalls {
    /// Calls.
    pub calls: u64,
    /// Questions that were answered without a call, from what was answered before.
    pub memo_hits: u64,
    /// Calls without an answer that could be used, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Decisions that were made in its place, by the reason why it made none.
    pub fallbacks: BTreeMap<String, u64>,
    /// Subjects about which it is not asked for a while, because it failed about them several times in a row.
    #[serde(default)]
    pub circuits_open: u64,
    /// Instructions, of all calls.
    pub fuel_used: u64,
    /// The last failure.
    pub last_failure: Option<PolicyFailure>,
}

/// A failure of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFailure {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub message: String,
}

/// What is made of a policy's name.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyUse {
    /// The policy of the name, where one is in force.
    pub row: Option<PolicyRow>,
    /// The accesses that use it or ask for it, as `namespace/name`.
    pub used_by: Vec<String>,
    /// `Accepted`, `Active` and `Healthy`.
    pub conditions: Vec<Condition>,
    /// What it wrote last, oldest first.
    pub lines: Vec<PolicyLine>,
}

/// A line that a policy wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLine {
    /// When.
    pub at: Timestamp,
    /// `Debug`, `Info`, `Warn` or `Error`.
    pub level: String,
    /// What it says.
    pub text: String,
}

/// What the admin interface asks of the owner of the truth. Every reply may be dropped by an asker
/// that gave up waiting; that is no error.
#[derive(Debug)]
pub enum Inspect {
    /// Build the rows of a query.
    Query(Query, tokio::sync::oneshot::Sender<Answer>),
    /// The user says that a cluster is gone for good. Refused, with a reason for people, while the
    /// cluster is being read.
    Forget {
        /// The cluster.
        cluster: String,
        /// Where the outcome goes.
        reply: tokio::sync::oneshot::Sender<Result<(), String>>,
    },
}
