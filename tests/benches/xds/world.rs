//! The world that every server has. `tests/peers` builds the same.

use crate::servers::Command;
use causeway::snapshot::{Reference, Resource, ResourceType};
use xds_api::pb::envoy::config::cluster::v3::Cluster;
use xds_api::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
use xds_api::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_api::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use xds_api::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, HealthStatus, Locality, SocketAddress, address,
};
use xds_api::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use xds_api::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use xds_api::pb::google::protobuf::{Duration, UInt32Value};

/// Endpoints of a service.
pub const ENDPOINTS: usize = 20;

/// Zones that they are spread over.
const ZONES: usize = 2;

/// The name of a service's cluster and assignment.
pub fn name(service: usize) -> String {
    format!("service-{service:05}.shop.svc:8080")
}

pub fn cluster(service: usize) -> Resource {
    let name = name(service);
    let ads = ConfigSourceSpecifier::Ads(AggregatedConfigSource::default());
    let source = ConfigSource {
        config_source_specifier: Some(ads),
        resource_api_version: ApiVersion::V3 as i32,
        ..ConfigSource::default()
    };
    let message = Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(source), service_name: String::new() }),
        connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
        ..Cluster::default()
    };
    let needs = Reference::new(ResourceType::Endpoint, name.as_str());
    Resource::new(ResourceType::Cluster, name, &message).with_refs([needs])
}

/// A service's endpoints; another revision has another first address.
pub fn assignment(service: usize, endpoints: usize, revision: usize) -> Resource {
    let name = name(service);
    let zone = |zone: usize| LocalityLbEndpoints {
        locality: Some(Locality { region: "eu".to_owned(), zone: format!("eu-{zone}"), sub_zone: String::new() }),
        lb_endpoints: (zone..endpoints).step_by(ZONES).map(|n| endpoint(service, n, revision)).collect(),
        load_balancing_weight: Some(UInt32Value { value: 1 }),
        ..LocalityLbEndpoints::default()
    };
    let zones = (0..ZONES).map(zone).collect();
    let message = ClusterLoadAssignment { cluster_name: name.clone(), endpoints: zones, ..Default::default() };
    Resource::new(ResourceType::Endpoint, name, &message)
}

fn endpoint(service: usize, number: usize, revision: usize) -> LbEndpoint {
    let ip = match number {
        0 => format!("10.{}.{}.{}", 128 + (revision >> 16 & 127), revision >> 8 & 255, revision & 255),
        _ => format!("10.{}.{}.{}", service >> 8 & 127, service & 255, number),
    };
    let socket =
        SocketAddress { address: ip, port_specifier: Some(PortSpecifier::PortValue(8080)), ..SocketAddress::default() };
    let address = Address { address: Some(address::Address::SocketAddress(socket)) };
    let endpoint = Endpoint { address: Some(address), ..Endpoint::default() };
    LbEndpoint {
        health_status: HealthStatus::Healthy as i32,
        load_balancing_weight: Some(UInt32Value { value: 1 }),
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..LbEndpoint::default()
    }
}

/// The services that each change is of: one after the other, and a revision that was never there.
pub struct Changes {
    services: usize,
    next: usize,
    revision: usize,
}

impl Changes {
    pub fn new(services: usize) -> Self {
        Self { services, next: 0, revision: 0 }
    }

    /// The services that a command changes, with their revisions.
    pub fn of(&mut self, command: Command) -> impl Iterator<Item = (usize, usize)> + use<> {
        self.revision += 1;
        let (services, revision) = (self.services, self.revision);
        let (first, count) = match command {
            Command::Change(count) => {
                let first = self.next;
                self.next = (first + count) % services;
                (first, count.min(services))
            }
            Command::Same(service) => (service, 1),
        };
        (first..first + count).map(move |n| (n % services, revision))
    }
}
