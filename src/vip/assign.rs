//! Addresses that the data plane assigns: each gateway's agent takes one from its own ranges, and
//! the ledger decides. An agent's word that contradicts the ledger changes nothing: the agent is
//! told to let that address go and which one it has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::feedback::NodeRef;
use crate::model::id::NodeId;
use crate::model::object::{AssignedBy, Family, Pool};
use crate::model::slot::Slot;

use super::allocate::{family_name, quota_refusal};
use super::plan::{Held, Planning, claim_key, slot_key};
use super::types::{AssignRequest, Claim, Reason};

/// A slot on a gateway that shall have an address.
struct Want<'a> {
    claim: &'a Claim,
    pool: &'a Pool,
    node: NodeRef<'a>,
    slot: Slot,
}

impl<'a> Planning<'a> {
    pub(super) fn assign(&mut self) {
        let wants = self.wants();
        // Of two agents that take one address, the one that said so first has it.
        let mut said: Vec<(u64, IpAddr, &Want<'a>)> = Vec::new();
        for want in &wants {
            if let Some((seq, address)) = want.node.assigned(&want.slot) {
                said.push((seq, address, want));
            }
        }
        said.sort_by_key(|(seq, _, want)| (*seq, want.slot.clone()));
        for (_, address, want) in said {
            self.take(want, address);
        }
        let mut avoid = BTreeMap::new();
        for want in &wants {
            self.request(want, &mut avoid);
        }
        self.release_strays();
    }

    /// Each slot on each gateway that shall have an address from its agent.
    fn wants(&mut self) -> Vec<Want<'a>> {
        let mut claims = std::mem::take(&mut self.to_agents);
        for (key, held) in &self.held {
            let Held::PerGateway(pool) = held else { continue };
            let pool = self.pools.get(pool).filter(|pool| pool.assigned_by == AssignedBy::DataPlane);
            if let (Some(pool), Some(claim)) = (pool, self.claims.get(key)) {
                claims.push((claim, pool));
            }
        }
        let mut wants = Vec::new();
        for (claim, pool) in claims {
            let able: Vec<NodeRef<'a>> =
                self.gateways.iter().copied().filter(|node| can_assign(*node, pool, claim.family)).collect();
            if able.is_empty() && !self.held.contains_key(&claim_key(claim)) {
                let family = family_name(claim.family);
                let message = format!("pool {} has no gateway whose agent has {family} addresses to assign", pool.name);
                self.problem(claim, Reason::NoAgent, message, "start agents with --assign beside its gateways".into());
            }
            let slot = claim.slot();
            wants.extend(able.into_iter().map(|node| Want { claim, pool, node, slot: slot.on(&node.facts().id) }));
        }
        wants
    }

    /// The row's address where the slot has one.
    fn address_of(&self, slot: &Slot) -> Option<IpAddr> {
        let address = self.inputs.ledger.by_slot(slot)?.address;
        self.rows.get(&address).is_some_and(|row| row.slot == *slot).then_some(address)
    }

    /// An agent says that it took an address.
    fn take(&mut self, want: &Want<'a>, address: IpAddr) {
        let id = &want.node.facts().id;
        let wrong = match self.address_of(&want.slot) {
            Some(held) if held == address => return,
            Some(held) => Some(format!("it has {held} already, which never changes")),
            None => self.why_not(want, address),
        };
        match wrong {
            Some(wrong) => self.problem(
                want.claim,
                Reason::AssignRejected,
                format!("the agent of {id} took {address} for service {}: {wrong}", want.claim.service),
                "the agent is told to let it go; give each agent ranges of its own".into(),
            ),
            None if !self.within_quota(want.pool, want.claim) => {
                let (reason, message, remedy) = quota_refusal(want.claim, want.pool);
                self.problem(want.claim, reason, message, remedy);
            }
            None => self.insert(want.claim, want.pool, address, Some(id)),
        }
    }

    fn why_not(&self, want: &Want<'a>, address: IpAddr) -> Option<String> {
        let unusable = address.is_unspecified() || address.is_multicast() || address.to_canonical() != address;
        if unusable || Family::of(address) != want.claim.family {
            Some(format!("it is no {} address that a listener can have", family_name(want.claim.family)))
        } else if !want.node.agent_ranges().iter().any(|range| range.contains(address)) {
            Some("it is outside the ranges that the agent said it has".into())
        } else if want.pool.reserved.contains(&address) {
            Some(format!("it is reserved in pool {}", want.pool.name))
        } else {
            self.rows.get(&address).map(|row| match &row.slot.node {
                Some(node) => format!("{node} has it for access {}", row.slot.access),
                None => format!("it is held by access {}", row.slot.access),
            })
        }
    }

    fn request(&mut self, want: &Want<'a>, avoid: &mut BTreeMap<&'a NodeId, BTreeSet<IpAddr>>) {
        let id = &want.node.facts().id;
        // An address that this plan took is not in the ledger yet.
        let said = want.node.assigned(&want.slot).map(|(_, address)| address);
        let taken = said.filter(|address| self.rows.get(address).is_some_and(|row| row.slot == want.slot));
        let current = self.address_of(&want.slot).or(taken);
        if current.is_none() {
            if let Some(reason) = want.node.assign_failure(&want.slot) {
                self.problem(
                    want.claim,
                    Reason::AssignFailed,
                    format!("the agent of {id} has no address for service {}: {reason}", want.claim.service),
                    "see the agent's log; it may need a larger --assign range".into(),
                );
            }
            if !self.within_quota(want.pool, want.claim) {
                let (reason, message, remedy) = quota_refusal(want.claim, want.pool);
                self.problem(want.claim, reason, message, remedy);
                return;
            }
        }
        let avoid = avoid.entry(id).or_insert_with(|| {
            let held = |range: &crate::model::object::AddressRange| {
                let sane = range.first <= range.last;
                sane.then(|| self.rows.range(range.first..=range.last)).into_iter().flatten()
            };
            let others = want.node.agent_ranges().iter().flat_map(held);
            others.filter(|(_, row)| row.slot.node.as_ref() != Some(id)).map(|(address, _)| *address).collect()
        });
        let request = AssignRequest {
            slot: want.slot.clone(),
            pool: want.pool.name.clone(),
            current,
            requested: want.claim.requested,
            avoid: avoid.clone(),
            ports: want.claim.ports.clone(),
            hostnames: want.claim.hostnames.iter().map(Arc::clone).collect(),
        };
        self.plan.assign_requests.push((id.clone(), request));
    }

    /// Tells agents to let go what the ledger does not say they have.
    fn release_strays(&mut self) {
        for node in self.inputs.feedback.nodes() {
            for (slot, address) in node.assignments() {
                let has_row = self.rows.get(&address).is_some_and(|row| row.slot == *slot);
                let undecided = !self.inputs.claims_known.decides(&slot.access)
                    && !self.claims.contains_key(&slot_key(slot))
                    && self.inputs.ledger.by_slot(slot).is_none();
                if !has_row && !undecided {
                    self.releases.insert((node.facts().id.clone(), slot.clone(), address));
                }
            }
        }
    }
}

fn can_assign(node: NodeRef<'_>, pool: &Pool, family: Family) -> bool {
    node.connected()
        && pool.gateways.matches(&node.facts().labels)
        && node.agent_ranges().iter().any(|range| Family::of(range.first) == family)
}
