//! Rows of policies, built when someone asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::declared::by_policy;
use super::owner::Owner;
use super::view::{PolicyCalls, PolicyFailure, PolicyLine, PolicyRow, PolicyUse};
use crate::policy::{Counts, Policy};

impl Owner {
    /// The policies in force, by name.
    pub(super) fn policy_rows(&self) -> Vec<PolicyRow> {
        let uses = self.policy_uses();
        let row = |policy: &Policy| self.policy_row(policy, uses.get(&policy.name).copied().unwrap_or_default());
        self.policies.in_force().map(row).collect()
    }

    /// What is made of a name.
    pub(super) fn policy_use(&self, name: &Arc<str>) -> PolicyUse {
        let mut used_by = Vec::new();
        for access in self.world.accesses() {
            let chosen = self.chosen.of(&access.id);
            let asked = [&access.load_balancing.name, &access.vip_policy.name];
            let has = [&chosen.load_balancing.policy, &chosen.vip.policy];
            if has.contains(&name) || asked.into_iter().flatten().any(|asked| asked == name) {
                used_by.push(access.id.to_string());
            }
        }
        let policy = self.policies.in_force().find(|policy| policy.name == *name);
        let lines = self.policies.lines(name).into_iter();
        PolicyUse {
            row: policy.map(|policy| self.policy_row(policy, used_by.len())),
            used_by,
            conditions: self.policy_conditions(name, &by_policy(&self.policy_failures())),
            lines: lines
                .map(|(at, line)| PolicyLine { at, level: format!("{:?}", line.level), text: line.text })
                .collect(),
        }
    }

    fn policy_row(&self, policy: &Policy, accesses: usize) -> PolicyRow {
        PolicyRow {
            name: policy.name.clone(),
            world: policy.component.world(),
            digest: policy.component.digest(),
            size: policy.component.size(),
            accesses,
            calls: calls(self.policies.counts(&policy.name)),
        }
    }
}

fn calls(counts: Counts) -> PolicyCalls {
    let by_reason = |counts: BTreeMap<&str, u64>| {
        counts.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect::<BTreeMap<_, _>>()
    };
    PolicyCalls {
        calls: counts.calls,
        memo_hits: counts.memo_hits,
        failures: by_reason(counts.failures),
        fallbacks: by_reason(counts.fallbacks),
        circuits_open: counts.circuits_open,
        fuel_used: counts.fuel_used,
        last_failure: counts.last_failure.map(|(at, message)| PolicyFailure { at, message }),
    }
}
