//! What policies are given and what they decide.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{ClusterName, NamespacedName, PoolName};
use super::object::{Family, Locality};

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

/// What a decision reads of the nodes that it is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sender {
    /// What they are and where.
    pub client: ClientView,
    /// Into how many parts nodes are divided for the policy: 1 to [`MAX_BUCKETS`].
    pub buckets: u32,
    /// Which part they are, 0 to `buckets` - 1. Nodes are divided by a hash of their ids.
    pub bucket: u32,
}

/// Into how many parts nodes can be divided for a policy. Each part costs what a view costs.
pub const MAX_BUCKETS: u32 = 64;

/// How Envoy picks within a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LbAlgorithm {
    /// In turn, by weight.
    RoundRobin,
    /// The least busy of some.
    LeastRequest {
        /// How many are looked at: 2 to 64.
        choices: u32,
    },
    /// A Ketama hash ring. Its size is in entries, 1 to 8388608, `minimum` not above `maximum`.
    RingHash {
        /// The ring has at least so many entries.
        minimum: u32,
        /// The ring has at most so many entries.
        maximum: u32,
    },
    /// A Maglev table.
    Maglev {
        /// How many entries the table has: a prime up to 5000011.
        table_size: u32,
    },
    /// At random, without weights of endpoints.
    Random,
}

/// Each with the settings that Envoy has where nobody says anything.
impl LbAlgorithm {
    /// The less busy of two.
    pub const LEAST_REQUEST: Self = Self::LeastRequest { choices: 2 };
    /// A ring of at least 1,024 entries.
    pub const RING_HASH: Self = Self::RingHash { minimum: 1024, maximum: 8_388_608 };
    /// A table of 65,537 entries.
    pub const MAGLEV: Self = Self::Maglev { table_size: 65_537 };
}

/// When Envoy sets an endpoint aside by what it answers. Endpoints that cannot be connected to are set aside anyway,
/// and for as long and in as large a share as these fields say, since Envoy has one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// So many 5xx in a row: 1 or more. 0 does not count them.
    pub consecutive_5xx: u32,
    /// How often it is looked whether an endpoint may come back, in ms: 100 to 600000.
    pub interval_ms: u32,
    /// For how long an endpoint is set aside at first, in ms: 100 to 600000. Each further time it is longer by as much,
    /// up to ten times.
    pub base_ejection_ms: u32,
    /// At most this share of the endpoints at once, in percent: 1 to 100. Where it is less than one endpoint, none.
    pub max_ejection_percent: u32,
}

/// How Envoy asks endpoints how they are.
///
/// An endpoint gets requests once it was found healthy for the first time. Where no endpoint of a service answers, an
/// Envoy that starts waits for `timeout_ms` before it opens its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The path of a GET that a healthy endpoint answers with 200; `None` only connects.
    pub path: Option<String>,
    /// From the end of one check to the next, in ms: 100 to 600000.
    pub interval_ms: u32,
    /// How long an endpoint may take to answer, in ms: 10 to 10000.
    pub timeout_ms: u32,
    /// Failures in a row until it is unhealthy: 1 to 100.
    pub unhealthy_threshold: u32,
    /// Successes in a row until it is healthy again: 1 to 100. The first time one is enough.
    pub healthy_threshold: u32,
}

/// An endpoint in a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LbEndpoint {
    /// One of the input's addresses.
    pub address: SocketAddr,
    /// The cluster that it runs in, so that a route can ask for one cluster's endpoints only: its place in the decision's
    /// `clusters`.
    pub cluster: u32,
    /// Share within its group, at least 1.
    pub weight: u32,
    /// No new requests.
    pub draining: bool,
}

/// Endpoints of one locality and priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbGroup {
    /// 0 is tried first; priorities have no gaps. At most 127.
    pub priority: u32,
    /// The locality.
    pub locality: Locality,
    /// Share among the groups of the priority, at least 1.
    pub weight: u32,
    /// The endpoints.
    pub endpoints: Picked,
}

