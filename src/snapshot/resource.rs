//! One encoded resource and its type.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The resource types that are served, in the order in which they are sent (rule 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoint,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
}

impl ResourceType {
    /// How many types there are.
    pub const COUNT: usize = 4;

    /// All types, in the order in which they are sent.
    pub const ALL: [ResourceType; Self::COUNT] =
        [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::Route];

    /// The type's place in [`ResourceType::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The type URL of discovery requests and of the `Any` around a body.
    pub const fn type_url(self) -> &'static str {
        match self {
            ResourceType::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            ResourceType::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceType::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            ResourceType::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type of a type URL; `None` for those that are not served.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.type_url() == url)
    }

    /// Whether a response of the state-of-the-world protocol is the complete list, so that what it
    /// leaves out is deleted (rule 10). The same types know the legacy wildcard, an empty first request.
    pub const fn is_complete_list(self) -> bool {
        matches!(self, ResourceType::Cluster | ResourceType::Listener)
    }

    /// A short lower-case name, for metrics and debugging.
    pub const fn label(self) -> &'static str {
        match self {
            ResourceType::Cluster => "cluster",
            ResourceType::Endpoint => "endpoint",
            ResourceType::Listener => "listener",
            ResourceType::Route => "route",
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// Names another resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its type.
    pub ty: ResourceType,
    /// Its name.
    pub name: Arc<str>,
}

impl Reference {
    /// Names a resource.
    pub fn new(ty: ResourceType, name: impl Into<Arc<str>>) -> Self {
        Self { ty, name: name.into() }
    }
}

/// An encoded resource. Its version is a hash of its body, so equal bodies have equal versions on
/// every replica (rule 19).
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    ty: ResourceType,
    name: Arc<str>,
    version: Arc<str>,
    body: Bytes,
    refs: Box<[Reference]>,
    fingerprint: u128,
}

impl Resource {
    /// Encodes a message. Encoding of messages with maps must be deterministic for versions to be
    /// equal between replicas; prost writes `HashMap` fields in no fixed order, so callers with more
    /// than one entry in a map encode themselves and use [`Resource::from_encoded`].
    pub fn new(ty: ResourceType, name: impl Into<Arc<str>>, message: &impl prost013::Message) -> Self {
        Self::from_encoded(ty, name, Bytes::from(message.encode_to_vec()))
    }

    /// Takes a message that is encoded already: the `value` of the `Any` that clients will see.
    pub fn from_encoded(ty: ResourceType, name: impl Into<Arc<str>>, body: Bytes) -> Self {
        let name = name.into();
        let version = version_of(&body);
        let mut hash = Sha256::new();
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name.as_bytes());
        hash.update(version.as_bytes());
        let fingerprint = u128::from_be_bytes(first_bytes(&hash.finalize()));
        Self { ty, name, version, body, refs: Box::default(), fingerprint }
    }

    /// Declares which other resources this one needs, since bodies are never decoded again. An EDS
    /// cluster should name its assignment: ordering and rule 5 follow these references.
    #[must_use]
    pub fn with_refs(mut self, refs: impl IntoIterator<Item = Reference>) -> Self {
        self.refs = refs.into_iter().collect();
        self
    }

    /// Its type.
    pub fn ty(&self) -> ResourceType {
        self.ty
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The hash of its body ([`version_of`]).
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The encoded message.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What it needs.
    pub fn refs(&self) -> &[Reference] {
        &self.refs
    }

    /// A hash of name and version, which [`super::SetVersion`] sums up.
    pub(super) fn fingerprint(&self) -> u128 {
        self.fingerprint
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{} ({} bytes)", self.ty, self.name, self.version, self.body.len())
    }
}

/// The version of a body: the first 8 bytes of its SHA-256 in hexadecimal. Short, because it
/// travels with each resource, and long enough that two bodies of one name never share it by chance.
pub fn version_of(body: &[u8]) -> Arc<str> {
    let first = u64::from_be_bytes(first_bytes(&Sha256::digest(body)));
    Arc::from(format!("{first:016x}"))
}

fn first_bytes<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = *from;
    }
    out
}
