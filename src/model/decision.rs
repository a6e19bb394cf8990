//! What policies are given and what they decide. Until policies are components, the two plain
//! functions in `policy` use the same types.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{ClusterName, NamespacedName, PoolName};
use super::object::{Family, Locality, ServicePort};

/// Whether an endpoint may get traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Readiness {
    /// New requests may go there.
    Ready,
    /// Terminating but still serving: requests in flight end there, new ones go elsewhere.
    Draining,
    /// Not usable.
    NotReady,
}

/// A pod's address and port as a service's backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// The cluster that it runs in.
    pub cluster: ClusterName,
    /// The cluster's network.
    pub network: Arc<str>,
    /// Where it runs: from the slice, else the Kubernetes node, else the cluster.
    pub locality: Locality,
    /// The Kubernetes node.
    pub node: Option<Arc<str>>,
    /// The pod's name.
    pub pod: Option<Arc<str>>,
    /// Whether it may get traffic.
    pub readiness: Readiness,
    /// Its cluster is unknown: this is the last that was heard.
    pub stale: bool,
    /// Relative share of traffic, 1 to 1000.
    pub weight: u32,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Stands at the edge and has the VIPs.
    Gateway,
    /// Stands beside a workload.
    Sidecar,
}

/// The part of a node's identity that decides what it is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientView {
    /// Gateway or sidecar.
    pub role: NodeRole,
    /// The cluster that it runs in, where it says one.
    pub cluster: Option<ClusterName>,
    /// Its network; endpoints of other networks cannot be reached directly. `None` reaches all.
    pub network: Option<Arc<str>>,
    /// Where it runs.
    pub locality: Locality,
}

/// A question to a load-balancing policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LbInput {
    /// The service.
    pub service: NamespacedName,
    /// The port.
    pub port: ServicePort,
    /// Who will send the traffic.
    pub client: ClientView,
    /// The endpoints, in a fixed order.
    pub endpoints: Vec<Endpoint>,
    /// The policy's configuration.
    pub config: serde_json::Value,
}

/// How Envoy picks within a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LbAlgorithm {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two.
    #[default]
    LeastRequest,
    /// Ketama hash ring.
    RingHash,
    /// Maglev table.
    Maglev,
    /// At random.
    Random,
}

/// An endpoint in a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LbEndpoint {
    /// One of the input's addresses.
    pub address: SocketAddr,
    /// The cluster that it runs in, so that a route can ask for one cluster's endpoints only.
    pub cluster: ClusterName,
    /// Share within its group, at least 1.
    pub weight: u32,
    /// No new requests.
    pub draining: bool,
}

/// Endpoints of one locality and priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LbGroup {
    /// 0 is tried first; priorities have no gaps.
    pub priority: u32,
    /// The locality.
    pub locality: Locality,
    /// Share among the groups of the priority, at least 1.
    pub weight: u32,
    /// The endpoints.
    pub endpoints: Vec<LbEndpoint>,
}

/// A load-balancing policy's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LbDecision {
    /// Endpoints by priority and locality, in a fixed order.
    pub groups: Vec<LbGroup>,
    /// How Envoy picks within a priority.
    pub algorithm: LbAlgorithm,
    /// Envoy's overprovisioning factor in percent (its default is 140).
    pub overprovisioning_percent: u32,
    /// Below this share of healthy endpoints, in percent, Envoy ignores health; 0 never does.
    pub panic_threshold_percent: u32,
}

/// A pool as a VIP policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolChoice {
    /// The pool's name.
    pub pool: PoolName,
    /// A free address of the wanted family, the pool's next; `None` when it is exhausted.
    pub next_free: Option<IpAddr>,
    /// How many are free, saturating.
    pub free: u64,
}

/// A question to a VIP policy: an address for one slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipInput {
    /// The access.
    pub access: NamespacedName,
    /// The service.
    pub service: NamespacedName,
    /// The pod, where VIPs are per pod.
    pub pod: Option<Arc<str>>,
    /// The family.
    pub family: Family,
    /// An address that the user asked for.
    pub requested: Option<IpAddr>,
    /// Pools that the access may use, by name.
    pub pools: Vec<PoolChoice>,
}

/// A VIP policy's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VipDecision {
    /// Take this address from this pool.
    Take {
        /// The pool.
        pool: PoolName,
        /// The address; the host checks that it is the pool's and free.
        address: IpAddr,
    },
    /// There is none, for this reason.
    Refuse {
        /// Why, for people.
        reason: String,
    },
}
