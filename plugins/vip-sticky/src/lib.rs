//! The address asked for, else a free one: the VIP policy that accesses have by default.
//!
//! Pools are taken in the order of their names, so that addresses fill one pool before the next; with `spread: ByFree`
//! the one with the most free addresses comes first.

use causeway_policy::Settings;
use causeway_policy::vip::{Decision, Pool, Question, VipPolicy};
use serde::Deserialize;

/// The policy.
pub struct VipSticky;

/// Which pool comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Spread {
    /// By their names, the first one that has an address.
    #[default]
    ByName,
    /// The one with the most free addresses; by their names where they have equally many.
    ByFree,
}

/// What can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Which pool comes first.
    pub spread: Spread,
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[("spread", "`ByName` or `ByFree`")];
}

impl VipPolicy for VipSticky {
    type Config = Config;

    fn assign(question: &Question, config: &Config) -> Result<Decision, String> {
        if let Some(address) = &question.requested {
            return Ok(requested(question, address));
        }
        let free = question.pools.iter().filter(|pool| !pool.candidates.is_empty());
        let chosen = match config.spread {
            Spread::ByName => free.min_by(|a, b| a.name.cmp(&b.name)),
            Spread::ByFree => free.min_by(|a, b| b.free.cmp(&a.free).then_with(|| a.name.cmp(&b.name))),
        };
        Ok(match chosen {
            Some(pool) => Decision::take_from(pool, pool.candidates.first().map(String::as_str)),
            None => Decision::Refuse(refusal(question)),
        })
    }
}

/// The pool that offers just that address, else the first one: the host says what is wrong with it.
fn requested(question: &Question, address: &str) -> Decision {
    let offers = |pool: &&Pool| pool.candidates.iter().any(|candidate| candidate == address);
    match question.pools.iter().find(offers).or(question.pools.first()) {
        Some(pool) => Decision::take_from(pool, Some(address)),
        None => Decision::Refuse(format!("no pool that may be used has {address}")),
    }
}

fn refusal(question: &Question) -> String {
    let family = question.family.text();
    if question.pools.is_empty() {
        let namespace = &question.access.namespace;
        return format!("there is no pool with {family} addresses that namespace {namespace} may use");
    }
    let names: Vec<&str> = question.pools.iter().map(|pool| pool.name.as_str()).collect();
    format!("no {family} address is free in {}", names.join(", "))
}

causeway_policy::export_vip!(VipSticky);

#[cfg(test)]
mod tests;
