//! The discovery services: the aggregated one, and one of each type.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Protocol, Violation};
use crate::snapshot::ResourceType;

/// The service by which a stream came. It decides what can be asked for on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DiscoveryService {
    /// All types on one stream, so that they can be ordered.
    #[default]
    Aggregated,
    /// Clusters only.
    Cluster,
    /// Endpoints only.
    Endpoint,
    /// Listeners only.
    Listener,
    /// Routes only.
    Route,
    /// Secrets only. There are none, which is said.
    Secret,
}

/// A service's facts: its name, its two methods, the type, and how people call it.
struct Facts {
    name: &'static str,
    methods: [&'static str; 2],
    type_url: Option<&'static str>,
    label: &'static str,
}

impl DiscoveryService {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Aggregated, Self::Cluster, Self::Endpoint, Self::Listener, Self::Route, Self::Secret];

    const fn facts(self) -> Facts {
        let (name, methods, type_url, label) = match self {
            Self::Aggregated => (
                "envoy.service.discovery.v3.AggregatedDiscoveryService",
                ["StreamAggregatedResources", "DeltaAggregatedResources"],
                None,
                "ADS",
            ),
            Self::Cluster => (
                "envoy.service.cluster.v3.ClusterDiscoveryService",
                ["StreamClusters", "DeltaClusters"],
                Some(ResourceType::Cluster.type_url()),
                "CDS",
            ),
            Self::Endpoint => (
                "envoy.service.endpoint.v3.EndpointDiscoveryService",
                ["StreamEndpoints", "DeltaEndpoints"],
                Some(ResourceType::Endpoint.type_url()),
                "EDS",
            ),
            Self::Listener => (
                "envoy.service.listener.v3.ListenerDiscoveryService",
                ["StreamListeners", "DeltaListeners"],
                Some(ResourceType::Listener.type_url()),
                "LDS",
            ),
            Self::Route => (
                "envoy.service.route.v3.RouteDiscoveryService",
                ["StreamRoutes", "DeltaRoutes"],
                Some(ResourceType::Route.type_url()),
                "RDS",
            ),
            Self::Secret => (
                "envoy.service.secret.v3.SecretDiscoveryService",
                ["StreamSecrets", "DeltaSecrets"],
                Some("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"),
                "SDS",
            ),
        };
        Facts { name, methods, type_url, label }
    }

    /// Its name in gRPC's paths.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The URL of its type; `None` where it has all types.
    pub const fn type_url(self) -> Option<&'static str> {
        self.facts().type_url
    }

    /// As people call it: `ADS`, `CDS`, …
    pub const fn label(self) -> &'static str {
        self.facts().label
    }

    /// Whether it is the one of all types.
    pub const fn is_aggregated(self) -> bool {
        matches!(self, Self::Aggregated)
    }

    /// The protocol that a method speaks; `None` where it is none of this service's streams.
    pub fn protocol(self, method: &str) -> Option<Protocol> {
        let [sotw, delta] = self.facts().methods;
        match method {
            _ if method == sotw => Some(Protocol::Sotw),
            _ if method == delta => Some(Protocol::Delta),
            _ => None,
        }
    }

    /// What a call of another method is answered.
    pub(super) fn unimplemented(self, method: &str) -> String {
        let [sotw, delta] = self.facts().methods;
        format!("{} has no method `{method}` here: ask by {sotw} or {delta}", self.name())
    }

    /// The type that a request is about. A service of one type takes its own for granted (xDS protocol, "type URLs").
    ///
    /// # Errors
    /// When it is about another type, or on an aggregated stream about none (rule 14).
    pub(super) fn type_url_of(self, asked: &str) -> Result<&str, Violation> {
        match self.type_url() {
            None if asked.is_empty() => Err(Violation::NoTypeUrl),
            None => Ok(asked),
            Some(own) if asked.is_empty() || asked == own => Ok(own),
            Some(own) => Err(Violation::WrongType { service: self.name(), own, asked: asked.to_owned() }),
        }
    }
}

impl fmt::Display for DiscoveryService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Serialize for DiscoveryService {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}
