//! What can be set.

use std::collections::BTreeMap;
use std::fmt;

use causeway_policy::lb;
use causeway_policy::settings::{Settings, within};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// The largest share.
const MAX_SHARE: u32 = 10_000;

/// How Envoy picks: those that keep to the weights of endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// A Ketama ring.
    RingHash,
    /// A Maglev table.
    Maglev,
}

/// Who gets the share of a cluster that has no ready endpoint: `true`, `false` or a list of clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// The others, in proportion to their shares.
    #[default]
    InProportion,
    /// The first of these that has some; the others in proportion where none has.
    Order(Vec<String>),
    /// Nobody: so many requests are answered with 503.
    Never,
}

/// What can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The share of each cluster: 0 to 10,000. One with 0 stands by, until none with a share has ready endpoints; one
    /// that is not named, until none that is named has. Those that stood by share by the weights of their endpoints.
    /// Without any all clusters do.
    pub clusters: BTreeMap<String, u32>,
    /// Who gets the share of a cluster that has no ready endpoint.
    pub failover: Failover,
    /// How Envoy picks.
    pub algorithm: Algorithm,
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[
        ("clusters", "a mapping of clusters to their shares, such as `{east: 90, west: 10}`"),
        ("failover", "`true`, `false` or a list of clusters"),
        ("algorithm", "`RoundRobin`, `RingHash` or `Maglev`"),
    ];

    fn check(&self) -> Result<(), String> {
        for (name, share) in &self.clusters {
            within(&format!("clusters.{name}"), *share, 0..=MAX_SHARE)?;
        }
        if !self.clusters.is_empty() && self.clusters.values().all(|share| *share == 0) {
            return Err("clusters: none has a share; give one at least 1, such as `{east: 90, west: 10}`".to_owned());
        }
        if let Failover::Order(order) = &self.failover {
            for (i, name) in order.iter().enumerate() {
                if order[..i].contains(name) {
                    return Err(format!("failover[{i}]: `{name}` is there twice; remove one of the two"));
                }
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
            Self::RingHash => lb::Algorithm::RingHash(lb::Ring::default()),
            Self::Maglev => lb::Algorithm::Maglev(65_537),
        }
    }
}

impl<'de> Deserialize<'de> for Failover {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Failover;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("true, false or a list of clusters")
            }

            fn visit_bool<E>(self, whether: bool) -> Result<Failover, E> {
                Ok(if whether { Failover::InProportion } else { Failover::Never })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Failover, A::Error> {
                let mut order = Vec::new();
                while let Some(name) = list.next_element()? {
                    order.push(name);
                }
                Ok(Failover::Order(order))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
