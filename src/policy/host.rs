//! The policies that are in force, and what is done when one fails.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::circuit::Circuits;
use super::component::{Answer, CallError, Component, Digest, LoadError, Needs, TOO_MANY_REMOVED};
use super::engine::{Engine, EngineError, Limits, Line};
use super::memo::{Memo, MemoKey};
use super::question::LbQuestion;
use super::tally::{Counts, Tally};
use super::{kept, removal, vip};
use crate::model::Timestamp;
use crate::model::decision::{LbDecision, Sender, VipDecision, VipInput};
use crate::model::policy::{OnFailure, World};

/// The load-balancing policy where an access names none.
pub const DEFAULT_LB: &str = "lb-locality";
/// The VIP policy where an access names none.
pub const DEFAULT_VIP: &str = "vip-sticky";

/// The defaults, as built from `plugins/` by `plugins/build.sh`.
const BUILT_IN: [(&str, World, &[u8]); 2] = [
    (DEFAULT_LB, World::Lb, include_bytes!("../../plugins/components/lb-locality.wasm")),
    (DEFAULT_VIP, World::Vip, include_bytes!("../../plugins/components/vip-sticky.wasm")),
];

/// The bytes of the built-in policy of the name, where there is one.
pub fn built_in(name: &str) -> Option<&'static [u8]> {
    BUILT_IN.into_iter().find(|(built_in, _, _)| *built_in == name).map(|(_, _, bytes)| bytes)
}

/// Decisions that are kept for when they are asked for again.
const MEMO: usize = 65_536;

/// A policy in force.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// What decides.
    pub component: Arc<Component>,
    /// What a call may use.
    pub limits: Limits,
    /// How much of what is in service one decision may take away, in percent: 1 to 100, which is no limit. The first
    /// decision about a subject since the process began has nothing that it could be compared with.
    pub max_removed_percent: u32,
    /// Its own configuration; an access's is laid over it.
    pub config: Value,
    /// What holds where it fails.
    pub on_failure: OnFailure,
}

impl Policy {
    /// What holds where it fails in this way.
    fn on(&self, failure: &Failure) -> OnFailure {
        // Who may not take away what is in service may not have it taken away by another either.
        if failure.reason == TOO_MANY_REMOVED { OnFailure::KeepLast } else { self.on_failure }
    }
}

/// Something that a policy is used for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The policy.
    pub policy: Arc<str>,
    /// Its component when this was checked: what is in force since may want something else.
    pub digest: Digest,
    /// The whole configuration, as JSON.
    pub config: Arc<str>,
    /// What it needs to know.
    pub buckets: u32,
}

/// Why an access cannot have the policy that it names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// There is none of the name.
    #[error("there is no policy `{name}`; there are {}", .known.join(", "))]
    NotFound {
        /// The name.
        name: Arc<str>,
        /// Those of the world that there are.
        known: Vec<String>,
    },
    /// It is of the other world.
    #[error("`{name}` is of the world {found}, not {wanted}; there are {}", .known.join(", "))]
    OtherWorld {
        /// The name.
        name: Arc<str>,
        /// What it is.
        found: World,
        /// What it would have to be.
        wanted: World,
        /// Those of the world that there are.
        known: Vec<String>,
    },
    /// It refuses the configuration.
    #[error("`{name}` refuses its configuration: {error}")]
    Config {
        /// The name.
        name: Arc<str>,
        /// Why.
        error: CallError,
    },
}

impl ChoiceError {
    /// In one word, for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::OtherWorld { .. } => "PolicyNotFound",
            Self::Config { error: CallError::Said(_), .. } => "PolicyConfigInvalid",
            Self::Config { .. } => "PolicyFailed",
        }
    }
}

/// What is decided about: a backend, for the nodes that one decision is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The backend's name.
    pub backend: Arc<str>,
    /// Who sends traffic to it.
    pub sender: Sender,
}

/// A failure, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The policy.
    pub policy: Arc<str>,
    /// In one word.
    pub reason: &'static str,
    /// What happened, and what holds.
    pub message: String,
}

/// What holds.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The decision.
    pub decision: Arc<LbDecision>,
    /// Why it is not the policy's own for this question.
    pub failure: Option<Failure>,
}