/// The endpoints of a group, in order: places in a table that all decisions about the same endpoints share, since there are
/// as many decisions about thousands of endpoints as there are views.
#[derive(Clone, Default)]
pub struct Picked {
    table: Arc<[LbEndpoint]>,
    places: Vec<u32>,
    /// As many as places, or none.
    weights: Vec<u32>,
    draining: bool,
}

impl Picked {
    /// Those at these places of the table, with other weights where there are any, and all of them draining where that is
    /// said. A place that is not in the table is none.
    pub fn new(table: Arc<[LbEndpoint]>, places: Vec<u32>, weights: Vec<u32>, draining: bool) -> Self {
        debug_assert!(weights.is_empty() || weights.len() == places.len(), "a weight for each");
        Self { table, places, weights, draining }
    }

    /// The endpoints, as the group has them.
    pub fn iter(&self) -> impl Iterator<Item = LbEndpoint> {
        self.places.iter().enumerate().filter_map(|(number, place)| {
            let known = self.table.get(*place as usize)?;
            let weight = self.weights.get(number).copied().unwrap_or(known.weight);
            Some(LbEndpoint { weight, draining: known.draining || self.draining, ..*known })
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl FromIterator<LbEndpoint> for Picked {
    fn from_iter<T: IntoIterator<Item = LbEndpoint>>(endpoints: T) -> Self {
        let table: Arc<[LbEndpoint]> = endpoints.into_iter().collect();
        let places = (0..).take(table.len()).collect();
        Self::new(table, places, Vec::new(), false)
    }
}

impl PartialEq for Picked {
    fn eq(&self, other: &Self) -> bool {
        self.places.len() == other.places.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Picked {}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A load-balancing policy's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LbDecision {
    /// Endpoints by priority and locality, in a fixed order.
    pub groups: Vec<LbGroup>,
    /// The clusters that the endpoints run in, and maybe others; one may come twice. Decisions about the same endpoints
    /// share them, and thousands of endpoints need not count who else has their cluster's name.
    pub clusters: Arc<[ClusterName]>,
    /// How Envoy picks within a priority.
    pub algorithm: LbAlgorithm,
    /// Envoy's overprovisioning factor in percent, 100 to 1000 (its default is 140): at 140, a priority or locality gives
    /// traffic away when fewer than 1/1.4 of its endpoints are healthy.
    pub overprovisioning_percent: u32,
    /// Below this share of healthy endpoints, in percent, Envoy ignores health: 0 to 100; 0 never does.
    pub panic_threshold_percent: u32,
    /// Requests that Envoy refuses with 503, of a million. Bytes are not refused.
    pub drop_per_million: u32,
    /// When an endpoint is set aside by what it answers.
    pub outlier_detection: Option<OutlierDetection>,
    /// Whether Envoy asks endpoints how they are.
    pub health_check: Option<HealthCheck>,
}

impl LbDecision {
    /// Endpoints, with what Causeway sets where nobody says anything. The numbers of their clusters are places in
    /// `clusters`.
    pub fn new(groups: Vec<LbGroup>, clusters: Arc<[ClusterName]>) -> Self {
        Self {
            groups,
            clusters,
            algorithm: LbAlgorithm::LEAST_REQUEST,
            overprovisioning_percent: 140,
            panic_threshold_percent: 1,
            drop_per_million: 0,
            outlier_detection: None,
            health_check: None,
        }
    }
}

/// A pool as a VIP policy sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolChoice {
    /// The pool's name.
    pub pool: PoolName,
    /// Free addresses of the wanted family: the pool's lowest, and then the one that a hash of the slot leads to, which
    /// is the same again when the access is made again. Empty when the pool is exhausted.
    pub candidates: Vec<IpAddr>,
    /// How many are free, saturating.
    pub free: u64,
    /// How many addresses of the pool the access's namespace has, of all families.
    pub held_by_namespace: u32,
    /// How many connected gateways serve the pool's addresses.
    pub gateways: u32,
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
