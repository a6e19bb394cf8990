//! A deterministic aperture: nodes are divided into buckets, and each bucket's nodes use only some of the endpoints. In
//! a large fleet that saves most of the connections, and every node still has enough endpoints to choose from.
//!
//! - Every endpoint gets the same share of the whole fleet's traffic, by its weight, as far as nodes are evenly divided.
//! - Which endpoints a bucket has is a matter of their addresses. When one comes or goes, each bucket changes few of its
//!   own.
//! - Localities are not looked at: a bucket has endpoints from all of them.

mod config;
mod ring;

use causeway_policy::lb::{Decision, Groups, LbPolicy, Needs, Question};
use config::Config;

/// The policy.
pub struct LbSubset;

impl LbPolicy for LbSubset {
    type Config = Config;

    fn needs(config: &Config) -> Needs {
        Needs { buckets: config.buckets }
    }

    fn decide(question: &Question, config: &Config) -> Result<Decision, String> {
        let usable = question.usable();
        let ready: Vec<ring::Endpoint> = question
            .pick(&usable.ready)
            .map(|endpoint| ring::Endpoint { key: endpoint.key(), weight: endpoint.weight() })
            .collect();
        let weights = ring::weights(&ready, question.client.bucket, question.client.buckets, config.size);
        let mut groups = Groups::new(question);
        for (endpoint, weight) in question.pick(&usable.ready).zip(weights) {
            if weight > 0 {
                groups.add_weighted(0, endpoint, weight);
            }
        }
        question.pick(&usable.draining).for_each(|endpoint| groups.drain(endpoint));
        Ok(Decision { algorithm: config.algorithm.of_envoy(), ..groups.decide() })
    }
}

causeway_policy::export_lb!(LbSubset);

#[cfg(test)]
mod tests;
