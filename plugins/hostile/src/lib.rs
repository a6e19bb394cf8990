//! Misbehaves as its configuration says, `{"misbehave": "Loop"}`: what Causeway must withstand. Without a configuration
//! it does what it should.

use causeway_policy::lb::{Decision, Groups, LbPolicy, Question};
use causeway_policy::log;
use causeway_policy::settings::Settings;
use serde::Deserialize;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

/// The policy.
pub struct Hostile;

/// How it misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Misbehaviour {
    /// It does not.
    #[default]
    None,
    /// Never comes back.
    Loop,
    /// Allocates without end.
    Memory,
    /// Allocates all memory at once.
    MemoryAtOnce,
    /// Calls itself without end.
    Recursion,
    /// Answers with 16 million endpoints.
    Output,
    /// Answers with an error of 64 MiB.
    LongError,
    /// Answers with an error.
    Error,
    /// Answers with an endpoint that it was not given.
    UnknownEndpoint,
    /// Answers with a locality that it was not given.
    UnknownLocality,
    /// Answers with the first endpoint twice.
    DuplicateEndpoint,
    /// Answers with a group twice.
    DuplicateGroup,
    /// Answers with the weight 0 for every endpoint.
    ZeroWeight,
    /// Answers with the weight 0 for every group.
    ZeroGroupWeight,
    /// Answers with weights whose sum is too large for Envoy.
    HugeWeights,
    /// Answers with fewer weights than endpoints.
    FewWeights,
    /// Answers with groups that have more endpoints than there are.
    LargeCount,
    /// Answers with groups that have fewer endpoints than there are.
    SmallCount,
    /// Answers with a gap between priorities.
    Gap,
    /// Answers with no endpoint.
    Nothing,
    /// Answers with nothing but draining endpoints.
    AllDraining,
    /// Answers with settings that Envoy does not have.
    WrongSettings,
    /// Panics.
    Panic,
    /// Panics after two lines of log.
    PanicLater,
    /// Executes an instruction that traps, without a word.
    Trap,
    /// Logs 100,000 lines.
    LogFlood,
    /// Logs a line of 16 MiB.
    LongLine,
    /// Answers otherwise at every second call, where an instance is called twice.
    Counter,
}

/// What can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// How it misbehaves.
    pub misbehave: Misbehaviour,
    /// Already when the configuration is checked.
    pub in_inspect: bool,
}

impl Settings for Config {
    const SETTINGS: &'static [(&'static str, &'static str)] =
        &[("misbehave", "a name of what is wrong"), ("inInspect", "`true` or `false`")];

    fn check(&self) -> Result<(), String> {
        if self.in_inspect { before(self.misbehave) } else { Ok(()) }
    }
}

impl LbPolicy for Hostile {
    type Config = Config;

    fn decide(question: &Question, config: &Config) -> Result<Decision, String> {
        before(config.misbehave)?;
        let mut groups = Groups::new(question);
        question.pick(&question.usable().ready).for_each(|endpoint| groups.add(0, endpoint));
        let mut decision = groups.decide();
        spoil(&mut decision, question, config.misbehave);
        Ok(decision)
    }
}

/// Answers of calls before this one.
static CALLS: AtomicU32 = AtomicU32::new(0);

/// What is wrong on the way to an answer.
fn before(misbehaviour: Misbehaviour) -> Result<(), String> {
    match misbehaviour {
        Misbehaviour::Loop => loop {
            black_box(());
        },
        Misbehaviour::Memory => {
            let mut all = Vec::new();
            loop {
                all.push(black_box(vec![1u8; 1 << 16]));
            }
        }
        Misbehaviour::MemoryAtOnce => drop(black_box(vec![1u8; 1 << 30])),
        Misbehaviour::Recursion => drop(black_box(deeper(1))),
        Misbehaviour::LongError => return Err("x".repeat(64 << 20)),
        Misbehaviour::Error => return Err("this policy was asked to fail".to_owned()),
        Misbehaviour::Panic => fail(),
        Misbehaviour::PanicLater => {
            log::info("this is still well");
            log::warn("and this is the last that is");
            fail();
        }
        Misbehaviour::Trap => trap(),
        Misbehaviour::LogFlood => (0..100_000).for_each(|i| log::info(format_args!("line {i}"))),
        Misbehaviour::LongLine => log::info("x".repeat(16 << 20)),
        _ => {}
    }
    Ok(())
}

/// What is wrong with the answer.
fn spoil(decision: &mut Decision, question: &Question, misbehaviour: Misbehaviour) {
    let Decision { groups, endpoints, weights, .. } = decision;
    match misbehaviour {
        Misbehaviour::Output => endpoints.resize(16 << 20, 0),
        Misbehaviour::UnknownEndpoint => endpoints.iter_mut().for_each(|index| *index += question.count()),
        Misbehaviour::UnknownLocality => groups.iter_mut().for_each(|group| group.locality = u32::MAX),
        Misbehaviour::DuplicateEndpoint => {
            endpoints.insert(0, endpoints.first().copied().unwrap_or_default());
            groups.iter_mut().take(1).for_each(|group| group.count += 1);
        }
        Misbehaviour::DuplicateGroup => {
            endpoints.extend_from_within(..);
            groups.extend_from_within(..);
        }
        Misbehaviour::ZeroWeight => *weights = vec![0; endpoints.len()],
        Misbehaviour::ZeroGroupWeight => groups.iter_mut().for_each(|group| group.weight = 0),
        Misbehaviour::HugeWeights => *weights = vec![u32::MAX; endpoints.len()],
        Misbehaviour::FewWeights => *weights = vec![1],
        Misbehaviour::LargeCount => groups.iter_mut().for_each(|group| group.count = u32::MAX),
        Misbehaviour::SmallCount => groups.iter_mut().for_each(|group| group.count -= 1),
        Misbehaviour::Gap => groups.iter_mut().for_each(|group| group.priority = 1),
        Misbehaviour::Nothing => *decision = Decision::default(),
        Misbehaviour::AllDraining => groups.iter_mut().for_each(|group| group.draining = true),
        Misbehaviour::WrongSettings => {
            decision.overprovisioning_percent = 0;
            decision.panic_threshold_percent = u32::MAX;
        }
        Misbehaviour::Counter if CALLS.fetch_add(1, Ordering::Relaxed) % 2 == 1 => endpoints.reverse(),
        _ => {}
    }
}

/// Its own call is not the last thing that it does, so that it stays a call.
#[allow(unconditional_recursion, reason = "misbehaving is what it is for")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    deeper(black_box(depth + 1)) + frame[depth as usize % 32]
}

#[allow(clippy::panic, reason = "misbehaving is what it is for")]
fn fail() -> ! {
    panic!("this policy was asked to panic")
}

#[cfg(target_family = "wasm")]
fn trap() -> ! {
    std::arch::wasm32::unreachable()
}

#[cfg(not(target_family = "wasm"))]
fn trap() -> ! {
    std::process::abort()
}

causeway_policy::export_lb!(Hostile);

#[cfg(test)]
mod tests;
