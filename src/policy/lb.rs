//! The default load-balancing policy: near and ready endpoints first, by weight.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::decision::{ClientView, Endpoint, LbAlgorithm, LbDecision, LbEndpoint, LbGroup, LbInput, Readiness};
use crate::model::object::Locality;

/// How localities become priorities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum LocalityPriority {
    /// The client's region first, every other region when it runs short.
    #[default]
    Region,
    /// All localities alike.
    None,
}

/// How Envoy picks within a priority, by the names of [`LbAlgorithm`] and with Envoy's own settings of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two.
    #[default]
    LeastRequest,
    /// Ketama hash ring.
    RingHash,
    /// Maglev table.
    Maglev,
    /// At random.
    Random,
}

impl From<Algorithm> for LbAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RoundRobin => Self::RoundRobin,
            Algorithm::LeastRequest => Self::LEAST_REQUEST,
            Algorithm::RingHash => Self::RING_HASH,
            Algorithm::Maglev => Self::MAGLEV,
            Algorithm::Random => Self::Random,
        }
    }
}

/// The configuration that [`lb_default`] understands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LbConfig {
    /// How Envoy picks within a priority.
    pub algorithm: Algorithm,
    /// 100 to 1000: at 140, a priority gives traffic away when fewer than 1/1.4 of its endpoints
    /// are healthy.
    pub overprovisioning_percent: u32,
    /// 0 to 100: below this share of healthy endpoints Envoy ignores health; 0 never does. The
    /// default of 1 does so when there is not one healthy endpoint, because then trying one that
    /// failed a moment ago is better than refusing.
    pub panic_threshold_percent: u32,
    /// How localities become priorities.
    pub locality_priority: LocalityPriority,
}

impl Default for LbConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            overprovisioning_percent: 140,
            panic_threshold_percent: 1,
            locality_priority: LocalityPriority::default(),
        }
    }
}

/// The names of the settings that [`LbConfig`] has, with what each can be, for people.
pub const LB_SETTINGS: [(&str, &str); 4] = [
    ("algorithm", "`RoundRobin`, `LeastRequest`, `RingHash`, `Maglev` or `Random`"),
    ("overprovisioningPercent", "a whole number from 100 to 1000"),
    ("panicThresholdPercent", "a whole number from 0 to 100"),
    ("localityPriority", "`Region` or `None`"),
];

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A field is unknown or of a wrong type.
    #[error("loadBalancing.config: {0}")]
    Shape(#[from] serde_json::Error),
    /// A number is out of its range.
    #[error("loadBalancing.config.{field}: {value} is not within {min} to {max}")]
    Range {
        /// The field.
        field: &'static str,
        /// What was given.
        value: u32,
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
}

impl LbConfig {
    /// Reads a configuration; null is the default.
    ///
    /// # Errors
    /// When a field is unknown, of a wrong type or out of its range.
    pub fn parse(config: &serde_json::Value) -> Result<Self, ConfigError> {
        if config.is_null() {
            return Ok(Self::default());
        }
        let config = Self::deserialize(config)?;
        in_range("overprovisioningPercent", config.overprovisioning_percent, 100, 1000)?;
        in_range("panicThresholdPercent", config.panic_threshold_percent, 0, 100)?;
        Ok(config)
    }
}

fn in_range(field: &'static str, value: u32, min: u32, max: u32) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::Range { field, value, min, max }) }
}

/// Decides by readiness, network and region.
///
/// - What is not ready is left out. Draining endpoints get no new requests as long as one is
///   ready; when none is, they are the best there is and are used like ready ones.
/// - Endpoints of other networks than the client's are left out, unless there is no other.
/// - The client's region comes first, where it is known and has a ready endpoint.
/// - Endpoints of unknown clusters are used like others: stale is better than none.
///
/// A configuration that [`LbConfig::parse`] refuses counts as the default.
pub fn lb_default(input: &LbInput) -> LbDecision {
    let config = LbConfig::parse(&input.config).unwrap_or_default();
    let (ready, draining) = split(reachable(&input.client, &input.endpoints));
    let near = match config.locality_priority {
        LocalityPriority::Region => Some(&input.client.locality.region).filter(|region| !region.is_empty()),
        LocalityPriority::None => None,
    }
    .filter(|region| ready.iter().any(|endpoint| endpoint.locality.region == **region));

    let mut groups: BTreeMap<(u32, &Locality), Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in &ready {
        let priority = u32::from(near.is_some_and(|region| endpoint.locality.region != *region));
        groups.entry((priority, &endpoint.locality)).or_default().push(plain(endpoint, false));
    }
    // Envoy counts a draining endpoint as lost capacity and would spill traffic to the next
    // priority or locality during every rollout. In a last priority of their own they weigh on
    // nothing, and get nothing, because those before are there.
    let last = groups.keys().map(|(priority, _)| priority + 1).max().unwrap_or(0);
    for endpoint in &draining {
        groups.entry((last, &endpoint.locality)).or_default().push(plain(endpoint, true));
    }
    LbDecision {
        groups: groups.into_iter().map(|((priority, locality), list)| group(priority, locality, list)).collect(),
        algorithm: config.algorithm.into(),
        overprovisioning_percent: config.overprovisioning_percent,
        panic_threshold_percent: config.panic_threshold_percent,
        drop_per_million: 0,
        outlier_detection: None,
        health_check: None,
    }
}

/// Endpoints that can be used and that the client can reach directly; all that can be used, where
/// it can reach none, since nothing else would work.
fn reachable<'a>(client: &ClientView, endpoints: &'a [Endpoint]) -> Vec<&'a Endpoint> {
    let usable = || endpoints.iter().filter(|endpoint| endpoint.readiness != Readiness::NotReady);
    let near: Vec<_> =
        usable().filter(|e| client.network.as_ref().is_none_or(|network| *network == e.network)).collect();
    let chosen = if near.is_empty() { usable().collect() } else { near };
    // Networks may use the same addresses for different pods, and an Envoy can only have one.
    let mut seen = BTreeSet::new();
    chosen.into_iter().filter(|endpoint| seen.insert(endpoint.address)).collect()
}

/// Those that get requests, and those that only finish what they have.
fn split(usable: Vec<&Endpoint>) -> (Vec<&Endpoint>, Vec<&Endpoint>) {
    let (ready, draining): (Vec<_>, Vec<_>) = usable.into_iter().partition(|e| e.readiness == Readiness::Ready);
    if ready.is_empty() { (draining, ready) } else { (ready, draining) }
}

fn plain(endpoint: &Endpoint, draining: bool) -> LbEndpoint {
    LbEndpoint {
        address: endpoint.address,
        cluster: endpoint.cluster.clone(),
        weight: endpoint.weight.max(1),
        draining,
    }
}

fn group(priority: u32, locality: &Locality, endpoints: Vec<LbEndpoint>) -> LbGroup {
    let weight = endpoints.iter().fold(0u32, |sum, endpoint| sum.saturating_add(endpoint.weight));
    LbGroup { priority, locality: locality.clone(), weight, endpoints }
}
