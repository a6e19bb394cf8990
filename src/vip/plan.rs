//! The planner: from claims, ledger and feedback to what shall be done.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::feedback::NodeRef;
use crate::model::Timestamp;
use crate::model::decision::NodeRole;
use crate::model::id::{NamespacedName, NodeId, PoolName};
use crate::model::object::{Family, Labels, Pool};
use crate::model::slot::Slot;

use super::allocate::Space;
use super::ledger::{LedgerChange, Vip, VipPort};
use super::types::{Claim, Inputs, LedgerState, Plan, Problem, Reason};

/// Says what shall be done: a pure function, called for each turn. See [`Plan`] for the order in
/// which the caller does it.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut planning = Planning::new(*inputs);
    planning.carry();
    if inputs.ledger_state == LedgerState::Open {
        planning.allocate();
        planning.assign();
    }
    planning.prove();
    planning.finish()
}

/// A claim without the gateway: what rows and claims are matched by.
pub(super) type ClaimKey<'a> = (&'a NamespacedName, &'a NamespacedName, Option<&'a str>, Family);

pub(super) fn claim_key(claim: &Claim) -> ClaimKey<'_> {
    (&claim.access, &claim.service, claim.pod.as_deref(), claim.family)
}

pub(super) fn slot_key(slot: &Slot) -> ClaimKey<'_> {
    (&slot.access, &slot.service, slot.pod.as_deref(), slot.family)
}

/// Who assigns a claim's addresses. What its VIPs that are in use say goes before what pools say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held<'a> {
    /// One address for all gateways.
    Shared,
    /// One for each gateway, from this pool.
    PerGateway(&'a PoolName),
}

/// A plan in the making.
pub(super) struct Planning<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) pools: BTreeMap<&'a PoolName, &'a Pool>,
    pub(super) claims: BTreeMap<ClaimKey<'a>, &'a Claim>,
    /// The ledger as it will be.
    pub(super) rows: BTreeMap<IpAddr, Cow<'a, Vip>>,
    /// Claims that have rows.
    pub(super) held: BTreeMap<ClaimKey<'a>, Held<'a>>,
    /// Claims without rows that get their addresses from agents.
    pub(super) to_agents: Vec<(&'a Claim, &'a Pool)>,
    /// Gateways, connected or gone, by id.
    pub(super) gateways: Vec<NodeRef<'a>>,
    pub(super) spaces: BTreeMap<(&'a PoolName, Family), Space>,
    /// Addresses by pool and namespace, for quotas; counted when first needed.
    pub(super) quota_used: Option<BTreeMap<(PoolName, Arc<str>), u32>>,
    pub(super) problems: BTreeSet<Problem>,
    pub(super) releases: BTreeSet<(NodeId, Slot, IpAddr)>,
    pub(super) plan: Plan,
}

impl<'a> Planning<'a> {
    fn new(inputs: Inputs<'a>) -> Self {
        let mut claims = BTreeMap::new();
        for claim in inputs.claims {
            claims.entry(claim_key(claim)).or_insert(claim);
        }
        Self {
            inputs,
            pools: inputs.pools.iter().map(|pool| (&pool.name, *pool)).collect(),
            claims,
            rows: BTreeMap::new(),
            held: BTreeMap::new(),
            to_agents: Vec::new(),
            gateways: inputs.feedback.nodes().filter(|node| node.facts().view.role == NodeRole::Gateway).collect(),
            spaces: BTreeMap::new(),
            quota_used: None,
            problems: BTreeSet::new(),
            releases: BTreeSet::new(),
            plan: Plan::default(),
        }
    }

    /// Takes the ledger's rows over: held, a step further in withdrawal, or free.
    fn carry(&mut self) {
        let mut rows = Vec::with_capacity(self.inputs.ledger.len());
        for row in self.inputs.ledger.rows() {
            let key = slot_key(&row.slot);
            let next = match self.claims.get(&key).copied() {
                Some(claim) if self.still_wanted(row) => {
                    let held = match row.slot.node {
                        None => Held::Shared,
                        Some(_) => Held::PerGateway(&row.pool),
                    };
                    // Where both kinds are there, the address for all gateways stays the claim's.
                    self.held
                        .entry(key)
                        .and_modify(|known| {
                            if held == Held::Shared {
                                *known = Held::Shared
                            }
                        })
                        .or_insert(held);
                    self.tell_disagreements(row, claim);
                    Some(self.hold(row, claim))
                }
                _ if self.inputs.ledger_state == LedgerState::Frozen => Some(Cow::Borrowed(row)),
                None if !self.inputs.claims_known.decides(&row.slot.access) => Some(Cow::Borrowed(row)),
                _ => self.withdraw(row),
            };
            match next {
                Some(next) => rows.push((row.address, next)),
                None => {
                    if let Some(node) = &row.slot.node {
                        self.releases.insert((node.clone(), row.slot.clone(), row.address));
                    }
                }
            }
        }
        self.rows = rows.into_iter().collect();
    }

