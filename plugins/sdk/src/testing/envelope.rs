//! What Causeway holds every decision to.

use std::collections::{BTreeMap, BTreeSet};

use crate::lb::{Algorithm, Decision, Question, Readiness};
use crate::settings::within;

/// Checks a decision as Causeway does: it uses no endpoint that it was not given and none twice, no address twice,
/// sends requests somewhere if that is possible, and is one that Envoy takes.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_lb(question: &Question, decision: &Decision) -> Result<(), String> {
    check_endpoints(question, decision)?;
    check_groups(question, decision)?;
    check_algorithm(decision.algorithm)?;
    within("overprovisioning-percent", decision.overprovisioning_percent, 100..=1000)?;
    within("panic-threshold-percent", decision.panic_threshold_percent, 0..=100)?;
    within("drop-per-million", decision.drop_per_million, 0..=1_000_000)?;
    if let Some(outlier) = &decision.outlier_detection {
        within("interval-ms", outlier.interval_ms, 100..=600_000)?;
        within("base-ejection-ms", outlier.base_ejection_ms, 100..=600_000)?;
        within("max-ejection-percent", outlier.max_ejection_percent, 1..=100)?;
    }
    if let Some(check) = &decision.health_check {
        within("interval-ms", check.interval_ms, 100..=600_000)?;
        within("timeout-ms", check.timeout_ms, 10..=10_000)?;
        within("unhealthy-threshold", check.unhealthy_threshold, 1..=100)?;
        within("healthy-threshold", check.healthy_threshold, 1..=100)?;
    }
    Ok(())
}

fn check_endpoints(question: &Question, decision: &Decision) -> Result<(), String> {
    let given = question.count();
    let (mut indexes, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for &index in &decision.endpoints {
        if index >= given {
            return Err(format!("endpoint {index} is none of the {given} that were given"));
        }
        if !indexes.insert(index) || !keys.insert(question.endpoint(index).key()) {
            return Err(format!("endpoint {index} is used twice"));
        }
    }
    if !decision.weights.is_empty() && decision.weights.len() != decision.endpoints.len() {
        return Err(format!("{} weights for {} endpoints", decision.weights.len(), decision.endpoints.len()));
    }
    if let Some(i) = decision.weights.iter().position(|weight| *weight == 0) {
        return Err(format!("endpoint {} has the weight 0; leave it out or let it drain", decision.endpoints[i]));
    }
    let usable = question.endpoints().filter(|endpoint| endpoint.readiness() != Readiness::NotReady).count();
    if usable > 0 && decision.groups.iter().all(|group| group.draining) {
        return Err(format!("no endpoint would get requests, though {usable} can be used"));
    }
    Ok(())
}

fn check_groups(question: &Question, decision: &Decision) -> Result<(), String> {
    let (mut places, mut sums) = (BTreeSet::new(), BTreeMap::<u32, u64>::new());
    let mut start = 0;
    for group in &decision.groups {
        let Some(locality) = question.localities.get(group.locality as usize) else {
            return Err(format!("locality {} is none of the {}", group.locality, question.localities.len()));
        };
        let place = format!("priority {} of {}/{}", group.priority, locality.region, locality.zone);
        if group.count == 0 {
            return Err(format!("{place} has no endpoints"));
        }
        if group.weight == 0 {
            return Err(format!("{place} has the weight 0"));
        }
        if !places.insert((group.priority, group.locality)) {
            return Err(format!("{place} comes twice"));
        }
        let range = start..start + group.count as usize;
        start = range.end;
        let Some(members) = decision.endpoints.get(range.clone()) else {
            return Err(format!("{place} has more endpoints than there are"));
        };
        let weight = |(i, endpoint): (usize, &u32)| {
            u64::from(decision.weights.get(i).copied().unwrap_or(question.endpoint(*endpoint).weight()))
        };
        let endpoints: u64 = range.zip(members).map(weight).sum();
        let sum = sums.entry(group.priority).or_default();
        *sum += u64::from(group.weight);
        if endpoints > u64::from(u32::MAX) || *sum > u64::from(u32::MAX) {
            return Err(format!("the weights of {place} add up to more than {}", u32::MAX));
        }
        if let Some(endpoint) = members.iter().find(|e| question.endpoint(**e).locality_index() != group.locality) {
            return Err(format!("endpoint {endpoint} is not at {}/{}", locality.region, locality.zone));
        }
    }
    if start != decision.endpoints.len() {
        return Err(format!("{} endpoints are of no group", decision.endpoints.len() - start));
    }
    match sums.keys().zip(0u32..).find(|(priority, expected)| **priority != *expected) {
        Some((priority, expected)) => Err(format!("priority {priority} is there, but {expected} is not")),
        None if sums.len() > 128 => Err(format!("{} priorities are more than 128", sums.len())),
        None => Ok(()),
    }
}

fn check_algorithm(algorithm: Algorithm) -> Result<(), String> {
    match algorithm {
        Algorithm::RoundRobin | Algorithm::Random => Ok(()),
        Algorithm::LeastRequest(choices) => within("least-request", choices, 2..=64),
        Algorithm::RingHash(ring) => {
            within("ring-hash.maximum", ring.maximum, 1..=8_388_608)?;
            within("ring-hash.minimum", ring.minimum, 1..=ring.maximum)
        }
        Algorithm::Maglev(size) if !is_prime(size) => Err(format!("maglev: {size} is no prime")),
        Algorithm::Maglev(size) => within("maglev", size, 2..=5_000_011),
    }
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}
