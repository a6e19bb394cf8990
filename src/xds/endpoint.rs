//! Assignments (EDS).

use xds_api::pb::envoy::config::core::v3::{HealthStatus, Locality};
use xds_api::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
    cluster_load_assignment::{Policy, policy::DropOverload},
    lb_endpoint::HostIdentifier,
};
use xds_api::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};

use super::{METADATA_NAMESPACE, any, of_cluster, socket_address};
use crate::model::decision::{self, LbDecision, LbGroup};
use crate::model::id::ClusterName;

/// What Envoy calls the dropped requests in its load reports.
const DROP_CATEGORY: &str = "policy";

/// Builds the assignment of a cluster. A decision without endpoints is an assignment without
/// endpoints, which says that there are none; it is not the same as saying nothing.
pub fn assignment(name: &str, decision: &LbDecision) -> ClusterLoadAssignment {
    let mut localities: Vec<LocalityLbEndpoints> =
        decision.groups.iter().map(|group| locality(group, &decision.clusters)).collect();
    mark_drops(&mut localities, decision.drop_per_million);
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: localities,
        policy: Some(Policy {
            overprovisioning_factor: Some(decision.overprovisioning_percent.into()),
            drop_overloads: drops(decision.drop_per_million),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Envoy takes one at most.
fn drops(per_million: u32) -> Vec<DropOverload> {
    let share = FractionalPercent { numerator: per_million, denominator: DenominatorType::Million as i32 };
    let drop = DropOverload { category: DROP_CATEGORY.to_owned(), drop_percentage: Some(share) };
    if per_million == 0 { Vec::new() } else { vec![drop] }
}

/// Makes another share of drops other content of an endpoint, too.
///
/// Envoy 1.40 acknowledges an assignment in which nothing but the drops differs, counts it as `update_no_rebuild`, and goes
/// on dropping as before; what an endpoint's metadata says it takes in without touching its connections.
fn mark_drops(localities: &mut [LocalityLbEndpoints], per_million: u32) {
    let first = localities.first_mut().and_then(|locality| locality.lb_endpoints.first_mut());
    if let Some(metadata) = first.and_then(|endpoint| endpoint.metadata.as_mut()).filter(|_| per_million > 0) {
        metadata.typed_filter_metadata.insert(METADATA_NAMESPACE.to_owned(), any::number(per_million));
    }
}

fn locality(group: &LbGroup, clusters: &[ClusterName]) -> LocalityLbEndpoints {
    LocalityLbEndpoints {
        locality: Some(Locality {
            region: group.locality.region.to_string(),
            zone: group.locality.zone.to_string(),
            sub_zone: String::new(),
        }),
        lb_endpoints: group.endpoints.iter().map(|known| endpoint(&known, clusters)).collect(),
        load_balancing_weight: Some(group.weight.into()),
        priority: group.priority,
        ..Default::default()
    }
}

fn endpoint(endpoint: &decision::LbEndpoint, clusters: &[ClusterName]) -> LbEndpoint {
    // Unknown is read as healthy and takes no room.
    let health = if endpoint.draining { HealthStatus::Draining } else { HealthStatus::Unknown };
    LbEndpoint {
        health_status: health as i32,
        load_balancing_weight: Some(endpoint.weight.into()),
        metadata: clusters.get(endpoint.cluster as usize).map(|cluster| of_cluster(cluster.as_str())),
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(socket_address(endpoint.address)),
            ..Default::default()
        })),
    }
}
