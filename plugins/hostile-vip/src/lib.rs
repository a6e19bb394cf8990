//! A VIP policy that misbehaves as its configuration says, `{"misbehave": "Loop"}`: what Causeway must withstand. Without a
//! configuration it does what it should.

use std::hint::black_box;

use causeway_policy::Settings;
use causeway_policy::vip::{Choice, Decision, Question, VipPolicy};
use serde::Deserialize;

/// The policy.
pub struct HostileVip;

/// How it misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Misbehaviour {
    /// It does not.
    #[default]
    None,
    /// Never comes back.
    Loop,
    /// Panics.
    Panic,
    /// Answers with an error.
    Error,
    /// Refuses every address.
    Refuse,
    /// Answers with a pool that it was not given.
    UnknownPool,
    /// Answers with an address that is none.
    NoAddress,
    /// Answers with an address that is not the pool's.
    OtherAddress,
    /// Answers with another address than the one that was asked for.
    NotRequested,
    /// Refuses with a reason of 16 MiB.
    LongReason,
}

/// What can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How it misbehaves.
    pub misbehave: Misbehaviour,
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] = &[("misbehave", "a name of what is wrong")];
}

impl VipPolicy for HostileVip {
    type Config = Config;

    #[allow(clippy::panic, reason = "misbehaving is what it is for")]
    fn assign(question: &Question, config: &Config) -> Result<Decision, String> {
        let pool = question.pools.iter().find(|pool| !pool.candidates.is_empty());
        let Some(pool) = pool else { return Ok(Decision::Refuse("no address is free".to_owned())) };
        let take = |pool: &str, address: Option<&str>| {
            Ok(Decision::Take(Choice { pool: pool.to_owned(), address: address.map(str::to_owned) }))
        };
        match config.misbehave {
            Misbehaviour::None => take(&pool.name, question.requested.as_deref()),
            Misbehaviour::Loop => loop {
                black_box(());
            },
            Misbehaviour::Panic => panic!("this policy was asked to panic"),
            Misbehaviour::Error => Err("this policy was asked to fail".to_owned()),
            Misbehaviour::Refuse => Ok(Decision::Refuse("this policy was asked to refuse".to_owned())),
            Misbehaviour::UnknownPool => take("no-such-pool", None),
            Misbehaviour::NoAddress => take(&pool.name, Some("somewhere")),
            Misbehaviour::OtherAddress => take(&pool.name, Some("192.0.2.1")),
            Misbehaviour::NotRequested => take(&pool.name, None),
            Misbehaviour::LongReason => Ok(Decision::Refuse("x".repeat(16 << 20))),
        }
    }
}

causeway_policy::export_vip!(HostileVip);

#[cfg(test)]
mod tests;
