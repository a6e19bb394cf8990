//! What any load-balancing decision must hold to, whoever made it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::model::decision::{HealthCheck, LbAlgorithm, LbDecision, OutlierDetection};
use crate::model::object::Locality;

/// The last priority that Envoy knows.
const LAST_PRIORITY: u32 = 127;
/// The most entries of a hash ring, and of a Maglev table, that Envoy makes.
const LARGEST_RING: u32 = 8_388_608;
const LARGEST_TABLE: u32 = 5_000_011;

/// An Envoy that starts opens no listener before every new cluster was checked once, so a service all of whose
/// endpoints are silent holds up the whole gateway for as long as a check may take.
const LONGEST_TIMEOUT_MS: u32 = 10_000;

/// Checks what a decision says besides its endpoints: what Envoy would refuse is refused here, by name.
///
/// # Errors
/// The first thing that is wrong, for people.
pub fn check_settings(decision: &LbDecision) -> Result<(), String> {
    check_algorithm(decision.algorithm)?;
    within("an overprovisioning factor", decision.overprovisioning_percent, 100..=1000, " %")?;
    within("a panic threshold", decision.panic_threshold_percent, 0..=100, " %")?;
    within("a drop of requests", decision.drop_per_million, 0..=1_000_000, " of a million")?;
    decision.outlier_detection.as_ref().map_or(Ok(()), check_outlier_detection)?;
    decision.health_check.as_ref().map_or(Ok(()), check_health_check)
}

fn within(what: &str, value: u32, range: RangeInclusive<u32>, unit: &str) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{what} of {value}{unit} is not within {} to {}{unit}", range.start(), range.end()))
}

fn check_algorithm(algorithm: LbAlgorithm) -> Result<(), String> {
    match algorithm {
        LbAlgorithm::RoundRobin | LbAlgorithm::Random => Ok(()),
        LbAlgorithm::LeastRequest { choices } => within("least request's number of choices", choices, 2..=64, ""),
        LbAlgorithm::RingHash { minimum, maximum } => {
            within("a hash ring's minimum", minimum, 1..=LARGEST_RING, " entries")?;
            within("a hash ring's maximum", maximum, 1..=LARGEST_RING, " entries")?;
            if minimum > maximum {
                return Err(format!("a hash ring's minimum of {minimum} entries is above its maximum of {maximum}"));
            }
            Ok(())
        }
        LbAlgorithm::Maglev { table_size } if table_size <= LARGEST_TABLE && is_prime(table_size) => Ok(()),
        LbAlgorithm::Maglev { table_size } => {
            Err(format!("a Maglev table's size of {table_size} entries is not a prime within 2 to {LARGEST_TABLE}"))
        }
    }
}

/// Takes about a thousand divisions at most for what a table can be.
fn is_prime(number: u32) -> bool {
    number >= 2
        && !(2..).take_while(|divisor| divisor * divisor <= number).any(|divisor| number.is_multiple_of(divisor))
}

fn check_outlier_detection(detection: &OutlierDetection) -> Result<(), String> {
    within("outlier detection's interval", detection.interval_ms, 100..=600_000, " ms")?;
    within("outlier detection's first ejection", detection.base_ejection_ms, 100..=600_000, " ms")?;
    within("outlier detection's largest share", detection.max_ejection_percent, 1..=100, " %")
}

fn check_health_check(check: &HealthCheck) -> Result<(), String> {
    if let Some(path) = &check.path {
        // It stands in a request line, where a space or line break would begin something else.
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("a health check's path {path:?} does not begin with / and go on in visible ASCII"));
        }
    }
    within("a health check's interval", check.interval_ms, 100..=600_000, " ms")?;
    within("a health check's timeout", check.timeout_ms, 10..=LONGEST_TIMEOUT_MS, " ms")?;
    within("a health check's unhealthy threshold", check.unhealthy_threshold, 1..=100, "")?;
    within("a health check's healthy threshold", check.healthy_threshold, 1..=100, "")
}

/// Checks that each locality has endpoints and a share, once a priority, and that priorities have no gaps.
///
/// # Errors
/// The first thing that is wrong, for people.
pub fn check_groups(decision: &LbDecision) -> Result<(), String> {
    let mut places: BTreeSet<(u32, &Locality)> = BTreeSet::new();
    let mut sums: BTreeMap<u32, u64> = BTreeMap::new();
    for group in &decision.groups {
        let place = || format!("priority {} of {}/{}", group.priority, group.locality.region, group.locality.zone);
        if group.priority > LAST_PRIORITY {
            return Err(format!("{} is above {LAST_PRIORITY}, the last that Envoy knows", place()));
        }
        if group.endpoints.is_empty() {
            return Err(format!("{} has no endpoints", place()));
        }
        if group.weight == 0 {
            return Err(format!("{} has the weight 0", place()));
        }
        if !places.insert((group.priority, &group.locality)) {
            return Err(format!("{} comes twice", place()));
        }
        let endpoints: u64 = group.endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
        let sum = sums.entry(group.priority).or_default();
        *sum += u64::from(group.weight);
        // Envoy refuses sums of weights that do not fit 32 bits.
        if endpoints > u64::from(u32::MAX) || *sum > u64::from(u32::MAX) {
            return Err(format!("the weights of {} add up to more than {}", place(), u32::MAX));
        }
    }
    // Envoy refuses an assignment whose priorities have a gap.
    match sums.keys().zip(0u32..).find(|(priority, expected)| **priority != *expected) {
        Some((priority, expected)) => Err(format!("priority {priority} is there, but {expected} is not")),
        None => Ok(()),
    }
}