    /// Whether the claim of a row still wants it. An address that is shared, always; one of a
    /// gateway's agent, while the pool selects the gateway and it has not been gone for too long.
    fn still_wanted(&mut self, row: &Vip) -> bool {
        let Some(id) = &row.slot.node else { return true };
        let gone_since = match self.inputs.feedback.node(id) {
            Some(node) => {
                let selector = self.pools.get(&row.pool).map_or(&row.gateways, |pool| &pool.gateways);
                if node.facts().view.role != NodeRole::Gateway || !selector.matches(&node.facts().labels) {
                    return false;
                }
                (!node.connected()).then(|| node.since())
            }
            None => Some(self.inputs.feedback.started_at()),
        };
        match gone_since.map(|since| since.saturating_add(self.inputs.settings.forget_ms)) {
            Some(forgotten_at) if self.inputs.now >= forgotten_at => false,
            Some(forgotten_at) => {
                self.deadline(forgotten_at);
                true
            }
            None => true,
        }
    }

    /// The row as its claim wants it. Its address, pool and slot stay.
    fn hold(&self, row: &'a Vip, claim: &Claim) -> Cow<'a, Vip> {
        if self.inputs.ledger_state == LedgerState::Frozen {
            return Cow::Borrowed(row);
        }
        let ports = claimed_ports(claim, &row.ports);
        let gateways = self.pools.get(&row.pool).map_or(&row.gateways, |pool| &pool.gateways);
        // Resolvers may remember an answer for as long as they were ever told.
        let ttl_seconds = row.ttl_seconds.max(claim.publish.ttl_seconds);
        let same = row.phase.since().is_none()
            && row.ports == ports
            && row.hostnames == claim.hostnames
            && row.gateways == *gateways
            && row.ttl_seconds == ttl_seconds;
        if same {
            return Cow::Borrowed(row);
        }
        Cow::Owned(Vip {
            phase: super::Phase::Held,
            ports,
            ttl_seconds,
            hostnames: claim.hostnames.clone(),
            gateways: gateways.clone(),
            changed_at: self.inputs.now,
            ..row.clone()
        })
    }

    /// What the claim or the pool says and the VIP does not do, because it never moves.
    fn tell_disagreements(&mut self, row: &Vip, claim: &Claim) {
        let address = row.address;
        if let Some(wanted) = claim.requested.filter(|wanted| *wanted != address && row.slot.node.is_none()) {
            self.problem(
                claim,
                Reason::RequestedDiffers,
                format!("{address} is in use and stays; the requested {wanted} is not taken"),
                "to change the address, delete the access and create it again".into(),
            );
        }
        if let Some(wanted) = claim.pool.as_ref().filter(|wanted| **wanted != row.pool) {
            self.problem(
                claim,
                Reason::PoolDiffers,
                format!("{address} is of pool {} and stays; the access names pool {wanted}", row.pool),
                "to change the pool, delete the access and create it again".into(),
            );
        }
        let Some(pool) = self.pools.get(&row.pool).copied() else {
            self.problem(
                claim,
                Reason::PoolMissing,
                format!("pool {} is gone; {address}, which is of it, is kept", row.pool),
                format!("create pool {} again, or delete the access", row.pool),
            );
            return;
        };
        if !pool.namespaces.matches(&namespace_labels(claim)) {
            self.problem(
                claim,
                Reason::NamespaceNotAllowed,
                format!("pool {} no longer serves namespace {}; {address} is kept", pool.name, claim.access.namespace),
                "let the pool's namespaceSelector match the namespace, or delete the access".into(),
            );
        }
        match &row.slot.node {
            None if !pool.ranges.iter().any(|range| range.contains(address)) || pool.reserved.contains(&address) => {
                self.problem(
                    claim,
                    Reason::OutsidePool,
                    format!("{address} is no longer one that pool {} gives; it is kept", pool.name),
                    format!("let the ranges of pool {} contain it, or delete the access", pool.name),
                );
            }
            Some(id) => {
                let ranges = self.inputs.feedback.node(id).map_or(&[][..], |node| node.agent_ranges());
                if !ranges.is_empty() && !ranges.iter().any(|range| range.contains(address)) {
                    self.problem(
                        claim,
                        Reason::OutsideAgentRange,
                        format!("{address} is outside the ranges of the agent of {id}, which assigned it; it is kept"),
                        "let the agent's --assign contain it, or delete the access".into(),
                    );
                }
            }
            None => {}
        }
    }

    pub(super) fn problem(&mut self, claim: &Claim, reason: Reason, message: String, remedy: String) {
        self.problems.insert(Problem { access: claim.access.clone(), reason, message, remedy });
    }

    pub(super) fn deadline(&mut self, at: Timestamp) {
        self.plan.next_deadline = Some(self.plan.next_deadline.map_or(at, |known| known.min(at)));
    }

    /// Whether the namespace may take one more address of the pool.
    pub(super) fn within_quota(&mut self, pool: &Pool, claim: &Claim) -> bool {
        let Some(quota) = pool.quota_per_namespace else { return true };
        let used = self.count_quota().get(&(pool.name.clone(), claim.access.namespace.clone()));
        used.is_none_or(|used| *used < quota)
    }

    /// How many addresses of the pool the claim's namespace has.
    pub(super) fn held_by_namespace(&mut self, pool: &Pool, claim: &Claim) -> u32 {
        let key = (pool.name.clone(), claim.access.namespace.clone());
        self.count_quota().get(&key).copied().unwrap_or_default()
    }

    /// Enters a new VIP.
    pub(super) fn insert(&mut self, claim: &'a Claim, pool: &'a Pool, address: IpAddr, node: Option<&NodeId>) {
        let slot = Slot { node: node.cloned(), ..claim.slot() };
        *self.count_quota().entry((pool.name.clone(), claim.access.namespace.clone())).or_default() += 1;
        let row = Vip {
            address,
            pool: pool.name.clone(),
            slot,
            phase: super::Phase::Held,
            ports: claimed_ports(claim, &[]),
            ttl_seconds: claim.publish.ttl_seconds,
            hostnames: claim.hostnames.clone(),
            gateways: pool.gateways.clone(),
            assigned_by: node.cloned(),
            allocated_at: self.inputs.now,
            changed_at: self.inputs.now,
        };
        self.rows.insert(address, Cow::Owned(row));
    }

    fn count_quota(&mut self) -> &mut BTreeMap<(PoolName, Arc<str>), u32> {
        let rows = &self.rows;
        self.quota_used.get_or_insert_with(|| {
            let mut used = BTreeMap::new();
            for row in rows.values() {
                *used.entry((row.pool.clone(), row.slot.access.namespace.clone())).or_default() += 1;
            }
            used
        })
    }

    fn finish(mut self) -> Plan {
        let ledger = self.inputs.ledger;
        let gone = ledger.rows().map(|row| row.address).filter(|address| !self.rows.contains_key(address));
        let mut changes: Vec<_> = gone.map(LedgerChange::Delete).collect();
        let mut inserts = Vec::new();
        for row in self.rows.into_values() {
            let Cow::Owned(row) = row else { continue };
            match ledger.get(row.address) {
                Some(known) if known.slot == row.slot => changes.push(LedgerChange::Update(row)),
                // The address was freed by this very plan.
                Some(_) => {
                    changes.push(LedgerChange::Delete(row.address));
                    inserts.push(LedgerChange::Insert(row));
                }
                None => inserts.push(LedgerChange::Insert(row)),
            }
        }
        changes.sort_by_key(|change| matches!(change, LedgerChange::Update(_)));
        changes.extend(inserts);
        self.plan.ledger_changes = changes;
        self.plan.problems = self.problems.into_iter().collect();
        self.plan.releases = self.releases.into_iter().collect();
        self.plan
    }
}

/// What pools know of a claim's namespace.
pub(super) fn namespace_labels(claim: &Claim) -> Labels {
    Labels::from([(Arc::from("kubernetes.io/metadata.name"), claim.access.namespace.clone())])
}

/// The claim's ports by number, with what is known of them.
fn claimed_ports(claim: &Claim, known: &[VipPort]) -> Vec<VipPort> {
    let mut ports: Vec<VipPort> = claim
        .ports
        .iter()
        .map(|port| {
            let established = known.iter().any(|k| k.established && k.port.port == port.port);
            VipPort { port: port.clone(), established }
        })
        .collect();
    ports.sort_by_key(|port| port.port.port);
    ports.dedup_by_key(|port| port.port.port);
    ports
}
