//! Shares of traffic by cluster, and failover: `{clusters: {east: 90, west: 9, south: 1}}`.
//!
//! Where a cluster has no ready endpoint, its share goes to the others in proportion to theirs, to the first of an order
//! that has some, or is refused; see [`config::Failover`].
//!
//! Everything is in one priority, because Envoy divides traffic between priorities by health only. Endpoints are
//! grouped by locality, and clusters may share one; so a cluster's share is in the weights of its endpoints, and a
//! group's weight is the sum of its endpoints'. Envoy multiplies the two shares, and what comes out is each endpoint's
//! weight of the whole.
//!
//! Envoy heeds the weights of endpoints exactly when it goes round. Picking at random it does not heed them at all, and
//! the least busy one is not the one whose turn it is; so neither can be chosen here.

mod config;
mod weights;

use causeway_policy::lb::{Decision, Groups, LbPolicy, Question};
use config::{Config, Failover};
use weights::Cluster;

/// The policy.
pub struct LbWeightedClusters;

/// Of a million requests.
const MILLION: u64 = 1_000_000;

impl LbPolicy for LbWeightedClusters {
    type Config = Config;

    fn decide(question: &Question, config: &Config) -> Result<Decision, String> {
        let usable = question.usable();
        let mut clusters: Vec<Cluster> =
            question.clusters.iter().map(|cluster| Cluster { name: &cluster.name, share: 0, sum: 0 }).collect();
        for endpoint in question.pick(&usable.ready) {
            clusters[endpoint.cluster_index() as usize].sum += u64::from(endpoint.weight());
        }
        let refused = share(config, &mut clusters);
        let mut scales = weights::scales(&clusters);
        let mut groups = Groups::new(question);
        for endpoint in question.pick(&usable.ready) {
            let cluster = endpoint.cluster_index() as usize;
            if clusters[cluster].share > 0 {
                groups.add_weighted(0, endpoint, scales[cluster].next(endpoint.weight()));
            }
        }
        question.pick(&usable.draining).for_each(|endpoint| groups.drain(endpoint));
        Ok(Decision { algorithm: config.algorithm.of_envoy(), drop_per_million: refused, ..groups.decide() })
    }
}

/// Gives clusters with endpoints their shares. How many of a million requests are to be refused comes back.
fn share(config: &Config, clusters: &mut [Cluster<'_>]) -> u32 {
    let has_endpoints = |name: &str| clusters.iter().any(|cluster| cluster.name == name && cluster.sum > 0);
    let all: u64 = config.clusters.values().map(|share| u64::from(*share)).sum();
    let gone: u64 =
        config.clusters.iter().filter(|(name, _)| !has_endpoints(name)).map(|(_, share)| u64::from(*share)).sum();
    let (mut refused, mut instead) = (0, None);
    match &config.failover {
        Failover::InProportion => {}
        Failover::Order(order) => instead = order.iter().find(|name| has_endpoints(name)),
        Failover::Never => refused = (gone * MILLION).checked_div(all).unwrap_or_default(),
    }
    for cluster in clusters.iter_mut().filter(|cluster| cluster.sum > 0) {
        cluster.share = config.clusters.get(cluster.name).copied().unwrap_or_default().into();
        if instead.is_some_and(|name| name == cluster.name) {
            cluster.share += gone;
        }
    }
    // Where none has a share, those that are named stand by, and then all others.
    let named = clusters.iter().any(|cluster| cluster.sum > 0 && config.clusters.contains_key(cluster.name));
    if clusters.iter().all(|cluster| cluster.share == 0) {
        for cluster in clusters.iter_mut().filter(|one| !named || config.clusters.contains_key(one.name)) {
            cluster.share = cluster.sum;
        }
    }
    refused as u32
}

causeway_policy::export_lb!(LbWeightedClusters);

#[cfg(test)]
mod tests;
