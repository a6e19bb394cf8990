//! Near and ready endpoints first: the load-balancing policy that services have by default.
//!
//! - What is not ready is left out. Draining endpoints get no new requests as long as one is ready; when none is, they
//!   are the best there is and are used like ready ones.
//! - Endpoints of other networks than the client's are left out, unless there is no other.
//! - The client's own region, or zone and then region, comes first where it is known and has a ready endpoint; then the
//!   regions of `failover` in their order; then all others. Envoy sends traffic on to the next priority by the share
//!   of one's endpoints that are healthy.
//! - Endpoints of clusters that cannot be reached are used like others: stale is better than none.

mod config;

use causeway_policy::lb::{Decision, Groups, LbPolicy, Locality, Question};
use config::{Config, LocalityPriority};

/// The policy.
pub struct LbLocality;

impl LbPolicy for LbLocality {
    type Config = Config;

    fn decide(question: &Question, config: &Config) -> Result<Decision, String> {
        let usable = question.usable();
        let ranks: Vec<u32> =
            question.localities.iter().map(|locality| rank(locality, &question.client.locality, config)).collect();
        let mut groups = Groups::new(question);
        groups.add_by_locality(&usable.ready, &ranks);
        question.pick(&usable.draining).for_each(|endpoint| groups.drain(endpoint));
        Ok(Decision {
            algorithm: config.algorithm.of_envoy(),
            overprovisioning_percent: config.overprovisioning_percent,
            panic_threshold_percent: config.panic_threshold_percent,
            ..groups.decide()
        })
    }
}

/// How far a locality is. Ranks that nothing has are closed when groups become a decision: where the client's region
/// has no endpoint, the next one has the priority 0.
fn rank(locality: &Locality, client: &Locality, config: &Config) -> u32 {
    if config.locality_priority == LocalityPriority::None {
        return 0;
    }
    let own_region = !client.region.is_empty() && locality.region == client.region;
    if own_region {
        let own_zone = config.locality_priority == LocalityPriority::Region
            || client.zone.is_empty()
            || locality.zone == client.zone;
        return u32::from(!own_zone);
    }
    let turn = config.failover.iter().position(|region| *region == locality.region);
    2 + turn.unwrap_or(config.failover.len()) as u32
}

causeway_policy::export_lb!(LbLocality);

#[cfg(test)]
mod tests;
