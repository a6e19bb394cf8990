//! Clusters (CDS).

use xds_api::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, UpstreamConnectionOptions, circuit_breakers::Thresholds, cluster as parts,
};
use xds_api::pb::envoy::config::core::v3::TcpKeepalive;
use xds_api::pb::envoy::r#type::v3::Percent;

use super::{any, health, over_ads, seconds};
use crate::model::decision::{LbAlgorithm, LbDecision};
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
    /// The service's host name, which health checks ask for.
    pub hostname: &'a str,
    /// How its endpoints are spoken to.
    pub protocol: Protocol,
    /// What was decided: all but the endpoints, whose shares and drops are of the assignment.
    pub decision: &'a LbDecision,
}

/// Builds a cluster whose endpoints come over ADS.
///
/// The algorithm stands in `lb_policy` and the message beside it, not in an extension of `load_balancing_policy`: Envoy
/// makes the same balancers from both, with every setting that a decision has, but beside the extension it ignores
/// `lb_subset_config` and the locality weights of `common_lb_config`. Those would have to be extensions around it, and
/// the `subset` one takes no more than what stands here.
pub fn cluster(spec: &ClusterSpec<'_>) -> Cluster {
    let decision = spec.decision;
    let (lb_policy, lb_config) = algorithm(decision.algorithm);
    let health_check = decision.health_check.as_ref();
    Cluster {
        name: spec.name.to_owned(),
        cluster_discovery_type: Some(parts::ClusterDiscoveryType::Type(parts::DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(parts::EdsClusterConfig { eds_config: Some(over_ads()), ..Default::default() }),
        connect_timeout: Some(seconds(CONNECT_TIMEOUT_SECONDS)),
        lb_policy: lb_policy as i32,
        lb_config,
        common_lb_config: Some(common_lb_config(decision)),
        circuit_breakers: Some(no_limits()),
        lb_subset_config: spec.protocol.is_http().then(one_cluster_subsets),
        outlier_detection: Some(health::outlier_detection(decision)),
        health_checks: health_check
            .map(|check| health::check(check, spec.protocol, spec.hostname))
            .into_iter()
            .collect(),
        typed_extension_protocol_options: any::http_protocol_options(spec.protocol).into_iter().collect(),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: Some(KEEPALIVE_PROBES.into()),
                keepalive_time: Some(KEEPALIVE_TIME_SECONDS.into()),
                keepalive_interval: Some(KEEPALIVE_INTERVAL_SECONDS.into()),
            }),
            ..Default::default()
        }),
        // An endpoint that left the assignment is gone at once, whatever a health check last said. Else one that passes
        // its checks would get requests for as long as it does so, though it is none of the service's any more. Its connections finish what they have: `close_connections_on_host_health_failure` stays
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

/// The policy and its settings, which are left out where they are Envoy's own, so that a default says nothing.
fn algorithm(algorithm: LbAlgorithm) -> (parts::LbPolicy, Option<parts::LbConfig>) {
    use parts::{LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig};
    let (policy, config) = match algorithm {
        LbAlgorithm::RoundRobin => return (LbPolicy::RoundRobin, None),
        LbAlgorithm::Random => return (LbPolicy::Random, None),
        LbAlgorithm::LeastRequest { choices } => {
            let settings = LeastRequestLbConfig { choice_count: Some(choices.into()), ..Default::default() };
            (LbPolicy::LeastRequest, LbConfig::LeastRequestLbConfig(settings))
        }
        LbAlgorithm::RingHash { minimum, maximum } => {
            let settings = RingHashLbConfig {
                minimum_ring_size: Some(u64::from(minimum).into()),
                maximum_ring_size: Some(u64::from(maximum).into()),
                ..Default::default()
            };
            (LbPolicy::RingHash, LbConfig::RingHashLbConfig(settings))
        }
        LbAlgorithm::Maglev { table_size } => {
            let settings = MaglevLbConfig { table_size: Some(u64::from(table_size).into()) };
            (LbPolicy::Maglev, LbConfig::MaglevLbConfig(settings))
        }
    };
    let is_envoys = [LbAlgorithm::LEAST_REQUEST, LbAlgorithm::RING_HASH, LbAlgorithm::MAGLEV].contains(&algorithm);
    (policy, (!is_envoys).then_some(config))
}

fn common_lb_config(decision: &LbDecision) -> parts::CommonLbConfig {
    parts::CommonLbConfig {
        healthy_panic_threshold: Some(Percent { value: f64::from(decision.panic_threshold_percent.min(100)) }),
        // Envoy merges changes of health and weight for a second. A pod that drains must get no new
        // request at once, and changes come merged from here already.
        update_merge_window: Some(seconds(0)),
        // New endpoints that were not checked yet would count as unhealthy, and ten more pods beside ten would send
        // requests to another priority, or everywhere.
        ignore_new_hosts_until_first_hc: decision.health_check.is_some(),
        locality_config_specifier: Some(parts::common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(
            parts::common_lb_config::LocalityWeightedLbConfig {},
        )),
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
