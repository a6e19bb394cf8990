//! What users say of an access's backends by their own `EndpointSnapshot`s: backends besides the clusters' pods, and
//! other weights or an end of traffic for pods.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{ClusterName, NamespacedName};
use super::object::{Locality, ServicePort};

/// An `EndpointSnapshot` whose owner is a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSnapshot {
    /// Namespace and name.
    pub id: NamespacedName,
    /// `metadata.generation`; 0 where not said.
    pub generation: i64,
    /// The access, in the same namespace.
    pub access: Arc<str>,
    /// The service, in the same namespace; the access's own where not said.
    pub service: Option<Arc<str>>,
    /// The cluster whose pods are meant; the primary where not said.
    pub cluster: Option<ClusterName>,
    /// What is said, each of another name.
    pub entries: Vec<Entry>,
}

impl UserSnapshot {
    /// The access that it is about.
    pub fn access_id(&self) -> NamespacedName {
        NamespacedName::new(self.id.namespace.clone(), self.access.clone())
    }
}

/// What a [`UserSnapshot`] says of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name of the pod, or of the backend that is added.
    pub name: Arc<str>,
    /// Where the added backend is; without it, the entry is about a pod or a backend that is there.
    pub place: Option<Place>,
    /// How it takes traffic.
    pub said: Said,
}

/// Where an added backend is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its address.
    pub address: IpAddr,
    /// Its ports by the name of the service's port; the service's own number where not said.
    pub ports: BTreeMap<Arc<str>, u16>,
    /// The Kubernetes node, or whatever it runs on.
    pub node: Option<Arc<str>>,
    /// Where it runs; the cluster's own place fills what is not said.
    pub locality: Locality,
}

impl Place {
    /// Where it serves a port of the service.
    pub fn on(&self, port: &ServicePort) -> SocketAddr {
        SocketAddr::new(self.address, self.ports.get(&port.name).copied().unwrap_or(port.port))
    }
}

/// How a backend takes traffic, as far as it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Whether it takes any.
    pub ready: Option<bool>,
    /// Its share, 1 to 1000.
    pub weight: Option<u32>,
    /// No new requests.
    pub drain: Option<bool>,
}

impl Said {
    /// What holds when this was said after what was said before: the later word on each.
    pub fn after(self, before: Said) -> Said {
        Said {
            ready: self.ready.or(before.ready),
            weight: self.weight.or(before.weight),
            drain: self.drain.or(before.drain),
        }
    }
}
