//! Policies that objects declare: they are told to whoever puts them into force, and what became of them is told
//! as their status.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Declared, Verdict};
use super::owner::Owner;
use super::view::Condition;
use crate::kube::kinds::PolicyStatus;
use crate::model::Timestamp;
use crate::model::id::NamespacedName;
use crate::model::policy::PolicySpec;
use crate::policy::{Failure, built_in};

/// For so long at most nothing is served after the start because a policy is still fetched and verified: what it would
/// decide would come as a change a moment later.
const WAIT_MS: i64 = 30_000;
/// Accesses that a condition names.
const MOST_NAMES: usize = 3;

/// Accesses of which a policy failed when last asked, with the failure of each.
pub(super) type Failures<'a> = BTreeMap<&'a Arc<str>, Vec<(&'a NamespacedName, &'a Failure)>>;

impl Owner {
    /// Tells what the objects say, where that differs from what was told.
    pub(super) fn tell_declared(&mut self) {
        let primary = self.world.primary();
        let declared = Declared {
            specs: self.world.policies().map(|spec| (spec.name.clone(), spec.clone())).collect(),
            complete: primary.is_some_and(|primary| self.read_once.contains(primary)),
        };
        self.judged.retain(|name, _| declared.specs.contains_key(name));
        self.outputs.declared.send_if_modified(|told| {
            let differs = **told != declared;
            if differs {
                *told = Arc::new(declared);
            }
            differs
        });
    }

    /// Until when it is waited for policies of which is not known yet whether they can be in force.
    pub(super) fn waits_for_policies(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.started_at.saturating_add(WAIT_MS);
        let is_judged =
            |spec: &Arc<PolicySpec>| self.judged.get(&spec.name).is_some_and(|verdict| verdict.spec == *spec);
        (now < until && !self.world.policies().all(is_judged)).then_some(until)
    }

    /// The statuses of all objects.
    pub(super) fn policy_statuses(&self) -> BTreeMap<Arc<str>, PolicyStatus> {
        if self.world.policies().next().is_none() {
            return BTreeMap::new();
        }
        let failures = self.policy_failures();
        let (failing, uses) = (by_policy(&failures), self.policy_uses());
        let status = |spec: &Arc<PolicySpec>| {
            let active = self.policies.in_force().find(|policy| policy.name == spec.name);
            let conditions = self.policy_conditions(&spec.name, &failing);
            PolicyStatus {
                active_digest: active.map(|policy| policy.component.digest().to_string()),
                accesses: uses.get(&spec.name).copied().unwrap_or_default() as u64,
                observed_generation: Some(spec.generation),
                conditions: conditions.into_iter().map(super::outward::condition).collect(),
            }
        };
        self.world.policies().map(|spec| (spec.name.clone(), status(spec))).collect()
    }

    /// How many accesses have each policy.
    pub(super) fn policy_uses(&self) -> BTreeMap<Arc<str>, usize> {
        let mut uses: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for access in self.world.accesses() {
            let chosen = self.chosen.of(&access.id);
            for name in [&chosen.load_balancing.policy, &chosen.vip.policy] {
                *uses.entry(name.clone()).or_default() += 1;
            }
        }
        uses
    }

    /// What holds of a policy: `Accepted`, `Active` and `Healthy`.
    pub(super) fn policy_conditions(&self, name: &Arc<str>, failing: &Failures<'_>) -> Vec<Condition> {
        let spec = self.world.policies().find(|spec| spec.name == *name);
        let observed_generation = spec.map_or(0, |spec| spec.generation);
        let condition = |kind: &str, status: &str, reason: &str, message: String| Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation,
        };
        let verdict = spec.and_then(|spec| self.judged.get(name).filter(|verdict| verdict.spec == *spec));
        let accepted = match (spec, verdict, self.policies_broken.get(name)) {
            (Some(_), Some(Verdict { outcome: Err(fault), .. }), _) => {
                condition("Accepted", "False", &fault.reason, fault.message.clone())
            }
            (Some(_), None, _) => {
                condition("Accepted", "Unknown", "Pending", "it is being fetched and verified".to_owned())
            }
            (None, _, Some(message)) => condition("Accepted", "False", "NotLoaded", message.clone()),
            _ => condition("Accepted", "True", "Accepted", String::new()),
        };
        let in_force = self.policies.in_force().find(|policy| policy.name == *name);
        let is_built_in = || {
            let own = in_force.map(|policy| policy.component.digest());
            built_in(name).is_some_and(|bytes| own == Some(crate::policy::Digest::of(bytes)))
        };
        let active = match (&*accepted.status, in_force) {
            ("True", Some(_)) => condition("Active", "True", "Active", String::new()),
            (_, Some(policy)) if is_built_in() => {
                let message = format!("the built-in policy decides, {}", policy.component.digest());
                condition("Active", "False", "BuiltIn", message)
            }
            (_, Some(policy)) => {
                let message = format!("what was in force before still decides, {}", policy.component.digest());
                condition("Active", "True", "Previous", message)
            }
            (_, None) => {
                let message = "accesses that name it keep what they had, or have the default".to_owned();
                condition("Active", "False", "NotInForce", message)
            }
        };
        let healthy = match failing.get(name).and_then(|failures| failures.first().map(|first| (first, failures))) {
            None => condition("Healthy", "True", "Healthy", String::new()),
            Some(((_, failure), failures)) => {
                let mut names: Vec<String> =
                    failures.iter().take(MOST_NAMES).map(|(access, _)| access.to_string()).collect();
                if failures.len() > MOST_NAMES {
                    names.push(format!("{} more", failures.len() - MOST_NAMES));
                }
                let message = format!("of {}: {}", names.join(", "), failure.message);
                condition("Healthy", "False", failure.reason, message)
            }
        };
        vec![accepted, active, healthy]
    }
}

/// Failures by the policy that failed.
pub(super) fn by_policy(failures: &BTreeMap<NamespacedName, Failure>) -> Failures<'_> {
    let mut failing = Failures::new();
    for (access, failure) in failures {
        failing.entry(&failure.policy).or_default().push((access, failure));
    }
    failing
}
