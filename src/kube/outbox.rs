//! What Causeway has to say on the primary's API server, reduced to its latest form until it is written. The owner of
//! the truth puts it in and never waits; the writer takes it out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kinds::{
    ClusterAccessStatus, ClusterCounts, EndpointSnapshotStatus, PolicyStatus, SnapshotPod, StatusCondition,
    VipPoolStatus, VirtualIpStatus,
};
use crate::model::id::{ClusterName, NamespacedName, PoolName};
use crate::model::object::ObjectKey;
use crate::store::Mailbox;

/// What an access's pods in one cluster are kept under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotKey {
    /// The access.
    pub access: NamespacedName,
    /// The service, in the access's namespace.
    pub service: NamespacedName,
    /// The cluster.
    pub cluster: ClusterName,
}

/// An access's pods in one cluster, and what they are bound to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotContent {
    /// The pods, by name.
    pub pods: Vec<SnapshotPod>,
    /// Published addresses, sorted.
    pub vips: Vec<IpAddr>,
    /// Names that lead to them.
    pub hostnames: Vec<String>,
}

/// How the world sees a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSeen {
    /// `Pending`, `Synced` or `Unknown`.
    pub state: String,
    /// Why unknown, for people.
    pub reason: String,
    /// How much it has.
    pub counts: ClusterCounts,
}

/// How the cluster manager is connected to a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterConnection {
    /// The API server's version; empty where not known.
    pub server_version: String,
    /// `metadata.uid` of `kube-system`; empty where not known.
    pub cluster_uid: String,
    /// When the credential ends (RFC 3339); empty where it does not say.
    pub credential_expires_at: String,
    /// Of which generation of the `ClusterInfo` this is said.
    pub observed_generation: i64,
    /// `Connected`, `CredentialAccepted`, `CredentialSafe`; their transition times are the writer's business.
    pub conditions: Vec<StatusCondition>,
}

/// A record of an ExternalDNS `DNSEndpoint`, in that kind's own form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsRecord {
    /// The name.
    pub dns_name: String,
    /// `A` or `AAAA`.
    pub record_type: String,
    /// Addresses.
    #[serde(default)]
    pub targets: Vec<String>,
    /// In seconds.
    #[serde(rename = "recordTTL", default)]
    pub record_ttl: u32,
}

/// A Service whose status says the published addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddresses {
    /// The access that asks for it.
    pub access: NamespacedName,
    /// Published addresses, sorted.
    pub addresses: Vec<IpAddr>,
}

/// All that waits. `None` where the object is gone and nothing needs to be said any more.
#[derive(Debug, Default)]
pub struct Waiting {
    /// By cluster, from the owner.
    pub seen: BTreeMap<ClusterName, Option<ClusterSeen>>,
    /// By cluster, from the manager.
    pub connections: BTreeMap<ClusterName, Option<ClusterConnection>>,
    /// By access.
    pub accesses: BTreeMap<NamespacedName, Option<ClusterAccessStatus>>,
    /// By pool.
    pub pools: BTreeMap<PoolName, Option<VipPoolStatus>>,
    /// By policy.
    pub policies: BTreeMap<Arc<str>, Option<PolicyStatus>>,
    /// By address.
    pub vips: BTreeMap<IpAddr, Option<VirtualIpStatus>>,
    /// By users' EndpointSnapshots.
    pub user_snapshots: BTreeMap<NamespacedName, Option<EndpointSnapshotStatus>>,
    /// By the primary's Services.
    pub services: BTreeMap<NamespacedName, Option<ServiceAddresses>>,
    /// By access that asks for a DNSEndpoint.
    pub dns_endpoints: BTreeMap<NamespacedName, Option<Vec<DnsRecord>>>,
    /// Objects of the primary that make no sense, and why, where that has changed: all of them.
    pub invalid: Option<BTreeMap<ObjectKey, String>>,
    /// By access, service and cluster; `None` where the objects shall go.
    pub snapshots: BTreeMap<SnapshotKey, Option<Arc<SnapshotContent>>>,
    /// Everything that there is was told once: from then on, what is on the API server and was never told shall go.
    pub complete: bool,
}

/// The way from those who know to the writer. Cheap to clone.
pub type Outbox = Mailbox<Waiting>;
