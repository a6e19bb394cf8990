//! What can be set.

use causeway_policy::lb;
use causeway_policy::settings::{Settings, within};
use serde::Deserialize;

/// How Envoy picks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// In turn, by weight.
    RoundRobin,
    /// The less busy of two.
    #[default]
    LeastRequest,
}

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Into how many parts nodes are divided: 1 to 64.
    pub buckets: u32,
    /// About how many endpoints each part has: 1 to 10,000. It has more where all buckets together would leave
    /// endpoints unused, and all where there are not so many.
    pub size: u32,
    /// How Envoy picks.
    pub algorithm: Algorithm,
}

impl Default for Config {
    fn default() -> Self {
        Self { buckets: 8, size: 20, algorithm: Algorithm::default() }
    }
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[
        ("buckets", "a whole number from 1 to 64"),
        ("size", "a whole number from 1 to 10000"),
        ("algorithm", "`RoundRobin` or `LeastRequest`"),
    ];

    fn check(&self) -> Result<(), String> {
        within("buckets", self.buckets, 1..=64)?;
        within("size", self.size, 1..=10_000)
    }
}

impl Algorithm {
    /// With Envoy's own defaults for its settings.
    pub fn of_envoy(self) -> lb::Algorithm {
        match self {
            Self::RoundRobin => lb::Algorithm::RoundRobin,
            Self::LeastRequest => lb::Algorithm::LeastRequest(2),
        }
    }
}