#[derive(Debug)]
struct Learned {
    memo: Memo,
    inspected: HashMap<(Digest, Arc<str>), Result<u32, CallError>>,
    last: HashMap<Subject, Arc<LbDecision>>,
    circuits: Circuits,
}

/// The defaults cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A component of ours is not what it should be.
    #[error("the built-in policy `{name}` cannot be used: {error}; this binary is broken, build it again")]
    BuiltIn {
        /// Its name.
        name: &'static str,
        /// Why.
        error: LoadError,
    },
}

/// All policies in force.
pub struct Policies {
    engine: Engine,
    in_force: BTreeMap<Arc<str>, Policy>,
    learned: Mutex<Learned>,
    tally: Tally,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.in_force.values()).finish()
    }
}

impl Policies {
    /// The built-in ones.
    ///
    /// # Errors
    /// When they cannot be compiled.
    pub fn new(engine: Engine) -> Result<Self, HostError> {
        let tally = Tally::default();
        let learned = Learned {
            memo: Memo::new(MEMO),
            inspected: HashMap::new(),
            last: HashMap::new(),
            circuits: Circuits::new(tally.clone()),
        };
        let mut policies = Self { engine, in_force: BTreeMap::new(), learned: Mutex::new(learned), tally };
        for (name, _, _) in BUILT_IN {
            policies.restore(name)?;
        }
        Ok(policies)
    }

    /// Puts the built-in policy of the name, if there is one, in the place of whatever has it.
    fn restore(&mut self, name: &str) -> Result<bool, HostError> {
        let Some((name, world, bytes)) = BUILT_IN.into_iter().find(|(built_in, _, _)| *built_in == name) else {
            return Ok(false);
        };
        let component =
            Component::load(&self.engine, world, bytes).map_err(|error| HostError::BuiltIn { name, error })?;
        self.put(Policy {
            name: name.into(),
            component: Arc::new(component),
            limits: Limits::default(),
            max_removed_percent: removal::NO_LIMIT,
            config: Value::Null,
            on_failure: OnFailure::KeepLast,
        });
        Ok(true)
    }

    /// What they run in.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Those in force, by name.
    pub fn in_force(&self) -> impl Iterator<Item = &Policy> {
        self.in_force.values()
    }

    /// Puts a policy in force, in the place of the one of its name.
    pub fn put(&mut self, policy: Policy) {
        self.tally.put(&policy.name, policy.component.world(), policy.component.digest());
        // It may have more fuel than the one that failed, or other limits.
        let mut learned = self.learned();
        learned.circuits.close_all_of(&policy.name);
        learned.inspected.retain(|(digest, _), _| *digest != policy.component.digest());
        drop(learned);
        self.in_force.insert(policy.name.clone(), policy);
    }

    /// Takes a policy away. A built-in one that was replaced is itself again.
    ///
    /// # Errors
    /// When that cannot be compiled, which it could at the start.
    pub fn remove(&mut self, name: &str) -> Result<(), HostError> {
        // What is counted of it from here on is another policy's.
        self.tally.remove(name);
        if !self.restore(name)? {
            self.in_force.remove(name);
        }
        Ok(())
    }

    /// Finds what an access asks for, and lets it check its configuration.
    ///
    /// # Errors
    /// When there is no such policy, or it refuses the configuration.
    pub fn choose(&self, world: World, name: Option<&Arc<str>>, config: &Value) -> Result<Choice, ChoiceError> {
        let default = || match world {
            World::Lb => DEFAULT_LB.into(),
            World::Vip => DEFAULT_VIP.into(),
        };
        let name = name.cloned().unwrap_or_else(default);
        let known = || {
            let of_world = self.in_force.values().filter(|policy| policy.component.world() == world);
            of_world.map(|policy| format!("`{}`", policy.name)).collect()
        };
        let Some(policy) = self.in_force.get(&name) else { return Err(ChoiceError::NotFound { name, known: known() }) };
        let found = policy.component.world();
        if found != world {
            return Err(ChoiceError::OtherWorld { name, found, wanted: world, known: known() });
        }
        let config: Arc<str> = laid_over(&policy.config, config).to_string().into();
        let digest = policy.component.digest();
        match self.inspect(policy, &config) {
            Ok(buckets) => Ok(Choice { policy: name, digest, config, buckets }),
            Err(error) => Err(ChoiceError::Config { name, error }),
        }
    }

