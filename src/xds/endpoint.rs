//! Assignments (EDS).

use xds_api::pb::envoy::config::core::v3::{HealthStatus, Locality};
use xds_api::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, cluster_load_assignment::Policy,
    lb_endpoint::HostIdentifier,
};

use super::{of_cluster, socket_address};
use crate::model::decision::{self, LbDecision, LbGroup};

/// Builds the assignment of a cluster. A decision without endpoints is an assignment without
/// endpoints, which says that there are none; it is not the same as saying nothing.
pub fn assignment(name: &str, decision: &LbDecision) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: decision.groups.iter().map(locality).collect(),
        policy: Some(Policy {
            overprovisioning_factor: Some(decision.overprovisioning_percent.into()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn locality(group: &LbGroup) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(Locality {
            region: group.locality.region.to_string(),
            zone: group.locality.zone.to_string(),
            sub_zone: String::new(),
        }),
        lb_endpoints: group.endpoints.iter().map(endpoint).collect(),
        load_balancing_weight: Some(group.weight.into()),
        priority: group.priority,
        ..Default::default()
    }
}

fn endpoint(endpoint: &decision::LbEndpoint) -> LbEndpoint {
    // Unknown is read as healthy and takes no room.
    let health = if endpoint.draining { HealthStatus::Draining } else { HealthStatus::Unknown };
    LbEndpoint {
        health_status: health as i32,
        load_balancing_weight: Some(endpoint.weight.into()),
        metadata: Some(of_cluster(endpoint.cluster.as_str())),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(socket_address(endpoint.address)),
            ..Default::default()
        })),
    }
}
