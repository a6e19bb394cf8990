//! What a load-balancing policy answered becomes a decision, if it can be one.

use super::bindings::lb::causeway::policy::lb as wit;
use super::envelope::{check_groups, check_settings};
use super::question::LbQuestion;
use crate::model::decision::{HealthCheck, LbAlgorithm, LbDecision, LbEndpoint, LbGroup, OutlierDetection, Picked};

/// Reads an answer: numbers become what they stand for.
///
/// # Errors
/// The first thing that is wrong, for people: an index that was not given, one that comes twice, nothing that would get
/// requests though something can, or what Envoy would refuse.
pub fn decided(question: &LbQuestion<'_>, answer: wit::Decision) -> Result<LbDecision, String> {
    let decision = LbDecision {
        groups: groups(question, &answer)?,
        clusters: question.endpoints.cluster_names().clone(),
        algorithm: match answer.algorithm {
            wit::Algorithm::RoundRobin => LbAlgorithm::RoundRobin,
            wit::Algorithm::LeastRequest(choices) => LbAlgorithm::LeastRequest { choices },
            wit::Algorithm::RingHash(ring) => LbAlgorithm::RingHash { minimum: ring.minimum, maximum: ring.maximum },
            wit::Algorithm::Maglev(table_size) => LbAlgorithm::Maglev { table_size },
            wit::Algorithm::Random => LbAlgorithm::Random,
        },
        overprovisioning_percent: answer.overprovisioning_percent,
        panic_threshold_percent: answer.panic_threshold_percent,
        drop_per_million: answer.drop_per_million,
        outlier_detection: answer.outlier_detection.map(|told| OutlierDetection {
            consecutive_5xx: told.consecutive_5xx,
            interval_ms: told.interval_ms,
            base_ejection_ms: told.base_ejection_ms,
            max_ejection_percent: told.max_ejection_percent,
        }),
        health_check: answer.health_check.map(|told| HealthCheck {
            path: told.path,
            interval_ms: told.interval_ms,
            timeout_ms: told.timeout_ms,
            unhealthy_threshold: told.unhealthy_threshold,
            healthy_threshold: told.healthy_threshold,
        }),
    };
    check_groups(&decision)?;
    check_settings(&decision)?;
    Ok(decision)
}

fn groups(question: &LbQuestion<'_>, answer: &wit::Decision) -> Result<Vec<LbGroup>, String> {
    let given = question.endpoints.plain();
    let localities = question.endpoints.localities();
    let (chosen, weights) = (&answer.endpoints, &answer.weights);
    if !weights.is_empty() && weights.len() != chosen.len() {
        return Err(format!("it gives {} weights for {} endpoints", weights.len(), chosen.len()));
    }
    let counted: u64 = answer.groups.iter().map(|group| u64::from(group.count)).sum();
    if counted != chosen.len() as u64 {
        return Err(format!("its groups count {counted} endpoints, but it gives {}", chosen.len()));
    }
    each_once(chosen, given)?;
    let mut takes_requests = false;
    let mut next = 0;
    let mut groups = Vec::with_capacity(answer.groups.len());
    for group in &answer.groups {
        let Some(locality) = localities.get(group.locality as usize) else {
            return Err(format!("locality {} is none of the {} that were given", group.locality, localities.len()));
        };
        // As many as all groups count are there.
        let members = next..next + group.count as usize;
        let weights = if weights.is_empty() { &[] } else { &weights[members.clone()] };
        let places = &chosen[members];
        if let Some(number) = weights.iter().position(|weight| *weight == 0) {
            let address = given[places[number] as usize].address;
            return Err(format!("endpoint {address} has the weight 0; leave it out, or put it into a draining group"));
        }
        next += group.count as usize;
        takes_requests |= !group.draining && !places.is_empty();
        let endpoints = Picked::new(given.clone(), places.to_vec(), weights.to_vec(), group.draining);
        groups.push(LbGroup { priority: group.priority, locality: locality.clone(), weight: group.weight, endpoints });
    }
    let usable = question.endpoints.usable();
    if usable > 0 && !takes_requests {
        return Err(format!("no endpoint would get requests, though {usable} can be used"));
    }
    if question.endpoints.has_twins() {
        one_of_each(&groups)?;
    }
    Ok(groups)
}

/// Checks that each index is of an endpoint that was given, and comes once.
fn each_once(chosen: &[u32], given: &[LbEndpoint]) -> Result<(), String> {
    if let Some(index) = chosen.iter().find(|index| **index as usize >= given.len()) {
        return Err(format!("endpoint {index} is none of the {} that were given", given.len()));
    }
    let mut used = vec![false; given.len()];
    match chosen.iter().find(|index| std::mem::replace(&mut used[**index as usize], true)) {
        Some(index) => Err(format!("endpoint {} is used twice", given[*index as usize].address)),
        None => Ok(()),
    }
}

/// Networks may use the same addresses for different pods, and an Envoy can only have one of them.
fn one_of_each(groups: &[LbGroup]) -> Result<(), String> {
    let mut addresses: Vec<_> =
        groups.iter().flat_map(|group| group.endpoints.iter()).map(|endpoint| endpoint.address).collect();
    addresses.sort_unstable();
    match addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two endpoints have the address {}; an Envoy can only have one of them", pair[0])),
        None => Ok(()),
    }
}
