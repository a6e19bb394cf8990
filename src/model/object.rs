//! What a cluster says, in the model's own strict types. The rooms at the edge (`kube`,
//! `manifests`) decode Kubernetes objects into these, so nothing further in has to doubt them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::export::{ServiceExport, ServiceTraits};
use super::id::{ClusterName, NamespacedName, PoolName};
use super::policy::PolicySpec;
use super::snapshot::UserSnapshot;

/// Kubernetes labels.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// A pod's addresses: one, as a rule, and one of each family where both are in use.
pub type Addresses = SmallVec<[IpAddr; 1]>;

/// One decoded object of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Object {
    /// What a `ClusterInfo` says of the cluster that it names.
    Cluster(ClusterSpec),
    /// A Service that can be reached across clusters.
    Service(Service),
    /// An EndpointSlice (discovery.k8s.io/v1).
    Slice(EndpointSlice),
    /// A Pod.
    Pod(Pod),
    /// A Kubernetes Node, for its topology.
    Node(KubeNode),
    /// A request that services be reachable across clusters.
    Access(Access),
    /// Addresses to give to accesses.
    Pool(Pool),
    /// What a user says of an access's backends.
    Snapshot(UserSnapshot),
    /// A component that decides.
    Policy(PolicySpec),
    /// The word that a Service is for other clusters too.
    Export(ServiceExport),
}

/// The kinds of [`Object`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectKind {
    /// `causeway.dev/v1alpha1` ClusterInfo.
    ClusterInfo,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Pod.
    Pod,
    /// `v1` Node.
    Node,
    /// `causeway.dev/v1alpha1` ClusterAccess.
    ClusterAccess,
    /// `causeway.dev/v1alpha1` VipPool.
    VipPool,
    /// `causeway.dev/v1alpha1` EndpointSnapshot.
    EndpointSnapshot,
    /// `causeway.dev/v1alpha1` Policy.
    Policy,
    /// `multicluster.x-k8s.io` ServiceExport.
    ServiceExport,
}

/// Identifies an object within its cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{:?} {}", self.kind, self.name)
        } else {
            write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

impl Object {
    /// The key under which the object is kept.
    pub fn key(&self) -> ObjectKey {
        let none: Arc<str> = Arc::from("");
        let (kind, namespace, name) = match self {
            Object::Cluster(c) => (ObjectKind::ClusterInfo, none, Arc::from(c.name.as_str())),
            Object::Service(s) => (ObjectKind::Service, s.id.namespace.clone(), s.id.name.clone()),
            Object::Slice(s) => (ObjectKind::EndpointSlice, s.id.namespace.clone(), s.id.name.clone()),
            Object::Pod(p) => (ObjectKind::Pod, p.id.namespace.clone(), p.id.name.clone()),
            Object::Node(n) => (ObjectKind::Node, none, n.name.clone()),
            Object::Access(a) => (ObjectKind::ClusterAccess, a.id.namespace.clone(), a.id.name.clone()),
            Object::Pool(p) => (ObjectKind::VipPool, none, Arc::from(p.name.as_str())),
            Object::Snapshot(s) => (ObjectKind::EndpointSnapshot, s.id.namespace.clone(), s.id.name.clone()),
            Object::Policy(p) => (ObjectKind::Policy, none, p.name.clone()),
            Object::Export(e) => (ObjectKind::ServiceExport, e.id.namespace.clone(), e.id.name.clone()),
        };
        ObjectKey { kind, namespace, name }
    }
}

/// A cluster's part in the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClusterRole {
    /// Causeway's own objects (accesses, pools) are read here.
    Primary,
    /// Contributes services and endpoints.
    #[default]
    Sub,
}

/// Where something runs; empty text means "not said".
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub region: Arc<str>,
    /// `topology.kubernetes.io/zone`.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub zone: Arc<str>,
}

/// What is known of a cluster besides its objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// The cluster's name.
    pub name: ClusterName,
    /// Its part.
    pub role: ClusterRole,
    /// Endpoints are reached directly from nodes of the same network.
    pub network: Arc<str>,
    /// For endpoints whose Kubernetes node says nothing.
    pub locality: Locality,
    /// Namespaces whose objects are left out.
    pub excluded_namespaces: BTreeSet<Arc<str>>,
}

