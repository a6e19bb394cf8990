//! What can be set.

use causeway_policy::lb;
use causeway_policy::settings::{Settings, within};
use serde::Deserialize;

/// How many regions an order may have: well below Envoy's 128 priorities.
const MAX_FAILOVER: usize = 64;

/// How Envoy picks within a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two.
    #[default]
    LeastRequest,
    /// A Ketama ring.
    RingHash,
    /// A Maglev table.
    Maglev,
    /// At random.
    Random,
}

/// How localities become priorities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum LocalityPriority {
    /// The client's zone first, then its region, then others.
    Zone,
    /// The client's region first, then others.
    #[default]
    Region,
    /// All localities alike.
    None,
}

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// How Envoy picks within a priority.
    pub algorithm: Algorithm,
    /// 100 to 1000: at 140, a priority gives traffic away when fewer than 1/1.4 of its endpoints are healthy.
    pub overprovisioning_percent: u32,
    /// 0 to 100: below this share of healthy endpoints Envoy ignores health; 0 never does. The default of 1 does so when
    /// there is not one healthy endpoint, because then trying one that failed a moment ago is better than refusing.
    pub panic_threshold_percent: u32,
    /// How localities become priorities.
    pub locality_priority: LocalityPriority,
    /// Which regions are next, in this order, after the client's own. Others come after them, all alike.
    pub failover: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            overprovisioning_percent: 140,
            panic_threshold_percent: 1,
            locality_priority: LocalityPriority::default(),
            failover: Vec::new(),
        }
    }
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[
        ("algorithm", "`RoundRobin`, `LeastRequest`, `RingHash`, `Maglev` or `Random`"),
        ("overprovisioningPercent", "a whole number from 100 to 1000"),
        ("panicThresholdPercent", "a whole number from 0 to 100"),
        ("localityPriority", "`Zone`, `Region` or `None`"),
        ("failover", "a list of regions"),
    ];

    fn check(&self) -> Result<(), String> {
        within("overprovisioningPercent", self.overprovisioning_percent, 100..=1000)?;
        within("panicThresholdPercent", self.panic_threshold_percent, 0..=100)?;
        let regions = &self.failover;
        if regions.len() > MAX_FAILOVER {
            return Err(format!("failover: {} regions are more than {MAX_FAILOVER}", regions.len()));
        }
        if !regions.is_empty() && self.locality_priority == LocalityPriority::None {
            let remedy = "use `localityPriority: Region` or `Zone`, or leave the order out";
            return Err(format!("failover: with `localityPriority: None` all regions are alike; {remedy}"));
        }
        for (i, region) in regions.iter().enumerate() {
            if region.is_empty() {
                return Err(format!("failover[{i}]: a region has a name"));
            }
            if regions[..i].contains(region) {
                return Err(format!("failover[{i}]: `{region}` is there twice; remove one of the two"));
            }
        }
        Ok(())
    }
}

impl Algorithm {
    /// With Envoy's own defaults for its settings.
    pub fn of_envoy(self) -> lb::Algorithm {
        match self {
            Self::RoundRobin => lb::Algorithm::RoundRobin,
            Self::LeastRequest => lb::Algorithm::LeastRequest(2),
            Self::RingHash => lb::Algorithm::RingHash(lb::Ring::default()),
            Self::Maglev => lb::Algorithm::Maglev(65_537),
            Self::Random => lb::Algorithm::Random,
        }
    }
}