    fn inspect(&self, policy: &Policy, config: &Arc<str>) -> Result<u32, CallError> {
        let key = (policy.component.digest(), config.clone());
        if let Some(known) = self.learned().inspected.get(&key) {
            return known.clone();
        }
        let answer = self.timed(policy, 0, || policy.component.inspect(policy.limits, config));
        let outcome = answer.outcome.map(|Needs { buckets }| buckets);
        let mut learned = self.learned();
        if learned.inspected.len() >= MEMO {
            learned.inspected.clear();
        }
        learned.inspected.insert(key, outcome.clone());
        outcome
    }

    /// Decides where traffic goes. There is always an answer: where the policy gives none, what its `onFailure` says.
    pub fn decide(&self, subject: &Subject, choice: &Choice, question: &LbQuestion<'_>, now: Timestamp) -> Decided {
        let Some(policy) = self.in_force.get(&choice.policy) else {
            let message = format!("policy `{}` is gone", choice.policy);
            let failure = Failure { policy: choice.policy.clone(), reason: "PolicyNotFound", message };
            return self.fall_back(OnFailure::KeepLast, subject, question, failure);
        };
        let asked = (policy.component.digest(), &choice.config);
        let resting = self.learned().circuits.rests(subject, asked, now);
        if let Some(failure) = resting {
            return self.fall_back(policy.on(&failure), subject, question, failure);
        }
        let answer = self.ask(policy, question, now);
        match answer.and_then(|decision| self.compared(policy, subject, question, decision, now)) {
            Ok(decision) => {
                let mut learned = self.learned();
                learned.circuits.close(subject);
                learned.last.insert(subject.clone(), decision.clone());
                Decided { decision, failure: None }
            }
            Err(error) => {
                let message = format!("policy `{}` ({}): {error}", policy.name, policy.component.digest());
                let failure = Failure { policy: policy.name.clone(), reason: error.reason(), message };
                self.learned().circuits.failed(subject, asked, &failure, now);
                self.fall_back(policy.on(&failure), subject, question, failure)
            }
        }
    }

    /// Takes a decision only where it takes little enough of the last one out of service. The memo has decisions by what
    /// is asked, whatever held before, so that this comes after it.
    fn compared(
        &self,
        policy: &Policy,
        subject: &Subject,
        question: &LbQuestion<'_>,
        decision: Arc<LbDecision>,
        now: Timestamp,
    ) -> Result<Arc<LbDecision>, CallError> {
        if policy.max_removed_percent >= removal::NO_LIMIT {
            return Ok(decision);
        }
        let Some(last) = self.learned().last.get(subject).cloned() else { return Ok(decision) };
        match removal::check(&last, &decision, question.endpoints, policy.max_removed_percent) {
            Ok(()) => Ok(decision),
            Err(error) => {
                self.tally.count(&policy.name, |counts| counts.failed(error.reason(), error.to_string(), now));
                Err(error)
            }
        }
    }

    /// Asks, unless it was asked before.
    fn ask(&self, policy: &Policy, question: &LbQuestion<'_>, now: Timestamp) -> Result<Arc<LbDecision>, CallError> {
        let key = MemoKey { digest: policy.component.digest(), question: question.hash() };
        let known = self.learned().memo.get(&key);
        if let Some(known) = known {
            self.tally.count(&policy.name, |counts| counts.memo_hits += 1);
            return Ok(known);
        }
        let answer = self.timed(policy, now, || policy.component.decide(policy.limits, question));
        let outcome = answer.outcome.map(Arc::new);
        if let Ok(decision) = &outcome {
            self.learned().memo.put(key, decision.clone());
        }
        outcome
    }

    /// Makes a call, and notes what became of it.
    fn timed<T>(&self, policy: &Policy, now: Timestamp, call: impl FnOnce() -> Answer<T>) -> Answer<T> {
        let begun = Instant::now();
        let answer = call();
        self.tally.note(&policy.name, &answer, begun.elapsed(), now);
        answer
    }

