//! Clusters (CDS).

use xds_api::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions, circuit_breakers::Thresholds,
    cluster as parts,
};
use xds_api::pb::envoy::config::core::v3::TcpKeepalive;
use xds_api::pb::envoy::r#type::v3::Percent;

use super::{any, over_ads, seconds};
use crate::model::decision::LbAlgorithm;
use crate::model::object::Protocol;

/// How long a connection to an endpoint may take. Endpoints are on networks that are reached
/// directly, where a second is many round trips plus one lost SYN; the pod that vanished without a
/// word costs a request this long before it is tried elsewhere. Envoy's default is 5 s.
pub const CONNECT_TIMEOUT_SECONDS: i64 = 1;

/// A dead peer is noticed after 30 s of silence and three probes 5 s apart. Requests have no
/// timeout of ours, so this is what ends those that wait for a node that lost its power. HTTP/2
/// pings would do so too, but gRPC servers close connections that ping more often than every five
/// minutes (`too_many_pings`).
const KEEPALIVE_TIME_SECONDS: u32 = 30;
const KEEPALIVE_INTERVAL_SECONDS: u32 = 5;
const KEEPALIVE_PROBES: u32 = 3;

/// What a cluster is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterSpec<'a> {
    /// Its name, and that of its assignment.
    pub name: &'a str,
    /// How its endpoints are spoken to.
    pub protocol: Protocol,
    /// How Envoy picks within a priority.
    pub algorithm: LbAlgorithm,
    /// Below this share of healthy endpoints, in percent, Envoy ignores health; 0 never does.
    pub panic_threshold_percent: u32,
}

/// Builds a cluster whose endpoints come over ADS.
pub fn cluster(spec: &ClusterSpec<'_>) -> Cluster {
    Cluster {
        name: spec.name.to_owned(),
        cluster_discovery_type: Some(parts::ClusterDiscoveryType::Type(parts::DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(parts::EdsClusterConfig { eds_config: Some(over_ads()), ..Default::default() }),
        connect_timeout: Some(seconds(CONNECT_TIMEOUT_SECONDS)),
        lb_policy: lb_policy(spec.algorithm) as i32,
        common_lb_config: Some(common_lb_config(spec.panic_threshold_percent)),
        circuit_breakers: Some(no_limits()),
        lb_subset_config: spec.protocol.is_http().then(one_cluster_subsets),
        outlier_detection: Some(avoid_the_unreachable(spec.panic_threshold_percent)),
        typed_extension_protocol_options: any::http_protocol_options(spec.protocol).into_iter().collect(),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: Some(KEEPALIVE_PROBES.into()),
                keepalive_time: Some(KEEPALIVE_TIME_SECONDS.into()),
                keepalive_interval: Some(KEEPALIVE_INTERVAL_SECONDS.into()),
            }),
            ..Default::default()
        }),
        // An endpoint that left the assignment is gone at once, whatever a health check last said.
        // Its connections finish what they have: `close_connections_on_host_health_failure` stays
        // off, as does `close_connections_on_host_set_change`.
        ignore_health_on_host_removal: true,
        ..Default::default()
    }
}

/// A route may ask for the endpoints of one Kubernetes cluster by their metadata. Whoever does not ask is
/// given any endpoint, by the same priorities and weights; whoever asks for a cluster that has none is given none.
fn one_cluster_subsets() -> parts::LbSubsetConfig {
    use parts::lb_subset_config::{LbSubsetFallbackPolicy, LbSubsetSelector, lb_subset_selector};
    parts::LbSubsetConfig {
        fallback_policy: LbSubsetFallbackPolicy::AnyEndpoint as i32,
        subset_selectors: vec![LbSubsetSelector {
            keys: vec![super::CLUSTER_KEY.to_owned()],
            fallback_policy: lb_subset_selector::LbSubsetSelectorFallbackPolicy::NoFallback as i32,
            ..Default::default()
        }],
        locality_weight_aware: true,
        ..Default::default()
    }
}

fn lb_policy(algorithm: LbAlgorithm) -> parts::LbPolicy {
    match algorithm {
        LbAlgorithm::RoundRobin => parts::LbPolicy::RoundRobin,
        LbAlgorithm::LeastRequest => parts::LbPolicy::LeastRequest,
        LbAlgorithm::RingHash => parts::LbPolicy::RingHash,
        LbAlgorithm::Maglev => parts::LbPolicy::Maglev,
        LbAlgorithm::Random => parts::LbPolicy::Random,
    }
}

fn common_lb_config(panic_threshold_percent: u32) -> parts::CommonLbConfig {
    parts::CommonLbConfig {
        healthy_panic_threshold: Some(Percent { value: f64::from(panic_threshold_percent.min(100)) }),
        // Envoy merges changes of health and weight for a second. A pod that drains must get no new
        // request at once, and changes come merged from here already.
        update_merge_window: Some(seconds(0)),
        locality_config_specifier: Some(parts::common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(
            parts::common_lb_config::LocalityWeightedLbConfig {},
        )),
        ..Default::default()
    }
}

/// An endpoint that cannot be connected to has no load, so least request sends it more and more,
/// and TCP, where Envoy may pick the same one again, loses connections for as long as the endpoint
/// is listed. Three failures in a row set it aside, for a second at first (it may just be
/// starting), for ten when it stays so. What an endpoint answers plays no part: judging answers is
/// up to a policy.
///
/// All endpoints may be set aside where Envoy then ignores health and tries them all the same;
/// where it never does so, half of them stay.
fn avoid_the_unreachable(panic_threshold_percent: u32) -> OutlierDetection {
    let most = if panic_threshold_percent == 0 { 50 } else { 100 };
    OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: Some(3.into()),
        enforcing_consecutive_local_origin_failure: Some(100.into()),
        enforcing_local_origin_success_rate: Some(0.into()),
        enforcing_consecutive_5xx: Some(0.into()),
        enforcing_success_rate: Some(0.into()),
        interval: Some(seconds(1)),
        base_ejection_time: Some(seconds(1)),
        max_ejection_time: Some(seconds(10)),
        max_ejection_percent: Some(most.into()),
        ..Default::default()
    }
}

/// Envoy allows 1,024 connections and requests and three retries at a time for each cluster, which
/// at a gateway turns load into 503s, and the loss of a pod into failed requests. Retries are safe
/// to leave open: only what no endpoint has begun to serve, or what is safe to repeat, is retried.
fn no_limits() -> CircuitBreakers {
    let thresholds = Thresholds {
        max_connections: Some(u32::MAX.into()),
        max_pending_requests: Some(u32::MAX.into()),
        max_requests: Some(u32::MAX.into()),
        max_retries: Some(u32::MAX.into()),
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}