/// How a port's traffic is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// Bytes.
    Tcp,
    /// HTTP/1.1 upstream, any HTTP downstream.
    Http,
    /// HTTP/2 without TLS upstream (`kubernetes.io/h2c`, `http2`).
    H2c,
    /// gRPC: HTTP/2 upstream.
    Grpc,
}

impl Protocol {
    /// Whether a gateway reads requests (and so needs a route), not just bytes.
    pub fn is_http(self) -> bool {
        !matches!(self, Protocol::Tcp)
    }
}

/// A port of a [`Service`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name; empty for the only, unnamed port.
    pub name: Arc<str>,
    /// The port that clients use.
    pub port: u16,
    /// How its traffic is read.
    pub protocol: Protocol,
}

/// A Service of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace and name.
    pub id: NamespacedName,
    /// Labels, for selectors of accesses.
    pub labels: Labels,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
    /// Seconds since the Unix epoch; 0 where not said. The older Service wins a conflict (KEP-1645).
    pub created_at: i64,
    /// What an export of it carries over besides.
    #[serde(default, skip_serializing_if = "ServiceTraits::is_default")]
    pub traits: ServiceTraits,
}

/// A port of an [`EndpointSlice`], tied to the Service's port by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlicePort {
    /// Name of the Service's port.
    pub name: Arc<str>,
    /// The pods' port.
    pub port: u16,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SliceEndpoint {
    /// All addresses are of the same pod; consumers use the first (discovery.k8s.io/v1).
    pub addresses: Addresses,
    /// `conditions.ready`; unset means true.
    pub ready: bool,
    /// `conditions.serving`; unset means `ready`.
    pub serving: bool,
    /// `conditions.terminating`; unset means false.
    pub terminating: bool,
    /// The Kubernetes node.
    pub node: Option<Arc<str>>,
    /// The zone, where the slice says one.
    pub zone: Option<Arc<str>>,
    /// The pod's name (`targetRef` of kind Pod).
    pub pod: Option<Arc<str>>,
    /// `hostname`, as pods of a StatefulSet have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Arc<str>>,
}

/// An EndpointSlice of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub id: NamespacedName,
    /// Name of the Service (label `kubernetes.io/service-name`).
    pub service: Arc<str>,
    /// The ports of all endpoints of the slice.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A Pod of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace and name.
    pub id: NamespacedName,
    /// `metadata.uid`; empty where not said.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`; empty where not said.
    pub resource_version: Arc<str>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// `status.podIPs`.
    pub addresses: Addresses,
    /// `status.phase`; empty where not said.
    pub phase: Arc<str>,
    /// The condition `Ready`.
    pub ready: bool,
    /// Labels; most pods have the same as others.
    pub labels: Arc<Labels>,
    /// Annotation `causeway.dev/weight`, 1 to 1000; 1 where not said.
    pub weight: u32,
    /// Seconds since the Unix epoch; 0 where not said.
    pub created_at: i64,
}

/// A Kubernetes Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeNode {
    /// Its name.
    pub name: Arc<str>,
    /// From its topology labels.
    pub locality: Locality,
}

/// A label selector: `matchLabels` and `matchExpressions`, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Labels that must be present with these values.
    pub match_labels: Labels,
    /// Further requirements.
    pub match_expressions: Vec<Requirement>,
}

/// One `matchExpressions` entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key.
    pub key: Arc<str>,
    /// What must hold of it.
    pub operator: Operator,
    /// Values for `In` and `NotIn`.
    pub values: Vec<Arc<str>>,
}

/// Operators of label selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label's value is one of the values.
    In,
    /// It is absent or none of the values.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl Selector {
    /// Whether the labels satisfy the selector. An empty selector matches everything.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|r| {
                let value = labels.get(&r.key);
                match r.operator {
                    Operator::In => value.is_some_and(|v| r.values.contains(v)),
                    Operator::NotIn => value.is_none_or(|v| !r.values.contains(v)),
                    Operator::Exists => value.is_some(),
                    Operator::DoesNotExist => value.is_none(),
                }
            })
    }
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Which services an access is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceChoice {
    /// One, by name, in the access's namespace.
    Name(Arc<str>),
    /// All of the access's namespace whose labels match.
    Selector(Selector),
}

/// A port of the service, by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortChoice {
    /// By name.
    Name(Arc<str>),
    /// By number.
    Number(u16),
}

/// Whether an access gets one VIP for each service or for each pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VipPer {
    /// One for each service.
    #[default]
    Service,
    /// One for each ready pod.
    Pod,
}

