//! What a load-balancing policy answered becomes a decision, if it can be one.

use super::bindings::lb::causeway::policy::lb as wit;
use super::envelope::{check_groups, check_settings};
use super::question::LbQuestion;
use crate::model::decision::{HealthCheck, LbAlgorithm, LbDecision, LbEndpoint, LbGroup, OutlierDetection};

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
    let mut used = vec![false; given.len()];
    let mut takes_requests = false;
    let mut next = 0;
    let mut groups = Vec::with_capacity(answer.groups.len());
    for group in &answer.groups {
        let Some(locality) = localities.get(group.locality as usize) else {
            return Err(format!("locality {} is none of the {} that were given", group.locality, localities.len()));
        };
        // As many as all groups count are there.
        let members = next..next + group.count as usize;
        for index in &chosen[members.clone()] {
            match used.get_mut(*index as usize) {
                Some(used) if !*used => *used = true,
                Some(_) => return Err(format!("endpoint {} is used twice", given[*index as usize].address)),
                None => return Err(format!("endpoint {index} is none of the {} that were given", given.len())),
            }
        }
        let draining = group.draining;
        let one = |index: &u32| LbEndpoint { draining, ..given[*index as usize] };
        let mut endpoints: Vec<LbEndpoint> = chosen[members.clone()].iter().map(one).collect();
        if !weights.is_empty() {
            for (endpoint, weight) in endpoints.iter_mut().zip(&weights[members]) {
                endpoint.weight = *weight;
            }
            if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.weight == 0) {
                let address = endpoint.address;
                return Err(format!(
                    "endpoint {address} has the weight 0; leave it out, or put it into a draining group"
                ));
            }
        }
        next += group.count as usize;
        takes_requests |= !group.draining && !endpoints.is_empty();
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

/// Networks may use the same addresses for different pods, and an Envoy can only have one of them.
fn one_of_each(groups: &[LbGroup]) -> Result<(), String> {
    let mut addresses: Vec<_> =
        groups.iter().flat_map(|group| &group.endpoints).map(|endpoint| endpoint.address).collect();
    addresses.sort_unstable();
    match addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two endpoints have the address {}; an Envoy can only have one of them", pair[0])),
        None => Ok(()),
    }
}
