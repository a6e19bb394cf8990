//! The last good decision, where a policy fails: it holds for what is still there.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::question::Endpoints;
use crate::model::decision::{LbDecision, LbEndpoint, LbGroup, Readiness};

/// What is left of a decision: endpoints that are gone or not ready are left out, those that drain by now get no new
/// requests. `None` where nothing would get requests though something can.
pub fn kept(last: &LbDecision, endpoints: &Endpoints) -> Option<LbDecision> {
    let mut present: HashMap<SocketAddr, Readiness> = HashMap::new();
    for endpoint in endpoints.list() {
        // Of two of one address, the one that can be used: which of them was meant is not known any more.
        let known = present.entry(endpoint.address).or_insert(endpoint.readiness);
        *known = (*known).min(endpoint.readiness);
    }
    let mut groups: Vec<LbGroup> = Vec::with_capacity(last.groups.len());
    for group in &last.groups {
        let still = group.endpoints.iter().filter_map(|endpoint| match present.get(&endpoint.address)? {
            Readiness::Ready => Some(endpoint),
            Readiness::Draining => Some(LbEndpoint { draining: true, ..endpoint }),
            Readiness::NotReady => None,
        });
        let group = LbGroup { endpoints: still.collect(), locality: group.locality.clone(), ..*group };
        if !group.endpoints.is_empty() {
            groups.push(group);
        }
    }
    // Priorities have no gaps.
    let mut numbers: BTreeMap<u32, u32> = groups.iter().map(|group| (group.priority, 0)).collect();
    for (number, next) in numbers.values_mut().zip(0..) {
        *number = next;
    }
    for group in &mut groups {
        group.priority = numbers.get(&group.priority).copied().unwrap_or_default();
    }
    let takes_requests = groups.iter().flat_map(|group| group.endpoints.iter()).any(|endpoint| !endpoint.draining);
    let can_take = endpoints.list().iter().any(|endpoint| endpoint.readiness != Readiness::NotReady);
    (takes_requests || !can_take).then(|| LbDecision { groups, ..last.clone() })
}
