//! What the Multi-Cluster Services API (KEP-1645) adds to a cluster's word: which Services are for other clusters too,
//! and what of a Service others are told that no VIP needs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::NamespacedName;
use super::object::{Family, Labels};

/// A `ServiceExport` of one cluster: the Service of its name and namespace is for all clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceExport {
    /// Namespace and name, which are the Service's too.
    pub id: NamespacedName,
    /// Seconds since the Unix epoch; 0 where not said. The oldest export wins a conflict.
    #[serde(default)]
    pub created_at: i64,
    /// `metadata.generation`; 0 where not said.
    #[serde(default)]
    pub generation: i64,
    /// `spec.exportedLabels`.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// `spec.exportedAnnotations`.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
}

/// What is said of a Service besides what VIPs need. Whatever a Service has by default is not said, so that most
/// Services say nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceTraits {
    /// `type: ExternalName`: another name for something that is no Service. It has no endpoints, and cannot be exported.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub external_name: bool,
    /// `sessionAffinity: ClientIP`, and for how many seconds; `None` where clients are not tied to pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip_affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`; `Cluster` otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub internal_traffic_local: bool,
    /// `trafficDistribution`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_distribution: Option<Arc<str>>,
    /// `ipFamilies`; empty where it is IPv4 alone, or nothing is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<Family>,
    /// Ports that are not TCP, which no VIP has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_ports: Vec<OtherPort>,
    /// `appProtocol` by the name of a TCP port, where it says one.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub app_protocols: Labels,
}

impl ServiceTraits {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The IP families, in their order.
    pub fn families(&self) -> &[Family] {
        if self.families.is_empty() { &[Family::V4] } else { &self.families }
    }
}

/// A port of a Service that is not TCP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OtherPort {
    /// Its name; empty for the only, unnamed port.
    pub name: Arc<str>,
    /// The port that clients use.
    pub port: u16,
    /// How it travels; never TCP.
    pub transport: Transport,
    /// `appProtocol`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<Arc<str>>,
}

/// `protocol` of a Service's port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
            Transport::Sctp => "SCTP",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::object::{Object, Service, SliceEndpoint};

    /// As the version before exports kept them.
    const SERVICE: &str = r#"{"Service":{"id":"shop/web","labels":{},"headless":false,"ports":[{"name":"http","port":80,"protocol":"Http"}],"created_at":7}}"#;
    const ENDPOINT: &str = r#"{"addresses":["10.0.0.1"],"ready":true,"serving":true,"terminating":false,"node":null,"zone":null,"pod":null}"#;

    #[test]
    fn what_is_kept_of_a_service_that_says_nothing_more_is_as_it_was() {
        let object: Object = serde_json::from_str(SERVICE).expect("what an older version kept is read");
        let Object::Service(Service { traits, .. }) = &object else { panic!("{object:?}") };
        assert!(traits.is_default());
        assert_eq!(traits.families(), [Family::V4]);
        assert_eq!(serde_json::to_string(&object).expect("it can be kept"), SERVICE);
        let endpoint: SliceEndpoint = serde_json::from_str(ENDPOINT).expect("what an older version kept is read");
        assert_eq!(serde_json::to_string(&endpoint).expect("it can be kept"), ENDPOINT);
    }

    #[test]
    fn what_is_said_is_kept() {
        let traits = ServiceTraits {
            client_ip_affinity: Some(60),
            internal_traffic_local: true,
            families: vec![Family::V6],
            ..ServiceTraits::default()
        };
        let json = serde_json::to_string(&traits).expect("it can be kept");
        assert_eq!(json, r#"{"client_ip_affinity":60,"internal_traffic_local":true,"families":["IPv6"]}"#);
        assert_eq!(serde_json::from_str::<ServiceTraits>(&json).expect("it is read"), traits);
    }
}