    fn fall_back(
        &self,
        on_failure: OnFailure,
        subject: &Subject,
        question: &LbQuestion<'_>,
        mut failure: Failure,
    ) -> Decided {
        let last = self.learned().last.get(subject).cloned();
        self.fell_back(&failure);
        if on_failure == OnFailure::KeepLast
            && let Some(kept) = last.as_ref().and_then(|last| kept::kept(last, question.endpoints))
        {
            failure.message.push_str("; its last decision holds");
            return Decided { decision: Arc::new(kept), failure: Some(failure) };
        }
        let question = LbQuestion { config: "null", ..*question };
        let by_default = self.in_force.get(DEFAULT_LB).map(|policy| self.ask(policy, &question, 0));
        if let Some(Ok(decision)) = by_default {
            failure.message.push_str(&format!("; `{DEFAULT_LB}` decides in its place"));
            return Decided { decision, failure: Some(failure) };
        }
        // Someone has put a policy that fails in the default's place.
        failure.message.push_str(&format!("; `{DEFAULT_LB}`, which would decide in its place, fails too"));
        let kept = last.as_ref().and_then(|last| kept::kept(last, question.endpoints));
        // Where there is nobody who could choose any: no endpoints.
        let decision = kept.unwrap_or_else(|| LbDecision::new(Vec::new(), [].into()));
        Decided { decision: Arc::new(decision), failure: Some(failure) }
    }

    /// Chooses an address. Where the policy gives no answer, the default does.
    pub fn assign(&self, choice: &Choice, input: &VipInput, now: Timestamp) -> (VipDecision, Option<Failure>) {
        let failure = match self.in_force.get(&choice.policy) {
            Some(policy) => match self.ask_for_address(policy, input, &choice.config, now) {
                Ok(decision) => return (decision, None),
                Err(error) => Failure {
                    policy: policy.name.clone(),
                    reason: error.reason(),
                    message: format!(
                        "policy `{}` ({}): {error}; `{DEFAULT_VIP}` decides in its place",
                        policy.name,
                        policy.component.digest()
                    ),
                },
            },
            None => Failure {
                policy: choice.policy.clone(),
                reason: "PolicyNotFound",
                message: format!("policy `{}` is gone; `{DEFAULT_VIP}` decides in its place", choice.policy),
            },
        };
        self.fell_back(&failure);
        let by_default = self.in_force.get(DEFAULT_VIP).map(|policy| self.ask_for_address(policy, input, "null", now));
        let decision = match by_default {
            Some(Ok(decision)) => decision,
            _ => VipDecision::Refuse { reason: failure.message.clone() },
        };
        (decision, Some(failure))
    }

    fn ask_for_address(
        &self,
        policy: &Policy,
        input: &VipInput,
        config: &str,
        now: Timestamp,
    ) -> Result<VipDecision, CallError> {
        let ask = || {
            let answer = vip::handed_over(input, config, |question| policy.component.assign(policy.limits, question));
            answer.and_then(|answer| vip::decided(input, answer).map_err(CallError::Refused))
        };
        self.timed(policy, now, ask).outcome
    }

    fn fell_back(&self, failure: &Failure) {
        self.tally.count(&failure.policy, |counts| *counts.fallbacks.entry(failure.reason).or_default() += 1);
    }

    /// Forgets what is known of subjects that are gone.
    pub fn retain(&self, is_there: impl Fn(&Subject) -> bool) {
        let mut learned = self.learned();
        learned.last.retain(|subject, _| is_there(subject));
        learned.circuits.retain(is_there);
    }

    /// What became of a policy's calls.
    pub fn counts(&self, name: &str) -> Counts {
        self.tally.counts(name)
    }

    /// What a policy wrote last, oldest first.
    pub fn lines(&self, name: &str) -> Vec<(Timestamp, Line)> {
        self.tally.lines(name)
    }

    /// What becomes of all policies' calls, to be read by others while decisions are made.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        // Each change leaves it whole.
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The access's settings over the policy's own.
fn laid_over(own: &Value, access: &Value) -> Value {
    match (own, access) {
        (own, Value::Null) => own.clone(),
        (Value::Object(own), Value::Object(access)) => {
            let mut both = own.clone();
            both.extend(access.clone());
            Value::Object(both)
        }
        (_, access) => access.clone(),
    }
}
