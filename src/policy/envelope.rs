//! What any load-balancing decision must hold to, whoever made it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::model::decision::{LbDecision, LbInput, Readiness};
use crate::model::object::Locality;

/// Checks a decision against its input: it uses no endpoint that it was not given and none twice,
/// sends requests somewhere if that is possible, and is a valid one for Envoy.
///
/// # Errors
/// The first thing that is wrong, for people.
pub fn check_lb(input: &LbInput, decision: LbDecision) -> Result<LbDecision, String> {
    check_endpoints(input, &decision)?;
    check_groups(&decision)?;
    if decision.overprovisioning_percent == 0 {
        return Err("an overprovisioning factor of 0 % would send nothing anywhere".to_owned());
    }
    if decision.panic_threshold_percent > 100 {
        return Err(format!("a panic threshold of {} % is above 100 %", decision.panic_threshold_percent));
    }
    Ok(decision)
}

fn check_endpoints(input: &LbInput, decision: &LbDecision) -> Result<(), String> {
    let given: BTreeSet<SocketAddr> = input.endpoints.iter().map(|endpoint| endpoint.address).collect();
    let mut used = BTreeSet::new();
    for endpoint in decision.groups.iter().flat_map(|group| &group.endpoints) {
        let address = endpoint.address;
        if !given.contains(&address) {
            return Err(format!("endpoint {address} is none of the {} that were given", given.len()));
        }
        if !used.insert(address) {
            return Err(format!("endpoint {address} is used twice"));
        }
        if endpoint.weight == 0 {
            return Err(format!("endpoint {address} has the weight 0; leave it out or set it draining"));
        }
    }
    let usable = input.endpoints.iter().filter(|endpoint| endpoint.readiness != Readiness::NotReady).count();
    let takes_requests = decision.groups.iter().flat_map(|group| &group.endpoints).any(|endpoint| !endpoint.draining);
    if usable > 0 && !takes_requests {
        return Err(format!("no endpoint would get requests, though {usable} can be used"));
    }
    Ok(())
}

fn check_groups(decision: &LbDecision) -> Result<(), String> {
    let mut places: BTreeSet<(u32, &Locality)> = BTreeSet::new();
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    for group in &decision.groups {
        let place = format!("priority {} of {}/{}", group.priority, group.locality.region, group.locality.zone);
        if group.endpoints.is_empty() {
            return Err(format!("{place} has no endpoints"));
        }
        if group.weight == 0 {
            return Err(format!("{place} has the weight 0"));
        }
        if !places.insert((group.priority, &group.locality)) {
            return Err(format!("{place} comes twice"));
        }
        let endpoints: u64 = group.endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        let sum = sums.entry(group.priority).or_default();
        *sum += u64::from(group.weight);
        // Envoy refuses sums of weights that do not fit 32 bits.
        if endpoints > u64::from(u32::MAX) || *sum > u64::from(u32::MAX) {
            return Err(format!("the weights of {place} add up to more than {}", u32::MAX));
        }
    }
    // Envoy refuses an assignment whose priorities have a gap.
    match sums.keys().zip(0u32..).find(|(priority, expected)| **priority != *expected) {
        Some((priority, expected)) => Err(format!("priority {priority} is there, but {expected} is not")),
        None => Ok(()),
    }
}