/// How strong the proof has to be before a VIP is published (XDS.md, "VIP evidence").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EvidenceRule {
    /// An ACK is enough.
    Acked,
    /// An agent must have seen the listener active.
    Active,
    /// A connection must have reached it.
    Probed,
    /// `Active` where the gateway has an agent, else `Acked`.
    #[default]
    Strongest,
}

/// When an access's names are answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRule {
    /// Needed proof on a gateway.
    pub evidence: EvidenceRule,
    /// Gateways that must have proved the VIP, at least 1.
    pub min_gateways: u32,
    /// DNS time to live, and how long a withdrawn VIP is still served, in seconds.
    pub ttl_seconds: u32,
    /// The access's Service in the primary gets the published VIPs in `status.loadBalancer`.
    pub service_status: bool,
    /// An ExternalDNS `DNSEndpoint` of the access's name says the published VIPs.
    pub dns_endpoint: bool,
}

impl Default for PublishRule {
    fn default() -> Self {
        Self {
            evidence: EvidenceRule::Strongest,
            min_gateways: 1,
            ttl_seconds: 5,
            service_status: false,
            dns_endpoint: false,
        }
    }
}

/// A `ClusterAccess`: the request that services be reachable across clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// Namespace and name.
    pub id: NamespacedName,
    /// `metadata.generation`; 0 where not said.
    pub generation: i64,
    /// Labels of the access's namespace are not known here; pools match on the namespace's name
    /// through the label `kubernetes.io/metadata.name`.
    pub labels: Labels,
    /// Which services.
    pub service: ServiceChoice,
    /// Which of their ports; empty means all.
    pub ports: Vec<PortChoice>,
    /// From which clusters; empty means all.
    pub clusters: BTreeSet<ClusterName>,
    /// Host names beside the clusterset names, lower case, without a final dot.
    pub hostnames: Vec<Arc<str>>,
    /// One VIP for each what.
    pub per: VipPer,
    /// The pool to take addresses from; any that fits where not said.
    pub pool: Option<PoolName>,
    /// A VIP of each of these families.
    pub families: Vec<Family>,
    /// Addresses asked for, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// When names are answered.
    pub publish: PublishRule,
    /// Who decides where its traffic goes.
    #[serde(default)]
    pub load_balancing: PolicyRef,
    /// Who decides which addresses it gets.
    #[serde(default)]
    pub vip_policy: PolicyRef,
}

/// A policy by name, and what it is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Its name; the default where not said.
    pub name: Option<Arc<str>>,
    /// The configuration, opaque here; null where not said.
    #[serde(default)]
    pub config: serde_json::Value,
}

/// A range of addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressRange {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address, of the same family.
    pub last: IpAddr,
}

impl AddressRange {
    /// Whether the address lies within.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == Family::of(self.first) && self.first <= address && address <= self.last
    }
}

/// Who picks a pool's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AssignedBy {
    /// The control plane, from the pool's ranges.
    #[default]
    ControlPlane,
    /// Each gateway's agent, from its own range.
    DataPlane,
}

/// A `VipPool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// Ranges to take addresses from; empty when the data plane assigns.
    pub ranges: Vec<AddressRange>,
    /// Addresses never given out.
    pub reserved: BTreeSet<IpAddr>,
    /// Which gateways offer its VIPs, by the labels in the node's metadata; all where not said.
    pub gateways: Selector,
    /// Which namespaces may take from it, by the label `kubernetes.io/metadata.name`.
    pub namespaces: Selector,
    /// The most VIPs a namespace may hold.
    pub quota_per_namespace: Option<u32>,
    /// Who picks.
    pub assigned_by: AssignedBy,
}

/// Something a source saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The object is there now, in this form.
    Apply {
        /// The cluster that says so.
        cluster: ClusterName,
        /// The object.
        object: Box<Object>,
    },
    /// The object is gone.
    Delete {
        /// The cluster that says so.
        cluster: ClusterName,
        /// The object's key.
        key: ObjectKey,
    },
    /// Everything that the cluster has now has been told.
    Synced {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The cluster cannot be read: what is known of it stays, marked stale, until the next
    /// [`Change::Synced`].
    Unknown {
        /// The cluster.
        cluster: ClusterName,
        /// Why, for people.
        reason: String,
    },
    /// The user says that the cluster is gone for good.
    Forget {
        /// The cluster.
        cluster: ClusterName,
    },
}
