//! Withdrawal: unpublish, wait for resolvers, drain, remove the listeners, and give the address
//! back only when nobody has it.

use std::borrow::Cow;

use crate::feedback::{Holding, NodeRef};
use crate::model::Timestamp;
use crate::model::decision::NodeRole;

use super::ledger::{Phase, Vip};
use super::plan::Planning;
use super::{listener_name, listener_prefix};

/// Whether an address may be given away.
enum Barrier {
    Open,
    /// When this time has come, if nothing else is heard.
    Until(Timestamp),
    /// Not before a report.
    Closed,
}

impl<'a> Planning<'a> {
    /// Takes a VIP without a claim a step further; `None` means that its address is free. One step a
    /// plan, so that each phase is durable and published before the next begins.
    pub(super) fn withdraw(&mut self, row: &'a Vip) -> Option<Cow<'a, Vip>> {
        let now = self.inputs.now;
        if row.phase.since().is_some_and(|since| since > now) {
            // The clock was set back: waiting begins again, rather than to last until that time.
            let phase = match row.phase {
                Phase::Removing { .. } => Phase::Removing { since: now },
                Phase::Draining { .. } => Phase::Draining { since: now },
                Phase::Unpublishing { .. } | Phase::Held => Phase::Unpublishing { since: now },
            };
            return Some(self.enter(row, phase));
        }
        match row.phase {
            Phase::Held => Some(self.enter(row, Phase::Unpublishing { since: now })),
            Phase::Unpublishing { .. } if now >= self.phase_ends(row.phase, row) => {
                Some(self.enter(row, Phase::Draining { since: now }))
            }
            Phase::Draining { .. } if now >= self.phase_ends(row.phase, row) => {
                Some(self.enter(row, Phase::Removing { since: now }))
            }
            Phase::Unpublishing { .. } | Phase::Draining { .. } => {
                self.deadline(self.phase_ends(row.phase, row));
                Some(Cow::Borrowed(row))
            }
            Phase::Removing { since } => match self.barrier(row, since) {
                Barrier::Open => None,
                Barrier::Until(at) => {
                    self.deadline(at);
                    Some(Cow::Borrowed(row))
                }
                Barrier::Closed => Some(Cow::Borrowed(row)),
            },
        }
    }

    fn enter(&mut self, row: &'a Vip, phase: Phase) -> Cow<'a, Vip> {
        self.deadline(self.phase_ends(phase, row));
        Cow::Owned(Vip { phase, changed_at: self.inputs.now, ..row.clone() })
    }

    /// When a phase may end at the earliest.
    fn phase_ends(&self, phase: Phase, row: &Vip) -> Timestamp {
        match phase {
            Phase::Held => self.inputs.now,
            Phase::Unpublishing { since } => since.saturating_add(i64::from(row.ttl_seconds) * 1000),
            Phase::Draining { since } => since.saturating_add(self.inputs.settings.drain_ms.max(0)),
            Phase::Removing { since } => since,
        }
    }

    fn barrier(&self, row: &Vip, since: Timestamp) -> Barrier {
        let (now, grace_ms) = (self.inputs.now, self.inputs.settings.grace_ms);
        let after_grace = |from: Timestamp| from.saturating_add(grace_ms);
        // Before a restart there may have been nodes that have not come back yet.
        let started_at = self.inputs.feedback.started_at();
        let from_before = row.allocated_at <= started_at;
        let mut until = if from_before { after_grace(started_at) } else { now };
        let prefix = listener_prefix(row.address);
        let ports: Vec<_> = row.ports.iter().map(|port| listener_name(row.address, port.port.port)).collect();
        for node in self.inputs.feedback.nodes() {
            // Ports that the VIP had earlier count too.
            for name in node.listeners_with_prefix(&prefix) {
                match node.holding(name) {
                    Holding::Held => return Barrier::Closed,
                    Holding::Unsure { since } => until = until.max(after_grace(since)),
                    Holding::Unheard | Holding::Removed => {}
                }
            }
            if let Some(connected_at) = node.connected_at()
                && from_before
                && node.facts().view.role == NodeRole::Gateway
            {
                // It may have come with listeners of which only the earlier process knew.
                until = until.max(after_grace(connected_at));
            }
            // What was sent and not answered yet may be bound by now.
            let unheard = || ports.iter().any(|name| node.holding(name) == Holding::Unheard);
            if is_gateway_of(row, node) && unheard() {
                if node.connected() {
                    until = until.max(after_grace(since));
                } else if node.since() >= row.allocated_at {
                    until = until.max(after_grace(node.since()));
                }
            }
        }
        if until <= now { Barrier::Open } else { Barrier::Until(until) }
    }
}

fn is_gateway_of(row: &Vip, node: NodeRef<'_>) -> bool {
    let facts = node.facts();
    facts.view.role == NodeRole::Gateway
        && match &row.slot.node {
            Some(id) => facts.id == *id,
            None => row.gateways.matches(&facts.labels),
        }
}
